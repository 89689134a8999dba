//! Whole passes against an API server made of a function.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{self, Store, store::Writer as StoreWriter};
use kube::runtime::watcher::Event;
use rstest::rstest;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::mock::{Asked, Log, refusal, server};
use crate::stock_predictor::fixture as predictors;

/// A cache with these documents.
pub(super) fn store<K>(documents: &[Value]) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + 'static,
{
    let (store, mut writer): (Store<K>, StoreWriter<K>) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    for document in documents {
        let mut document = document.clone();
        document["metadata"]["namespace"] = json!("default");
        writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(document).unwrap()));
    }
    writer.apply_watcher_event(&Event::InitDone);
    store
}

/// What the caches have.
#[derive(Clone)]
struct World {
    predictor: Option<Value>,
    crons: Vec<Value>,
    jobs: Vec<Value>,
    pods: Vec<Value>,
    held: Option<&'static str>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            predictor: Some(json!({})),
            crons: Vec::new(),
            jobs: Vec::new(),
            pods: Vec::new(),
            held: None,
        }
    }
}

fn context(client: &Client, world: &World) -> Context {
    let predictor = world.predictor.as_ref();
    let predictor = predictor.map(|changes| json!(predictors::predictor(changes)));
    let restores = world.held.map(|name| {
        json!({
            "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageRestore",
            "metadata": {"name": name, "namespace": "default", "uid": "u"},
            "spec": {"source": {}, "target": {"inPlace": {"predictorRef": {"name": "nvda"}}}},
            "status": {"phase": "Holding"},
        })
    });
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
        caches: Caches {
            cron_jobs: store(&world.crons),
            jobs: store(&world.jobs),
            pods: store(&world.pods),
            predictors: store(&predictor.into_iter().collect::<Vec<_>>()),
            restores: store(&restores.into_iter().collect::<Vec<_>>()),
        },
        defaults: predictors::defaults(),
        metrics: Metrics::new(),
        backoff: Backoff::default(),
    }
}

/// An empty cluster that has the object and takes everything.
fn accepting(object: &StorageBackup) -> impl Fn(&Asked) -> Option<(u16, Value)> + Send + 'static {
    let object = json!(object);
    move |asked| {
        Some(match asked.method.as_str() {
            _ if asked.path.contains("/storagebackups/") => (200, object.clone()),
            "GET" if asked.path.ends_with("/pods") || asked.path.ends_with("/events") => {
                (200, json!({"metadata": {}, "items": []}))
            }
            "GET" => refusal(404, "not found"),
            _ => (201, asked.body.clone()),
        })
    }
}

/// A pass in that world; what was written.
async fn pass(object: &StorageBackup, world: &World) -> (Log, Result<Duration, Error>) {
    let (client, log) = server(accepting(object));
    let outcome = reconcile(object, &context(&client, world)).await;
    (log, outcome)
}

fn body(log: &Log, path: &str) -> Value {
    let asked = log.asked();
    let found = asked
        .iter()
        .rev()
        .find(|asked| asked.method != "GET" && asked.path.ends_with(path));
    found.map(|asked| asked.body.clone()).unwrap_or_default()
}

fn status(log: &Log) -> Value {
    body(log, "/storagebackups/daily/status")["status"].clone()
}

fn reason(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition["type"] == kind);
    found.unwrap_or_default()["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn events(log: &Log) -> Vec<String> {
    let asked = log.asked();
    let events = asked
        .iter()
        .filter(|asked| asked.method == "POST" && asked.path.ends_with("/events"));
    events
        .map(|asked| asked.body["reason"].as_str().unwrap().to_owned())
        .collect()
}

/// A Job of the `CronJob` with the uid `c`, its pod's message taken from the contract.
fn job(name: &str, condition: Option<&str>, owner: &str) -> Value {
    let conditions: Vec<_> = condition
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "reason": "", "lastTransitionTime": "2025-08-01T11:30:05Z"}))
        .collect();
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": name, "uid": format!("uid-{name}"), "creationTimestamp": "2025-08-01T11:30:00Z",
            "labels": crate::job::labels("daily", crate::job::Component::Backup),
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "daily-backup", "uid": owner, "controller": true}],
        },
        "spec": {"template": {}},
        "status": {"startTime": "2025-08-01T11:30:01Z", "conditions": conditions},
    })
}

fn pod(job: &str, message: &str, code: i32) -> Value {
    let contract: Value =
        serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap();
    let text = contract["messages"][message].to_string();
    json!({
        "metadata": {
            "name": format!("{job}-x"), "uid": format!("pod-{job}"), "creationTimestamp": "2025-08-01T11:30:01Z",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": format!("uid-{job}")}],
        },
        "status": {"phase": if code == 0 { "Succeeded" } else { "Failed" }, "containerStatuses": [{
            "name": "job", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "message": text}}}]},
    })
}

fn cron() -> Value {
    json!({"metadata": {"name": "daily-backup", "uid": "c"}, "spec": {"schedule": "0 3 * * *", "jobTemplate": {}}})
}

/// The object and its `CronJob` after a first pass, as the API server has them.
async fn settled(spec: &Value) -> (StorageBackup, World) {
    let mut object = fixture::backup(spec);
    let (log, outcome) = pass(&object, &World::default()).await;
    outcome.unwrap();
    object.status = serde_json::from_value(status(&log)).unwrap();
    let mut cron = body(&log, "/cronjobs/daily-backup");
    cron["metadata"]["uid"] = json!("c");
    let world = World {
        crons: vec![cron],
        ..World::default()
    };
    (object, world)
}

/// The `CronJob` that a pass applied, as the API server has it.
fn suspended(log: &Log) -> Value {
    let mut cron = body(log, "/cronjobs/daily-backup");
    cron["metadata"]["uid"] = json!("c");
    cron
}

#[tokio::test]
async fn at_first_sight_there_is_a_cron_job_and_a_status() {
    let (log, again) = pass(&fixture::backup(&json!({})), &World::default()).await;
    assert_eq!(
        log.writes(),
        [
            "PATCH cronjobs/daily-backup",
            "PATCH storagebackups/daily/status"
        ]
    );
    let status = status(&log);
    assert_eq!(reason(&status, "Scheduled"), "Active");
    assert_eq!(reason(&status, "Ready"), "NoBackupYet");
    assert!(status["nextRun"].is_string());
    assert!(again.unwrap() <= REST);
}

#[tokio::test]
async fn a_steady_state_asks_the_api_server_nothing() {
    let (object, world) = settled(&json!({})).await;
    let (client, log) = server(|_| None);
    reconcile(&object, &context(&client, &world)).await.unwrap();
    assert_eq!(log.asked(), []);
}

#[tokio::test]
async fn a_trigger_begins_one_job_and_is_acknowledged() {
    let (mut object, mut world) = settled(&json!({})).await;
    object.spec.trigger = Some("now".into());
    let (log, _) = pass(&object, &world).await;
    assert_eq!(
        log.writes(),
        [
            "PATCH cronjobs/daily-backup",
            "POST jobs",
            "PATCH storagebackups/daily/status",
            "POST events"
        ]
    );
    assert_eq!(
        body(&log, "/cronjobs/daily-backup")["spec"]["suspend"],
        true
    );
    let (job, told) = (body(&log, "/jobs"), status(&log));
    assert_eq!(told["acknowledgedTrigger"], "now");
    assert_eq!(told["active"], job["metadata"]["name"]);
    assert_eq!(events(&log), ["BackupStarted"]);

    // A pass whose cache doesn't have the Job yet asks for it, and changes nothing.
    object.status = serde_json::from_value(told).unwrap();
    world.crons = vec![suspended(&log)];
    let (accept, live) = (accepting(&object), job.clone());
    let (client, log) = server(move |asked| {
        if asked.path.contains("/jobs/") {
            return Some((200, live.clone()));
        }
        accept(asked)
    });
    reconcile(&object, &context(&client, &world)).await.unwrap();
    assert_eq!(log.writes(), [""; 0]);

    // The next pass sees the Job and makes no other one.
    world.jobs = vec![job];
    let (log, again) = pass(&object, &world).await;
    assert_eq!(log.writes(), [""; 0]);
    assert_eq!(again.unwrap(), BUSY);
}

#[tokio::test]
async fn a_stale_cache_never_makes_a_second_job() {
    let (mut object, world) = settled(&json!({})).await;
    object.spec.trigger = Some("later".into());
    // The API server has the Job of an earlier trigger under that number.
    let accept = accepting(&object);
    let old = json!(
        build::build_run(
            &fixture::validated(&json!({})),
            &plan::Begin::Manual {
                trigger: "now".into(),
                number: 0
            },
        )
        .unwrap()
    );
    let (client, log) = server(move |asked| match asked.method.as_str() {
        "POST" if asked.path.ends_with("/jobs") => Some(refusal(409, "exists")),
        "GET" if asked.path.contains("/jobs/") => Some((200, old.clone())),
        _ => accept(asked),
    });
    let again = reconcile(&object, &context(&client, &world)).await.unwrap();
    assert_eq!(
        status(&log)["acknowledgedTrigger"],
        Value::Null,
        "nothing began for it"
    );
    assert_eq!(again, BUSY);
}

#[tokio::test]
async fn a_run_that_ended_becomes_the_status_and_its_events() {
    let (object, mut world) = settled(&json!({})).await;
    world.jobs = vec![job("daily-backup-1", Some("Complete"), "c")];
    world.pods = vec![pod("daily-backup-1", "backup_succeeded", 0)];
    let (log, _) = pass(&object, &world).await;
    assert_eq!(events(&log), ["BackupSucceeded", "BackupVerified"]);
    let told = status(&log);
    assert_eq!(told["lastSuccess"], "2025-08-01T11:30:01Z");
    assert_eq!(told["backups"][0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(reason(&told, "Ready"), "AllGood");

    // Once told, it is silent.
    let mut object = object;
    object.status = serde_json::from_value(told).unwrap();
    let (log, _) = pass(&object, &world).await;
    assert_eq!(log.asked(), []);
}

#[tokio::test]
async fn a_report_that_the_cache_does_not_have_yet_is_asked_for() {
    let (object, mut world) = settled(&json!({})).await;
    world.jobs = vec![job("daily-backup-1", Some("Complete"), "c")];
    let accept = accepting(&object);
    let (client, log) = server(move |asked| {
        if asked.path.ends_with("/pods") {
            let items = [pod("daily-backup-1", "backup_succeeded", 0)];
            return Some((200, json!({"metadata": {}, "items": items})));
        }
        accept(asked)
    });
    reconcile(&object, &context(&client, &world)).await.unwrap();
    assert!(status(&log)["attested"].is_object());
}

#[tokio::test]
async fn a_failure_and_the_recovery_are_told() {
    let (mut object, mut world) = settled(&json!({})).await;
    world.jobs = vec![job("daily-backup-1", Some("Failed"), "c")];
    world.pods = vec![pod("daily-backup-1", "backup_failed", 1)];
    let (log, _) = pass(&object, &world).await;
    assert_eq!(events(&log)[0], "BackupFailed");
    let told = status(&log);
    assert_eq!(reason(&told, "LastBackupSucceeded"), "DestinationsFailed");
    object.status = serde_json::from_value(told).unwrap();
    let mut good = job("daily-backup-2", Some("Complete"), "c");
    good["status"]["conditions"][0]["lastTransitionTime"] = json!("2025-08-01T11:40:00Z");
    world.jobs.push(good);
    world
        .pods
        .push(pod("daily-backup-2", "backup_succeeded", 0));
    let (log, _) = pass(&object, &world).await;
    assert!(
        events(&log).contains(&"BackupRecovered".to_owned()),
        "{:?}",
        events(&log)
    );
}

#[tokio::test]
async fn jobs_of_a_former_object_say_nothing_and_are_waited_for() {
    let (mut object, mut world) = settled(&json!({"schedule": null})).await;
    object.spec.trigger = Some("now".into());
    world.crons.clear();
    world.jobs = vec![job("daily-backup-1", Some("Complete"), "gone")];
    world.pods = vec![pod("daily-backup-1", "backup_succeeded", 0)];
    let (log, _) = pass(&object, &world).await;
    assert!(status(&log)["backups"].is_null());
    assert!(log.writes().contains(&"POST jobs".to_owned()));
    world.jobs = vec![job("daily-backup-1", None, "gone")];
    world.pods.clear();
    let (log, _) = pass(&object, &world).await;
    assert!(
        !log.writes().contains(&"POST jobs".to_owned()),
        "{:?}",
        log.writes()
    );
}

#[rstest]
#[case::no_predictor(World { predictor: None, ..World::default() }, json!({}), "PredictorMissing", true)]
#[case::one_pod(World { predictor: Some(json!({"storage": {"accessMode": "ReadWriteOncePod"}})), ..World::default() }, json!({}), "VolumeForOnePod", true)]
#[case::schedule(World::default(), json!({"schedule": "0 24 * * *"}), "InvalidSchedule", false)]
#[tokio::test]
async fn what_cannot_run_is_a_condition_and_makes_no_job(
    #[case] mut world: World,
    #[case] spec: Value,
    #[case] expected: &str,
    #[case] removed: bool,
) {
    let mut object = fixture::backup(&spec);
    object.spec.trigger = Some("now".into());
    let mut live = cron();
    live["metadata"]["labels"] = json!(crate::job::labels("daily", crate::job::Component::Backup));
    live["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "a", "kind": "StorageBackup", "name": "daily", "uid": fixture::UID}]);
    world.crons = vec![live];
    let (log, outcome) = pass(&object, &world).await;
    outcome.unwrap();
    assert_eq!(reason(&status(&log), "Scheduled"), expected);
    assert_eq!(events(&log), [expected]);
    let deleted = log
        .writes()
        .contains(&"DELETE cronjobs/daily-backup".to_owned());
    assert_eq!(deleted, removed, "{:?}", log.writes());
    assert!(!log.writes().contains(&"POST jobs".to_owned()));
}

#[tokio::test]
async fn a_restore_holds_everything_back_and_lets_go() {
    let (object, mut world) = settled(&json!({})).await;
    world.held = Some("back");
    let (log, _) = pass(&object, &world).await;
    assert_eq!(
        body(&log, "/cronjobs/daily-backup")["spec"]["suspend"],
        true
    );
    assert_eq!(reason(&status(&log), "Scheduled"), "HeldByRestore");
    assert_eq!(status(&log)["nextRun"], Value::Null);
    assert_eq!(events(&log), [""; 0], "it is on purpose");
}

#[tokio::test]
async fn a_refused_cron_job_is_told_and_what_runs_reported_is_kept() {
    let object = fixture::backup(&json!({}));
    let world = World {
        crons: vec![cron()],
        jobs: vec![job("daily-backup-1", Some("Complete"), "c")],
        pods: vec![pod("daily-backup-1", "backup_succeeded", 0)],
        ..World::default()
    };
    let accept = accepting(&object);
    let (client, log) = server(move |asked| {
        if asked.method == "PATCH" && asked.path.contains("/cronjobs/") {
            Some(refusal(403, "exceeded quota"))
        } else {
            accept(asked)
        }
    });
    let error = reconcile(&object, &context(&client, &world))
        .await
        .unwrap_err();
    assert_eq!(error.category(), "forbidden");
    let told = status(&log);
    assert_eq!(reason(&told, "Scheduled"), "ApplyRefused");
    assert!(told["attested"].is_object());
}

#[test]
fn caches_of_the_tests_find_what_they_are_given() {
    assert_eq!(store::<CronJob>(&[cron()]).state().len(), 1);
    assert_eq!(store::<Job>(&[job("a", None, "c")]).state().len(), 1);
}
