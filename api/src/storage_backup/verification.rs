//! `spec.verification`: how far it is proven that archives can be restored.
//!
//! In: nothing. Out: types and their rules.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::destination::SecretKeyReference;
use crate::rule;

/// How far it is proven that archives can be restored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// What each run checks of its archive at each destination. `Readable` is only possible for archives that aren't
    /// encrypted, or with `identitySecret`; others are checked as `Stored`. Default: `Readable`.
    #[serde(default)]
    pub level: VerificationLevel,

    /// The key of a Secret that holds an age identity, which reads encrypted archives. Only verification uses it; without
    /// it nobody in the cluster can read what is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_secret: Option<SecretKeyReference>,

    /// A test that restores the newest archive into scratch space and repeats its golden predictions. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_test: Option<RestoreTest>,
}

/// What is checked of an archive after it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VerificationLevel {
    /// Its bytes are those that were written.
    Stored,
    /// It can be decrypted, and each file in it has its hash.
    #[default]
    Readable,
}

impl VerificationLevel {
    /// As in job documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Readable => "readable",
        }
    }
}

/// A restore into scratch space that repeats itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreTest {
    /// When it runs, in the form of `spec.schedule` and in the same time zone.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = rule::schedule())]
    pub schedule: String,

    /// The most scratch space that it may use on the node, as a quantity such as `5Gi`. Absent: what the node has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size_schema")]
    pub scratch_size: Option<Quantity>,
}

/// A quantity that must be written as a string, with the rules of [`rule::size`].
fn size_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "maxLength": 32, "x-kubernetes-validations": rule::size()})
}
