//! Walking and moving trees by directory descriptors, never following a link nor leaving a file system.
//!
//! In come descriptors and names of one component; out come what lies there and changed directories. Memory is
//! that of the largest directory's names.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use crate::archive::manifest::Time;
use crate::archive::path::RelativePath;

/// Most directories that a walk keeps open besides its root; deeper trees open their upper ones again.
const MAX_OPEN: usize = 64;

/// What lies at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: FileType,
    pub(super) size: u64,
    pub(super) mtime: Time,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Node {
    pub(super) fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }
}

pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// Opens a directory right below `parent`; a link or a mount point is an error.
pub(super) fn open_child(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open_entry(parent, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens a regular file right below `parent` for reading.
pub(super) fn open_file(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    // Without NONBLOCK opening a FIFO would wait for its writer.
    Ok(open_entry(parent, name, OFlags::RDONLY | OFlags::NONBLOCK)?.into())
}

fn open_entry(parent: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match rustix::fs::openat2(parent, os(name), flags, Mode::empty(), resolve) {
        Ok(opened) => Ok(opened),
        // Some sandboxes have no openat2; a single name can't lead out, only to another file system.
        Err(Errno::NOSYS | Errno::PERM) => {
            let opened = rustix::fs::openat(parent, os(name), flags, Mode::empty())?;
            let device = |fd| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
            if device(parent)? == device(opened.as_fd())? {
                Ok(opened)
            } else {
                Err(Errno::XDEV.into())
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// What lies at `name`, links not followed; `None` when nothing does.
pub(super) fn look(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Node>> {
    match rustix::fs::statat(parent, os(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(node_of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What an open descriptor is.
pub(super) fn look_at(fd: BorrowedFd<'_>) -> io::Result<Node> {
    Ok(node_of(&rustix::fs::fstat(fd)?))
}

// The fields' types differ between architectures.
#[allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "not everywhere"
)]
fn node_of(stat: &rustix::fs::Stat) -> Node {
    Node {
        kind: FileType::from_raw_mode(stat.st_mode),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mtime: Time {
            seconds: stat.st_mtime as i64,
            nanoseconds: stat.st_mtime_nsec as u32,
        },
        mode: stat.st_mode as u32 & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
    }
}

/// The names in a directory, at most `limit`, in no order.
pub(super) fn some_names(directory: BorrowedFd<'_>, limit: usize) -> io::Result<Vec<Box<[u8]>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.into());
            if names.len() >= limit {
                break;
            }
        }
    }
    Ok(names)
}

/// The names in a directory, sorted as bytes.
pub(super) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<Box<[u8]>>> {
    let mut names = some_names(directory, usize::MAX)?;
    names.sort_unstable();
    Ok(names)
}

/// Moves an entry to a name that is free.
pub(super) fn rename(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    new_name: &[u8],
) -> io::Result<()> {
    match rustix::fs::renameat_with(from, os(name), to, os(new_name), RenameFlags::NOREPLACE) {
        // NFS and some others can't refuse to replace.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if look(to, new_name)?.is_some() {
                return Err(Errno::EXIST.into());
            }
            Ok(rustix::fs::renameat(from, os(name), to, os(new_name))?)
        }
        result => Ok(result?),
    }
}

/// Makes a directory, or finds it there, and opens it.
pub(super) fn make_directory(
    parent: BorrowedFd<'_>,
    name: &[u8],
    mode: u32,
) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, os(name), Mode::from_raw_mode(0o700)) {
        Ok(()) => {
            let directory = open_child(parent, name)?;
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
            Ok(directory)
        }
        Err(Errno::EXIST) => open_child(parent, name),
        Err(error) => Err(error.into()),
    }
}

/// Changes the mode of whatever `name` is, but never of what a link points to.
pub(super) fn change_mode(parent: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, os(name), flags, Mode::empty())?;
    if look_at(opened.as_fd())?.kind == FileType::Symlink {
        return Err(Errno::LOOP.into());
    }
    // The kernel resolves this name to the very inode that was opened.
    let exact = format!("/proc/self/fd/{}", opened.as_raw_fd());
    Ok(rustix::fs::chmod(exact, Mode::from_raw_mode(mode))?)
}

/// A walk in the order of [`RelativePath`]: a directory, then what is in it.
pub(super) struct Walk {
    frames: Vec<Frame>,
    /// The directory that was told last and is entered next.
    pending: Option<Box<[u8]>>,
    current: Option<RelativePath>,
}

struct Frame {
    /// Closed in deep trees.
    directory: Option<OwnedFd>,
    path: Option<RelativePath>,
    names: std::vec::IntoIter<Box<[u8]>>,
}

impl Walk {
    /// Walks through what lies below `root` under the top-level names that `wanted` says.
    pub(super) fn new(root: OwnedFd, wanted: &dyn Fn(&[u8]) -> bool) -> io::Result<Self> {
        let mut names = names(root.as_fd())?;
        names.retain(|name| wanted(name));
        let frame = Frame {
            directory: Some(root),
            path: None,
            names: names.into_iter(),
        };
        Ok(Self {
            frames: vec![frame],
            pending: None,
            current: None,
        })
    }

    /// The next entry; what vanished meanwhile is left out.
    pub(super) fn next(&mut self) -> io::Result<Option<(RelativePath, Node)>> {
        self.enter()?;
        loop {
            let Some(frame) = self.frames.last_mut() else {
                return Ok(None);
            };
            let Some(name) = frame.names.next() else {
                self.frames.pop();
                continue;
            };
            let path = match &frame.path {
                Some(parent) => parent.child(&name),
                None => RelativePath::new(&*name),
            };
            let path =
                path.map_err(|error| io::Error::new(io::ErrorKind::InvalidFilename, error))?;
            let found = match self.reopen() {
                Ok(directory) => look(directory, &name)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            let Some(node) = found else {
                continue;
            };
            if node.is_directory() {
                self.pending = Some(name);
            }
            self.current = Some(path.clone());
            return Ok(Some((path, node)));
        }
    }

    /// The last directory, opened again where it was closed.
    fn reopen(&mut self) -> io::Result<BorrowedFd<'_>> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        let (last, above) = self.frames.split_last_mut().ok_or_else(absent)?;
        if last.directory.is_none()
            && let Some(path) = &last.path
        {
            let root = above.first().and_then(|root| root.directory.as_ref());
            last.directory = Some(open_path(root.ok_or_else(absent)?.as_fd(), path)?);
        }
        let opened = last.directory.as_ref();
        opened.map(AsFd::as_fd).ok_or_else(absent)
    }

    /// Leaves out what is in the directory that was told last.
    pub(super) fn skip(&mut self) {
        self.pending = None;
    }

    /// The directory in which the entry lies that was told last; `None` before the first and after the last.
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        let last = self.frames.last()?;
        last.directory.as_ref().map(AsFd::as_fd)
    }

    fn enter(&mut self) -> io::Result<()> {
        let Some(name) = self.pending.take() else {
            return Ok(());
        };
        // It was told from the last directory, which is therefore open.
        let Some(above) = self.directory() else {
            return Ok(());
        };
        let shown = |error: io::Error| {
            let path = self.current.as_ref().map(ToString::to_string);
            io::Error::new(
                error.kind(),
                format!("{}: {error}", path.unwrap_or_default()),
            )
        };
        let directory = match open_child(above, &name) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(shown(error)),
        };
        let names = names(directory.as_fd()).map_err(shown)?;
        self.frames.push(Frame {
            directory: Some(directory),
            path: self.current.clone(),
            names: names.into_iter(),
        });
        let upper = self.frames.len().saturating_sub(MAX_OPEN + 1);
        if upper > 0 {
            self.frames[upper].directory = None;
        }
        Ok(())
    }
}

/// Opens a directory at a path below `root`; a link or a mount point on the way is an error.
fn open_path(root: BorrowedFd<'_>, path: &RelativePath) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match rustix::fs::openat2(root, path.as_path(), flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {
            let mut opened: Option<OwnedFd> = None;
            for name in path.components() {
                let above = opened.as_ref().map_or(root, AsFd::as_fd);
                opened = Some(open_child(above, name)?);
            }
            opened.ok_or_else(|| io::ErrorKind::NotFound.into())
        }
        opened => Ok(opened?),
    }
}

/// Opens a directory some levels below; `None` where there is none.
pub(super) fn open_below(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    let mut current: Option<OwnedFd> = None;
    for name in path.split('/') {
        let parent = current.as_ref().map_or(root, AsFd::as_fd);
        match look(parent, name.as_bytes())? {
            Some(node) if node.is_directory() => {
                current = Some(open_child(parent, name.as_bytes())?);
            }
            _ => return Ok(None),
        }
    }
    Ok(current)
}

/// Finds the directories in which sorted entries lie; each is opened once.
pub(super) struct Parents {
    base: OwnedFd,
    last: Option<(RelativePath, OwnedFd)>,
}

impl Parents {
    pub(super) fn below(base: OwnedFd) -> Self {
        Self { base, last: None }
    }

    /// The directory in which `path` lies.
    pub(super) fn of(&mut self, path: &RelativePath) -> io::Result<BorrowedFd<'_>> {
        let Some(parent) = path.parent() else {
            return Ok(self.base.as_fd());
        };
        if self.last.as_ref().is_none_or(|(last, _)| *last != parent) {
            let directory = open_path(self.base.as_fd(), &parent)?;
            self.last = Some((parent, directory));
        }
        Ok(self
            .last
            .as_ref()
            .map_or(self.base.as_fd(), |(_, directory)| directory.as_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_deep_tree_is_walked_to_its_end_with_few_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let mut deep = folder.path().to_owned();
        let depth = 600;
        for _ in 0..depth {
            deep.push("d");
            fs::create_dir(&deep).unwrap();
            fs::write(deep.with_file_name("e"), "").unwrap();
        }
        let root = crate::descriptor::open_root(folder.path()).unwrap();
        let mut parents = Parents::below(root.try_clone().unwrap());
        let mut walk = Walk::new(root, &|_| true).unwrap();
        let mut paths = Vec::new();
        while let Some((path, node)) = walk.next().unwrap() {
            assert!(look(walk.directory().unwrap(), path.name()).unwrap() == Some(node));
            assert!(look(parents.of(&path).unwrap(), path.name()).unwrap() == Some(node));
            let open = walk.frames.iter().filter(|frame| frame.directory.is_some());
            assert!(open.count() <= MAX_OPEN + 1);
            paths.push(path);
        }
        assert_eq!(paths.len(), 2 * depth);
        assert!(paths.is_sorted());
    }
}
