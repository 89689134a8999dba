//! `StorageBackup`: backups of a predictor's volume that run themselves.
//!
//! In: nothing. Out: the root type with its printer columns and the rules that see several fields, its status, and its
//! conditions.

pub mod condition;
mod spec;
mod status;
mod verification;

pub use spec::{
    BackupMode, ConcurrencyPolicy, Encryption, JobPodSettings, Objectives, StorageBackup,
    StorageBackupSpec,
};
pub use status::{
    BackupStatus, DestinationStatus, RunKind, RunResult, RunStatus, StorageBackupStatus,
};
pub use verification::{RestoreTest, Verification, VerificationLevel};
