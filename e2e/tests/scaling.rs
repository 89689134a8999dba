//! A ReadWriteMany volume: three replicas on it, and a rollout that goes wrong.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use stockpredictor_e2e::sandbox::{READY, SOON, is_ready};
use stockpredictor_e2e::wait::{eventually, unchanged};
use stockpredictor_e2e::{Sandbox, with_namespace};

/// A directory on the node that every user may write: what the default class
/// provisions for a claim that a pod holds.
async fn shared_directory(sandbox: &Sandbox) -> Result<String> {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "seed"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }))?;
    let claims: Api<PersistentVolumeClaim> = sandbox.api();
    claims.create(&PostParams::default(), &claim).await?;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "seed"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1001, "fsGroup": 1001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "seed", "image": std::env::var("PREDICTOR_IMAGE")?, "imagePullPolicy": "IfNotPresent", "args": ["--version"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "data", "mountPath": "/app/persistent_data"}],
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "seed"}}],
        },
    }))?;
    sandbox
        .api::<Pod>()
        .create(&PostParams::default(), &pod)
        .await?;
    let name = eventually(READY, "the seed claim is bound", || async {
        Ok(claims
            .get("seed")
            .await?
            .spec
            .and_then(|spec| spec.volume_name))
    })
    .await?;
    let volumes: Api<PersistentVolume> = Api::all(sandbox.client.clone());
    let volume = serde_json::to_value(volumes.get(&name).await?)?;
    let path = ["hostPath", "local"]
        .iter()
        .find_map(|kind| volume["spec"][kind]["path"].as_str());
    Ok(path
        .with_context(|| {
            format!("the default class provisions no directory on the node: {volume}")
        })?
        .to_owned())
}

/// Runs `test` beside a serving predictor `nvda` on a ReadWriteMany volume, which is removed afterwards.
async fn with_shared_volume<F, Fut>(name: &str, test: F)
where
    F: FnOnce(Sandbox) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    with_namespace(name, |sandbox| async move {
        let volumes: Api<PersistentVolume> = Api::all(sandbox.client.clone());
        let volume = sandbox.namespace.clone();
        let outcome = match serving(&sandbox, &volume).await {
            Ok(()) => test(sandbox).await,
            Err(error) => Err(error),
        };
        let _ = volumes.delete(&volume, &DeleteParams::default()).await;
        outcome
    })
    .await;
}

/// A predictor on a volume of the node that many pods may mount.
async fn serving(sandbox: &Sandbox, volume: &str) -> Result<()> {
    let path = shared_directory(sandbox).await?;
    let volumes: Api<PersistentVolume> = Api::all(sandbox.client.clone());
    let object: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": volume},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": volume,
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": path},
            "claimRef": {"namespace": sandbox.namespace, "name": "nvda"},
        },
    }))?;
    volumes.create(&PostParams::default(), &object).await?;
    let storage = json!({"size": "1Gi", "accessMode": "ReadWriteMany", "storageClassName": volume});
    sandbox
        .create_predictor("nvda", json!({"storage": storage}))
        .await?;
    sandbox.ready("nvda").await
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn three_replicas_on_one_volume_answer_alike() {
    with_shared_volume("scaled", |sandbox| async move { scaled(&sandbox).await }).await;
}

async fn scaled(sandbox: &Sandbox) -> Result<()> {
    let budgets: Api<PodDisruptionBudget> = sandbox.api();
    ensure!(
        budgets.get_opt("nvda").await?.is_none(),
        "one replica has a PodDisruptionBudget"
    );

    // By the scale subresource, the way an autoscaler or `kubectl scale` does it.
    sandbox
        .predictors()
        .patch_scale(
            "nvda",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"replicas": 3}})),
        )
        .await?;
    let scale = eventually(READY, "three replicas ready", || async {
        let pods = sandbox.pods("nvda").await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let scale = sandbox.predictors().get_scale("nvda").await?;
        Ok((ready == 3 && scale.status.as_ref().is_some_and(|s| s.replicas == 3)).then_some(scale))
    })
    .await?;
    let selector = scale
        .status
        .and_then(|status| status.selector)
        .unwrap_or_default();
    ensure!(
        selector.contains("app.kubernetes.io/instance=nvda"),
        "scale has no usable selector: {selector:?}"
    );
    eventually(SOON, "a PodDisruptionBudget", || async {
        Ok(budgets.get_opt("nvda").await?.map(drop))
    })
    .await?;

    // Each replica by itself: the same numbers for the same bars, whoever computes.
    let mut answers: Vec<Value> = Vec::new();
    for pod in sandbox.pods("nvda").await? {
        let pod = pod.metadata.name.context("a pod without a name")?;
        let uri = format!(
            "/api/v1/namespaces/{}/pods/{pod}:8080/proxy/api/v1/predict/NVDA",
            sandbox.namespace
        );
        let body = sandbox
            .client
            .request_text(http::Request::get(uri).body(Vec::new())?)
            .await?;
        let mut answer: Value = serde_json::from_str(&body)?;
        for volatile in ["prediction_time", "cache"] {
            answer
                .as_object_mut()
                .context("an object")?
                .remove(volatile);
        }
        answers.push(answer);
    }
    ensure!(
        answers.len() == 3 && answers.windows(2).all(|pair| pair[0] == pair[1]),
        "the replicas differ: {answers:#?}"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_bad_image_leaves_the_old_pods_answering_and_is_explained() {
    with_shared_volume("rollout", |sandbox| async move {
        let before = sandbox.pod_uids("nvda").await?;
        let image = json!({"image": "localhost/no/such:image"});
        sandbox.patch_predictor("nvda", image).await?;
        let message = sandbox
            .condition(
                "nvda",
                "WorkloadAvailable",
                "False",
                "ImagePullFailed",
                READY,
            )
            .await?;
        ensure!(
            message.contains("localhost/no/such:image") && message.contains("spec.image"),
            "{message}"
        );
        sandbox.event("nvda", "ImagePullFailed").await?;

        // Not until the next look only: for as long as nobody corrects the spec.
        unchanged(Duration::from_secs(10), "the pods that serve", || async {
            sandbox.predict("nvda", "NVDA").await?;
            let pods = sandbox.pods("nvda").await?;
            let serving = pods.iter().filter(|pod| is_ready(pod));
            let serving: Vec<_> = serving.filter_map(ResourceExt::uid).collect();
            ensure!(serving == before, "{before:?} became {serving:?}");
            Ok(serving)
        })
        .await?;

        sandbox
            .patch_predictor("nvda", json!({"image": null}))
            .await?;
        sandbox.ready("nvda").await?;
        ensure!(
            sandbox.pod_uids("nvda").await? == before,
            "the correction replaced pods that were right"
        );
        Ok(())
    })
    .await;
}
