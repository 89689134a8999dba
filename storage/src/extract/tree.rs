//! Files, directories and links below a target directory, created through directory descriptors.
//!
//! In come paths that were checked and data that was hashed; out comes a tree. No component of a path is ever followed
//! if it is a link, nothing that exists is opened or replaced, and nothing outside the target is touched.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};

use crate::archive::manifest::{Attributes, Time};
use crate::archive::path::RelativePath;

/// Most directories that a cursor keeps open.
const MAX_OPEN: usize = 32;
/// Zero blocks of this size, in bytes, become holes.
pub(crate) const HOLE: usize = 4096;
/// Mode of a directory until its own is set.
const PLAIN_DIRECTORY: u32 = 0o700;
/// Mode of a file until its own is set.
const PLAIN_FILE: u32 = 0o600;

/// The directory that is unpacked into.
pub(crate) struct Tree {
    root: OwnedFd,
}

impl Tree {
    /// Opens an existing directory.
    pub fn open(target: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(target, directory_flags(), Mode::empty())?;
        Ok(Self { root })
    }

    /// Makes everything in the file system durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// A place in a tree; one for a thread. Directories on the way to the last path stay open.
pub(crate) struct Cursor<'tree> {
    tree: &'tree Tree,
    open: Vec<(Vec<u8>, Rc<OwnedFd>)>,
}

impl<'tree> Cursor<'tree> {
    pub fn new(tree: &'tree Tree) -> Self {
        Self {
            tree,
            open: Vec::new(),
        }
    }

    /// The directory that `path` lies in; `None` is the target itself.
    fn parent(&mut self, path: &RelativePath) -> io::Result<Option<Rc<OwnedFd>>> {
        match path.parent() {
            Some(parent) => self.directory(&parent).map(Some),
            None => Ok(None),
        }
    }

    fn directory(&mut self, path: &RelativePath) -> io::Result<Rc<OwnedFd>> {
        let shared = self
            .open
            .iter()
            .zip(path.components())
            .take_while(|((name, _), component)| name == component)
            .count();
        self.open.truncate(shared);
        let mut last = self.open.last().map(|(_, directory)| Rc::clone(directory));
        for (depth, name) in path.components().enumerate().skip(shared) {
            let above = match &last {
                Some(directory) => directory.as_fd(),
                None => self.tree.root.as_fd(),
            };
            let opened = rustix::fs::openat(above, name, directory_flags(), Mode::empty())?;
            let opened = Rc::new(opened);
            if depth < MAX_OPEN {
                self.open.push((name.to_vec(), Rc::clone(&opened)));
            }
            last = Some(opened);
        }
        last.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }

    fn within<T>(
        &mut self,
        path: &RelativePath,
        act: impl FnOnce(std::os::fd::BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let parent = self.parent(path)?;
        let directory = match &parent {
            Some(directory) => directory.as_fd(),
            None => self.tree.root.as_fd(),
        };
        Ok(act(directory, path.name())?)
    }

    /// Makes a plain directory that wasn't there.
    pub fn make_directory(&mut self, path: &RelativePath) -> io::Result<()> {
        let mode = Mode::from_raw_mode(PLAIN_DIRECTORY);
        self.within(path, |directory, name| {
            rustix::fs::mkdirat(directory, name, mode)
        })
    }

    /// Creates a file that wasn't there.
    pub fn create(&mut self, path: &RelativePath) -> io::Result<Writer> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(PLAIN_FILE);
        let file = self.within(path, |directory, name| {
            rustix::fs::openat(directory, name, flags, mode)
        })?;
        Ok(Writer {
            file: File::from(file),
            at: 0,
            ends_in_hole: false,
        })
    }

    /// Makes a symbolic link that wasn't there, with its time.
    pub fn link(
        &mut self,
        path: &RelativePath,
        target: &[u8],
        attributes: &Attributes,
    ) -> io::Result<()> {
        let times = times(attributes.mtime);
        self.within(path, |directory, name| {
            rustix::fs::symlinkat(target, directory, name)?;
            rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Gives a directory its mode and time, after everything in it is done.
    pub fn finish_directory(
        &mut self,
        path: &RelativePath,
        attributes: &Attributes,
    ) -> io::Result<()> {
        let directory = self.directory(path)?;
        rustix::fs::fchmod(
            &directory,
            Mode::from_raw_mode(directory_mode(attributes.mode)),
        )?;
        rustix::fs::futimens(&directory, &times(attributes.mtime))?;
        Ok(())
    }
}

/// A file that is being written from its beginning to its end.
pub(crate) struct Writer {
    file: File,
    at: u64,
    ends_in_hole: bool,
}

impl Writer {
    /// Appends data; blocks of zeros become holes.
    pub fn write(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            // Blocks lie where the file system has them, whatever pieces the data comes in.
            let first = HOLE - (self.at % HOLE as u64) as usize;
            let (zeros, rest) = run(data, first, true);
            self.at += zeros as u64;
            let (length, _) = run(rest, HOLE - (self.at % HOLE as u64) as usize, false);
            if length > 0 {
                self.file.write_all_at(&rest[..length], self.at)?;
                self.at += length as u64;
            }
            self.ends_in_hole = if length > 0 {
                false
            } else {
                zeros > 0 || self.ends_in_hole
            };
            data = &rest[length..];
        }
        Ok(())
    }

    /// Gives the file its size, mode and time.
    pub fn finish(self, attributes: &Attributes) -> io::Result<()> {
        if self.ends_in_hole {
            self.file.set_len(self.at)?;
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(file_mode(attributes.mode)))?;
        rustix::fs::futimens(&self.file, &times(attributes.mtime))?;
        Ok(())
    }
}

/// Length of the run of blocks that are zero, or that aren't; the first block has `first` bytes.
fn run(data: &[u8], first: usize, zero: bool) -> (usize, &[u8]) {
    let mut length = 0;
    let mut block = first;
    while length < data.len() {
        let end = (length + block).min(data.len());
        let piece = &data[length..end];
        if piece.iter().all(|byte| *byte == 0) != zero {
            break;
        }
        length = end;
        block = HOLE;
    }
    (length, &data[length..])
}

pub(crate) fn times(mtime: Time) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: mtime.nanoseconds.into(),
    };
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: time,
    }
}

/// The owner can read and write it; setuid, setgid and sticky are gone.
pub(crate) const fn file_mode(mode: u32) -> u32 {
    let execute = if mode & 0o111 == 0 { 0 } else { 0o100 };
    (mode & 0o777) | 0o600 | execute
}

/// The owner can enter, list and change it; setuid, setgid and sticky are gone.
pub(crate) const fn directory_mode(mode: u32) -> u32 {
    (mode & 0o777) | 0o700
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    fn attributes() -> Attributes {
        Attributes {
            mode: 0o4644,
            mtime: Time {
                seconds: -5,
                nanoseconds: 7,
            },
            ctime: Time::default(),
            inode: 1,
        }
    }

    #[test]
    fn zeros_become_holes_in_whatever_pieces_they_come() {
        let mut data = vec![0; 1 << 20];
        data[5000] = 1;
        data.extend([7; 10]);
        data.extend(vec![0; 300_000]);
        for piece in [1000, 4096, 5001, 1 << 20, data.len()] {
            let folder = tempfile::tempdir().unwrap();
            let tree = Tree::open(folder.path()).unwrap();
            let mut writer = Cursor::new(&tree).create(&path("a")).unwrap();
            for part in data.chunks(piece) {
                writer.write(part).unwrap();
            }
            writer.finish(&attributes()).unwrap();
            let file = folder.path().join("a");
            assert!(std::fs::read(&file).unwrap() == data, "{piece}");
            let meta = file.metadata().unwrap();
            assert_eq!((meta.mtime(), meta.mtime_nsec()), (-5, 7));
            assert_eq!(meta.mode() & 0o7777, 0o644);
            assert!(meta.blocks() * 512 < 100_000, "{piece}: {}", meta.blocks());
        }
    }

    #[test]
    fn a_link_in_a_directorys_place_is_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let mut cursor = Cursor::new(&tree);
        std::os::unix::fs::symlink(outside.path(), folder.path().join("d")).unwrap();
        assert!(cursor.create(&path("d/a")).is_err());
        assert!(cursor.make_directory(&path("d/a")).is_err());
        assert!(cursor.make_directory(&path("d")).is_err());
        assert!(cursor.link(&path("d/a"), b"x", &attributes()).is_err());
        assert!(cursor.finish_directory(&path("d"), &attributes()).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_that_exists_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "old").unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let mut cursor = Cursor::new(&tree);
        assert!(cursor.create(&path("a")).is_err());
        assert!(cursor.link(&path("a"), b"x", &attributes()).is_err());
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"old");
    }

    #[test]
    fn deep_trees_need_few_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let mut cursor = Cursor::new(&tree);
        let mut deep = path("d");
        for _ in 0..300 {
            cursor.make_directory(&deep).unwrap();
            deep = deep.child(b"d").unwrap();
        }
        cursor.create(&deep).unwrap();
        assert!(cursor.open.len() <= MAX_OPEN);
    }
}
