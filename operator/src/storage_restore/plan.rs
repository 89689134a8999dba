//! The next step of a restore, decided by pure functions, as truth tables.
//!
//! In: [`Facts`], all that was seen. Out: one [`Step`]. A phase is persisted before anything that it stands for is done, so
//! an operator that takes over goes on from the facts alone. What happened on the volume is never guessed: only the
//! message of a Job tells, and where none does, the way back is taken, which is right from every state but `committed`.
//! Forbidden here: clients, clocks, objects of the API server.

use stockpredictor_api::RestorePhase;

use super::facts::{ClaimFact, Facts, JobKind};
use super::phase;

/// After so many seconds a Job that must succeed, and failed, is tried anew.
pub const RETRY: i64 = 300;

/// What is going on, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// One word.
    pub reason: String,
    /// A sentence, with what to do if there is something.
    pub message: String,
}

impl Note {
    /// A note.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// The one thing to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing can be done now.
    Wait(Note),
    /// Put the finalizer on the object, before anything is stopped.
    SetFinalizer,
    /// Persist the next phase, with what went wrong if something did.
    Enter(RestorePhase, Option<Note>),
    /// Make the new claim.
    CreateClaim,
    /// Say on the new claim that it is filled.
    MarkFilled,
    /// Make the Job.
    Create(JobKind),
    /// Take a Job away that must not go on, or that is to be tried anew.
    Delete(JobKind),
    /// Let the object go.
    ReleaseFinalizer,
    /// It is over.
    Nothing,
}

/// True while the predictor must not run.
pub fn holds(phase: RestorePhase, one_pod: bool) -> bool {
    match phase {
        RestorePhase::Holding
        | RestorePhase::Preparing
        | RestorePhase::Switching
        | RestorePhase::RollingBack
        | RestorePhase::Held => true,
        // A volume for one pod can't be cleaned up while the predictor has it.
        RestorePhase::Committing => one_pod,
        _ => false,
    }
}

/// True while no backup of the predictor may begin.
pub fn holds_backups(phase: RestorePhase) -> bool {
    holds(phase, true) || matches!(phase, RestorePhase::Starting | RestorePhase::Restarting)
}

/// Decides.
pub fn plan(facts: &Facts) -> Step {
    if facts.phase.is_none() {
        return if facts.deleted {
            release(facts)
        } else {
            Step::Enter(RestorePhase::Pending, None)
        };
    }
    let phase = facts.phase();
    if facts.deleted
        && let Some(step) = deleted(facts, phase)
    {
        return step;
    }
    match phase {
        RestorePhase::Pending => phase::pending(facts),
        RestorePhase::Preflight => phase::preflight(facts),
        RestorePhase::Holding => phase::holding(facts),
        RestorePhase::Preparing => phase::preparing(facts),
        RestorePhase::Switching => phase::switching(facts),
        RestorePhase::Starting => phase::starting(facts),
        RestorePhase::Committing => phase::committing(facts),
        RestorePhase::Filling => phase::filling(facts),
        RestorePhase::RollingBack => phase::rolling_back(facts),
        RestorePhase::Restarting => phase::restarting(facts),
        RestorePhase::Held => phase::held(facts),
        RestorePhase::Completed
        | RestorePhase::Planned
        | RestorePhase::RolledBack
        | RestorePhase::Failed => over(facts),
    }
}

/// A deletion takes the shortest way back; what is past the point of no return is finished first.
fn deleted(facts: &Facts, phase: RestorePhase) -> Option<Step> {
    let why = || {
        Some(Note::new(
            "Deleted",
            "the StorageRestore was deleted before it was complete",
        ))
    };
    match phase {
        RestorePhase::Pending | RestorePhase::Preflight | RestorePhase::Filling => {
            Some(release(facts))
        }
        RestorePhase::Holding => Some(Step::Enter(RestorePhase::Failed, why())),
        RestorePhase::Preparing
        | RestorePhase::Switching
        | RestorePhase::Starting
        | RestorePhase::Held => Some(Step::Enter(RestorePhase::RollingBack, why())),
        RestorePhase::Restarting => Some(Step::Enter(RestorePhase::RolledBack, None)),
        _ => None,
    }
}

fn release(facts: &Facts) -> Step {
    if facts.finalizer {
        Step::ReleaseFinalizer
    } else {
        Step::Nothing
    }
}

fn over(facts: &Facts) -> Step {
    // One that ran into its limit must not use the volume any longer; and a claim that is being deleted waits for the last
    // pod that names it, also for one that ended.
    let in_the_way = match facts.claim {
        ClaimFact::Gone(_) => facts.jobs.present().next(),
        _ => facts.jobs.unfinished().next(),
    };
    match in_the_way {
        Some(kind) => Step::Delete(kind),
        None => release(facts),
    }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
