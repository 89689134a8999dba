//! Unpacking a backup into a directory of its own, beside no volume.
//!
//! In come a snapshot and a new or empty directory; out comes that directory, whole or not at all.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::error::{RestoreError, shown, used};
use super::gate::{Gate, Open};
use super::plan::{self, Plan, is_chosen};
use super::{owner, preflight, tree};
use crate::archive::category::{Category, RESTORE_PREFIX};
use crate::archive::manifest::Content;
use crate::atomic;
use crate::descriptor;
use crate::progress::Progress;
use crate::snapshot::{Extracted, Snapshot};
use crate::space;

/// Unpacks into `directory`, which must be empty or not be there.
///
/// On failure nothing is left. After a kill a folder `.restore-<id>` may be left beside it.
pub fn to_directory(
    snapshot: &dyn Snapshot,
    directory: &Path,
    only: Option<&[Category]>,
    progress: &dyn Progress,
) -> Result<Extracted, RestoreError> {
    to_directory_gated(snapshot, directory, only, progress, &Open)
}

/// As [`to_directory`], with a gate before each change.
pub fn to_directory_gated(
    snapshot: &dyn Snapshot,
    directory: &Path,
    only: Option<&[Category]>,
    progress: &dyn Progress,
    gate: &dyn Gate,
) -> Result<Extracted, RestoreError> {
    let chosen = plan::choose(snapshot.include(), only)?;
    check_empty(directory)?;
    let parent = parent_of(directory)?;
    let mut needed = Plan::default();
    snapshot.entries(&mut |entry| {
        if is_chosen(&chosen, entry.path.top_level()) {
            needed.needed_bytes += entry.content.size().next_multiple_of(4096).max(4096);
            needed.needed_inodes += 1;
            if !matches!(entry.content, Content::Directory { .. }) {
                needed.unpacked.files += 1;
                needed.unpacked.bytes += entry.content.size();
            }
        }
        Ok(())
    })?;
    let free = space::measure(&parent).map_err(used(&parent))?;
    preflight::check_space(&shown(&parent), &needed, &free)?;
    progress.expect(needed.unpacked.files, needed.unpacked.bytes);

    let partial = parent.join(format!("{RESTORE_PREFIX}{}", Uuid::new_v4()));
    let pass = |step| gate.pass(step).map_err(used(&partial));
    let unpacked = pass("make the folder")
        .and_then(|()| atomic::create_directory(&partial).map_err(used(&partial)))
        .and_then(|()| pass("unpack the backup"))
        .and_then(|()| {
            let wanted =
                |path: &crate::archive::path::RelativePath| is_chosen(&chosen, path.top_level());
            Ok(snapshot.extract(&wanted, &partial, progress)?)
        })
        .and_then(|extracted| {
            let opened = descriptor::open_root(&partial).map_err(used(&partial))?;
            owner::repair(opened, gate).map_err(used(&partial))?;
            pass("name the folder")?;
            // An empty directory gives way to another one.
            fs::rename(&partial, directory).map_err(|error| occupied(directory, error))?;
            fs::File::open(&parent)
                .and_then(|parent| parent.sync_all())
                .map_err(used(&parent))?;
            Ok(extracted)
        });
    if unpacked.is_err()
        && let (Ok(opened), Some(name)) = (descriptor::open_root(&parent), partial.file_name())
    {
        // The first error is what the caller has to know.
        let _ = tree::remove(opened.as_fd(), name.as_encoded_bytes(), &Open);
    }
    unpacked
}

fn parent_of(directory: &Path) -> Result<PathBuf, RestoreError> {
    // Also of `.`, and where the directory is a mount point only its own file system will do.
    let parent = match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => directory,
    };
    fs::create_dir_all(parent).map_err(used(parent))?;
    parent.canonicalize().map_err(used(parent))
}

fn check_empty(directory: &Path) -> Result<(), RestoreError> {
    let not_empty = || RestoreError::NotEmpty {
        path: shown(directory),
    };
    match fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(not_empty()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(not_empty()),
        Err(error) => Err(used(directory)(error)),
    }
}

fn occupied(directory: &Path, error: io::Error) -> RestoreError {
    match error.kind() {
        io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::NotADirectory => RestoreError::NotEmpty {
            path: shown(directory),
        },
        _ => used(directory)(error),
    }
}
