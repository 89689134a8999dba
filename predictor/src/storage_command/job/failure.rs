//! Why a job failed: a word that the operator acts on, and a sentence for people.
//!
//! In come the errors of the storage crate, out comes a [`Failure`]. The words are a contract; so is which of them make
//! a retry useless.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use stockpredictor_storage::backup::BackupError;
use stockpredictor_storage::decrypt::IdentityError;
use stockpredictor_storage::destination::DestinationError;
use stockpredictor_storage::fill::FillError;
use stockpredictor_storage::known::KnownError;
use stockpredictor_storage::lock::LockError;
use stockpredictor_storage::marker::MarkerError;
use stockpredictor_storage::restore::{JournalError, RestoreError};
use stockpredictor_storage::select::SelectError;
use stockpredictor_storage::setup::SetupError;
use stockpredictor_storage::snapshot::SnapshotError;

use crate::object_store::ConnectError;

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    Completed,
    CompletedWithWarnings,
    VolumeNotReady,
    VolumeLocked,
    VolumeFull,
    VolumeNotEmpty,
    DestinationsFailed,
    CredentialsRefused,
    DestinationNotFound,
    NoBackup,
    ChainBroken,
    Damaged,
    HashMismatch,
    Unattested,
    KeyMissing,
    KeyWrong,
    NoSpace,
    NotProven,
    NotPrepared,
    RestoreWaiting,
    Interrupted,
    InvalidJob,
    Failed,
}

impl Reason {
    /// Whether the same job would end the same way again.
    pub const fn is_final(self) -> bool {
        match self {
            Self::NoBackup
            | Self::ChainBroken
            | Self::Damaged
            | Self::HashMismatch
            | Self::Unattested
            | Self::KeyMissing
            | Self::KeyWrong
            | Self::NoSpace
            | Self::NotProven
            | Self::NotPrepared
            | Self::VolumeNotEmpty
            | Self::RestoreWaiting
            | Self::InvalidJob => true,
            Self::Completed
            | Self::CompletedWithWarnings
            | Self::VolumeNotReady
            | Self::VolumeLocked
            | Self::VolumeFull
            | Self::DestinationsFailed
            | Self::CredentialsRefused
            | Self::DestinationNotFound
            | Self::Interrupted
            | Self::Failed => false,
        }
    }
}

/// A reason and what it means here.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The word.
    pub reason: Reason,
    /// The sentence.
    pub text: String,
}

impl Failure {
    pub fn new(reason: Reason, text: impl fmt::Display) -> Self {
        Self {
            reason,
            text: text.to_string(),
        }
    }

    pub const fn is_final(&self) -> bool {
        self.reason.is_final()
    }

    /// What failed because the job was told to stop.
    pub fn interrupted(self) -> Self {
        Self::new(
            Reason::Interrupted,
            format!(
                "the job was told to stop; run again, it goes on or starts over ({})",
                self.text
            ),
        )
    }

    /// The same about a place.
    pub fn at(self, place: &str) -> Self {
        Self::new(self.reason, format!("{place}: {}", self.text))
    }

    /// An encrypted archive for which no key was given lacks one; with keys they are the wrong ones.
    pub fn with_key(self, has_key: bool) -> Self {
        match self.reason {
            Reason::KeyWrong if !has_key => Self::new(Reason::KeyMissing, self.text),
            _ => self,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn of_store(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Reason::CredentialsRefused,
        io::ErrorKind::NotFound => Reason::DestinationNotFound,
        _ => Reason::DestinationsFailed,
    }
}

impl From<DestinationError> for Failure {
    fn from(error: DestinationError) -> Self {
        let is_store = error.destination.contains("://");
        let reason = match error.source.kind() {
            io::ErrorKind::NotFound => Reason::DestinationNotFound,
            _ if is_store => of_store(&error.source),
            _ => Reason::DestinationsFailed,
        };
        Self::new(reason, error)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let reason = match &error {
            ConnectError::Url { .. } => Reason::InvalidJob,
            ConnectError::File { .. } => Reason::CredentialsRefused,
            ConnectError::Settings { .. } | ConnectError::Runtime(_) => Reason::DestinationsFailed,
        };
        Self::new(reason, error)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let reason = match &error {
            LockError::Taken { .. } => Reason::VolumeLocked,
            LockError::Use { .. } => Reason::VolumeNotReady,
        };
        Self::new(reason, error)
    }
}

impl From<MarkerError> for Failure {
    fn from(error: MarkerError) -> Self {
        Self::new(Reason::VolumeNotReady, error)
    }
}

impl From<KnownError> for Failure {
    fn from(error: KnownError) -> Self {
        Self::new(Reason::VolumeNotReady, error)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::new(Reason::KeyMissing, error)
    }
}

impl From<SelectError> for Failure {
    fn from(error: SelectError) -> Self {
        let reason = match &error {
            SelectError::None { .. } | SelectError::NoSuchName { .. } => Reason::NoBackup,
            SelectError::Unattested { .. } => Reason::Unattested,
            SelectError::SeveralOrigins(_) => Reason::InvalidJob,
            SelectError::Unusable { reason, .. } if reason.starts_with("it was written with") => {
                Reason::HashMismatch
            }
            SelectError::Unusable { .. } => Reason::ChainBroken,
            SelectError::Mismatch { .. } => Reason::HashMismatch,
        };
        Self::new(reason, error)
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        Self::new(of_snapshot(&error), error)
    }
}

/// What an error of an archive means.
pub fn of_snapshot(error: &SnapshotError) -> Reason {
    match error {
        SnapshotError::Damaged { reason, .. } if reason.starts_with("its base ") => {
            Reason::ChainBroken
        }
        SnapshotError::Damaged { .. } | SnapshotError::Hostile { .. } => Reason::Damaged,
        SnapshotError::Mismatch { .. } => Reason::HashMismatch,
        SnapshotError::Locked { .. } => Reason::KeyWrong,
        SnapshotError::Use { source, .. } if is_full(source) => Reason::NoSpace,
        SnapshotError::Use { path, source } if path.contains("://") => of_store(source),
        SnapshotError::Use { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Reason::NoBackup
        }
        SnapshotError::Newer { .. } | SnapshotError::Use { .. } => Reason::Failed,
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self::new(of_journal(&error), error)
    }
}

fn of_journal(error: &JournalError) -> Reason {
    match error {
        JournalError::Waiting { .. } => Reason::RestoreWaiting,
        JournalError::Unsettled { .. }
        | JournalError::Running { .. }
        | JournalError::InUse { .. }
        | JournalError::Lock(LockError::Taken { .. }) => Reason::VolumeLocked,
        JournalError::Filling { .. } | JournalError::Lock(LockError::Use { .. }) => {
            Reason::VolumeNotReady
        }
        JournalError::Use { source, .. } if is_full(source) => Reason::VolumeFull,
        JournalError::Use { .. } | JournalError::Damaged { .. } | JournalError::Newer { .. } => {
            Reason::Failed
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        Self::new(of_restore(&error), error)
    }
}

fn of_restore(error: &RestoreError) -> Reason {
    match error {
        RestoreError::Undone { cause, .. } => of_restore(cause),
        RestoreError::Journal(error) => of_journal(error),
        RestoreError::Snapshot(error) => of_snapshot(error),
        RestoreError::NotIncluded { .. } | RestoreError::Nothing | RestoreError::Source { .. } => {
            Reason::InvalidJob
        }
        RestoreError::Space { .. } | RestoreError::Inodes { .. } => Reason::NoSpace,
        RestoreError::Denied { .. } => Reason::VolumeNotReady,
        RestoreError::Use { source, .. } if is_full(source) => Reason::NoSpace,
        RestoreError::Check { .. } => Reason::Damaged,
        RestoreError::Checker(_) => Reason::NotProven,
        RestoreError::Unknown { .. } | RestoreError::State { .. } => Reason::NotPrepared,
        RestoreError::Mount { .. }
        | RestoreError::TooManyNames { .. }
        | RestoreError::Use { .. }
        | RestoreError::NotUndone { .. }
        | RestoreError::NotEmpty { .. } => Reason::Failed,
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let reason = match &error {
            BackupError::Request(_) | BackupError::Recipient(_) => Reason::InvalidJob,
            BackupError::Lock(LockError::Taken { .. }) => Reason::VolumeLocked,
            BackupError::Journal(error) => of_journal(error),
            BackupError::Volume { source, .. } if is_full(source) => Reason::VolumeFull,
            BackupError::Lock(LockError::Use { .. }) | BackupError::Volume { .. } => {
                Reason::VolumeNotReady
            }
            BackupError::Destinations { .. } | BackupError::Names { .. } => {
                Reason::DestinationsFailed
            }
            BackupError::Internal(_) => Reason::Failed,
        };
        Self::new(reason, error)
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::Restore(error) => error.into(),
            SetupError::Lock(error) => error.into(),
            SetupError::Full { .. } => Self::new(Reason::VolumeFull, error),
            error => Self::new(Reason::VolumeNotReady, error),
        }
    }
}

impl From<FillError> for Failure {
    fn from(error: FillError) -> Self {
        match error {
            FillError::NotEmpty { .. } | FillError::Another { .. } => {
                Self::new(Reason::VolumeNotEmpty, error)
            }
            FillError::Missing { .. } => Self::new(Reason::VolumeNotReady, error),
            FillError::Marker(error) => error.into(),
            FillError::Lock(error) => error.into(),
            FillError::Setup(error) => error.into(),
            FillError::Restore(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_contract_are_these_and_tell_whether_to_retry() {
        let contract =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/jobs.json");
        let contract: serde_json::Value =
            serde_json::from_slice(&std::fs::read(contract).unwrap()).unwrap();
        let mut count = 0;
        for (list, is_final) in [("retry", false), ("final", true)] {
            for word in contract["reasons"][list].as_array().unwrap() {
                let reason: Reason = serde_json::from_value(word.clone()).unwrap();
                assert_eq!(reason.is_final(), is_final, "{word}");
                count += 1;
            }
        }
        assert_eq!(count, 21, "Completed and CompletedWithWarnings aside");
    }
}
