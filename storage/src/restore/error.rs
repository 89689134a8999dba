//! Why a restore failed, and what that means for the volume.

use std::io;
use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use super::journal::State;
use crate::archive::category::Category;
use crate::lock::LockError;
use crate::snapshot::SnapshotError;

/// Why a volume can't be used because of a restore that isn't done.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal or what it speaks of can't be read or changed.
    #[error("{path}: {source}")]
    Use {
        /// What it was about.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The journal is no journal.
    #[error(
        "{path} is damaged ({reason}): a restore was cut off and can't be finished by itself; the old state is in .restore-*/old on the volume: move it back by hand, then remove the file"
    )]
    Damaged {
        /// The journal.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A later release wrote it.
    #[error(
        "{path} has format {found}, this release knows {known}: finish the restore with the release that began it"
    )]
    Newer {
        /// The journal.
        path: String,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// A restore is running or was cut off, and this command may not write.
    #[error(
        "restore {id} of {root} is running or was cut off: wait for it, or run any command that writes, such as `predictor storage setup --root {root}`, which finishes or undoes it"
    )]
    Unsettled {
        /// The restore.
        id: Uuid,
        /// The volume.
        root: String,
    },
    /// A restore waits in a stable state for its next step.
    #[error("restore {id} of {root} is {state} and waits to be finished: {}", ways_on(*.id, .root, .state))]
    Waiting {
        /// The restore.
        id: Uuid,
        /// The volume.
        root: String,
        /// `prepared` or `switched`.
        state: &'static str,
    },
    /// A restore is filling the new volume, or was cut off while it did.
    #[error(
        "{root} is new and restore {id} fills it, but isn't done: let it finish, or empty the volume (with .stockpredictor) to begin anew"
    )]
    Filling {
        /// The volume.
        root: String,
        /// The restore.
        id: Uuid,
    },
    /// Another restore is at work.
    #[error("a restore of {root} is running: wait until it is done and try again")]
    Running {
        /// The volume.
        root: String,
    },
    /// Someone works on the volume.
    #[error(
        "{root} is in use: stop `predictor serve` and wait for backups and cleanups (in Kubernetes: set `spec.suspend: true` on the StockPredictor), then try again"
    )]
    InUse {
        /// The volume.
        root: String,
    },
    /// The lock file can't be used.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Why a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A restore is under way already, or the volume is in use.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The backup can't be read or unpacked.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The backup doesn't hold what is wanted.
    #[error("the backup has no {category}, it was limited to {include}: leave it out of --only")]
    NotIncluded {
        /// What is wanted.
        category: Category,
        /// What the backup has.
        include: String,
    },
    /// Nothing would be restored.
    #[error(
        "nothing is to be restored: name a part of the volume in --only, or leave the option out"
    )]
    Nothing,
    /// The new state doesn't fit beside the old one.
    #[error(
        "{path} has {free} bytes free, but the restore needs {needed} beside the present data: free space, grow the volume, or restore less with --only"
    )]
    Space {
        /// The volume or folder.
        path: String,
        /// Bytes that can be written.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// The file system has too few inodes left.
    #[error(
        "{path} has {free} inodes free, but the restore needs {needed} beside the present files: remove small files, or restore less with --only"
    )]
    Inodes {
        /// The volume or folder.
        path: String,
        /// Inodes that are free.
        free: u64,
        /// Inodes that are needed.
        needed: u64,
    },
    /// Something that must be replaced is a mount point.
    #[error(
        "{path} is, or has within it, another mount and can't be replaced as a whole: unmount it, or restore with --to DIR and copy the files"
    )]
    Mount {
        /// The mount point, or the directory above it.
        path: String,
    },
    /// The backup lies in what would be replaced, and would be removed with everything beside it.
    #[error(
        "the backup is read from {path}, which this restore would replace, and the backups there would be lost: move them to backups/ or off the volume, leave that part out with --only, or unpack with --to DIR"
    )]
    Source {
        /// Where it lies.
        path: String,
    },
    /// The volume refuses writes.
    #[error(
        "{path} is not writable for user {uid}: give the volume to the service with `chown -R 1001:1001 {root}`, or run the restore as root"
    )]
    Denied {
        /// What can't be written.
        path: String,
        /// The volume.
        root: String,
        /// Who tried.
        uid: u32,
    },
    /// Too many names lie directly below the root.
    #[error(
        "the backup has more than {limit} names directly below the root: restore it with --to DIR"
    )]
    TooManyNames {
        /// The most that are replaced one by one.
        limit: usize,
    },
    /// Reading or writing the volume failed.
    #[error("{path}: {source}")]
    Use {
        /// What it was about.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The restored state isn't what the backup has.
    #[error("{path} is not as in the backup after the restore: {reason}")]
    Check {
        /// Relative to the root.
        path: String,
        /// What differs.
        reason: String,
    },
    /// The caller's own check failed.
    #[error("the restored state failed its check: {0}")]
    Checker(String),
    /// This restore isn't under way.
    #[error("restore {id} is not under way on {root}: it was finished or undone, or never begun")]
    Unknown {
        /// The restore.
        id: Uuid,
        /// The volume.
        root: String,
    },
    /// The step doesn't fit the state.
    #[error("restore {id} is {state}: it must be {needed} first")]
    State {
        /// The restore.
        id: Uuid,
        /// How far it is.
        state: &'static str,
        /// How far it must be.
        needed: &'static str,
    },
    /// It failed and everything is as before.
    #[error("restore {id} failed: {cause}. Nothing was changed: the volume is as it was before{}", .leftover.as_ref().map(|left| format!(". {left}")).unwrap_or_default())]
    Undone {
        /// The restore.
        id: Uuid,
        /// Why.
        cause: Box<RestoreError>,
        /// What was unpacked, where it could not be removed.
        leftover: Option<Leftover>,
    },
    /// It failed, and so did undoing it; the journal knows what is left to do.
    #[error(
        "restore {id} failed: {cause}. Undoing it failed too: {undo}. Remove the cause and run `predictor storage setup --root {root}`: it finishes or undoes the restore"
    )]
    NotUndone {
        /// The restore.
        id: Uuid,
        /// The volume.
        root: String,
        /// Why it failed.
        cause: Box<RestoreError>,
        /// Why it could not be undone.
        undo: Box<RestoreError>,
    },
    /// The target of an extraction has something in it.
    #[error("{path} is not an empty directory: give --to a new or empty one")]
    NotEmpty {
        /// The target.
        path: String,
    },
}

/// What a restore left that nothing needs any more and that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error(
    "{path} could not be removed: {reason}: nothing needs it and the volume works; every command that writes tries again, and `chown -R 1001:1001 {path}` helps where another user owns what is in it"
)]
pub struct Leftover {
    /// The folder.
    pub path: String,
    /// What the system said.
    pub reason: String,
}

impl Leftover {
    pub(super) fn new(path: &Path, source: &io::Error) -> Self {
        Self {
            path: shown(path),
            reason: source.to_string(),
        }
    }
}

/// The commands that end a restore in a stable state.
fn ways_on(id: Uuid, root: &str, state: &str) -> String {
    let command = format!("predictor storage restore --root {root}");
    if state == State::Switched.as_str() {
        format!(
            "`{command} --commit {id}` keeps the restored state, `{command} --undo {id}` brings the old one back"
        )
    } else {
        format!(
            "whoever prepared it can put the restored state in place; `{command} --undo {id}` gives it up, and the volume stays as it is"
        )
    }
}

pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Says what a failed call was about.
pub(super) fn used(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> RestoreError {
    move |source| RestoreError::Use {
        path: shown(path.as_ref()),
        source,
    }
}
