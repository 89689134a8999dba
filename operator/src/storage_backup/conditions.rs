//! What is the case, as conditions.
//!
//! In: everything that was seen. Out: one [`Finding`] a condition type. Pure. Every message that isn't good says what to do.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use stockpredictor_api::backup_condition::{BackupCondition, BackupReason};
use stockpredictor_api::{RunResult, StorageBackup, StorageBackupStatus, VerificationLevel};

use super::ACCEPT_SUSPECT;
use super::runs::Run;
use super::validate::{Refusal, accepted};
use crate::job::outcome::Outcome;
use crate::stock_predictor::conditions::State;

/// One condition before it has a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its type.
    pub kind: BackupCondition,
    /// Its value.
    pub state: State,
    /// Its reason: one of ours, or a word of a run.
    pub reason: String,
    /// What it is and what to do.
    pub message: String,
}

impl Finding {
    fn new(
        kind: BackupCondition,
        state: State,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            state,
            reason: word(reason.into()),
            message: message.into(),
        }
    }

    /// True when somebody has to do something about it.
    pub fn is_problem(&self) -> bool {
        let on_purpose = [BackupReason::Suspended, BackupReason::HeldByRestore];
        self.state == State::False
            && !on_purpose
                .iter()
                .any(|reason| reason.as_str() == self.reason)
    }
}

/// A reason in the form that the API server takes, whoever said it.
fn word(reason: String) -> String {
    let fits = reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.chars().all(|c| c.is_ascii_alphanumeric())
        && reason.len() <= 64;
    if fits {
        reason
    } else {
        BackupReason::Failed.as_str().to_owned()
    }
}

/// Why the desired state could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `ApplyRefused`, `ApplyFailed` or `ChildNotOurs`.
    pub reason: BackupReason,
    /// What the API server said.
    pub message: String,
}

/// Everything that was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What the user wrote.
    pub object: &'a StorageBackup,
    /// Why it can't become runs, if so.
    pub refusal: Option<&'a Refusal>,
    /// Why nothing could be applied, if so.
    pub failure: Option<&'a Failure>,
    /// The restore that holds backups back.
    pub held: Option<&'a str>,
    /// Its runs.
    pub runs: &'a [Run],
    /// Whether the run of `spec.runOnCreate` waits for the predictor's first start.
    pub waits: bool,
    /// The status with the news of runs.
    pub status: &'a StorageBackupStatus,
    /// The time.
    pub now: Timestamp,
}

/// One finding a type, in the order of [`BackupCondition::ALL`], `Ready` first.
pub fn findings(seen: Seen<'_>) -> Vec<Finding> {
    let parts = [
        scheduled(seen),
        last_backup(seen),
        destinations(seen),
        verified(seen),
        objectives(seen),
    ];
    std::iter::once(ready(&parts))
        .chain(parts.clone())
        .collect()
}

fn ready(parts: &[Finding]) -> Finding {
    let first = |state| parts.iter().find(|part| part.state == state);
    let of = |part: &Finding, state| {
        Finding::new(
            BackupCondition::Ready,
            state,
            part.reason.clone(),
            part.message.clone(),
        )
    };
    let problem = parts.iter().find(|part| part.is_problem());
    if let Some(part) = problem.or_else(|| first(State::False)) {
        return of(part, State::False);
    }
    match first(State::Unknown) {
        Some(part) => of(part, State::Unknown),
        None => Finding::new(
            BackupCondition::Ready,
            State::True,
            BackupReason::AllGood.as_str(),
            "backups are as asked for",
        ),
    }
}

fn scheduled(seen: Seen<'_>) -> Finding {
    let finding = |state, reason: BackupReason, message: String| {
        Finding::new(BackupCondition::Scheduled, state, reason.as_str(), message)
    };
    if let Some(refusal) = seen.refusal {
        return finding(State::False, refusal.reason, refusal.message.clone());
    }
    if let Some(failure) = seen.failure {
        return finding(State::False, failure.reason, failure.message.clone());
    }
    if let Some(restore) = seen.held {
        let message =
            format!("no backup begins while the StorageRestore {restore} works on the volume");
        return match seen.object.spec.schedule {
            Some(_) => finding(State::False, BackupReason::HeldByRestore, message),
            None => finding(State::True, BackupReason::ManualOnly, message),
        };
    }
    match (&seen.object.spec.schedule, seen.object.spec.suspend) {
        (Some(_), true) => finding(
            State::False,
            BackupReason::Suspended,
            "scheduled runs are stopped by spec.suspend; spec.trigger still works".into(),
        ),
        (Some(schedule), false) => finding(
            State::True,
            BackupReason::Active,
            format!("runs are made at {schedule}"),
        ),
        (None, _) => finding(
            State::True,
            BackupReason::ManualOnly,
            "there is no schedule; set spec.trigger to another text for each run".into(),
        ),
    }
}

fn last_backup(seen: Seen<'_>) -> Finding {
    let finding = |state, reason: &str, message: &str| {
        Finding::new(BackupCondition::LastBackupSucceeded, state, reason, message)
    };
    let working = seen
        .runs
        .iter()
        .filter(|run| run.own && !run.tests() && run.active());
    // The newest of those that go on; more than one is rare.
    let working = working.max_by_key(|run| run.started());
    match working.map(|run| &run.outcome) {
        Some(Outcome::Stuck(stuck)) => {
            return finding(State::False, stuck.reason.as_str(), &stuck.message);
        }
        Some(Outcome::Retrying(failed)) => {
            let message = format!("{}; it is tried again", failed.message);
            return finding(State::False, &failed.reason, &message);
        }
        _ => {}
    }
    match &seen.status.last_run {
        Some(last) => {
            let state = match last.result {
                RunResult::Succeeded => State::True,
                RunResult::Failed => State::False,
            };
            finding(
                state,
                &last.reason,
                last.message.as_deref().unwrap_or_default(),
            )
        }
        None if seen.status.active.is_some() => finding(
            State::Unknown,
            BackupReason::Running.as_str(),
            "the first run works",
        ),
        None if seen.waits => finding(
            State::Unknown,
            BackupReason::NoBackupYet.as_str(),
            &format!(
                "the first run begins once the StockPredictor {} has started for the first time and set its volume up",
                seen.object.spec.predictor_ref.name
            ),
        ),
        None => finding(
            State::Unknown,
            BackupReason::NoBackupYet.as_str(),
            "no run has ended yet",
        ),
    }
}

fn destinations(seen: Seen<'_>) -> Finding {
    let finding = |state, reason: BackupReason, message: String| {
        Finding::new(
            BackupCondition::DestinationsReachable,
            state,
            reason.as_str(),
            message,
        )
    };
    let wanted = &seen.object.spec.destinations;
    let known: Vec<_> = seen
        .status
        .destinations
        .iter()
        .filter(|known| wanted.iter().any(|wanted| wanted.name == known.name))
        .collect();
    let bad: Vec<_> = known
        .iter()
        .filter_map(|known| Some(format!("{}: {}", known.name, known.error.as_ref()?)))
        .collect();
    if !bad.is_empty() {
        return finding(
            State::False,
            BackupReason::DestinationFailed,
            bad.join("; "),
        );
    }
    let new: Vec<_> = wanted
        .iter()
        .filter(|wanted| !known.iter().any(|known| known.name == wanted.name))
        .map(|wanted| wanted.name.as_str())
        .collect();
    if new.is_empty() {
        finding(
            State::True,
            BackupReason::AllReachable,
            "the last run wrote to each destination".into(),
        )
    } else {
        finding(
            State::Unknown,
            BackupReason::NoBackupYet,
            format!("no run has written to {} yet", new.join(", ")),
        )
    }
}

fn verified(seen: Seen<'_>) -> Finding {
    let finding = |state, reason: &str, message: String| {
        Finding::new(BackupCondition::Verified, state, reason, message)
    };
    let Some(newest) = seen.status.backups.first() else {
        return finding(
            State::Unknown,
            BackupReason::NoBackupYet.as_str(),
            "there is no backup that could be verified".into(),
        );
    };
    if newest.suspect {
        return suspect(seen, newest);
    }
    if let Some(test) = &seen.status.last_test
        && test.result == RunResult::Failed
    {
        let why = test.message.as_deref().unwrap_or_default();
        return finding(
            State::False,
            BackupReason::RestoreTestFailed.as_str(),
            format!("the last restore test failed ({}): {why}", test.reason),
        );
    }
    let asked = seen.object.spec.verification.as_ref();
    let readable = asked.is_none_or(|asked| asked.level == VerificationLevel::Readable)
        && (seen.object.spec.encryption.is_none()
            || asked.is_some_and(|asked| asked.identity_secret.is_some()));
    let level = newest.level.as_deref();
    let enough = match level {
        Some("Readable" | "Proven") => true,
        Some("Stored") => !readable,
        _ => false,
    };
    match (level, enough) {
        (Some(level), true) => finding(
            State::True,
            level,
            format!("the newest backup, {}, is {level}", newest.name),
        ),
        _ => finding(
            State::False,
            BackupReason::NotVerified.as_str(),
            format!(
                "the newest backup, {}, was not verified as asked for ({}); the message of the last run says why",
                newest.name,
                level.unwrap_or("not at all")
            ),
        ),
    }
}

fn suspect(seen: Seen<'_>, newest: &stockpredictor_api::BackupStatus) -> Finding {
    let id = newest.id.as_deref().unwrap_or_default();
    if accepted(seen.object).iter().any(|accepted| accepted == id) {
        return Finding::new(
            BackupCondition::Verified,
            State::Unknown,
            BackupReason::SuspectAccepted.as_str(),
            format!("{} is accepted; the next run takes that up", newest.name),
        );
    }
    let why = if newest.suspect_because.is_empty() {
        "much is missing that the one before it had".to_owned()
    } else {
        newest.suspect_because.join("; ")
    };
    Finding::new(
        BackupCondition::Verified,
        State::False,
        BackupReason::Suspect.as_str(),
        format!(
            "{} is suspect: {why}; restores skip it, and it pushes nothing out; if that is as it should be: kubectl annotate sb \
             {} --overwrite {ACCEPT_SUSPECT}={id}",
            newest.name,
            seen.object.metadata.name.as_deref().unwrap_or_default()
        ),
    )
}

/// From when on the objective is missed, if nothing happens.
pub fn rpo_deadline(object: &StorageBackup, status: &StorageBackupStatus) -> Option<Timestamp> {
    let rpo = seconds(&object.spec.objectives.as_ref()?.rpo)?;
    let since: Option<&Time> = status
        .last_success
        .as_ref()
        .or(object.metadata.creation_timestamp.as_ref());
    Timestamp::from_second(since?.0.as_second().checked_add(rpo)?).ok()
}

fn objectives(seen: Seen<'_>) -> Finding {
    let finding = |state, reason: BackupReason, message: String| {
        Finding::new(
            BackupCondition::ObjectivesMet,
            state,
            reason.as_str(),
            message,
        )
    };
    let Some(objectives) = &seen.object.spec.objectives else {
        return finding(
            State::True,
            BackupReason::NoObjectives,
            "spec.objectives sets none".into(),
        );
    };
    let rpo = &objectives.rpo;
    let missed = rpo_deadline(seen.object, seen.status).is_some_and(|due| seen.now >= due);
    match (&seen.status.last_success, missed) {
        (_, true) => finding(
            State::False,
            BackupReason::RpoMissed,
            format!("there is no backup from the last {rpo}; see why the runs fail or don't begin"),
        ),
        (Some(_), false) => finding(
            State::True,
            BackupReason::WithinObjectives,
            format!("there is a backup from the last {rpo}"),
        ),
        (None, false) => finding(
            State::Unknown,
            BackupReason::NoBackupYet,
            "no run has succeeded yet".into(),
        ),
    }
}

/// `26h` in seconds.
pub fn seconds(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
#[path = "conditions_test.rs"]
mod tests;
