//! `operator run`: puts the parts together and ends them in order.
//!
//! In: the command line's options. Out: a process that reconciles until SIGTERM or SIGINT and then ends within 10
//! seconds: passes that run are finished, none begins.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

use crate::cli::RunArgs;
use crate::controller::Shared;
use crate::health::{Health, WATCH_TIMEOUT};
use crate::metrics::Metrics;
use crate::stock_predictor::stats::Poller;
use crate::stock_predictor::validate::Defaults;
use crate::watch::Scope;
use crate::{server, stock_predictor, storage_backup, storage_restore};

/// How long the API server may be silent in a request.
const REQUEST: Duration = Duration::from_secs(30);
/// How long the client waits for the API server.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    read: REQUEST,
    write: REQUEST,
};
/// How long running passes may take to finish at the end.
const FINISH: Duration = Duration::from_secs(8);
/// How long the health server may take to finish its answers.
const CLOSE: Duration = Duration::from_secs(1);

/// How long a client waits before a request has failed. It has no limits by default.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For a connection, TLS included.
    connect: Duration,
    /// For the next byte of an answer.
    read: Duration,
    /// For the next byte of a request to be taken.
    write: Duration,
}

/// Why the operator could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to a cluster.
    #[error("can't find the API server: {0}; run in a cluster, or set KUBECONFIG")]
    InferConfig(#[from] kube::config::InferConfigError),
    /// A client could not be made.
    #[error("can't make a client for the API server: {0}")]
    MakeClient(#[source] Box<kube::Error>),
    /// The client for stats could not be made.
    #[error("can't make a client for the predictors: {0}")]
    MakePoller(#[from] reqwest::Error),
    /// Signals can't be waited for.
    #[error("can't wait for signals: {0}")]
    Signals(#[source] std::io::Error),
    /// The health server.
    #[error(transparent)]
    Server(#[from] server::Error),
}

/// Runs until a signal.
///
/// # Errors
/// When the operator can't start, or its health server fails.
pub async fn run(arguments: RunArgs) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let (health, metrics) = (Health::default(), Metrics::new());
    let (stop, stopped) = watch::channel(false);
    let listener = server::listen(arguments.listen).await?;
    let routes = server::router(health.clone(), metrics.clone());
    let mut server = tokio::spawn(server::serve(listener, routes, until(stopped.clone())));

    let (requests, watches) = clients(&Config::infer().await?)?;
    let shared = Shared {
        client: requests,
        watch_client: watches,
        defaults: Defaults {
            image: arguments.predictor_image,
            pull_policy: arguments.predictor_image_pull_policy,
            allow_from: arguments.allow_from_namespaces,
            operator_namespace: arguments.operator_namespace,
        },
        pod: arguments.pod_name,
        health,
        metrics,
        permits: Arc::new(Semaphore::new(arguments.concurrency.into())),
        poller: Poller::new()?,
    };
    let scopes = Scope::from_namespaces(&arguments.watch_namespaces);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?scopes, listen = %arguments.listen, "operator started");
    let concurrency = arguments.concurrency;
    let controllers = scopes.into_iter().flat_map(|scope| {
        let (shared, stop) = (shared.clone(), || until(stopped.clone()));
        [
            tokio::spawn(stock_predictor::controller::control(
                shared.clone(),
                scope.clone(),
                concurrency,
                stop(),
            )),
            tokio::spawn(storage_backup::controller::control(
                shared.clone(),
                scope.clone(),
                concurrency,
                stop(),
            )),
            tokio::spawn(storage_restore::controller::control(
                shared,
                scope,
                concurrency,
                stop(),
            )),
        ]
    });
    let controllers = join_all(controllers);
    tokio::pin!(controllers);

    let mut running = true;
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = &mut server => ended.unwrap_or_else(|error| Err(server::Error::Serve(std::io::Error::other(error)))),
        _ = &mut controllers => {
            running = false;
            tracing::error!("the controllers ended by themselves");
            Ok(())
        }
    };
    tracing::info!("operator ends: running passes are finished");
    let _ = stop.send(true);
    if running
        && tokio::time::timeout(FINISH, &mut controllers)
            .await
            .is_err()
    {
        tracing::warn!(
            "some passes did not finish in {} s; they are taken up at the next start",
            FINISH.as_secs()
        );
    }
    // A client that keeps its connection open does not hold the operator.
    if !server.is_finished() && tokio::time::timeout(CLOSE, &mut server).await.is_err() {
        server.abort();
    }
    Ok(outcome?)
}

/// The program's clients: one for requests, and one for watches, of which each may be silent for as long as the API server
/// keeps it open.
///
/// # Errors
/// When TLS can't be set up.
pub fn clients(config: &Config) -> Result<(Client, Client), Error> {
    let watching = Patience {
        read: WATCH_TIMEOUT + Duration::from_secs(15),
        ..PATIENCE
    };
    Ok((
        client(config.clone(), PATIENCE)?,
        client(config.clone(), watching)?,
    ))
}

/// A client whose requests fail when the API server is silent for longer than `patience`.
fn client(mut config: Config, patience: Patience) -> Result<Client, Error> {
    config.connect_timeout = Some(patience.connect);
    config.read_timeout = Some(patience.read);
    config.write_timeout = Some(patience.write);
    // Else the time that a pooled connection sat idle counts as silence.
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| Error::MakeClient(Box::new(error)))
}

/// Done when `stopped` becomes true, or its sender is gone.
async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::net::TcpListener;
    use tokio::time::Instant;

    /// The limit under test.
    const SHORT: Duration = Duration::from_millis(200);
    /// The other two limits, and how long a test waits: none of them may be what ended the request.
    const LONG: Duration = Duration::from_mins(1);
    const LATE: Duration = Duration::from_secs(20);
    const LONG_PATIENCE: Patience = Patience {
        connect: LONG,
        read: LONG,
        write: LONG,
    };

    /// The kernel takes connections for a listener that nobody reads from: it never answers, not even to a handshake.
    #[rstest]
    #[case::connect("https", 0, Patience { connect: SHORT, ..LONG_PATIENCE })]
    #[case::read("http", 0, Patience { read: SHORT, ..LONG_PATIENCE })]
    // More than the buffers of both ends take.
    #[case::write("http", 64 << 20, Patience { write: SHORT, ..LONG_PATIENCE })]
    #[tokio::test]
    async fn a_request_to_a_silent_api_server_ends_at_the_limit(
        #[case] scheme: &str,
        #[case] body: usize,
        #[case] patience: Patience,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let client = client(Config::new(address.parse().unwrap()), patience).unwrap();
        let request = http::Request::post("/api").body(vec![b'x'; body]).unwrap();
        let begun = Instant::now();
        let ended = tokio::time::timeout(LATE, client.request_text(request)).await;
        let error = ended.expect("the limit did not end it").unwrap_err();
        assert!(begun.elapsed() >= SHORT, "{error} came before the limit");
    }
}
