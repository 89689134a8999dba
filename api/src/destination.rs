//! Where archives lie: what `StorageBackup` writes to and `StorageRestore` reads from, and the secrets that it takes.
//!
//! In: nothing. Out: types and their rules. A place is exactly one of three kinds; a destination is a place with a name
//! and a retention. Secrets are named and never contained.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::rule;

/// The place where archives lie: exactly one of its members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::one_place())]
pub struct Place {
    /// The folder `backups/` of the predictor's own volume: write `volume: {}`. It survives a lost pod and a deleted
    /// StockPredictor, but not a lost volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumePlace>,

    /// A folder on another claim of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimPlace>,

    /// A prefix in an object store. The archives lie there under `<namespace>/<predictor>/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStorePlace>,
}

/// A place that archives are written to, by a name that the status uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::one_place())]
pub struct Destination {
    /// Name of the destination in this object and its status, such as `volume`, `nas` or `offsite`; each once.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = rule::matches(rule::SHORT_NAME,
        "use at most 32 lower-case letters, digits and '-', beginning and ending with a letter or digit"))]
    pub name: String,

    /// The folder `backups/` of the predictor's own volume: write `volume: {}`. It survives a lost pod and a deleted
    /// StockPredictor, but not a lost volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumePlace>,

    /// A folder on another claim of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimPlace>,

    /// A prefix in an object store. The archives lie there under `<namespace>/<predictor>/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStorePlace>,

    /// How many archives stay here. Absent: what the object says for all destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<ArchiveRetention>,
}

impl Destination {
    /// Where it is, without its name.
    pub fn place(&self) -> Place {
        Place {
            volume: self.volume.clone(),
            claim: self.claim.clone(),
            object_store: self.object_store.clone(),
        }
    }
}

/// The predictor's own volume. It has no members: write `{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct VolumePlace {}

/// A folder on a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimPlace {
    /// Name of a claim in this namespace. The operator mounts it and never changes or deletes it.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rule::matches(rule::SUBDOMAIN, "use the name of a claim as `kubectl get pvc` prints it"))]
    pub name: String,

    /// Folder on the claim, such as `trading/nvda`; its last part is made when it is missing. Absent: the claim's top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = rule::matches(rule::RELATIVE_PATH,
        "write a relative path such as trading/nvda, of letters, digits, '.', '_' and '-', without '..' and empty parts"))]
    pub path: Option<String>,
}

/// A prefix in an object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStorePlace {
    /// Bucket and prefix: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`. The bucket must exist.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rule::matches(rule::STORE_URL,
        "write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, without user name, port, query or spaces; an address goes into endpoint"))]
    pub url: String,

    /// Address of the store, such as `https://minio.storage.svc:9000`. Absent: the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rule::matches(rule::ENDPOINT,
        "write http://HOST:PORT or https://HOST:PORT, without user name, query or spaces"))]
    pub endpoint: Option<String>,

    /// A Secret with the store's credentials: its keys are the names of variables, such as `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY` and `AWS_REGION`. Absent: those that the node gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretReference>,

    /// A Secret with the certificates, in PEM, that the store's own is checked against. Absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretKeyReference>,
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rule::secret_name())]
    pub name: String,
}

/// One key of a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rule::secret_name())]
    pub name: String,

    /// Key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rule::matches(rule::SECRET_KEY,
        "use a key of the Secret: letters, digits, '.', '_' and '-', and neither '.' nor '..'"))]
    pub key: String,
}

/// How many archives stay. Only those that can be restored count; bases of incremental ones stay besides, and so does the
/// newest of the highest level of verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveRetention {
    /// So many of the newest archives, 1 to 1000. Default: 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1000))]
    pub last: i32,

    /// The newest archive of each of so many days, 0 to 3660, counted in UTC. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3660))]
    pub daily: i32,

    /// The newest archive of each of so many weeks, 0 to 520, counted in UTC from Monday on. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 520))]
    pub weekly: i32,

    /// The newest archive of each of so many months, 0 to 120, counted in UTC. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 120))]
    pub monthly: i32,
}

impl Default for ArchiveRetention {
    fn default() -> Self {
        Self {
            last: ten(),
            daily: 0,
            weekly: 0,
            monthly: 0,
        }
    }
}

fn ten() -> i32 {
    10
}
