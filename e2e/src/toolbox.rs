//! A shell on a claim, from an image of the tests: what looks at, spoils and destroys files as bad luck would.

use anyhow::{Context, Result};
use serde_json::json;

use crate::Sandbox;

/// Where the claim is mounted.
pub const ROOT: &str = "/app/persistent_data";

/// The tests' own image.
pub fn image() -> Result<String> {
    std::env::var("TOOLBOX_IMAGE")
        .context("TOOLBOX_IMAGE is not set: run the tests by `make test-e2e`")
}

/// A container that the `restricted` Pod Security Standard admits.
pub fn security() -> serde_json::Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})
}

/// The same for its pod.
pub fn pod_security() -> serde_json::Value {
    json!({
        "runAsNonRoot": true, "runAsUser": 1001, "runAsGroup": 1001, "fsGroup": 1001,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    })
}

impl Sandbox {
    /// Runs a shell script with the claim mounted at [`ROOT`], its working directory; gives what it printed.
    pub async fn shell(&self, claim: &str, script: &str) -> Result<String> {
        let name = format!("toolbox-{claim}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never", "securityContext": pod_security(), "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "shell", "image": image()?, "imagePullPolicy": "IfNotPresent", "securityContext": security(),
                    "command": ["/bin/sh", "-euc", script], "workingDir": ROOT,
                    "volumeMounts": [{"name": "data", "mountPath": ROOT}],
                }],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
            },
        });
        self.apply(&pod.to_string()).await?;
        let ended = self
            .until(
                "pod",
                &name,
                "the script ended",
                crate::sandbox::SOON,
                |pod| {
                    ["Succeeded", "Failed"]
                        .iter()
                        .any(|phase| pod["status"]["phase"] == *phase)
                },
            )
            .await;
        let said = self.kubectl(&["logs", &name]).await;
        // It must not keep a restore waiting.
        self.kubectl(&["delete", "pod", &name, "--now"]).await?;
        anyhow::ensure!(
            ended?["status"]["phase"] == "Succeeded",
            "{script}: {}",
            said.unwrap_or_default()
        );
        said
    }
}
