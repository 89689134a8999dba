//! `spec`: what to restore, where to, and what to do when that fails; and the root type that kube derives from it.
//!
//! In: nothing. Out: types and rules. The whole spec is immutable.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::{RestoreSource, choice_rule, choice_rules, sha256_rule};
use super::status::StorageRestoreStatus;
use crate::destination::SecretKeyReference;
use crate::part::Part;
use crate::predictor_ref::PredictorRef;
use crate::rule;
use crate::stock_predictor::AccessMode;

/// What users ask for.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "stockpredictor.io",
    version = "v1alpha1",
    kind = "StorageRestore",
    plural = "storagerestores",
    shortname = "sr",
    category = "stockpredictor",
    namespaced,
    status = "StorageRestoreStatus",
    derive = "PartialEq",
    annotation("helm.sh/resource-policy", "keep"),
    doc = "One restore: of a predictor's volume in place, or onto a new claim. In place it stops the predictor, puts the backup in the place of the data, starts it again, and keeps the result only when predictions are served; else the old data comes back.",
    validation = Rule::new(format!("self.metadata.name.matches('{}')", rule::NAME))
        .message("metadata.name must have at most 40 lower-case letters, digits and '-', begin with a letter and end with a letter or digit: the names of the restore's Jobs begin with it"),
    printcolumn(name = "Ready", type_ = "string", description = "Whether the restored data is in place and proven", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Phase", type_ = "string", description = "How far it is", json_path = ".status.phase"),
    printcolumn(name = "Target", type_ = "string", description = "The claim that is restored", json_path = ".status.target.claimName"),
    printcolumn(name = "Backup", type_ = "string", description = "The backup that was chosen", json_path = ".status.backup.name"),
    printcolumn(name = "Took", type_ = "string", description = "How long it took from beginning to end", json_path = ".status.duration"),
    printcolumn(name = "Reason", type_ = "string", description = "Why it is ready or not, in one word", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Since", type_ = "date", description = "How long Ready has had its value", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].lastTransitionTime"),
    printcolumn(name = "Model", type_ = "string", description = "Name and version of the restored model", priority = 1, json_path = ".status.restored.model"),
    printcolumn(name = "Downtime", type_ = "string", description = "How long the predictor was stopped", priority = 1, json_path = ".status.downtime"),
    printcolumn(name = "Message", type_ = "string", description = "What is going on, and what to do", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf")
        .message("a StorageRestore is one restore and cannot change: create another one under another name"),
    validation = choice_rules()[0].clone(),
    validation = choice_rules()[1].clone(),
    validation = Rule::new("size(self.include) == 0 || has(self.target.inPlace)")
        .field_path(".include")
        .message("remove include: a new claim gets everything that the backup has"),
    validation = Rule::new("!has(self.target.newClaim) || !has(self.source.destination) || has(self.source.origin)")
        .field_path(".source")
        .message("set source.origin: without it nobody knows whose backups at this destination are meant"),
    validation = Rule::new("!has(self.target.newClaim) || !has(self.source.destination) || !has(self.source.destination.volume)")
        .field_path(".source.destination")
        .message("a new claim has no backups of its own: set claim or objectStore, or name a StorageBackup"),
)]
pub struct StorageRestoreSpec {
    /// Where the backups lie.
    pub source: RestoreSource,

    /// Which backup: its name, `latest`, or `latestProven`, the newest whose predictions were reproduced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = choice_rule())]
    pub backup: Option<String>,

    /// The newest backup that was made at this time or before, such as `2025-08-01T12:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,

    /// SHA-256 that the backup must have, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = sha256_rule())]
    pub sha256: Option<String>,

    /// The parts of the volume to restore in place. Empty: all that the backup has.
    #[serde(default)]
    #[schemars(length(max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub include: Vec<Part>,

    /// Where the data goes.
    pub target: RestoreTarget,

    /// The Secret with the age identity for encrypted backups. It is mounted into the restore's Jobs and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_secret: Option<SecretKeyReference>,

    /// What becomes of the volume when the restored data can't be proven. Before the switch a failure always leaves the
    /// old data in place and starts the predictor again. Default: `RollBack`.
    #[serde(default)]
    pub on_failure: OnFailure,

    /// How long each phase may take.
    #[serde(default)]
    pub time_limits: TimeLimits,

    /// Whether to stop after the checks, with the plan in the status: nothing is stopped and nothing is changed.
    /// Default: false.
    #[serde(default)]
    pub dry_run: bool,
}

/// Where the data goes: one of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.inPlace) != has(self.newClaim)")
        .message("set either inPlace, to restore the volume of a StockPredictor, or newClaim, to fill a new one"),
)]
pub struct RestoreTarget {
    /// The volume of a predictor, in the place of what is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<InPlaceTarget>,

    /// A claim that does not exist yet. A StockPredictor of the same name takes it up; another one may name it in
    /// `spec.storage.existingClaim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_claim: Option<NewClaim>,
}

/// The volume of a predictor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InPlaceTarget {
    /// The predictor.
    pub predictor_ref: PredictorRef,
}

/// A claim to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewClaim {
    /// Name of the new claim.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rule::matches(rule::NAME, "use at most 40 lower-case letters, digits and '-', beginning with a letter: a StockPredictor may get this name"))]
    pub name: String,

    /// Size of the new claim, as a quantity such as `10Gi`.
    #[schemars(schema_with = "size_schema")]
    pub size: Quantity,

    /// Storage class of the new claim. Absent: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new(format!("self == '' || self.matches('{}')", rule::SUBDOMAIN))
        .message("use the name of a StorageClass as `kubectl get storageclass` prints it"))]
    pub storage_class_name: Option<String>,

    /// How nodes may mount it. Default: `ReadWriteOnce`.
    #[serde(default)]
    pub access_mode: AccessMode,
}

/// What becomes of the volume when the restored data can't be proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// The old data comes back, and the predictor starts with it.
    #[default]
    RollBack,
    /// The restored data stays in place and the predictor stays stopped, for a person to look. The annotation
    /// `stockpredictor.io/decision` ends it: `Commit` or `RollBack`; deleting the object rolls back.
    Hold,
}

/// How long each phase may take. When the time is over, nothing is left half-done: before the switch the predictor
/// starts with its old data, afterwards `onFailure` decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimeLimits {
    /// For the checks before anything is stopped. Default: `30m`.
    #[serde(default = "half_an_hour")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub preflight: String,

    /// For the predictor, and whoever else uses the volume, to let it go. Default: `10m`.
    #[serde(default = "ten_minutes")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub hold: String,

    /// For unpacking and verifying beside the data, or onto a new claim. Default: `2h`.
    #[serde(default = "two_hours")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub prepare: String,

    /// For the switch itself, with its checks. Default: `30m`.
    #[serde(default = "half_an_hour")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub switch: String,

    /// For the predictor to become ready with the restored data. Default: `10m`.
    #[serde(default = "ten_minutes")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub start: String,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            preflight: half_an_hour(),
            hold: ten_minutes(),
            prepare: two_hours(),
            switch: half_an_hour(),
            start: ten_minutes(),
        }
    }
}

fn ten_minutes() -> String {
    "10m".into()
}

fn half_an_hour() -> String {
    "30m".into()
}

fn two_hours() -> String {
    "2h".into()
}

/// A quantity that must be written as a string, with the rules of [`rule::size`].
fn size_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "maxLength": 32, "x-kubernetes-validations": rule::size()})
}
