//! Whole restores against an API server made of a function, with an error at each request.
//!
//! The function keeps objects, ends Jobs at once with the contract's messages, and lets the predictor follow the phase.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kube::runtime::events::Reporter;
use kube::runtime::reflector;
use rstest::rstest;
use serde_json::{Value, json};

use super::plan::holds;
use super::*;
use crate::mock::{Asked, refusal, server};
use crate::stock_predictor::fixture;

const UID: &str = "5f1d7a56-0f7e-4c1e-8a68-5a3b1f1c7d03";
const RESTORE: &str = "storagerestores/back";

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It is refused, and nothing happens.
    Refused(u16),
    /// It is done, and the answer is lost.
    Lost,
}

/// The objects, by plural and name.
#[derive(Clone, Default)]
struct World {
    objects: BTreeMap<String, Value>,
    created: Vec<String>,
    requests: usize,
    fault: Option<(usize, Fault)>,
    /// A Job that says something else.
    but: Option<(&'static str, &'static str)>,
}

fn contract(name: &str) -> Value {
    let contract: Value =
        serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap();
    contract["messages"][name].clone()
}

impl World {
    fn new(spec: &Value) -> Self {
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
        Self {
            objects: [
                (RESTORE.to_owned(), object),
                ("persistentvolumeclaims/nvda".to_owned(), claim),
            ]
            .into(),
            ..Self::default()
        }
    }

    fn phase(&self) -> RestorePhase {
        let phase = &self.objects[RESTORE]["status"]["phase"];
        serde_json::from_value(phase.clone()).unwrap_or_default()
    }

    /// The predictor and its Deployment follow the phase, as its own controller would make them.
    fn follow(&mut self) {
        let held = holds(self.phase(), false);
        let (status, reason) = if held {
            ("False", "RestoreInProgress")
        } else {
            ("True", "AllGood")
        };
        let mut predictor = json!(fixture::predictor(&json!({})));
        predictor["status"] = json!({"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "m",
            "lastTransitionTime": "2025-08-01T12:00:00Z"}]});
        self.objects
            .insert("stockpredictors/nvda".into(), predictor);
        let uid = if held { json!(UID) } else { Value::Null };
        let deployment = json!({
            "metadata": {"name": "nvda", "annotations": {"stockpredictor.io/held-by": uid}},
            "spec": {"replicas": i32::from(!held), "selector": {}, "template": {}}, "status": {"replicas": i32::from(!held)},
        });
        let mut deployment = deployment;
        if !held {
            deployment["metadata"]["annotations"] = json!({});
        }
        self.objects.insert("deployments/nvda".into(), deployment);
    }

    fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        let number = self.requests;
        self.requests += 1;
        let fault = self
            .fault
            .filter(|(at, _)| *at == number)
            .map(|(_, fault)| fault);
        if let Some(Fault::Refused(code)) = fault {
            return refusal(code, "injected");
        }
        let answer = self.serve(asked);
        if fault == Some(Fault::Lost) {
            return refusal(504, "the answer was lost");
        }
        answer
    }

    fn serve(&mut self, asked: &Asked) -> (u16, Value) {
        self.follow();
        let (_, rest) = asked.path.split_once("/namespaces/default/").unwrap();
        let key = rest.trim_end_matches("/status").to_owned();
        if key.starts_with("events") {
            return (201, asked.body.clone());
        }
        match asked.method.as_str() {
            "GET" if key.contains('/') => match self.objects.get(&key) {
                Some(object) => (200, object.clone()),
                None => refusal(404, "not found"),
            },
            "GET" => {
                let prefix = format!("{key}/");
                let items: Vec<_> = self
                    .objects
                    .iter()
                    .filter(|(name, _)| name.starts_with(&prefix))
                    .map(|(_, object)| object.clone())
                    .collect();
                (
                    200,
                    json!({"metadata": {"resourceVersion": "1"}, "items": items}),
                )
            }
            "POST" => self.create(&key, asked.body.clone()),
            "PATCH" => self.patch(&key, &asked.body),
            "DELETE" => match self.objects.remove(&key) {
                Some(object) => (200, object),
                None => refusal(404, "not found"),
            },
            other => panic!("{other} {key}"),
        }
    }

    fn create(&mut self, plural: &str, mut object: Value) -> (u16, Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let key = format!("{plural}/{name}");
        if self.objects.contains_key(&key) {
            let (code, mut body) = refusal(409, "exists");
            body["reason"] = json!("AlreadyExists");
            return (code, body);
        }
        object["metadata"]["uid"] = json!(format!("uid-{name}"));
        self.created.push(key.clone());
        if plural == "jobs" {
            self.end(&mut object);
        }
        self.objects.insert(key, object.clone());
        (201, object)
    }

    fn end(&mut self, job: &mut Value) {
        let template = &job["spec"]["template"];
        let text = template["spec"]["containers"][0]["env"][0]["value"]
            .as_str()
            .unwrap();
        let document: Value = serde_json::from_str(text).unwrap();
        let kind = document["job"].as_str().unwrap();
        let said = match self.but {
            Some((wrong, said)) if wrong == kind => contract(said),
            _ => contract(&format!("{kind}_succeeded")),
        };
        let failed = said["result"] == "failed";
        let name = job["metadata"]["name"].as_str().unwrap().to_owned();
        let pod = json!({
            "metadata": {"name": format!("{name}-x"), "namespace": "default", "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}]},
            "spec": template["spec"],
            "status": {"phase": if failed { "Failed" } else { "Succeeded" }, "containerStatuses": [
                {"name": "job", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": i32::from(failed), "message": said.to_string()}}}]},
        });
        self.objects.insert(format!("pods/{name}-x"), pod);
        let condition = if failed { "Failed" } else { "Complete" };
        job["status"] = json!({"conditions": [{"type": condition, "status": "True"}]});
    }

    fn patch(&mut self, key: &str, change: &Value) -> (u16, Value) {
        let Some(object) = self.objects.get_mut(key) else {
            return refusal(404, "not found");
        };
        let seen = &change["metadata"]["resourceVersion"];
        if !seen.is_null() && *seen != object["metadata"]["resourceVersion"] {
            return refusal(409, "changed");
        }
        if change["status"].is_object() {
            object["status"] = change["status"].clone();
        }
        if change["metadata"]["finalizers"].is_array() {
            object["metadata"]["finalizers"] = change["metadata"]["finalizers"].clone();
        }
        let version: u64 = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        (200, object.clone())
    }
}

/// Passes until nothing is left to do; the world then.
async fn run(world: World) -> World {
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
    let world = world.lock().unwrap().clone();
    world
}

fn plain(value: &mut Value) {
    const TIMES: [&str; 6] = [
        "startedAt",
        "finishedAt",
        "duration",
        "downtime",
        "lastTransitionTime",
        "resourceVersion",
    ];
    match value {
        Value::Object(members) => {
            members.retain(|key, _| !TIMES.contains(&key.as_str()));
            members.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

fn end(world: &World) -> (Value, Vec<String>) {
    let mut object = world.objects[RESTORE].clone();
    plain(&mut object);
    (object, world.created.clone())
}

#[tokio::test]
async fn a_restore_takes_its_steps_in_order() {
    let world = run(World::new(&json!({}))).await;
    assert_eq!(world.phase(), RestorePhase::Completed);
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
#[tokio::test]
async fn an_error_at_any_request_changes_nothing_about_the_end(
    #[case] fault: Fault,
    #[values(None, Some(("switch", "switch_failed")))] but: Option<(&'static str, &'static str)>,
) {
    let calm = run(World {
        but,
        ..World::new(&json!({}))
    })
    .await;
    assert!(
        calm.phase().is_end() && calm.requests > 50,
        "{}",
        calm.requests
    );
    for at in 0..calm.requests {
        let world = run(World {
            but,
            fault: Some((at, fault)),
            ..World::new(&json!({}))
        })
        .await;
        assert_eq!(end(&world), end(&calm), "{fault:?} at request {at}");
    }
}

#[tokio::test]
async fn one_that_is_over_asks_nothing() {
    let mut world = run(World::new(&json!({}))).await;
    let before = world.requests;
    world.fault = None;
    assert_eq!(run(world).await.requests, before);
}

#[tokio::test]
async fn what_the_spec_refers_to_is_named_when_it_is_missing() {
    let mut world = World::new(
        &json!({"source": {"destination": null, "storageBackupRef": {"name": "daily"}}, "backup": "latest"}),
    );
    world.objects.remove("persistentvolumeclaims/nvda");
    let world = run(world).await;
    assert_eq!(world.phase(), RestorePhase::Pending);
    let ready = &world.objects[RESTORE]["status"]["conditions"][0];
    assert_eq!(ready["reason"], "ClaimNotUsable", "{ready}");
    assert_eq!(world.created, [""; 0]);
}
