//! The next step of a restore, decided by pure functions, as truth tables.
//!
//! In: [`Facts`], all that was seen. Out: one [`Step`]. A phase is persisted before anything that it stands for is done, so
//! an operator that takes over goes on from the facts alone. What happened on the volume is never guessed: only the
//! message of a Job tells, and where none does, the way back is taken, which is right from every state but `committed`.
//! Forbidden here: clients, clocks, objects of the API server.

use stockpredictor_api::{OnFailure, RestorePhase};

use super::facts::{ClaimFact, Facts, JobKind, JobState, PredictorFact, Running};

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
        RestorePhase::Pending => pending(facts),
        RestorePhase::Preflight => preflight(facts),
        RestorePhase::Holding => holding(facts),
        RestorePhase::Preparing => preparing(facts),
        RestorePhase::Switching => switching(facts),
        RestorePhase::Starting => starting(facts),
        RestorePhase::Committing => committing(facts),
        RestorePhase::Filling => filling(facts),
        RestorePhase::RollingBack => rolling_back(facts),
        RestorePhase::Restarting => restarting(facts),
        RestorePhase::Held => held(facts),
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

fn fail(note: Note) -> Step {
    Step::Enter(RestorePhase::Failed, Some(note))
}

fn roll_back(note: Note) -> Step {
    Step::Enter(RestorePhase::RollingBack, Some(note))
}

/// A failure while the new data is, or may be, in place.
fn after_switch(facts: &Facts, note: Note) -> Step {
    if facts.on_failure == OnFailure::Hold {
        Step::Enter(RestorePhase::Held, Some(note))
    } else {
        roll_back(note)
    }
}

fn late(facts: &Facts, what: &str) -> Option<Note> {
    let limit = facts.limit()?;
    (facts.elapsed() >= limit)
        .then(|| Note::new("TimedOut", format!("{what} within {}", facts.limit_text())))
}

fn progress(message: impl Into<String>) -> Step {
    Step::Wait(Note::new("InProgress", message))
}

fn job_runs(kind: JobKind, trouble: Option<&String>) -> Step {
    match trouble {
        None => progress(format!("the Job for {} runs", kind.as_str())),
        Some(trouble) => Step::Wait(Note::new("JobNotStarted", trouble.clone())),
    }
}

/// Why the Job is late, in the words of what holds it up.
fn job_late(facts: &Facts, kind: JobKind, trouble: Option<&String>) -> Option<Note> {
    let mut note = late(facts, &format!("the Job for {} did not end", kind.as_str()))?;
    if let Some(trouble) = trouble {
        note.message = format!("{}: {trouble}", note.message);
    }
    Some(note)
}

fn pending(facts: &Facts) -> Step {
    if let Some(other) = &facts.ahead {
        return Step::Wait(Note::new(
            "WaitsForRestore",
            format!(
                "the StorageRestore {other} comes first on this claim; this one begins when it has ended. Delete the other if it isn't wanted"
            ),
        ));
    }
    match &facts.problem {
        Some(problem) if late(facts, "").is_some() => fail(problem.clone()),
        Some(problem) => Step::Wait(problem.clone()),
        // Nothing but the predictor can see such a volume. It is checked by the preparation, which changes nothing
        // that is in use.
        None if facts.blind && !facts.finalizer => Step::SetFinalizer,
        None if facts.blind => Step::Enter(RestorePhase::Holding, None),
        None => Step::Enter(RestorePhase::Preflight, None),
    }
}

fn preflight(facts: &Facts) -> Step {
    match facts.jobs.get(JobKind::Preflight) {
        JobState::Absent => match &facts.problem {
            Some(problem) => fail(problem.clone()),
            None => Step::Create(JobKind::Preflight),
        },
        JobState::Running { trouble, .. } => job_late(facts, JobKind::Preflight, trouble.as_ref())
            .map_or_else(|| job_runs(JobKind::Preflight, trouble.as_ref()), fail),
        JobState::Ending => progress("the Job for the checks ends"),
        JobState::Failed { note, .. } => fail(note.clone()),
        JobState::Succeeded { chosen: false } => fail(Note::new(
            "JobFailed",
            "the checks ended without a report; create the StorageRestore anew",
        )),
        JobState::Succeeded { .. } if facts.dry_run => Step::Enter(RestorePhase::Planned, None),
        JobState::Succeeded { .. } if facts.new_claim => Step::Enter(RestorePhase::Filling, None),
        JobState::Succeeded { .. } if !facts.finalizer => Step::SetFinalizer,
        JobState::Succeeded { .. } => Step::Enter(RestorePhase::Holding, None),
    }
}

/// What keeps the volume from being this restore's alone.
fn in_use(facts: &Facts) -> Option<Note> {
    let holder = match &facts.predictor {
        // Nobody starts pods of one that is gone.
        PredictorFact::Gone | PredictorFact::There { held: true, .. } => None,
        PredictorFact::There { .. } => {
            Some(Note::new("WaitsForPods", "the predictor is being stopped"))
        }
    };
    holder.or_else(|| {
        (!facts.users.is_empty()).then(|| {
            Note::new(
                "WaitsForPods",
                format!(
                    "these pods still use the volume: {}; it goes on when they have ended",
                    facts.users.join(", ")
                ),
            )
        })
    })
}

fn lost(facts: &Facts) -> Option<Note> {
    match &facts.claim {
        ClaimFact::Gone(why) => Some(Note::new("ClaimNotUsable", why.clone())),
        ClaimFact::Usable | ClaimFact::Missing | ClaimFact::Foreign => None,
    }
}

fn gone(facts: &Facts) -> Option<Note> {
    lost(facts).or_else(|| {
        (facts.predictor == PredictorFact::Gone).then(|| {
            Note::new(
                "ReferenceMissing",
                "the StockPredictor was deleted during the restore",
            )
        })
    })
}

fn holding(facts: &Facts) -> Step {
    if let Some(note) = gone(facts) {
        return fail(note);
    }
    match in_use(facts) {
        None => Step::Enter(RestorePhase::Preparing, None),
        Some(mut note) => match late(facts, "the volume was not let go") {
            Some(timed_out) => {
                note.message = format!("{}: {}", timed_out.message, note.message);
                note.reason = timed_out.reason;
                fail(note)
            }
            None => Step::Wait(note),
        },
    }
}

fn preparing(facts: &Facts) -> Step {
    if let Some(note) = gone(facts) {
        return roll_back(note);
    }
    match facts.jobs.get(JobKind::Prepare) {
        JobState::Absent => match (late(facts, "it could not begin"), in_use(facts)) {
            (Some(note), _) => roll_back(note),
            (None, Some(note)) => Step::Wait(note),
            (None, None) => Step::Create(JobKind::Prepare),
        },
        JobState::Running { trouble, .. } => job_late(facts, JobKind::Prepare, trouble.as_ref())
            .map_or_else(|| job_runs(JobKind::Prepare, trouble.as_ref()), roll_back),
        JobState::Ending => roll_back(Note::new(
            "JobFailed",
            "the Job that unpacks the backup was deleted",
        )),
        JobState::Failed { note, .. } => roll_back(note.clone()),
        JobState::Succeeded { chosen: false } if facts.blind => roll_back(Note::new(
            "JobFailed",
            "the preparation ended without a report",
        )),
        JobState::Succeeded { .. } => Step::Enter(RestorePhase::Switching, None),
    }
}

fn switching(facts: &Facts) -> Step {
    if let Some(note) = gone(facts) {
        return roll_back(note);
    }
    match facts.jobs.get(JobKind::Switch) {
        JobState::Absent => match (late(facts, "it could not begin"), in_use(facts)) {
            (Some(note), _) => roll_back(note),
            (None, Some(note)) => Step::Wait(note),
            (None, None) => Step::Create(JobKind::Switch),
        },
        JobState::Running { trouble, .. } => job_late(facts, JobKind::Switch, trouble.as_ref())
            .map_or_else(|| job_runs(JobKind::Switch, trouble.as_ref()), roll_back),
        JobState::Ending => roll_back(Note::new("JobFailed", "the Job that switches was deleted")),
        // Only what was switched can be looked at: a switch that fails its checks puts the old data back by itself.
        JobState::Failed { note, journal, .. } if journal.as_deref() == Some("switched") => {
            after_switch(facts, note.clone())
        }
        JobState::Failed { note, .. } => roll_back(note.clone()),
        JobState::Succeeded { .. } if facts.predictor.wanted() => {
            Step::Enter(RestorePhase::Starting, None)
        }
        JobState::Succeeded { .. } => Step::Enter(RestorePhase::Committing, None),
    }
}

fn starting(facts: &Facts) -> Step {
    if let Some(note) = gone(facts) {
        return roll_back(note);
    }
    let PredictorFact::There {
        wanted, running, ..
    } = &facts.predictor
    else {
        return progress("the predictor starts");
    };
    match running {
        // Somebody suspended it meanwhile. The switch itself has reproduced the golden predictions.
        _ if !wanted => Step::Enter(RestorePhase::Committing, None),
        Running::Ready => Step::Enter(RestorePhase::Committing, None),
        Running::Refused(why) => after_switch(facts, Note::new("NotReady", why.clone())),
        Running::NotYet(why) => match late(facts, "the predictor did not become ready") {
            Some(note) => after_switch(
                facts,
                Note::new("NotReady", format!("{}: {why}", note.message)),
            ),
            None => progress(format!(
                "the predictor starts with the restored data: {why}"
            )),
        },
    }
}

/// From here on there is no way back, so this is tried until it succeeds.
fn committing(facts: &Facts) -> Step {
    if let Some(note) = lost(facts) {
        return fail(note);
    }
    if facts.one_pod
        && facts.jobs.get(JobKind::Commit) == &JobState::Absent
        && let Some(note) = in_use(facts)
    {
        return Step::Wait(note);
    }
    until_done(facts, JobKind::Commit, RestorePhase::Completed)
}

fn until_done(facts: &Facts, kind: JobKind, next: RestorePhase) -> Step {
    match facts.jobs.get(kind) {
        JobState::Absent => Step::Create(kind),
        // Made anew, it has what was corrected meanwhile, such as an image.
        JobState::Running {
            trouble: Some(_),
            since,
        } if facts.now - since >= RETRY => Step::Delete(kind),
        JobState::Running { trouble, .. } => job_runs(kind, trouble.as_ref()),
        JobState::Ending => progress("the Job is tried anew"),
        JobState::Failed { since, .. } if facts.now - since >= RETRY => Step::Delete(kind),
        JobState::Failed { note, .. } => Step::Wait(Note::new(
            note.reason.clone(),
            format!(
                "{}; it is tried again within {} min",
                note.message,
                RETRY / 60
            ),
        )),
        JobState::Succeeded { .. } => Step::Enter(next, None),
    }
}

fn filling(facts: &Facts) -> Step {
    match facts.claim {
        ClaimFact::Missing => return Step::CreateClaim,
        ClaimFact::Foreign => {
            return fail(Note::new(
                "ClaimExists",
                "a claim of this name exists that this restore did not make; choose another name in target.newClaim",
            ));
        }
        ClaimFact::Usable | ClaimFact::Gone(_) => {}
    }
    match facts.jobs.get(JobKind::Fill) {
        JobState::Absent => Step::Create(JobKind::Fill),
        JobState::Running { trouble, .. } => job_late(facts, JobKind::Fill, trouble.as_ref())
            .map_or_else(|| job_runs(JobKind::Fill, trouble.as_ref()), fail),
        JobState::Ending => fail(Note::new("JobFailed", "the Job that fills was deleted")),
        JobState::Failed { note, .. } => fail(note.clone()),
        JobState::Succeeded { .. } if !facts.filled => Step::MarkFilled,
        JobState::Succeeded { .. } => Step::Enter(RestorePhase::Completed, None),
    }
}

fn rolling_back(facts: &Facts) -> Step {
    if lost(facts).is_some() {
        return Step::Enter(RestorePhase::RolledBack, None);
    }
    let forward = [JobKind::Prepare, JobKind::Switch];
    for kind in forward {
        match facts.jobs.get(kind) {
            JobState::Running { .. } => return Step::Delete(kind),
            JobState::Ending => return progress("the Job that was under way ends"),
            _ => {}
        }
    }
    if facts.jobs.get(JobKind::Undo) == &JobState::Absent
        && let Some(note) = in_use(facts)
    {
        return Step::Wait(note);
    }
    let next = if facts.predictor.wanted() {
        RestorePhase::Restarting
    } else {
        RestorePhase::RolledBack
    };
    until_done(facts, JobKind::Undo, next)
}

fn restarting(facts: &Facts) -> Step {
    let PredictorFact::There {
        wanted: true,
        running,
        ..
    } = &facts.predictor
    else {
        return Step::Enter(RestorePhase::RolledBack, None);
    };
    match running {
        Running::Ready => Step::Enter(RestorePhase::RolledBack, None),
        Running::NotYet(why) | Running::Refused(why) => {
            match late(
                facts,
                "the predictor did not become ready with its old data",
            ) {
                // What it was before the restore, it may not have been ready either: the end all the same.
                Some(_) => Step::Enter(RestorePhase::RolledBack, None),
                None => progress(format!("the predictor starts with its old data: {why}")),
            }
        }
    }
}

fn held(facts: &Facts) -> Step {
    let switched = facts.journal.as_deref() == Some("switched");
    match facts.decision.as_deref() {
        Some("RollBack") => Step::Enter(RestorePhase::RollingBack, None),
        Some("Commit") if switched => Step::Enter(RestorePhase::Committing, None),
        Some(other) => Step::Wait(Note::new(
            "Held",
            format!(
                "the annotation stockpredictor.io/decision={} means nothing here: {}",
                other.chars().take(40).collect::<String>(),
                if switched {
                    "write Commit or RollBack"
                } else {
                    "nothing was switched, so only RollBack is possible"
                },
            ),
        )),
        None => Step::Wait(Note::new(
            "Held",
            "the restored data is in place and the predictor stopped, for you to look; annotate the object with \
             stockpredictor.io/decision=Commit to keep the data, or RollBack to have the old data back",
        )),
    }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
