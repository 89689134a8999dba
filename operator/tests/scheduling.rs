//! Where Jobs run, decided by the real scheduler: on a volume for one node beside whoever has it mounted, also when that one
//! moved, and somewhere when nobody has.
//!
//! Deployments, Jobs and claims are handled by their real controllers; nodes and what kubelets do are scripted. Ignored by
//! default, because it needs the binaries that e2e/cluster/tools.sh builds; `make test` runs it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

mod common;
#[path = "common/nodes.rs"]
mod nodes;
#[path = "common/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Cluster, eventually, merge};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use nodes::Nodes;
use serde_json::{Value, json};
use stockpredictor_api::{StockPredictor, StorageBackup, StorageRestore};
use world::Script;

/// The predictor's pod.
const SERVING: &str = "app.kubernetes.io/instance=nvda,app.kubernetes.io/component=predictor";
/// How long a whole restore may take.
const LONG: Duration = Duration::from_mins(2);

fn message(name: &str) -> Value {
    let contract: Value = serde_json::from_str(include_str!("../../contracts/jobs.json")).unwrap();
    contract["messages"][name].clone()
}

/// Jobs that succeed while the gate is open, and work on else.
fn gated(open: &Arc<AtomicBool>) -> Script {
    let open = open.clone();
    Arc::new(move |document| {
        let job = document["job"].as_str()?;
        open.load(Ordering::SeqCst)
            .then(|| message(&format!("{job}_succeeded")))
    })
}

fn gate(open: bool) -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(open))
}

/// A predictor that may run on the nodes, and its disk.
async fn predictor(cluster: &Cluster, nodes: &Nodes, changes: &Value) {
    let mut spec = json!({
        "tolerations": nodes.tolerations(), "storage": {"accessMode": "ReadWriteOnce"},
        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}},
    });
    merge(&mut spec, changes);
    let mode = spec["storage"]["accessMode"].as_str().unwrap().to_owned();
    nodes.disk("nvda", &mode).await;
    cluster.create("nvda", &spec).await;
}

/// Settings of a backup's pods that send them elsewhere if they may go there. The predictor's own preference for the pods of
/// its claim works in both directions, and would else be enough.
fn rather_not_on(node: &str) -> Value {
    json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100, "preference": {"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}]},
    }]}}})
}

async fn backup(cluster: &Cluster, name: &str, trigger: &str, pod: &Value) {
    let object: StorageBackup = serde_json::from_value(json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageBackup", "metadata": {"name": name},
        "spec": {"predictorRef": {"name": "nvda"}, "trigger": trigger, "pod": pod},
    }))
    .unwrap();
    let api = cluster.api::<StorageBackup>();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// Waits for the Job of a trigger; a selector of its pod.
async fn begun(cluster: &Cluster, name: &str, trigger: &str) -> String {
    let object = cluster
        .until::<StorageBackup>(name, "the run has begun", |object| {
            object["status"]["acknowledgedTrigger"] == trigger
        })
        .await;
    let job = object["status"]["active"].as_str().map(str::to_owned);
    let job = job.or_else(|| {
        object["status"]["lastRun"]["job"]
            .as_str()
            .map(str::to_owned)
    });
    format!("batch.kubernetes.io/job-name={}", job.unwrap())
}

/// Another run of a backup whose last one is over; the node of its pod.
async fn another_run(cluster: &Cluster, nodes: &Nodes, trigger: &str) -> String {
    cluster
        .until::<StorageBackup>("daily", "the last run is over", |object| {
            object["status"]["active"].is_null()
        })
        .await;
    let wish = json!({"spec": {"trigger": trigger}});
    cluster.patch::<StorageBackup>("daily", &wish).await;
    let selector = begun(cluster, "daily", trigger).await;
    nodes.placed(&selector).await.1
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_backup_runs_on_the_predictors_node_also_when_it_is_the_fullest_and_when_the_pod_moved() {
    let cluster = Cluster::scheduled("beside").await;
    let nodes = Nodes::start(&cluster, gated(&gate(true))).await;
    let operator = cluster.operator();
    predictor(&cluster, &nodes, &json!({})).await;
    let (pod, first) = nodes.placed(SERVING).await;
    nodes.fill(&first).await;
    backup(&cluster, "daily", "0", &rather_not_on(&first)).await;
    let selector = begun(&cluster, "daily", "0").await;
    assert_eq!(nodes.placed(&selector).await.1, first);
    for trigger in ["1", "2", "3"] {
        assert_eq!(another_run(&cluster, &nodes, trigger).await, first);
    }

    // The pod moves: a drain, scripted.
    nodes.cordon(&first).await;
    let pods = cluster.api::<Pod>();
    pods.delete(&pod, &DeleteParams::default()).await.unwrap();
    cluster.gone::<Pod>(&pod).await;
    let (_, second) = nodes.placed(SERVING).await;
    assert_ne!(second, first);
    nodes.fill(&second).await;
    let wish = json!({"spec": {"pod": rather_not_on(&second)}});
    cluster.patch::<StorageBackup>("daily", &wish).await;
    for trigger in ["4", "5"] {
        assert_eq!(another_run(&cluster, &nodes, trigger).await, second);
    }
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_backup_of_a_suspended_predictor_runs_somewhere_and_others_of_its_claim_beside_it() {
    let cluster = Cluster::scheduled("suspended").await;
    let open = gate(false);
    let nodes = Nodes::start(&cluster, gated(&open)).await;
    let operator = cluster.operator();
    predictor(&cluster, &nodes, &json!({"suspend": true})).await;
    backup(&cluster, "daily", "0", &json!({})).await;
    let selector = begun(&cluster, "daily", "0").await;
    let (_, node) = nodes.placed(&selector).await;
    assert!(nodes.pods(SERVING).await.is_empty());
    nodes.fill(&node).await;
    backup(&cluster, "weekly", "0", &json!({})).await;
    let selector = begun(&cluster, "weekly", "0").await;
    assert_eq!(nodes.placed(&selector).await.1, node);
    // The predictor prefers it too: elsewhere it would wait for the disk until both are done.
    let go_on = json!({"spec": {"suspend": false}});
    cluster.patch::<StockPredictor>("nvda", &go_on).await;
    assert_eq!(nodes.placed(SERVING).await.1, node);
    open.store(true, Ordering::SeqCst);
    for name in ["daily", "weekly"] {
        cluster
            .until::<StorageBackup>(name, "its run succeeds", |object| {
                object["status"]["lastRun"]["result"] == "Succeeded"
            })
            .await;
    }
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_run_waits_for_a_pod_that_can_not_be_joined_and_follows_it() {
    let cluster = Cluster::scheduled("following").await;
    let nodes = Nodes::start(&cluster, gated(&gate(false))).await;
    let operator = cluster.operator();
    predictor(&cluster, &nodes, &json!({})).await;
    let (pod, first) = nodes.placed(SERVING).await;
    nodes.cordon(&first).await;
    backup(&cluster, "daily", "0", &json!({})).await;
    let selector = begun(&cluster, "daily", "0").await;
    eventually(common::SOON, "the scheduler has looked", async || {
        let found = nodes.pods(&selector).await;
        let text = json!(found.first().map(|pod| &pod.status)).to_string();
        if text.contains("Unschedulable") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    let pods = cluster.api::<Pod>();
    pods.delete(&pod, &DeleteParams::default()).await.unwrap();
    cluster.gone::<Pod>(&pod).await;
    let (_, run) = nodes.placed(&selector).await;
    assert_ne!(run, first);
    assert_eq!(nodes.placed(SERVING).await.1, run);
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_backup_of_a_shared_volume_runs_anywhere() {
    let cluster = Cluster::scheduled("anywhere").await;
    let nodes = Nodes::start(&cluster, gated(&gate(true))).await;
    let operator = cluster.operator();
    let shared = json!({"storage": {"accessMode": "ReadWriteMany"}});
    predictor(&cluster, &nodes, &shared).await;
    let (_, node) = nodes.placed(SERVING).await;
    nodes.fill(&node).await;
    backup(&cluster, "daily", "0", &json!({})).await;
    let selector = begun(&cluster, "daily", "0").await;
    assert_ne!(nodes.placed(&selector).await.1, node);
    let pods = nodes.pods(&selector).await;
    assert_eq!(json!(pods[0].spec)["affinity"], Value::Null);
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn the_jobs_of_a_restore_run_where_others_have_the_volume() {
    let cluster = Cluster::scheduled("restored").await;
    let nodes = Nodes::start(&cluster, gated(&gate(true))).await;
    let operator = cluster.operator();
    predictor(&cluster, &nodes, &json!({})).await;
    let (_, serving) = nodes.placed(SERVING).await;
    nodes.fill(&serving).await;
    // Somebody whose pod has the claim's label, as a debugging pod has that wants to be beside it; the restore doesn't wait for
    // it, because it doesn't mount the claim.
    let pod = json!({
        "metadata": {"name": "beside", "labels": {"stockpredictor.io/claim": "nvda"}},
        "spec": {"nodeName": serving, "containers": [{"name": "sleep", "image": "x"}]},
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let pods = cluster.api::<Pod>();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let object: StorageRestore = serde_json::from_value(json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageRestore", "metadata": {"name": "back"},
        "spec": {
            "source": {"destination": {"volume": {}}}, "backup": "stock_prediction_backup_20250801_120000.tar.gz",
            "target": {"inPlace": {"predictorRef": {"name": "nvda"}}},
        },
    }))
    .unwrap();
    let api = cluster.api::<StorageRestore>();
    api.create(&PostParams::default(), &object).await.unwrap();
    eventually(LONG, "the restore is complete", async || {
        let object = json!(cluster.get::<StorageRestore>("back").await);
        if object["status"]["phase"] == "Completed" {
            Ok(())
        } else {
            Err(object["status"].to_string())
        }
    })
    .await;
    assert_eq!(nodes.placed(SERVING).await.1, serving);
    for kind in ["preflight", "prepare", "switch", "commit"] {
        let selector = format!("batch.kubernetes.io/job-name=back-{kind}");
        assert_eq!(nodes.placed(&selector).await.1, serving, "{kind}");
    }
    operator.stop().await;
}
