//! Directories by their descriptors: opening, listing and looking without ever following a symbolic link.
//!
//! In come an open directory and names, out come descriptors and facts. What another process renames or replaces
//! meanwhile can't lead these calls out of the tree.

use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags};
use rustix::path::Arg;

use crate::archive::path::RelativePath;

/// Bytes of a buffer for directory entries; at least one of the longest name fits.
pub const LIST_BUFFER: usize = 32 * 1024;

/// What is known of one file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// File, directory, link or something else.
    pub kind: FileType,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Bytes, as a reader sees them.
    pub size: u64,
    /// Seconds of the last change of the content since 1970.
    pub modified_second: i64,
    /// And nanoseconds.
    pub modified_nanosecond: u32,
    /// Names of this file.
    pub links: u32,
    /// Number of the file on its device.
    pub inode: u64,
    /// The device, major and minor.
    pub device: (u32, u32),
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
}

impl Facts {
    /// Time since the last change of the content; zero for times in the future.
    pub fn age(&self, now: SystemTime) -> Duration {
        let seconds = Duration::from_secs(self.modified_second.unsigned_abs());
        let modified = if self.modified_second < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(seconds)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(seconds)
        };
        let fraction = Duration::from_nanos(u64::from(self.modified_nanosecond));
        modified
            .and_then(|modified| modified.checked_add(fraction))
            .and_then(|modified| now.duration_since(modified).ok())
            .unwrap_or_default()
    }
}

/// Opens a directory by a path that the user gave; a link at its end is followed, since it is the user's.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Opens a directory in another one; a link is refused.
pub fn open_child(directory: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// Opens a directory at a path below `root`, component by component; a link anywhere on the way is refused.
pub fn open_below(root: impl AsFd, path: &RelativePath) -> io::Result<OwnedFd> {
    let mut opened: Option<OwnedFd> = None;
    for name in path.components() {
        let next = match &opened {
            Some(directory) => open_child(directory, name),
            None => open_child(&root, name),
        };
        opened = Some(next?);
    }
    opened.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// What is known of `name` in `directory`; of a link itself where it is one.
pub fn facts(directory: impl AsFd, name: impl Arg) -> io::Result<Facts> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    from_statx(directory, name, flags)
}

/// What is known of an open file or directory.
pub fn facts_of(file: impl AsFd) -> io::Result<Facts> {
    from_statx(file, c"", AtFlags::EMPTY_PATH)
}

fn from_statx(directory: impl AsFd, name: impl Arg, flags: AtFlags) -> io::Result<Facts> {
    let found = rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)?;
    let mode = u32::from(found.stx_mode);
    Ok(Facts {
        kind: FileType::from_raw_mode(mode),
        mode: mode & 0o7777,
        size: found.stx_size,
        modified_second: found.stx_mtime.tv_sec,
        modified_nanosecond: found.stx_mtime.tv_nsec,
        links: found.stx_nlink,
        inode: found.stx_ino,
        device: (found.stx_dev_major, found.stx_dev_minor),
        user: found.stx_uid,
        group: found.stx_gid,
    })
}

/// Calls `each` for every name in a directory that was just opened; `.` and `..` are left out.
///
/// `buffer` is room of [`LIST_BUFFER`] bytes; the kind is `Unknown` on file systems that don't tell.
pub fn each_name(
    directory: impl AsFd,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(&CStr, FileType) -> io::Result<()>,
) -> io::Result<()> {
    buffer.clear();
    buffer.reserve(LIST_BUFFER);
    let mut listing = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            each(entry.file_name(), entry.file_type())?;
        }
    }
    Ok(())
}

/// Makes `directory`'s entries durable.
pub fn sync(directory: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(directory)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_refused_at_the_end_and_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let root = open_root(folder.path()).unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        symlink("a", folder.path().join("link")).unwrap();
        let open = |path: &str| open_below(&root, &RelativePath::new(path).unwrap());
        assert!(open("a/b").is_ok());
        assert!(open("link").is_err());
        assert!(open("link/b").is_err());
        assert_eq!(facts(&root, "link").unwrap().kind, FileType::Symlink);
    }

    #[test]
    fn every_name_is_listed_once() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..2000 {
            fs::write(folder.path().join(format!("{index:0>200}")), "").unwrap();
        }
        let mut names = Vec::new();
        let directory = open_root(folder.path()).unwrap();
        each_name(&directory, &mut Vec::new(), |name, _| {
            names.push(name.to_owned());
            Ok(())
        })
        .unwrap();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2000);
    }

    #[test]
    fn ages_are_never_negative() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let file = fs::File::create(&path).unwrap();
        let now = SystemTime::now();
        let hour = Duration::from_hours(1);
        let root = open_root(folder.path()).unwrap();
        for (modified, expected) in [(now - hour, hour), (now + hour, Duration::ZERO)] {
            file.set_modified(modified).unwrap();
            assert_eq!(facts(&root, "a").unwrap().age(now), expected);
        }
    }
}
