//! A walk over the volume: every file, directory and link once, in the order of the manifest.
//!
//! In comes the root, out come paths with what `statx` says. Links are never followed; the names of one directory for each
//! level are all that is in memory. What vanishes meanwhile is no error, what can't be read is told.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Statx, StatxFlags,
};
use rustix::io::Errno;

use crate::archive::category::Category;
use crate::archive::manifest::{Attributes, Target, Time};
use crate::archive::path::RelativePath;
use crate::atomic;
use crate::descriptor::open_root;

/// So many directories are open at once; deeper trees open their upper ones again.
const MAX_OPEN: usize = 64;
/// Bytes that one call for directory entries may fill.
const ENTRIES_BUFFER: usize = 32 << 10;
/// The file that names a model's version in use.
const CURRENT: &[u8] = b"current";
/// Longest such file, in bytes.
const MAX_CURRENT: u64 = 4096;
/// How often it is read while it changes or appears.
const MAX_ROUNDS: usize = 3;

/// Something that the walk came to.
#[derive(Debug)]
pub enum Found {
    /// An entry with its attributes.
    Item(Item),
    /// What can't be read, a directory's content included: neither there nor gone.
    Unreadable {
        /// Where.
        path: RelativePath,
        /// What the system said.
        source: io::Error,
    },
    /// A name that no archive can hold.
    Unnameable {
        /// The directory and the reason.
        reason: String,
    },
}

/// An entry of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it lies, relative to the root.
    pub path: RelativePath,
    /// The part of the volume that it belongs to.
    pub category: Category,
    /// What it is.
    pub kind: ItemKind,
    /// Its attributes.
    pub attributes: Attributes,
    /// Size of a regular file in bytes, else 0.
    pub size: u64,
    /// A model's `current` as it was before the names of the versions beside it were read: what it names is among them.
    pub content: Option<Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link and what it points to.
    Symlink(Target),
    /// A FIFO, socket or device, in words.
    Special(&'static str),
}

/// What `statx` says, as manifests have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its attributes.
    pub attributes: Attributes,
    /// Size in bytes.
    pub size: u64,
    /// The file type's bits.
    pub file_type: FileType,
}

/// The walk. Each step gives one entry.
pub struct Walk {
    root: OwnedFd,
    include: Vec<Category>,
    frames: Vec<Frame>,
    pending: Option<Found>,
}

/// What one name gave.
enum Step {
    Found(Found),
    Nothing,
    End,
}

/// A directory that the walk is in.
struct Frame {
    /// `None` for the root.
    path: Option<RelativePath>,
    /// Closed in deep trees.
    directory: Option<OwnedFd>,
    names: Names,
    current: Option<Current>,
}

/// A model's `current`, with the attributes that belong to its content.
struct Current {
    status: Status,
    content: Vec<u8>,
}

/// The sorted names of a directory in one piece of memory.
struct Names {
    bytes: Vec<u8>,
    spans: Vec<(u32, u8)>,
    next: usize,
}

impl Walk {
    /// A walk over the parts `include` of the volume at `root`.
    pub fn new(root: &Path, include: &[Category]) -> io::Result<Self> {
        let root = open_root(root)?;
        let directory = rustix::fs::openat(
            &root,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let names = Names::read(directory.as_fd())?;
        Ok(Self {
            root,
            include: include.to_vec(),
            frames: vec![Frame {
                path: None,
                directory: Some(directory),
                names,
                current: None,
            }],
            pending: None,
        })
    }

    fn step(&mut self) -> Step {
        let Some(frame) = self.frames.last_mut() else {
            return Step::End;
        };
        let Some(name) = frame.names.take() else {
            self.frames.pop();
            return Step::Nothing;
        };
        let (path, category) = match &frame.path {
            None => {
                let category = Category::of_top_level(name);
                let Some(category) = category.filter(|own| self.include.contains(own)) else {
                    return Step::Nothing;
                };
                (RelativePath::new(name), category)
            }
            Some(parent) => {
                let category = Category::of_top_level(parent.top_level());
                (parent.child(name), category.unwrap_or(Category::Other))
            }
        };
        let is_unfinished = std::str::from_utf8(name).is_ok_and(atomic::is_unfinished);
        if is_unfinished {
            return Step::Nothing;
        }
        let path = match path {
            Ok(path) => path,
            Err(error) => {
                return Step::Found(Found::Unnameable {
                    reason: error.to_string(),
                });
            }
        };
        let name = frame.names.last();
        let found = open_again(&mut frame.directory, frame.path.as_ref(), self.root.as_fd())
            .and_then(|directory| look(directory, name));
        let current = frame.current.take_if(|_| name == CURRENT);
        match found {
            Ok((status, target)) => match self.visit(path, category, status, target, current) {
                Some(found) => Step::Found(found),
                None => Step::Nothing,
            },
            Err(error) if is_gone(&error) => Step::Nothing,
            Err(source) => Step::Found(Found::Unreadable { path, source }),
        }
    }

    fn visit(
        &mut self,
        path: RelativePath,
        category: Category,
        status: Status,
        target: Option<Target>,
        current: Option<Current>,
    ) -> Option<Found> {
        let (status, content) = match current {
            Some(Current { status, content }) => (status, Some(content)),
            None => (status, None),
        };
        let kind = match (status.file_type, target) {
            (FileType::RegularFile, _) => ItemKind::File,
            (FileType::Directory, _) => match self.enter(&path) {
                Ok(()) => ItemKind::Directory,
                Err(error) if is_gone(&error) => return None,
                Err(source) => {
                    self.pending = Some(Found::Unreadable {
                        path: path.clone(),
                        source,
                    });
                    ItemKind::Directory
                }
            },
            (FileType::Symlink, Some(target)) => ItemKind::Symlink(target),
            (FileType::Fifo, _) => ItemKind::Special("a FIFO"),
            (FileType::Socket, _) => ItemKind::Special("a socket"),
            _ => ItemKind::Special("a device"),
        };
        let size = if kind == ItemKind::File {
            status.size
        } else {
            0
        };
        Some(Found::Item(Item {
            path,
            category,
            kind,
            attributes: status.attributes,
            size,
            content,
        }))
    }

    /// Goes down into a directory of the last frame.
    fn enter(&mut self, path: &RelativePath) -> io::Result<()> {
        let root = self.root.as_fd();
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        let directory = rustix::fs::openat(
            open_again(&mut frame.directory, frame.path.as_ref(), root)?,
            OsStr::from_bytes(path.name()),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let (names, current) = if is_model(path) {
            list_model(directory.as_fd())?
        } else {
            (Names::read(directory.as_fd())?, None)
        };
        self.frames.push(Frame {
            path: Some(path.clone()),
            directory: Some(directory),
            names,
            current,
        });
        if let Some(upper) = self.frames.len().checked_sub(MAX_OPEN + 1) {
            self.frames[upper].directory = None;
        }
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        if let Some(found) = self.pending.take() {
            return Some(found);
        }
        loop {
            match self.step() {
                Step::Found(found) => return Some(found),
                Step::Nothing => {}
                Step::End => return None,
            }
        }
    }
}

/// Whether it is `ml_models/NAME`.
fn is_model(path: &RelativePath) -> bool {
    path.is_within(b"ml_models") && path.components().count() == 2
}

/// The names in a model's folder, and `current` from before. A version is there before `current` names it, so in this
/// order no version that is put meanwhile is missing; in the other it would be.
fn list_model(directory: BorrowedFd<'_>) -> io::Result<(Names, Option<Current>)> {
    let mut round = 1;
    loop {
        let current = read_current(directory);
        let names = Names::read(directory)?;
        // One that appeared meanwhile is read, then the names are once more.
        if current.is_some() || round == MAX_ROUNDS || !names.has(CURRENT) {
            return Ok((names, current));
        }
        round += 1;
        rustix::fs::seek(directory, SeekFrom::Start(0))?;
    }
}

/// A small file that stays the same while it is read; what else lies there is taken as any file is.
fn read_current(directory: BorrowedFd<'_>) -> Option<Current> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for _ in 0..MAX_ROUNDS {
        let opened =
            rustix::fs::openat(directory, OsStr::from_bytes(CURRENT), flags, Mode::empty());
        let file = File::from(opened.ok()?);
        let status = Status::of_file(&file).ok()?;
        if status.file_type != FileType::RegularFile || status.size > MAX_CURRENT {
            return None;
        }
        let mut content = Vec::new();
        (&file).take(MAX_CURRENT).read_to_end(&mut content).ok()?;
        if content.len() as u64 == status.size && Status::of_file(&file).ok()? == status {
            return Some(Current { status, content });
        }
    }
    None
}

/// A directory of the walk, opened again where it was closed.
fn open_again<'d>(
    directory: &'d mut Option<OwnedFd>,
    path: Option<&RelativePath>,
    root: BorrowedFd<'_>,
) -> io::Result<BorrowedFd<'d>> {
    if directory.is_none()
        && let Some(path) = path
    {
        *directory = Some(open_beneath(root, path, OFlags::DIRECTORY)?);
    }
    directory
        .as_ref()
        .map(AsFd::as_fd)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

impl Names {
    fn read(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let mut names = Self {
            bytes: Vec::new(),
            spans: Vec::new(),
            next: 0,
        };
        let mut buffer = Vec::with_capacity(ENTRIES_BUFFER);
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let start = u32::try_from(names.bytes.len()).map_err(io::Error::other)?;
            let length = u8::try_from(name.len()).map_err(io::Error::other)?;
            names.bytes.extend(name);
            names.spans.push((start, length));
        }
        let bytes = &names.bytes;
        names
            .spans
            .sort_unstable_by(|left, right| slice(bytes, *left).cmp(slice(bytes, *right)));
        Ok(names)
    }

    fn take(&mut self) -> Option<&[u8]> {
        let span = *self.spans.get(self.next)?;
        self.next += 1;
        Some(slice(&self.bytes, span))
    }

    fn has(&self, name: &[u8]) -> bool {
        let find = |span: &(u32, u8)| slice(&self.bytes, *span).cmp(name);
        self.spans.binary_search_by(find).is_ok()
    }

    /// The name that was taken last.
    fn last(&self) -> &[u8] {
        let span = self.next.checked_sub(1).and_then(|at| self.spans.get(at));
        span.map(|span| slice(&self.bytes, *span))
            .unwrap_or_default()
    }
}

fn slice(bytes: &[u8], (start, length): (u32, u8)) -> &[u8] {
    &bytes[start as usize..start as usize + usize::from(length)]
}

/// What lies at a name of a directory, and where it points to if it is a link.
fn look(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<(Status, Option<Target>)> {
    let name = OsStr::from_bytes(name);
    let found = rustix::fs::statx(
        directory,
        name,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS,
    )?;
    let status = Status::of(&found);
    let target = if status.file_type == FileType::Symlink {
        let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
        Some(Target(target.into_bytes()))
    } else {
        None
    };
    Ok((status, target))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

impl Status {
    fn of(found: &Statx) -> Self {
        let time = |time: rustix::fs::StatxTimestamp| Time {
            seconds: time.tv_sec,
            nanoseconds: time.tv_nsec,
        };
        let mode = u32::from(found.stx_mode);
        Self {
            attributes: Attributes {
                mode: mode & 0o7777,
                mtime: time(found.stx_mtime),
                ctime: time(found.stx_ctime),
                inode: found.stx_ino,
            },
            size: found.stx_size,
            file_type: FileType::from_raw_mode(mode),
        }
    }

    /// Of an open file.
    pub fn of_file(file: &File) -> io::Result<Self> {
        let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        Ok(Self::of(&found))
    }

    /// Of a path below `root`; no link on the way is followed.
    pub fn beneath(root: BorrowedFd<'_>, path: &RelativePath) -> io::Result<Self> {
        let found = match path.parent() {
            None => look(root, path.name()),
            Some(parent) => {
                let parent = open_beneath(root, &parent, OFlags::DIRECTORY | OFlags::PATH)?;
                look(parent.as_fd(), path.name())
            }
        };
        found.map(|(status, _)| status)
    }
}

/// Opens a path below `root` for reading; no link on the way, nor at its end, is followed.
pub fn open_beneath(
    root: BorrowedFd<'_>,
    path: &RelativePath,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path.as_path(), flags, Mode::empty(), how) {
        // Old kernels, and sandboxes that know no openat2; AGAIN while something is renamed.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => open_by_component(root, path, flags),
        opened => Ok(opened?),
    }
}

fn open_by_component(
    root: BorrowedFd<'_>,
    path: &RelativePath,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let mut directory = root.try_clone_to_owned()?;
    if let Some(parent) = path.parent() {
        let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for name in parent.components() {
            directory =
                rustix::fs::openat(&directory, OsStr::from_bytes(name), through, Mode::empty())?;
        }
    }
    let name = OsStr::from_bytes(path.name());
    Ok(rustix::fs::openat(&directory, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn paths(root: &Path, include: &[Category]) -> Vec<String> {
        Walk::new(root, include)
            .unwrap()
            .map(|found| match found {
                Found::Item(item) => item.path.to_string(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_order_is_the_manifests_and_only_what_is_asked_for_comes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for directory in ["logs/a/b", "logs/a-b", "backups", "config", ".restore-1"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in [
            "logs/a/b/c",
            "logs/a.b",
            "logs/.x.partial",
            "backups/x",
            "note",
        ] {
            fs::write(root.join(file), "x").unwrap();
        }
        symlink("/etc", root.join("logs/link")).unwrap();
        let found = paths(root, &Category::ALL);
        let expected = [
            "config",
            "logs",
            "logs/a",
            "logs/a/b",
            "logs/a/b/c",
            "logs/a-b",
            "logs/a.b",
            "logs/link",
            "note",
        ];
        assert_eq!(found, expected);
        assert_eq!(paths(root, &[Category::Other]), ["note"]);
        let sorted = found
            .iter()
            .map(|path| RelativePath::new(path.as_str()).unwrap());
        assert!(sorted.is_sorted());
    }

    #[test]
    fn a_tree_deeper_than_the_open_directories_is_walked_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut path = folder.path().join("deep");
        for _ in 0..200 {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("end"), "x").unwrap();
        fs::write(folder.path().join("deep/z"), "x").unwrap();
        let found = paths(folder.path(), &[Category::Other]);
        assert_eq!(found.len(), 203);
        assert!(found[201].ends_with("/d/end") && found[202] == "deep/z");
    }

    #[test]
    fn nothing_is_opened_over_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("f"), "x").unwrap();
        symlink(outside.path(), folder.path().join("d")).unwrap();
        let root = open_root(folder.path()).unwrap();
        let path = RelativePath::new("d/f").unwrap();
        assert!(open_beneath(root.as_fd(), &path, OFlags::RDONLY).is_err());
        assert!(open_by_component(root.as_fd(), &path, OFlags::NOFOLLOW).is_err());
    }
}
