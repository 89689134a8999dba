//! Whole passes against an API server made of a function.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::DeserializeGuard;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{self, Store, store::Writer as StoreWriter};
use kube::runtime::watcher::Event;
use rstest::rstest;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::mock::{Asked, Log, refusal, server};

#[path = "finalize_test.rs"]
mod endings;

/// The writes of the first pass over [`fixture::predictor`].
const FIRST: [&str; 7] = [
    "PATCH serviceaccounts/nvda",
    "PATCH configmaps/nvda",
    "PATCH networkpolicies/nvda",
    "PATCH services/nvda",
    "POST persistentvolumeclaims",
    "PATCH deployments/nvda",
    "PATCH stockpredictors/nvda/status",
];

/// A cache with the document at `plural` among `documents`.
fn store<K>(documents: &[(String, Value)], plural: &str) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static,
{
    let (store, mut writer): (Store<K>, StoreWriter<K>) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for (_, document) in documents.iter().filter(|(path, _)| path.contains(plural)) {
        let mut document = document.clone();
        document["metadata"]["namespace"] = json!("default");
        writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(document).unwrap()));
    }
    writer.apply_watcher_event(&Event::InitDone);
    store
}

fn context(client: &Client, documents: &[(String, Value)]) -> Context {
    Context {
        client: client.clone(),
        writer: Writer::new(client.clone()),
        recorder: Recorder::new(
            client.clone(),
            Reporter {
                controller: "test".into(),
                instance: None,
            },
        ),
        poller: Poller::new().unwrap(),
        caches: Caches {
            service_accounts: store(documents, "/serviceaccounts/"),
            config_maps: store(documents, "/configmaps/"),
            claims: store(documents, "/persistentvolumeclaims/"),
            deployments: store(documents, "/deployments/"),
            services: store(documents, "/services/"),
            network_policies: store(documents, "/networkpolicies/"),
            budgets: store(documents, "/poddisruptionbudgets/"),
            pods: store(documents, "/pods/"),
            restores: store(documents, "/storagerestores/"),
        },
        defaults: fixture::defaults(),
        metrics: Metrics::new(),
        backoff: Backoff::default(),
        silence: Silence::default(),
    }
}

/// An empty cluster that has the object and takes everything that is applied.
fn accepting(object: &StockPredictor) -> impl Fn(&Asked) -> Option<(u16, Value)> + Send + 'static {
    let object = json!(object);
    move |asked| {
        Some(match asked.method.as_str() {
            _ if asked.path.contains("/stockpredictors/") => (200, object.clone()),
            "GET" => refusal(404, "not found"),
            _ => (201, asked.body.clone()),
        })
    }
}

/// What the first pass applied: the children by path, and the status.
fn applied(log: &Log) -> (Vec<(String, Value)>, Value) {
    let mut patches = log.asked();
    let created =
        |asked: &Asked| asked.method == "POST" && asked.path.ends_with("/persistentvolumeclaims");
    patches.retain(|asked| asked.method == "PATCH" || created(asked));
    let (status, children): (Vec<_>, Vec<_>) = patches
        .into_iter()
        .partition(|asked| asked.path.ends_with("/status"));
    let children = children
        .into_iter()
        .map(|asked| match asked.path {
            path if asked.method == "POST" => (format!("{path}/nvda"), asked.body),
            path => (path, asked.body),
        })
        .collect();
    (
        children,
        status
            .last()
            .map(|asked| asked.body["status"].clone())
            .unwrap_or_default(),
    )
}

fn reason(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_default();
    found["reason"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn at_first_sight_the_children_are_applied_and_then_the_status() {
    let object = fixture::predictor(&json!({}));
    let (client, log) = server(accepting(&object));
    let again = reconcile(&object, &context(&client, &[])).await.unwrap();
    assert_eq!(log.writes(), FIRST);
    assert_eq!(again, UNWELL, "the pods only start");
    let (_, status) = applied(&log);
    assert_eq!(status["observedGeneration"], 3);
    assert_eq!(reason(&status, "Reconciled"), "Applied");
    assert_eq!(reason(&status, "Ready"), "ClaimPending");
}

#[tokio::test]
async fn a_steady_state_asks_the_api_server_nothing() {
    let mut object = fixture::predictor(&json!({"suspend": true}));
    let (client, log) = server(accepting(&object));
    reconcile(&object, &context(&client, &[])).await.unwrap();
    let (children, status) = applied(&log);
    object.status = serde_json::from_value(status).unwrap();

    let (client, log) = server(|_| None);
    let again = reconcile(&object, &context(&client, &children))
        .await
        .unwrap();
    assert_eq!(log.asked(), []);
    assert_eq!(again, STOPPED);
}

#[tokio::test]
async fn a_cache_that_lags_behind_causes_reads_and_no_writes() {
    let mut object = fixture::predictor(&json!({"suspend": true}));
    let (client, log) = server(accepting(&object));
    reconcile(&object, &context(&client, &[])).await.unwrap();
    let (children, status) = applied(&log);
    object.status = serde_json::from_value(status).unwrap();

    // The caches are still empty, the API server has everything.
    let live = object.clone();
    let (client, log) = server(move |asked| {
        let child = children
            .iter()
            .find(|(path, _)| *path == asked.path)
            .map(|(_, body)| body.clone());
        Some((200, child.unwrap_or_else(|| json!(live))))
    });
    reconcile(&object, &context(&client, &[])).await.unwrap();
    assert_eq!(log.writes(), [""; 0]);
}

#[rstest]
#[case(409, "conflict")]
#[case(500, "server")]
#[case(504, "timeout")]
#[tokio::test]
async fn a_failure_that_passes_is_tried_again_and_told_only_when_it_lasts(
    #[case] code: u16,
    #[case] category: &str,
) {
    let object = fixture::predictor(&json!({}));
    let accept = accepting(&object);
    let (client, log) = server(move |asked| {
        if asked.method == "PATCH" && asked.path.contains("/configmaps/") {
            Some(refusal(code, "no"))
        } else {
            accept(asked)
        }
    });
    let context = context(&client, &[]);
    for _ in 1..TELL_AFTER {
        let error = reconcile(&object, &context).await.unwrap_err();
        assert_eq!(error.category(), category);
        context.backoff.failed(&object);
    }
    // What came after the failed child waits for the next pass.
    assert!(
        !log.writes()
            .iter()
            .any(|write| write.contains("deployments") || write.ends_with("/status")),
        "{:?}",
        log.writes()
    );
    reconcile(&object, &context).await.unwrap_err();
    assert_eq!(reason(&applied(&log).1, "Reconciled"), "ApplyFailed");
}

#[tokio::test]
async fn a_refused_child_is_told_at_once_and_holds_up_no_other() {
    let object = fixture::predictor(&json!({}));
    let accept = accepting(&object);
    let (client, log) = server(move |asked| {
        if asked.method == "PATCH" && asked.path.contains("/services/") {
            Some(refusal(422, "bad port"))
        } else {
            accept(asked)
        }
    });
    let error = reconcile(&object, &context(&client, &[]))
        .await
        .unwrap_err();
    assert_eq!(
        (error.category(), error.to_string().as_str()),
        ("refused", "can't apply Service nvda: bad port")
    );
    let mut writes: Vec<String> = FIRST.iter().map(|write| (*write).to_owned()).collect();
    writes.push("POST events".into());
    assert_eq!(log.writes(), writes);
    assert_eq!(reason(&applied(&log).1, "Ready"), "ApplyRefused");
}

#[tokio::test]
async fn in_a_namespace_that_is_going_nothing_is_tried_or_told() {
    let object = fixture::predictor(&json!({}));
    let accept = accepting(&object);
    let (client, log) = server(move |asked| {
        if asked.method == "GET" {
            return accept(asked);
        }
        let (code, mut body) = refusal(403, "namespace default is being terminated");
        body["details"] = json!({"causes": [{"reason": "NamespaceTerminating"}]});
        Some((code, body))
    });
    assert_eq!(
        reconcile(&object, &context(&client, &[])).await.unwrap(),
        STOPPED
    );
    assert!(
        !log.writes()
            .iter()
            .any(|write| write.ends_with("/status") || write.contains("events"))
    );
}

#[tokio::test]
async fn an_event_is_written_once_for_a_state_that_lasts() {
    let mut object =
        fixture::predictor(&json!({"storage": {"size": null, "existingClaim": "mine"}}));
    let (client, log) = server(accepting(&object));
    let context = context(&client, &[]);
    reconcile(&object, &context).await.unwrap();
    assert_eq!(
        log.writes()
            .iter()
            .filter(|write| *write == "POST events")
            .count(),
        1
    );
    assert!(
        !log.writes()
            .iter()
            .any(|write| write.contains("deployments")),
        "no pod without a claim"
    );
    object.status = serde_json::from_value(applied(&log).1).unwrap();
    let before = log
        .writes()
        .iter()
        .filter(|write| write.contains("events") || write.ends_with("/status"))
        .count();
    reconcile(&object, &context).await.unwrap();
    let after = log
        .writes()
        .iter()
        .filter(|write| write.contains("events") || write.ends_with("/status"))
        .count();
    assert_eq!(before, after);
}

#[tokio::test]
async fn an_object_that_cannot_be_built_gets_a_condition_and_no_children() {
    let object = fixture::predictor(&json!({"replicas": 2}));
    let (client, log) = server(accepting(&object));
    let error = reconcile(&object, &context(&client, &[]))
        .await
        .unwrap_err();
    assert_eq!(error.category(), "invalid");
    assert_eq!(
        log.writes(),
        ["PATCH stockpredictors/nvda/status", "POST events"]
    );
}

#[tokio::test]
async fn a_child_of_somebody_else_is_not_taken() {
    let object = fixture::predictor(&json!({}));
    let accept = accepting(&object);
    let (client, log) = server(move |asked| {
        let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nvda"}, "data": {"a": "b"}});
        if asked.method == "GET" && asked.path.contains("/configmaps/") {
            Some((200, foreign))
        } else {
            accept(asked)
        }
    });
    let error = reconcile(&object, &context(&client, &[]))
        .await
        .unwrap_err();
    assert_eq!(error.category(), "not_ours");
    assert!(
        !log.writes()
            .iter()
            .any(|write| write.contains("configmaps"))
    );
    assert_eq!(reason(&applied(&log).1, "Reconciled"), "ChildNotOurs");
}

/// A pass over an object that should grow, against an API server that refuses this with `words`; its status.
async fn refused_growth(class: (u16, Value), words: &'static str) -> Value {
    let mut object = fixture::predictor(&json!({"suspend": true}));
    let (client, log) = server(accepting(&object));
    reconcile(&object, &context(&client, &[])).await.unwrap();
    let (mut children, _) = applied(&log);
    for (path, child) in &mut children {
        if path.contains("/persistentvolumeclaims/") {
            child["spec"]["storageClassName"] = json!("standard");
            child["status"] = json!({"phase": "Bound", "capacity": {"storage": "10Gi"}});
        }
    }
    object.spec.storage.size = serde_json::from_value(json!("20Gi")).unwrap();
    // Something for the Deployment as well, which comes after the claim.
    object.spec.pod_labels = serde_json::from_value(json!({"team": "quant"})).unwrap();
    let (accept, live) = (accepting(&object), children.clone());
    let (client, log) = server(move |asked| {
        if asked.path.contains("/storageclasses/") {
            return Some(class.clone());
        }
        if asked.method == "PATCH" && asked.path.contains("/persistentvolumeclaims/") {
            return Some(refusal(403, words));
        }
        if asked.method == "PATCH" && asked.path.contains("/deployments/") {
            return Some(refusal(422, "bad pod"));
        }
        let child = live
            .iter()
            .find(|(path, _)| asked.method == "GET" && *path == asked.path);
        child
            .map(|(_, body)| (200, body.clone()))
            .or_else(|| accept(asked))
    });
    reconcile(&object, &context(&client, &children))
        .await
        .unwrap_err();
    applied(&log).1
}

const QUOTA: &str = "persistentvolumeclaims \"nvda\" is forbidden: exceeded quota: disks";
const FIXED: &str =
    "persistentvolumeclaims \"nvda\" is forbidden: only dynamically provisioned pvc can be resized";

#[rstest]
#[case::class_unknown(None, FIXED, "ExpansionNotSupported", &["Deployment nvda: bad pod"])]
#[case::quota_and_class_unknown(None, QUOTA, "Bound", &["exceeded quota: disks", "Deployment nvda: bad pod"])]
#[case::quota_and_class_expands(Some(true), QUOTA, "Bound", &["exceeded quota: disks", "Deployment nvda: bad pod"])]
#[case::class_expands(Some(true), FIXED, "Bound", &["pvc can be resized", "Deployment nvda: bad pod"])]
#[tokio::test]
async fn only_a_class_that_cannot_grow_is_blamed_for_a_growth_that_is_refused(
    #[case] expands: Option<bool>,
    #[case] words: &'static str,
    #[case] volume: &str,
    #[case] told: &[&str],
) {
    let class = match expands {
        None => refusal(403, "classes are not yours to read"),
        Some(expands) => (
            200,
            json!({"metadata": {"name": "standard"}, "provisioner": "p", "allowVolumeExpansion": expands}),
        ),
    };
    let status = Box::pin(refused_growth(class, words)).await;
    assert_eq!(reason(&status, "VolumeReady"), volume);
    assert_eq!(reason(&status, "Reconciled"), "ApplyRefused");
    let conditions = status["conditions"].as_array().unwrap();
    let reconciled = conditions.iter().find(|c| c["type"] == "Reconciled");
    let message = reconciled.unwrap()["message"].as_str().unwrap();
    for part in told {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
    assert_eq!(
        message.contains("PersistentVolumeClaim"),
        volume == "Bound",
        "{message}"
    );
}

#[test]
fn the_name_of_a_claim_is_no_word_about_growth() {
    let claim: PersistentVolumeClaim =
        serde_json::from_value(json!({"metadata": {"name": "resize-me"}})).unwrap();
    let refused = |message: &str| {
        let status = kube::core::Status {
            code: 403,
            message: message.into(),
            ..kube::core::Status::default()
        };
        writer::Error::Request {
            verb: "apply",
            kind: "PersistentVolumeClaim".into(),
            name: "resize-me".into(),
            source: Box::new(kube::Error::Api(Box::new(status))),
        }
    };
    let quota = "persistentvolumeclaims \"resize-me\" is forbidden: exceeded quota";
    assert!(!speaks_of_growth(&refused(quota), &claim));
    let fixed = "persistentvolumeclaims \"resize-me\" is forbidden: must support resize";
    assert!(speaks_of_growth(&refused(fixed), &claim));
}

#[tokio::test(start_paused = true)]
async fn a_pass_against_a_dead_api_server_is_given_up() {
    let object = fixture::predictor(&json!({}));
    let (client, _log) = server(|_| None);
    let context = context(&client, &[]);
    let error = crate::controller::one(&DeserializeGuard(Ok(object)), &context)
        .await
        .unwrap_err();
    assert_eq!(error.category(), "timeout");
    let text = context.metrics.encode().unwrap();
    assert!(
        text.contains("reconcile_errors_total{kind=\"StockPredictor\",category=\"timeout\"} 1"),
        "{text}"
    );
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_an_error_of_its_own() {
    let (client, log) = server(|_| None);
    let broken =
        json!({"metadata": {"name": "nvda", "namespace": "default"}, "spec": {"symbols": 7}});
    let broken: DeserializeGuard<StockPredictor> = serde_json::from_value(broken).unwrap();
    let error = crate::controller::one(&broken, &context(&client, &[]))
        .await
        .unwrap_err();
    assert_eq!(error.category(), "invalid");
    assert_eq!(log.asked(), []);
}

#[test]
fn the_cache_of_the_tests_finds_what_it_is_given() {
    let map = json!({"metadata": {"name": "nvda"}});
    let store = store::<ConfigMap>(&[("/configmaps/nvda".into(), map)], "/configmaps/");
    assert_eq!(store.state().iter().map(Arc::strong_count).count(), 1);
}
