//! Bad objects: refused at once with a sentence that names the fix, or explained by condition and Event.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use stockpredictor_e2e::sandbox::{READY, SOON, example};
use stockpredictor_e2e::wait::eventually;
use stockpredictor_e2e::{Sandbox, command, with_namespace};

/// What `kubectl apply` says to a predictor with `spec` merged into the example.
async fn refusal(sandbox: &Sandbox, name: &str, spec: &Value) -> Result<String> {
    let mut object = example()?;
    object["metadata"] = json!({"name": name});
    for (key, value) in spec.as_object().into_iter().flatten() {
        match (object["spec"][key].as_object_mut(), value.as_object()) {
            (Some(target), Some(members)) => target.extend(members.clone()),
            _ => object["spec"][key] = value.clone(),
        }
    }
    match command::apply(&sandbox.namespace, &object.to_string()).await {
        Ok(said) => anyhow::bail!("{spec} was accepted: {said}"),
        Err(refused) => Ok(refused.to_string()),
    }
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn what_cel_sees_is_refused_with_the_way_out() {
    with_namespace("refuse", |sandbox| async move {
        let table = [
            ("nvda", json!({"replicas": 3}), "ReadWriteMany"),
            ("nvda", json!({"symbols": []}), "symbols"),
            ("nvda", json!({"symbols": ["nv da"]}), "symbols"),
            ("nvda", json!({"cache": {"predictionTtl": "soon"}}), "30m"),
            (
                "nvda",
                json!({"storage": {"existingClaim": "mine", "deletionPolicy": "Delete"}}),
                "existingClaim",
            ),
            ("2fast", json!({}), "name"),
        ];
        for (name, spec, expected) in table {
            let said = refusal(&sandbox, name, &spec).await?;
            ensure!(said.contains(expected), "{spec}: {said}");
        }
        sandbox
            .create_predictor("nvda", json!({"suspend": true, "storage": {"size": "2Gi"}}))
            .await?;
        let said = refusal(&sandbox, "nvda", &json!({"storage": {"size": "1Gi"}})).await?;
        ensure!(said.contains("shrink") || said.contains("grow"), "{said}");
        let said = refusal(
            &sandbox,
            "nvda",
            &json!({"storage": {"accessMode": "ReadWriteMany"}}),
        )
        .await?;
        ensure!(said.contains("accessMode cannot change"), "{said}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn an_image_that_cannot_be_pulled_is_explained_and_the_fix_heals_it() {
    with_namespace("image", |sandbox| async move {
        sandbox
            .create_predictor("nvda", json!({"image": "localhost/no/such:image"}))
            .await?;
        let message = sandbox
            .condition("nvda", "Ready", "False", "ImagePullFailed", READY)
            .await?;
        ensure!(
            message.contains("localhost/no/such:image") && message.contains("spec.image"),
            "{message}"
        );
        sandbox.event("nvda", "ImagePullFailed").await?;
        sandbox
            .patch_predictor("nvda", json!({"image": null}))
            .await?;
        sandbox.ready("nvda").await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_missing_claim_is_named_and_used_once_it_exists() {
    with_namespace("claim", |sandbox| async move {
        sandbox.create_predictor("nvda", json!({"storage": {"existingClaim": "mine", "size": null}})).await?;
        let message = sandbox.condition("nvda", "VolumeReady", "False", "ClaimMissing", SOON).await?;
        ensure!(message.contains("mine"), "{message}");
        sandbox.event("nvda", "ClaimMissing").await?;
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "mine"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }))?;
        let claims: Api<PersistentVolumeClaim> = sandbox.api();
        claims.create(&PostParams::default(), &claim).await?;
        sandbox.ready("nvda").await?;
        ensure!(claims.get("mine").await?.owner_references().is_empty(), "the user's claim got an owner");

        // Its real access mode is checked, not the one that the object claims.
        sandbox.create_predictor("many", json!({"replicas": 2, "storage": {"existingClaim": "mine", "size": null, "accessMode": "ReadWriteMany"}})).await?;
        let message = sandbox.condition("many", "VolumeReady", "False", "AccessModeMismatch", SOON).await?;
        ensure!(message.contains("ReadWriteOnce"), "{message}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_claim_that_is_not_ours_is_never_adopted() {
    with_namespace("notours", |sandbox| async move {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": "nvda"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }))?;
        let claims: Api<PersistentVolumeClaim> = sandbox.api();
        let created = claims.create(&PostParams::default(), &claim).await?;
        sandbox.create_predictor("nvda", json!({})).await?;
        let message = sandbox.condition("nvda", "VolumeReady", "False", "ClaimNotOurs", SOON).await?;
        ensure!(message.contains("existingClaim"), "the message does not name the fix: {message}");
        ensure!(claims.get("nvda").await?.resource_version() == created.resource_version(), "the foreign claim was written");
        ensure!(sandbox.pods("nvda").await?.is_empty(), "a pod uses the foreign claim");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_pod_that_cannot_be_scheduled_and_a_growth_that_the_class_refuses_are_explained() {
    with_namespace("schedule", |sandbox| async move {
        sandbox.create_predictor("nvda", json!({"nodeSelector": {"no-such-label": "true"}})).await?;
        let message = sandbox.condition("nvda", "Ready", "False", "Unschedulable", READY).await?;
        ensure!(message.contains("nodeSelector"), "{message}");
        sandbox.patch_predictor("nvda", json!({"nodeSelector": null})).await?;
        sandbox.ready("nvda").await?;
        // The class of the test cluster cannot grow a volume: said so, and the service goes on.
        sandbox.patch_predictor("nvda", json!({"storage": {"size": "2Gi"}})).await?;
        let claims: Api<PersistentVolumeClaim> = sandbox.api();
        let expandable = command::run("kubectl", &["get", "storageclass", "-o", "jsonpath={.items[*].allowVolumeExpansion}"]).await?;
        ensure!(!expandable.contains("true"), "this cluster's classes grow volumes; this test needs one that does not");
        let message = eventually(SOON, "the condition says that the class cannot grow", || async {
            let object = sandbox.predictors().get("nvda").await?;
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.iter().find(|c| c["reason"] == "ExpansionNotSupported").cloned();
            Ok(found.map(|c| c["message"].as_str().unwrap_or_default().to_owned()))
        })
        .await?;
        ensure!(message.contains("allowVolumeExpansion"), "{message}");
        let request = serde_json::to_value(claims.get("nvda").await?)?["spec"]["resources"]["requests"]["storage"].clone();
        ensure!(request == "1Gi", "{request}");
        sandbox.predict("nvda", "NVDA").await.map(drop)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_model_that_is_missing_is_named_by_the_condition() {
    with_namespace("model", |sandbox| async move {
        sandbox
            .create_predictor("nvda", json!({"model": {"name": "my_model"}}))
            .await?;
        let message = sandbox
            .condition("nvda", "Ready", "False", "ModelMissing", READY)
            .await?;
        ensure!(message.contains("my_model"), "{message}");
        sandbox.event("nvda", "ModelMissing").await?;
        sandbox
            .patch_predictor("nvda", json!({"model": {"name": "nvda_lstm_model"}}))
            .await?;
        sandbox.ready("nvda").await
    })
    .await;
}
