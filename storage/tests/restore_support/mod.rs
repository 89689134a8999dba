//! A backup made of a map in memory, volumes in temp directories, and trees to compare.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::manifest::{Attributes, Content, Entry, Place, Target, Time};
use stockpredictor_storage::archive::path::RelativePath;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::progress::{Progress, Silent};
use stockpredictor_storage::restore::{Gate, Request, Volume};
use stockpredictor_storage::snapshot::{Extracted, Snapshot, SnapshotError};
use uuid::Uuid;

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// Content, mode, seconds of the time.
    File(Vec<u8>, u32, u64),
    Directory,
    Link(String),
}

pub fn file(content: &str) -> Thing {
    Thing::File(content.as_bytes().to_vec(), 0o644, 1_700_000_000)
}

pub type Things = BTreeMap<RelativePath, Thing>;

/// Paths with their contents; parents are made up.
pub fn things(list: &[(&str, Thing)]) -> Things {
    let mut all = Things::new();
    for (path, thing) in list {
        let path = RelativePath::new(*path).unwrap();
        let mut parent = path.parent();
        while let Some(above) = parent {
            parent = above.parent();
            all.entry(above).or_insert(Thing::Directory);
        }
        all.insert(path, thing.clone());
    }
    all
}

/// Puts things below `root`.
pub fn put(root: &Path, things: &Things) {
    for (path, thing) in things {
        put_one(&root.join(path.as_path()), thing).unwrap();
    }
}

fn put_one(path: &Path, thing: &Thing) -> io::Result<()> {
    match thing {
        Thing::Directory => match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        },
        Thing::Link(target) => symlink(target, path),
        Thing::File(content, mode, seconds) => {
            fs::write(path, content)?;
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))?;
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(*seconds);
            fs::File::options()
                .write(true)
                .open(path)
                .or_else(|_| fs::File::open(path))?
                .set_modified(time)
        }
    }
}

/// Everything below `root` but `.stockpredictor`.
pub fn read(root: &Path) -> Things {
    let mut all = Things::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap();
            if relative == Path::new(".stockpredictor") {
                continue;
            }
            let found = path.symlink_metadata().unwrap();
            let thing = if found.is_dir() {
                pending.push(path.clone());
                Thing::Directory
            } else if found.is_symlink() {
                Thing::Link(fs::read_link(&path).unwrap().display().to_string())
            } else {
                let seconds = u64::try_from(found.mtime()).unwrap();
                Thing::File(fs::read(&path).unwrap(), found.mode() & 0o7777, seconds)
            };
            all.insert(
                RelativePath::new(relative.as_os_str().as_bytes()).unwrap(),
                thing,
            );
        }
    }
    all
}

/// What two trees differ in, for messages.
pub fn difference(left: &Things, right: &Things) -> Vec<String> {
    let mut found = Vec::new();
    for (path, thing) in left {
        if right.get(path) != Some(thing) {
            found.push(format!("{path}: {thing:?} != {:?}", right.get(path)));
        }
    }
    for path in right.keys().filter(|path| !left.contains_key(path)) {
        found.push(format!("{path}: only right"));
    }
    found
}

/// A backup in memory.
pub struct Fake {
    pub include: Vec<Category>,
    pub things: Things,
    /// Unpacking fails after so many entries.
    pub fails_after: Option<usize>,
    /// Unpacking is killed after so many entries.
    pub dies_after: Option<usize>,
    /// Where it lies.
    pub folder: Option<PathBuf>,
}

impl Fake {
    pub fn of(include: &[Category], list: &[(&str, Thing)]) -> Self {
        Self {
            include: include.to_vec(),
            things: things(list),
            fails_after: None,
            dies_after: None,
            folder: None,
        }
    }

    pub fn all(list: &[(&str, Thing)]) -> Self {
        Self::of(&Category::ALL, list)
    }
}

impl Snapshot for Fake {
    fn include(&self) -> &[Category] {
        &self.include
    }

    fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn entries(&self, each: &mut dyn FnMut(&Entry) -> io::Result<()>) -> Result<(), SnapshotError> {
        for (path, thing) in &self.things {
            let place = Place { member: 0, skip: 0 };
            let attributes = |mode, seconds: u64| Attributes {
                mode,
                mtime: Time {
                    seconds: i64::try_from(seconds).unwrap(),
                    nanoseconds: 0,
                },
                ctime: Time::default(),
                inode: 1,
            };
            let content = match thing {
                Thing::File(content, mode, seconds) => Content::File {
                    attributes: attributes(*mode, *seconds),
                    size: content.len() as u64,
                    allocated: content.len() as u64,
                    sha256: Digest::of(content),
                    place,
                },
                Thing::Directory => Content::Directory {
                    attributes: attributes(0o755, 0),
                    place,
                },
                Thing::Link(target) => Content::Symlink {
                    attributes: attributes(0o777, 0),
                    target: Target(target.clone().into_bytes()),
                    place,
                },
            };
            let entry = Entry {
                path: path.clone(),
                content,
            };
            each(&entry).map_err(|source| SnapshotError::Use {
                path: path.to_string(),
                source,
            })?;
        }
        Ok(())
    }

    fn extract(
        &self,
        wanted: &(dyn Fn(&RelativePath) -> bool + Sync),
        target: &Path,
        _progress: &dyn Progress,
    ) -> Result<Extracted, SnapshotError> {
        let mut extracted = Extracted::default();
        for (number, (path, thing)) in self.things.iter().enumerate() {
            if self.dies_after == Some(number) {
                std::panic::panic_any(Killed);
            }
            if self.fails_after == Some(number) {
                return Err(SnapshotError::Damaged {
                    archive: "a.tar.gz".to_owned(),
                    reason: format!("{path} has another hash"),
                });
            }
            if !wanted(path) {
                continue;
            }
            put_one(&target.join(path.as_path()), thing).map_err(|source| SnapshotError::Use {
                path: path.to_string(),
                source,
            })?;
            if let Thing::File(content, ..) = thing {
                extracted.files += 1;
                extracted.bytes += content.len() as u64;
            }
        }
        Ok(extracted)
    }
}

/// What a killed process leaves: nothing of it runs any more.
pub struct Killed;

/// What happens at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Fails,
    Dies,
}

/// Counts steps, and lets one of them fail or the process die before it.
pub struct Trap {
    passed: AtomicUsize,
    at: usize,
    fate: Fate,
}

impl Trap {
    pub fn at(at: usize, fate: Fate) -> Self {
        Self {
            passed: AtomicUsize::new(0),
            at,
            fate,
        }
    }

    /// Counts only.
    pub fn none() -> Self {
        Self::at(usize::MAX, Fate::Fails)
    }

    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Gate for Trap {
    fn pass(&self, step: &'static str) -> io::Result<()> {
        if self.passed.fetch_add(1, Ordering::Relaxed) != self.at {
            return Ok(());
        }
        match self.fate {
            Fate::Fails => Err(io::Error::other(format!("no {step}"))),
            Fate::Dies => std::panic::panic_any(Killed),
        }
    }
}

/// Deaths are no news.
pub fn silence() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Killed>() {
            usual(info);
        }
    }));
}

/// Runs what may be killed; `None` when it was.
pub fn killable<T>(work: impl FnOnce() -> T) -> Option<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => Some(result),
        Err(cause) if cause.is::<Killed>() => None,
        Err(cause) => std::panic::resume_unwind(cause),
    }
}

/// In memory where that is possible: thousands of restores would wait for the disk.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A volume in a temp directory.
pub struct TestVolume {
    _folder: tempfile::TempDir,
    pub layout: Layout,
}

impl TestVolume {
    pub fn with(things: &Things) -> Self {
        let folder = folder();
        let layout = Layout::new(folder.path());
        fs::create_dir(layout.state()).unwrap();
        put(folder.path(), things);
        Self {
            _folder: folder,
            layout,
        }
    }

    pub fn volume<'a>(&'a self, gate: &'a dyn Gate) -> Volume<'a> {
        Volume {
            layout: &self.layout,
            patience: Duration::from_millis(200),
            progress: &Silent,
            gate,
        }
    }

    pub fn read(&self) -> Things {
        read(self.layout.root())
    }

    /// Names in `.stockpredictor`, without locks.
    pub fn state(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.layout.state())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with("lock"))
            .collect();
        names.sort();
        names
    }
}

pub fn request(id: Uuid) -> Request<'static> {
    Request {
        id,
        backup: Uuid::from_u128(0xabcd_ef01 << 96),
        only: None,
        started_at: jiff::Timestamp::UNIX_EPOCH,
    }
}
