//! Unpacking a backup into a directory of its own, beside no volume.
//!
//! In come a snapshot and a new or empty directory; out comes that directory, whole or not at all.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, FlockOperation, Mode, StatxAttributes, StatxFlags, flock, mkdirat,
};
use rustix::io::Errno;
use uuid::Uuid;

use super::error::{RestoreError, shown, used};
use super::gate::{Gate, Open};
use super::plan::{self, Plan, is_chosen};
use super::{owner, preflight, removal, tree};
use crate::archive::category::Category;
use crate::archive::manifest::Content;
use crate::archive::path::RelativePath;
use crate::atomic::{DIRECTORY_MODE, UNFINISHED_DIRECTORY};
use crate::descriptor;
use crate::progress::Progress;
use crate::snapshot::{Extracted, Snapshot};
use crate::space;

/// How the folder that is unpacked into begins; it ends as every unfinished folder, so that cleanup knows it, too.
const PREFIX: &str = ".unpack-";
/// What the file system makes in a new one; no backup has it.
const LOST_AND_FOUND: &[u8] = b"lost+found";
/// Names that are tried for that folder.
const MAX_TRIES: usize = 10;

/// Where the backup is unpacked before it appears at its place.
enum Site {
    /// Beside the directory, which it then replaces in one step.
    Beside(PathBuf),
    /// In the directory, which can't be replaced: a mount point, or where someone stands. Its names then appear one
    /// after another.
    Inside(PathBuf),
}

impl Site {
    fn of(directory: &Path) -> Result<Self, RestoreError> {
        let is_there = directory.is_dir();
        if is_there && is_fixed(directory).map_err(used(directory))? {
            return Ok(Self::Inside(directory.to_owned()));
        }
        // Also of a link to a directory, and of `a/..`.
        let whole = if is_there {
            directory.canonicalize().map_err(used(directory))?
        } else {
            std::path::absolute(directory).map_err(used(directory))?
        };
        Ok(match whole.parent() {
            Some(parent) => Self::Beside(parent.to_owned()),
            None => Self::Inside(whole),
        })
    }

    fn folder(&self) -> &Path {
        match self {
            Self::Beside(folder) | Self::Inside(folder) => folder,
        }
    }
}

/// What [`to_directory`] would unpack, checked as far as that is possible without writing anything.
pub fn plan_directory(
    snapshot: &dyn Snapshot,
    directory: &Path,
    only: Option<&[Category]>,
) -> Result<Plan, RestoreError> {
    let chosen = plan::choose(snapshot.include(), only)?;
    let site = Site::of(directory)?;
    check_empty(directory)?;
    let mut needed = Plan::default();
    snapshot.entries(&mut |entry| {
        if is_chosen(&chosen, entry.path.top_level()) {
            needed.reserve(entry);
            if !matches!(entry.content, Content::Directory { .. }) {
                needed.unpacked.files += 1;
                needed.unpacked.bytes += entry.content.size();
            }
        }
        Ok(())
    })?;
    // Directories on the way may not be there yet.
    let there = site.folder().ancestors().find(|folder| folder.is_dir());
    let there = there.unwrap_or(site.folder());
    let free = space::measure(there).map_err(used(there))?;
    preflight::check_space(&shown(there), &needed, &free)?;
    Ok(needed)
}

/// Unpacks into `directory`, which must be empty or not be there.
///
/// On failure nothing is left. What a killed run left beside `directory` or in it is removed by the next one there; on a
/// volume also by cleanup.
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
    let planned = plan_directory(snapshot, directory, only)?;
    let chosen = plan::choose(snapshot.include(), only)?;
    let site = Site::of(directory)?;
    let folder = site.folder();
    std::fs::create_dir_all(folder).map_err(used(folder))?;
    let parent = descriptor::open_root(folder).map_err(used(folder))?;
    remove_abandoned(parent.as_fd());
    if let Ok(own) = descriptor::open_root(directory) {
        remove_abandoned(own.as_fd());
    }
    progress.expect(planned.unpacked.files, planned.unpacked.bytes);

    let pass = |step| gate.pass(step).map_err(used(folder));
    pass("make the folder")?;
    let (name, partial) = make_partial(parent.as_fd()).map_err(used(folder))?;
    let path = folder.join(&name);
    let unpacked = pass("unpack the backup")
        .and_then(|()| {
            let wanted = |path: &RelativePath| is_chosen(&chosen, path.top_level());
            Ok(snapshot.extract(&wanted, &path, progress)?)
        })
        .and_then(|extracted| {
            let opened = descriptor::open_root(&path).map_err(used(&path))?;
            owner::repair(opened, gate).map_err(used(&path))?;
            pass("name the folder")?;
            match &site {
                // An empty directory gives way to another one.
                Site::Beside(_) => std::fs::rename(&path, whole(directory))
                    .map_err(|error| occupied(directory, error))?,
                Site::Inside(_) => {
                    move_up(partial.as_fd(), parent.as_fd())
                        .map_err(|error| occupied(directory, error))?;
                    removal::remove(parent.as_fd(), name.as_bytes(), &Open).map_err(used(&path))?;
                }
            }
            descriptor::sync(&parent).map_err(used(folder))?;
            Ok(extracted)
        });
    if unpacked.is_err() {
        // The first error is what the caller has to know.
        let _ = removal::remove(parent.as_fd(), name.as_bytes(), &Open);
    }
    unpacked
}

/// The directory itself where a link leads to it.
fn whole(directory: &Path) -> PathBuf {
    directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned())
}

/// Whether another directory can't take its place, or may not: a mount point, the working directory, or one in a
/// directory that refuses to be changed.
fn is_fixed(directory: &Path) -> io::Result<bool> {
    let opened = descriptor::open_root(directory)?;
    let own = tree::look_at(opened.as_fd())?;
    let identity = |node: &tree::Node| (node.device, node.inode);
    let is_here = descriptor::open_root(Path::new("."))
        .and_then(|here| tree::look_at(here.as_fd()))
        .is_ok_and(|here| identity(&here) == identity(&own));
    let flags = AtFlags::EMPTY_PATH;
    let found = rustix::fs::statx(&opened, "", flags, StatxFlags::BASIC_STATS)?;
    let above = tree::look(opened.as_fd(), b"..")?;
    let is_mount = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        || above.is_none_or(|above| above.device != own.device);
    let rights = Access::WRITE_OK | Access::EXEC_OK;
    let is_locked = rustix::fs::accessat(&opened, "..", rights, AtFlags::EACCESS).is_err();
    Ok(is_here || is_mount || is_locked)
}

/// A new folder with a name of its own, and the lock on it that its maker holds: without one it is abandoned.
fn make_partial(parent: BorrowedFd<'_>) -> io::Result<(String, OwnedFd)> {
    for _ in 0..MAX_TRIES {
        let name = format!("{PREFIX}{}{UNFINISHED_DIRECTORY}", Uuid::new_v4());
        mkdirat(parent, name.as_str(), Mode::from_raw_mode(0o700))?;
        // Between these calls another run may take it for abandoned; then a new one is made.
        let opened = match tree::open_child(parent, name.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        // Where there are no locks, nobody can find it abandoned either.
        let locked = flock(&opened, FlockOperation::NonBlockingLockExclusive);
        if locked == Err(Errno::WOULDBLOCK) {
            continue;
        }
        let own = tree::look_at(opened.as_fd())?.inode;
        if tree::look(parent, name.as_bytes())?.is_some_and(|found| found.inode == own) {
            rustix::fs::fchmod(&opened, Mode::from_raw_mode(DIRECTORY_MODE))?;
            return Ok((name, opened));
        }
    }
    Err(Errno::EXIST.into())
}

fn is_partial(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| {
        name.strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_suffix(UNFINISHED_DIRECTORY))
            .is_some_and(|id| Uuid::try_parse(id).is_ok())
    })
}

/// Removes what killed runs left; what can't be removed is no reason not to unpack.
fn remove_abandoned(parent: BorrowedFd<'_>) {
    let names = tree::names(parent).unwrap_or_default();
    for name in names.iter().filter(|name| is_partial(name)) {
        if let Ok(opened) = tree::open_child(parent, name)
            && flock(&opened, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = removal::remove(parent, name, &Open);
        }
    }
}

/// Moves all names from one directory into another, or none.
fn move_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let names = tree::names(from)?;
    for (index, name) in names.iter().enumerate() {
        if let Err(error) = tree::rename(from, name, to, name) {
            for moved in &names[..index] {
                tree::rename(to, moved, from, moved)?;
            }
            return Err(error);
        }
    }
    Ok(())
}

fn check_empty(directory: &Path) -> Result<(), RestoreError> {
    let opened = match descriptor::open_root(directory) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(occupied(directory, error)),
    };
    let names = tree::names(opened.as_fd()).map_err(used(directory))?;
    let counts = |name: &[u8]| name != LOST_AND_FOUND && !is_partial(name);
    if names.iter().any(|name| counts(name)) {
        return Err(occupied(directory, Errno::NOTEMPTY.into()));
    }
    Ok(())
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
