//! A Job, or the part of one that a `CronJob` repeats.
//!
//! In: a [`JobPlan`]. Out: a Job whose retries end at once when the job says that they are useless, and aren't used up by
//! pods that were taken away. Finished Jobs stay until their owner removes them: their messages are in their pods.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::pod::{CONTAINER, PodPlan, build_template};

/// The exit status with which a job says that trying again is useless.
const USELESS: i32 = 4;

/// What becomes a Job.
#[derive(Clone, Debug)]
pub struct JobPlan<'a> {
    /// Its name, at most 63 characters; the same for the same run, so that a crash never makes two.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels and those of its pod.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its owner.
    pub owner: OwnerReference,
    /// How often it is tried again.
    pub backoff_limit: i32,
    /// How long it may take with all its tries, in seconds.
    pub deadline: Option<i64>,
    /// Its pod.
    pub pod: PodPlan<'a>,
}

/// The whole Job.
///
/// # Errors
/// When the document doesn't become JSON, which tests rule out.
pub fn build_job(plan: &JobPlan<'_>) -> serde_json::Result<Job> {
    let annotations = plan.annotations.clone();
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(plan.name.clone()),
            namespace: Some(plan.namespace.clone()),
            labels: Some(plan.labels.clone()),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![plan.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(build_spec(plan)?),
        status: None,
    })
}

/// The part that doesn't depend on the single run.
///
/// # Errors
/// When the document doesn't become JSON, which tests rule out.
pub fn build_spec(plan: &JobPlan<'_>) -> serde_json::Result<JobSpec> {
    Ok(JobSpec {
        backoff_limit: Some(plan.backoff_limit),
        active_deadline_seconds: plan.deadline,
        completions: Some(1),
        parallelism: Some(1),
        pod_failure_policy: Some(failure_policy()),
        template: build_template(&plan.pod, &plan.labels)?,
        ..JobSpec::default()
    })
}

fn failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "FailJob".into(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: Some(CONTAINER.into()),
                    operator: "In".into(),
                    values: vec![USELESS],
                }),
                on_pod_conditions: None,
            },
            // A drained node or a preemption is nobody's failure.
            PodFailurePolicyRule {
                action: "Ignore".into(),
                on_exit_codes: None,
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".into(),
                    status: "True".into(),
                }]),
            },
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::document::{Document, Restore, Task};
    use crate::job::place::Mounts;
    use crate::job::pod::{Access, Settings};
    use crate::job::{Component, labels};
    use crate::stock_predictor::fixture::validated;
    use rstest::rstest;
    use serde_json::{Value, json};

    /// A Job on the volume of a predictor that is changed by `predictor`, as JSON.
    fn built(predictor: &Value, volume: Option<Access>, settings: Settings) -> Value {
        let predictor = validated(predictor);
        let plan = JobPlan {
            name: "nvda-commit".into(),
            namespace: "default".into(),
            labels: labels("nvda", Component::Restore),
            annotations: BTreeMap::new(),
            owner: OwnerReference::default(),
            backoff_limit: 2,
            deadline: Some(60),
            pod: PodPlan {
                predictor: &predictor,
                volume,
                scratch: None,
                mounts: Mounts::default(),
                settings,
                document: Document::new(Task::Undo(Restore::default())),
            },
        };
        json!(build_job(&plan).unwrap())
    }

    fn pod(job: &Value) -> &Value {
        &job["spec"]["template"]["spec"]
    }

    #[rstest]
    #[case::one_node("ReadWriteOnce", Some(Access::Backups), true)]
    #[case::one_pod("ReadWriteOncePod", Some(Access::All), false)]
    #[case::shared("ReadWriteMany", Some(Access::Backups), false)]
    #[case::without_the_volume("ReadWriteOnce", None, false)]
    fn a_job_has_to_run_beside_the_other_pods_of_a_volume_for_one_node(
        #[case] mode: &str,
        #[case] volume: Option<Access>,
        #[case] required: bool,
    ) {
        let job = built(
            &json!({"storage": {"accessMode": mode}}),
            volume,
            Settings::default(),
        );
        let template = &job["spec"]["template"];
        let label = &template["metadata"]["labels"]["stockpredictor.io/claim"];
        assert_eq!(label.is_string(), volume.is_some());
        let rules =
            &pod(&job)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(rules.is_array(), required, "{rules}");
        if required {
            assert_eq!(
                rules[0]["labelSelector"]["matchLabels"]["stockpredictor.io/claim"],
                *label
            );
        }
    }

    #[test]
    fn a_backup_may_write_nothing_but_archives() {
        let job = built(&json!({}), Some(Access::Backups), Settings::default());
        let mounts = &pod(&job)["containers"][0]["volumeMounts"];
        assert_eq!(
            *mounts,
            json!([
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "data", "mountPath": "/app/persistent_data", "readOnly": true},
                {"name": "data", "mountPath": "/app/persistent_data/backups", "subPath": "backups"},
            ])
        );
    }

    #[test]
    fn tolerations_are_the_predictors_and_the_users() {
        let (theirs, own) = (
            json!({"key": "gpu", "operator": "Exists"}),
            json!({"key": "night"}),
        );
        let settings = Settings {
            tolerations: serde_json::from_value(json!([own, theirs])).unwrap(),
            ..Settings::default()
        };
        let job = built(&json!({"tolerations": [theirs]}), None, settings);
        assert_eq!(pod(&job)["tolerations"], json!([theirs, own]));
    }

    #[test]
    fn a_job_of_a_pinned_predictor_has_its_image_and_account() {
        let predictor = json!({"image": "mine:2", "imagePullSecrets": [{"name": "registry"}]});
        let job = built(&predictor, None, Settings::default());
        let pod = pod(&job);
        assert_eq!(pod["containers"][0]["image"], "mine:2");
        assert_eq!(pod["serviceAccountName"], "nvda");
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
        assert_eq!(
            pod["securityContext"]["fsGroupChangePolicy"],
            "OnRootMismatch"
        );
    }

    #[test]
    fn labels_of_users_never_replace_ours() {
        let settings = Settings {
            labels: [("team".to_owned(), "quant".to_owned())].into(),
            ..Settings::default()
        };
        let job = built(&json!({}), None, settings);
        let labels = &job["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["team"], "quant");
        assert_eq!(labels["app.kubernetes.io/name"], "stockpredictor-job");
        assert_eq!(job["spec"]["backoffLimit"], 2);
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 60);
        assert_eq!(job["spec"]["ttlSecondsAfterFinished"], Value::Null);
    }
}
