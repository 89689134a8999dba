//! What is the case, as conditions.
//!
//! In: everything that was seen. Out: one [`Finding`] a condition type. Pure: no clock and no client. Every message that
//! isn't good says what to do.

mod predictor;
mod volume;
mod workload;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use stockpredictor_api::condition::{ConditionType, Reason};

use super::bootstrap::Fill;
use super::claim::ClaimPlan;
use super::stats::Stats;
use super::validate::ValidatedPredictor;

/// The value of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is so.
    True,
    /// It isn't.
    False,
    /// It isn't known, or not decided yet.
    Unknown,
}

impl State {
    /// The value of `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition before it has a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its type.
    pub kind: ConditionType,
    /// Its value.
    pub state: State,
    /// Its reason.
    pub reason: Reason,
    /// What it is and what to do.
    pub message: String,
}

impl Finding {
    fn new(kind: ConditionType, state: State, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind,
            state,
            reason,
            message: message.into(),
        }
    }

    /// True when somebody has to do something about it.
    pub fn is_problem(&self) -> bool {
        match self.kind {
            ConditionType::Degraded => self.state == State::True,
            _ => {
                self.state == State::False
                    && !matches!(self.reason, Reason::Suspended | Reason::RestoreInProgress)
            }
        }
    }
}

/// Why the desired state could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `ApplyRefused`, `ApplyFailed` or `ChildNotOurs`.
    pub reason: Reason,
    /// What the API server said.
    pub message: String,
}

/// Everything that was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What should be.
    pub predictor: &'a ValidatedPredictor,
    /// What is done about the claim.
    pub plan: &'a ClaimPlan,
    /// How far the filling of a new volume is.
    pub fill: &'a Fill,
    /// The live claim.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The live Deployment.
    pub deployment: Option<&'a Deployment>,
    /// The pods that aren't being deleted.
    pub pods: &'a [Arc<Pod>],
    /// The stats of those that answered.
    pub stats: &'a [&'a Stats],
    /// Why nothing could be applied, if so.
    pub failure: Option<&'a Failure>,
    /// The conditions before, when what the predictor said last still counts: it has been silent for a moment only.
    pub carried: Option<&'a [Condition]>,
}

impl Seen<'_> {
    /// What was found about `kind` before, if that still counts and says something.
    fn carried(&self, kind: ConditionType) -> Option<Finding> {
        let old = self
            .carried?
            .iter()
            .find(|old| old.type_ == kind.as_str())?;
        let state = [State::True, State::False]
            .into_iter()
            .find(|state| state.as_str() == old.status)?;
        let reason = Reason::ALL
            .iter()
            .find(|reason| reason.as_str() == old.reason)?;
        Some(Finding::new(kind, state, *reason, old.message.clone()))
    }
}

/// One finding a type, in the order of [`ConditionType::ALL`], `Ready` first.
pub fn findings(seen: Seen<'_>) -> Vec<Finding> {
    let parts = [
        reconciled(seen.failure),
        volume::volume_ready(seen),
        workload::workload_available(seen),
        predictor::model_ready(seen),
        predictor::data_ready(seen),
        predictor::degraded(seen),
    ];
    std::iter::once(ready(&parts))
        .chain(parts.clone())
        .collect()
}

/// The findings about an object that can't even be built.
pub fn invalid(message: String) -> Vec<Finding> {
    let failure = Failure {
        reason: Reason::ApplyRefused,
        message,
    };
    let reconciled = reconciled(Some(&failure));
    vec![ready(std::slice::from_ref(&reconciled)), reconciled]
}

/// The summary: the first thing that is wrong, else the first that is not known yet. What the service lives with,
/// such as a refused growth or a full volume, doesn't make it false; it is named as the reason.
fn ready(parts: &[Finding]) -> Finding {
    let tolerated = |part: &&Finding| {
        part.kind == ConditionType::Degraded
            || matches!(
                part.reason,
                Reason::ExpansionNotSupported | Reason::ShrinkRefused | Reason::Resizing
            )
    };
    let vouched = parts
        .iter()
        .any(|part| part.kind == ConditionType::WorkloadAvailable && part.state == State::True);
    let blocking = |state: State| {
        parts.iter().find(|part| {
            // Ready pods have their model: a silent stats page alone takes nothing away.
            let vouched = vouched && part.reason == Reason::Unknown;
            part.state == state && !tolerated(part) && !vouched
        })
    };
    let of = |part: &Finding, state| {
        Finding::new(
            ConditionType::Ready,
            state,
            part.reason,
            part.message.clone(),
        )
    };
    if let Some(part) = blocking(State::False).or_else(|| blocking(State::Unknown)) {
        return of(part, State::False);
    }
    let lived_with = parts
        .iter()
        .filter(tolerated)
        .find(|part| part.is_problem() || part.reason == Reason::Resizing);
    lived_with.map_or_else(
        || {
            Finding::new(
                ConditionType::Ready,
                State::True,
                Reason::AllGood,
                "predictions are served",
            )
        },
        |part| of(part, State::True),
    )
}

fn reconciled(failure: Option<&Failure>) -> Finding {
    match failure {
        None => Finding::new(
            ConditionType::Reconciled,
            State::True,
            Reason::Applied,
            "the API server has the desired state",
        ),
        Some(failure) => Finding::new(
            ConditionType::Reconciled,
            State::False,
            failure.reason,
            failure.message.clone(),
        ),
    }
}

#[cfg(test)]
mod tests;
