//! Where restored data comes from.
//!
//! In: nothing. Out: types and rules that a `StorageRestore` and `StockPredictor.spec.storage.bootstrapFrom` share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::destination::{Place, SecretKeyReference};
use crate::rule;

/// The name of a backup, or how one is chosen.
const CHOICE: &str =
    "^(latest|latestProven|stock_prediction_backup_[0-9]{8}_[0-9]{6}[.]tar[.]gz([.]age)?)$";
/// The pattern's message.
const CHOICE_MESSAGE: &str = "write latest, latestProven, or the name of a backup as `kubectl describe sb` lists it, such as \
    stock_prediction_backup_20250801_120000.tar.gz";
/// A SHA-256.
const SHA256: &str = "^[0-9a-f]{64}$";

/// Where the backups lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageBackupRef) != has(self.destination)")
        .message("set either storageBackupRef, the StorageBackup that made the backups, or destination, a place where backups lie"),
    validation = Rule::new("!has(self.origin) || has(self.destination)")
        .message("remove origin: the StorageBackup knows whose backups it makes"),
)]
pub struct RestoreSource {
    /// A `StorageBackup` of this namespace. It knows the place, the credentials and the SHA-256 of what it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_backup_ref: Option<StorageBackupRef>,

    /// A place where backups lie, without a `StorageBackup`, such as after the loss of a cluster. Its SHA-256 being
    /// unknown here, a backup from it is taken only by its exact name or with `sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Place>,

    /// Whose backups to choose from at `destination`. Absent: those of the predictor that is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A `StorageBackup` and one of its destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageBackupRef {
    /// Name of the `StorageBackup`, in the same namespace.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rule::matches(rule::NAME, "use the name of a StorageBackup as `kubectl get sb` prints it"))]
    pub name: String,

    /// Name of one of its destinations. Absent: the first one that has the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rule::matches(rule::NAMESPACE, "use the name of a destination of that StorageBackup"))]
    pub destination: Option<String>,
}

/// Whose backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The namespace of the predictor that was backed up. Absent: this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rule::matches(rule::NAMESPACE, "use the name of the namespace that the backups were made in"))]
    pub namespace: Option<String>,

    /// The name of the predictor that was backed up.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rule::matches(rule::NAME, "use the name of the StockPredictor that was backed up"))]
    pub predictor: String,
}

/// What a new volume is filled with before its first use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = choice_rules()[0].clone(),
    validation = choice_rules()[1].clone(),
)]
pub struct Bootstrap {
    /// Where the backups lie.
    pub source: RestoreSource,

    /// Which backup: its name, `latest`, or `latestProven`, the newest whose predictions were reproduced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rule::matches(CHOICE, CHOICE_MESSAGE))]
    pub backup: Option<String>,

    /// The newest backup that was made at this time or before, such as `2025-08-01T12:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,

    /// SHA-256 that the backup must have, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = sha256_rule())]
    pub sha256: Option<String>,

    /// The Secret with the age identity for encrypted backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_secret: Option<SecretKeyReference>,
}

/// The rules on `backup`, `at` and `sha256` of one object.
pub(super) fn choice_rules() -> [kube::core::Rule; 2] {
    [
        kube::core::Rule::new("has(self.backup) != has(self.at)").message(
            "set either backup (a name, latest or latestProven) or at (a time): a restore never guesses",
        ),
        kube::core::Rule::new(
            "!has(self.sha256) || (has(self.backup) && self.backup.startsWith('stock_prediction_backup_'))",
        )
        .message("name the backup that sha256 belongs to: set backup to its exact name"),
    ]
}

/// The rule on a choice.
pub(super) fn choice_rule() -> kube::core::Rule {
    rule::matches(CHOICE, CHOICE_MESSAGE)
}

/// The rule on a SHA-256.
pub(super) fn sha256_rule() -> kube::core::Rule {
    rule::matches(
        SHA256,
        "write the 64 hexadecimal digits, in lower case, that `kubectl describe sb` or sha256sum prints",
    )
}
