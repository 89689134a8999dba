//! A cluster made of a map, for tests of whole stories: an API server that keeps objects, and Jobs that end.
//!
//! In: requests of [`crate::mock`], and a fault at one of them. Out: answers, what was created and deleted, and the objects.
//! Names stand for plural and name, such as `jobs/nvda-first`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::mock::{Asked, RESET, refusal};

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It is refused, and nothing happens.
    Refused(u16),
    /// It is done, and a proxy gives the answer up.
    Lost,
    /// It is done, and the connection ends before the answer.
    LostReset,
    /// The connection ends before it is done.
    Reset,
}

/// The cluster.
#[derive(Clone, Default)]
pub struct Cluster {
    /// The objects by name.
    pub objects: BTreeMap<String, Value>,
    /// Names of what was created, in order.
    pub created: Vec<String>,
    /// Names of what was deleted, in order.
    pub deleted: Vec<String>,
    /// As many requests there were.
    pub requests: usize,
    /// What goes wrong, and with the request of which number.
    pub fault: Option<(usize, Fault)>,
    /// A kind of job that says something else than that it succeeded.
    pub but: Option<(&'static str, &'static str)>,
    /// Jobs work on until this is false.
    pub working: bool,
    /// What others do between requests.
    pub others: Option<fn(&mut Self)>,
    /// As many seconds have passed.
    pub seconds: i64,
}

/// A message of the contract.
pub fn contract(name: &str) -> Value {
    let contract: Value = serde_json::from_str(include_str!("../../contracts/jobs.json")).unwrap();
    contract["messages"][name].clone()
}

impl Cluster {
    /// Answers a request, or does not.
    pub fn answer(&mut self, asked: &Asked) -> (u16, Value) {
        let number = self.requests;
        self.requests += 1;
        let fault = self.fault.filter(|(at, _)| *at == number);
        match fault.map(|(_, fault)| fault) {
            None => self.serve(asked),
            Some(Fault::Refused(code)) => refusal(code, "injected"),
            Some(Fault::Reset) => (RESET, Value::Null),
            Some(Fault::Lost) => {
                self.serve(asked);
                refusal(504, "the answer was lost")
            }
            Some(Fault::LostReset) => {
                self.serve(asked);
                (RESET, Value::Null)
            }
        }
    }

    fn serve(&mut self, asked: &Asked) -> (u16, Value) {
        if let Some(others) = self.others {
            others(self);
        }
        let (_, rest) = asked.path.split_once("/namespaces/default/").unwrap();
        let key = rest.trim_end_matches("/status").to_owned();
        if key.starts_with("events") {
            let empty = json!({"metadata": {"resourceVersion": "1"}, "items": []});
            let lists = asked.method == "GET";
            return (201, if lists { empty } else { asked.body.clone() });
        }
        match asked.method.as_str() {
            "GET" if key.contains('/') => match self.objects.get(&key) {
                Some(object) => (200, object.clone()),
                None => refusal(404, "not found"),
            },
            "GET" => {
                let items = self.all(&key);
                let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
                (200, list)
            }
            "POST" => self.create(&key, asked.body.clone()),
            "PATCH" => self.patch(&key, &asked.body),
            "DELETE" => match self.objects.remove(&key) {
                Some(object) => {
                    self.deleted.push(key);
                    (200, object)
                }
                None => refusal(404, "not found"),
            },
            other => panic!("{other} {key}"),
        }
    }

    /// The objects of a plural.
    pub fn all(&self, plural: &str) -> Vec<Value> {
        let prefix = format!("{plural}/");
        self.objects
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(_, object)| object.clone())
            .collect()
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
        object["metadata"]["resourceVersion"] = json!("1");
        object["metadata"]["creationTimestamp"] = json!(self.next_second());
        self.created.push(key.clone());
        self.objects.insert(key.clone(), object.clone());
        if plural == "jobs" && !self.working {
            self.end(&key);
            object = self.objects[&key].clone();
        }
        (201, object)
    }

    fn next_second(&mut self) -> String {
        self.seconds += 1;
        let (minute, second) = (self.seconds / 60, self.seconds % 60);
        format!("2025-08-01T12:{minute:02}:{second:02}Z")
    }

    /// Ends the Jobs that work.
    pub fn end_all(&mut self) {
        let working: Vec<_> = self
            .objects
            .iter()
            .filter(|(name, object)| name.starts_with("jobs/") && object["status"].is_null())
            .map(|(name, _)| name.clone())
            .collect();
        for name in working {
            self.end(&name);
        }
    }

    fn end(&mut self, key: &str) {
        let now = self.next_second();
        let number = self.created.len();
        let job = self.objects.get_mut(key).unwrap();
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
        let mut text = said.to_string();
        if kind == "backup" {
            // Each run writes an archive of its own.
            text = text.replace("20250801_120000", &format!("20250801_12{number:02}00"));
            text = text.replace("9b74c989", &format!("{number:08}"));
        }
        let name = job["metadata"]["name"].as_str().unwrap().to_owned();
        let pod = json!({
            "metadata": {"name": format!("{name}-x"), "namespace": "default", "uid": format!("uid-{name}-x"),
                "labels": template["metadata"]["labels"], "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}]},
            "spec": template["spec"],
            "status": {"phase": if failed { "Failed" } else { "Succeeded" }, "containerStatuses": [
                {"name": "job", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": i32::from(failed), "message": text}}}]},
        });
        let condition = if failed { "Failed" } else { "Complete" };
        job["status"] = json!({
            "startTime": job["metadata"]["creationTimestamp"],
            "conditions": [{"type": condition, "status": "True", "lastTransitionTime": now}],
        });
        self.objects.insert(format!("pods/{name}-x"), pod);
    }

    fn patch(&mut self, key: &str, change: &Value) -> (u16, Value) {
        // What names its kind is a server-side apply, which creates.
        if !self.objects.contains_key(key)
            && change["kind"].is_string()
            && change["spec"].is_object()
        {
            let (plural, _) = key.split_once('/').unwrap();
            return self.create(plural, change.clone());
        }
        let Some(object) = self.objects.get_mut(key) else {
            return refusal(404, "not found");
        };
        let seen = &change["metadata"]["resourceVersion"];
        if !seen.is_null() && *seen != object["metadata"]["resourceVersion"] {
            return refusal(409, "changed");
        }
        for part in ["status", "spec"] {
            if change[part].is_object() {
                object[part] = change[part].clone();
            }
        }
        for part in ["finalizers", "annotations", "labels"] {
            if !change["metadata"][part].is_null() {
                object["metadata"][part] = change["metadata"][part].clone();
            }
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

/// A document without what differs between two runs of the same story.
pub fn plain(mut value: Value) -> Value {
    strip(&mut value);
    value
}

fn strip(value: &mut Value) {
    const TIMES: [&str; 9] = [
        "startedAt",
        "finishedAt",
        "started",
        "finished",
        "lastSuccess",
        "duration",
        "downtime",
        "lastTransitionTime",
        "resourceVersion",
    ];
    match value {
        Value::Object(members) => {
            members.retain(|key, _| !TIMES.contains(&key.as_str()));
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
