//! Restores on a real API server, with a scripted cluster: the story, its failures, and the operator's death at each of
//! its writes.
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
#[path = "common/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Cluster, SETTLED, eventually};
use crash::{Death, Life};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use stockpredictor_api::{StockPredictor, StorageRestore};
use world::{Script, World};

const BACKUP: &str = "stock_prediction_backup_20250801_120000.tar.gz";
/// How long a whole restore may take, beside many others.
const LONG: Duration = Duration::from_mins(2);

/// What the Jobs say in the contract.
fn message(name: &str) -> Value {
    let contract: Value = serde_json::from_str(include_str!("../../contracts/jobs.json")).unwrap();
    contract["messages"][name].clone()
}

/// Jobs that do what they should, but for one that says something else.
fn script(but: Option<(&'static str, &'static str)>) -> Script {
    Arc::new(move |document| {
        let job = document["job"].as_str()?;
        Some(match but {
            Some((wrong, said)) if wrong == job => message(said),
            _ => message(&format!("{job}_succeeded")),
        })
    })
}

async fn restore(cluster: &Cluster, name: &str, spec: &Value) {
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
async fn reaches(cluster: &Cluster, name: &str, phase: &str) -> Value {
    eventually(LONG, &format!("{name} is {phase}"), async || {
        let object = json!(cluster.api::<StorageRestore>().get_opt(name).await.unwrap());
        if object["status"]["phase"] == phase {
            Ok(object)
        } else {
            Err(object["status"].to_string())
        }
    })
    .await
}

/// A predictor that serves.
async fn predictor(cluster: &Cluster, changes: &Value) {
    cluster.create("nvda", changes).await;
    serves(cluster).await;
}

async fn serves(cluster: &Cluster) {
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

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_restore_in_place_stops_the_predictor_switches_proves_and_commits() {
    let cluster = Cluster::new("restored").await;
    let unused = Arc::new(AtomicBool::new(true));
    // Whoever touches the data has it alone.
    let (client, seen) = (cluster.client(), unused.clone());
    let guarded: Script = Arc::new(move |document| {
        let job = document["job"].as_str()?;
        if matches!(job, "prepare" | "switch") {
            let (client, seen) = (client.clone(), seen.clone());
            tokio::spawn(async move {
                let pods: kube::Api<Pod> = kube::Api::namespaced(client, "restored");
                if pods.get_opt("nvda-pod").await.unwrap().is_some() {
                    seen.store(false, Ordering::SeqCst);
                }
            });
        }
        Some(message(&format!("{job}_succeeded")))
    });
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
    let before = cluster
        .get::<StorageRestore>("back")
        .await
        .resource_version();
    tokio::time::sleep(SETTLED).await;
    assert_eq!(
        cluster
            .get::<StorageRestore>("back")
            .await
            .resource_version(),
        before
    );
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
    let before = cluster
        .get::<StockPredictor>("nvda")
        .await
        .resource_version();
    tokio::time::sleep(SETTLED).await;
    assert_eq!(
        cluster
            .get::<StockPredictor>("nvda")
            .await
            .resource_version(),
        before
    );
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

/// Everything that may differ between two runs of the same story.
fn plain(value: &mut Value) {
    // The digest covers names and uids, which differ.
    const TIMES: [&str; 14] = [
        "stockpredictor.io/applied-hash",
        "startedAt",
        "finishedAt",
        "duration",
        "downtime",
        "lastTransitionTime",
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "managedFields",
        "generation",
        "observedGeneration",
        "startTime",
        "completionTime",
    ];
    match value {
        Value::Object(members) => {
            members.retain(|key, _| !TIMES.contains(&key.as_str()) && !key.ends_with("Uid"));
            members.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

/// The end of a story: its objects without times, and how often things were made and deleted.
#[derive(Debug, PartialEq)]
struct End {
    objects: BTreeMap<String, String>,
    deeds: BTreeMap<String, usize>,
}

async fn end(cluster: &Cluster, lives: &[&Life]) -> End {
    let mut objects = BTreeMap::new();
    let namespace = cluster.namespace();
    let mut add = |name: String, mut value: Value| {
        plain(&mut value);
        // A Job's labels have the uid that the API server gave it.
        if name.starts_with("Job") {
            value = json!({"metadata": value["metadata"]["name"], "status": value["status"]["conditions"]});
        }
        let text = serde_json::to_string_pretty(&value).unwrap();
        objects.insert(name, text.replace(namespace, "NAMESPACE"));
    };
    for object in cluster
        .api::<StorageRestore>()
        .list(&ListParams::default())
        .await
        .unwrap()
    {
        add(
            format!("StorageRestore {}", object.name_any()),
            json!(object),
        );
    }
    for object in cluster
        .api::<Deployment>()
        .list(&ListParams::default())
        .await
        .unwrap()
    {
        add(format!("Deployment {}", object.name_any()), json!(object));
    }
    for object in cluster
        .api::<Job>()
        .list(&ListParams::default())
        .await
        .unwrap()
    {
        add(format!("Job {}", object.name_any()), json!(object));
    }
    for object in cluster
        .api::<StockPredictor>()
        .list(&ListParams::default())
        .await
        .unwrap()
    {
        add(
            format!("StockPredictor {}", object.name_any()),
            json!(object),
        );
    }
    let mut deeds = BTreeMap::new();
    for write in lives.iter().flat_map(|life| life.writes()) {
        let (method, path) = write.split_once(' ').unwrap();
        if ["POST", "DELETE"].contains(&method) && !path.ends_with("/events") {
            *deeds
                .entry(write.replace(namespace, "NAMESPACE"))
                .or_default() += 1;
        }
    }
    End { objects, deeds }
}

/// One story of which the operator dies once: it ends in `phase`. Gives the end and how many writes there were.
async fn story(namespace: &str, failing: bool, death: Death) -> (End, usize) {
    let phase = if failing { "RolledBack" } else { "Completed" };
    let cluster = Cluster::new(namespace).await;
    let but = failing.then_some(("switch", "switch_failed"));
    let _world = World::play(cluster.client(), namespace, script(but));
    let first = cluster.operator();
    predictor(&cluster, &json!({})).await;
    first.stop().await;

    let life = Life::new(cluster.client(), death);
    let mut operator = cluster.operator_with(life.client.clone());
    restore(&cluster, "back", &json!({})).await;
    let finished = async {
        let object = reaches(&cluster, "back", phase).await;
        assert!(object["status"]["phase"] == phase);
        cluster
            .until::<StorageRestore>("back", "let go", |object| {
                object["metadata"]["finalizers"].is_null()
            })
            .await;
        serves(&cluster).await;
    };
    let survived = tokio::select! {
        () = finished => true,
        () = life.death() => false,
    };
    let second = Life::new(cluster.client(), Death::Never);
    if !survived {
        operator.kill();
        operator = cluster.operator_with(second.client.clone());
        reaches(&cluster, "back", phase).await;
        cluster
            .until::<StorageRestore>("back", "let go", |object| {
                object["metadata"]["finalizers"].is_null()
            })
            .await;
        serves(&cluster).await;
    }
    // The last status of the predictor may still be on its way.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let end = end(&cluster, &[&life, &second]).await;
    operator.kill();
    (end, life.writes().len() + second.writes().len())
}

#[rstest]
#[case::to_the_end("whole", false)]
#[case::and_back("back", true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a kube-apiserver: make test"]
async fn the_operator_may_die_before_and_after_each_of_its_writes(
    #[case] name: &'static str,
    #[case] failing: bool,
) {
    let (undisturbed, writes) = story(&format!("crash-{name}"), failing, Death::Never).await;
    assert!(
        undisturbed.deeds.values().sum::<usize>() >= 4,
        "{:?}",
        undisturbed.deeds
    );
    let deaths = (0..writes).flat_map(|number| [Death::Before(number), Death::After(number)]);
    let ends = futures::stream::iter(deaths.map(|death| async move {
        let text = format!("{death:?}").to_lowercase().replace(['(', ')'], "-");
        let namespace = format!("crash-{name}-{}", text.trim_end_matches('-'));
        (death, story(&namespace, failing, death).await.0)
    }))
    .buffer_unordered(8)
    .collect::<Vec<_>>()
    .await;
    for (death, end) in ends {
        assert_eq!(end.deeds, undisturbed.deeds, "{death:?}");
        for (name, object) in &undisturbed.objects {
            assert_eq!(end.objects.get(name), Some(object), "{death:?}: {name}");
        }
        assert_eq!(end.objects.len(), undisturbed.objects.len(), "{death:?}");
    }
}
