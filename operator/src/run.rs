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
use crate::health::{Health, WATCH_TIMEOUT};
use crate::metrics::Metrics;
use crate::server;
use crate::stock_predictor::controller::{self, Shared};
use crate::stock_predictor::stats::Poller;
use crate::stock_predictor::validate::Defaults;
use crate::storage_restore;
use crate::watch::Scope;

/// How long connecting to the API server may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the API server may be silent in a request.
const REQUEST: Duration = Duration::from_secs(30);
/// How long running passes may take to finish at the end.
const FINISH: Duration = Duration::from_secs(8);
/// How long the health server may take to finish its answers.
const CLOSE: Duration = Duration::from_secs(1);

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

    let shared = Shared {
        client: client(REQUEST).await?,
        watch_client: client(WATCH_TIMEOUT + Duration::from_secs(15)).await?,
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
            tokio::spawn(controller::control(
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

/// A client whose requests end after `silence` without a byte.
async fn client(silence: Duration) -> Result<Client, Error> {
    let mut config = Config::infer().await?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(silence);
    config.write_timeout = Some(REQUEST);
    // Else the time that a pooled connection sat idle counts as silence.
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| Error::MakeClient(Box::new(error)))
}

/// Done when `stopped` becomes true, or its sender is gone.
async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}
