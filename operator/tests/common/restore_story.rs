//! The story of a `StorageRestore` in place, to its good end or back.
//!
//! In: a namespace, whether the switch fails, and what goes wrong for the operator. Out: the end.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::{Value, json};
use stockpredictor_api::{StockPredictor, StorageRestore};

use crate::common::{Cluster, Object, eventually};
use crate::lives::{Lives, Trouble};
use crate::story::End;
use crate::world::{Script, World};

pub const BACKUP: &str = "stock_prediction_backup_20250801_120000.tar.gz";
/// How long a whole restore may take, beside many others and in bad times.
const LONG: Duration = Duration::from_mins(4);

/// What the Jobs say in the contract.
pub fn message(name: &str) -> Value {
    let contract: Value =
        serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap();
    contract["messages"][name].clone()
}

/// Jobs that do what they should, but for one that says something else.
pub fn script(but: Option<(&'static str, &'static str)>) -> Script {
    Arc::new(move |document| {
        let job = document["job"].as_str()?;
        Some(match but {
            Some((wrong, said)) if wrong == job => message(said),
            _ => message(&format!("{job}_succeeded")),
        })
    })
}

/// Makes a restore of `nvda`, in place if `spec` says nothing else.
pub async fn restore(cluster: &Cluster, name: &str, spec: &Value) {
    let mut all = json!({
        "source": {"destination": {"volume": {}}}, "backup": BACKUP,
        "target": {"inPlace": {"predictorRef": {"name": "nvda"}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    let object: StorageRestore = serde_json::from_value(json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageRestore",
        "metadata": {"name": name}, "spec": all,
    }))
    .unwrap();
    let api = cluster.api::<StorageRestore>();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// Waits for a phase; the object then.
pub async fn reaches(cluster: &Cluster, name: &str, phase: &str) -> Value {
    shows::<StorageRestore>(cluster, name, phase, |object| {
        object["status"]["phase"] == phase
    })
    .await
}

async fn shows<K: Object>(
    cluster: &Cluster,
    name: &str,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let what = format!("{}: {name} is {what}", cluster.namespace());
    eventually(LONG, &what, async || {
        let object = json!(cluster.api::<K>().get_opt(name).await.unwrap());
        if holds(&object) {
            Ok(object)
        } else {
            Err(object["status"].to_string())
        }
    })
    .await
}

/// A predictor that serves.
pub async fn predictor(cluster: &Cluster, changes: &Value) {
    cluster.create("nvda", changes).await;
    serves(cluster).await;
}

/// Waits until it serves.
pub async fn serves(cluster: &Cluster) {
    eventually(LONG, "nvda serves", async || {
        let object = json!(cluster.get::<StockPredictor>("nvda").await);
        let ready = object["status"]["conditions"]
            .as_array()
            .and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"))
            .cloned()
            .unwrap_or_default();
        let pod = cluster.has::<Pod>("nvda-pod").await;
        if ready["status"] == "True" && pod {
            Ok(())
        } else {
            Err(ready.to_string())
        }
    })
    .await;
}

/// Tells the story that ends well.
pub async fn whole(namespace: String, trouble: Trouble) -> End {
    told(&Cluster::new(&namespace).await, false, trouble).await
}

/// Tells the one in which the switch fails.
pub async fn back(namespace: String, trouble: Trouble) -> End {
    told(&Cluster::new(&namespace).await, true, trouble).await
}

/// Tells it in this namespace.
pub async fn told(cluster: &Cluster, failing: bool, trouble: Trouble) -> End {
    let phase = if failing { "RolledBack" } else { "Completed" };
    let said = script(failing.then_some(("switch", "switch_failed")));
    let working = Arc::new(AtomicBool::new(trouble.middle.is_some()));
    let held = working.clone();
    let slow: Script = Arc::new(move |document| {
        if document["job"] == "prepare" && held.load(Ordering::SeqCst) {
            return None;
        }
        said(document)
    });
    let _world = World::play(cluster.client(), cluster.namespace(), slow);
    let first = cluster.operator();
    predictor(cluster, &json!({})).await;
    first.stop().await;

    let lives = Lives::begin(cluster, &trouble, Cluster::operator_with_clients);
    restore(cluster, "back", &json!({})).await;
    if trouble.middle.is_some() {
        reaches(cluster, "back", "Preparing").await;
        trouble.middle().await;
        working.store(false, Ordering::SeqCst);
    }
    reaches(cluster, "back", phase).await;
    shows::<StorageRestore>(cluster, "back", "let go", |object| {
        object["metadata"]["finalizers"].is_null()
    })
    .await;
    serves(cluster).await;
    // The last status of the predictor may still be on its way.
    tokio::time::sleep(Duration::from_secs(6)).await;
    End::of(cluster, &lives).await
}
