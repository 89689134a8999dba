//! Cleanup: old cache files, logs and predictions, what killed writers left, and directories that are empty.
//!
//! In come the volume, rules and the time; out comes what was removed. Everything else stays: models, scalers,
//! configuration, history, outcomes and backups are never looked at but for our own temp files. It runs beside the
//! service: a file that is written again while it is looked at survives.

mod remove;
mod rule;
mod scored;
mod walk;

use std::ffi::CStr;
use std::io;
use std::time::{Duration, SystemTime};

use rustix::fd::OwnedFd;
use serde::Serialize;

use crate::layout::Layout;
use crate::lock::{LockError, Mode, VolumeLock};
use crate::progress::Progress;
use crate::restore::{self, Access, AllowSwitched, JournalError};

/// How long cleanup waits for a restore.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// Our temp files and empty directories are left alone for so long.
pub const SETTLED: Duration = Duration::from_hours(1);
/// A prediction whose real price isn't known yet stays for so long.
pub const UNSCORED: Duration = Duration::from_hours(24 * 30);
/// At most so many warnings are named.
const MAX_WARNINGS: usize = 20;

/// How long things stay after their last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Files below `ml_cache` and `stock_data/cache`.
    pub cache: Duration,
    /// Log files that nobody writes any more.
    pub logs: Duration,
    /// Files below `stock_data/predictions/daily`.
    pub predictions: Duration,
}

impl Default for Retention {
    /// The guide's: 24 hours, 30 days, 7 days.
    fn default() -> Self {
        Self {
            cache: Duration::from_hours(24),
            logs: Duration::from_hours(24 * 30),
            predictions: Duration::from_hours(24 * 7),
        }
    }
}

/// What cleanup is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// How long things stay.
    pub retention: Retention,
    /// Only count what would go.
    pub dry_run: bool,
    /// What counts as now.
    pub now: SystemTime,
}

/// What went, or would go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing was removed, only counted.
    pub dry_run: bool,
    /// Whether another cleanup is at work, so that this one did nothing.
    pub another_at_work: bool,
    /// Cache files.
    pub cache: Removed,
    /// Log files.
    pub logs: Removed,
    /// Prediction files.
    pub predictions: Removed,
    /// Files that killed writers left.
    pub temporary: Removed,
    /// Empty directories.
    pub directories: u64,
    /// Old predictions that stay because their real price isn't known yet.
    pub unscored: u64,
    /// How much could not be cleaned up.
    pub problems: u64,
    /// Some of it, with the reason.
    pub warnings: Vec<String>,
}

/// Files of one sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// How many.
    pub files: u64,
    /// Their bytes; of a file with further names, none.
    pub bytes: u64,
}

impl Report {
    /// Everything together, without directories.
    pub fn total(&self) -> Removed {
        let all = [self.cache, self.logs, self.predictions, self.temporary];
        all.iter().fold(Removed::default(), |sum, one| Removed {
            files: sum.files + one.files,
            bytes: sum.bytes + one.bytes,
        })
    }

    fn warn(&mut self, path: &str, error: &io::Error) {
        self.problems += 1;
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(format!("{path}: {error}"));
        }
    }
}

/// Why there was no cleanup.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The volume is not there.
    #[error("{path} can't be opened: {source}: name the volume's mount point with --root")]
    Open {
        /// The root.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no state directory, so this is no volume.
    #[error(
        "{root} is no volume of this program yet, so nothing was removed: run `predictor storage setup --root {root}` first"
    )]
    NoVolume {
        /// The root.
        root: String,
    },
    /// A restore is at work or not done.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Locks don't work.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Removes a directory of ours with everything in it.
pub(crate) fn remove_tree(parent: &OwnedFd, name: &CStr) -> io::Result<u64> {
    remove::remove_tree(parent, name, walk::MAX_DEPTH)
}

/// Removes what is old. Whatever can't be removed is told in the report and stops nothing.
pub fn run(
    layout: &Layout,
    request: &Request,
    progress: &dyn Progress,
) -> Result<Report, CleanupError> {
    let root =
        crate::descriptor::open_root(layout.root()).map_err(|source| CleanupError::Open {
            path: layout.root().display().to_string(),
            source,
        })?;
    let mut report = Report {
        dry_run: request.dry_run,
        ..Report::default()
    };
    // The marker tells a volume from any other folder in which files are older than a day.
    if !layout.marker().is_file() {
        return Err(CleanupError::NoVolume {
            root: layout.root().display().to_string(),
        });
    }
    // What a restore left between two states must be settled before anything is judged by its age.
    let access = Access::of(layout);
    let (_volume, _) = restore::enter(layout, access, AllowSwitched::No, LOCK_PATIENCE)?;
    let own = layout.state().join("cleanup.lock");
    let Some(_own) = VolumeLock::try_take(&own, Mode::Exclusive)? else {
        report.another_at_work = true;
        return Ok(report);
    };
    progress.step("Cleaning up old files");
    walk::Walk::new(&root, request, progress, &mut report).run();
    Ok(report)
}
