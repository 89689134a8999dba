//! Preparing a volume: a plan made of small steps, each of which may be repeated.
//!
//! In come the root and what to install on a new volume; out comes the guide's tree
//! with a marker that says `ready`. A setup that was killed is continued by the next
//! one. On a volume with data nothing is installed and nothing is overwritten.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::atomic;
use crate::layout::{DIRECTORIES, Layout, STATE_DIRECTORY};
use crate::lock::{LockError, Mode, VolumeLock};
use crate::marker::{FORMAT, Marker, MarkerError, State};
use crate::restore::{self, Access, AllowSwitched, JournalError};
use crate::script;
use crate::space;
use crate::symbol::Symbol;

/// How long setup waits for another setup or a restore.
const LOCK_PATIENCE: Duration = Duration::from_mins(1);
/// Directory that a file system makes by itself.
const LOST_AND_FOUND: &str = "lost+found";

/// A file that is put on a new volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gift<'a> {
    /// Where it goes, relative to the root.
    pub path: &'a str,
    /// What is in it.
    pub bytes: &'a [u8],
}

/// What a setup is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// Symbols that get a folder for their history.
    pub symbols: Vec<Symbol>,
    /// The default model and the configuration files, in the order of writing.
    pub model: Vec<Gift<'a>>,
    /// Sample price history. It is there in any case, because the setup that this one continues may have wanted it.
    pub samples: Vec<Gift<'a>>,
    /// Whether a new volume gets the samples; on one that was begun the marker decides.
    pub wants_samples: bool,
}

/// What was found on the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The marker, where there is one.
    pub marker: Option<Marker>,
    /// Whether any file of a person lies there.
    pub has_data: bool,
}

/// One thing to do. Doing it twice is the same as doing it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Write the marker.
    WriteMarker(Marker),
    /// Make a directory, relative to the root.
    CreateDirectory(String),
    /// Write a file if there is none of this name.
    Install(Gift<'a>),
}

/// What a setup did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The volume's id.
    pub volume_id: Uuid,
    /// Whether the volume was empty before.
    pub new_volume: bool,
    /// Whether an earlier setup had been cut off.
    pub resumed: bool,
    /// Directories that were made.
    pub directories: Vec<String>,
    /// Files that were installed.
    pub files: Vec<String>,
    /// The guide's scripts that were written.
    pub scripts: Vec<String>,
    /// Scripts that could not be written, with the reason; a volume works without them.
    pub scripts_failed: Vec<String>,
}

impl Report {
    /// Of a volume on which nothing was done yet.
    pub(crate) const fn of(volume_id: Uuid) -> Self {
        Self {
            volume_id,
            new_volume: false,
            resumed: false,
            directories: Vec::new(),
            files: Vec::new(),
            scripts: Vec::new(),
            scripts_failed: Vec::new(),
        }
    }
}

/// Why a setup failed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The volume refuses writes.
    #[error(
        "{path} is not writable for user {uid}: give the volume to the service with `chown -R 1001:1001 {root}` (in Kubernetes: `fsGroup: 1001` in the pod's security context)"
    )]
    Denied {
        /// What could not be written.
        path: String,
        /// The mount point.
        root: String,
        /// Who tried.
        uid: u32,
    },
    /// Another file is where a directory should be.
    #[error("{path} is in the way: it must be a directory; move it elsewhere and run setup again")]
    InTheWay {
        /// The file.
        path: String,
    },
    /// The disk is full.
    #[error(
        "{path} can't be written, the volume is full: free space or grow it, then run setup again; it continues where it stopped"
    )]
    Full {
        /// What could not be written.
        path: String,
    },
    /// Anything else that the system says.
    #[error("{path}: {source}")]
    Use {
        /// What it was about.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The marker can't be used.
    #[error(transparent)]
    ReadMarker(#[from] MarkerError),
    /// Someone else works on the volume.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A restore waits on the volume or can't be finished.
    #[error(transparent)]
    Restore(#[from] JournalError),
}

/// Prepares the volume; afterwards its marker says `ready`.
pub fn run(layout: &Layout, request: &Request<'_>) -> Result<Report, SetupError> {
    let (_locks, found) = begin(layout)?;
    let is_ready = matches!(&found.marker, Some(marker) if marker.state == State::Ready);
    if !is_ready {
        remove_unfinished(layout, request);
    }
    let steps = plan(&found, request, Uuid::new_v4(), Timestamp::now());
    let known = found
        .marker
        .as_ref()
        .map_or_else(Uuid::nil, |marker| marker.id);
    let mut report = Report {
        new_volume: found.marker.is_none() && !found.has_data,
        resumed: matches!(&found.marker, Some(marker) if marker.state == State::Installing),
        ..Report::of(known)
    };
    for step in &steps {
        execute(layout, step, &mut report)?;
    }
    let scripts = script::install(layout);
    (report.scripts, report.scripts_failed) = (scripts.written, scripts.failed);
    Ok(report)
}

/// Tells who may not write to a volume that needs nothing more. A full one is no error: it can be served.
pub fn check_writable(layout: &Layout) -> Result<(), SetupError> {
    match space::probe(layout) {
        Ok(()) => Ok(()),
        Err(source) => match explain(layout, &layout.state(), source) {
            denied @ SetupError::Denied { .. } => Err(denied),
            _ => Ok(()),
        },
    }
}

/// Makes the root and the state directory, takes the locks and looks around.
fn begin(layout: &Layout) -> Result<([VolumeLock; 2], Found), SetupError> {
    let root = layout.root();
    if !root.exists() {
        fs::create_dir_all(root).map_err(|source| explain(layout, root, source))?;
    }
    let state = layout.state();
    atomic::create_directory(&state).map_err(|source| explain(layout, &state, source))?;
    // Setups exclude each other; the shared lock keeps a restore away.
    let unlocked = |error| match error {
        LockError::Use { source, .. } => explain(layout, &state, source),
        taken @ LockError::Taken { .. } => taken.into(),
    };
    let own =
        VolumeLock::take(&layout.setup_lock(), Mode::Exclusive, LOCK_PATIENCE).map_err(unlocked)?;
    // A restore that was cut off is finished or undone before the tree is looked at.
    let (volume, _) = restore::enter(layout, Access::Write, AllowSwitched::Yes, LOCK_PATIENCE)
        .map_err(|error| match error {
            JournalError::Lock(error) => unlocked(error),
            error => error.into(),
        })?;
    let locks = [own, volume];
    let found = Found {
        marker: Marker::read(layout)?,
        has_data: has_data(root).map_err(|source| explain(layout, root, source))?,
    };
    Ok((locks, found))
}

/// Decides what to do; nothing is touched.
pub fn plan<'a>(found: &Found, request: &Request<'a>, id: Uuid, now: Timestamp) -> Vec<Step<'a>> {
    let marker = found.marker.clone().unwrap_or(Marker {
        format: FORMAT,
        id,
        created_at: now,
        state: State::Installing,
        install_model: !found.has_data,
        install_samples: !found.has_data && request.wants_samples,
        fill: None,
    });
    let mut steps = Vec::new();
    if found.marker.is_none() {
        steps.push(Step::WriteMarker(marker.clone()));
    }
    for directory in DIRECTORIES {
        steps.push(Step::CreateDirectory(directory.to_owned()));
    }
    for symbol in &request.symbols {
        steps.push(Step::CreateDirectory(format!(
            "stock_data/historical/{symbol}"
        )));
    }
    if marker.state == State::Installing {
        let mut gifts: Vec<&Gift<'a>> = Vec::new();
        if marker.install_model {
            gifts.extend(&request.model);
        }
        if marker.install_samples {
            gifts.extend(&request.samples);
        }
        for gift in gifts {
            for parent in parents_of(gift.path) {
                let step = Step::CreateDirectory(parent);
                if !steps.contains(&step) {
                    steps.push(step);
                }
            }
            steps.push(Step::Install(*gift));
        }
        steps.push(Step::WriteMarker(Marker {
            state: State::Ready,
            ..marker
        }));
    }
    steps
}

/// Does one step and notes in the report what changed.
pub fn execute(layout: &Layout, step: &Step<'_>, report: &mut Report) -> Result<(), SetupError> {
    match step {
        Step::WriteMarker(marker) => {
            report.volume_id = marker.id;
            marker
                .write(layout)
                .map_err(|source| explain(layout, &layout.marker(), source))
        }
        Step::CreateDirectory(relative) => {
            let path = layout.join(relative);
            if path.is_dir() {
                return Ok(());
            }
            atomic::create_directory(&path).map_err(|source| explain(layout, &path, source))?;
            report.directories.push(relative.clone());
            Ok(())
        }
        Step::Install(gift) => {
            let path = layout.join(gift.path);
            // Whatever is there is whole (files appear by rename) or a person's: both stay.
            if path.symlink_metadata().is_ok() {
                return Ok(());
            }
            atomic::write_durable(&path, gift.bytes)
                .map_err(|source| explain(layout, &path, source))?;
            report.files.push(gift.path.to_owned());
            Ok(())
        }
    }
}

/// Removes what killed setups left half-written.
///
/// Only for a volume that isn't ready, under the setup's lock: nobody else writes there.
/// What can't be removed does no harm and stays.
fn remove_unfinished(layout: &Layout, request: &Request<'_>) {
    let gifts = request.model.iter().chain(&request.samples);
    let mut targets: Vec<_> = gifts.map(|gift| layout.join(gift.path)).collect();
    targets.push(layout.marker());
    for target in targets {
        let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else {
            continue;
        };
        let ours = format!(".{}.", name.to_string_lossy());
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let found = entry.file_name();
            let found = found.to_string_lossy();
            if found.starts_with(&ours) && atomic::is_unfinished(&found) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The directories above a relative path, outermost first.
fn parents_of(path: &str) -> Vec<String> {
    path.match_indices('/')
        .map(|(index, _)| path[..index].to_owned())
        .collect()
}

/// Whether anything but directories lies below the root; ours and `lost+found` don't count.
pub(crate) fn has_data(root: &Path) -> io::Result<bool> {
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if directory == root && (name == STATE_DIRECTORY || name == LOST_AND_FOUND) {
                continue;
            }
            if !entry.file_type()?.is_dir() {
                return Ok(true);
            }
            pending.push(entry.path());
        }
    }
    Ok(false)
}

/// Turns what the system says into what a person can do about it.
pub(crate) fn explain(layout: &Layout, path: &Path, source: io::Error) -> SetupError {
    let shown = path.display().to_string();
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => SetupError::Denied {
            path: shown,
            root: layout.root().display().to_string(),
            uid: rustix::process::geteuid().as_raw(),
        },
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            SetupError::InTheWay { path: shown }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            SetupError::Full { path: shown }
        }
        _ => SetupError::Use {
            path: shown,
            source,
        },
    }
}

#[cfg(test)]
mod tests;
