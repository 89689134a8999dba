//! How many pods a drain may take away at once: one, when there are several. With a single replica there is no budget,
//! since it could only block drains.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::stock_predictor::labels;
use crate::stock_predictor::validate::ValidatedPredictor;

/// The `PodDisruptionBudget`, above one replica.
pub fn build_budget(predictor: &ValidatedPredictor) -> Option<PodDisruptionBudget> {
    (predictor.replicas > 1).then(|| PodDisruptionBudget {
        metadata: metadata(predictor),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(labels::selector(&predictor.name)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    })
}
