//! The story of a `StorageBackup`: its first run, runs by hand of which one fails, another schedule, and restore tests that
//! come and go.
//!
//! In: a namespace and what goes wrong for the operator. Out: the end. The user does the next thing when the last one shows,
//! and knows nothing of the operator's troubles.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::batch::v1::CronJob;
use kube::api::PostParams;
use serde_json::{Value, json};
use stockpredictor_api::StorageBackup;

use crate::common::{Cluster, eventually};
use crate::lives::{Lives, Trouble};
use crate::story::End;
use crate::world::{Script, World};

/// How long a step may take, beside many other stories and in bad times.
const LONG: Duration = Duration::from_mins(4);

/// What Jobs say: each success is another archive.
struct Said {
    message: Mutex<&'static str>,
    archive: AtomicUsize,
    working: AtomicBool,
}

impl Said {
    fn script(self: &Arc<Self>) -> Script {
        let said = self.clone();
        Arc::new(move |_| {
            if said.working.load(Ordering::SeqCst) {
                return None;
            }
            let contract: Value =
                serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap();
            let text = contract["messages"][*said.message.lock().unwrap()].to_string();
            let number = said.archive.load(Ordering::SeqCst);
            let text = text.replace("20250801_12000", &format!("20250801_12{number:02}0"));
            let text = text.replace("9b74c989", &format!("{number:08}"));
            Some(serde_json::from_str(&text).unwrap())
        })
    }

    fn next(&self, message: &'static str) {
        *self.message.lock().unwrap() = message;
        self.archive.fetch_add(1, Ordering::SeqCst);
    }
}

async fn until(cluster: &Cluster, what: &str, holds: impl Fn(&Value) -> bool) {
    let what = format!("{}: {what}", cluster.namespace());
    eventually(LONG, &what, async || {
        let object = json!(cluster.get::<StorageBackup>("daily").await);
        if holds(&object["status"]) {
            Ok(())
        } else {
            Err(object["status"].to_string())
        }
    })
    .await;
}

/// Waits until the run whose Job's name has this part is over and told of.
async fn over(cluster: &Cluster, part: &str, result: &str) {
    let what = format!("the run {part} is {result}");
    until(cluster, &what, |status| {
        let last = &status["lastRun"];
        let job = last["job"].as_str().unwrap_or_default();
        status["active"].is_null() && job.contains(part) && last["result"] == result
    })
    .await;
}

async fn change(cluster: &Cluster, spec: &Value) {
    let patch = json!({"spec": spec});
    cluster.patch::<StorageBackup>("daily", &patch).await;
}

/// Tells it.
pub async fn story(namespace: String, trouble: Trouble) -> End {
    let cluster = Cluster::new(&namespace).await;
    told(&cluster, trouble).await
}

/// Tells it in this namespace.
pub async fn told(cluster: &Cluster, trouble: Trouble) -> End {
    let said = Arc::new(Said {
        message: Mutex::new("backup_succeeded"),
        archive: AtomicUsize::new(0),
        working: AtomicBool::new(false),
    });
    let _world = World::play(cluster.client(), cluster.namespace(), said.script());
    cluster.create("nvda", &json!({})).await;
    cluster.set_up("nvda").await;
    let lives = Lives::begin(cluster, &trouble, Cluster::backup_operator_with);
    let object: StorageBackup = serde_json::from_value(json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageBackup", "metadata": {"name": "daily"},
        "spec": {
            // Once a year, so that the next time is the same for all stories.
            "predictorRef": {"name": "nvda"}, "schedule": "0 0 1 7 *", "runOnCreate": true,
            "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1,
        },
    }))
    .unwrap();
    let api = cluster.api::<StorageBackup>();
    api.create(&PostParams::default(), &object).await.unwrap();
    over(cluster, "-first-", "Succeeded").await;

    said.next("backup_succeeded");
    said.working
        .store(trouble.middle.is_some(), Ordering::SeqCst);
    change(cluster, &json!({"trigger": "one"})).await;
    until(cluster, "it works", |status| {
        status["acknowledgedTrigger"] == "one"
    })
    .await;
    trouble.middle().await;
    said.working.store(false, Ordering::SeqCst);
    over(cluster, "-0", "Succeeded").await;
    said.next("backup_failed");
    change(cluster, &json!({"trigger": "two"})).await;
    over(cluster, "-1", "Failed").await;
    said.next("backup_succeeded");
    change(cluster, &json!({"trigger": "three"})).await;
    over(cluster, "-2", "Succeeded").await;

    change(cluster, &json!({"schedule": "0 0 2 7 *"})).await;
    until(cluster, "the new schedule counts", |status| {
        status["nextRun"]
            .as_str()
            .is_some_and(|next| next.contains("-07-02"))
    })
    .await;
    let tests = json!({"verification": {"restoreTest": {"schedule": "0 0 3 7 *"}}});
    change(cluster, &tests).await;
    until(cluster, "a restore test is due", |status| {
        status["nextTest"].is_string()
    })
    .await;
    eventually(LONG, "tests are scheduled", async || {
        let there = cluster.has::<CronJob>("daily-test").await;
        there.then_some(()).ok_or_else(|| "they aren't".to_owned())
    })
    .await;
    change(cluster, &json!({"verification": {"restoreTest": null}})).await;
    until(cluster, "no restore test is due", |status| {
        status["nextTest"].is_null()
    })
    .await;
    eventually(LONG, "no tests are scheduled", async || {
        let there = cluster.has::<CronJob>("daily-test").await;
        (!there).then_some(()).ok_or_else(|| "they are".to_owned())
    })
    .await;
    cluster.settled().await;
    End::of(cluster, &lives).await
}
