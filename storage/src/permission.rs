//! Owners and modes: 1001:1001, directories and scripts 755, files 644.
//!
//! In comes a volume, out comes a count of what was repaired and what could not be.
//! The mount point itself is left alone, symbolic links are not followed, and group
//! bits that kubelet adds for an `fsGroup` are told, not taken away.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use serde::Serialize;

use crate::atomic::{DIRECTORY_MODE, FILE_MODE};
use crate::layout::Layout;

/// User and group that the service runs as.
pub const OWNER: u32 = 1001;
/// Bits that kubelet adds to directories: group rwx and setgid.
const GROUP_BITS: u32 = 0o2070;
/// At most so many paths are named in a report.
const MAX_NAMED: usize = 10;

/// What the walk over the volume did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Files and directories that were looked at.
    pub checked: u64,
    /// How many got the right mode or owner.
    pub repaired: u64,
    /// How many keep group bits that kubelet added.
    pub group_bits: u64,
    /// How many belong to someone else, which only root could change.
    pub foreign: u64,
    /// Some of what was repaired: the path and what was wrong.
    pub changed: Vec<String>,
    /// Some of what could not be repaired, with the reason.
    pub failed: Vec<String>,
}

/// What one entry needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    GroupBits,
    Change(u32),
}

/// Walks over the volume and repairs what this user may repair.
pub fn repair(layout: &Layout) -> io::Result<Report> {
    let mut report = Report::default();
    let is_root = rustix::process::geteuid().is_root();
    let mut pending = vec![layout.root().to_owned()];
    while let Some(directory) = pending.pop() {
        let listed = match fs::read_dir(&directory) {
            Ok(listed) => listed,
            // It may have gone meanwhile, or belong to someone else; the others are looked at all the same.
            Err(error) if directory != layout.root() => {
                if error.kind() != io::ErrorKind::NotFound && report.failed.len() < MAX_NAMED {
                    report
                        .failed
                        .push(format!("{}: {error}", directory.display()));
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in listed {
            let path = entry?.path();
            let lost = path.file_name().is_some_and(|name| name == "lost+found");
            if lost && directory == layout.root() {
                continue;
            }
            let found = match path.symlink_metadata() {
                Ok(found) => found,
                // Caches and logs come and go while the service runs.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            report.checked += 1;
            if let Err(error) = repair_one(&path, &found, is_root, &mut report)
                && report.failed.len() < MAX_NAMED
            {
                report.failed.push(format!("{}: {error}", path.display()));
            }
            if found.is_dir() {
                pending.push(path);
            }
        }
    }
    Ok(report)
}

fn repair_one(path: &Path, found: &Metadata, is_root: bool, report: &mut Report) -> io::Result<()> {
    let mut wrong = Vec::new();
    let is_ours = found.uid() == OWNER && found.gid() == OWNER;
    if is_root && !is_ours {
        lchown(path, Some(OWNER), Some(OWNER))?;
        wrong.push(format!("owner {}:{}", found.uid(), found.gid()));
    } else if !is_root && found.uid() != rustix::process::geteuid().as_raw() {
        report.foreign += 1;
        return Ok(());
    }
    if !found.is_symlink() {
        let is_script = path.extension().is_some_and(|extension| extension == "sh");
        let wanted = if found.is_dir() || is_script {
            DIRECTORY_MODE
        } else {
            FILE_MODE
        };
        match judge(found.mode() & 0o7777, wanted) {
            Verdict::Right => {}
            Verdict::GroupBits => report.group_bits += 1,
            Verdict::Change(mode) => {
                fs::set_permissions(path, Permissions::from_mode(mode))?;
                wrong.push(format!("mode {:o}", found.mode() & 0o7777));
            }
        }
    }
    if !wrong.is_empty() {
        report.repaired += 1;
        if report.changed.len() < MAX_NAMED {
            let wrong = wrong.join(", ");
            report
                .changed
                .push(format!("{} had {wrong}", path.display()));
        }
    }
    Ok(())
}

/// Compares a mode with the wanted one.
fn judge(mode: u32, wanted: u32) -> Verdict {
    if mode == wanted {
        Verdict::Right
    } else if mode & wanted == wanted && mode & !wanted & !GROUP_BITS == 0 {
        Verdict::GroupBits
    } else {
        Verdict::Change(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_group_bits_are_told_and_everything_else_is_repaired() {
        let table = [
            (0o755, 0o755, Verdict::Right),
            (0o2775, 0o755, Verdict::GroupBits),
            (0o664, 0o644, Verdict::GroupBits),
            (0o777, 0o755, Verdict::Change(0o755)),
            (0o700, 0o755, Verdict::Change(0o755)),
            (0o600, 0o644, Verdict::Change(0o644)),
            (0o4755, 0o755, Verdict::Change(0o755)),
        ];
        for (mode, wanted, expected) in table {
            assert_eq!(judge(mode, wanted), expected, "{mode:o} for {wanted:o}");
        }
    }

    #[test]
    fn modes_are_repaired_and_links_are_not_followed() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let before = outside.as_file().metadata().unwrap().mode();
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).unwrap();
        fs::set_permissions(&logs, Permissions::from_mode(0o777)).unwrap();
        fs::write(logs.join("api.log"), "x").unwrap();
        fs::set_permissions(logs.join("api.log"), Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(outside.path(), logs.join("link")).unwrap();
        let report = repair(&Layout::new(folder.path())).unwrap();
        assert_eq!(report.checked, 3);
        assert_eq!(report.failed, Vec::<String>::new());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&logs), mode(&logs.join("api.log"))), (0o755, 0o644));
        assert_eq!(outside.as_file().metadata().unwrap().mode(), before);
    }
}
