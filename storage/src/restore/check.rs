//! Whether the restored state is what the backup has: kinds, sizes and times, and what the caller wants to know.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::FileType;

use super::error::RestoreError;
use super::plan::is_merged;
use super::tree::{self, Node, Parents};
use crate::archive::manifest::{Content, Entry, Time};
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
///
/// `kept_time` says what the file system makes of a file's time: none keeps all of them.
pub(super) fn check_entries(
    snapshot: &dyn Snapshot,
    base: OwnedFd,
    is_restored: &dyn Fn(&[u8]) -> bool,
    kept_time: &dyn Fn(Time) -> io::Result<Time>,
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
            Ok(found) => difference(entry, found.as_ref(), kept_time),
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

fn difference(
    entry: &Entry,
    found: Option<&Node>,
    kept_time: &dyn Fn(Time) -> io::Result<Time>,
) -> Option<String> {
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
    let is_near = |time: Time| found.mtime.seconds.abs_diff(time.seconds) <= COARSEST_TIME;
    if is_near(attributes.mtime) || kept_time(attributes.mtime).is_ok_and(is_near) {
        return None;
    }
    Some("it has another time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::digest::Digest;
    use crate::archive::manifest::{Attributes, Place};
    use crate::archive::path::RelativePath;

    #[test]
    fn a_time_that_the_file_system_cannot_keep_is_no_difference() {
        let time = |seconds| Time {
            seconds,
            nanoseconds: 0,
        };
        let entry = |seconds| Entry {
            path: RelativePath::new("a").unwrap(),
            content: Content::File {
                attributes: Attributes {
                    mode: 0o644,
                    mtime: time(seconds),
                    ctime: Time::default(),
                    inode: 1,
                },
                size: 0,
                allocated: 0,
                sha256: Digest::of(b""),
                place: Place { member: 0, skip: 0 },
            },
        };
        let file = tempfile::tempfile().unwrap();
        let node = Node {
            mtime: time(i64::from(i32::MAX)),
            ..tree::look_at(std::os::fd::AsFd::as_fd(&file)).unwrap()
        };
        let until_2038 = |time: Time| {
            Ok(Time {
                seconds: time.seconds.min(i64::from(i32::MAX)),
                ..time
            })
        };
        let differs = |seconds| difference(&entry(seconds), Some(&node), &until_2038).is_some();
        let last = i64::from(i32::MAX);
        assert!(!differs(last) && !differs(last + 2) && !differs(1 << 40));
        assert!(differs(last - 100), "what can be kept must be kept");
        let refused = |_| Err(io::ErrorKind::InvalidInput.into());
        assert!(difference(&entry(1 << 40), Some(&node), &refused).is_some());
    }
}
