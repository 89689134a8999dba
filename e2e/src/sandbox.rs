//! A namespace for one test: random name, the `restricted` Pod Security
//! Standard enforced, its state dumped when the test fails, always removed.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use futures::FutureExt;
use http::StatusCode;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::client::Body;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use stockpredictor_api::StockPredictor;

use crate::command;
use crate::wait::eventually;

/// From creation to Ready on a slow, busy machine.
pub const READY: Duration = Duration::from_mins(2);
/// A change that the operator makes by itself.
pub const SOON: Duration = Duration::from_mins(1);

/// One test's namespace and the calls that it makes there.
#[derive(Clone)]
pub struct Sandbox {
    /// A client with the rights of KUBECONFIG.
    pub client: Client,
    /// The namespace's name.
    pub namespace: String,
}

/// Runs `test` in a namespace of its own, which is removed afterwards.
///
/// # Panics
/// When the test fails; the state of the namespace is printed before.
#[allow(clippy::panic, reason = "this is how a test fails")]
pub async fn with_namespace<F, Fut>(name: &str, test: F)
where
    F: FnOnce(Sandbox) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let sandbox = match Sandbox::create(name).await {
        Ok(sandbox) => sandbox,
        Err(error) => panic!("{name}: no sandbox: {error:#}"),
    };
    let outcome = AssertUnwindSafe(test(sandbox.clone())).catch_unwind().await;
    let failed = !matches!(outcome, Ok(Ok(())));
    if failed {
        sandbox.dump().await;
    }
    let removed = sandbox.remove().await;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{name}: {error:#}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
    if let Err(error) = removed {
        panic!("{name}: the namespace was not removed: {error:#}");
    }
}

impl Sandbox {
    async fn create(name: &str) -> Result<Self> {
        crate::chart::ensure_installed().await?;
        let client = Client::try_default().await.context("KUBECONFIG")?;
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
        let namespace = format!("e2e-{name}-{:05x}", nanos & 0xf_ffff);
        let object: Namespace = serde_json::from_value(json!({
            "metadata": {"name": namespace, "labels": {
                "stockpredictor.io/e2e": "true",
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "latest",
            }}
        }))?;
        Api::all(client.clone())
            .create(&PostParams::default(), &object)
            .await?;
        Ok(Self { client, namespace })
    }

    async fn dump(&self) {
        for arguments in [
            vec![
                "get",
                "stockpredictors,storagebackups,storagerestores,jobs,pods,pvc,deployments,events",
                "-o",
                "wide",
            ],
            vec![
                "describe",
                "stockpredictors,storagebackups,storagerestores,pods",
            ],
            vec![
                "logs",
                "-l",
                "app.kubernetes.io/name=stockpredictor",
                "--all-containers",
                "--tail",
                "40",
            ],
        ] {
            let mut arguments = arguments;
            arguments.extend(["--namespace", self.namespace.as_str()]);
            let said = command::output("kubectl", &arguments, "").await;
            eprintln!(
                "--- kubectl {}\n{}",
                arguments.join(" "),
                said.map_or_else(|e| e.to_string(), |o| o.stdout + &o.stderr)
            );
        }
    }

    async fn remove(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await?;
        eventually(Duration::from_mins(2), "namespace gone", || async {
            Ok(namespaces
                .get_opt(&self.namespace)
                .await?
                .is_none()
                .then_some(()))
        })
        .await
    }

    /// The objects of kind `K` in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The `StockPredictor`s as plain JSON, the way a user's tool sees them.
    pub fn predictors(&self) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &ApiResource::erase::<StockPredictor>(&()),
        )
    }

    /// Creates `examples/stockpredictor.yaml` under `name`, merged with `spec`.
    pub async fn create_predictor(&self, name: &str, spec: Value) -> Result<DynamicObject> {
        let mut object = example()?;
        object["metadata"] = json!({"name": name});
        merge(&mut object["spec"], spec);
        let object: DynamicObject = serde_json::from_value(object)?;
        Ok(self
            .predictors()
            .create(&PostParams::default(), &object)
            .await?)
    }

    /// Merges `spec` into the spec of `name`.
    pub async fn patch_predictor(&self, name: &str, spec: Value) -> Result<DynamicObject> {
        let patch = Patch::Merge(json!({"spec": spec}));
        Ok(self
            .predictors()
            .patch(name, &PatchParams::default(), &patch)
            .await?)
    }

    /// Waits until the condition `kind` of `name` has `status` and, unless empty, `reason`
    /// for the object's present generation; gives its message.
    pub async fn condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
        limit: Duration,
    ) -> Result<String> {
        let what = format!("{name}: condition {kind}={status} {reason}");
        eventually(limit, &what, || async {
            let object = self.predictors().get(name).await?;
            let generation = object.metadata.generation;
            let conditions = object.data["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let found = conditions
                .iter()
                .find(|c| c["type"] == kind)
                .ok_or_else(|| anyhow!("{conditions:?}"))?;
            let fits = found["status"] == status
                && (reason.is_empty() || found["reason"] == reason)
                && found["observedGeneration"].as_i64() == generation;
            if fits {
                Ok(found["message"].as_str().map(str::to_owned))
            } else {
                Err(anyhow!("{conditions:?}"))
            }
        })
        .await
    }

    /// Waits until `name` is Ready.
    pub async fn ready(&self, name: &str) -> Result<()> {
        self.condition(name, "Ready", "True", "", READY)
            .await
            .map(drop)
    }

    /// GET `path` of the predictor `name` through its Service: status and body.
    pub async fn get(&self, name: &str, path: &str) -> Result<(StatusCode, String)> {
        let uri = format!(
            "/api/v1/namespaces/{}/services/{name}:http/proxy{path}",
            self.namespace
        );
        let request = http::Request::get(uri).body(Body::empty())?;
        let response = self.client.send(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// GET `path` until it answers 200 (endpoints follow readiness by a moment); the JSON.
    pub async fn json(&self, name: &str, path: &str) -> Result<Value> {
        eventually(SOON, &format!("GET {path} of {name}"), || async {
            match self.get(name, path).await? {
                (StatusCode::OK, body) => Ok(Some(serde_json::from_str(&body)?)),
                (status, body) => Err(anyhow!("{status}: {body}")),
            }
        })
        .await
    }

    /// The prediction for `symbol`.
    pub async fn predict(&self, name: &str, symbol: &str) -> Result<Value> {
        self.json(name, &format!("/api/v1/predict/{symbol}")).await
    }

    /// The pods of predictor `name` that are not being deleted.
    pub async fn pods(&self, name: &str) -> Result<Vec<Pod>> {
        let selector =
            format!("app.kubernetes.io/name=stockpredictor,app.kubernetes.io/instance={name}");
        let pods: Api<Pod> = self.api();
        let list = pods.list(&ListParams::default().labels(&selector)).await?;
        Ok(list
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect())
    }

    /// The uids of these pods: equal means that none was replaced.
    pub async fn pod_uids(&self, name: &str) -> Result<Vec<String>> {
        Ok(self
            .pods(name)
            .await?
            .iter()
            .filter_map(ResourceExt::uid)
            .collect())
    }

    /// The setting `key` of predictor `name` as its stats show it: value and source.
    pub async fn setting(&self, name: &str, key: &str) -> Result<Value> {
        let stats = self.json(name, "/api/v1/stats").await?;
        let settings = stats["settings"].as_array().cloned().unwrap_or_default();
        settings
            .into_iter()
            .find(|s| s["name"] == key)
            .with_context(|| format!("no setting {key} in {stats}"))
    }

    /// Deletes the pods of `name` and waits until others are there and it is Ready again.
    pub async fn replace_pods(&self, name: &str) -> Result<()> {
        let before = self.pod_uids(name).await?;
        let pods: Api<Pod> = self.api();
        for pod in self.pods(name).await? {
            pods.delete(&pod.name_any(), &DeleteParams::default())
                .await?;
        }
        self.replaced(name, &before).await
    }

    /// Waits until none of the pods with the uids `before` serves `name`, and it is Ready.
    pub async fn replaced(&self, name: &str, before: &[String]) -> Result<()> {
        eventually(READY, &format!("{name}: pods replaced"), || async {
            let pods = self.pods(name).await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            let fresh = pods
                .iter()
                .all(|pod| pod.uid().is_some_and(|uid| !before.contains(&uid)));
            Ok((fresh && ready > 0 && ready == pods.len()).then_some(()))
        })
        .await?;
        self.ready(name).await
    }

    /// Resource version of every object that the operator writes in this namespace, and of the `StockPredictor`s.
    pub async fn resource_versions(&self) -> Result<BTreeMap<String, String>> {
        let kinds = "stockpredictors,deployments,services,configmaps,serviceaccounts,persistentvolumeclaims,networkpolicies,poddisruptionbudgets";
        let list = command::run(
            "kubectl",
            &["get", kinds, "--namespace", &self.namespace, "-o", "json"],
        )
        .await?;
        let list: Value = serde_json::from_str(&list)?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items
            .iter()
            .map(|item| {
                let name = item["metadata"]["name"].as_str().unwrap_or_default();
                let kind = item["kind"].as_str().unwrap_or_default();
                (
                    format!("{kind}/{name}"),
                    item["metadata"]["resourceVersion"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned(),
                )
            })
            .collect())
    }

    /// Waits for an Event about `name` with `reason`; gives its note.
    pub async fn event(&self, name: &str, reason: &str) -> Result<String> {
        eventually(SOON, &format!("event {reason} about {name}"), || async {
            let list = command::run(
                "kubectl",
                &[
                    "get",
                    "events.events.k8s.io",
                    "--namespace",
                    &self.namespace,
                    "-o",
                    "json",
                ],
            )
            .await?;
            let list: Value = serde_json::from_str(&list)?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let found = items
                .iter()
                .find(|e| e["reason"] == reason && e["regarding"]["name"] == name);
            Ok(found.map(|e| e["note"].as_str().unwrap_or_default().to_owned()))
        })
        .await
    }
}

/// True when the pod's Ready condition is True.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|list| {
        list.iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    })
}

/// `examples/stockpredictor.yaml`.
pub fn example() -> Result<Value> {
    Ok(serde_yaml::from_str(include_str!(
        "../../examples/stockpredictor.yaml"
    ))?)
}

/// JSON merge patch: objects merge, null removes, everything else replaces.
fn merge(target: &mut Value, patch: Value) {
    match patch {
        Value::Object(members) => {
            if !target.is_object() {
                *target = json!({});
            }
            for (key, value) in members {
                if value.is_null() {
                    if let Some(object) = target.as_object_mut() {
                        object.remove(&key);
                    }
                } else {
                    merge(&mut target[key], value);
                }
            }
        }
        other => *target = other,
    }
}
