//! An API server that is reached badly: at chosen requests it refuses, its answer is lost, or the connection ends.
//!
//! In: a client and a seed. Out: a client for the operator, whose own repetitions of requests are above it, as in the
//! program. A seed stands for the same positions and kinds of faults every time.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use kube::client::retry::RetryPolicy;
use serde_json::json;
use tower::retry::RetryLayer;
use tower::{ServiceBuilder, service_fn};

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused, and nothing happens.
    Refused(u16),
    /// It is done, and the connection ends before the answer.
    Lost,
    /// The connection ends before it is done.
    Reset,
}

const KINDS: [Fault; 6] = [
    Fault::Refused(409),
    Fault::Refused(429),
    Fault::Refused(500),
    Fault::Refused(503),
    Fault::Lost,
    Fault::Reset,
];

/// Numbers that look random, by the generator `SplitMix64`.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % below as u64).unwrap()
    }
}

/// So many faults among the first `span` requests.
pub fn chosen(seed: u64, count: usize, span: usize) -> BTreeMap<usize, Fault> {
    let mut numbers = Numbers(seed);
    let mut faults = BTreeMap::new();
    while faults.len() < count {
        faults.insert(numbers.next(span), KINDS[numbers.next(KINDS.len())]);
    }
    faults
}

/// A client with these faults.
pub fn faulty(client: Client, faults: BTreeMap<usize, Fault>) -> Client {
    let count = Arc::new(AtomicUsize::new(0));
    let faults = Arc::new(faults);
    layered(client, move || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        faults.get(&number).copied()
    })
}

/// A client whose connections are refused while `away`.
pub fn refusing(client: Client, away: Arc<AtomicBool>) -> Client {
    layered(client, move || {
        away.load(Ordering::SeqCst).then_some(Fault::Reset)
    })
}

fn layered(client: Client, fault: impl Fn() -> Option<Fault> + Send + Sync + 'static) -> Client {
    let namespace = client.default_namespace().to_owned();
    let fault = Arc::new(fault);
    let service = service_fn(move |request: Request<Body>| {
        let (client, fault) = (client.clone(), fault());
        async move {
            match fault {
                None => client.send(request).await,
                Some(Fault::Refused(code)) => Ok(refusal(code)),
                Some(Fault::Reset) => Err(ended()),
                Some(Fault::Lost) => {
                    let _ = client.send(request).await;
                    Err(ended())
                }
            }
        }
    });
    let repeated = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryPolicy::server_retry()))
        .map_err(tower::BoxError::from)
        .service(
            ServiceBuilder::new()
                .map_err(tower::BoxError::from)
                .service(service),
        );
    Client::new(repeated, namespace)
}

fn ended() -> kube::Error {
    let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    kube::Error::Service(error.into())
}

fn refusal(code: u16) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "injected", "reason": "",
    });
    let mut answer = Response::builder().status(code);
    if code == 429 {
        answer = answer.header("Retry-After", "1");
    }
    answer
        .body(Body::from(status.to_string().into_bytes()))
        .unwrap()
}
