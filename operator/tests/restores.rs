//! Restores on a real API server, with a scripted cluster: the story and its failures.
//!
//! Ignored by default, because they need the binaries that e2e/cluster/tools.sh builds; `make test` runs them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

mod common;
#[path = "common/crash.rs"]
mod crash;
#[path = "common/lives.rs"]
mod lives;
#[path = "common/restore_story.rs"]
mod restore_story;
#[path = "common/story.rs"]
mod story;
#[path = "common/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Cluster, SETTLED};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use restore_story::{BACKUP, message, predictor, reaches, restore, script, serves};
use rstest::rstest;
use serde_json::{Value, json};
use stockpredictor_api::{StockPredictor, StorageRestore};
use world::{Script, World};

async fn jobs(cluster: &Cluster) -> Vec<String> {
    let found = cluster
        .api::<Job>()
        .list(&ListParams::default())
        .await
        .unwrap();
    found.iter().map(ResourceExt::name_any).collect()
}

fn phases(restore: &Value) -> Vec<&str> {
    let phases = restore["status"]["phases"].as_array().unwrap();
    phases
        .iter()
        .map(|phase| phase["name"].as_str().unwrap())
        .collect()
}

fn ready(restore: &Value) -> (&str, &str) {
    let ready = &restore["status"]["conditions"][0];
    (
        ready["status"].as_str().unwrap(),
        ready["reason"].as_str().unwrap(),
    )
}

/// Jobs that do what they should, and whether those that touch the data had it alone, without any of `pods`.
fn guarded(cluster: &Cluster, pods: &'static [&'static str]) -> (Script, Arc<AtomicBool>) {
    let alone = Arc::new(AtomicBool::new(true));
    let (api, seen) = (cluster.api::<Pod>(), alone.clone());
    let script: Script = Arc::new(move |document| {
        let job = document["job"].as_str()?;
        if matches!(job, "prepare" | "switch") {
            let (api, seen) = (api.clone(), seen.clone());
            tokio::spawn(async move {
                for name in pods {
                    if api.get_opt(name).await.unwrap().is_some() {
                        seen.store(false, Ordering::SeqCst);
                    }
                }
            });
        }
        Some(message(&format!("{job}_succeeded")))
    });
    (script, alone)
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_restore_in_place_stops_the_predictor_switches_proves_and_commits() {
    let cluster = Cluster::new("restored").await;
    let (guarded, unused) = guarded(&cluster, &["nvda-pod"]);
    let _world = World::play(cluster.client(), cluster.namespace(), guarded);
    let operator = cluster.operator();
    predictor(&cluster, &json!({})).await;
    restore(&cluster, "back", &json!({})).await;
    let done = reaches(&cluster, "back", "Completed").await;
    assert!(
        unused.load(Ordering::SeqCst),
        "the predictor ran while its data was replaced"
    );
    assert_eq!(
        phases(&done),
        [
            "Pending",
            "Preflight",
            "Holding",
            "Preparing",
            "Switching",
            "Starting",
            "Committing"
        ]
    );
    assert_eq!(ready(&done), ("True", "Restored"));
    let status = &done["status"];
    assert_eq!(status["backup"]["name"], BACKUP);
    assert_eq!(status["restored"]["model"], "nvda_lstm_model/2023-12-29");
    assert_eq!(status["restored"]["files"], 42);
    assert!(status["downtime"].is_string() && status["duration"].is_string());
    for name in ["back", "nvda"] {
        cluster
            .event(
                name,
                if name == "back" {
                    "Completed"
                } else {
                    "AllGood"
                },
            )
            .await;
    }
    serves(&cluster).await;
    let deployment = json!(cluster.get::<Deployment>("nvda").await);
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert!(deployment["metadata"]["annotations"]["stockpredictor.io/held-by"].is_null());
    // Over, and silent.
    cluster
        .until::<StorageRestore>("back", "the finalizer is gone", |object| {
            object["metadata"]["finalizers"].is_null()
        })
        .await;
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;
    operator.stop().await;
}

#[rstest]
#[case::no_room("preflight", "preflight_failed", "Failed", "NoSpace", &["back-preflight"])]
#[case::prepare("prepare", "fill_failed", "RolledBack", "RolledBack", &["back-preflight", "back-prepare", "back-undo"])]
#[case::not_proven("switch", "switch_failed", "RolledBack", "RolledBack",
    &["back-preflight", "back-prepare", "back-switch", "back-undo"])]
#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_failure_leaves_the_old_data_and_a_predictor_that_serves(
    #[case] job: &'static str,
    #[case] said: &'static str,
    #[case] phase: &str,
    #[case] reason: &str,
    #[case] made: &[&str],
) {
    let cluster = Cluster::new(&format!("failed-{job}")).await;
    let _world = World::play(
        cluster.client(),
        cluster.namespace(),
        script(Some((job, said))),
    );
    let operator = cluster.operator();
    predictor(&cluster, &json!({})).await;
    restore(&cluster, "back", &json!({})).await;
    let done = reaches(&cluster, "back", phase).await;
    assert_eq!(ready(&done), ("False", reason));
    let failure = &done["status"]["failure"];
    assert_eq!(failure["reason"], message(said)["reason"]);
    assert_eq!(failure["message"], message(said)["message"]);
    assert_eq!(jobs(&cluster).await, made);
    serves(&cluster).await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_human_edit_does_not_start_the_predictor_while_its_volume_is_restored() {
    let cluster = Cluster::new("edited").await;
    let go_on = Arc::new(AtomicBool::new(false));
    let gate = go_on.clone();
    let slow: Script = Arc::new(move |document| {
        let job = document["job"].as_str()?;
        if job == "prepare" && !gate.load(Ordering::SeqCst) {
            return None;
        }
        Some(message(&format!("{job}_succeeded")))
    });
    let _world = World::play(cluster.client(), cluster.namespace(), slow);
    let operator = cluster.operator();
    predictor(&cluster, &json!({})).await;
    restore(&cluster, "back", &json!({})).await;
    reaches(&cluster, "back", "Preparing").await;
    cluster
        .condition("nvda", "Ready", "False", "RestoreInProgress")
        .await;
    cluster
        .patch::<Deployment>("nvda", &json!({"spec": {"replicas": 1}}))
        .await;
    cluster
        .until::<Deployment>("nvda", "stopped again", |deployment| {
            deployment["spec"]["replicas"] == 0
        })
        .await;
    // Another one waits for its turn, and a change of the spec is no way around it.
    restore(&cluster, "again", &json!({})).await;
    cluster
        .until::<StorageRestore>("again", "it waits", |object| {
            object["status"]["conditions"][0]["reason"] == "WaitsForRestore"
        })
        .await;
    // A deletion rolls back before the object goes.
    let api = cluster.api::<StorageRestore>();
    api.delete("back", &DeleteParams::default()).await.unwrap();
    go_on.store(true, Ordering::SeqCst);
    cluster.gone::<StorageRestore>("back").await;
    assert!(jobs(&cluster).await.contains(&"back-undo".to_owned()));
    reaches(&cluster, "again", "Completed").await;
    serves(&cluster).await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_dry_run_stops_nothing_and_shows_the_plan() {
    let cluster = Cluster::new("dry").await;
    let _world = World::play(cluster.client(), cluster.namespace(), script(None));
    let operator = cluster.operator();
    predictor(&cluster, &json!({})).await;
    let before = cluster.get::<Deployment>("nvda").await.resource_version();
    restore(&cluster, "plan", &json!({"dryRun": true})).await;
    let done = reaches(&cluster, "plan", "Planned").await;
    assert_eq!(ready(&done), ("True", "Planned"));
    assert_eq!(done["status"]["restored"]["parts"][0]["name"], "models");
    assert_eq!(jobs(&cluster).await, ["plan-preflight"]);
    assert_eq!(
        cluster.get::<Deployment>("nvda").await.resource_version(),
        before
    );
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_volume_for_one_pod_is_checked_after_the_hold_and_cleaned_up_in_another() {
    let cluster = Cluster::new("one-pod").await;
    let _world = World::play(cluster.client(), cluster.namespace(), script(None));
    let operator = cluster.operator();
    predictor(
        &cluster,
        &json!({"storage": {"accessMode": "ReadWriteOncePod"}}),
    )
    .await;
    restore(&cluster, "back", &json!({})).await;
    let done = reaches(&cluster, "back", "Completed").await;
    assert_eq!(
        phases(&done),
        [
            "Pending",
            "Holding",
            "Preparing",
            "Switching",
            "Starting",
            "Committing"
        ]
    );
    assert_eq!(
        jobs(&cluster).await,
        ["back-commit", "back-prepare", "back-switch"]
    );
    serves(&cluster).await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_new_claim_is_made_and_filled_and_one_that_exists_is_refused() {
    let cluster = Cluster::new("new-claim").await;
    let _world = World::play(cluster.client(), cluster.namespace(), script(None));
    let operator = cluster.operator();
    let spec = json!({
        "source": {"destination": {"claim": {"name": "nas"}}, "origin": {"predictor": "nvda"}},
        "target": {"newClaim": {"name": "fresh", "size": "1Gi"}},
    });
    restore(&cluster, "fill", &spec).await;
    let done = reaches(&cluster, "fill", "Completed").await;
    assert_eq!(phases(&done), ["Pending", "Preflight", "Filling"]);
    let claim = cluster.get::<PersistentVolumeClaim>("fresh").await;
    assert_eq!(
        claim.annotations()["stockpredictor.io/restore"],
        done["metadata"]["uid"]
    );
    assert!(claim.owner_references().is_empty());
    restore(&cluster, "twice", &spec).await;
    let refused = reaches(&cluster, "twice", "Failed").await;
    assert_eq!(ready(&refused), ("False", "ClaimExists"));
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_new_volume_is_filled_before_its_first_pod_and_a_failure_never_becomes_an_empty_one() {
    let cluster = Cluster::new("bootstrap").await;
    let broken = Arc::new(AtomicBool::new(true));
    let gate = broken.clone();
    let store: Script = Arc::new(move |document| {
        assert_eq!(document["job"], "fill");
        Some(message(if gate.load(Ordering::SeqCst) {
            "fill_failed"
        } else {
            "fill_succeeded"
        }))
    });
    let _world = World::play(cluster.client(), cluster.namespace(), store);
    let operator = cluster.operator();
    let place = |bucket: &str| {
        json!({"storage": {"bootstrapFrom": {"backup": "latestProven",
            "source": {"destination": {"objectStore": {"url": format!("s3://{bucket}/trading")}}}}}})
    };
    cluster.create("nvda", &place("wrong")).await;
    let told = cluster
        .condition("nvda", "VolumeReady", "False", "BootstrapFailed")
        .await;
    assert!(told.contains("refuses the credentials"), "{told}");
    assert!(
        !cluster.has::<Deployment>("nvda").await,
        "no pod on a volume that isn't filled"
    );
    let claim = cluster.get::<PersistentVolumeClaim>("nvda").await;
    assert_eq!(
        claim.annotations()["stockpredictor.io/bootstrap"],
        "Filling"
    );
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;
    // A corrected spec counts at once.
    broken.store(false, Ordering::SeqCst);
    cluster
        .patch::<StockPredictor>("nvda", &json!({"spec": place("backups")}))
        .await;
    serves(&cluster).await;
    let claim = cluster.get::<PersistentVolumeClaim>("nvda").await;
    assert_eq!(claim.annotations()["stockpredictor.io/bootstrap"], "Filled");
    let job = json!(cluster.get::<Job>("nvda-bootstrap").await);
    let text = job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].as_str();
    let document: Value = serde_json::from_str(text.unwrap()).unwrap();
    assert_eq!(document["restore"], json!(claim.uid()));
    assert_eq!(
        document["origin"],
        json!({"namespace": "bootstrap", "predictor": "nvda"})
    );
    // Without its Job, and without the wish, it stays what it is.
    let jobs = cluster.api::<Job>();
    jobs.delete("nvda-bootstrap", &DeleteParams::background())
        .await
        .unwrap();
    cluster
        .patch::<StockPredictor>(
            "nvda",
            &json!({"spec": {"storage": {"bootstrapFrom": null}}}),
        )
        .await;
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;
    assert!(!cluster.has::<Job>("nvda-bootstrap").await);
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn predictors_that_share_a_claim_are_both_stopped_and_both_start_again() {
    let cluster = Cluster::new("shared").await;
    let (guarded, alone) = guarded(&cluster, &["nvda-pod", "twin-pod"]);
    let _world = World::play(cluster.client(), cluster.namespace(), guarded);
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }))
    .unwrap();
    let claims = cluster.api::<PersistentVolumeClaim>();
    claims.create(&PostParams::default(), &claim).await.unwrap();
    let operator = cluster.operator();
    let shares =
        json!({"storage": {"size": null, "existingClaim": "data", "accessMode": "ReadWriteMany"}});
    cluster.create("twin", &shares).await;
    predictor(&cluster, &shares).await;
    cluster
        .until::<Deployment>("twin", "it runs", |deployment| {
            deployment["status"]["readyReplicas"] == 1
        })
        .await;
    restore(&cluster, "back", &json!({})).await;
    reaches(&cluster, "back", "Completed").await;
    assert!(
        alone.load(Ordering::SeqCst),
        "a predictor ran while its data was replaced"
    );
    serves(&cluster).await;
    cluster
        .until::<Deployment>("twin", "it runs again", |deployment| {
            deployment["spec"]["replicas"] == 1
                && deployment["metadata"]["annotations"]["stockpredictor.io/held-by"].is_null()
        })
        .await;
    operator.stop().await;
}

/// Nothing can be put back where the claim is gone; what remains is told and waits for nobody.
#[rstest]
#[case::its_predictor("nvda", "the old data is in place again")]
#[case::its_claim("claim", "it ended early")]
#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_deletion_during_a_restore_ends_it(#[case] what: &str, #[case] told: &str) {
    let cluster = Cluster::new(&format!("gone-{what}")).await;
    let slow: Script = Arc::new(|document| {
        let job = document["job"].as_str()?;
        (job != "prepare").then(|| message(&format!("{job}_succeeded")))
    });
    let _world = World::play(cluster.client(), cluster.namespace(), slow);
    let operator = cluster.operator();
    predictor(&cluster, &json!({})).await;
    restore(&cluster, "back", &json!({})).await;
    reaches(&cluster, "back", "Preparing").await;
    cluster
        .until::<Job>("back-prepare", "it works", |job| {
            job["metadata"].is_object()
        })
        .await;
    let now = DeleteParams::default();
    if what == "claim" {
        let api = cluster.api::<PersistentVolumeClaim>();
        api.delete("nvda", &now).await.unwrap();
    } else {
        let api = cluster.api::<StockPredictor>();
        api.delete("nvda", &now).await.unwrap();
    }
    let done = reaches(&cluster, "back", "RolledBack").await;
    let message = done["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.starts_with(told), "{message}");
    let undone = jobs(&cluster).await.contains(&"back-undo".to_owned());
    assert_eq!(undone, what != "claim");
    cluster
        .until::<StorageRestore>("back", "the finalizer is gone", |object| {
            object["metadata"]["finalizers"].is_null()
        })
        .await;
    operator.stop().await;
}
