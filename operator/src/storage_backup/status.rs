//! The status document and the Events that follow from its changes.
//!
//! In: what was seen, the status before, and the time. Out: the status that should be there now; and from two of them, what
//! is worth an Event. Pure. What did not change keeps its time, so that an unchanged state is an unchanged document.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use stockpredictor_api::backup_condition::{BackupCondition, BackupReason};
use stockpredictor_api::{RunKind, RunResult, StorageBackupStatus};

use super::conditions::Finding;
use super::inventory;
use super::plan::{Begin, Cron, Plan};
use super::runs::Run;
use super::validate::ValidatedBackup;

/// The longest message of a condition, in characters.
const MAX_MESSAGE: usize = 8192;

/// What runs say, folded into the status before.
pub fn with_news(before: &StorageBackupStatus, runs: &[Run]) -> StorageBackupStatus {
    let mut status = before.clone();
    let mut news: Vec<_> = runs
        .iter()
        .filter(|run| {
            let last = if run.tests() {
                &before.last_test
            } else {
                &before.last_run
            };
            run.is_news(last.as_ref())
        })
        .collect();
    news.sort_by_key(|run| run.key());
    for run in news {
        inventory::fold(&mut status, run);
    }
    note_wishes(&mut status, runs);
    let active = runs
        .iter()
        .filter(|run| run.own && run.active() && !run.tests());
    status.active = active
        .max_by_key(|run| (run.started(), run.name()))
        .map(Run::name);
    status
}

/// A Job tells which wish it is for. Where that wasn't noted when the Job was made, because the operator died or the status
/// couldn't be written, it is noted now: the next wish needs the next number.
fn note_wishes(status: &mut StorageBackupStatus, runs: &[Run]) {
    for run in runs.iter().filter(|run| run.own) {
        if run.kind == RunKind::Initial && status.initial_run.is_none() {
            status.initial_run = Some(run.name());
        }
        if let Some((trigger, number)) = run.wish()
            && number >= status.manual_runs.unwrap_or_default()
        {
            status.acknowledged_trigger = Some(trigger);
            status.manual_runs = Some(number + 1);
        }
    }
}

/// The wish that was granted is noted, so that it is granted once.
pub fn acknowledge(status: &mut StorageBackupStatus, begun: &Begin, job: &str) {
    match begun {
        Begin::Manual { trigger, number } => {
            status.acknowledged_trigger = Some(trigger.clone());
            status.manual_runs = Some(number + 1);
        }
        Begin::Initial => status.initial_run = Some(job.to_owned()),
    }
    status.active = Some(job.to_owned());
}

/// When it is due next, as far as the plan lets it run.
pub fn set_next(
    status: &mut StorageBackupStatus,
    backup: Option<&ValidatedBackup>,
    plan: &Plan,
    held: bool,
    now: Timestamp,
) {
    let stopped = held || backup.is_none_or(|backup| backup.spec.suspend);
    let due = |schedule: Option<&super::schedule::Schedule>, cron| match cron {
        Cron::Apply { .. } if !stopped => schedule?.after(now).map(Time),
        _ => None,
    };
    status.next_run = due(backup.and_then(|b| b.schedule.as_ref()), plan.backup);
    status.next_test = due(backup.and_then(|b| b.test_schedule.as_ref()), plan.test);
}

/// Conditions with their times: one whose value is the same keeps it.
pub fn set_conditions(
    status: &mut StorageBackupStatus,
    findings: &[Finding],
    generation: i64,
    now: Timestamp,
) {
    let before = std::mem::take(&mut status.conditions);
    status.observed_generation = Some(generation);
    status.conditions = findings
        .iter()
        .map(|finding| {
            let kind = finding.kind.as_str();
            let since = before
                .iter()
                .find(|old| old.type_ == kind && old.status == finding.state.as_str());
            Condition {
                type_: kind.to_owned(),
                status: finding.state.as_str().to_owned(),
                reason: finding.reason.clone(),
                message: finding.message.chars().take(MAX_MESSAGE).collect(),
                observed_generation: Some(generation),
                last_transition_time: since
                    .map_or(Time(now), |old| old.last_transition_time.clone()),
            }
        })
        .collect();
}

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `Normal` or `Warning`.
    pub warns: bool,
    /// Its reason.
    pub reason: String,
    /// What happened.
    pub text: String,
}

impl Note {
    fn new(warns: bool, reason: &str, text: impl Into<String>) -> Self {
        Self {
            warns,
            reason: reason.to_owned(),
            text: text.into(),
        }
    }

    /// The type of the Event.
    pub fn event_type(&self) -> EventType {
        if self.warns {
            EventType::Warning
        } else {
            EventType::Normal
        }
    }
}

/// What happened between two statuses.
pub fn notes(
    before: &StorageBackupStatus,
    now: &StorageBackupStatus,
    findings: &[Finding],
) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(job) = now
        .active
        .as_ref()
        .filter(|job| before.active.as_ref() != Some(job))
    {
        notes.push(Note::new(
            false,
            "BackupStarted",
            format!("the Job {job} makes a backup"),
        ));
    }
    let failed_before = before
        .last_run
        .as_ref()
        .is_some_and(|run| run.result == RunResult::Failed);
    if let Some(run) = now
        .last_run
        .as_ref()
        .filter(|run| before.last_run.as_ref() != Some(run))
    {
        let text = run.message.clone().unwrap_or_default();
        match run.result {
            RunResult::Succeeded => {
                notes.push(Note::new(false, "BackupSucceeded", text));
                if failed_before {
                    let text = "backups succeed again";
                    notes.push(Note::new(false, "BackupRecovered", text));
                }
                let newest = now.backups.first();
                if let Some((name, level)) = newest.and_then(|b| Some((&b.name, b.level.as_ref()?)))
                {
                    let text = format!("{name} is {level}");
                    notes.push(Note::new(false, "BackupVerified", text));
                }
            }
            RunResult::Failed => {
                let text = format!("{}: {text}", run.reason);
                notes.push(Note::new(true, "BackupFailed", text));
            }
        }
    }
    if let Some(run) = now
        .last_test
        .as_ref()
        .filter(|run| before.last_test.as_ref() != Some(run))
    {
        let text = run.message.clone().unwrap_or_default();
        notes.push(match run.result {
            RunResult::Succeeded => Note::new(false, "RestoreTestSucceeded", text),
            RunResult::Failed => {
                Note::new(true, "RestoreTestFailed", format!("{}: {text}", run.reason))
            }
        });
    }
    notes.extend(problems(before, now, findings));
    notes
}

/// Conditions that became bad, or bad for another reason, as far as no run has told of it.
fn problems<'a>(
    before: &'a StorageBackupStatus,
    now: &'a StorageBackupStatus,
    findings: &'a [Finding],
) -> impl Iterator<Item = Note> + 'a {
    let ended = before.last_run != now.last_run;
    let tested = before.last_test != now.last_test;
    findings.iter().filter_map(move |finding| {
        let old = before
            .conditions
            .iter()
            .find(|old| old.type_ == finding.kind.as_str());
        let same = old.is_some_and(|old| {
            old.status == finding.state.as_str() && old.reason == finding.reason
        });
        let told = match finding.kind {
            BackupCondition::Ready => true,
            BackupCondition::LastBackupSucceeded => ended,
            BackupCondition::Verified => {
                tested && finding.reason == BackupReason::RestoreTestFailed.as_str()
            }
            _ => false,
        };
        if !finding.is_problem() || same || told {
            return None;
        }
        Some(Note::new(true, &finding.reason, finding.message.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock_predictor::conditions::State;
    use serde_json::{Value, json};

    fn status(value: &Value) -> StorageBackupStatus {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn run(job: &str, result: &str) -> Value {
        json!({"job": job, "kind": "Scheduled", "result": result, "reason": "VolumeFull", "message": "so"})
    }

    fn reasons(before: &Value, now: &Value, findings: &[Finding]) -> Vec<String> {
        notes(&status(before), &status(now), findings)
            .into_iter()
            .map(|note| note.reason)
            .collect()
    }

    #[test]
    fn each_step_of_a_run_is_told_once() {
        let running = json!({"active": "a"});
        assert_eq!(reasons(&json!({}), &running, &[]), ["BackupStarted"]);
        assert_eq!(reasons(&running, &running, &[]), [""; 0]);
        let failed = json!({"lastRun": run("a", "Failed")});
        assert_eq!(reasons(&running, &failed, &[]), ["BackupFailed"]);
        let good = json!({"lastRun": run("b", "Succeeded"), "backups": [{"name": "n", "level": "Readable"}]});
        assert_eq!(
            reasons(&failed, &good, &[]),
            ["BackupSucceeded", "BackupRecovered", "BackupVerified"]
        );
        assert_eq!(reasons(&good, &good, &[]), [""; 0]);
    }

    #[test]
    fn a_problem_that_no_run_told_of_is_an_event_once() {
        let finding = |kind, reason: &str| Finding {
            kind,
            state: State::False,
            reason: reason.into(),
            message: "so".into(),
        };
        let stuck = [finding(
            BackupCondition::LastBackupSucceeded,
            "Unschedulable",
        )];
        assert_eq!(reasons(&json!({}), &json!({}), &stuck), ["Unschedulable"]);
        let mut told = status(&json!({}));
        set_conditions(&mut told, &stuck, 1, Timestamp::UNIX_EPOCH);
        assert!(notes(&told, &told, &stuck).is_empty());
        let failed = [finding(BackupCondition::LastBackupSucceeded, "VolumeFull")];
        let after = json!({"lastRun": run("a", "Failed")});
        assert_eq!(reasons(&json!({}), &after, &failed), ["BackupFailed"]);
        let suspect = [finding(BackupCondition::Verified, "Suspect")];
        assert_eq!(reasons(&json!({}), &json!({}), &suspect), ["Suspect"]);
        let on_purpose = [finding(BackupCondition::Scheduled, "Suspended")];
        assert_eq!(reasons(&json!({}), &json!({}), &on_purpose), [""; 0]);
    }

    #[test]
    fn a_wish_is_noted_with_its_number() {
        let mut noted = StorageBackupStatus::default();
        let begin = Begin::Manual {
            trigger: "now".into(),
            number: 3,
        };
        acknowledge(&mut noted, &begin, "daily-manual-x-3");
        assert_eq!(noted.acknowledged_trigger.as_deref(), Some("now"));
        assert_eq!(noted.manual_runs, Some(4));
        assert_eq!(noted.active.as_deref(), Some("daily-manual-x-3"));
    }
}
