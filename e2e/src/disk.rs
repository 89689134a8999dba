//! A small disk of the node, so that a volume can be full: a tmpfs, and a `local` volume on it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::Sandbox;
use crate::command;

/// A mounted tmpfs and its `PersistentVolume`, which has the name of the sandbox's namespace, as has its class.
pub struct Disk {
    name: String,
    node: String,
    path: String,
}

impl Disk {
    /// Mounts it and makes the volume, for the claim of the predictor `claim`.
    pub async fn create(sandbox: &Sandbox, claim: &str, size: &str) -> Result<Self> {
        let nodes = command::run("kubectl", &["get", "nodes", "-o", "json"]).await?;
        let nodes: Value = serde_json::from_str(&nodes)?;
        let node = &nodes["items"][0]["metadata"];
        let host = &node["labels"]["kubernetes.io/hostname"];
        let name = sandbox.namespace.clone();
        let disk = Self {
            path: folder(&name)?,
            node: node["name"].as_str().context("a node")?.to_owned(),
            name,
        };
        disk.on_node(&["mkdir", "-p", &disk.path]).await?;
        let options = format!("mode=0777,size={}", size.trim_end_matches('i'));
        disk.on_node(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", &disk.path])
            .await?;
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": disk.name},
            "spec": {
                "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": disk.name,
                "persistentVolumeReclaimPolicy": "Retain", "local": {"path": disk.path},
                "claimRef": {"namespace": disk.name, "name": claim},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}},
            },
        });
        let made = sandbox.apply(&volume.to_string()).await;
        if made.is_err() {
            disk.remove().await?;
        }
        made.map(|_| disk)
    }

    /// For `storageClassName`.
    pub fn class(&self) -> &str {
        &self.name
    }

    /// Unmounts it and deletes the volume. Pods that still have it keep their mount until they end.
    pub async fn remove(&self) -> Result<()> {
        let volume = [
            "delete",
            "pv",
            &self.name,
            "--ignore-not-found",
            "--wait=false",
        ];
        let deleted = command::run("kubectl", &volume).await;
        self.on_node(&["umount", "--lazy", &self.path]).await?;
        self.on_node(&["rmdir", &self.path]).await?;
        deleted.map(drop)
    }

    /// Runs a command as root on the node: this machine, or kind's container.
    async fn on_node(&self, arguments: &[&str]) -> Result<()> {
        let said = if is_kind() {
            let all = [&["exec", &self.node], arguments].concat();
            command::run("docker", &all).await
        } else {
            command::run(arguments[0], &arguments[1..]).await
        };
        said.map(drop)
    }
}

/// Whether the tests may mount something on the cluster's nodes: not on a cluster that somebody else made.
pub fn is_possible() -> bool {
    std::env::var("CLUSTER").is_ok_and(|kind| kind != "existing")
}

fn is_kind() -> bool {
    std::env::var("CLUSTER").is_ok_and(|kind| kind == "kind")
}

/// In the state of the local cluster, whose end unmounts what is left.
fn folder(name: &str) -> Result<String> {
    if is_kind() {
        return Ok(format!("/var/local/{name}"));
    }
    let config = PathBuf::from(std::env::var("KUBECONFIG").context("KUBECONFIG")?);
    let state = config.parent().context("KUBECONFIG is no path")?;
    Ok(state.join(format!("disk-{name}")).display().to_string())
}
