//! From one object to predictions, and what outlives pods, Deployments and the operator.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams};
use serde_json::{Value, json};
use stockpredictor_e2e::sandbox::{READY, SOON};
use stockpredictor_e2e::wait::eventually;
use stockpredictor_e2e::{Sandbox, chart, command, with_namespace};

const SYMBOLS: [&str; 3] = ["NVDA", "TSLA", "AAPL"];

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn one_object_becomes_predictions_through_the_service() {
    with_namespace("serving", |sandbox| async move {
        let began = Instant::now();
        sandbox.create_predictor("nvda", json!({})).await?;
        sandbox.ready("nvda").await?;
        println!(
            "from apply to Ready: {:.1} s",
            began.elapsed().as_secs_f64()
        );
        for symbol in SYMBOLS {
            let answer = sandbox.predict("nvda", symbol).await?;
            ensure!(answer["symbol"] == symbol, "{answer}");
            ensure!(
                answer["as_of"] == "2023-12-29" && answer["target_date"] == "2024-01-02",
                "{answer}"
            );
            let (low, price, high) = (
                answer["interval"]["low"].as_f64().context("low")?,
                answer["predicted_price"]
                    .as_f64()
                    .context("predicted_price")?,
                answer["interval"]["high"].as_f64().context("high")?,
            );
            ensure!(0.0 < low && low < price && price < high, "{answer}");
        }
        let (status, body) = sandbox.get("nvda", "/api/v1/predict/MSFT").await?;
        let problem: Value = serde_json::from_str(&body)?;
        ensure!(
            status == 404 && problem["type"].is_string() && problem["detail"].is_string(),
            "{status} {body}"
        );
        from_inside(&sandbox, "nvda").await?;
        columns(&sandbox).await
    })
    .await;
}

/// A client in a pod of the same namespace: cluster DNS, the Service's address, the NetworkPolicy.
async fn from_inside(sandbox: &Sandbox, name: &str) -> Result<()> {
    let url = format!(
        "http://{name}.{}.svc:8080/api/v1/predict/NVDA",
        sandbox.namespace
    );
    let image = std::env::var("OPERATOR_IMAGE")?;
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "client"},
        "spec": {"backoffLimit": 3, "template": {"spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "client", "image": image, "imagePullPolicy": "IfNotPresent", "args": ["probe", url],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        }}},
    }))?;
    let jobs: Api<Job> = sandbox.api();
    jobs.create(&PostParams::default(), &job).await?;
    eventually(SOON, "the client in the cluster succeeded", || async {
        let status = jobs.get("client").await?.status.unwrap_or_default();
        Ok((status.succeeded == Some(1)).then_some(()))
    })
    .await?;
    let pods: Api<Pod> = sandbox.api();
    let list = pods
        .list(&ListParams::default().labels("job-name=client"))
        .await?;
    let mut said = String::new();
    for pod in list {
        said += &pods.logs(&pod.name_any(), &LogParams::default()).await?;
    }
    ensure!(
        said.contains("predicted_price"),
        "the client did not print the answer: {said}"
    );
    Ok(())
}

/// The table that answers "is it fine, and since when?".
async fn columns(sandbox: &Sandbox) -> Result<()> {
    let table = command::run("kubectl", &["get", "sp", "--namespace", &sandbox.namespace]).await?;
    let (header, row) = table.trim().split_once('\n').context("two lines")?;
    for column in ["NAME", "READY", "SYMBOLS", "MODEL", "VOLUME", "USED", "AGE"] {
        ensure!(header.contains(column), "no {column} in {header}");
    }
    for value in ["nvda", "True", "NVDA,TSLA,AAPL"] {
        ensure!(row.contains(value), "no {value} in {row}");
    }
    ensure!(!row.contains("<none>"), "an empty column: {table}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn predictions_survive_pods_deployments_and_the_operator() {
    with_namespace("persist", |sandbox| async move {
        sandbox.create_predictor("nvda", json!({})).await?;
        sandbox.ready("nvda").await?;
        let first = sandbox.predict("nvda", "NVDA").await?;
        ensure!(first["cache"] == "miss", "{first}");
        let made = first["prediction_time"].clone();
        let same = |answer: &Value| answer["prediction_time"] == made && answer["cache"] == "hit";

        sandbox.replace_pods("nvda").await?;
        let answer = sandbox.predict("nvda", "NVDA").await?;
        ensure!(
            same(&answer),
            "after the pod was deleted: {answer}, first {first}"
        );

        let before = sandbox.pod_uids("nvda").await?;
        let deployments: Api<Deployment> = sandbox.api();
        deployments
            .delete("nvda", &DeleteParams::background())
            .await?;
        sandbox.replaced("nvda", &before).await?;
        let answer = sandbox.predict("nvda", "NVDA").await?;
        ensure!(
            same(&answer),
            "after the Deployment was deleted: {answer}, first {first}"
        );

        let pods_before = sandbox.pod_uids("nvda").await?;
        chart::restart_operator().await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let pods_after = sandbox.pod_uids("nvda").await?;
        ensure!(
            pods_before == pods_after,
            "the operator's restart replaced a predictor's pod"
        );
        let answer = sandbox.predict("nvda", "NVDA").await?;
        ensure!(
            same(&answer),
            "after the operator's restart: {answer}, first {first}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn suspend_stops_the_pods_and_resume_answers_from_the_same_volume() {
    with_namespace("suspend", |sandbox| async move {
        sandbox.create_predictor("nvda", json!({})).await?;
        sandbox.ready("nvda").await?;
        let first = sandbox.predict("nvda", "AAPL").await?;
        sandbox
            .patch_predictor("nvda", json!({"suspend": true}))
            .await?;
        eventually(READY, "no pod left", || async {
            Ok(sandbox.pods("nvda").await?.is_empty().then_some(()))
        })
        .await?;
        let message = sandbox
            .condition("nvda", "Ready", "False", "Suspended", SOON)
            .await?;
        ensure!(
            message.contains("spec.suspend"),
            "the message does not name the fix: {message}"
        );
        let claims = command::run(
            "kubectl",
            &["get", "pvc", "nvda", "--namespace", &sandbox.namespace],
        )
        .await?;
        ensure!(claims.contains("Bound"), "{claims}");
        sandbox
            .patch_predictor("nvda", json!({"suspend": false}))
            .await?;
        sandbox.ready("nvda").await?;
        let answer = sandbox.predict("nvda", "AAPL").await?;
        ensure!(
            answer["prediction_time"] == first["prediction_time"],
            "{answer} {first}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_kept_volume_is_taken_up_again_with_its_data() {
    with_namespace("adopt", |sandbox| async move {
        sandbox.create_predictor("nvda", json!({})).await?;
        sandbox.ready("nvda").await?;
        let first = sandbox.predict("nvda", "TSLA").await?;
        let volume = sandbox.json("nvda", "/api/v1/stats").await?["volume"]["id"].clone();
        ensure!(volume.is_string(), "stats name no volume id");

        sandbox
            .predictors()
            .delete("nvda", &DeleteParams::default())
            .await?;
        eventually(READY, "the predictor and its pods are gone", || async {
            let gone = sandbox.predictors().get_opt("nvda").await?.is_none()
                && sandbox.pods("nvda").await?.is_empty();
            Ok(gone.then_some(()))
        })
        .await?;
        let claim = command::run(
            "kubectl",
            &["get", "pvc", "nvda", "--namespace", &sandbox.namespace],
        )
        .await?;
        ensure!(claim.contains("Bound"), "the claim was not kept: {claim}");

        // Without samples: the data can only come from the kept volume.
        sandbox
            .create_predictor("nvda", json!({"samples": false}))
            .await?;
        sandbox.ready("nvda").await?;
        let answer = sandbox.predict("nvda", "TSLA").await?;
        ensure!(
            answer["prediction_time"] == first["prediction_time"],
            "{answer} {first}"
        );
        ensure!(
            sandbox.json("nvda", "/api/v1/stats").await?["volume"]["id"] == volume,
            "another volume"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn deletion_policy_delete_removes_the_claim_and_only_that() {
    with_namespace("delete", |sandbox| async move {
        sandbox
            .create_predictor("gone", json!({"storage": {"deletionPolicy": "Delete"}}))
            .await?;
        sandbox
            .create_predictor("kept", json!({"symbols": ["AAPL"]}))
            .await?;
        sandbox.ready("gone").await?;
        sandbox.ready("kept").await?;
        for name in ["gone", "kept"] {
            sandbox
                .predictors()
                .delete(name, &DeleteParams::default())
                .await?;
        }
        eventually(READY, "both objects gone", || async {
            let both = sandbox.predictors().get_opt("gone").await?.is_none()
                && sandbox.predictors().get_opt("kept").await?.is_none();
            Ok(both.then_some(()))
        })
        .await?;
        eventually(
            SOON,
            "only the claim with policy Delete is gone",
            || async {
                let claims = command::run(
                    "kubectl",
                    &[
                        "get",
                        "pvc",
                        "--namespace",
                        &sandbox.namespace,
                        "-o",
                        "name",
                    ],
                )
                .await?;
                if claims.trim() == "persistentvolumeclaim/kept" {
                    Ok(Some(()))
                } else {
                    Err(anyhow::anyhow!(claims))
                }
            },
        )
        .await
    })
    .await;
}
