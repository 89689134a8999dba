//! What runs say about archives and destinations, folded into the status.
//!
//! In: a run that ended, and the status so far. Out: the status with its news. Pure. A SHA-256 comes from the run that wrote
//! the archive and from nowhere else: whoever can write to a store could forge the others.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::civil::DateTime;
use k8s_openapi::jiff::tz::TimeZone;
use stockpredictor_api::{
    BackupStatus, DestinationStatus, RunResult, RunStatus, StorageBackupStatus,
};

use super::runs::Run;
use crate::job::message::{self, Message};
use crate::job::outcome::{Failed, Outcome};
use crate::quantity;

/// As many backups are listed.
const MAX_BACKUPS: usize = 10;
/// As many SHA-256 are kept.
const MAX_ATTESTED: usize = 64;
/// Longest texts, in characters.
const MAX_MESSAGE: usize = 1024;
const MAX_WORD: usize = 64;
const MAX_WHY: usize = 256;

/// Takes over what `run` says, if it has ended.
pub fn fold(status: &mut StorageBackupStatus, run: &Run) {
    let (result, reason, text, message) = match &run.outcome {
        Outcome::Succeeded(Some(message)) => (
            RunResult::Succeeded,
            message.reason.clone(),
            said(message),
            Some(message),
        ),
        Outcome::Succeeded(None) => (
            RunResult::Succeeded,
            "Completed".to_owned(),
            "the run succeeded; its report is gone with its pod".to_owned(),
            None,
        ),
        Outcome::Failed(Failed {
            reason,
            message,
            report,
        }) => (
            RunResult::Failed,
            reason.clone(),
            message.clone(),
            report.as_ref(),
        ),
        Outcome::Running | Outcome::Stuck(_) | Outcome::Retrying(_) => return,
    };
    let summary = RunStatus {
        job: run.name(),
        kind: run.kind,
        result,
        reason: cut(&reason, MAX_WORD),
        message: Some(cut(&text, MAX_MESSAGE)),
        started: run.started(),
        finished: run.finished(),
        backup: message
            .and_then(|message| message.backup.as_ref())
            .map(|backup| cut(&backup.name, MAX_WORD)),
    };
    if let Some(message) = message {
        let wrote = !run.tests();
        take_archives(status, message, wrote);
        take_destinations(status, message, wrote, run.finished().as_ref());
    }
    if run.tests() {
        status.last_test = Some(summary);
        return;
    }
    if result == RunResult::Succeeded {
        status.last_success = run.started();
    }
    status.last_run = Some(summary);
}

/// The sentence, with the warnings.
fn said(message: &Message) -> String {
    let mut text = message.message.clone();
    for warning in &message.warnings {
        text.push_str("; ");
        text.push_str(warning);
    }
    text
}

fn take_archives(status: &mut StorageBackupStatus, message: &Message, wrote: bool) {
    if let Some(backup) = message.backup.as_ref().filter(|_| wrote)
        && let Some(sha256) = &backup.sha256
        && sha256.len() == 64
        && !backup.name.is_empty()
    {
        status
            .attested
            .insert(cut(&backup.name, MAX_WORD), sha256.clone());
        // Names begin with the same text and go on with the time, so the oldest are the first.
        while status.attested.len() > MAX_ATTESTED {
            status.attested.pop_first();
        }
    }
    if let Some(found) = &message.backups {
        let before = std::mem::take(&mut status.backups);
        let listed = found.iter().take(MAX_BACKUPS);
        status.backups = listed
            .map(|entry| backup(entry, message, &before, &status.attested))
            .collect();
        if status.backups.is_empty()
            && let Some(own) = &message.backup
        {
            // A list that did not fit leaves the archive that the run itself is about.
            status.backups = vec![from_own(own, &status.attested)];
        }
        status.level = status
            .backups
            .first()
            .and_then(|newest| newest.level.clone());
    }
    if message.total.is_some() {
        status.total = message.total;
    }
}

fn backup(
    entry: &message::Entry,
    message: &Message,
    before: &[BackupStatus],
    attested: &BTreeMap<String, String>,
) -> BackupStatus {
    let own = message.backup.as_ref().filter(|own| own.id == entry.id);
    let old = before.iter().find(|old| old.name == entry.name);
    let because = match own {
        Some(own) => own
            .suspect
            .iter()
            .take(8)
            .map(|why| cut(why, MAX_WHY))
            .collect(),
        None => old
            .map(|old| old.suspect_because.clone())
            .unwrap_or_default(),
    };
    BackupStatus {
        name: cut(&entry.name, MAX_WORD),
        id: some(&entry.id),
        kind: some(&capital(&entry.kind)),
        base: entry.base.as_ref().map(|base| cut(base, MAX_WORD)),
        created: created(entry.created_at.as_deref(), &entry.name),
        bytes: entry.bytes.map(|bytes| bytes.max(0)),
        files: entry.files.map(|files| files.max(0)),
        sha256: attested.get(&entry.name).cloned(),
        key_ids: entry
            .key_ids
            .iter()
            .take(16)
            .map(|key| cut(key, 128))
            .collect(),
        level: entry.level.as_deref().map(capital),
        verified: entry.verified_at.as_deref().and_then(time),
        suspect: entry.suspect,
        suspect_because: if entry.suspect { because } else { Vec::new() },
        destinations: entry
            .destinations
            .iter()
            .take(8)
            .map(|name| cut(name, MAX_WORD))
            .collect(),
    }
}

fn from_own(own: &message::Backup, attested: &BTreeMap<String, String>) -> BackupStatus {
    let entry = message::Entry {
        name: own.name.clone(),
        id: own.id.clone(),
        kind: own.kind.clone(),
        base: own.base.clone(),
        created_at: own.created_at.clone(),
        bytes: own.bytes,
        files: own.files,
        key_ids: own.key_ids.clone(),
        level: own.level.clone(),
        verified_at: own.verified_at.clone(),
        suspect: !own.suspect.is_empty(),
        destinations: own.destinations.clone(),
    };
    let message = Message {
        backup: Some(own.clone()),
        ..Message::default()
    };
    backup(&entry, &message, &[], attested)
}

fn take_destinations(
    status: &mut StorageBackupStatus,
    message: &Message,
    wrote: bool,
    finished: Option<&Time>,
) {
    if message.destinations.is_empty() {
        return;
    }
    let before = std::mem::take(&mut status.destinations);
    let mut largest = None;
    for seen in message.destinations.iter().take(8) {
        let old = before.iter().find(|old| old.name == seen.name);
        let bytes = seen.bytes.and_then(|bytes| u64::try_from(bytes).ok());
        largest = largest.max(bytes);
        let last_success = if wrote && seen.stored && seen.error.is_none() {
            finished.cloned()
        } else {
            old.and_then(|old| old.last_success.clone())
        };
        status.destinations.push(DestinationStatus {
            name: cut(&seen.name, MAX_WORD),
            archives: seen.archives.map(|count| count.max(0)),
            size: bytes.map(quantity::bytes),
            error: seen.error.as_ref().map(|error| cut(error, MAX_MESSAGE)),
            last_success,
        });
    }
    if largest.is_some() {
        status.size = largest.map(quantity::bytes);
    }
}

/// When an archive was made: as it says, else as its name says.
fn created(said: Option<&str>, name: &str) -> Option<Time> {
    if let Some(time) = said.and_then(time) {
        return Some(time);
    }
    let stamp: String = name
        .strip_prefix("stock_prediction_backup_")?
        .chars()
        .take(15)
        .collect();
    let civil = DateTime::strptime("%Y%m%d_%H%M%S", &stamp).ok()?;
    let zoned = civil.to_zoned(TimeZone::UTC).ok()?;
    Some(Time(zoned.timestamp()))
}

/// A time in whole seconds: a finer one would not survive a round trip through the API server.
fn time(text: &str) -> Option<Time> {
    let time: Timestamp = text.parse().ok()?;
    Timestamp::from_second(time.as_second()).ok().map(Time)
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| cut(text, MAX_WORD))
}

/// `proven` as `Proven`.
fn capital(word: &str) -> String {
    let mut letters = word.chars().take(16);
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn cut(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage_backup::fixture;
    use serde_json::{Value, json};
    use std::sync::Arc;
    use stockpredictor_api::RunKind;

    const FIRST: &str = "stock_prediction_backup_20250801_120000.tar.gz";
    const SECOND: &str = "stock_prediction_backup_20250802_120000.tar.gz.age";

    fn contract(name: &str) -> Message {
        let contract: Value =
            serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap();
        Message::read(&contract["messages"][name].to_string()).unwrap()
    }

    fn run(kind: RunKind, outcome: Outcome) -> Run {
        let job = json!({
            "metadata": {"name": "daily-1", "creationTimestamp": fixture::now().to_string()},
            "status": {"startTime": "2025-08-01T12:00:01Z", "completionTime": "2025-08-01T12:00:05Z"},
        });
        Run {
            job: Arc::new(serde_json::from_value(job).unwrap()),
            kind,
            outcome,
            own: true,
        }
    }

    fn succeeded(kind: RunKind, name: &str) -> Run {
        run(kind, Outcome::Succeeded(Some(Box::new(contract(name)))))
    }

    #[test]
    fn a_backup_becomes_the_status() {
        let mut status = StorageBackupStatus::default();
        fold(
            &mut status,
            &succeeded(RunKind::Scheduled, "backup_succeeded"),
        );
        let newest = &status.backups[0];
        assert_eq!(newest.name, FIRST);
        assert_eq!(newest.kind.as_deref(), Some("Full"));
        assert_eq!(
            newest.created.as_ref().unwrap().0.to_string(),
            "2025-08-01T12:00:00Z"
        );
        assert!(newest.sha256.as_ref().unwrap().starts_with("9b74"));
        assert_eq!(status.level.as_deref(), Some("Readable"));
        assert_eq!(
            (status.total, status.size.as_deref()),
            (Some(1), Some("1Mi"))
        );
        assert_eq!(
            status.last_success.unwrap().0.to_string(),
            "2025-08-01T12:00:01Z"
        );
        assert_eq!(status.last_run.unwrap().backup.as_deref(), Some(FIRST));
        assert_eq!(status.destinations[0].archives, Some(1));
        assert!(status.destinations[0].last_success.is_some());
    }

    #[test]
    fn a_sha256_that_a_test_reports_is_not_believed() {
        let mut status = StorageBackupStatus::default();
        fold(
            &mut status,
            &succeeded(RunKind::RestoreTest, "test_succeeded"),
        );
        assert!(status.attested.is_empty());
        assert_eq!(status.last_run, None);
        assert_eq!(status.last_success, None);
        assert_eq!(status.last_test.unwrap().result, RunResult::Succeeded);
        assert_eq!(status.level.as_deref(), Some("Proven"));
    }

    #[test]
    fn what_a_later_run_lists_keeps_the_sha256_of_the_run_that_wrote_it() {
        let mut status = StorageBackupStatus::default();
        fold(
            &mut status,
            &succeeded(RunKind::Scheduled, "backup_succeeded"),
        );
        let mut later = contract("backup_with_warnings");
        let old = contract("backup_succeeded").backups.unwrap().remove(0);
        later.backups.as_mut().unwrap().push(old);
        fold(
            &mut status,
            &run(RunKind::Manual, Outcome::Succeeded(Some(Box::new(later)))),
        );
        let sums: Vec<_> = status
            .backups
            .iter()
            .map(|b| b.sha256.as_ref().unwrap()[..4].to_owned())
            .collect();
        assert_eq!(sums, ["1c74", "9b74"]);
        assert!(status.backups[0].suspect);
        assert_eq!(
            status.backups[0].suspect_because,
            ["models: 1 of 1 are gone"]
        );
        assert_eq!(status.attested.keys().collect::<Vec<_>>(), [FIRST, SECOND]);
        assert!(status.destinations[1].error.is_some());
        assert!(
            status
                .last_run
                .unwrap()
                .message
                .unwrap()
                .contains("AWS_ACCESS_KEY_ID")
        );
    }

    #[test]
    fn a_failure_keeps_what_is_known_of_archives() {
        let mut status = StorageBackupStatus::default();
        fold(
            &mut status,
            &succeeded(RunKind::Scheduled, "backup_succeeded"),
        );
        let before = status.clone();
        let message = contract("backup_failed");
        let failed = Failed {
            reason: message.reason.clone(),
            message: message.message.clone(),
            report: Some(Box::new(message)),
        };
        fold(
            &mut status,
            &run(RunKind::Scheduled, Outcome::Failed(failed)),
        );
        assert_eq!(status.backups, before.backups);
        assert_eq!(status.last_success, before.last_success);
        let last = status.last_run.unwrap();
        assert_eq!(
            (last.result, last.reason.as_str()),
            (RunResult::Failed, "DestinationsFailed")
        );
        assert!(
            status
                .destinations
                .iter()
                .any(|d| d.name == "offsite" && d.error.is_some())
        );
    }

    #[test]
    fn the_oldest_sums_are_forgotten_first() {
        let mut status = StorageBackupStatus::default();
        for minute in 0..70 {
            let mut message = contract("backup_succeeded");
            message.backup.as_mut().unwrap().name =
                format!("stock_prediction_backup_20250801_12{minute:02}00.tar.gz");
            take_archives(&mut status, &message, true);
        }
        assert_eq!(status.attested.len(), MAX_ATTESTED);
        assert!(status.attested.keys().next().unwrap().contains("_120600"));
    }
}
