//! `status`: what the operator saw.
//!
//! In: nothing. Out: types. Everything is optional, because the first status is written before anything was seen. What is
//! said of archives comes from the runs, which look at the destinations; a SHA-256 only from the run that wrote the archive.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageBackupStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// The state in parts; `Ready` sums it up. Types and reasons are listed in the documentation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The value of `spec.trigger` whose run has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub acknowledged_trigger: Option<String>,

    /// How many runs `spec.trigger` has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub manual_runs: Option<i64>,

    /// Name of the Job that `spec.runOnCreate` has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub initial_run: Option<String>,

    /// Name of the Job that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub active: Option<String>,

    /// When the last successful backup began: what it has is at least as new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Time>,

    /// The last run that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunStatus>,

    /// The last restore test that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_test: Option<RunStatus>,

    /// When it runs next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<Time>,

    /// When the next restore test runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_test: Option<Time>,

    /// The highest level that the newest backup has reached: `Stored`, `Readable` or `Proven`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub level: Option<String>,

    /// How many backups there are, over all destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total: Option<i64>,

    /// Size of the archives at the destination that has most, as a quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub size: Option<String>,

    /// The newest backups, newest first, as the last run found them at the destinations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub backups: Vec<BackupStatus>,

    /// The destinations, as the last run found them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub destinations: Vec<DestinationStatus>,

    /// SHA-256 of archives by name, as the runs that wrote them reported it: what a restore compares with. At most the
    /// newest 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub attested: BTreeMap<String, String>,
}

/// Why a run was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunKind {
    /// By the schedule.
    Scheduled,
    /// By `spec.trigger`.
    Manual,
    /// By `spec.runOnCreate`.
    Initial,
    /// By the schedule of restore tests.
    RestoreTest,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunResult {
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// Name of its Job.
    #[schemars(length(max = 253))]
    pub job: String,

    /// Why it was made.
    pub kind: RunKind,

    /// How it ended.
    pub result: RunResult,

    /// How it ended, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,

    /// How it ended, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,

    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,

    /// The archive that it wrote or tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub backup: Option<String>,
}

/// One backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// Name of its file.
    #[schemars(length(max = 64))]
    pub name: String,

    /// Its id, which the annotation `stockpredictor.io/accept-suspect` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub id: Option<String>,

    /// `Full` or `Incremental`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub kind: Option<String>,

    /// The full backup that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub base: Option<String>,

    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,

    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub bytes: Option<i64>,

    /// Number of files in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub files: Option<i64>,

    /// Its SHA-256, as the run that wrote it reported it. Absent: that run's report is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sha256: Option<String>,

    /// Public keys whose owners can read it; none: it isn't encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 128)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub key_ids: Vec<String>,

    /// The highest level that it has reached: `Stored`, `Readable` or `Proven`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub level: Option<String>,

    /// When it reached it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Time>,

    /// Whether much is missing in it that the one before it had; `latest` skips it until somebody accepts it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspect: bool,

    /// Why it is suspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub suspect_because: Vec<String>,

    /// Names of the destinations that have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub destinations: Vec<String>,
}

/// One destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationStatus {
    /// Name of the destination.
    #[schemars(length(max = 64))]
    pub name: String,

    /// How many archives of this object it has; absent when it couldn't be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub archives: Option<i64>,

    /// How large they are together, as a quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub size: Option<String>,

    /// What went wrong there in the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,

    /// When a run last wrote to it without an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Time>,
}
