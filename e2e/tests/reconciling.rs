//! Drift, changes of settings, and silence when there is nothing to do.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::json;
use stockpredictor_e2e::sandbox::{READY, SOON};
use stockpredictor_e2e::wait::{eventually, unchanged};
use stockpredictor_e2e::{Sandbox, chart, with_namespace};

/// Deletes the child `name` of kind `K` and waits for another of that name.
async fn comes_back<K>(sandbox: &Sandbox, name: &str) -> Result<()>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = sandbox.api();
    let before = api.get(name).await?.uid();
    api.delete(name, &DeleteParams::default()).await?;
    eventually(
        SOON,
        &format!("{} {name} comes back", std::any::type_name::<K>()),
        || async {
            Ok(api
                .get_opt(name)
                .await?
                .filter(|now| now.uid() != before)
                .map(drop))
        },
    )
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn drift_is_repaired_and_what_is_not_ours_is_left_alone() {
    with_namespace("drift", |sandbox| async move {
        sandbox.create_predictor("nvda", json!({})).await?;
        sandbox.ready("nvda").await?;

        comes_back::<ConfigMap>(&sandbox, "nvda").await?;
        comes_back::<Service>(&sandbox, "nvda").await?;
        comes_back::<ServiceAccount>(&sandbox, "nvda").await?;
        comes_back::<NetworkPolicy>(&sandbox, "nvda").await?;

        let services: Api<Service> = sandbox.api();
        let foreign = json!({"metadata": {"labels": {"team": "quant"}}, "spec": {"ports": [{"name": "http", "port": 8080, "targetPort": 9999}]}});
        services.patch("nvda", &PatchParams::default(), &Patch::Strategic(foreign)).await?;
        eventually(SOON, "the Service's port is put back", || async {
            let service = services.get("nvda").await?;
            let port = serde_json::to_value(&service)?["spec"]["ports"][0]["targetPort"].clone();
            if port == json!("http") || port == json!(8080) { Ok(Some(())) } else { Err(anyhow!("{port}")) }
        })
        .await?;
        ensure!(services.get("nvda").await?.labels().get("team").is_some_and(|v| v == "quant"), "a foreign label was removed");

        let deployments: Api<Deployment> = sandbox.api();
        let scaled = json!({"spec": {"replicas": 0}});
        deployments.patch("nvda", &PatchParams::default(), &Patch::Merge(scaled)).await?;
        eventually(SOON, "the Deployment's replicas are put back", || async {
            let replicas = deployments.get("nvda").await?.spec.and_then(|spec| spec.replicas);
            Ok((replicas == Some(1)).then_some(()))
        })
        .await?;
        sandbox.ready("nvda").await?;
        sandbox.predict("nvda", "NVDA").await.map(drop)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_change_of_settings_rolls_the_pods_and_another_change_does_not() {
    with_namespace("rolling", |sandbox| async move {
        sandbox.create_predictor("nvda", json!({})).await?;
        sandbox.ready("nvda").await?;
        let first = sandbox.pod_uids("nvda").await?;

        // Neither concerns the pods: what happens to the claim at deletion, and whom the network lets in.
        sandbox
            .patch_predictor("nvda", json!({"storage": {"deletionPolicy": "Delete"}}))
            .await?;
        sandbox
            .patch_predictor("nvda", json!({"storage": {"deletionPolicy": "Retain"}}))
            .await?;
        sandbox.ready("nvda").await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let still = sandbox.pod_uids("nvda").await?;
        ensure!(
            first == still,
            "a change that does not concern the pods replaced them"
        );

        sandbox
            .patch_predictor("nvda", json!({"cache": {"predictionTtl": "2h"}}))
            .await?;
        sandbox.replaced("nvda", &first).await?;
        let ttl = sandbox.setting("nvda", "cache.prediction_ttl").await?;
        ensure!(
            ttl["value"] == "2h" && ttl["source"] == "settings file",
            "{ttl}"
        );

        // The guide's variables, set by the user, win over the spec.
        let second = sandbox.pod_uids("nvda").await?;
        sandbox
            .patch_predictor(
                "nvda",
                json!({"env": [{"name": "ML_PREDICTION_TTL", "value": "3h"}]}),
            )
            .await?;
        sandbox.replaced("nvda", &second).await?;
        let ttl = sandbox.setting("nvda", "cache.prediction_ttl").await?;
        ensure!(
            ttl["value"] == "3h" && ttl["source"] == "environment",
            "{ttl}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn fifty_suspended_objects_cause_no_writes_for_two_minutes_nor_over_an_operator_restart() {
    with_namespace("steady", |sandbox| async move {
        let names: Vec<String> = (0..50).map(|n| format!("quiet-{n:02}")).collect();
        stream::iter(&names)
            .map(|name| sandbox.create_predictor(name, json!({"suspend": true})))
            .buffer_unordered(10)
            .try_collect::<Vec<_>>()
            .await?;
        for name in &names {
            sandbox
                .condition(name, "Ready", "False", "Suspended", READY)
                .await?;
        }
        eventually(SOON, "the writes of creation have ended", || async {
            let before = sandbox.resource_versions().await?;
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok((before == sandbox.resource_versions().await?).then_some(()))
        })
        .await?;
        let versions = unchanged(Duration::from_mins(2), "resource versions", || {
            sandbox.resource_versions()
        })
        .await?;
        ensure!(
            versions.len() >= 50 * 6,
            "only {} objects were watched",
            versions.len()
        );

        chart::restart_operator().await?;
        let after = unchanged(
            Duration::from_secs(30),
            "resource versions after the restart",
            || sandbox.resource_versions(),
        )
        .await?;
        ensure!(versions == after, "the operator wrote after its restart");
        Ok(())
    })
    .await;
}
