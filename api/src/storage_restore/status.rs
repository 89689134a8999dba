//! `status`: how far a restore is, what it chose and what it did.
//!
//! In: nothing. Out: types. The phase is what the operator goes on from after its death, so it is written before what it
//! stands for is begun.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator did and saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageRestoreStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// The state in parts; `Ready` sums it up. Types and reasons are listed in the documentation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhase>,

    /// The phases so far, in their order, with their times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub phases: Vec<PhaseStatus>,

    /// How long it took, from the beginning of the checks to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub duration: Option<String>,

    /// How long the predictor was stopped, until it was ready again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub downtime: Option<String>,

    /// What is restored, pinned: an object of the same name that was made later is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,

    /// The backup that the checks chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<ChosenBackup>,

    /// What changes, or changed, on the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoredStatus>,

    /// What the restore's journal on the volume said last: `none`, `prepared`, `switched`, `committed`, `undone`,
    /// `filled` or `unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub journal: Option<String>,

    /// The first thing that went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RestoreFailure>,
}

/// How far a restore is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum RestorePhase {
    /// It waits for its turn, or for what it refers to.
    #[default]
    Pending,
    /// The backup is chosen and checked: key, chain, hashes, space. Nothing is stopped.
    Preflight,
    /// The predictor and its backups are stopped, and the volume is waited for.
    Holding,
    /// The backup is unpacked and verified beside the data.
    Preparing,
    /// The new data takes the place of the old.
    Switching,
    /// The predictor starts with the new data and has to become ready.
    Starting,
    /// The old data is removed.
    Committing,
    /// A new claim is filled.
    Filling,
    /// The old data is brought back.
    RollingBack,
    /// The predictor starts with the old data.
    Restarting,
    /// It failed after the switch, and `onFailure: Hold` leaves it to a person.
    Held,
    /// The end: the restored data is in place and proven.
    Completed,
    /// The end of a dry run: the plan is in the status.
    Planned,
    /// The end: it failed, and the old data is in place.
    RolledBack,
    /// The end: it failed before anything was changed.
    Failed,
}

/// One phase with its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseStatus {
    /// Name of the phase.
    pub name: RestorePhase,

    /// When it began.
    pub started_at: Time,

    /// When the next one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,

    /// How long it took, such as `1m 5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub duration: Option<String>,
}

/// What is restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Name of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub claim_name: Option<String>,

    /// Uid of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub claim_uid: Option<String>,

    /// Uid of the predictor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub predictor_uid: Option<String>,
}

/// The backup that was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChosenBackup {
    /// Name of the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub name: Option<String>,

    /// The name of the destination it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub destination: Option<String>,

    /// Id of the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub id: Option<String>,

    /// SHA-256 of the whole archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sha256: Option<String>,

    /// `full` or `incremental`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub kind: Option<String>,

    /// The full backup that an incremental one builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub base: Option<String>,

    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub created_at: Option<String>,
}

/// What changes, or changed, on the volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredStatus {
    /// Files that are unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub files: Option<i64>,

    /// Bytes that are unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub bytes: Option<i64>,

    /// Bytes that the restore needs beside the present data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub needed_bytes: Option<i64>,

    /// Bytes that were free on the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub free_bytes: Option<i64>,

    /// Name and version of the model in the restored data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub model: Option<String>,

    /// The parts of the volume.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub parts: Vec<PartStatus>,
}

/// What changes in one part of the volume, in files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartStatus {
    /// The part, such as `models`.
    #[schemars(length(max = 32))]
    pub name: String,

    /// Files that the volume did not have.
    #[schemars(range(min = 0))]
    pub added: i64,

    /// Files with another content.
    #[schemars(range(min = 0))]
    pub changed: i64,

    /// Files that the backup does not have.
    #[schemars(range(min = 0))]
    pub removed: i64,

    /// Files that stay as they are.
    #[schemars(range(min = 0))]
    pub kept: i64,
}

/// The first thing that went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreFailure {
    /// The phase in which it did.
    pub phase: RestorePhase,

    /// A word for it, such as `NoSpace`.
    #[schemars(length(max = 64))]
    pub reason: String,

    /// What it was, and what to do.
    #[schemars(length(max = 2048))]
    pub message: String,
}

impl RestorePhase {
    /// The value in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Preflight => "Preflight",
            Self::Holding => "Holding",
            Self::Preparing => "Preparing",
            Self::Switching => "Switching",
            Self::Starting => "Starting",
            Self::Committing => "Committing",
            Self::Filling => "Filling",
            Self::RollingBack => "RollingBack",
            Self::Restarting => "Restarting",
            Self::Held => "Held",
            Self::Completed => "Completed",
            Self::Planned => "Planned",
            Self::RolledBack => "RolledBack",
            Self::Failed => "Failed",
        }
    }

    /// True when nothing is left to do.
    pub fn is_end(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Planned | Self::RolledBack | Self::Failed
        )
    }
}
