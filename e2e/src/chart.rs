//! The chart, installed once for all tests of a run.

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use crate::command::run;

/// The release and the namespace that the tests install.
pub const RELEASE: &str = "stockpredictor";
/// See [`RELEASE`].
pub const NAMESPACE: &str = "stockpredictor";

/// The chart in the working tree.
pub fn path() -> String {
    format!("{}/../charts/stockpredictor", env!("CARGO_MANIFEST_DIR"))
}

/// `helm upgrade --install` with the images under test, further `--set` values and flags.
pub async fn install(values: &[&str], flags: &[&str]) -> Result<String> {
    let operator = image("OPERATOR_IMAGE")?;
    let predictor = image("PREDICTOR_IMAGE")?;
    let (chart, operator_repository, operator_tag) = (
        path(),
        format!("image.repository={}", operator.0),
        format!("image.tag={}", operator.1),
    );
    let (predictor_repository, predictor_tag) = (
        format!("predictorImage.repository={}", predictor.0),
        format!("predictorImage.tag={}", predictor.1),
    );
    let mut arguments = vec![
        "upgrade",
        "--install",
        RELEASE,
        &chart,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--wait",
        "--timeout",
        "180s",
        "--set",
        &operator_repository,
        "--set",
        &operator_tag,
        "--set",
        &predictor_repository,
        "--set",
        &predictor_tag,
    ];
    for value in values {
        arguments.extend(["--set", value]);
    }
    arguments.extend(flags);
    run("helm", &arguments).await
}

/// Makes sure that the operator runs, installing it at the first call of a process.
pub async fn ensure_installed() -> Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::const_new(false);
    let mut installed = INSTALLED.lock().await;
    if !*installed {
        install(&[], &[]).await.context("installing the chart")?;
        *installed = true;
    }
    Ok(())
}

/// Kills the operator's pod; its Deployment makes another one.
pub async fn kill_operator() -> Result<()> {
    let pods = ["delete", "pods", "--namespace", NAMESPACE, "--all", "--now"];
    run("kubectl", &pods).await.map(drop)
}

/// Repository and tag of the image that `variable` names.
pub fn image(variable: &str) -> Result<(String, String)> {
    let image = std::env::var(variable)
        .with_context(|| format!("{variable} is not set: run the tests by `make test-e2e`"))?;
    let (repository, tag) = image
        .rsplit_once(':')
        .with_context(|| format!("{variable}={image} has no tag"))?;
    Ok((repository.to_owned(), tag.to_owned()))
}

/// Restarts the operator the way a user does, and waits for the new pod.
pub async fn restart_operator() -> Result<()> {
    let deployment = format!("deployment/{RELEASE}");
    run(
        "kubectl",
        &["rollout", "restart", &deployment, "--namespace", NAMESPACE],
    )
    .await?;
    run(
        "kubectl",
        &[
            "rollout",
            "status",
            &deployment,
            "--namespace",
            NAMESPACE,
            "--timeout=120s",
        ],
    )
    .await?;
    Ok(())
}
