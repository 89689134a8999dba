//! What a restore sees of a backup: the volume's files as they were, whatever chain of archives holds them.
//!
//! Implemented for chains of archives; the restore itself knows only this.

use std::io;
use std::path::Path;

use crate::archive::category::Category;
use crate::archive::digest::Digest;
use crate::archive::manifest::Entry;
use crate::archive::path::RelativePath;
use crate::progress::Progress;

/// One state of a volume that can be unpacked.
pub trait Snapshot {
    /// The parts of the volume that it holds whole; a restore replaces these and no others.
    fn include(&self) -> &[Category];

    /// The folder that it is read from, where it is one: a restore must not replace that.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Calls `each` for every file, directory and link of the state, sorted by path, deletions applied.
    fn entries(&self, each: &mut dyn FnMut(&Entry) -> io::Result<()>) -> Result<(), SnapshotError>;

    /// Unpacks what `wanted` says into `target`, an existing empty directory, checking every hash on the way.
    ///
    /// Nothing is written outside `target`, and no link in it is followed. Modes and times are the archive's
    /// (setuid and setgid dropped); owners are the caller's. Afterwards one `syncfs` has made all of it durable.
    fn extract(
        &self,
        wanted: &(dyn Fn(&RelativePath) -> bool + Sync),
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<Extracted, SnapshotError>;
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a backup can't be read or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// An archive isn't what it was.
    #[error(
        "{archive} is damaged: {reason}: take another backup, `predictor storage verify --all` tells which are good"
    )]
    Damaged {
        /// Name of the archive.
        archive: String,
        /// What is wrong, with the file's path where one is.
        reason: String,
    },
    /// The archive's bytes are others than the run that wrote it reported.
    #[error(
        "{archive} has SHA-256 {found}, but {expected} was written: it was changed since; take another backup"
    )]
    Mismatch {
        /// Name of the archive.
        archive: String,
        /// What the file has.
        found: Digest,
        /// What it should have.
        expected: Digest,
    },
    /// The archive asks for something that no backup of ours has.
    #[error("{archive} is refused: {reason}: it was not written by `predictor storage backup`")]
    Hostile {
        /// Name of the archive.
        archive: String,
        /// What it asks for.
        reason: String,
    },
    /// The archive is encrypted and no identity opens it.
    #[error(
        "{archive} is encrypted and can't be opened: {reason}: give the file with the right key as --identity FILE"
    )]
    Locked {
        /// Name of the archive.
        archive: String,
        /// What age said.
        reason: String,
    },
    /// A later release wrote it.
    #[error("{archive} has format {found}, this release reads {known}: use a newer release")]
    Newer {
        /// Name of the archive.
        archive: String,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// Reading the archive or writing a file failed.
    #[error("{path}: {source}")]
    Use {
        /// What it was about.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}
