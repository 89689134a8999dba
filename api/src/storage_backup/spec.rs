//! `spec`: what users ask for, and the root type that kube derives from it.
//!
//! In: nothing. Out: types and rules. A schedule's form is checked here; whether each of its fields makes sense, and whether
//! the time zone exists, is the operator's to say.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::StorageBackupStatus;
use super::verification::Verification;
use crate::destination::{ArchiveRetention, Destination, VolumePlace};
use crate::part::Part;
use crate::predictor_ref::PredictorRef;
use crate::rule;

/// What users ask for.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "stockpredictor.io",
    version = "v1alpha1",
    kind = "StorageBackup",
    plural = "storagebackups",
    shortname = "sb",
    category = "stockpredictor",
    namespaced,
    status = "StorageBackupStatus",
    derive = "PartialEq",
    annotation("helm.sh/resource-policy", "keep"),
    doc = "Backups of a StockPredictor's volume: when they run, where they go, how many stay, and how far it is proven that they can be restored. Deleting it deletes no archive.",
    validation = Rule::new(format!("self.metadata.name.matches('{}')", rule::NAME))
        .message("metadata.name must have at most 40 lower-case letters, digits and '-', begin with a letter and end with a letter or digit: the names of its CronJobs begin with it"),
    printcolumn(name = "Schedule", type_ = "string", description = "When it runs", json_path = ".spec.schedule"),
    printcolumn(name = "Last success", type_ = "date", description = "How long ago the last backup succeeded", json_path = ".status.lastSuccess"),
    printcolumn(name = "Level", type_ = "string", description = "How far the newest backup is proven", json_path = ".status.level"),
    printcolumn(name = "Backups", type_ = "integer", description = "How many backups there are", json_path = ".status.total"),
    printcolumn(name = "Size", type_ = "string", description = "Size of the archives, of the destination that has most", json_path = ".status.size"),
    printcolumn(name = "Suspended", type_ = "boolean", description = "Whether scheduled runs are stopped", json_path = ".spec.suspend"),
    printcolumn(name = "Predictor", type_ = "string", description = "What is backed up", priority = 1, json_path = ".spec.predictorRef.name"),
    printcolumn(name = "Next", type_ = "string", description = "When it runs next", priority = 1, json_path = ".status.nextRun"),
    printcolumn(name = "Ready", type_ = "string", description = "Whether backups are as asked for", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", description = "Why it is ready or not, in one word", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Message", type_ = "string", description = "Why it is ready or not, and what to do", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.predictorRef == oldSelf.predictorRef")
        .message("predictorRef cannot change, because the archives belong to that predictor: create another StorageBackup"),
    validation = Rule::new("self.minSuccessful <= self.destinations.size()")
        .field_path(".minSuccessful")
        .message("must not be larger than the number of destinations"),
    validation = Rule::new("!has(self.fullEvery) || self.mode == 'Incremental'")
        .field_path(".fullEvery")
        .message("set mode to Incremental, or remove fullEvery: every run of mode Full is full"),
    validation = Rule::new("!has(self.timeZone) || has(self.schedule) || (has(self.verification) && has(self.verification.restoreTest))")
        .field_path(".timeZone")
        .message("set schedule, or remove timeZone: it is the time zone of the schedules"),
    validation = Rule::new("!has(self.encryption) || !has(self.verification) || !has(self.verification.restoreTest) || has(self.verification.identitySecret)")
        .field_path(".verification")
        .message("set identitySecret: a restore test of encrypted archives needs the key, or remove restoreTest"),
    validation = Rule::new("self.destinations.filter(destination, has(destination.volume)).size() <= 1")
        .field_path(".destinations")
        .message("the predictor's volume can be a destination once only"),
    validation = Rule::new("self.destinations.all(one, !has(one.claim) || self.destinations.exists_one(other, has(other.claim) && other.claim == one.claim))")
        .field_path(".destinations")
        .message("two destinations are the same folder of a claim: give one of them another path, or remove it"),
    validation = Rule::new("self.destinations.all(one, !has(one.objectStore) || self.destinations.exists_one(other, has(other.objectStore) && other.objectStore.url == one.objectStore.url && (has(other.objectStore.endpoint) ? other.objectStore.endpoint : '') == (has(one.objectStore.endpoint) ? one.objectStore.endpoint : '')))")
        .field_path(".destinations")
        .message("two destinations are the same place in an object store: give one of them another url, or remove it"),
)]
pub struct StorageBackupSpec {
    /// The predictor whose volume is backed up. Immutable.
    pub predictor_ref: PredictorRef,

    /// When it runs: five fields (minute, hour, day of month, month, day of week), such as `0 3 * * *`, or one of
    /// `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`. Absent: only by `trigger` and `runOnCreate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = rule::schedule())]
    pub schedule: Option<String>,

    /// Time zone of the schedules, such as `Europe/Berlin`. Absent: that of the cluster's controller manager, mostly UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = rule::matches(rule::TIME_ZONE, "use the name of a time zone, such as Etc/UTC or Europe/Berlin"))]
    #[x_kube(validation = Rule::new("self.lowerAscii() != 'local'")
        .message("use the name of a time zone, such as Etc/UTC or Europe/Berlin: Local would be another one on each machine"))]
    pub time_zone: Option<String>,

    /// Whether scheduled runs and restore tests are stopped; `trigger` still works. Default: false.
    #[serde(default)]
    pub suspend: bool,

    /// Whether to run once when the object is new, without waiting for the schedule. Default: false.
    #[serde(default)]
    pub run_on_create: bool,

    /// Any text, such as a date: each change of it makes one run, also while suspended. `status.acknowledgedTrigger` repeats
    /// it when that run has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub trigger: Option<String>,

    /// What becomes of a scheduled run when the one before it still works. Default: `Forbid`.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,

    /// For how many seconds a scheduled run that was missed is made up for, at least 10. Absent: without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 604_800))]
    pub starting_deadline_seconds: Option<i64>,

    /// How many seconds a run may take with all its tries, 60 to 604800. Default: 3600.
    #[serde(default = "hour")]
    #[schemars(range(min = 60, max = 604_800))]
    pub active_deadline_seconds: i64,

    /// How often a failed run is tried again, 0 to 10. Failures that a new try can't change are not tried again.
    /// Default: 2.
    #[serde(default = "two")]
    #[schemars(range(min = 0, max = 10))]
    pub backoff_limit: i32,

    /// How many successful Jobs stay for inspection, 1 to 20. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 20))]
    pub successful_jobs_history_limit: i32,

    /// How many failed Jobs stay for inspection, 1 to 20. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 20))]
    pub failed_jobs_history_limit: i32,

    /// What a run writes. Default: `Full`.
    #[serde(default)]
    pub mode: BackupMode,

    /// With `Incremental`: a run is full when the newest full archive is older than this, such as `7d`. Absent: only when
    /// there is no full archive, or a destination doesn't have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub full_every: Option<String>,

    /// Which parts of the volume are backed up, each once. Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub include: Vec<Part>,

    /// Logs of so many days are backed up, 0 to 3650. Default: 7.
    #[serde(default = "seven")]
    #[schemars(range(min = 0, max = 3650))]
    pub logs_days: i32,

    /// How many archives stay at each destination that doesn't say so itself.
    #[serde(default)]
    pub retention: ArchiveRetention,

    /// Where each archive goes, 1 to 8 places, each name once. One that fails doesn't hold up the others. Default: the
    /// folder `backups/` of the predictor's volume, under the name `volume`.
    #[serde(default = "own_volume")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub destinations: Vec<Destination>,

    /// At how many destinations the archive must be for the run to count as a success, at least 1. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 8))]
    pub min_successful: i32,

    /// Who can read the archives. Absent: whoever can read the destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// How far it is proven that archives can be restored. Absent: each is read back after it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,

    /// What has to be true at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<Objectives>,

    /// Settings of the pods that do the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<JobPodSettings>,
}

/// What becomes of a scheduled run when the one before it still works. Two at once are not on offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// The new one is left out.
    #[default]
    Forbid,
    /// The old one is ended.
    Replace,
}

impl ConcurrencyPolicy {
    /// The name that a `CronJob` uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forbid => "Forbid",
            Self::Replace => "Replace",
        }
    }
}

/// What a run writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackupMode {
    /// Everything.
    #[default]
    Full,
    /// What changed since the newest full archive.
    Incremental,
}

impl BackupMode {
    /// As in job documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

/// Who can read the archives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// Public keys of age, 1 to 16, each once: whoever has the private key of one of them can read the archives. To change
    /// keys, list the new one beside the old one first. Keys of archives that exist never change.
    #[schemars(schema_with = "recipients_schema")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub recipients: Vec<String>,
}

/// What has to be true at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objectives {
    /// The newest backup is never older than this, such as `26h` for a daily one; else the condition `ObjectivesMet` is
    /// False.
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub rpo: String,
}

/// Settings of the pods that do the work. They run beside the predictor where its volume is for one node, and tolerate what
/// it tolerates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobPodSettings {
    /// CPU and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that are tolerated, beside those that the predictor tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// Further rules on where the pods run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = rule::no_reserved_keys())]
    pub annotations: BTreeMap<String, String>,

    /// Labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = rule::no_reserved_keys())]
    pub labels: BTreeMap<String, String>,

    /// Name of their priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rule::matches(rule::SUBDOMAIN, "use the name of a PriorityClass as `kubectl get priorityclasses` prints it"))]
    pub priority_class_name: Option<String>,
}

fn own_volume() -> Vec<Destination> {
    vec![Destination {
        name: "volume".into(),
        volume: Some(VolumePlace {}),
        ..Destination::default()
    }]
}

fn one() -> i32 {
    1
}

fn two() -> i32 {
    2
}

fn three() -> i32 {
    3
}

fn seven() -> i32 {
    7
}

fn hour() -> i64 {
    3600
}

/// The rule stands at the items, so that the answer names the key that is wrong.
fn recipients_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let rule = rule::matches(
        rule::RECIPIENT,
        "write the public key that age-keygen prints: age1 and 58 lower-case letters and digits",
    );
    schemars::json_schema!({
        "type": "array", "minItems": 1, "maxItems": 16,
        "items": {"type": "string", "maxLength": 62, "x-kubernetes-validations": [rule]},
    })
}
