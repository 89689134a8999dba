//! The next step within a phase, one pure function each.
//!
//! In: [`Facts`]. Out: one [`Step`]. Forbidden here: clients, clocks, objects of the API server.

use stockpredictor_api::{OnFailure, RestorePhase};

use super::facts::{ClaimFact, Facts, JobKind, JobState, PredictorFact, Running};
use super::plan::{Note, RETRY, Step};

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

/// Before it begins.
pub fn pending(facts: &Facts) -> Step {
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

/// A backup is chosen and checked; nothing is stopped yet.
pub fn preflight(facts: &Facts) -> Step {
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
    let twins = || {
        (!facts.twins.is_empty()).then(|| {
            Note::new(
                "WaitsForPods",
                format!(
                    "other predictors that use the same claim are being stopped: {}",
                    facts.twins.join(", ")
                ),
            )
        })
    };
    holder.or_else(twins).or_else(|| {
        (!facts.users.is_empty()).then(|| {
            Note::new(
                "WaitsForPods",
                format!(
                    "these pods still use the volume: {}",
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

/// The predictors are being stopped.
pub fn holding(facts: &Facts) -> Step {
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

/// The backup is unpacked beside the data.
pub fn preparing(facts: &Facts) -> Step {
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

/// Old and new are exchanged.
pub fn switching(facts: &Facts) -> Step {
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

/// The predictor starts with the restored data.
pub fn starting(facts: &Facts) -> Step {
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
pub fn committing(facts: &Facts) -> Step {
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

/// A new claim is made and filled.
pub fn filling(facts: &Facts) -> Step {
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

/// The old data is brought back.
pub fn rolling_back(facts: &Facts) -> Step {
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

/// The predictor starts with its old data.
pub fn restarting(facts: &Facts) -> Step {
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

/// A person decides.
pub fn held(facts: &Facts) -> Step {
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
