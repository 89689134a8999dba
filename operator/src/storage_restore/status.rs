//! The status document of a restore.
//!
//! In: the status before, what is entered or waited for, what Jobs said, and the time. Out: the status that should be
//! there. Pure. Times are set when a phase begins and never again, so waiting writes nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use stockpredictor_api::restore_condition::{RestoreCondition, RestoreReason};
use stockpredictor_api::{
    ChosenBackup, PartStatus, PhaseStatus, RestoreFailure, RestorePhase, RestoredStatus,
    StorageRestoreStatus,
};

use super::plan::{Note, holds};
use crate::job::message;

/// The longest message.
const MAX_MESSAGE: usize = 2048;

/// The status once `phase` is entered at `now`.
pub fn enter(
    before: &StorageRestoreStatus,
    phase: RestorePhase,
    failure: Option<&Note>,
    now: &Time,
) -> StorageRestoreStatus {
    let mut status = before.clone();
    if let Some(last) = status.phases.last_mut()
        && last.finished_at.is_none()
    {
        last.duration = Some(span(&last.started_at, now));
        last.finished_at = Some(now.clone());
    }
    if let (Some(note), None) = (failure, &status.failure) {
        status.failure = Some(RestoreFailure {
            phase: before.phase.unwrap_or_default(),
            reason: cut(&note.reason, 64),
            message: cut(&note.message, MAX_MESSAGE),
        });
    }
    status.phase = Some(phase);
    if !phase.is_end() {
        status.phases.push(PhaseStatus {
            name: phase,
            started_at: now.clone(),
            finished_at: None,
            duration: None,
        });
    }
    let began = |wanted: RestorePhase| {
        let found = before.phases.iter().find(|found| found.name == wanted);
        found.map(|found| found.started_at.clone())
    };
    // The predictor answers again when it was proven, or when it runs with its old data.
    let runs_again = phase == RestorePhase::Committing || phase.is_end();
    if runs_again
        && status.downtime.is_none()
        && let Some(stopped) = began(RestorePhase::Holding)
    {
        status.downtime = Some(span(&stopped, now));
    }
    if phase.is_end()
        && let Some(first) = began(RestorePhase::Preflight).or_else(|| began(RestorePhase::Holding))
    {
        status.duration = Some(span(&first, now));
    }
    status
}

/// Takes over what a Job found.
pub fn absorb(
    status: &mut StorageRestoreStatus,
    found: &message::Restore,
    destination: Option<&str>,
) {
    if !found.state.is_empty() {
        status.journal = Some(cut(&found.state, 32));
    }
    if let (Some(name), Some(sha256)) = (&found.name, &found.sha256) {
        let short = |text: &Option<String>, most| text.as_deref().map(|text| cut(text, most));
        status.backup = Some(ChosenBackup {
            name: Some(cut(name, 128)),
            destination: destination.map(|name| cut(name, 63)),
            id: short(&found.id, 64),
            sha256: Some(cut(sha256, 64)),
            kind: short(&found.kind, 32),
            base: short(&found.base, 128),
            created_at: short(&found.created_at, 40),
        });
    }
    let mut restored = status.restored.clone().unwrap_or_default();
    let number = |new: Option<i64>, old: Option<i64>| new.filter(|new| *new >= 0).or(old);
    restored.files = number(found.files, restored.files);
    restored.bytes = number(found.bytes, restored.bytes);
    restored.needed_bytes = number(found.needed_bytes, restored.needed_bytes);
    restored.free_bytes = number(found.free_bytes, restored.free_bytes);
    if let Some(model) = &found.model {
        restored.model = Some(cut(model, 256));
    }
    if let Some(parts) = found.parts.as_ref().and_then(serde_json::Value::as_object) {
        restored.parts = parts
            .iter()
            .take(16)
            .map(|(name, counts)| {
                let count = |key: &str| counts[key].as_i64().unwrap_or_default().max(0);
                PartStatus {
                    name: cut(name, 32),
                    added: count("added"),
                    changed: count("changed"),
                    removed: count("removed"),
                    kept: count("kept"),
                }
            })
            .collect();
    }
    if restored != RestoredStatus::default() {
        status.restored = Some(restored);
    }
}

/// Adds the conditions. `note` is what is going on, where the phase doesn't say it.
pub fn conclude(
    mut status: StorageRestoreStatus,
    note: Option<&Note>,
    one_pod: bool,
    generation: i64,
    now: &Time,
) -> StorageRestoreStatus {
    let phase = status.phase.unwrap_or_default();
    let (ready, summary) = summary(&status, phase, note);
    let checked = match (&status.backup, phase) {
        (Some(backup), _) => (
            "True",
            format!(
                "{} can be restored",
                backup.name.as_deref().unwrap_or("the backup")
            ),
        ),
        (None, RestorePhase::Failed | RestorePhase::RolledBack) => {
            ("False", summary.message.clone())
        }
        (None, _) => ("Unknown", "no backup is chosen yet".into()),
    };
    let held = holds(phase, one_pod);
    let held_text = if held {
        "the predictor is stopped, or being stopped, for this restore"
    } else {
        "this restore doesn't stop the predictor"
    };
    let found = [
        (
            RestoreCondition::Ready,
            ready,
            summary.reason.clone(),
            summary.message,
        ),
        (
            RestoreCondition::Checked,
            checked.0,
            summary.reason,
            checked.1,
        ),
        (
            RestoreCondition::PredictorHeld,
            if held { "True" } else { "False" },
            phase.as_str().to_owned(),
            held_text.to_owned(),
        ),
    ];
    let before = std::mem::take(&mut status.conditions);
    status.conditions = found
        .into_iter()
        .map(|(kind, value, reason, message)| {
            let old = before
                .iter()
                .find(|old| old.type_ == kind.as_str() && old.status == value);
            Condition {
                type_: kind.as_str().to_owned(),
                status: value.to_owned(),
                reason,
                message: cut(&message, MAX_MESSAGE),
                observed_generation: Some(generation),
                last_transition_time: old
                    .map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
            }
        })
        .collect();
    status.observed_generation = Some(generation);
    status
}

fn summary(
    status: &StorageRestoreStatus,
    phase: RestorePhase,
    note: Option<&Note>,
) -> (&'static str, Note) {
    let word = |reason: RestoreReason| reason.as_str();
    let name = status
        .backup
        .as_ref()
        .and_then(|backup| backup.name.clone())
        .unwrap_or_else(|| "the backup".into());
    let why = status
        .failure
        .as_ref()
        .map(|failure| failure.message.clone())
        .unwrap_or_default();
    let reason = status
        .failure
        .as_ref()
        .map_or("Failed", |failure| failure.reason.as_str());
    match phase {
        RestorePhase::Completed => {
            let how = if went_through(status, RestorePhase::Held) {
                "is in place and kept, as somebody decided"
            } else if went_through(status, RestorePhase::Filling) {
                "fills the new claim"
            } else {
                "is in place and proven"
            };
            (
                "True",
                Note::new(word(RestoreReason::Restored), format!("{name} {how}")),
            )
        }
        RestorePhase::Planned => (
            "True",
            Note::new(
                word(RestoreReason::Planned),
                format!(
                    "{name} can be restored; nothing was changed, status.restored has the plan"
                ),
            ),
        ),
        RestorePhase::Failed => (
            "False",
            Note::new(reason, format!("{why}; {}", left(status))),
        ),
        RestorePhase::RolledBack => {
            // Without the claim there is nothing to put the old data back on.
            let end = if reason == word(RestoreReason::ClaimNotUsable) {
                "it ended early"
            } else {
                "the old data is in place again"
            };
            (
                "False",
                Note::new(
                    word(RestoreReason::RolledBack),
                    format!("{end}, because: {why}"),
                ),
            )
        }
        RestorePhase::Held => (
            "False",
            Note::new(
                word(RestoreReason::Held),
                format!(
                    "{why}; the predictor stays stopped: annotate this object with stockpredictor.io/decision=Commit to keep \
                     the restored data, or RollBack to have the old data back"
                ),
            ),
        ),
        RestorePhase::RollingBack | RestorePhase::Restarting => {
            let doing = note.map_or("the old data is brought back", |note| &note.message);
            (
                "False",
                Note::new(
                    word(RestoreReason::RollingBack),
                    format!("{doing}; it failed, because: {why}"),
                ),
            )
        }
        _ => (
            "False",
            note.cloned()
                .unwrap_or_else(|| Note::new(word(RestoreReason::InProgress), doing(phase))),
        ),
    }
}

fn went_through(status: &StorageRestoreStatus, phase: RestorePhase) -> bool {
    status.phases.iter().any(|passed| passed.name == phase)
}

/// What one that failed leaves behind.
fn left(status: &StorageRestoreStatus) -> &'static str {
    if went_through(status, RestorePhase::Committing) {
        "the restored data had been switched to before"
    } else if went_through(status, RestorePhase::Filling) {
        "the new claim is not filled and nothing starts on it: delete it, and create the StorageRestore anew"
    } else {
        "nothing was changed"
    }
}

/// What a phase does, in words.
pub fn doing(phase: RestorePhase) -> &'static str {
    match phase {
        RestorePhase::Pending => "it waits for its turn",
        RestorePhase::Preflight => "a backup is chosen and checked; nothing is stopped yet",
        RestorePhase::Holding => "the predictor is being stopped, and backups wait",
        RestorePhase::Preparing => "the backup is unpacked and verified beside the data",
        RestorePhase::Switching => "the restored data takes the place of the old",
        RestorePhase::Starting => "the predictor starts with the restored data",
        RestorePhase::Committing => "the restored data is proven; the old data is removed",
        RestorePhase::Filling => "the new claim is filled",
        RestorePhase::RollingBack => "the old data is brought back",
        RestorePhase::Restarting => "the predictor starts with its old data",
        RestorePhase::Held => "a person has to decide",
        RestorePhase::Completed => "the restored data is in place",
        RestorePhase::Planned => "the plan is in the status",
        RestorePhase::RolledBack => "it did not succeed and left the old data",
        RestorePhase::Failed => "it failed",
    }
}

/// The time between two moments, such as `1m 5s`.
fn span(from: &Time, to: &Time) -> String {
    let seconds = (to.0.as_second() - from.0.as_second()).max(0);
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m {rest}s"),
        _ => format!("{hours}h {minutes}m {rest}s"),
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    fn through(phases: &[(RestorePhase, i64)], failure: Option<&Note>) -> StorageRestoreStatus {
        let mut status = StorageRestoreStatus::default();
        for (phase, second) in phases {
            let failure = failure.filter(|_| *phase == RestorePhase::RollingBack);
            status = enter(&status, *phase, failure, &at(*second));
        }
        status
    }

    #[test]
    fn each_phase_is_measured_and_so_is_the_whole() {
        use RestorePhase::{
            Committing, Completed, Holding, Preflight, Preparing, Starting, Switching,
        };
        let status = through(
            &[
                (RestorePhase::Pending, 0),
                (Preflight, 10),
                (Holding, 15),
                (Preparing, 20),
                (Switching, 85),
                (Starting, 86),
                (Committing, 90),
                (Completed, 3700),
            ],
            None,
        );
        let durations: Vec<_> = status
            .phases
            .iter()
            .map(|phase| (phase.name.as_str(), phase.duration.as_deref().unwrap()))
            .collect();
        assert_eq!(durations[3], ("Preparing", "1m 5s"));
        assert_eq!(durations.last(), Some(&("Committing", "1h 0m 10s")));
        assert_eq!(status.downtime.as_deref(), Some("1m 15s"));
        assert_eq!(status.duration.as_deref(), Some("1h 1m 30s"));
    }

    #[test]
    fn the_first_failure_stays_what_is_told() {
        use RestorePhase::{Preparing, RolledBack, RollingBack};
        let note = Note::new("NoSpace", "no room");
        let mut status = through(
            &[(Preparing, 0), (RollingBack, 5), (RolledBack, 9)],
            Some(&note),
        );
        status = enter(&status, RolledBack, Some(&Note::new("Other", "x")), &at(10));
        assert_eq!(
            json!(status.failure),
            json!({"phase": "Preparing", "reason": "NoSpace", "message": "no room"})
        );
        let status = conclude(status, None, false, 1, &at(9));
        assert_eq!(status.conditions[0].reason, "RolledBack");
        assert!(status.conditions[0].message.contains("no room"));
    }

    #[test]
    fn waiting_for_the_same_thing_is_the_same_document_at_any_time() {
        let status = through(&[(RestorePhase::Holding, 0)], None);
        let note = Note::new("WaitsForPods", "nvda-1");
        let first = conclude(status, Some(&note), false, 1, &at(1));
        assert_eq!(
            conclude(first.clone(), Some(&note), false, 1, &at(50)),
            first
        );
    }

    #[rstest]
    #[case("preflight_succeeded")]
    #[case("switch_succeeded")]
    #[case("fill_succeeded")]
    fn what_jobs_find_is_taken_over_from_the_contract(#[case] name: &str) {
        let contract: Value =
            serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap();
        let message = &contract["messages"][name];
        let read = message::Message::read(&message.to_string()).unwrap();
        let mut status = StorageRestoreStatus::default();
        absorb(&mut status, &read.restore.unwrap(), Some("nas"));
        let backup = status.backup.unwrap();
        assert_eq!(json!(backup.sha256), message["restore"]["sha256"]);
        assert_eq!(backup.destination.as_deref(), Some("nas"));
        assert_eq!(json!(status.journal), message["restore"]["state"]);
        let restored = json!(status.restored.unwrap_or_default());
        for (key, ours) in [
            ("files", "files"),
            ("needed_bytes", "neededBytes"),
            ("model", "model"),
        ] {
            assert_eq!(restored[ours], message["restore"][key], "{key}");
        }
    }
}
