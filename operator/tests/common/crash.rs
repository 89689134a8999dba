//! A client that dies: it counts writes, and from a chosen one on nothing is answered any more.
//!
//! In: a client and the number of a write. Out: a client for one life of the operator, and the writes that succeeded.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::Request;
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;
use tower::service_fn;

/// When it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Never.
    Never,
    /// Before the write of this number, counted from 0, reaches the API server.
    Before(usize),
    /// After the write of this number was done, without an answer.
    After(usize),
}

/// One life.
#[derive(Clone)]
pub struct Life {
    /// Its client.
    pub client: Client,
    log: Arc<Mutex<Vec<String>>>,
    dead: watch::Receiver<bool>,
}

impl Life {
    /// Method and path of the writes that succeeded.
    pub fn writes(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Done when it died.
    pub async fn death(&self) {
        let _ = self.dead.clone().wait_for(|dead| *dead).await;
    }

    /// True when it died.
    pub fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// A life that ends by `death`.
    pub fn new(client: Client, death: Death) -> Self {
        let (kill, dead) = watch::channel(false);
        let (log, count) = (Arc::new(Mutex::new(vec![])), Arc::new(AtomicUsize::new(0)));
        let namespace = client.default_namespace().to_owned();
        let (kill, written) = (Arc::new(kill), log.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (client, count) = (client.clone(), count.clone());
            let (kill, written) = (kill.clone(), written.clone());
            async move {
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                if method == http::Method::GET {
                    return client.send(request).await;
                }
                let number = count.fetch_add(1, Ordering::SeqCst);
                let last = match death {
                    Death::Never => usize::MAX,
                    Death::Before(last) | Death::After(last) => last,
                };
                if number > last || (number == last && matches!(death, Death::Before(_))) {
                    let _ = kill.send(true);
                    std::future::pending::<()>().await;
                }
                let answer = client.send(request).await;
                if answer
                    .as_ref()
                    .is_ok_and(|answer| answer.status().is_success())
                {
                    written.lock().unwrap().push(format!("{method} {path}"));
                }
                if number == last {
                    let _ = kill.send(true);
                    std::future::pending::<()>().await;
                }
                answer
            }
        });
        Self {
            client: Client::new(service, namespace),
            log,
            dead,
        }
    }
}
