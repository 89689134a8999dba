//! The controller of `StorageRestores` in one scope: which watches it opens, and whom a touched Job concerns.
//!
//! In: clients and settings. Out: a future that reconciles until it is told to stop. What all kinds share is in
//! [`crate::controller`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use stockpredictor_api::StorageRestore;

use super::{Context, Error, reconcile};
use crate::controller::{self, Fault, Guarded, Reconciler, Requests, Shared};
use crate::job::{self, Component};
use crate::metrics::Metrics;
use crate::stock_predictor::backoff::{Backoff, Key};
use crate::stock_predictor::labels::INSTANCE_LABEL;
use crate::watch::Scope;
use crate::writer::Writer;

/// The kind, in logs and metrics.
pub const KIND: &str = "StorageRestore";
/// What to do when the API server doesn't know the kind.
pub const MISSING: &str = "the custom resource definition storagerestores.stockpredictor.io is not installed; install it with \
    `operator crd DIR && kubectl apply --server-side -f DIR`, or let the chart do it (crds.install=true)";

/// Reconciles the objects of `scope` until `stop` is done and the passes that run have ended. The watches are
/// announced to [`Shared::health`] before the future is polled.
pub fn control(
    shared: Shared,
    scope: Scope,
    concurrency: u16,
    stop: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send {
    let watches = shared.watches(scope);
    let mut requests = Requests::new();
    let restores = controller::objects(&watches, "storagerestores", MISSING, &mut requests);
    let selector = job::watched(&[Component::Restore]);
    let jobs = controller::related(
        &watches,
        "jobs of restores",
        Some(&selector),
        &mut requests,
        |job: &Job| {
            job.labels()
                .get(INSTANCE_LABEL)
                .cloned()
                .into_iter()
                .collect()
        },
    );
    let context = Arc::new(Context {
        writer: Writer::new(shared.client.clone()),
        recorder: shared.recorder(),
        client: shared.client,
        poller: shared.poller,
        defaults: shared.defaults,
        metrics: shared.metrics,
        backoff: Backoff::default(),
        jobs,
    });
    controller::run(
        context,
        restores,
        requests,
        shared.permits,
        concurrency,
        stop,
    )
}

impl Reconciler for Context {
    type Object = StorageRestore;
    type Error = Error;
    const KIND: &'static str = KIND;

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    fn category(error: &Error) -> &'static str {
        error.category()
    }

    async fn ready(&self) {
        // An error means that the watch is gone, which happens only when the operator ends.
        let _ = self.jobs.wait_until_ready().await;
    }

    async fn reconcile(&self, object: &StorageRestore) -> Result<Duration, Error> {
        reconcile(object, self).await
    }

    /// One that can't be read keeps its finalizer: what it did to a volume is not known.
    async fn unreadable(
        &self,
        _: &Guarded<StorageRestore>,
        error: &str,
    ) -> Result<Duration, Error> {
        Err(Fault::Unreadable(error.to_owned()).into())
    }

    fn forget(&self, _: &Key) {}
}
