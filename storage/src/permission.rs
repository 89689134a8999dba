//! Owners and modes: 1001:1001, directories and scripts 755, files 644.
//!
//! In comes a volume, out comes a count of what was repaired and what could not be.
//! The mount point itself is left alone, symbolic links are not followed, and group
//! bits that kubelet adds for an `fsGroup` are told, not taken away.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use serde::Serialize;

use crate::archive::category::RESTORE_PREFIX;
use crate::archive::path::RelativePath;
use crate::atomic::{DIRECTORY_MODE, FILE_MODE};
use crate::descriptor::{self, Facts};
use crate::layout::Layout;
use crate::walk::open_beneath;

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
///
/// Other file systems that are mounted in it, and what a restore keeps beside the data, are left alone.
pub fn repair(layout: &Layout) -> io::Result<Report> {
    let root = descriptor::open_root(layout.root())?;
    let mut repair = Repair {
        layout,
        device: descriptor::facts_of(&root)?.device,
        user: rustix::process::geteuid().as_raw(),
        report: Report::default(),
    };
    let mut pending = vec![None];
    let mut names = Vec::new();
    while let Some(directory) = pending.pop() {
        let path = directory.as_ref();
        let opened = match path {
            None => root.try_clone(),
            Some(path) => open_beneath(root.as_fd(), path, OFlags::DIRECTORY),
        };
        let listed = opened.and_then(|opened| {
            names.clear();
            descriptor::each_name(&opened, &mut Vec::new(), |name, _| {
                names.push(name.to_owned());
                Ok(())
            })?;
            Ok(opened)
        });
        let opened = match (listed, path) {
            (Ok(opened), _) => opened,
            // It may have gone meanwhile, or belong to someone else; the others are looked at all the same.
            (Err(error), Some(path)) => {
                repair.fail(path, &error);
                continue;
            }
            (Err(error), None) => return Err(error),
        };
        for name in &names {
            let path = match path {
                Some(parent) => parent.child(name.to_bytes()),
                None => RelativePath::new(name.to_bytes()),
            };
            // A path that is too long can't be reached by anything else either.
            if let Ok(path) = path
                && repair.entry(&opened, &path)
            {
                pending.push(Some(path));
            }
        }
    }
    Ok(repair.report)
}

struct Repair<'a> {
    layout: &'a Layout,
    device: (u32, u32),
    user: u32,
    report: Report,
}

impl Repair<'_> {
    /// Repairs an entry of an open directory; tells whether it is a directory to be looked into.
    fn entry(&mut self, directory: &OwnedFd, path: &RelativePath) -> bool {
        let name = path.name();
        let is_left_alone = name == b"lost+found" || name.starts_with(RESTORE_PREFIX.as_bytes());
        if path.parent().is_none() && is_left_alone {
            return false;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // What is judged is what is changed, whatever happens to the name meanwhile.
        let found = rustix::fs::openat(directory, name, flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|opened| Ok((descriptor::facts_of(&opened)?, opened)));
        let (facts, opened) = match found {
            Ok(found) => found,
            Err(error) => {
                self.fail(path, &error);
                return false;
            }
        };
        if facts.device != self.device {
            return false;
        }
        self.report.checked += 1;
        if let Err(error) = self.one(&opened, path, &facts) {
            self.fail(path, &error);
        }
        facts.kind == FileType::Directory
    }

    fn one(&mut self, opened: &OwnedFd, path: &RelativePath, found: &Facts) -> io::Result<()> {
        let mut wrong = Vec::new();
        let is_root = self.user == 0;
        let is_ours = found.user == OWNER && found.group == OWNER;
        if is_root && !is_ours {
            let (user, group) = (Uid::from_raw(OWNER), Gid::from_raw(OWNER));
            rustix::fs::chownat(opened, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
            wrong.push(format!("owner {}:{}", found.user, found.group));
        } else if !is_root && found.user != self.user {
            self.report.foreign += 1;
            return Ok(());
        }
        if found.kind != FileType::Symlink {
            let is_script = path.name().ends_with(b".sh");
            let wanted = if found.kind == FileType::Directory || is_script {
                DIRECTORY_MODE
            } else {
                FILE_MODE
            };
            match judge(found.mode, wanted) {
                Verdict::Right => {}
                Verdict::GroupBits => self.report.group_bits += 1,
                Verdict::Change(mode) => {
                    // The kernel resolves this name to the very inode that was opened.
                    let exact = format!("/proc/self/fd/{}", opened.as_raw_fd());
                    rustix::fs::chmod(exact, Mode::from_raw_mode(mode))?;
                    wrong.push(format!("mode {:o}", found.mode));
                }
            }
        }
        if !wrong.is_empty() {
            self.report.repaired += 1;
            if self.report.changed.len() < MAX_NAMED {
                let (path, wrong) = (self.shown(path), wrong.join(", "));
                self.report.changed.push(format!("{path} had {wrong}"));
            }
        }
        Ok(())
    }

    fn fail(&mut self, path: &RelativePath, error: &io::Error) {
        // Caches and logs come and go while the service runs.
        if error.kind() != io::ErrorKind::NotFound && self.report.failed.len() < MAX_NAMED {
            self.report
                .failed
                .push(format!("{}: {error}", self.shown(path)));
        }
    }

    fn shown(&self, path: &RelativePath) -> String {
        format!("{}/{path}", self.layout.root().display())
    }
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
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

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
        let kept = folder.path().join(".restore-1/old");
        fs::create_dir_all(&kept).unwrap();
        fs::set_permissions(&kept, Permissions::from_mode(0o700)).unwrap();
        let report = repair(&Layout::new(folder.path())).unwrap();
        assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o700);
        assert_eq!(report.checked, 3);
        assert_eq!(report.failed, Vec::<String>::new());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&logs), mode(&logs.join("api.log"))), (0o755, 0o644));
        assert_eq!(outside.as_file().metadata().unwrap().mode(), before);
    }
}
