//! What to do about the claim: a plan, decided by a pure function, as a truth table.
//!
//! In: what the spec asks for, the live claim, and whether its storage class can grow volumes. Out: a [`ClaimPlan`].
//! A plan never shrinks, deletes or re-creates a claim, and never touches one that isn't ours.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use stockpredictor_api::StockPredictor;

use super::labels;
use super::validate::{Claim, ValidatedPredictor};
use crate::quantity;

/// The name of the claim that a predictor uses.
pub fn claim_of(predictor: &StockPredictor) -> String {
    let storage = &predictor.spec.storage;
    storage
        .existing_claim
        .clone()
        .unwrap_or_else(|| predictor.name_any())
}

/// What to do about the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimPlan {
    /// Make it.
    Create,
    /// It is ours and as it should be; keep the size that it requests.
    Keep {
        /// The size that the live claim requests, as written there.
        size: String,
    },
    /// It is ours and should be larger.
    Grow {
        /// The size now.
        from: String,
        /// The size asked for.
        to: String,
    },
    /// It should be larger, but its class can't grow volumes.
    GrowthRefused {
        /// The size now.
        from: String,
        /// The size asked for.
        to: String,
        /// The class.
        class: String,
    },
    /// It is larger than asked for, and volumes don't shrink.
    ShrinkRefused {
        /// The size now.
        from: String,
        /// The size asked for.
        to: String,
    },
    /// The user's own claim: it is mounted, and nothing else.
    Use,
    /// The user's own claim isn't there.
    Missing,
    /// A claim with our name that the operator did not make.
    NotOurs,
    /// It is being deleted.
    Terminating,
    /// It can't be mounted the way the spec says.
    WrongAccessMode {
        /// What it has, such as `ReadWriteOnce`.
        has: String,
    },
}

impl ClaimPlan {
    /// True when pods may be started on the claim.
    pub fn usable(&self) -> bool {
        !matches!(
            self,
            Self::Missing | Self::NotOurs | Self::Terminating | Self::WrongAccessMode { .. }
        )
    }

    /// The size that is applied; nothing when the claim is not written.
    pub fn size<'a>(&'a self, asked: &'a str) -> Option<&'a str> {
        match self {
            Self::Create => Some(asked),
            Self::Keep { size } => Some(size),
            Self::Grow { to, .. } => Some(to),
            Self::GrowthRefused { from, .. } | Self::ShrinkRefused { from, .. } => Some(from),
            Self::Use
            | Self::Missing
            | Self::NotOurs
            | Self::Terminating
            | Self::WrongAccessMode { .. } => None,
        }
    }
}

/// Decides. `expandable` says whether the claim's class can grow volumes; nothing means that it is not known, and the
/// API server will tell.
pub fn plan_claim(
    predictor: &ValidatedPredictor,
    live: Option<&PersistentVolumeClaim>,
    expandable: Option<bool>,
) -> ClaimPlan {
    let Some(live) = live else {
        return if matches!(predictor.claim, Claim::Own { .. }) {
            ClaimPlan::Create
        } else {
            ClaimPlan::Missing
        };
    };
    if matches!(predictor.claim, Claim::Own { .. }) && !labels::ours(live, &predictor.name) {
        return ClaimPlan::NotOurs;
    }
    if live.metadata.deletion_timestamp.is_some() {
        return ClaimPlan::Terminating;
    }
    let modes = access_modes(live);
    if !modes
        .iter()
        .any(|mode| mode == predictor.access_mode.as_str())
    {
        return ClaimPlan::WrongAccessMode {
            has: modes.join(", "),
        };
    }
    match &predictor.claim {
        Claim::Existing { .. } => ClaimPlan::Use,
        Claim::Own { size, bytes, .. } => plan_size(live, size, *bytes, expandable),
    }
}

fn plan_size(
    live: &PersistentVolumeClaim,
    size: &str,
    bytes: u64,
    expandable: Option<bool>,
) -> ClaimPlan {
    let from = requested(live).unwrap_or_else(|| size.to_owned());
    let to = size.to_owned();
    match quantity::units(&from) {
        Some(now) if now > bytes => ClaimPlan::ShrinkRefused { from, to },
        // A claim can only grow once it is bound; until then it keeps the size it was made with.
        Some(now) if now < bytes && is_bound(live) => match expandable {
            Some(false) => ClaimPlan::GrowthRefused {
                from,
                to,
                class: class(live),
            },
            _ => ClaimPlan::Grow { from, to },
        },
        _ => ClaimPlan::Keep { size: from },
    }
}

/// True when the spec asks for more than the bound claim requests, so that its class matters.
pub fn wants_growth(size: &str, live: &PersistentVolumeClaim) -> bool {
    let (asked, now) = (
        quantity::units(size),
        requested(live).and_then(|now| quantity::units(&now)),
    );
    is_bound(live) && asked.zip(now).is_some_and(|(asked, now)| asked > now)
}

/// The modes in which the claim can be mounted: what it was bound with, else what it asks for.
pub fn access_modes(live: &PersistentVolumeClaim) -> Vec<String> {
    let real = live
        .status
        .as_ref()
        .and_then(|status| status.access_modes.clone())
        .filter(|modes| !modes.is_empty());
    real.or_else(|| {
        live.spec
            .as_ref()
            .and_then(|spec| spec.access_modes.clone())
    })
    .unwrap_or_default()
}

/// The storage class of the live claim.
pub fn class(live: &PersistentVolumeClaim) -> String {
    live.spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.clone())
        .unwrap_or_default()
}

/// The phase of the live claim.
pub fn phase(live: &PersistentVolumeClaim) -> Option<&str> {
    live.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
}

/// The capacity of the live claim, once it is bound.
pub fn capacity(live: &PersistentVolumeClaim) -> Option<String> {
    live.status
        .as_ref()?
        .capacity
        .as_ref()?
        .get("storage")
        .map(|size| size.0.clone())
}

/// What the live claim requests.
pub fn requested(live: &PersistentVolumeClaim) -> Option<String> {
    live.spec
        .as_ref()?
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")
        .map(|size| size.0.clone())
}

fn is_bound(live: &PersistentVolumeClaim) -> bool {
    phase(live) == Some("Bound")
}

/// True when the operator may delete the claim with the object: it created it, for this name.
pub fn deletable(live: &PersistentVolumeClaim, name: &str) -> bool {
    labels::ours(live, name) && labels::created_by_operator(live) && live.name_any() == name
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::stock_predictor::fixture::{merge, validated};
    use rstest::rstest;
    use serde_json::{Value, json};

    /// A bound claim of ours with 10Gi, changed by a merge patch.
    pub fn claim(changes: &Value) -> PersistentVolumeClaim {
        let mut object = json!({
            "metadata": {
                "name": "nvda", "namespace": "default", "labels": labels::child("nvda"),
                "annotations": {labels::CREATED_BY: "stockpredictor-operator"},
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "standard",
                "resources": {"requests": {"storage": "10Gi"}},
            },
            "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "10Gi"}},
        });
        merge(&mut object, changes);
        serde_json::from_value(object).unwrap()
    }

    fn of_size(size: &str) -> PersistentVolumeClaim {
        claim(&json!({"spec": {"resources": {"requests": {"storage": size}}}}))
    }

    fn keep(size: &str) -> ClaimPlan {
        ClaimPlan::Keep { size: size.into() }
    }

    #[rstest]
    #[case::first_time(None, None, ClaimPlan::Create)]
    #[case::same(Some(claim(&json!({}))), None, keep("10Gi"))]
    #[case::same_but_written_otherwise(Some(of_size("10240Mi")), None, keep("10240Mi"))]
    #[case::smaller_and_expandable(Some(of_size("5Gi")), Some(true), ClaimPlan::Grow { from: "5Gi".into(), to: "10Gi".into() })]
    #[case::smaller_and_class_unknown(Some(of_size("5Gi")), None, ClaimPlan::Grow { from: "5Gi".into(), to: "10Gi".into() })]
    #[case::smaller_and_not_expandable(Some(of_size("5Gi")), Some(false),
        ClaimPlan::GrowthRefused { from: "5Gi".into(), to: "10Gi".into(), class: "standard".into() })]
    #[case::smaller_and_pending(
        Some(claim(&json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}, "status": {"phase": "Pending"}}))), Some(true), keep("5Gi"))]
    #[case::larger(Some(of_size("20Gi")), Some(true), ClaimPlan::ShrinkRefused { from: "20Gi".into(), to: "10Gi".into() })]
    #[case::without_our_label(Some(claim(&json!({"metadata": {"labels": {labels::MANAGED_BY_LABEL: "Helm"}}}))), None, ClaimPlan::NotOurs)]
    #[case::of_another_predictor(Some(claim(&json!({"metadata": {"labels": {labels::INSTANCE_LABEL: "tsla"}}}))), None, ClaimPlan::NotOurs)]
    #[case::foreign_and_terminating(
        Some(claim(&json!({"metadata": {"labels": null, "deletionTimestamp": "2024-01-02T00:00:00Z"}}))), None, ClaimPlan::NotOurs)]
    #[case::terminating(Some(claim(&json!({"metadata": {"deletionTimestamp": "2024-01-02T00:00:00Z"}}))), None, ClaimPlan::Terminating)]
    #[case::kept_from_an_object_with_another_mode(
        Some(claim(&json!({"status": {"accessModes": ["ReadWriteMany"]}}))), None, ClaimPlan::WrongAccessMode { has: "ReadWriteMany".into() })]
    #[case::adopted_without_annotation(Some(claim(&json!({"metadata": {"annotations": null}}))), None, keep("10Gi"))]
    fn plan_for_an_own_claim(
        #[case] live: Option<PersistentVolumeClaim>,
        #[case] expandable: Option<bool>,
        #[case] plan: ClaimPlan,
    ) {
        assert_eq!(
            plan_claim(&validated(&json!({})), live.as_ref(), expandable),
            plan
        );
    }

    #[rstest]
    #[case::missing(None, ClaimPlan::Missing)]
    #[case::there(Some(claim(&json!({"metadata": {"labels": null}}))), ClaimPlan::Use)]
    #[case::larger_or_smaller_does_not_matter(Some(of_size("1Gi")), ClaimPlan::Use)]
    #[case::the_bound_mode_counts(
        Some(claim(&json!({"spec": {"accessModes": ["ReadWriteMany"]}}))), ClaimPlan::Use)]
    #[case::unbound_the_asked_mode_counts(
        Some(claim(&json!({"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"accessModes": null}}))),
        ClaimPlan::WrongAccessMode { has: "ReadWriteMany".into() })]
    #[case::one_of_several_modes(
        Some(claim(&json!({"status": {"accessModes": ["ReadWriteMany", "ReadWriteOnce"]}}))), ClaimPlan::Use)]
    #[case::terminating(Some(claim(&json!({"metadata": {"deletionTimestamp": "2024-01-02T00:00:00Z"}}))), ClaimPlan::Terminating)]
    fn plan_for_the_users_claim(
        #[case] live: Option<PersistentVolumeClaim>,
        #[case] plan: ClaimPlan,
    ) {
        let predictor = validated(&json!({"storage": {"size": null, "existingClaim": "mine"}}));
        assert_eq!(plan_claim(&predictor, live.as_ref(), None), plan);
    }

    #[rstest]
    #[case::ours(claim(&json!({})), true)]
    #[case::found_not_created(claim(&json!({"metadata": {"annotations": null}})), false)]
    #[case::label_gone(claim(&json!({"metadata": {"labels": null}})), false)]
    #[case::of_another(claim(&json!({"metadata": {"name": "tsla"}})), false)]
    fn only_a_created_claim_is_deletable(
        #[case] live: PersistentVolumeClaim,
        #[case] deletable: bool,
    ) {
        assert_eq!(super::deletable(&live, "nvda"), deletable);
    }

    #[rstest]
    #[case(ClaimPlan::Create, Some("20Gi"))]
    #[case(keep("10Gi"), Some("10Gi"))]
    #[case(ClaimPlan::Grow { from: "10Gi".into(), to: "20Gi".into() }, Some("20Gi"))]
    #[case(ClaimPlan::GrowthRefused { from: "10Gi".into(), to: "20Gi".into(), class: String::new() }, Some("10Gi"))]
    #[case(ClaimPlan::ShrinkRefused { from: "30Gi".into(), to: "20Gi".into() }, Some("30Gi"))]
    #[case(ClaimPlan::Use, None)]
    #[case(ClaimPlan::NotOurs, None)]
    fn a_plan_never_applies_less_than_the_claim_has(
        #[case] plan: ClaimPlan,
        #[case] size: Option<&str>,
    ) {
        assert_eq!(plan.size("20Gi"), size);
    }
}
