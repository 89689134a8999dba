//! The controller of `StorageBackups` in one scope: which watches it opens, and whom a touched object concerns.
//!
//! In: clients and settings. Out: a future that reconciles until it is told to stop. What all kinds share is in
//! [`crate::controller`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::reflector::Store;
use stockpredictor_api::{StockPredictor, StorageBackup, StorageRestore};

use super::dereference::Caches;
use super::{Context, Error, reconcile};
use crate::controller::{self, Cached, Fault, Guarded, Reconciler, Requests, Shared};
use crate::job::{Component, watched};
use crate::metrics::Metrics;
use crate::stock_predictor::backoff::{Backoff, Key};
use crate::stock_predictor::controller::users_of;
use crate::stock_predictor::labels::INSTANCE_LABEL;
use crate::storage_restore;
use crate::watch::{Scope, Watches};
use crate::writer::Writer;

/// The kind, in logs and metrics.
pub const KIND: &str = "StorageBackup";
/// What to do when the API server doesn't know the kind.
const MISSING: &str = "the custom resource definition storagebackups.stockpredictor.io is not installed; install it with \
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
    let backups: Store<Guarded<StorageBackup>> =
        controller::objects(&watches, "storagebackups", MISSING, &mut requests);
    let known = backups.clone();
    let predictors = controller::related(
        &watches,
        "stockpredictors of backups",
        None,
        &mut requests,
        move |predictor: &Guarded<StockPredictor>| {
            let namespace = predictor.namespace();
            backups_of(&known, namespace.as_deref(), &predictor.name_any())
        },
    );
    let (known, users) = (backups.clone(), predictors.clone());
    let restores = controller::related_objects(
        &watches,
        "storagerestores of backups",
        storage_restore::controller::MISSING,
        &mut requests,
        move |restore: &StorageRestore| {
            let namespace = restore.namespace();
            users_of(&users, restore)
                .iter()
                .flat_map(|predictor| backups_of(&known, namespace.as_deref(), predictor))
                .collect()
        },
    );
    let caches = Caches {
        cron_jobs: children(&watches, "cronjobs", &mut requests),
        jobs: children(&watches, "jobs", &mut requests),
        pods: children(&watches, "pods of jobs", &mut requests),
        predictors,
        restores,
    };
    let context = Arc::new(Context {
        writer: Writer::new(shared.client.clone()),
        recorder: shared.recorder(),
        client: shared.client,
        caches,
        defaults: shared.defaults,
        metrics: shared.metrics,
        backoff: Backoff::default(),
    });
    controller::run(
        context,
        backups,
        requests,
        shared.permits,
        concurrency,
        stop,
    )
}

impl Reconciler for Context {
    type Object = StorageBackup;
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
        self.caches.ready().await;
    }

    async fn reconcile(&self, object: &StorageBackup) -> Result<Duration, Error> {
        reconcile(object, self).await
    }

    async fn unreadable(&self, _: &Guarded<StorageBackup>, error: &str) -> Result<Duration, Error> {
        Err(Fault::Unreadable(error.to_owned()).into())
    }

    fn forget(&self, _: &Key) {}
}

fn children<K: Cached>(
    watches: &Watches,
    name: &'static str,
    requests: &mut Requests<StorageBackup>,
) -> Store<K> {
    let selector = watched(&[Component::Backup, Component::RestoreTest]);
    controller::related(watches, name, Some(&selector), requests, |child: &K| {
        child
            .labels()
            .get(INSTANCE_LABEL)
            .cloned()
            .into_iter()
            .collect()
    })
}

/// The names of the backups of a predictor.
fn backups_of(
    backups: &Store<Guarded<StorageBackup>>,
    namespace: Option<&str>,
    predictor: &str,
) -> Vec<String> {
    backups
        .state_filter(|backup| {
            let of = backup
                .0
                .as_ref()
                .ok()
                .map(|backup| backup.spec.predictor_ref.name.as_str());
            backup.namespace().as_deref() == namespace && of == Some(predictor)
        })
        .iter()
        .map(|backup| backup.name_any())
        .collect()
}
