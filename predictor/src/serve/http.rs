//! HTTP itself: connections, limits, and an end without a failed request.
//!
//! In come a router and a listener; out go answers until the stop is asked for. Every
//! wait is bounded: for headers, for an answer, for connections that don't end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{debug, error, info, warn};

use super::connection::Connections;
use super::log::API;
use super::problem::{Kind, Problem};
use super::state::Service;

/// Connections at once; leaves room for files within the usual 1024 descriptors.
const MAX_CONNECTIONS: usize = 896;
/// Requests at once, probes and metrics aside.
const MAX_REQUESTS: usize = 256;
/// Time for a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(3);
/// Without a new connection or request for this time, nothing is on its way.
const QUIET: Duration = Duration::from_millis(300);
/// Time for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest body; no route needs one.
const MAX_BODY_BYTES: u64 = 16 * 1024;
/// Pause after a failed accept, which would fail again at once (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Routes that are answered under any load and not logged.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// The router with all limits around it.
pub fn with_limits(router: Router, service: &Arc<Service>) -> Router {
    let permits = Arc::new(Semaphore::new(MAX_REQUESTS));
    router
        .layer(CatchPanicLayer::custom(
            |_: Box<dyn std::any::Any + Send>| {
                error!("a request failed by a mistake of the program");
                Problem::new(
                    Kind::Internal,
                    "the request failed inside; the log says where",
                )
                .into_response()
            },
        ))
        .layer(axum::middleware::from_fn(limit))
        .layer(Extension(permits))
        .layer(from_fn_with_state(Arc::clone(service), record))
}

fn route_of(request: &Request) -> String {
    request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other", MatchedPath::as_str)
        .to_owned()
}

/// Refuses what is too large or too much, and ends what takes too long.
async fn limit(
    Extension(permits): Extension<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let length = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Problem::new(
            Kind::TooLarge,
            format!("a body has at most {MAX_BODY_BYTES} bytes; no route needs one"),
        )
        .into_response();
    }
    let _permit = if PROBES.contains(&route_of(&request).as_str()) {
        None
    } else {
        match permits.try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                return Problem::new(
                    Kind::Overloaded,
                    format!(
                        "{MAX_REQUESTS} requests are being answered: try again in some seconds"
                    ),
                )
                .into_response();
            }
        }
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            Kind::Timeout,
            format!(
                "there was no answer within {} s: try again",
                ANSWER_TIMEOUT.as_secs()
            ),
        )
        .into_response(),
    }
}

/// Counts and logs; while the process drains, asks clients to come back over another connection.
async fn record(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = route_of(&request);
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(200).collect();
    let mut response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    service.metrics.request(&route, status, took);
    if !PROBES.contains(&route.as_str()) {
        info!(target: API, %method, path, status, milliseconds = took.as_secs_f64() * 1e3, "answered");
    }
    if service.draining.load(Ordering::Relaxed) {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Serves until `stop` is done, then until nothing is under way, for at most `patience`.
///
/// Who got a connection gets an answer: once new connections are turned away, those that
/// wait in the kernel are taken, and only a quiet moment ends it.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    patience: Duration,
) {
    let graceful = GracefulShutdown::new();
    let connections = Connections::new(MAX_CONNECTIONS);
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        if !answer(accepted, &connections, &router, &graceful) {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
    let begun = Instant::now();
    if let Err(error) = refuse_new(&listener) {
        debug!(reason = %error, "new connections can't be held off during the end");
    }
    // Half of the time is left for what is under way then.
    while begun.elapsed() < patience / 2 && !connections.quiet_for(QUIET) {
        if let Ok(accepted) = tokio::time::timeout(QUIET / 10, listener.accept()).await
            && !answer(accepted, &connections, &router, &graceful)
        {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
    drop(listener);
    let left = patience.saturating_sub(begun.elapsed());
    if tokio::time::timeout(left, graceful.shutdown())
        .await
        .is_err()
    {
        warn!("some connections did not end in time and are cut off");
    }
}

/// Answers a connection in the background; false when none could be accepted.
fn answer(
    accepted: io::Result<(TcpStream, SocketAddr)>,
    connections: &Arc<Connections>,
    router: &Router,
    graceful: &GracefulShutdown,
) -> bool {
    let (stream, peer) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            warn!(reason = %error, "a connection could not be accepted");
            // Most often there are no file descriptors left.
            connections.end_oldest_idle();
            return false;
        }
    };
    let Some(connection) = connections.admit() else {
        warn!("a connection was turned away: all of the others are being answered");
        return true;
    };
    // Answers are small; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let (connection, router) = (Arc::new(connection), router.clone());
    let asked = Arc::clone(&connection);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (router, busy) = (router.clone(), asked.begin());
        async move {
            let _busy = busy;
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let answered: Result<Response, Infallible> = router.oneshot(request).await;
            answered
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let watched = graceful.watch(served);
    tokio::spawn(async move {
        tokio::select! {
            ended = watched => {
                if let Err(error) = ended {
                    debug!(reason = %error, "a connection ended early");
                }
            }
            () = connection.must_end() => debug!("an idle connection made room for another one"),
        }
    });
    true
}

/// Has the kernel ignore requests for new connections, while those under way are still completed.
///
/// Without it a connection could come between the last look and the end of the listener, which
/// would cut it off. Whoever tries meanwhile is refused as soon as the listener has gone.
#[cfg(target_os = "linux")]
fn refuse_new(listener: &TcpListener) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};

    // Load the header's flags, keep SYN and ACK, drop what is SYN alone.
    let filter = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&filter)
}

#[cfg(not(target_os = "linux"))]
fn refuse_new(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
