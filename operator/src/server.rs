//! The operator's own HTTP server: /livez, /readyz, /metrics.
//!
//! In: health and metrics. Out: answers for the kubelet and Prometheus. Nothing here can change anything.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

use crate::health::{Health, Verdict};
use crate::metrics::Metrics;

/// What prometheus-client writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What went wrong with the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}; choose a free one with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The server ended by itself.
    #[error("the health server failed: {0}")]
    Serve(#[source] std::io::Error),
}

#[derive(Clone)]
struct Shared {
    health: Health,
    metrics: Metrics,
}

/// The routes.
pub fn router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route(
            "/livez",
            get(async |State(shared): State<Shared>| answer(&shared.health.alive(Instant::now()))),
        )
        .route(
            "/readyz",
            get(async |State(shared): State<Shared>| answer(&shared.health.ready(Instant::now()))),
        )
        .route("/metrics", get(metrics_text))
        .with_state(Shared { health, metrics })
}

fn answer(verdict: &Verdict) -> Response {
    let status = if verdict.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(verdict)).into_response()
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    // Thousands of series take a while, in which passes and probes go on.
    let text = tokio::task::spawn_blocking(move || shared.metrics.encode());
    let failed = |error: &dyn std::error::Error| {
        let text = format!("the metrics can't be written: {error}; the operator's log has more");
        (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
    };
    match text.await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

/// Takes the port, so that a busy one is an error at the start.
///
/// # Errors
/// When the address can't be had.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })
}

/// Serves until `stop` is done.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
        .map_err(Error::Serve)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use http::Request;
    use tower::ServiceExt;

    async fn ask(health: &Health, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(health.clone(), Metrics::new())
            .oneshot(request)
            .await
            .unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readyz_says_in_words_what_it_waits_for() {
        let health = Health::default();
        health.expect("stockpredictors", Instant::now());
        health.failed(
            "stockpredictors",
            true,
            "install the CRDs".into(),
            Instant::now(),
        );
        let (status, body) = ask(&health, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            body,
            r#"{"ok":false,"waiting_for":["stockpredictors: install the CRDs (for 0 s)"]}"#
        );
        health.listed("stockpredictors");
        assert_eq!(ask(&health, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn livez_and_metrics_answer() {
        assert_eq!(ask(&Health::default(), "/livez").await.0, StatusCode::OK);
        let (status, body) = ask(&Health::default(), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.ends_with("# EOF\n"), "{body}");
    }
}
