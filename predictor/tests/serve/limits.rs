//! What bounds a request: time, number, size, and a mistake of the program.

use std::future::pending;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use http::{Request, StatusCode};
use stockpredictor_predictor::serve::http::with_limits;
use stockpredictor_predictor::serve::writer::RealDisk;
use tower::ServiceExt;

use super::common::{Volume, in_process};

/// Routes that no service should have, within the service's limits.
fn router(volume: &Volume) -> Router {
    async fn fails() {
        panic!("on purpose");
    }
    let routes = Router::new()
        .route("/hangs", get(pending::<()>))
        .route("/fails", get(fails))
        .route("/livez", get(|| async { "ok" }));
    with_limits(routes, &in_process(volume, RealDisk))
}

async fn ask(router: &Router, path: &str) -> Response {
    router
        .clone()
        .oneshot(Request::get(path).body(Body::empty()).unwrap())
        .await
        .unwrap()
}

async fn kind(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 16)
        .await
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    document["type"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_a_timeout() {
    let volume = Volume::new();
    let response = ask(&router(&volume), "/hangs").await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(kind(response).await, "timeout");
}

#[tokio::test]
async fn a_mistake_of_the_program_is_one_failed_request() {
    let volume = Volume::new();
    let router = router(&volume);
    let response = ask(&router, "/fails").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(kind(response).await, "internal");
    assert_eq!(ask(&router, "/livez").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn too_many_requests_are_refused_while_probes_are_answered() {
    let volume = Volume::new();
    let router = Arc::new(router(&volume));
    let hanging: Vec<_> = (0..256)
        .map(|_| {
            let router = Arc::clone(&router);
            tokio::spawn(async move { ask(&router, "/hangs").await })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let response = ask(&router, "/hangs").await;
    assert_eq!(response.headers()["retry-after"], "10");
    assert_eq!(kind(response).await, "overloaded");
    assert_eq!(ask(&router, "/livez").await.status(), StatusCode::OK);
    for task in hanging {
        task.abort();
    }
}
