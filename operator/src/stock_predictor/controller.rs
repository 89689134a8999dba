//! The controller of `StockPredictors` in one scope: watches in, passes out.
//!
//! In: clients and settings. Out: a future that reconciles until it is told to stop. Every result of a pass is reported
//! here and nowhere else. Objects that can't be read are reported too, and disturb no other one.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::controller::{self, Action, ReconcileReason, ReconcileRequest, applier};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use stockpredictor_api::StockPredictor;
use tokio::sync::Semaphore;
use tracing::Instrument;

use super::backoff::{Backoff, Silence, jittered, key};
use super::dereference::Caches;
use super::stats::Poller;
use super::validate::Defaults;
use super::{Context, Error, finalize, labels, reconcile};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::watch::{Scope, Watches};
use crate::writer::{FIELD_MANAGER, Outcome, Writer};

/// The kind, in logs and metrics.
pub const KIND: &str = "StockPredictor";
/// Events that follow each other so closely make one pass.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The longest pass: a dozen requests, each with its own limit.
const LIMIT: Duration = Duration::from_secs(90);
/// When to look again at one that was let go: its deletion is an event.
const GONE: Duration = Duration::from_mins(10);
/// What to do when the API server doesn't know the kind.
const MISSING: &str = "the custom resource definition stockpredictors.stockpredictor.io is not installed; install it with \
    `operator crd DIR && kubectl apply --server-side -f DIR`, or let the chart do it (crds.install=true)";
/// What to do when the API server doesn't know a kind of Kubernetes.
const TOO_OLD: &str = "the API server doesn't know this kind; Kubernetes 1.33 or newer is needed";

/// An object of the cache, readable or not.
type Guarded = DeserializeGuard<StockPredictor>;
type Request = Result<ReconcileRequest<Guarded>, watcher::Error>;

/// What controllers of all scopes share.
#[derive(Clone)]
pub struct Shared {
    /// For reads and writes; its requests time out soon.
    pub client: Client,
    /// For watches; its requests may last as long as a watch.
    pub watch_client: Client,
    /// What the operator was started with.
    pub defaults: Defaults,
    /// The operator's pod, for Events.
    pub pod: Option<String>,
    /// Where watches report.
    pub health: Health,
    /// Counters.
    pub metrics: Metrics,
    /// As many passes at once as it has permits, over all scopes.
    pub permits: Arc<Semaphore>,
    /// For stats.
    pub poller: Poller,
}

/// Objects that wait for a pass.
#[derive(Default)]
struct Queue(Mutex<HashSet<(String, String)>>);

impl Queue {
    fn push(&self, key: (String, String), metrics: &Metrics) {
        if self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key)
        {
            metrics.waiting(KIND, 1);
        }
    }

    fn pop(&self, key: &(String, String), metrics: &Metrics) {
        if self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key)
        {
            metrics.waiting(KIND, -1);
        }
    }
}

/// Reconciles the objects of `scope` until `stop` is done and the passes that run have ended. The watches are
/// announced to [`Shared::health`] before the future is polled.
pub fn control(
    shared: Shared,
    scope: Scope,
    concurrency: u16,
    stop: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send {
    let watches = Watches {
        client: shared.watch_client.clone(),
        scope,
        health: shared.health.clone(),
        metrics: shared.metrics.clone(),
    };
    let (predictors, touched) = watches.open::<Guarded>("stockpredictors", None, MISSING, false);
    let mut requests = SelectAll::new();
    requests.push(
        touched
            .map(|object| {
                Ok(request(
                    ObjectRef::from_obj(&object),
                    ReconcileReason::ObjectUpdated,
                ))
            })
            .boxed(),
    );
    let caches = Caches {
        service_accounts: children(&watches, "serviceaccounts", &mut requests),
        config_maps: children(&watches, "configmaps", &mut requests),
        claims: children(&watches, "persistentvolumeclaims", &mut requests),
        deployments: children(&watches, "deployments", &mut requests),
        services: children(&watches, "services", &mut requests),
        network_policies: children(&watches, "networkpolicies", &mut requests),
        budgets: children(&watches, "poddisruptionbudgets", &mut requests),
        pods: children(&watches, "pods", &mut requests),
    };
    run(shared, caches, predictors, requests, concurrency, stop)
}

async fn run(
    shared: Shared,
    caches: Caches,
    predictors: Store<Guarded>,
    requests: SelectAll<BoxStream<'static, Request>>,
    concurrency: u16,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    // A pass that begins before a cache is filled would take every child for missing.
    let filled = caches.clone();
    let reporter = Reporter {
        controller: FIELD_MANAGER.to_owned(),
        instance: shared.pod.clone(),
    };
    let context = Arc::new(Context {
        writer: Writer::new(shared.client.clone()),
        recorder: Recorder::new(shared.client.clone(), reporter),
        client: shared.client,
        poller: shared.poller,
        caches,
        defaults: shared.defaults,
        metrics: shared.metrics.clone(),
        backoff: Backoff::default(),
        silence: Silence::default(),
    });
    let (queue, metrics, permits) = (Arc::new(Queue::default()), shared.metrics, shared.permits);
    let (seen, counters) = (queue.clone(), metrics.clone());
    let requests = requests.take_until(stop).inspect(move |request| {
        if let Ok(request) = request {
            seen.push(
                (
                    request.obj_ref.namespace.clone().unwrap_or_default(),
                    request.obj_ref.name.clone(),
                ),
                &counters,
            );
        }
    });
    let begin = (queue.clone(), metrics.clone());
    let pass = move |object: Arc<Guarded>, context: Arc<Context>| {
        let ((queue, metrics), permits, filled) = (begin.clone(), permits.clone(), filled.clone());
        spawned(async move {
            filled.ready().await;
            let permit = permits.acquire().await;
            queue.pop(&key(object.as_ref()), &metrics);
            let outcome = Box::pin(one(&object, &context)).await;
            drop(permit);
            outcome
        })
    };
    let policy = |object: Arc<Guarded>, _: &Error, context: Arc<Context>| {
        Action::requeue(jittered(context.backoff.failed(object.as_ref())))
    };
    let config = controller::Config::default()
        .concurrency(concurrency)
        .debounce(DEBOUNCE);
    applier(pass, policy, context.clone(), predictors, requests, config)
        .for_each(|outcome| {
            let gone = match outcome {
                Err(controller::Error::ObjectNotFound(object)) => Some(*object),
                _ => None,
            };
            if let Some(object) = gone {
                let key = (object.namespace.unwrap_or_default(), object.name);
                queue.pop(&key, &metrics);
                context.backoff.forget(&key);
                context.silence.forget(&key);
            }
            std::future::ready(())
        })
        .await;
}

/// Runs a pass as a task of its own, so that a panic in it is an error like others.
fn spawned(
    pass: impl Future<Output = Result<Action, Error>> + Send + 'static,
) -> Pin<Box<dyn Future<Output = Result<Action, Error>> + Send>> {
    let task = tokio::spawn(pass.in_current_span());
    Box::pin(async move {
        task.await
            .unwrap_or_else(|error| Err(Error::Ended(error.to_string())))
    })
}

/// One pass, with its limit, its span and its report.
pub(super) async fn one(object: &Guarded, context: &Context) -> Result<Action, Error> {
    let span = tracing::info_span!(
        parent: None, "reconcile", kind = KIND, namespace = object.namespace(), object = object.name_any()
    );
    let began = Instant::now();
    context.metrics.began(KIND);
    let outcome = async {
        let outcome = match &object.0 {
            Ok(object) => tokio::time::timeout(LIMIT, Box::pin(reconcile(object, context)))
                .await
                .unwrap_or(Err(Error::TimedOut(LIMIT))),
            Err(invalid) => unreadable(object, &invalid.error, context).await,
        };
        report(&outcome, began.elapsed(), context.backoff.failures(object));
        outcome
    }
    .instrument(span)
    .await;
    context.metrics.ended(
        KIND,
        began.elapsed(),
        outcome.as_ref().err().map(Error::category),
    );
    let after = outcome?;
    context.backoff.forget(&key(object));
    Ok(Action::requeue(jittered(after)))
}

/// One that can't be read gets nothing, but must be able to go.
async fn unreadable(object: &Guarded, error: &str, context: &Context) -> Result<Duration, Error> {
    match finalize::release_unreadable(&context.writer, object).await? {
        Outcome::Written => Ok(GONE),
        Outcome::Unchanged => Err(Error::Unreadable(error.to_owned())),
    }
}

fn report(outcome: &Result<Duration, Error>, took: Duration, failures: u32) {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Ok(_) => tracing::debug!(millis, "reconciled"),
        Err(error) => tracing::warn!(
            millis, failures = failures + 1, category = error.category(), error = %error, "could not reconcile; it is tried again"
        ),
    }
}

fn children<K>(
    watches: &Watches,
    name: &'static str,
    requests: &mut SelectAll<BoxStream<'static, Request>>,
) -> Store<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, touched) = watches.open::<K>(name, Some(&labels::watched()), TOO_OLD, true);
    requests.push(owners(touched).boxed());
    store
}

/// Requests for the predictors to which the touched children belong. A deletion counts as a touch.
fn owners<K: Resource<DynamicType = ()>>(
    touched: impl Stream<Item = K>,
) -> impl Stream<Item = Request> {
    touched.flat_map(|child| {
        let namespace = child.namespace().unwrap_or_default();
        let requests: Vec<_> = predictors_of(&child)
            .into_iter()
            .map(|name| {
                let related = ReconcileReason::RelatedObjectUpdated {
                    obj_ref: Box::new(ObjectRef::from_obj(&child).erase()),
                };
                Ok(request(ObjectRef::new(&name).within(&namespace), related))
            })
            .collect();
        futures::stream::iter(requests)
    })
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

fn request(obj_ref: ObjectRef<Guarded>, reason: ReconcileReason) -> ReconcileRequest<Guarded> {
    ReconcileRequest { obj_ref, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Pod;
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
