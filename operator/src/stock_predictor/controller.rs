//! The controller of `StockPredictors` in one scope: which watches it opens, and whom a touched child concerns.
//!
//! In: clients and settings. Out: a future that reconciles until it is told to stop. What all kinds share is in
//! [`crate::controller`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use stockpredictor_api::{StockPredictor, StorageRestore};

use super::backoff::{Backoff, Key, Silence};
use super::claim::claim_of;
use super::dereference::Caches;
use super::{Context, Error, finalize, labels, reconcile};
pub use crate::controller::Shared;
use crate::controller::{self, Cached, Fault, Guarded, Reconciler, Requests, in_namespace};
use crate::metrics::Metrics;
use crate::storage_restore::hold;
use crate::watch::{Scope, Watches};
use crate::writer::{Outcome, Writer};

/// The kind, in logs and metrics.
pub const KIND: &str = "StockPredictor";
/// When to look again at one that was let go: its deletion is an event.
const GONE: Duration = Duration::from_mins(10);
/// What to do when the API server doesn't know the kind.
const MISSING: &str = "the custom resource definition stockpredictors.stockpredictor.io is not installed; install it with \
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
    let predictors = controller::objects(&watches, "stockpredictors", MISSING, &mut requests);
    let known = predictors.clone();
    let caches = Caches {
        service_accounts: children(&watches, "serviceaccounts", &mut requests),
        config_maps: children(&watches, "configmaps", &mut requests),
        claims: children(&watches, "persistentvolumeclaims", &mut requests),
        deployments: children(&watches, "deployments", &mut requests),
        services: children(&watches, "services", &mut requests),
        network_policies: children(&watches, "networkpolicies", &mut requests),
        budgets: children(&watches, "poddisruptionbudgets", &mut requests),
        pods: children(&watches, "pods", &mut requests),
        restores: controller::related_objects(
            &watches,
            "storagerestores of predictors",
            crate::storage_restore::controller::MISSING,
            &mut requests,
            move |restore: &StorageRestore| users_of(&known, restore),
        ),
    };
    let context = Arc::new(Context {
        writer: Writer::new(shared.client.clone()),
        recorder: shared.recorder(),
        client: shared.client,
        poller: shared.poller,
        caches,
        defaults: shared.defaults,
        metrics: shared.metrics,
        backoff: Backoff::default(),
        silence: Silence::default(),
    });
    controller::run(
        context,
        predictors,
        requests,
        shared.permits,
        concurrency,
        stop,
    )
}

impl Reconciler for Context {
    type Object = StockPredictor;
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

    async fn reconcile(&self, object: &StockPredictor) -> Result<Duration, Error> {
        reconcile(object, self).await
    }

    async fn unreadable(
        &self,
        object: &Guarded<StockPredictor>,
        error: &str,
    ) -> Result<Duration, Error> {
        match finalize::release_unreadable(&self.writer, object).await? {
            Outcome::Written => Ok(GONE),
            Outcome::Unchanged => Err(Fault::Unreadable(error.to_owned()).into()),
        }
    }

    fn forget(&self, key: &Key) {
        self.silence.forget(key);
    }
}

/// The names of the predictors that use what `restore` works on.
pub fn users_of(
    predictors: &Store<Guarded<StockPredictor>>,
    restore: &StorageRestore,
) -> Vec<String> {
    let mut names: Vec<String> = in_namespace(predictors, &restore.namespace().unwrap_or_default())
        .iter()
        .filter_map(|predictor| predictor.0.as_ref().ok())
        .filter(|predictor| {
            let user = hold::User {
                predictor: &predictor.name_any(),
                claim: &claim_of(predictor),
            };
            hold::concerns(restore, user)
        })
        .map(ResourceExt::name_any)
        .collect();
    // Backups of one that isn't there, or can't be read, are told too.
    names.extend(hold::predictor_of(restore).map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

fn children<K: Cached>(
    watches: &Watches,
    name: &'static str,
    requests: &mut Requests<StockPredictor>,
) -> Store<K> {
    let selector = labels::watched();
    controller::related(watches, name, Some(&selector), requests, predictors_of::<K>)
}

/// The names of the predictors that have to look at a child: its controller, whatever its labels became. Pods and claims
/// have none of our kind, and are found by the label that all children carry; claims by their name too, which is that of
/// the predictor.
fn predictors_of<K: Resource<DynamicType = ()>>(child: &K) -> Vec<String> {
    let controller = child
        .owner_references()
        .iter()
        .find(|owner| owner.kind == KIND && owner.controller == Some(true));
    if let Some(owner) = controller {
        return vec![owner.name.clone()];
    }
    let mut names: Vec<_> = child
        .labels()
        .get(labels::INSTANCE_LABEL)
        .cloned()
        .into_iter()
        .collect();
    let name = child.name_any();
    if K::kind(&()) == PersistentVolumeClaim::kind(&()) && !names.contains(&name) {
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Pod;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn asked<K: Resource<DynamicType = ()> + DeserializeOwned>(metadata: &Value) -> Vec<String> {
        let child: K = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        predictors_of(&child)
    }

    fn owner(kind: &str, name: &str) -> Value {
        json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": "1", "controller": true}])
    }

    #[test]
    fn a_child_belongs_to_its_controller_whatever_its_label_says() {
        let labels = json!({labels::INSTANCE_LABEL: "zzz"});
        let child =
            json!({"name": "nvda", "labels": labels, "ownerReferences": owner(KIND, "nvda")});
        assert_eq!(asked::<Deployment>(&child), ["nvda"]);
        let pod = json!({"name": "nvda-1", "labels": labels, "ownerReferences": owner("ReplicaSet", "nvda-5")});
        assert_eq!(asked::<Pod>(&pod), ["zzz"]);
        let claim = json!({"name": "nvda", "labels": labels});
        assert_eq!(asked::<PersistentVolumeClaim>(&claim), ["zzz", "nvda"]);
        assert_eq!(asked::<Pod>(&json!({"name": "nvda"})), [""; 0]);
    }
}
