//! The claim, as server-side apply should leave it.
//!
//! In: the plan and the live claim. Out: the claim to apply, or nothing when the plan leaves it alone. It never has
//! an owner: data must not go because an object or its uid went.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;
use stockpredictor_api::well_known::OPERATOR_NAME;

use crate::stock_predictor::bootstrap::{self, Fill};
use crate::stock_predictor::claim::{self, ClaimPlan};
use crate::stock_predictor::labels;
use crate::stock_predictor::validate::{Claim, ValidatedPredictor};

/// The claim to apply, if there is one.
pub fn build_claim(
    predictor: &ValidatedPredictor,
    plan: &ClaimPlan,
    live: Option<&PersistentVolumeClaim>,
    fill: &Fill,
) -> Option<PersistentVolumeClaim> {
    let Claim::Own { size, class, .. } = &predictor.claim else {
        return None;
    };
    let size = plan.size(size)?.to_owned();
    // Class and modes are immutable: a kept claim goes on with its own.
    let class = match live {
        Some(live) => class.as_ref().map(|_| claim::class(live)),
        None => class.clone(),
    };
    let mut annotations = BTreeMap::new();
    if live.is_none_or(labels::created_by_operator) {
        annotations.insert(labels::CREATED_BY.to_owned(), OPERATOR_NAME.to_owned());
    }
    if let Some(state) = bootstrap::annotation(fill, live) {
        annotations.insert(bootstrap::STATE.to_owned(), state.to_owned());
    }
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(predictor.name.clone()),
            namespace: Some(predictor.namespace.clone()),
            labels: Some(labels::child(&predictor.name)),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(
                match live.and_then(|live| live.spec.as_ref()?.access_modes.clone()) {
                    Some(modes) => modes,
                    None => vec![predictor.access_mode.as_str().to_owned()],
                },
            ),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(size))])),
                limits: None,
            }),
            storage_class_name: class,
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}
