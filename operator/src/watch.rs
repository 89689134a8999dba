//! Watches: streams that keep a cache, survive errors and say how they are.
//!
//! In: a client, a scope and a selector. Out: a store and a stream of touched objects. A failure is logged, counted,
//! told to [`Health`] and followed by a pause of that watch alone; it never ends a stream and never slows another one.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::{Stream, StreamExt};
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store, store::Writer};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tower::service_fn;

use crate::health::{Health, WATCH_TIMEOUT};
use crate::metrics::Metrics;
use crate::writer::explain;

/// Objects a page of an initial list.
const PAGE: u32 = 200;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace.
    Cluster,
    /// One namespace.
    Namespace(String),
}

impl Scope {
    /// The objects of kind `K` in the scope.
    pub fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::Cluster => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }

    /// The scopes for a list of namespaces, of which none means all.
    pub fn from_namespaces(namespaces: &[String]) -> Vec<Self> {
        let mut named: Vec<_> = namespaces
            .iter()
            .map(|name| name.trim())
            .filter(|name| !name.is_empty())
            .collect();
        named.sort_unstable();
        named.dedup();
        if named.is_empty() {
            return vec![Self::Cluster];
        }
        named
            .into_iter()
            .map(|name| Self::Namespace(name.to_owned()))
            .collect()
    }
}

/// Whether a cache has had its first list. The cache's own answer wakes one waiter only, so it can't be asked in passing.
#[derive(Clone, Debug, Default)]
pub struct Filled(Arc<AtomicBool>);

impl Filled {
    /// It has.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it has.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What all watches share.
#[derive(Clone)]
pub struct Watches {
    /// A client whose read time-out is longer than a watch.
    pub client: Client,
    /// Where they look.
    pub scope: Scope,
    /// Where they report.
    pub health: Health,
    /// Where they count.
    pub metrics: Metrics,
}

impl Watches {
    /// Opens a watch: the cache, whether it is filled, and the objects as they are touched, deletions included if `deletions`.
    ///
    /// `name` is the plural, `missing` what to do when the API server doesn't know the kind.
    pub fn open<K>(
        &self,
        name: &'static str,
        selector: Option<&str>,
        missing: &'static str,
        deletions: bool,
    ) -> (
        Store<K>,
        Filled,
        impl Stream<Item = K> + Send + 'static + use<K>,
    )
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let label = match &self.scope {
            Scope::Cluster => name.to_owned(),
            Scope::Namespace(namespace) => format!("{name} in {namespace}"),
        };
        self.health.expect(&label, Instant::now());
        let api: Api<K> = self.scope.api(heard(
            self.client.clone(),
            self.health.clone(),
            label.clone(),
        ));
        let timeout = u32::try_from(WATCH_TIMEOUT.as_secs()).unwrap_or(290);
        let mut config = watcher::Config::default().timeout(timeout).page_size(PAGE);
        if let Some(selector) = selector {
            config = config.labels(selector);
        }
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        let writer = Writer::<K>::default();
        let store = writer.as_reader();
        let events = StreamBackoff::new(watcher::watcher(api, config), DefaultBackoff::default())
            .modify(|object| object.meta_mut().managed_fields = None)
            .inspect(move |event| report(event, name, &label, missing, &health, &metrics));
        let touched = reflector::reflector(writer, events);
        let filled = Filled::default();
        let done = filled.clone();
        let objects = touched.filter_map(move |event| {
            if matches!(event, Ok(Event::InitDone)) {
                done.set();
            }
            let object = match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => Some(object),
                Ok(Event::Delete(object)) if deletions => Some(object),
                // Failures were reported above, and the backoff below waits before the next try.
                Ok(Event::Delete(_) | Event::Init | Event::InitDone) | Err(_) => None,
            };
            std::future::ready(object)
        });
        (store, filled, objects)
    }
}

/// A client that tells `health` of each answer to this watch. Answers are seen here and not in the stream, because a watch
/// of a quiet kind is re-opened without an event.
fn heard(client: Client, health: Health, label: String) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = service_fn(move |request| {
        let (client, health, label) = (client.clone(), health.clone(), label.clone());
        async move {
            let answer = client.send(request).await;
            if let Ok(response) = &answer {
                health.answered(&label, response.status().as_u16(), Instant::now());
            }
            answer
        }
    });
    Client::new(service, namespace)
}

fn report<K>(
    event: &watcher::Result<Event<K>>,
    name: &'static str,
    label: &str,
    missing: &str,
    health: &Health,
    metrics: &Metrics,
) {
    match event {
        Ok(Event::InitDone) => {
            health.listed(label);
            metrics.watch_event(name, "listed");
        }
        Ok(Event::Apply(_) | Event::InitApply(_)) => {
            health.recovered(label);
            metrics.watch_event(name, "apply");
        }
        Ok(Event::Delete(_)) => {
            health.recovered(label);
            metrics.watch_event(name, "delete");
        }
        Ok(Event::Init) => {}
        Err(error) => {
            let (list, text) = explain_watch(error, missing);
            tracing::warn!(
                watch = label,
                error = text,
                "watch failed; it is tried again"
            );
            health.failed(label, list, text, Instant::now());
            metrics.watch_event(name, "error");
        }
    }
}

/// Whether the list failed, and what to do.
fn explain_watch(error: &watcher::Error, missing: &str) -> (bool, String) {
    let (list, source) = match error {
        watcher::Error::InitialListFailed(source) => (true, source),
        watcher::Error::WatchStartFailed(source) | watcher::Error::WatchFailed(source) => {
            (false, source)
        }
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => {
            return (false, error.to_string());
        }
    };
    let text = match source {
        kube::Error::Api(status) if status.code == 404 => missing.to_owned(),
        kube::Error::Api(status) if status.code == 403 => {
            format!(
                "{}; grant it: the chart's Role or ClusterRole has the rules",
                status.message
            )
        }
        other => explain(other),
    };
    (list, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use rstest::rstest;

    #[rstest]
    #[case::all(&[], &[Scope::Cluster])]
    #[case::an_empty_variable(&[""], &[Scope::Cluster])]
    #[case::named(&["b", " a", "b"], &[Scope::Namespace("a".into()), Scope::Namespace("b".into())])]
    fn no_namespace_means_all(#[case] namespaces: &[&str], #[case] scopes: &[Scope]) {
        let namespaces: Vec<_> = namespaces.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(Scope::from_namespaces(&namespaces), scopes);
    }

    #[rstest]
    #[case(404, "install the CRDs")]
    #[case(403, "no; grant it: the chart's Role or ClusterRole has the rules")]
    #[case(500, "no")]
    fn a_failed_list_says_what_to_do(#[case] code: u16, #[case] text: &str) {
        let status = Status {
            code,
            message: "no".into(),
            ..Status::default()
        };
        let error = watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)));
        assert_eq!(
            explain_watch(&error, "install the CRDs"),
            (true, text.to_owned())
        );
    }

    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use kube::ResourceExt;
    use kube::core::DeserializeGuard;
    use serde_json::json;
    use stockpredictor_api::StockPredictor;

    use crate::mock::{refusal, server};

    fn watches(client: Client) -> Watches {
        Watches {
            client,
            scope: Scope::Cluster,
            health: Health::default(),
            metrics: Metrics::new(),
        }
    }

    /// Reads from a stream that is expected to go on.
    async fn next<K>(stream: &mut (impl Stream<Item = K> + Unpin)) -> K {
        tokio::time::timeout(Duration::from_mins(10), stream.next())
            .await
            .unwrap()
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_cannot_be_read_does_not_hide_the_others() {
        let (client, _log) = server(|asked| {
            let object = |name: &str, spec| json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
            let good = json!({"symbols": ["NVDA"], "storage": {"size": "1Gi"}});
            let items = [
                object("broken", json!({"symbols": 7})),
                object("good", good),
            ];
            let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
            // The watch that follows the list stays open.
            (asked.method == "GET").then_some((200, list))
        });
        let watches = watches(client);
        let (store, filled, touched) =
            watches.open::<DeserializeGuard<StockPredictor>>("stockpredictors", None, "", false);
        let mut touched = Box::pin(touched);
        let (broken, good) = (next(&mut touched).await, next(&mut touched).await);
        assert_eq!(
            (broken.name_any(), broken.0.is_err()),
            ("broken".to_owned(), true)
        );
        assert_eq!((good.name_any(), good.0.is_ok()), ("good".to_owned(), true));
        assert_eq!(store.state().len(), 0, "a list counts as a whole");
        assert!(!filled.get());
        assert!(
            tokio::time::timeout(Duration::from_secs(1), touched.next())
                .await
                .is_err()
        );
        assert_eq!((store.state().len(), filled.get()), (2, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_is_told_of_and_goes_on() {
        let tries = Arc::new(AtomicU32::new(0));
        let (client, _log) = server(move |_| {
            let list = json!({"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "a", "namespace": "b"}}]});
            Some(if tries.fetch_add(1, Ordering::Relaxed) < 2 {
                refusal(404, "no")
            } else {
                (200, list)
            })
        });
        let watches = watches(client);
        let (_, _, touched) = watches.open::<k8s_openapi::api::core::v1::ConfigMap>(
            "configmaps",
            None,
            "install it",
            true,
        );
        assert_eq!(
            watches.health.ready(Instant::now()).waiting_for,
            ["configmaps: the first list"]
        );
        let mut touched = Box::pin(touched);
        assert_eq!(next(&mut touched).await.name_any(), "a");
        assert_eq!(
            watches.health.ready(Instant::now()).waiting_for,
            ["configmaps: the first list"],
            "the failure is over"
        );
        let text = watches.metrics.encode().unwrap();
        assert!(
            text.contains("watch_events_total{watch=\"configmaps\",event=\"error\"} 2"),
            "{text}"
        );
    }

    #[rstest]
    #[case::no_permission(403, "no; grant it")]
    #[case::no_definition(404, "install it")]
    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_refused_after_its_list_is_told_of_until_it_works_again(
        #[case] code: u16,
        #[case] text: &str,
    ) {
        let refused = Arc::new(AtomicU32::new(0));
        let (client, _log) = server(move |asked| {
            let list = json!({"metadata": {"resourceVersion": "1"}, "items": []});
            let event = json!({"type": "ADDED", "object": {
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b", "resourceVersion": "2"}}});
            Some(match asked.query.contains("watch=") {
                false => (200, list),
                true if refused.fetch_add(1, Ordering::Relaxed) < 9 => refusal(code, "no"),
                true => (200, event),
            })
        });
        let watches = watches(client);
        let (_, _, touched) = watches.open::<k8s_openapi::api::core::v1::ConfigMap>(
            "configmaps",
            None,
            "install it",
            true,
        );
        let mut touched = Box::pin(touched);
        // Nine refusals with their pauses, and no event.
        let silent = tokio::time::timeout(Duration::from_secs(20), touched.next()).await;
        assert!(silent.is_err());
        let now = Instant::now();
        assert!(watches.health.ready(now).ok, "not yet");
        let late = now + crate::health::FAILING_LIMIT + Duration::from_secs(1);
        let waiting_for = watches.health.ready(late).waiting_for;
        assert!(
            waiting_for.len() == 1 && waiting_for[0].contains(text),
            "{waiting_for:?}"
        );
        let dead = now + crate::health::SILENCE_LIMIT + Duration::from_secs(1);
        assert!(!watches.health.alive(dead).ok);

        assert_eq!(next(&mut touched).await.name_any(), "a");
        assert!(watches.health.ready(late).ok);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_seen_without_an_event() {
        for (code, alive) in [(200, true), (404, true), (500, false)] {
            let (client, _log) = server(move |_| Some(refusal(code, "")));
            let (health, start) = (Health::default(), Instant::now());
            let long_ago = start
                .checked_sub(crate::health::SILENCE_LIMIT + Duration::from_secs(1))
                .unwrap();
            health.expect("pods", long_ago);
            let client = heard(client, health.clone(), "pods".into());
            let _ = client
                .send(
                    http::Request::get("/")
                        .body(kube::client::Body::empty())
                        .unwrap(),
                )
                .await;
            assert_eq!(health.alive(start).ok, alive, "{code}");
        }
    }
}
