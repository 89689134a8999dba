//! Objects of any kind as a user's tools see them: YAML in, JSON out.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use crate::command;
use crate::sandbox::Sandbox;
use crate::wait::eventually;

impl Sandbox {
    /// `kubectl ARGUMENTS` in this namespace; a failure is an error with what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", self.namespace.as_str()];
        all.extend(arguments);
        command::run("kubectl", &all).await
    }

    /// `kubectl apply` of YAML.
    pub async fn apply(&self, manifest: &str) -> Result<String> {
        command::apply(&self.namespace, manifest).await
    }

    /// The object as JSON.
    pub async fn object(&self, kind: &str, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.kubectl(&["get", kind, name, "-o", "json"]).await?,
        )?)
    }

    /// The objects of a kind as JSON.
    pub async fn objects(&self, kind: &str) -> Result<Vec<Value>> {
        let list: Value = serde_json::from_str(&self.kubectl(&["get", kind, "-o", "json"]).await?)?;
        list["items"]
            .as_array()
            .cloned()
            .context("kubectl get prints a list")
    }

    /// Waits until `holds` says yes of an object; gives it.
    pub async fn until(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        eventually(limit, &format!("{kind} {name}: {what}"), || async {
            let object = self.object(kind, name).await?;
            if holds(&object) {
                Ok(Some(object))
            } else {
                Err(anyhow!("{:#}", object["status"]))
            }
        })
        .await
    }

    /// Waits until the condition `kind` has `status` and `reason`, each unless empty; gives its message.
    pub async fn settles(
        &self,
        object: (&str, &str),
        kind: &str,
        status: &str,
        reason: &str,
        limit: Duration,
    ) -> Result<String> {
        let what = format!("{kind}={status} {reason}");
        let fits = |object: &Value| {
            let found = condition(object, kind);
            !found.is_null()
                && (status.is_empty() || found["status"] == status)
                && (reason.is_empty() || found["reason"] == reason)
        };
        let found = self.until(object.0, object.1, &what, limit, fits).await?;
        Ok(condition(&found, kind)["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Merges `patch` into an object.
    pub async fn patch(&self, kind: &str, name: &str, patch: &Value) -> Result<()> {
        let patch = patch.to_string();
        self.kubectl(&["patch", kind, name, "--type=merge", "-p", &patch])
            .await
            .map(drop)
    }
}

/// A `StorageBackup` of the predictor `nvda`.
pub fn backup(name: &str, spec: &Value) -> String {
    let mut object = json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageBackup",
        "metadata": {"name": name}, "spec": spec,
    });
    object["spec"]["predictorRef"] = json!({"name": "nvda"});
    object.to_string()
}

/// The condition of an object; null where it has none of that type.
pub fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind);
    found.cloned().unwrap_or_default()
}
