//! What the metrics say of a `StorageBackup`.
//!
//! In: an object, and how far apart its runs are. Out: samples. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use stockpredictor_api::backup_condition::{BackupCondition, BackupReason};
use stockpredictor_api::{BackupStatus, RunResult, RunStatus, StorageBackup, StorageBackupStatus};

use super::interval::Asking;
use super::objects::{Measured, OBJECT, flag};
use super::sample::{Description, Samples};
use crate::quantity;
use crate::storage_backup::conditions::seconds;
use crate::storage_backup::controller::KIND;
use crate::storage_backup::validate::accepted;

/// The levels of a backup, lowest first: one that reached a level has reached those before it too.
const LEVELS: [&str; 3] = ["Stored", "Readable", "Proven"];

const DESTINATION: &[&str] = &["namespace", "name", "destination"];

static LAST_SUCCESS: Description = Description {
    name: "backup_last_success_timestamp",
    labels: OBJECT,
    help: "When the last successful backup of a StorageBackup began, in seconds since 1970; 0 before the first",
};
static CREATED: Description = Description {
    name: "stockpredictor_operator_backup_created_timestamp_seconds",
    labels: OBJECT,
    help: "When the StorageBackup was made",
};
static INFO: Description = Description {
    name: "stockpredictor_operator_backup_info",
    labels: &["namespace", "name", "predictor"],
    help: "A StorageBackup and the StockPredictor that it saves",
};
static SUSPENDED: Description = Description {
    name: "stockpredictor_operator_backup_suspended",
    labels: OBJECT,
    help: "1 while scheduled runs are suspended, or held back by a restore",
};
static EXPECTED: Description = Description {
    name: "stockpredictor_operator_backup_expected_interval_seconds",
    labels: OBJECT,
    help: "Longest time between two runs of the schedule in the coming year; absent without one",
};
static TEST_EXPECTED: Description = Description {
    name: "stockpredictor_operator_restore_test_expected_interval_seconds",
    labels: OBJECT,
    help: "Longest time between two restore tests in the coming year; absent without a schedule of them",
};
static NEXT_RUN: Description = Description {
    name: "stockpredictor_operator_backup_next_run_timestamp_seconds",
    labels: OBJECT,
    help: "When the next scheduled run begins; absent without one",
};
static RPO: Description = Description {
    name: "stockpredictor_operator_backup_rpo_seconds",
    labels: OBJECT,
    help: "Age that the newest backup may have by objectives.rpo; absent without one",
};
static LAST_RUN_SUCCESS: Description = Description {
    name: "stockpredictor_operator_backup_last_run_success",
    labels: OBJECT,
    help: "1 when the last run succeeded, 0 when it failed",
};
static LAST_RUN_ENDED: Description = Description {
    name: "stockpredictor_operator_backup_last_run_timestamp_seconds",
    labels: OBJECT,
    help: "When the last run ended",
};
static LAST_RUN_DURATION: Description = Description {
    name: "stockpredictor_operator_backup_last_run_duration_seconds",
    labels: OBJECT,
    help: "How long the last run took",
};
static LAST_TEST_SUCCESS: Description = Description {
    name: "stockpredictor_operator_restore_test_last_run_success",
    labels: OBJECT,
    help: "1 when the last restore test succeeded, 0 when it failed",
};
static LAST_TEST_ENDED: Description = Description {
    name: "stockpredictor_operator_restore_test_last_run_timestamp_seconds",
    labels: OBJECT,
    help: "When the last restore test ended",
};
static LEVEL: Description = Description {
    name: "stockpredictor_operator_backup_level",
    labels: OBJECT,
    help: "Level that the newest backup has reached: 0 none, 1 Stored, 2 Readable, 3 Proven",
};
static VERIFIED: Description = Description {
    name: "stockpredictor_operator_backup_verified_timestamp_seconds",
    labels: &["namespace", "name", "level"],
    help: "When one of the newest ten backups last reached a level or a higher one",
};
static NEWEST_SIZE: Description = Description {
    name: "stockpredictor_operator_backup_newest_size_bytes",
    labels: OBJECT,
    help: "Size of the newest backup",
};
static SUSPECT: Description = Description {
    name: "stockpredictor_operator_backup_suspect",
    labels: OBJECT,
    help: "1 while the newest backup is suspect and not accepted",
};
static ARCHIVES: Description = Description {
    name: "stockpredictor_operator_backup_archives",
    labels: DESTINATION,
    help: "Archives of a StorageBackup at a destination, as its last run found them",
};
static DESTINATION_SIZE: Description = Description {
    name: "stockpredictor_operator_backup_destination_size_bytes",
    labels: DESTINATION,
    help: "Size of the archives of a StorageBackup at a destination, as its last run found them",
};
static REACHABLE: Description = Description {
    name: "stockpredictor_operator_backup_destination_reachable",
    labels: DESTINATION,
    help: "1 when the last run reached the destination",
};

impl Measured for StorageBackup {
    const KIND: &'static str = KIND;

    fn condition_types() -> Vec<&'static str> {
        BackupCondition::ALL.map(BackupCondition::as_str).to_vec()
    }

    fn conditions(&self) -> &[Condition] {
        let status = self.status.as_ref();
        status.map_or(&[], |status| &status.conditions)
    }

    fn measure<'a>(
        &'a self,
        who: [&'a str; 2],
        intervals: &mut Asking<'_>,
        samples: &mut Samples<'a>,
    ) {
        let [namespace, name] = who;
        let predictor = self.spec.predictor_ref.name.as_str();
        samples.push(&INFO, [namespace, name, predictor], 1);
        let created = self.metadata.creation_timestamp.as_ref();
        samples.push_some(&CREATED, who, created.map(unix));
        plan(self, who, intervals, samples);
        let status = self.status.as_ref();
        let success = status.and_then(|status| status.last_success.as_ref());
        samples.push(&LAST_SUCCESS, who, success.map_or(0, unix));
        samples.push(&SUSPECT, who, flag(is_suspect(self)));
        let newest = status.and_then(|status| status.backups.first());
        samples.push(&LEVEL, who, newest.map_or(0, level));
        if let Some(status) = status {
            runs(status, who, samples);
            backups(status, who, samples);
            destinations(self, status, who, samples);
        }
    }
}

/// What should be.
fn plan<'a>(
    object: &'a StorageBackup,
    who: [&'a str; 2],
    intervals: &mut Asking<'_>,
    samples: &mut Samples<'a>,
) {
    let spec = &object.spec;
    samples.push(&SUSPENDED, who, flag(spec.suspend || is_held(object)));
    let test = spec.verification.as_ref().and_then(|verification| {
        let test = verification.restore_test.as_ref()?;
        Some(test.schedule.as_str())
    });
    let mut expected =
        |schedule: Option<&str>| intervals.expected(schedule?, spec.time_zone.as_deref());
    samples.push_some(&EXPECTED, who, expected(spec.schedule.as_deref()));
    samples.push_some(&TEST_EXPECTED, who, expected(test));
    let status = object.status.as_ref();
    let next = status.and_then(|status| status.next_run.as_ref());
    samples.push_some(&NEXT_RUN, who, next.map(unix));
    let objectives = spec.objectives.as_ref();
    let rpo = objectives.and_then(|objectives| seconds(&objectives.rpo));
    samples.push_some(&RPO, who, rpo);
}

/// True while a restore holds its runs back.
fn is_held(object: &StorageBackup) -> bool {
    object.conditions().iter().any(|condition| {
        condition.type_ == BackupCondition::Scheduled.as_str()
            && condition.reason == BackupReason::HeldByRestore.as_str()
    })
}

/// How the last runs ended.
fn runs<'a>(status: &'a StorageBackupStatus, who: [&'a str; 2], samples: &mut Samples<'a>) {
    let succeeded = |run: &RunStatus| flag(run.result == RunResult::Succeeded);
    let ended = |run: &RunStatus| run.finished.as_ref().map(unix);
    let run = status.last_run.as_ref();
    samples.push_some(&LAST_RUN_SUCCESS, who, run.map(succeeded));
    samples.push_some(&LAST_RUN_ENDED, who, run.and_then(ended));
    let took = run.and_then(|run| Some(ended(run)? - unix(run.started.as_ref()?)));
    samples.push_some(&LAST_RUN_DURATION, who, took.map(|took| took.max(0)));
    let test = status.last_test.as_ref();
    samples.push_some(&LAST_TEST_SUCCESS, who, test.map(succeeded));
    samples.push_some(&LAST_TEST_ENDED, who, test.and_then(ended));
}

/// What the newest backups are worth.
fn backups<'a>(status: &'a StorageBackupStatus, who: [&'a str; 2], samples: &mut Samples<'a>) {
    let [namespace, name] = who;
    let size = status.backups.first().and_then(|newest| newest.bytes);
    samples.push_some(&NEWEST_SIZE, who, size);
    for (number, wanted) in (1..).zip(LEVELS) {
        let reached = status
            .backups
            .iter()
            .filter(|backup| level(backup) >= number);
        let last = reached
            .filter_map(|backup| backup.verified.as_ref().map(unix))
            .max();
        samples.push_some(&VERIFIED, [namespace, name, wanted], last);
    }
}

/// What the last run found at the destinations that the spec still names.
fn destinations<'a>(
    object: &'a StorageBackup,
    status: &'a StorageBackupStatus,
    who: [&'a str; 2],
    samples: &mut Samples<'a>,
) {
    let [namespace, name] = who;
    let wanted = &object.spec.destinations;
    for found in &status.destinations {
        if !wanted.iter().any(|wanted| wanted.name == found.name) {
            continue;
        }
        let place = [namespace, name, found.name.as_str()];
        samples.push(&REACHABLE, place, flag(found.error.is_none()));
        samples.push_some(&ARCHIVES, place, found.archives);
        let size = found.size.as_deref().and_then(quantity::units);
        let size = size.and_then(|size| i64::try_from(size).ok());
        samples.push_some(&DESTINATION_SIZE, place, size);
    }
}

fn is_suspect(object: &StorageBackup) -> bool {
    let status = object.status.as_ref();
    let newest = status.and_then(|status| status.backups.first());
    newest.is_some_and(|newest| {
        let id = newest.id.as_deref().unwrap_or_default();
        newest.suspect && !accepted(object).iter().any(|accepted| accepted == id)
    })
}

/// 0 for one that was never verified.
fn level(backup: &BackupStatus) -> i64 {
    let level = backup.level.as_deref();
    let numbers = (1..).zip(LEVELS);
    let mut reached = numbers.filter(|(_, name)| level == Some(name));
    reached.next().map_or(0, |(number, _)| number)
}

fn unix(time: &Time) -> i64 {
    time.0.as_second()
}

#[cfg(test)]
#[path = "backup_test.rs"]
mod tests;
