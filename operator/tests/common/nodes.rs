//! Nodes for a real scheduler, and the little that a kubelet would do on them.
//!
//! In: a namespace and what Jobs say. Out: three nodes that nobody else's pods tolerate, and a task that lets pods run, end and
//! go until it is dropped. Where pods run is the scheduler's decision alone.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::common::{Cluster, SOON, eventually};
use crate::world::Script;

/// How often it looks.
const PAUSE: Duration = Duration::from_millis(200);
/// The key of the taint that keeps other tests' pods away.
const TAINT: &str = "test";

/// Three nodes. What runs on them ends with this.
pub struct Nodes {
    client: Client,
    namespace: String,
    kubelet: JoinHandle<()>,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.kubelet.abort();
    }
}

impl Nodes {
    /// Adds nodes to the cluster, for this namespace's pods.
    pub async fn start(cluster: &Cluster, script: Script) -> Self {
        let (client, namespace) = (cluster.client(), cluster.namespace().to_owned());
        let api: Api<Node> = Api::all(client.clone());
        for letter in ["a", "b", "c"] {
            let name = format!("{namespace}-{letter}");
            let node =
                json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
            let node: Node = serde_json::from_value(node).unwrap();
            api.create(&PostParams::default(), &node).await.unwrap();
            // A new node gets a taint until it is known to be ready, which nobody finds out here.
            let taints = json!({"spec": {"taints": [{"key": TAINT, "value": namespace, "effect": "NoSchedule"}]}});
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&taints))
                .await
                .unwrap();
            let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
            let status = json!({"status": {
                "capacity": room, "allocatable": room,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Scripted", "message": ""}],
            }});
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
                .await
                .unwrap();
        }
        let (of, within) = (client.clone(), namespace.clone());
        let kubelet = tokio::spawn(async move {
            let pods: Api<Pod> = Api::namespaced(of, &within);
            loop {
                // What fails, such as by a conflict, is done in the next round.
                let _ = run(&pods, &script).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self {
            client,
            namespace,
            kubelet,
        }
    }

    /// What pods need to come here.
    pub fn tolerations(&self) -> Value {
        json!([{"key": TAINT, "operator": "Equal", "value": self.namespace, "effect": "NoSchedule"}])
    }

    /// A disk that any node can attach, for a claim that may come later.
    pub async fn disk(&self, claim: &str, mode: &str) {
        let volume = json!({
            "metadata": {"name": format!("{}-{claim}", self.namespace)},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": [mode], "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": self.namespace, "name": claim},
                "csi": {"driver": "disks.example.com", "volumeHandle": format!("{}-{claim}", self.namespace)},
            },
        });
        let volume: PersistentVolume = serde_json::from_value(volume).unwrap();
        Api::<PersistentVolume>::all(self.client.clone())
            .create(&PostParams::default(), &volume)
            .await
            .unwrap();
    }

    /// Makes a node the fullest by far, so that a pod that is free to choose goes elsewhere.
    pub async fn fill(&self, node: &str) {
        let pod = json!({
            "metadata": {"generateName": "filler-"},
            "spec": {"nodeName": node, "containers": [{
                "name": "filler", "image": "x", "resources": {"requests": {"cpu": "2500m", "memory": "5Gi"}},
            }]},
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }

    /// Takes no further pods onto a node.
    pub async fn cordon(&self, node: &str) {
        let patch = json!({"spec": {"unschedulable": true}});
        Api::<Node>::all(self.client.clone())
            .patch(node, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    /// The pods with a label that aren't on their way out.
    pub async fn pods(&self, selector: &str) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = pods.list(&ListParams::default().labels(selector)).await;
        let mut all = all.unwrap().items;
        all.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        all
    }

    /// Waits until the scheduler has put the one pod with a label onto a node; the pod's name and the node's.
    pub async fn placed(&self, selector: &str) -> (String, String) {
        eventually(SOON, &format!("{selector} has a node"), async || {
            let pods = self.pods(selector).await;
            match pods.as_slice() {
                [pod] => {
                    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                    node.map(|node| (pod.name_any(), node))
                        .ok_or_else(|| json!(pod.status).to_string())
                }
                pods => Err(format!("{} pods", pods.len())),
            }
        })
        .await
    }
}

/// One round over the pods that have a node.
async fn run(pods: &Api<Pod>, script: &Script) -> kube::Result<()> {
    for pod in pods.list(&ListParams::default()).await? {
        let name = pod.name_any();
        if pod
            .spec
            .as_ref()
            .is_none_or(|spec| spec.node_name.is_none())
        {
            continue;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            let now = DeleteParams::default().grace_period(0);
            pods.delete(&name, &now).await?;
            continue;
        }
        let pod = json!(pod);
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        if ["Succeeded", "Failed"].contains(&phase) {
            continue;
        }
        let container = &pod["spec"]["containers"][0];
        let said = (container["name"] == "job").then(|| {
            let text = container["env"][0]["value"].as_str().unwrap_or_default();
            script(&serde_json::from_str(text).unwrap_or_default())
        });
        let status = match said.flatten() {
            Some(said) => {
                let failed = said["result"] == "failed";
                json!({
                    "phase": if failed { "Failed" } else { "Succeeded" },
                    "containerStatuses": [{"name": "job", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                        "state": {"terminated": {"exitCode": i32::from(failed), "message": said.to_string()}}}],
                })
            }
            None if phase == "Running" => continue,
            None => {
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
            }
        };
        let patch = json!({"status": status});
        // Not a merge: the condition of the scheduler stays.
        pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await?;
    }
    Ok(())
}
