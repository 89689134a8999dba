//! The pods, and how they are replaced.
//!
//! In: a validated predictor and the digest of its settings. Out: a Deployment whose rollout follows the access mode: a
//! volume for one node or pod must be let go before the next pod can have it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use stockpredictor_api::AccessMode;

use super::metadata;
use super::pod::build_pod;
use crate::stock_predictor::labels;
use crate::stock_predictor::validate::ValidatedPredictor;

/// Old `ReplicaSets` that are kept for `kubectl rollout undo`, which drift repair would undo anyway.
const HISTORY: i32 = 2;

/// The Deployment.
pub fn build_deployment(predictor: &ValidatedPredictor, settings_hash: String) -> Deployment {
    let spec = &predictor.spec;
    let mut annotations: BTreeMap<String, String> = spec.pod_annotations.clone();
    annotations.insert(labels::SETTINGS_HASH.into(), settings_hash);
    let mut pod_labels = spec.pod_labels.clone();
    pod_labels.extend(labels::pod(&predictor.name, predictor.claim_name()));
    let mut metadata = metadata(predictor);
    // A restore goes on only when it reads its own uid here: so one restore at a time has the volume, and none mistakes a
    // Deployment that was stopped for another reason, and may be started again, for one that is stopped for it.
    metadata.annotations = predictor
        .hold()
        .map(|hold| BTreeMap::from([(labels::HELD_BY.to_owned(), hold.uid.clone())]));
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(predictor.replicas),
            revision_history_limit: Some(HISTORY),
            selector: LabelSelector {
                match_labels: Some(labels::selector(&predictor.name)),
                ..LabelSelector::default()
            },
            strategy: Some(strategy(predictor.access_mode)),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(build_pod(predictor)),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn strategy(mode: AccessMode) -> DeploymentStrategy {
    match mode {
        AccessMode::ReadWriteOnce | AccessMode::ReadWriteOncePod => DeploymentStrategy {
            type_: Some("Recreate".into()),
            rolling_update: None,
        },
        AccessMode::ReadWriteMany => DeploymentStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(RollingUpdateDeployment {
                max_unavailable: Some(IntOrString::Int(0)),
                max_surge: Some(IntOrString::Int(1)),
            }),
        },
    }
}
