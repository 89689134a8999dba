//! What the controllers of all kinds have in common: from watches to passes, and from passes to reports.
//!
//! In: a store of objects, requests, and a [`Reconciler`]. Out: a future that reconciles until it is told to stop. Every
//! result of a pass is reported here and nowhere else. Objects that can't be read are reported too, and disturb no other
//! one. Forbidden here: anything about single kinds.

use std::collections::HashSet;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::controller::{self, Action, ReconcileReason, ReconcileRequest, applier};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{OnceCell, Semaphore};
use tracing::Instrument;

use crate::health::Health;
use crate::metrics::Metrics;
use crate::metrics::objects::Measured;
use crate::stock_predictor::backoff::{Backoff, Key, jittered, key};
use crate::stock_predictor::stats::Poller;
use crate::stock_predictor::validate::Defaults;
use crate::watch::{Scope, Watches};
use crate::writer::FIELD_MANAGER;

/// Events that follow each other so closely make one pass.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The longest pass: a dozen requests, each with its own limit.
const LIMIT: Duration = Duration::from_secs(90);
/// What to do when the API server doesn't know a kind of Kubernetes.
const TOO_OLD: &str = "the API server doesn't know this kind; Kubernetes 1.33 or newer is needed";

/// An object of the cache, readable or not.
pub type Guarded<K> = DeserializeGuard<K>;
/// A wish for a pass over an object of kind `K`.
pub type Request<K> = Result<ReconcileRequest<Guarded<K>>, watcher::Error>;
/// All wishes.
pub type Requests<K> = SelectAll<BoxStream<'static, Request<K>>>;

/// What the caches of a controller can hold.
pub trait Cached:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}
impl<K> Cached for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// What controllers of all kinds and scopes share.
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
    /// As many passes at once as it has permits, over all kinds and scopes.
    pub permits: Arc<Semaphore>,
    /// For stats.
    pub poller: Poller,
}

impl Shared {
    /// The watches of a scope.
    pub fn watches(&self, scope: Scope) -> Watches {
        Watches {
            client: self.watch_client.clone(),
            scope,
            health: self.health.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// For Events.
    pub fn recorder(&self) -> Recorder {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: self.pod.clone(),
        };
        Recorder::new(self.client.clone(), reporter)
    }
}

/// What went wrong with a pass as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// An object that the cache could not read.
    #[error("the stored object can't be read: {0}; correct it with kubectl edit, or delete it")]
    Unreadable(String),
    /// It took too long.
    #[error("the pass took longer than {} s and was given up", .0.as_secs())]
    TimedOut(Duration),
    /// A mistake of ours.
    #[error("the pass ended unexpectedly: {0}")]
    Ended(String),
}

impl Fault {
    /// A word of a small set, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "invalid",
            Self::TimedOut(_) => "timeout",
            Self::Ended(_) => "internal",
        }
    }
}

/// The driver of one kind.
pub trait Reconciler: Send + Sync + 'static {
    /// The objects.
    type Object: Cached;
    /// Why a pass fails.
    type Error: std::error::Error + From<Fault> + Send + 'static;
    /// The kind, in logs and metrics.
    const KIND: &'static str;

    /// Counters.
    fn metrics(&self) -> &Metrics;
    /// Failures in a row.
    fn backoff(&self) -> &Backoff;
    /// A word of a small set, for metrics.
    fn category(error: &Self::Error) -> &'static str;
    /// Done when the caches are filled.
    fn ready(&self) -> impl Future<Output = ()> + Send;
    /// One pass over an object. Gives the time after which to look again, whatever happens.
    fn reconcile(
        &self,
        object: &Self::Object,
    ) -> impl Future<Output = Result<Duration, Self::Error>> + Send;
    /// One pass over an object that can't be read: it gets nothing, but must be able to go.
    fn unreadable(
        &self,
        object: &Guarded<Self::Object>,
        error: &str,
    ) -> impl Future<Output = Result<Duration, Self::Error>> + Send;
    /// The object is gone.
    fn forget(&self, key: &Key);
}

/// Objects that wait for a pass.
#[derive(Default)]
struct Queue(Mutex<HashSet<Key>>);

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, key: Key, kind: &'static str, metrics: &Metrics) {
        if self.lock().insert(key) {
            metrics.waiting(kind, 1);
        }
    }

    fn pop(&self, key: &Key, kind: &'static str, metrics: &Metrics) {
        if self.lock().remove(key) {
            metrics.waiting(kind, -1);
        }
    }
}

/// Opens the watch of the objects themselves, which have metrics. `missing` says what to do when the API server doesn't know
/// the kind.
pub fn objects<K: Measured>(
    watches: &Watches,
    name: &'static str,
    missing: &'static str,
    requests: &mut Requests<K>,
) -> Store<Guarded<K>> {
    let (store, filled, touched) = watches.open::<Guarded<K>>(name, None, missing, false);
    watches.metrics.watch(store.clone(), filled);
    let wishes = touched.map(|object| {
        Ok(request(
            ObjectRef::from_obj(&object),
            ReconcileReason::ObjectUpdated,
        ))
    });
    requests.push(wishes.boxed());
    store
}

/// Opens a watch of other objects; `concerned` names those that have to look at one that was touched. A deletion counts
/// as a touch.
pub fn related<K: Cached, C: Cached>(
    watches: &Watches,
    name: &'static str,
    selector: Option<&str>,
    requests: &mut Requests<K>,
    concerned: impl Fn(&C) -> Vec<String> + Send + Sync + 'static,
) -> Store<C> {
    let (store, _, touched) = watches.open::<C>(name, selector, TOO_OLD, true);
    requests.push(wishes(touched, concerned).boxed());
    store
}

/// The same for objects of our own kinds, readable or not. `missing` says what to do when the API server doesn't know them.
pub fn related_objects<K: Cached, C: Cached>(
    watches: &Watches,
    name: &'static str,
    missing: &'static str,
    requests: &mut Requests<K>,
    concerned: impl Fn(&C) -> Vec<String> + Send + Sync + 'static,
) -> Store<Guarded<C>> {
    let (store, _, touched) = watches.open::<Guarded<C>>(name, None, missing, true);
    let concerned =
        move |object: &Guarded<C>| object.0.as_ref().map_or_else(|_| vec![], &concerned);
    requests.push(wishes(touched, concerned).boxed());
    store
}

/// One object of a cache.
pub fn cached<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

/// The objects of a cache in one namespace.
pub fn in_namespace<K>(store: &Store<K>, namespace: &str) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state_filter(|object| object.meta().namespace.as_deref() == Some(namespace))
}

fn wishes<K: Cached, C: Cached>(
    touched: impl Stream<Item = C> + Send + 'static,
    concerned: impl Fn(&C) -> Vec<String> + Send + Sync + 'static,
) -> impl Stream<Item = Request<K>> + Send {
    touched.flat_map(move |other| {
        let namespace = other.namespace().unwrap_or_default();
        let requests: Vec<_> = concerned(&other)
            .into_iter()
            .map(|name| {
                let reason = ReconcileReason::RelatedObjectUpdated {
                    obj_ref: Box::new(ObjectRef::from_obj(&other).erase()),
                };
                Ok(request(ObjectRef::new(&name).within(&namespace), reason))
            })
            .collect();
        futures::stream::iter(requests)
    })
}

fn request<K: Cached>(
    obj_ref: ObjectRef<Guarded<K>>,
    reason: ReconcileReason,
) -> ReconcileRequest<Guarded<K>> {
    ReconcileRequest { obj_ref, reason }
}

/// Reconciles until `stop` is done and the passes that run have ended.
pub async fn run<R: Reconciler>(
    context: Arc<R>,
    store: Store<Guarded<R::Object>>,
    requests: Requests<R::Object>,
    permits: Arc<Semaphore>,
    concurrency: u16,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let queue = Arc::new(Queue::default());
    let (seen, counters) = (queue.clone(), context.metrics().clone());
    let requests = requests.take_until(stop).inspect(move |request| {
        if let Ok(request) = request {
            let namespace = request.obj_ref.namespace.clone().unwrap_or_default();
            seen.push(
                (namespace, request.obj_ref.name.clone()),
                R::KIND,
                &counters,
            );
        }
    });
    // One pass waits for the caches, and the others for it: a cache that is filled wakes only one of those that wait for it.
    let ready = Arc::new(OnceCell::new());
    let waiting = queue.clone();
    let pass = move |object: Arc<Guarded<R::Object>>, context: Arc<R>| {
        let (queue, permits, ready) = (waiting.clone(), permits.clone(), ready.clone());
        spawned(async move {
            // A pass that begins before a cache is filled would take every child for missing.
            ready.get_or_init(|| context.ready()).await;
            let permit = permits.acquire().await;
            queue.pop(&key(object.as_ref()), R::KIND, context.metrics());
            let outcome = Box::pin(one(&object, context.as_ref())).await;
            drop(permit);
            outcome
        })
    };
    let policy = |object: Arc<Guarded<R::Object>>, _: &R::Error, context: Arc<R>| {
        Action::requeue(jittered(context.backoff().failed(object.as_ref())))
    };
    let config = controller::Config::default()
        .concurrency(concurrency)
        .debounce(DEBOUNCE);
    applier(pass, policy, context.clone(), store, requests, config)
        .for_each(|outcome| {
            let gone = match outcome {
                Err(controller::Error::ObjectNotFound(object)) => Some(*object),
                _ => None,
            };
            if let Some(object) = gone {
                let key = (object.namespace.unwrap_or_default(), object.name);
                queue.pop(&key, R::KIND, context.metrics());
                context.backoff().forget(&key);
                context.forget(&key);
            }
            std::future::ready(())
        })
        .await;
}

/// Runs a pass as a task of its own, so that a panic in it is an error like others.
fn spawned<E: From<Fault> + Send + 'static>(
    pass: impl Future<Output = Result<Action, E>> + Send + 'static,
) -> Pin<Box<dyn Future<Output = Result<Action, E>> + Send>> {
    let task = tokio::spawn(pass.in_current_span());
    Box::pin(async move {
        task.await
            .unwrap_or_else(|error| Err(Fault::Ended(error.to_string()).into()))
    })
}

/// One pass, with its limit, its span and its report.
///
/// # Errors
/// When something has to be tried again.
pub async fn one<R: Reconciler>(
    object: &Guarded<R::Object>,
    context: &R,
) -> Result<Action, R::Error> {
    let span = tracing::info_span!(
        parent: None, "reconcile", kind = R::KIND, namespace = object.namespace(), object = object.name_any()
    );
    let began = Instant::now();
    context.metrics().began(R::KIND);
    let outcome = async {
        let outcome = match &object.0 {
            Ok(object) => tokio::time::timeout(LIMIT, Box::pin(context.reconcile(object)))
                .await
                .unwrap_or_else(|_| Err(Fault::TimedOut(LIMIT).into())),
            Err(invalid) => context.unreadable(object, &invalid.error).await,
        };
        report::<R>(
            &outcome,
            began.elapsed(),
            context.backoff().failures(object),
        );
        outcome
    }
    .instrument(span)
    .await;
    context.metrics().ended(
        R::KIND,
        began.elapsed(),
        outcome.as_ref().err().map(R::category),
    );
    let after = outcome?;
    context.backoff().forget(&key(object));
    Ok(Action::requeue(jittered(after)))
}

fn report<R: Reconciler>(outcome: &Result<Duration, R::Error>, took: Duration, failures: u32) {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Ok(_) => tracing::debug!(millis, "reconciled"),
        Err(error) => tracing::warn!(
            millis, failures = failures + 1, category = R::category(error), error = %error, "could not reconcile; it is tried again"
        ),
    }
}
