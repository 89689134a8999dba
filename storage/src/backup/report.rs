//! What a backup tells: its report, its warnings, its errors.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use uuid::Uuid;

use crate::archive::category::Category;
use crate::archive::digest::Digest;
use crate::archive::header::{Base, Kind};
use crate::archive::meta::Total;
use crate::archive::name::ArchiveName;
use crate::archive::path::RelativePath;
use crate::destination::is_full;
use crate::encrypt::RecipientError;
use crate::lock::LockError;
use crate::restore::JournalError;

/// Something that a person should know; the backup is good without it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Warning {
    /// What it is about, relative to the volume's root.
    pub path: String,
    /// What happened and what to do.
    pub message: String,
}

impl Warning {
    /// A warning about a path.
    pub fn new(path: &RelativePath, message: impl Into<String>) -> Self {
        Self {
            path: path.to_string(),
            message: message.into(),
        }
    }

    pub(super) fn live(path: &RelativePath) -> Self {
        let message = "it changed whenever it was read; the backup has its last reading, which may be half written: make another backup when it rests";
        Self::new(path, message)
    }

    pub(super) fn shortened(path: &RelativePath) -> Self {
        let message = "it became shorter whenever it was read; the backup has zeros for what vanished: make another backup when it rests";
        Self::new(path, message)
    }

    pub(super) fn salvaged(path: &RelativePath, source: &io::Error) -> Self {
        let message = format!(
            "it can't be read to its end: {source}: the backup has zeros from there on: check the disk, then make another backup"
        );
        Self::new(path, message)
    }

    pub(super) fn unreadable(path: &RelativePath, source: &io::Error) -> Self {
        let fix = match source.kind() {
            io::ErrorKind::PermissionDenied => {
                "make it readable (`predictor storage setup` repairs owners and modes), then make another backup"
            }
            _ => "check the disk, then make another backup",
        };
        Self::new(
            path,
            format!("it can't be read and is not in the backup: {source}: {fix}"),
        )
    }
}

/// How a destination fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationReport {
    /// Its path or URL, without credentials.
    pub destination: String,
    /// Whether the archive lies there.
    pub is_stored: bool,
    /// Why it doesn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its id.
    pub id: Uuid,
    /// Its name at every destination.
    pub name: ArchiveName,
    /// What it became.
    pub kind: Kind,
    /// What it is based on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Why it is a full one although an incremental one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_full: Option<String>,
    /// Files that it stores.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// SHA-256 of the archive.
    pub sha256: Digest,
    /// What lies on the volume, by part.
    pub totals: BTreeMap<Category, Total>,
    /// How each destination fared, in the order of the request.
    pub destinations: Vec<DestinationReport>,
    /// Why the guard suspects that data was lost; empty if it doesn't, or if the loss was accepted.
    pub suspect: Vec<String>,
    /// What people have to know.
    pub warnings: Vec<Warning>,
    /// Entries that no archive holds: FIFOs, sockets, devices.
    pub skipped: u64,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The request makes no sense.
    #[error("{0}")]
    Request(String),
    /// A recipient can't be read.
    #[error(transparent)]
    Recipient(#[from] RecipientError),
    /// Another command is at work.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A restore isn't done.
    #[error(transparent)]
    Journal(JournalError),
    /// A directory of the volume can't be used.
    #[error("{path}: {source}: {}", volume_fix(.source))]
    Volume {
        /// Which one.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Too few destinations took the archive.
    #[error(
        "only {stored} of {} destinations have the backup, {wanted} must: {}",
        destinations.len(),
        failures(destinations)
    )]
    Destinations {
        /// How many have it.
        stored: usize,
        /// How many must.
        wanted: usize,
        /// How each fared.
        destinations: Vec<DestinationReport>,
    },
    /// No name is free.
    #[error(
        "no name from {first} on is free at every destination: wait a minute, or remove the foreign files of this name"
    )]
    Names {
        /// The name that was tried first.
        first: ArchiveName,
    },
    /// The program failed.
    #[error("the archive can't be written: {0}: this is a defect, please report it")]
    Internal(String),
}

impl From<JournalError> for BackupError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Lock(error) => Self::Lock(error),
            error => Self::Journal(error),
        }
    }
}

fn volume_fix(source: &io::Error) -> &'static str {
    if is_full(source) {
        "free space with `predictor storage cleanup`, keep fewer backups on the volume, or grow it"
    } else {
        "check that the volume is mounted and belongs to user 1001"
    }
}

fn failures(destinations: &[DestinationReport]) -> String {
    let failed = destinations.iter().filter_map(|one| one.error.as_deref());
    failed.collect::<Vec<_>>().join("; ")
}
