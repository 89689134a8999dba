//! `spec.storage`: the claim behind a predictor.
//!
//! In: nothing. Out: types and their rules. A claim's class, mode and name cannot change in Kubernetes either; the
//! rules say so at apply time, where the fix is still cheap.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule;
use crate::storage_restore::Bootstrap;

/// Where the predictor keeps its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.size) != has(self.existingClaim)")
        .message("set either size, for a claim that the operator creates, or existingClaim, for one that you made"),
    validation = Rule::new("!has(self.existingClaim) || !has(self.storageClassName)")
        .message("remove storageClassName: the claim that existingClaim names has its class already"),
    validation = Rule::new("!has(self.existingClaim) || self.deletionPolicy != 'Delete'")
        .message("set deletionPolicy to Retain: the operator never deletes a claim that it did not create"),
    validation = Rule::new("!has(self.existingClaim) || !has(self.bootstrapFrom)")
        .message("remove bootstrapFrom: only a claim that the operator makes is filled; a StorageRestore with target.newClaim makes one"),
    validation = Rule::new("!has(self.bootstrapFrom) || !has(self.bootstrapFrom.source.destination) || !has(self.bootstrapFrom.source.destination.volume)")
        .field_path(".bootstrapFrom")
        .message("a new volume has no backups of its own: set claim or objectStore, or name a StorageBackup"),
    validation = Rule::new("self.accessMode == oldSelf.accessMode")
        .message("accessMode cannot change: create another StockPredictor and move the data there"),
    validation = rule::immutable_optional("storageClassName",
        "storageClassName cannot be changed, set or removed later: create another StockPredictor and move the data there"),
    validation = rule::immutable_optional("existingClaim",
        "existingClaim cannot be changed, set or removed later: create another StockPredictor for the other claim"),
    validation = Rule::new(format!(
        "!has(self.size) || !has(oldSelf.size) || !self.size.matches('{0}') || !oldSelf.size.matches('{0}') \
         || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0", rule::SIZE))
        .message("size can only grow: set it to the old size or more, a volume cannot shrink"),
)]
pub struct StorageSpec {
    /// Size of the volume, as a quantity such as `10Gi`; at least `1Mi`. Required unless `existingClaim` is set. It may
    /// grow later, if the storage class allows it, and never shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size_schema")]
    pub size: Option<Quantity>,

    /// Storage class of the volume. Absent: the cluster's default class. Empty: no class, so that only a volume made by
    /// hand binds. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new(format!("self == '' || self.matches('{}')", rule::SUBDOMAIN))
        .message("use the name of a StorageClass as `kubectl get storageclass` prints it"))]
    pub storage_class_name: Option<String>,

    /// How nodes may mount the volume. It also decides the rollout: a volume for one node or pod is handed over from the
    /// old pod to the new one (`Recreate`), a shared one is rolled without a gap. With `existingClaim` it says which of
    /// the claim's modes to use. Immutable. Default: `ReadWriteOnce`.
    #[serde(default)]
    pub access_mode: AccessMode,

    /// What becomes of the claim, with all data in it, when this object is deleted. Default: `Retain`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// A backup that a new volume is filled with before its first use. It counts only when the operator makes the claim: a
    /// claim that exists is never filled. Until it is filled no pod starts; a backup that can't be read never becomes an
    /// empty volume. Excludes `existingClaim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_from: Option<Bootstrap>,

    /// Name of a claim in the same namespace that exists already and that the operator uses but never changes or
    /// deletes. Excludes `size` and `storageClassName`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rule::matches(rule::SUBDOMAIN, "use the name of a claim as `kubectl get pvc` prints it"))]
    pub existing_claim: Option<String>,
}

/// How nodes may mount a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// Read and written by one node.
    #[default]
    ReadWriteOnce,
    /// Read and written by one pod.
    ReadWriteOncePod,
    /// Read and written by many nodes; required for more than one replica.
    ReadWriteMany,
}

impl AccessMode {
    /// The name that a claim uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}

/// What becomes of the claim when its `StockPredictor` is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The claim stays; a StockPredictor of the same name takes it up again.
    #[default]
    Retain,
    /// The claim and its data are deleted.
    Delete,
}

/// A quantity that must be written as a string, with the rules of [`rule::size`].
fn size_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "maxLength": 32, "x-kubernetes-validations": rule::size()})
}
