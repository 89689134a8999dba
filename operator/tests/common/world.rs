//! What a cluster does by itself, scripted: pods of Deployments come and go, claims are bound, Jobs end with the message
//! that a script gives.
//!
//! In: a namespace and a script. Out: a task that plays until it is dropped. Nothing here knows what the operator wants.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// How often it looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What a Job's container says; `{"result": "failed"}` makes it fail, and nothing lets it run on.
pub type Script = Arc<dyn Fn(&Value) -> Option<Value> + Send + Sync>;

/// The task. It ends with this.
pub struct World(JoinHandle<()>);

impl Drop for World {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl World {
    /// Plays in a namespace.
    pub fn play(client: Client, namespace: &str, script: Script) -> Self {
        let namespace = namespace.to_owned();
        Self(tokio::spawn(async move {
            loop {
                // What fails, such as by a conflict, is done in the next round.
                let _ = claims(&client, &namespace).await;
                let _ = deployments(&client, &namespace).await;
                let _ = jobs(&client, &namespace, &script).await;
                tokio::time::sleep(PAUSE).await;
            }
        }))
    }
}

async fn claims(client: &Client, namespace: &str) -> kube::Result<()> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    for claim in api.list(&ListParams::default()).await? {
        let phase = claim
            .status
            .as_ref()
            .and_then(|status| status.phase.clone());
        if phase.as_deref() != Some("Bound") {
            let modes = claim
                .spec
                .as_ref()
                .and_then(|spec| spec.access_modes.clone());
            let status = json!({"status": {"phase": "Bound", "accessModes": modes, "capacity": {"storage": "1Gi"}}});
            api.patch_status(
                &claim.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&status),
            )
            .await?;
        }
    }
    Ok(())
}

async fn deployments(client: &Client, namespace: &str) -> kube::Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for deployment in api.list(&ListParams::default()).await? {
        let wanted = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1);
        let name = format!("{}-pod", deployment.name_any());
        let there = pods.get_opt(&name).await?;
        match (wanted, there) {
            (0, Some(_)) => {
                pods.delete(&name, &DeleteParams::default().grace_period(0))
                    .await?;
            }
            (1.., None) => {
                let template = json!(deployment.spec.as_ref().map(|spec| &spec.template));
                let pod = json!({
                    "metadata": {"name": name, "labels": template["metadata"]["labels"]}, "spec": template["spec"],
                });
                create(&pods, &pod).await?;
                let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
                pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&ready))
                    .await?;
            }
            _ => {}
        }
        let status = json!({
            "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": wanted, "availableReplicas": wanted,
            "observedGeneration": deployment.metadata.generation,
        });
        let same = deployment.status.as_ref().is_some_and(|now| {
            now.observed_generation == deployment.metadata.generation
                && now.ready_replicas.unwrap_or_default() == wanted
        });
        if !same {
            let patch = json!({"status": status});
            api.patch_status(
                &deployment.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await?;
        }
    }
    Ok(())
}

async fn jobs(client: &Client, namespace: &str, script: &Script) -> kube::Result<()> {
    let api: Api<Job> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for job in api.list(&ListParams::default()).await? {
        let over = job
            .status
            .as_ref()
            .is_some_and(|status| status.conditions.is_some());
        if over || job.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let template = json!(job.spec.as_ref().map(|spec| &spec.template));
        let variable = template["spec"]["containers"][0]["env"][0]["value"].as_str();
        let document: Value = serde_json::from_str(variable.unwrap_or("null")).unwrap_or_default();
        let Some(said) = script(&document) else {
            continue;
        };
        let name = format!("{}-x", job.name_any());
        if pods.get_opt(&name).await?.is_none() {
            let pod = json!({
                "metadata": {
                    "name": name, "labels": template["metadata"]["labels"],
                    "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job.name_any(), "uid": job.uid(),
                        "controller": true}],
                },
                "spec": template["spec"],
            });
            create(&pods, &pod).await?;
        }
        let failed = said["result"] == "failed";
        let ended = json!({"status": {
            "phase": if failed { "Failed" } else { "Succeeded" },
            "containerStatuses": [{"name": "job", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": i32::from(failed), "message": said.to_string()}}}],
        }});
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&ended))
            .await?;
        let now = k8s_openapi::jiff::Timestamp::from_second(
            k8s_openapi::jiff::Timestamp::now().as_second(),
        )
        .map(|now| now.to_string())
        .unwrap_or_default();
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Scripted", "lastTransitionTime": now});
        let status = if failed {
            json!({"startTime": now, "failed": 1, "conditions": [condition("FailureTarget"), condition("Failed")]})
        } else {
            json!({"startTime": now, "completionTime": now, "succeeded": 1,
                "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]})
        };
        let patch = json!({"status": status});
        api.patch_status(
            &job.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await?;
    }
    Ok(())
}

async fn create(pods: &Api<Pod>, pod: &Value) -> kube::Result<()> {
    let pod: Pod = serde_json::from_value(pod.clone()).map_err(kube::Error::SerdeError)?;
    pods.create(&PostParams::default(), &pod).await.map(|_| ())
}
