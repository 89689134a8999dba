//! A model of one's own: trained in the cluster, checked, taken up without a restart.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::json;
use stockpredictor_e2e::sandbox::SOON;
use stockpredictor_e2e::wait::eventually;
use stockpredictor_e2e::with_namespace;

/// Training takes minutes on two cores that other tests use too.
const TRAINED: Duration = Duration::from_mins(9);

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_version_that_is_trained_on_the_volume_is_taken_up_without_a_restart() {
    with_namespace("model", |sandbox| async move {
        sandbox.create_predictor("nvda", json!({})).await?;
        sandbox.ready("nvda").await?;
        let first = sandbox.predict("nvda", "NVDA").await?;
        let pods = sandbox.pod_uids("nvda").await?;

        let mut job: serde_json::Value =
            serde_yaml::from_str(include_str!("../../examples/train-job.yaml"))?;
        // The example names the release's image; the one under test takes its place.
        job["spec"]["template"]["spec"]["containers"][0]["image"] =
            json!(std::env::var("PREDICTOR_IMAGE")?);
        let job: Job = serde_json::from_value(job)?;
        let jobs: Api<Job> = sandbox.api();
        let name = jobs.create(&PostParams::default(), &job).await?.name_any();
        let succeeded = eventually(TRAINED, "the training job ended", || async {
            let status = jobs.get(&name).await?.status.unwrap_or_default();
            Ok(status
                .succeeded
                .or(status.failed)
                .map(|_| status.succeeded == Some(1)))
        })
        .await?;
        ensure!(succeeded, "the training job failed");

        let answer = eventually(SOON, "the new version answers", || async {
            let answer = sandbox.predict("nvda", "NVDA").await?;
            if answer["model"]["version"] == "seed-7" {
                Ok(Some(answer))
            } else {
                Err(anyhow!("{answer}"))
            }
        })
        .await?;
        ensure!(
            answer["model"]["sha256"] != first["model"]["sha256"],
            "another version, the same model"
        );
        ensure!(
            answer["prediction_time"] != first["prediction_time"],
            "an answer of the old model was served as the new one's"
        );
        eventually(SOON, "the status names the new version", || async {
            let object = sandbox.predictors().get("nvda").await?;
            Ok((object.data["status"]["model"]["version"] == "seed-7").then_some(()))
        })
        .await?;
        let after = sandbox.pod_uids("nvda").await?;
        ensure!(pods == after, "taking the model up restarted the pod");
        Ok(())
    })
    .await;
}
