//! Whole restores against an API server made of a function, with an error at each request.
//!
//! The predictor follows the phase, and Jobs end at once with the contract's messages.

use std::sync::{Arc, Mutex};

use kube::runtime::events::Reporter;
use kube::runtime::reflector;
use rstest::rstest;
use serde_json::{Value, json};

use super::plan::holds;
use super::*;
use crate::mock::server;
use crate::mock_cluster::{Cluster, Fault, contract, plain};
use crate::stock_predictor::fixture;

const UID: &str = "5f1d7a56-0f7e-4c1e-8a68-5a3b1f1c7d03";
const RESTORE: &str = "storagerestores/back";

/// A cluster with the restore and the claim that it is about.
fn cluster(spec: &Value) -> Cluster {
    let mut object = json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageRestore",
        "metadata": {"name": "back", "namespace": "default", "uid": UID, "generation": 1, "resourceVersion": "1",
            "creationTimestamp": "2025-08-01T12:00:00Z"},
        "spec": {
            "source": {"destination": {"volume": {}}}, "backup": "stock_prediction_backup_20250801_120000.tar.gz",
            "target": {"inPlace": {"predictorRef": {"name": "nvda"}}},
        },
    });
    fixture::merge(&mut object["spec"], spec);
    let claim = json!({"metadata": {"name": "nvda", "namespace": "default", "uid": "claim"}});
    Cluster {
        objects: [
            (RESTORE.to_owned(), object),
            ("persistentvolumeclaims/nvda".to_owned(), claim),
        ]
        .into(),
        others: Some(follow),
        ..Cluster::default()
    }
}

fn phase(cluster: &Cluster) -> RestorePhase {
    let phase = &cluster.objects[RESTORE]["status"]["phase"];
    serde_json::from_value(phase.clone()).unwrap_or_default()
}

/// The predictor and its Deployment follow the phase, as its own controller would make them.
fn follow(cluster: &mut Cluster) {
    let held = holds(phase(cluster), false);
    let (status, reason) = if held {
        ("False", "RestoreInProgress")
    } else {
        ("True", "AllGood")
    };
    let mut predictor = json!(fixture::predictor(&json!({})));
    predictor["status"] = json!({"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "m",
        "lastTransitionTime": "2025-08-01T12:00:00Z"}]});
    let annotations = if held {
        json!({"stockpredictor.io/held-by": UID})
    } else {
        json!({})
    };
    let deployment = json!({
        "metadata": {"name": "nvda", "annotations": annotations},
        "spec": {"replicas": i32::from(!held), "selector": {}, "template": {}}, "status": {"replicas": i32::from(!held)},
    });
    for (name, object) in [
        ("stockpredictors/nvda", predictor),
        ("deployments/nvda", deployment),
    ] {
        cluster.objects.insert(name.into(), object);
    }
}

/// Passes until nothing is left to do; the world then.
async fn run(world: Cluster) -> Cluster {
    let world = Arc::new(Mutex::new(world));
    let shared = world.clone();
    let (client, _log) = server(move |asked| Some(shared.lock().unwrap().answer(asked)));
    let reporter = Reporter {
        controller: "test".into(),
        instance: None,
    };
    let (jobs, _writer) = reflector::store();
    let context = Context {
        writer: Writer::new(client.clone()),
        recorder: Recorder::new(client.clone(), reporter),
        client,
        poller: Poller::new().unwrap(),
        defaults: fixture::defaults(),
        metrics: Metrics::new(),
        backoff: Backoff::default(),
        jobs,
    };
    for _ in 0..100 {
        let cached = world.lock().unwrap().objects[RESTORE].clone();
        let object: StorageRestore = serde_json::from_value(cached).unwrap();
        // An error is tried again, as the controller does.
        if let Ok(OVER) = Box::pin(reconcile(&object, &context)).await {
            break;
        }
    }
    world.lock().unwrap().clone()
}

fn end(world: &Cluster) -> (Value, Vec<String>, Vec<String>) {
    let object = plain(world.objects[RESTORE].clone());
    (object, world.created.clone(), world.deleted.clone())
}

#[tokio::test]
async fn a_restore_takes_its_steps_in_order() {
    let world = run(cluster(&json!({}))).await;
    assert_eq!(phase(&world), RestorePhase::Completed);
    assert_eq!(
        world.created,
        [
            "jobs/back-preflight",
            "jobs/back-prepare",
            "jobs/back-switch",
            "jobs/back-commit"
        ]
    );
    let finalizers = &world.objects[RESTORE]["metadata"]["finalizers"];
    assert_eq!(*finalizers, json!([]));
    // The later Jobs get the very backup that the first one checked.
    for kind in ["prepare", "switch", "commit"] {
        let job = &world.objects[&format!("jobs/back-{kind}")];
        let text = job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].as_str();
        let document: Value = serde_json::from_str(text.unwrap()).unwrap();
        let checked = &contract("preflight_succeeded")["restore"];
        assert_eq!(document["sha256"], checked["sha256"]);
        assert_eq!(document["backup"], checked["name"]);
        assert_eq!(document["restore"], UID);
    }
}

#[rstest]
#[case::conflict(Fault::Refused(409))]
#[case::throttled(Fault::Refused(429))]
#[case::broken(Fault::Refused(500))]
#[case::away(Fault::Refused(503))]
#[case::lost(Fault::Lost)]
#[case::lost_reset(Fault::LostReset)]
#[case::reset(Fault::Reset)]
#[tokio::test]
async fn an_error_at_any_request_changes_nothing_about_the_end(
    #[case] fault: Fault,
    #[values(None, Some(("switch", "switch_failed")))] but: Option<(&'static str, &'static str)>,
) {
    let calm = run(Cluster {
        but,
        ..cluster(&json!({}))
    })
    .await;
    assert!(
        phase(&calm).is_end() && calm.requests > 50,
        "{}",
        calm.requests
    );
    for at in 0..calm.requests {
        let world = run(Cluster {
            but,
            fault: Some((at, fault)),
            ..cluster(&json!({}))
        })
        .await;
        assert_eq!(end(&world), end(&calm), "{fault:?} at request {at}");
    }
}

#[tokio::test]
async fn one_that_is_over_asks_nothing() {
    let mut world = run(cluster(&json!({}))).await;
    let before = world.requests;
    world.fault = None;
    assert_eq!(run(world).await.requests, before);
}

#[tokio::test]
async fn what_the_spec_refers_to_is_named_when_it_is_missing() {
    let mut world = cluster(
        &json!({"source": {"destination": null, "storageBackupRef": {"name": "daily"}}, "backup": "latest"}),
    );
    world.objects.remove("persistentvolumeclaims/nvda");
    let world = run(world).await;
    assert_eq!(phase(&world), RestorePhase::Pending);
    let ready = &world.objects[RESTORE]["status"]["conditions"][0];
    assert_eq!(ready["reason"], "ClaimNotUsable", "{ready}");
    assert_eq!(world.created, [""; 0]);
}
