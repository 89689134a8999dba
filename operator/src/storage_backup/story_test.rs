//! A whole life of backups against a cluster made of a map, with an error at each request and with caches that lag.

use std::sync::{Arc, Mutex};

use kube::runtime::events::Reporter;
use rstest::rstest;
use serde_json::{Value, json};

use super::scenarios::store;
use super::*;
use crate::mock::server;
use crate::mock_cluster::{Cluster, Fault, plain};
use crate::stock_predictor::fixture as predictors;

const BACKUP: &str = "storagebackups/daily";

/// Which caches show what was there one pass ago.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lag {
    None,
    Object,
    Children,
    Pods,
    All,
}

/// What the user does, and what Jobs say then if not that they succeeded.
fn steps() -> Vec<(Value, Option<(&'static str, &'static str)>)> {
    let test = json!({"verification": {"restoreTest": {"schedule": "0 0 3 7 *"}}});
    vec![
        (json!({}), None),
        (json!({"trigger": "one"}), None),
        (json!({"trigger": "two"}), Some(("backup", "backup_failed"))),
        (json!({"trigger": "three"}), None),
        (json!({"schedule": "0 0 2 7 *"}), None),
        (test, None),
        (json!({"verification": {"restoreTest": null}}), None),
    ]
}

fn caches(now: &Cluster, old: &Cluster, lag: Lag) -> Caches {
    let children = if [Lag::Children, Lag::All].contains(&lag) {
        old
    } else {
        now
    };
    let pods = if lag == Lag::Pods { old } else { children };
    Caches {
        cron_jobs: store(&children.all("cronjobs")),
        jobs: store(&children.all("jobs")),
        pods: store(&pods.all("pods")),
        predictors: store(&[set_up()]),
        restores: store(&[]),
    }
}

/// The operator, and what it saw in its last pass.
struct Operator {
    cluster: Arc<Mutex<Cluster>>,
    context: Context,
    old: Cluster,
    lag: Lag,
}

impl Operator {
    fn new(cluster: Cluster, lag: Lag) -> Self {
        let old = cluster.clone();
        let cluster = Arc::new(Mutex::new(cluster));
        let shared = cluster.clone();
        let (client, _log) = server(move |asked| Some(shared.lock().unwrap().answer(asked)));
        let reporter = Reporter {
            controller: "test".into(),
            instance: None,
        };
        let context = Context {
            writer: Writer::new(client.clone()),
            recorder: Recorder::new(client.clone(), reporter),
            client,
            caches: caches(&old, &old, lag),
            defaults: predictors::defaults(),
            metrics: Metrics::new(),
            backoff: Backoff::default(),
        };
        Self {
            cluster,
            context,
            old,
            lag,
        }
    }

    fn now(&self) -> Cluster {
        self.cluster.lock().unwrap().clone()
    }

    /// Passes until nothing changes and every cache shows it.
    async fn rest(&mut self) {
        for _ in 0..40 {
            let now = self.now();
            self.context.caches = caches(&now, &self.old, self.lag);
            let shown = if [Lag::Object, Lag::All].contains(&self.lag) {
                &self.old
            } else {
                &now
            };
            let object = serde_json::from_value(shown.objects[BACKUP].clone()).unwrap();
            let outcome = Box::pin(reconcile(&object, &self.context)).await;
            let still = self.now().objects == now.objects && self.old.objects == now.objects;
            self.old = now;
            // An error is tried again, as the controller does.
            if outcome.is_ok() && still {
                return;
            }
        }
        panic!("no rest: {:#?}", self.now().objects[BACKUP]["status"]);
    }
}

/// A predictor that has told of its volume.
fn set_up() -> Value {
    let mut predictor = json!(predictors::predictor(&json!({})));
    predictor["status"] = json!({"volume": {"id": "6c7f7d1e-2f0a-4b57-9d53-0a5c3b1e9d10"}});
    predictor
}

async fn life(fault: Option<(usize, Fault)>, lag: Lag) -> Cluster {
    let object = fixture::backup(&json!({
        // Once a year, so that the next time is the same all through the test.
        "schedule": "0 0 1 7 *", "runOnCreate": true,
        "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1,
    }));
    let cluster = Cluster {
        objects: [(BACKUP.to_owned(), json!(object))].into(),
        fault,
        ..Cluster::default()
    };
    let mut operator = Operator::new(cluster, lag);
    for (spec, but) in steps() {
        {
            let mut cluster = operator.cluster.lock().unwrap();
            (cluster.but, cluster.working) = (but, true);
            let object = cluster.objects.get_mut(BACKUP).unwrap();
            predictors::merge(&mut object["spec"], &spec);
            let generation = object["metadata"]["generation"].as_i64().unwrap();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        operator.rest().await;
        {
            let mut cluster = operator.cluster.lock().unwrap();
            cluster.working = false;
            cluster.end_all();
        }
        operator.rest().await;
    }
    operator.now()
}

/// Everything that must be the same, a line each: the objects, and in which order they were made and taken away.
fn end(cluster: &Cluster) -> Vec<String> {
    let mut deleted = cluster.deleted.clone();
    // One pass takes away what it finds; which of two goes first is all the same.
    deleted.sort();
    let all = json!([plain(json!(cluster.objects)), cluster.created, deleted]);
    let text = serde_json::to_string_pretty(&all).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn assert_same(one: &Cluster, other: &Cluster, what: &str) {
    let (one, other) = (end(one), end(other));
    let differs = one.iter().zip(&other).find(|(one, other)| one != other);
    assert!(one == other, "{what}: {differs:?}");
}

#[tokio::test]
async fn a_life_of_backups_makes_each_job_once_and_keeps_every_archive() {
    let calm = life(None, Lag::None).await;
    let status = &calm.objects[BACKUP]["status"];
    let made: Vec<_> = calm.created.iter().map(String::as_str).collect();
    let tag = made[1].rsplit('-').next().unwrap();
    let manual = |number: u8| format!("jobs/daily-manual-{tag}-{number}");
    assert_eq!(
        made,
        [
            "cronjobs/daily-backup".to_owned(),
            format!("jobs/daily-first-{tag}"),
            manual(0),
            manual(1),
            manual(2),
            "cronjobs/daily-test".to_owned(),
        ]
    );
    // Three runs wrote an archive, and the one that failed wrote none.
    let attested = status["attested"].as_object().unwrap();
    assert_eq!(attested.len(), 3, "{status}");
    assert_eq!(calm.deleted.len(), 3, "{:?}", calm.deleted);
    assert_eq!(status["manualRuns"], 3);
    assert_eq!(status["active"], Value::Null);
}

#[rstest]
#[case(Lag::Object)]
#[case(Lag::Children)]
#[case(Lag::Pods)]
#[case(Lag::All)]
#[tokio::test]
async fn caches_that_lag_change_nothing_about_the_end(#[case] lag: Lag) {
    let (calm, late) = (life(None, Lag::None).await, life(None, lag).await);
    assert_same(&late, &calm, "late");
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
    #[values(Lag::None, Lag::All)] lag: Lag,
) {
    let calm = life(None, lag).await;
    assert!(calm.requests > 40, "{}", calm.requests);
    for at in 0..calm.requests {
        let disturbed = life(Some((at, fault)), lag).await;
        assert_same(&disturbed, &calm, &format!("{fault:?} at request {at}"));
    }
}

/// The Job of a wish is there, its note isn't, and the user wishes for something else.
#[tokio::test]
async fn a_wish_whose_job_was_not_noted_never_stands_in_the_way_of_the_next() {
    let object = fixture::backup(&json!({"schedule": null, "trigger": "one"}));
    let cluster = Cluster {
        objects: [(BACKUP.to_owned(), json!(object))].into(),
        working: true,
        ..Cluster::default()
    };
    let mut operator = Operator::new(cluster, Lag::None);
    operator.rest().await;
    {
        let mut cluster = operator.cluster.lock().unwrap();
        let object = cluster.objects.get_mut(BACKUP).unwrap();
        object["status"] = Value::Null;
        object["spec"]["trigger"] = json!("two");
        cluster.working = false;
        cluster.end_all();
    }
    operator.rest().await;
    let now = operator.now();
    let status = &now.objects[BACKUP]["status"];
    assert_eq!(status["acknowledgedTrigger"], "two", "{status}");
    assert_eq!(status["manualRuns"], 2);
    assert_eq!(now.created.len(), 2, "{:?}", now.created);
}
