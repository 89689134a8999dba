//! An API server made of a function, for tests: it answers, and remembers what it was asked.
//!
//! In: a function from a request to an answer. Out: a client, and the requests in their order. A request that the function
//! doesn't answer hangs, as one to a dead server would.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// The status of an answer that never comes, because the connection ends.
pub const RESET: u16 = 0;

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Such as `PATCH`.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What follows the path, such as `watch=true`.
    pub query: String,
    /// The body as JSON, or null.
    pub body: Value,
}

/// The requests so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Asked>>>);

impl Log {
    /// Everything that was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.0.lock().unwrap().clone()
    }

    /// Method and last segment of the path of each request that would change something.
    pub fn writes(&self) -> Vec<String> {
        let writes = self
            .asked()
            .into_iter()
            .filter(|asked| asked.method != "GET");
        writes
            .map(|asked| format!("{} {}", asked.method, short(&asked.path)))
            .collect()
    }
}

/// The path after the namespace.
fn short(path: &str) -> &str {
    path.split_once("/namespaces/default/")
        .map_or(path, |(_, rest)| rest)
}

/// A client of an API server that answers by `answer`: a status and a body, or nothing at all.
pub fn server(answer: impl Fn(&Asked) -> Option<(u16, Value)> + Send + 'static) -> (Client, Log) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let log = Log::default();
    let kept = log.clone();
    tokio::spawn(async move {
        let mut hanging = Vec::new();
        while let Some((request, send)) = handle.next_request().await {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let asked = Asked {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            };
            kept.0.lock().unwrap().push(asked.clone());
            match answer(&asked) {
                Some((RESET, _)) => {
                    send.send_error(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
                }
                Some((status, body)) => {
                    let body = Body::from(body.to_string().into_bytes());
                    send.send_response(Response::builder().status(status).body(body).unwrap());
                }
                None => hanging.push(send),
            }
        }
    });
    (Client::new(service, "default"), log)
}

/// The body of a refusal.
pub fn refusal(code: u16, message: &str) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "" };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    (code, body)
}
