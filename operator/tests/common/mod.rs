//! A namespace on a shared API server, and the controller in this process.
//!
//! In: a name for the namespace. Out: objects, conditions and resource versions. Every wait is bounded.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

#[path = "../../../api/tests/common/server.rs"]
#[allow(dead_code, reason = "the tests of the api crate use the rest")]
mod server;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Service, ServiceAccount,
};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stockpredictor_api::{ImagePullPolicy, StockPredictor, StorageBackup, StorageRestore, crd};
use stockpredictor_operator::controller::Shared;
use stockpredictor_operator::health::Health;
use stockpredictor_operator::metrics::Metrics;
use stockpredictor_operator::stock_predictor::controller;
use stockpredictor_operator::stock_predictor::stats::Poller;
use stockpredictor_operator::stock_predictor::validate::Defaults;
use stockpredictor_operator::watch::Scope;
use stockpredictor_operator::{storage_backup, storage_restore};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use server::Server;

/// How long a change may take to show.
pub const SOON: Duration = Duration::from_secs(30);
/// Longer than two passes over an object that isn't ready.
pub const SETTLED: Duration = Duration::from_secs(13);

/// The server that the tests of this process share; it ends with the last of them.
static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());

/// What an object of the tests may do.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
}
impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// A namespace of its own.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    server: Arc<Server>,
}

/// The controllers of that namespace.
pub struct Operator {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    /// How its watches are.
    pub health: Health,
    /// What it counts and measures.
    pub metrics: Metrics,
}

impl Operator {
    /// Ends it the way SIGTERM does. The limit only keeps a test from hanging: how long the program
    /// itself may take is `process.rs`'s to check.
    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        for task in self.tasks {
            tokio::time::timeout(SOON, task).await.unwrap().unwrap();
        }
    }

    /// Ends it the way SIGKILL does.
    pub fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Cluster {
    /// A namespace on the shared server, which knows our definitions.
    pub async fn new(namespace: &str) -> Self {
        Self::shared_by(namespace, Server::start).await
    }

    /// The same with a scheduler, and the controllers of Deployments, Jobs and volumes. A test file uses one of the two.
    pub async fn scheduled(namespace: &str) -> Self {
        Self::shared_by(namespace, Server::start_with_scheduler).await
    }

    async fn shared_by(namespace: &str, start: fn() -> Result<Server, String>) -> Self {
        let server = {
            let mut shared = SERVER
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(server) = shared.upgrade() {
                server
            } else {
                let server = Arc::new(start().unwrap());
                install(&server);
                *shared = Arc::downgrade(&server);
                server
            }
        };
        Self::on(server, namespace).await
    }

    /// A server of its own that knows nothing yet.
    pub async fn without_definitions(namespace: &str) -> Self {
        Self::on(Arc::new(Server::start().unwrap()), namespace).await
    }

    async fn on(server: Arc<Server>, namespace: &str) -> Self {
        // What the operator logs, for whoever looks into a failure.
        if let Ok(filter) = std::env::var("STOCKPREDICTOR_TEST_LOG") {
            stockpredictor_operator::logging::init(&filter).unwrap();
        }
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        let client = Client::try_from(config).unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        Self {
            client,
            namespace: namespace.to_owned(),
            server,
        }
    }

    /// The clients that the program would have: one for requests and one for watches.
    pub async fn clients_of_the_program(&self) -> (Client, Client) {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        stockpredictor_operator::run::clients(&config).unwrap()
    }

    /// A server of its own that knows our definitions, with several namespaces.
    pub async fn alone(namespaces: &[&str]) -> Vec<Self> {
        let server = Arc::new(Server::start().unwrap());
        install(&server);
        let all = namespaces.iter().map(|name| Self::on(server.clone(), name));
        futures::future::join_all(all).await
    }

    /// Sends a signal, such as `STOP`, to the API server.
    pub fn signal(&self, name: &str) {
        self.server.signal(name).unwrap();
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.server.kubeconfig()
    }

    /// Installs the definitions.
    pub fn install_definitions(&self) {
        install(&self.server);
    }

    /// Takes them away, and waits until they are gone.
    pub async fn remove_definitions(&self) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for definition in crd::all().unwrap() {
            let name = definition.name_any();
            definitions
                .delete(&name, &DeleteParams::default())
                .await
                .unwrap();
            eventually(SOON, "the definition is gone", async || {
                match definitions.get_opt(&name).await.unwrap() {
                    None => Ok(()),
                    Some(_) => Err("still there".to_owned()),
                }
            })
            .await;
        }
    }

    /// Starts the controller of `StockPredictors`.
    pub fn operator(&self) -> Operator {
        self.operator_with(self.client.clone())
    }

    /// Starts all controllers, with a client of the test's for everything but watches.
    pub fn operator_with(&self, client: Client) -> Operator {
        self.operator_with_clients(client, self.client.clone())
    }

    /// Starts all controllers, with clients of the test's.
    pub fn operator_with_clients(&self, client: Client, watch_client: Client) -> Operator {
        let (stop, until) = stop();
        let shared = Shared {
            client,
            watch_client,
            ..self.shared()
        };
        let (health, metrics) = (shared.health.clone(), shared.metrics.clone());
        let scope = self.scope();
        let tasks = vec![
            tokio::spawn(controller::control(
                shared.clone(),
                scope.clone(),
                4,
                until(),
            )),
            tokio::spawn(storage_backup::controller::control(
                shared.clone(),
                scope.clone(),
                4,
                until(),
            )),
            tokio::spawn(storage_restore::controller::control(
                shared,
                scope,
                4,
                until(),
            )),
        ];
        Operator {
            stop,
            tasks,
            health,
            metrics,
        }
    }

    /// Starts the controller of `StorageBackups` alone.
    pub fn backup_operator(&self) -> Operator {
        self.backup_operator_with(self.client.clone(), self.client.clone())
    }

    /// The same with clients of the test's.
    pub fn backup_operator_with(&self, client: Client, watch_client: Client) -> Operator {
        let (stop, until) = stop();
        let shared = Shared {
            client,
            watch_client,
            ..self.shared()
        };
        let (health, metrics) = (shared.health.clone(), shared.metrics.clone());
        let task = tokio::spawn(storage_backup::controller::control(
            shared,
            self.scope(),
            4,
            until(),
        ));
        Operator {
            stop,
            tasks: vec![task],
            health,
            metrics,
        }
    }

    fn scope(&self) -> Scope {
        Scope::Namespace(self.namespace.clone())
    }

    fn shared(&self) -> Shared {
        Shared {
            client: self.client.clone(),
            watch_client: self.client.clone(),
            defaults: Defaults {
                image: "registry.example.com/predictor:1".into(),
                pull_policy: ImagePullPolicy::IfNotPresent,
                allow_from: vec![],
                operator_namespace: "stockpredictor".into(),
            },
            pod: Some("operator".into()),
            health: Health::default(),
            metrics: Metrics::new(),
            permits: Arc::new(Semaphore::new(4)),
            poller: Poller::new().unwrap(),
        }
    }

    /// A client of an administrator.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The namespace's name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The objects of kind `K`.
    pub fn api<K: Object>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a small object with `changes` merged into its spec.
    pub async fn create(&self, name: &str, changes: &Value) {
        let mut spec = json!({"symbols": ["NVDA", "TSLA"], "storage": {"size": "1Gi"}});
        merge(&mut spec, changes);
        let object: StockPredictor = serde_json::from_value(json!({
            "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StockPredictor",
            "metadata": {"name": name}, "spec": spec,
        }))
        .unwrap();
        self.api()
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }

    /// Tells of a predictor's volume as its pod would, once it has set it up.
    pub async fn set_up(&self, name: &str) {
        let status = json!({"status": {"volume": {"id": "6c7f7d1e-2f0a-4b57-9d53-0a5c3b1e9d10"}}});
        self.api::<StockPredictor>()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .unwrap();
    }

    /// Deletes an object and waits until it is gone. Its children stay: nobody collects garbage here.
    pub async fn delete(&self, name: &str) {
        self.api::<StockPredictor>()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        self.gone::<StockPredictor>(name).await;
    }

    /// Merges `patch` into an object.
    pub async fn patch<K: Object>(&self, name: &str, patch: &Value) {
        self.api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// The object.
    pub async fn get<K: Object>(&self, name: &str) -> K {
        self.api().get(name).await.unwrap()
    }

    /// True when the object exists.
    pub async fn has<K: Object>(&self, name: &str) -> bool {
        self.api::<K>().get_opt(name).await.unwrap().is_some()
    }

    /// Waits until the object exists and `holds`.
    pub async fn until<K: Object>(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(SOON, what, async || {
            let object = json!(self.api::<K>().get_opt(name).await.unwrap());
            if !object.is_null() && holds(&object) {
                Ok(object)
            } else {
                Err(object.to_string())
            }
        })
        .await
    }

    /// Waits until the object is gone.
    pub async fn gone<K: Object>(&self, name: &str) {
        eventually(SOON, "gone", async || {
            match self.api::<K>().get_opt(name).await.unwrap() {
                None => Ok(()),
                Some(object) => Err(json!(object).to_string()),
            }
        })
        .await;
    }

    /// Waits for the first status.
    pub async fn status(&self, name: &str) -> Value {
        self.until::<StockPredictor>(name, "a status", |object| {
            object["status"]["conditions"].is_array()
        })
        .await["status"]
            .clone()
    }

    /// Waits for a condition; its message.
    pub async fn condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        let find = |object: &Value| {
            let conditions = object["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            conditions.into_iter().find(|c| {
                c["type"] == kind
                    && c["status"] == status
                    && c["reason"] == reason
                    && c["observedGeneration"] == object["metadata"]["generation"]
            })
        };
        let what = format!("{name}: {kind}={status} {reason}");
        let object = self
            .until::<StockPredictor>(name, &what, |object| find(object).is_some())
            .await;
        find(&object).unwrap()["message"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Waits for an Event.
    pub async fn event(&self, name: &str, reason: &str) {
        eventually(SOON, &format!("event {reason} about {name}"), async || {
            let events = self
                .api::<Event>()
                .list(&ListParams::default())
                .await
                .unwrap();
            let about = |event: &Event| {
                event
                    .regarding
                    .as_ref()
                    .and_then(|object| object.name.clone())
            };
            let found = events
                .iter()
                .any(|e| e.reason.as_deref() == Some(reason) && about(e).as_deref() == Some(name));
            found.then_some(()).ok_or("no such event".to_owned())
        })
        .await;
    }

    /// A storage class.
    pub async fn class(&self, name: &str, expands: bool) {
        let class: StorageClass = serde_json::from_value(json!({
            "metadata": {"name": name}, "provisioner": "example.com/none", "allowVolumeExpansion": expands,
        }))
        .unwrap();
        Api::<StorageClass>::all(self.client.clone())
            .create(&PostParams::default(), &class)
            .await
            .unwrap();
    }

    /// Binds a claim, as a provisioner would.
    pub async fn bind(&self, name: &str, capacity: &str) {
        let status = json!({"status": {
            "phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": capacity},
        }});
        let claims = self.api::<PersistentVolumeClaim>();
        claims
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .unwrap();
    }

    /// The resource version of every object that the operator writes.
    pub async fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        self.add::<StockPredictor>(&mut versions).await;
        self.add::<StorageBackup>(&mut versions).await;
        self.add::<StorageRestore>(&mut versions).await;
        self.add::<CronJob>(&mut versions).await;
        self.add::<Job>(&mut versions).await;
        self.add::<ServiceAccount>(&mut versions).await;
        self.add::<ConfigMap>(&mut versions).await;
        self.add::<PersistentVolumeClaim>(&mut versions).await;
        self.add::<Deployment>(&mut versions).await;
        self.add::<Service>(&mut versions).await;
        self.add::<NetworkPolicy>(&mut versions).await;
        self.add::<PodDisruptionBudget>(&mut versions).await;
        versions
    }

    async fn add<K: Object>(&self, versions: &mut BTreeMap<String, String>) {
        for object in self.api::<K>().list(&ListParams::default()).await.unwrap() {
            versions.insert(
                format!("{}/{}", K::kind(&()), object.name_any()),
                object.resource_version().unwrap(),
            );
        }
    }

    /// Waits until nothing is written for three seconds; the versions then.
    pub async fn settled(&self) -> BTreeMap<String, String> {
        eventually(SOON * 2, "no more writes", async || {
            let before = self.versions().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let (after, seen) = (self.versions().await, self.seen().await);
            if before == after && seen {
                Ok(after)
            } else {
                Err("still writing".to_owned())
            }
        })
        .await
    }

    /// True when every object has a status.
    async fn seen(&self) -> bool {
        let objects = self
            .api::<StockPredictor>()
            .list(&ListParams::default())
            .await
            .unwrap();
        let backups = self
            .api::<StorageBackup>()
            .list(&ListParams::default())
            .await
            .unwrap();
        backups.iter().all(|object| object.status.is_some())
            && (!backups.items.is_empty() || objects.iter().all(|object| object.status.is_some()))
    }

    /// Fails when anything is written within `span`.
    pub async fn unchanged(&self, before: &BTreeMap<String, String>, span: Duration) {
        tokio::time::sleep(span).await;
        assert_eq!(&self.versions().await, before, "something was written");
    }
}

/// A way to stop a controller, and a future that is done then.
fn stop() -> (
    watch::Sender<bool>,
    impl Fn() -> futures::future::BoxFuture<'static, ()>,
) {
    let (stop, stopped) = watch::channel(false);
    let until = move || -> futures::future::BoxFuture<'static, ()> {
        let mut stopped = stopped.clone();
        Box::pin(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        })
    };
    (stop, until)
}

/// Tries until it holds.
pub async fn eventually<T>(
    limit: Duration,
    what: &str,
    attempt: impl AsyncFn() -> Result<T, String>,
) -> T {
    let began = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(seen) => assert!(
                began.elapsed() < limit,
                "not within {} s: {what}; last seen: {seen}",
                limit.as_secs()
            ),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn install(server: &Server) {
    for (name, yaml) in crd::files().unwrap() {
        let output = server.kubectl(&["create", "-f", "-"], &yaml).unwrap();
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let began = Instant::now();
    while !server
        .kubectl(
            &["get", "stockpredictors,storagebackups,storagerestores"],
            "",
        )
        .unwrap()
        .status
        .success()
    {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "the definitions are not served"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    for (key, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else if value.is_object() && target[key].is_object() {
            merge(&mut target[key], value);
        } else {
            target[key] = value.clone();
        }
    }
}
