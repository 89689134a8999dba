//! Whether the restored state is what the backup has: kinds, sizes and times, and what the caller wants to know.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::FileType;

use super::error::RestoreError;
use super::plan::is_merged;
use super::tree::{self, Node, Parents};
use crate::archive::manifest::{Content, Entry};
use crate::snapshot::Snapshot;

/// File systems keep times as coarsely as this, in seconds.
const COARSEST_TIME: u64 = 2;

/// The caller's own check of a restored volume, such as golden predictions.
pub trait Checker {
    /// Looks at the volume below `root`; the reason is shown to people.
    fn check(&self, root: &Path) -> Result<(), String>;
}

/// Nothing more is checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCheck;

impl Checker for NoCheck {
    fn check(&self, _root: &Path) -> Result<(), String> {
        Ok(())
    }
}

/// Compares every entry below the top-level names that `is_restored` says with what lies below `base`.
pub(super) fn check_entries(
    snapshot: &dyn Snapshot,
    base: OwnedFd,
    is_restored: &dyn Fn(&[u8]) -> bool,
) -> Result<(), RestoreError> {
    let mut parents = Parents::below(base);
    let mut failure = None;
    let told = snapshot.entries(&mut |entry| {
        // In merged directories the live entry may have stayed, and the backup's have got another name.
        if !is_restored(entry.path.top_level()) || is_merged(&entry.path) {
            return Ok(());
        }
        let found = parents
            .of(&entry.path)
            .and_then(|parent| tree::look(parent, entry.path.name()));
        let reason = match found {
            Ok(found) => difference(entry, found.as_ref()),
            Err(error) => Some(error.to_string()),
        };
        match reason {
            None => Ok(()),
            Some(reason) => {
                failure = Some(RestoreError::Check {
                    path: entry.path.to_string(),
                    reason,
                });
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    });
    match failure {
        Some(failure) => Err(failure),
        None => Ok(told?),
    }
}

fn difference(entry: &Entry, found: Option<&Node>) -> Option<String> {
    let Some(found) = found else {
        return Some("it is missing".to_owned());
    };
    let kind = match entry.content {
        Content::File { .. } => FileType::RegularFile,
        Content::Directory { .. } => FileType::Directory,
        Content::Symlink { .. } => FileType::Symlink,
        Content::Deleted => return None,
    };
    if found.kind != kind {
        return Some("it is of another kind".to_owned());
    }
    let Content::File {
        size, attributes, ..
    } = &entry.content
    else {
        return None;
    };
    if found.size != *size {
        return Some(format!("it has {} bytes, not {size}", found.size));
    }
    let apart = found.mtime.seconds.abs_diff(attributes.mtime.seconds);
    (apart > COARSEST_TIME).then(|| "it has another time".to_owned())
}
