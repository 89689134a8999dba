//! Backups on a real API server: `CronJobs` and Jobs as it takes them, silence, wishes that are granted once, and no crowd.
//!
//! There is no controller manager: the tests end Jobs themselves, and no `CronJob` fires. Ignored by default, because they need
//! the binaries that e2e/cluster/tools.sh builds; `make test` runs them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

mod common;

use std::time::Duration;

use common::{Cluster, Operator, SETTLED, eventually, merge};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use stockpredictor_api::StorageBackup;

const CONTRACT: &str = include_str!("../../contracts/jobs.json");

fn backup(name: &str, changes: &Value) -> StorageBackup {
    let mut spec = json!({"predictorRef": {"name": "nvda"}, "schedule": "15 3 * * *"});
    merge(&mut spec, changes);
    let object = json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageBackup", "metadata": {"name": name}, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

async fn create(cluster: &Cluster, name: &str, changes: &Value) {
    let object = backup(name, changes);
    cluster
        .api()
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

async fn jobs(cluster: &Cluster) -> Vec<Job> {
    cluster
        .api::<Job>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
}

/// Waits for the status of `name`.
async fn until(cluster: &Cluster, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let object = cluster
        .until::<StorageBackup>(name, what, |object| holds(&object["status"]))
        .await;
    object["status"].clone()
}

fn reason(status: &Value, kind: &str) -> Value {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition["type"] == kind);
    found.unwrap_or_default()["reason"].clone()
}

/// Ends a Job the way its controller and a kubelet do, with a message of the contract.
async fn end(cluster: &Cluster, job: &str, message: &str) {
    let contract: Value = serde_json::from_str(CONTRACT).unwrap();
    let text = contract["messages"][message].to_string();
    let live = cluster.get::<Job>(job).await;
    let template = json!(live.spec.as_ref().unwrap().template);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": format!("{job}-x"),
            "labels": {"batch.kubernetes.io/job-name": job},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": live.uid(), "controller": true}],
        },
        "spec": template["spec"],
    }))
    .unwrap();
    let pods = cluster.api::<Pod>();
    let mut pod = pod;
    pod.labels_mut().extend(live.labels().clone());
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let status = json!({"status": {"phase": "Succeeded", "containerStatuses": [{
        "name": "job", "image": "x", "imageID": "x", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed", "message": text}}}]}});
    pods.patch_status(
        &format!("{job}-x"),
        &PatchParams::default(),
        &Patch::Merge(&status),
    )
    .await
    .unwrap();
    let now = k8s_openapi::jiff::Timestamp::now();
    let now = k8s_openapi::jiff::Timestamp::from_second(now.as_second())
        .unwrap()
        .to_string();
    let done = |kind: &str| json!({"type": kind, "status": "True", "reason": "CompletionsReached", "message": "", "lastTransitionTime": now});
    let status = json!({"status": {
        "startTime": now, "completionTime": now, "succeeded": 1, "ready": 0, "terminating": 0, "uncountedTerminatedPods": {},
        "conditions": [done("SuccessCriteriaMet"), done("Complete")],
    }});
    cluster
        .api::<Job>()
        .patch_status(job, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_backup_becomes_cron_jobs_and_then_there_is_silence_even_over_a_restart() {
    let cluster = Cluster::new("backups").await;
    let operator = cluster.backup_operator();
    create(&cluster, "early", &json!({})).await;
    until(&cluster, "early", "the predictor is missed", |status| {
        reason(status, "Scheduled") == "PredictorMissing"
    })
    .await;
    cluster.event("early", "PredictorMissing").await;
    cluster
        .create(
            "nvda",
            &json!({"tolerations": [{"key": "gpu", "operator": "Exists"}]}),
        )
        .await;
    // Everything that the API server fills with defaults or drops parts of.
    let everything = json!({
        "timeZone": "Europe/Berlin", "mode": "Incremental", "fullEvery": "7d", "startingDeadlineSeconds": 600,
        "verification": {"identitySecret": {"name": "age", "key": "key.txt"}, "restoreTest": {"schedule": "@weekly", "scratchSize": "0.5Gi"}},
        "destinations": [
            {"name": "volume", "volume": {}},
            {"name": "nas", "claim": {"name": "nas", "path": "a/b"}, "retention": {"last": 3, "monthly": 12}},
            {"name": "offsite", "objectStore": {"url": "s3://backups/x", "credentialsSecret": {"name": "s3"}, "caSecret": {"name": "s3", "key": "ca.crt"}}},
        ],
        "pod": {"resources": {"limits": {"cpu": 2, "memory": "0.5Gi"}}, "nodeSelector": {"disk": ""}, "priorityClassName": "low",
            "tolerations": [{"key": "", "operator": "Exists", "effect": "", "value": ""}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}},
    });
    create(&cluster, "full", &everything).await;
    for name in ["early", "full"] {
        let status = until(&cluster, name, "it is scheduled", |status| {
            reason(status, "Scheduled") == "Active"
        })
        .await;
        assert!(status["nextRun"].is_string(), "{status}");
    }
    assert!(cluster.has::<CronJob>("early-backup").await);
    assert!(!cluster.has::<CronJob>("early-test").await);
    assert!(cluster.has::<CronJob>("full-test").await);
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;
    operator.stop().await;
    let operator = cluster.backup_operator();
    cluster.unchanged(&before, SETTLED).await;

    // Drift is repaired, and what is not wanted any more goes.
    let drift = json!({"spec": {"suspend": true, "schedule": "0 0 1 1 *"}});
    cluster.patch::<CronJob>("full-backup", &drift).await;
    cluster
        .until::<CronJob>("full-backup", "the schedule is put back", |cron| {
            cron["spec"]["suspend"] == false && cron["spec"]["schedule"] == "15 3 * * *"
        })
        .await;
    let less = json!({"spec": {"verification": {"restoreTest": null}}});
    cluster.patch::<StorageBackup>("full", &less).await;
    cluster.gone::<CronJob>("full-test").await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn each_change_of_the_trigger_makes_one_run_and_runs_wait_for_each_other() {
    let cluster = Cluster::new("triggered").await;
    let operator = cluster.backup_operator();
    cluster.create("nvda", &json!({})).await;
    create(
        &cluster,
        "daily",
        &json!({"suspend": true, "trigger": "one"}),
    )
    .await;
    let status = until(&cluster, "daily", "the trigger is acknowledged", |s| {
        s["acknowledgedTrigger"] == "one"
    })
    .await;
    let first = status["active"].as_str().unwrap().to_owned();
    cluster.event("daily", "BackupStarted").await;

    // A second wish waits for the first run, also over a restart.
    cluster
        .patch::<StorageBackup>("daily", &json!({"spec": {"trigger": "two"}}))
        .await;
    operator.stop().await;
    let operator = cluster.backup_operator();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(jobs(&cluster).await.len(), 1);
    end(&cluster, &first, "backup_succeeded").await;
    let status = until(&cluster, "daily", "the second run begins", |s| {
        s["acknowledgedTrigger"] == "two"
    })
    .await;
    assert_eq!(status["lastRun"]["job"], first.as_str());
    assert_eq!(status["lastRun"]["kind"], "Manual");
    assert_eq!(status["backups"][0]["level"], "Readable");
    assert_eq!(status["level"], "Readable");
    assert_eq!(jobs(&cluster).await.len(), 2);
    cluster.event("daily", "BackupSucceeded").await;

    // Back to the first text is a change too; and history has a limit.
    let mut active = status["active"].as_str().unwrap().to_owned();
    for (number, trigger) in ["one", "two", "one", "two"].into_iter().enumerate() {
        end(&cluster, &active, "backup_succeeded").await;
        cluster
            .patch::<StorageBackup>("daily", &json!({"spec": {"trigger": trigger}}))
            .await;
        let runs = number + 3;
        let status = until(&cluster, "daily", "another run", |s| {
            s["manualRuns"] == runs
        })
        .await;
        active = status["active"].as_str().unwrap().to_owned();
    }
    end(&cluster, &active, "backup_succeeded").await;
    eventually(common::SOON, "three finished Jobs stay", async || {
        let left = jobs(&cluster).await.len();
        if left == 3 {
            Ok(())
        } else {
            Err(left.to_string())
        }
    })
    .await;
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;
    operator.stop().await;
}

/// The lines of a scrape that are about one object, without help.
fn series(operator: &Operator, name: &str) -> Vec<String> {
    let text = operator.metrics.encode().unwrap();
    let label = format!("name=\"{name}\"");
    let lines = text.lines().filter(|line| line.contains(&label));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_scrape_shows_the_last_success_until_the_object_is_gone() {
    let cluster = Cluster::new("scraped").await;
    let operator = cluster.backup_operator();
    cluster.create("nvda", &json!({})).await;
    cluster.set_up("nvda").await;
    for name in ["daily", "other"] {
        create(&cluster, name, &json!({"runOnCreate": name == "daily"})).await;
    }
    let status = until(&cluster, "daily", "the first run begins", |status| {
        status["active"].is_string()
    })
    .await;
    let label = "{namespace=\"scraped\",name=\"daily\"}";
    let success = format!("backup_last_success_timestamp{label} ");
    assert!(series(&operator, "daily").contains(&format!("{success}0")));
    end(
        &cluster,
        status["active"].as_str().unwrap(),
        "backup_succeeded",
    )
    .await;
    let status = until(&cluster, "daily", "it succeeded", |status| {
        status["lastSuccess"].is_string()
    })
    .await;
    let time: Timestamp = status["lastSuccess"].as_str().unwrap().parse().unwrap();
    let expected = [
        format!("{success}{}", time.as_second()),
        format!("stockpredictor_operator_backup_last_run_success{label} 1"),
        format!("stockpredictor_operator_backup_level{label} 2"),
        format!("stockpredictor_operator_backup_expected_interval_seconds{label} 86400"),
    ];
    eventually(common::SOON, "the scrape shows it", async || {
        let found = series(&operator, "daily");
        let missing: Vec<_> = expected
            .iter()
            .filter(|line| !found.contains(line))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("no {missing:?} in {found:#?}"))
        }
    })
    .await;

    // Whoever scrapes changes nothing.
    let before = cluster.settled().await;
    for _ in 0..100 {
        series(&operator, "daily");
    }
    cluster.unchanged(&before, Duration::from_secs(2)).await;

    let backups = cluster.api::<StorageBackup>();
    backups
        .delete("daily", &DeleteParams::default())
        .await
        .unwrap();
    cluster.gone::<StorageBackup>("daily").await;
    eventually(common::SOON, "its series are gone", async || {
        let left = series(&operator, "daily");
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:#?}"))
        }
    })
    .await;
    assert!(!series(&operator, "other").is_empty());
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_schedule_that_is_edited_a_hundred_times_makes_no_crowd() {
    let cluster = Cluster::new("edited").await;
    let operator = cluster.backup_operator();
    cluster.create("nvda", &json!({})).await;
    cluster.set_up("nvda").await;
    create(&cluster, "daily", &json!({"runOnCreate": true})).await;
    for minute in 0..100 {
        let schedule = format!("{} {} * * *", minute % 60, minute / 60);
        cluster
            .patch::<StorageBackup>("daily", &json!({"spec": {"schedule": schedule}}))
            .await;
    }
    cluster
        .until::<CronJob>("daily-backup", "the last schedule counts", |cron| {
            cron["spec"]["schedule"] == "39 1 * * *"
        })
        .await;
    assert_eq!(jobs(&cluster).await.len(), 1, "the first run, once");
    let crons = cluster
        .api::<CronJob>()
        .list(&ListParams::default())
        .await
        .unwrap();
    assert_eq!(crons.items.len(), 1);
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn an_object_that_comes_and_goes_a_hundred_times_makes_no_crowd() {
    let cluster = Cluster::new("flapping").await;
    let operator = cluster.backup_operator();
    cluster.create("nvda", &json!({})).await;
    cluster.set_up("nvda").await;
    for _ in 0..100 {
        create(&cluster, "daily", &json!({"runOnCreate": true})).await;
        cluster
            .api::<StorageBackup>()
            .delete("daily", &DeleteParams::default())
            .await
            .unwrap();
        cluster.gone::<StorageBackup>("daily").await;
    }
    create(&cluster, "daily", &json!({"runOnCreate": true})).await;
    until(&cluster, "daily", "a status", |status| {
        status["conditions"].is_array()
    })
    .await;
    // Nobody collects garbage here, so a Job of a former object works on; the one that lives waits for it.
    let count = jobs(&cluster).await.len();
    assert!(count <= 1, "{count} Jobs");
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn five_hundred_backups_at_rest_cause_no_writes() {
    let cluster = Cluster::new("many").await;
    cluster.create("nvda", &json!({})).await;
    for number in 0..500 {
        create(&cluster, &format!("b{number}"), &json!({})).await;
    }
    let operator = cluster.backup_operator();
    eventually(
        Duration::from_mins(3),
        "every object has a status",
        async || {
            let all = cluster
                .api::<StorageBackup>()
                .list(&ListParams::default())
                .await
                .unwrap();
            let missing = all.iter().filter(|backup| backup.status.is_none()).count();
            if missing == 0 {
                Ok(())
            } else {
                Err(format!("{missing} without"))
            }
        },
    )
    .await;
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;
    operator.stop().await;
}
