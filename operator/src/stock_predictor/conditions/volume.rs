//! The claim, as a condition.
//!
//! In: what was seen, the plan for the claim above all. Out: `VolumeReady`.

use stockpredictor_api::condition::{ConditionType, Reason};

use super::{Finding, Seen, State};
use crate::quantity;
use crate::stock_predictor::bootstrap::Fill;
use crate::stock_predictor::claim::{self, ClaimPlan};

/// `VolumeReady`.
pub fn volume_ready(seen: Seen<'_>) -> Finding {
    let name = seen.predictor.claim_name();
    let finding = |state, reason, message: String| {
        Finding::new(ConditionType::VolumeReady, state, reason, message)
    };
    match seen.fill {
        Fill::Unneeded | Fill::Filled => {}
        Fill::Refused(why) => {
            return finding(
                State::False,
                Reason::BootstrapFailed,
                format!(
                    "the new volume can't be filled: {why}; it is tried again, and no pod starts before; correct \
                     spec.storage.bootstrapFrom, or what it names",
                ),
            );
        }
        Fill::Stuck(why) => {
            return finding(State::False, Reason::BootstrapFailed, why.clone());
        }
        Fill::StopFirst | Fill::First | Fill::Run | Fill::Running | Fill::Retry | Fill::Done => {
            return finding(
                State::Unknown,
                Reason::Bootstrapping,
                format!("the claim {name} is being filled from a backup; pods start afterwards"),
            );
        }
    }
    match seen.plan {
        ClaimPlan::Missing => finding(
            State::False,
            Reason::ClaimMissing,
            format!(
                "there is no claim {name} in this namespace; create it, and it is used at once",
            ),
        ),
        ClaimPlan::NotOurs => finding(
            State::False,
            Reason::ClaimNotOurs,
            format!(
                "the claim {name} exists and was not made for this StockPredictor; to use it, create a StockPredictor whose \
             spec.storage.existingClaim names it, else rename one of the two",
            ),
        ),
        ClaimPlan::Terminating => finding(
            State::False,
            Reason::ClaimTerminating,
            format!(
                "the claim {name} is being deleted and goes when the last pod lets it go; data that is still needed has to be \
             copied now, and a new claim is made afterwards",
            ),
        ),
        ClaimPlan::WrongAccessMode { has } => finding(
            State::False,
            Reason::AccessModeMismatch,
            format!(
                "the claim {name} can be mounted as {has} and not as {}; use another claim, or another StockPredictor with that \
             storage.accessMode",
                seen.predictor.access_mode.as_str(),
            ),
        ),
        ClaimPlan::GrowthRefused { from, to, class } => finding(
            State::False,
            Reason::ExpansionNotSupported,
            format!(
                "the claim {name} stays at {from} instead of {to}: its storage class {class:?} doesn't have allowVolumeExpansion; \
             set that if its driver can, or move the data to a StockPredictor with another class",
            ),
        ),
        ClaimPlan::ShrinkRefused { from, to } => finding(
            State::False,
            Reason::ShrinkRefused,
            format!(
                "the claim {name} stays at {from}: a volume can't shrink to {to}; set spec.storage.size to {from} or more",
            ),
        ),
        ClaimPlan::Create | ClaimPlan::Keep { .. } | ClaimPlan::Grow { .. } | ClaimPlan::Use => {
            bound(seen, name)
        }
    }
}

/// The state of a claim that may be used.
fn bound(seen: Seen<'_>, name: &str) -> Finding {
    let finding = |state, reason, message: String| {
        Finding::new(ConditionType::VolumeReady, state, reason, message)
    };
    let phase = seen.claim.and_then(claim::phase).unwrap_or("Pending");
    match phase {
        "Bound" => {
            let capacity = seen.claim.and_then(claim::capacity).unwrap_or_default();
            let larger = |asked: &String| quantity::units(asked) > quantity::units(&capacity);
            match seen.claim.and_then(claim::requested).filter(larger) {
                Some(asked) if !capacity.is_empty() => finding(
                    State::Unknown,
                    Reason::Resizing,
                    format!(
                        "the claim {name} grows from {capacity} to {asked}; some drivers finish when the pod starts anew",
                    ),
                ),
                _ => finding(
                    State::True,
                    Reason::Bound,
                    format!("the claim {name} is bound with {capacity}"),
                ),
            }
        }
        "Lost" => finding(
            State::False,
            Reason::ClaimLost,
            format!(
                "the volume behind the claim {name} is gone; restore the PersistentVolume, or delete the claim to start with an \
             empty one",
            ),
        ),
        _ => finding(
            State::Unknown,
            Reason::ClaimPending,
            format!(
                "the claim {name} waits for a volume; if this lasts, `kubectl describe pvc {name}` says why",
            ),
        ),
    }
}
