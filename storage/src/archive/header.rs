//! `backup.json`, the first entry of an archive: what it is and where it comes from.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::category::Category;
use super::digest::Digest;
use super::name::ArchiveName;

/// Path of the first entry.
pub const HEADER_PATH: &str = "backup.json";
/// The format that this release writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// Largest `backup.json` that is read, in bytes.
pub const MAX_HEADER: usize = 64 << 10;
/// [`Origin::backup`] of the command line.
pub const MANUAL: &str = "manual";

/// Whose backup this is. Retention and chains never cross origins.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The volume's id.
    pub volume: Uuid,
    /// Namespace of the predictor; empty outside Kubernetes.
    pub namespace: String,
    /// Name of the predictor; empty outside Kubernetes.
    pub predictor: String,
    /// Uid of the StorageBackup; `manual` for the command line.
    pub backup: String,
}

impl Origin {
    /// The origin of backups by hand.
    pub fn manual(volume: Uuid) -> Self {
        Self {
            volume,
            namespace: String::new(),
            predictor: String::new(),
            backup: MANUAL.to_owned(),
        }
    }
}

/// Whether an archive stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Everything.
    Full,
    /// What changed since its base, which is a full one.
    Incremental,
}

/// The full backup that an incremental one is based on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: ArchiveName,
    /// SHA-256 of its whole file, as the run that wrote it reported.
    pub sha256: Digest,
}

/// The content of `backup.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Version of the format.
    pub format: u32,
    /// The backup's id, the same at every destination.
    pub id: Uuid,
    /// Whose it is.
    pub origin: Origin,
    /// Whether it stands alone.
    pub kind: Kind,
    /// What it is based on; only for an incremental one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// When the backup began.
    pub created_at: Timestamp,
    /// What was asked for; a restore replaces these parts and no others.
    pub include: Vec<Category>,
    /// Logs of so many days were taken.
    pub logs_days: u32,
    /// The program that wrote it, with its version.
    pub generator: String,
}
