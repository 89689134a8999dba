//! What to do about runs: decided by a pure function, as a truth table.
//!
//! In: the object or why it is refused, its status, its runs, and what holds it. Out: a [`Plan`]. At most one run of an
//! object goes on at a time; whatever else is due waits. Nothing is taken away whose report isn't in the status yet.

use stockpredictor_api::{RunKind, RunResult, StockPredictor, StorageBackup, StorageBackupStatus};

use super::runs::Run;
use super::validate::{Refusal, ValidatedBackup};
use crate::job::outcome::Outcome;

/// What to do about a `CronJob`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cron {
    /// Leave it, or its absence, as it is.
    Leave,
    /// Make it so.
    Apply {
        /// Whether it makes runs.
        suspend: bool,
    },
    /// Take it away.
    Remove,
}

/// A run to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// For this value of `spec.trigger`.
    Manual {
        /// The value.
        trigger: String,
        /// How many there were before.
        number: i64,
    },
    /// Because the object is new.
    Initial,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// About backups.
    pub backup: Cron,
    /// About restore tests.
    pub test: Cron,
    /// The run to begin now.
    pub begin: Option<Begin>,
    /// Names of finished Jobs that the history limits don't keep.
    pub discard: Vec<String>,
}

/// Decides.
pub fn plan(
    object: &StorageBackup,
    backup: Result<&ValidatedBackup, &Refusal>,
    runs: &[Run],
    held: Option<&str>,
    is_set_up: bool,
) -> Plan {
    let empty = StorageBackupStatus::default();
    let status = object.status.as_ref().unwrap_or(&empty);
    let news = runs.iter().any(|run| {
        let last = if run.tests() {
            &status.last_test
        } else {
            &status.last_run
        };
        run.is_news(last.as_ref())
    });
    let discard = if news {
        Vec::new()
    } else {
        discard(object, runs)
    };
    let backup = match backup {
        Ok(backup) => backup,
        Err(refusal) => {
            let cron = if refusal.stops && !news {
                Cron::Remove
            } else {
                Cron::Leave
            };
            return Plan {
                backup: cron,
                test: cron,
                begin: None,
                discard,
            };
        }
    };
    let by_hand = |run: &&Run| matches!(run.kind, RunKind::Manual | RunKind::Initial);
    let active = |run: &&Run| run.active() && !run.tests();
    let busy = runs.iter().any(|run| active(&run));
    let begin = (!busy && held.is_none())
        .then(|| due(object, status, runs, is_set_up))
        .flatten();
    // A schedule makes no run beside one that was made by hand. What it misses meanwhile is made up for afterwards.
    let beside = begin.is_some() || runs.iter().filter(active).any(|run| by_hand(&run));
    let cron = |scheduled: bool, beside: bool| match scheduled {
        true => Cron::Apply {
            suspend: backup.spec.suspend || held.is_some() || beside,
        },
        false if busy || news => Cron::Leave,
        false => Cron::Remove,
    };
    Plan {
        backup: cron(backup.schedule.is_some(), beside),
        test: cron(backup.test_schedule.is_some(), false),
        begin,
        discard,
    }
}

/// The run that is asked for and wasn't made yet.
fn due(
    object: &StorageBackup,
    status: &StorageBackupStatus,
    runs: &[Run],
    is_set_up: bool,
) -> Option<Begin> {
    let spec = &object.spec;
    let trigger = spec.trigger.as_ref();
    if let Some(trigger) = trigger.filter(|_| spec.trigger != status.acknowledged_trigger) {
        return Some(Begin::Manual {
            trigger: trigger.clone(),
            number: status.manual_runs.unwrap_or_default(),
        });
    }
    (wants_first(object, status, runs) && is_set_up).then_some(Begin::Initial)
}

/// True while the run of `spec.runOnCreate` wasn't made. It waits for the first start of the predictor, which sets the
/// volume up: an object that comes with its predictor would else use its tries up before there is something to back up.
pub fn wants_first(object: &StorageBackup, status: &StorageBackupStatus, runs: &[Run]) -> bool {
    let any = status.initial_run.is_some()
        || status.last_run.is_some()
        || runs.iter().any(|run| run.own && !run.tests());
    object.spec.run_on_create && !any
}

/// True when the predictor has told of its volume, or doesn't start by itself.
pub fn is_set_up(predictor: Option<&StockPredictor>) -> bool {
    predictor.is_some_and(|predictor| {
        let volume = predictor
            .status
            .as_ref()
            .and_then(|status| status.volume.as_ref());
        let spec = &predictor.spec;
        volume.is_some_and(|volume| volume.id.is_some()) || spec.suspend || spec.replicas == 0
    })
}

/// Finished Jobs that were made by hand, beyond the limits, oldest first. A `CronJob` looks after its own.
fn discard(object: &StorageBackup, runs: &[Run]) -> Vec<String> {
    let keep = |result, limit: i32| {
        let mut names: Vec<_> = runs
            .iter()
            .filter(|run| run.own && matches!(run.kind, RunKind::Manual | RunKind::Initial))
            .filter(|run| result_of(&run.outcome) == Some(result))
            .collect();
        names.sort_by_key(|run| run.key());
        let surplus = names
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(1));
        names
            .into_iter()
            .take(surplus)
            .map(Run::name)
            .collect::<Vec<_>>()
    };
    let mut names = keep(
        RunResult::Succeeded,
        object.spec.successful_jobs_history_limit,
    );
    names.extend(keep(
        RunResult::Failed,
        object.spec.failed_jobs_history_limit,
    ));
    names
}

fn result_of(outcome: &Outcome) -> Option<RunResult> {
    match outcome {
        Outcome::Succeeded(_) => Some(RunResult::Succeeded),
        Outcome::Failed(_) => Some(RunResult::Failed),
        _ => None,
    }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
