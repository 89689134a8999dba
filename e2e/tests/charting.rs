//! The chart over a life: CRDs by kubectl first, install, upgrade, uninstall.
//! One test, because each step starts where the last one ended; it runs in a
//! binary of its own, so that no other test meets the operator while it is away.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use stockpredictor_e2e::{Sandbox, chart, command, wait, with_namespace};

const CRD: &str = "stockpredictors.stockpredictor.io";

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn the_chart_installs_over_applied_crds_upgrades_quietly_and_leaves_data_behind() {
    with_namespace("chart", |sandbox| async move {
        install_over_applied_crds().await?;
        let image = std::env::var("PREDICTOR_IMAGE")?;
        sandbox
            .create_predictor("pinned", json!({"image": image}))
            .await?;
        sandbox.ready("pinned").await?;
        let first = sandbox.predict("pinned", "NVDA").await?;
        chart_test().await?;
        upgrade_restarts_no_pinned_predictor(&sandbox).await?;
        uninstall_leaves_data(&sandbox, &first).await?;
        install_takes_over_crds(&sandbox, &first).await
    })
    .await;
}

/// From nothing: no release, no CRDs; then the CRDs by kubectl; then the chart.
async fn install_over_applied_crds() -> Result<()> {
    let crds = format!("{}/../crds", env!("CARGO_MANIFEST_DIR"));
    uninstall().await?;
    command::run("kubectl", &["delete", "-f", &crds, "--timeout=60s"]).await?;
    command::run("kubectl", &["apply", "--server-side", "-f", &crds]).await?;
    chart::install(&["crds.install=false"], &[]).await.map(drop)
}

/// `helm test` reaches the operator from a pod.
async fn chart_test() -> Result<()> {
    let namespace = ["--namespace", chart::NAMESPACE, "--timeout", "120s"];
    let said = command::run(
        "helm",
        &[&["test", chart::RELEASE], &namespace[..]].concat(),
    )
    .await?;
    ensure!(said.contains("Succeeded"), "{said}");
    Ok(())
}

/// An upgrade that changes the operator's default image, its flags and its pod.
async fn upgrade_restarts_no_pinned_predictor(sandbox: &Sandbox) -> Result<()> {
    let before = pods(sandbox).await?;
    let values = [
        "crds.install=false",
        "predictorImage.tag=some-other-release",
        "logLevel=debug",
    ];
    chart::install(&values, &[]).await?;
    let after = wait::unchanged(
        Duration::from_secs(15),
        "the pinned predictor's pods",
        || pods(sandbox),
    )
    .await?;
    ensure!(
        before == after,
        "the upgrade restarted a predictor whose image is pinned"
    );
    Ok(())
}

/// Uninstall: objects, pods, claim and data stay, and serving goes on.
async fn uninstall_leaves_data(sandbox: &Sandbox, first: &Value) -> Result<()> {
    let before = pods(sandbox).await?;
    uninstall().await?;
    let answer = sandbox.predict("pinned", "NVDA").await?;
    ensure!(
        answer["prediction_time"] == first["prediction_time"],
        "{answer} {first}"
    );
    ensure!(
        sandbox.predictors().get_opt("pinned").await?.is_some(),
        "uninstall removed the object"
    );
    ensure!(
        before == pods(sandbox).await?,
        "uninstall replaced the pods"
    );
    Ok(())
}

/// And back, now with the chart's own CRDs taking over those that kubectl applied.
async fn install_takes_over_crds(sandbox: &Sandbox, first: &Value) -> Result<()> {
    chart::install(&[], &["--take-ownership", "--force-conflicts"]).await?;
    sandbox.ready("pinned").await?;
    let answer = sandbox.predict("pinned", "NVDA").await?;
    ensure!(
        answer["prediction_time"] == first["prediction_time"],
        "{answer} {first}"
    );
    let path = "jsonpath={.metadata.annotations.helm\\.sh/resource-policy}";
    let policy = command::run("kubectl", &["get", "crd", CRD, "-o", path]).await?;
    ensure!(
        policy == "keep",
        "uninstalling the chart would delete the CRDs and every object: {policy:?}"
    );
    // An uninstall of a chart that owns the CRDs keeps them, and the objects with them.
    uninstall().await?;
    ensure!(
        sandbox.predictors().get_opt("pinned").await?.is_some(),
        "uninstall removed the object"
    );
    chart::install(&[], &[]).await.map(drop)
}

async fn uninstall() -> Result<()> {
    command::run(
        "helm",
        &[
            "uninstall",
            chart::RELEASE,
            "--namespace",
            chart::NAMESPACE,
            "--wait",
        ],
    )
    .await
    .map(drop)
}

async fn pods(sandbox: &Sandbox) -> Result<Vec<String>> {
    sandbox.pod_uids("pinned").await
}
