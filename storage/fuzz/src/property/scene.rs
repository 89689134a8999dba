//! Opening, verifying and unpacking an archive, with a look at what was left behind.
//!
//! In comes an archive on a shelf. Nothing beside the target may change, what is written is bounded by the archive's
//! size, what was unpacked is what the manifest says, and verify and extract agree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::manifest::{Content, Entry, Target};
use stockpredictor_storage::archive::meta::Level;
use stockpredictor_storage::archive::path::RelativePath;
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::decrypt::Identity;
use stockpredictor_storage::progress::Silent;
use stockpredictor_storage::snapshot::{Extracted, Snapshot as _, SnapshotError};
use stockpredictor_storage::verify::{Request, verify};

use crate::builder::Shelf;

/// A byte of deflate unpacks to so many at most, so an archive can't write more.
const MAX_RATIO: u64 = 1032;
/// Each entry needs a block of tar.
const BLOCK: u64 = 512;

/// What is unpacked, and how.
pub struct Case<'case> {
    /// Where the archive lies, and its base.
    pub shelf: &'case Shelf,
    /// Which archive.
    pub name: &'case str,
    /// What opens it if it is encrypted.
    pub identities: &'case [Identity],
    /// How many threads unpack it.
    pub threads: usize,
    /// Whether only a part of it is wanted, which reads the archive in another way.
    pub is_part: bool,
}

/// Everything that must hold. Says whether the archive was unpacked.
pub fn look(case: &Case<'_>) -> bool {
    let scene = Scene::new();
    let before = scene.outside();
    let wanted = |path: &RelativePath| !case.is_part || path.is_within(b"config");
    let result = unpack(case, &wanted, &scene.target());
    assert_eq!(scene.outside(), before, "something beside the target");
    let found = Found::of(&scene.target());
    let archives = case.shelf.0.lock().unwrap();
    let stored: u64 = archives.values().map(|bytes| bytes.len() as u64).sum();
    drop(archives);
    let most = stored * MAX_RATIO;
    assert!(
        found.bytes <= most,
        "{} bytes of {stored} were written",
        found.bytes
    );
    assert!(found.entries.len() as u64 <= most / BLOCK);
    if let Ok((chain, done)) = &result {
        found.is_what_the_manifest_says(chain, &wanted);
        assert_eq!((done.files, done.bytes), (found.files, found.bytes));
    }
    let is_unpacked = result.is_ok();
    if !case.is_part {
        agrees(case, result.err().as_ref());
    }
    is_unpacked
}

fn unpack(
    case: &Case<'_>,
    wanted: &(dyn Fn(&RelativePath) -> bool + Sync),
    target: &Path,
) -> Result<(Chain, Extracted), SnapshotError> {
    let chain =
        Chain::open(case.shelf, case.name, case.identities, None)?.with_threads(case.threads);
    let done = chain.extract(wanted, target, &Silent)?;
    Ok((chain, done))
}

/// Verify finds whatever extract refuses, and nothing else.
fn agrees(case: &Case<'_>, refusal: Option<&SnapshotError>) {
    let request = Request {
        level: Level::Readable,
        identities: case.identities,
        known: None,
        prover: None,
        progress: &Silent,
    };
    let report = verify(case.shelf, case.name, &request);
    let is_good = report
        .as_ref()
        .is_ok_and(|report| report.is_good(Level::Readable));
    // The system's refusal is nothing that verify could know.
    if !matches!(refusal, Some(SnapshotError::Use { .. })) {
        assert_eq!(is_good, refusal.is_none(), "{report:?}, {refusal:?}");
    }
}

/// The target, two directories deep, with something beside it at every level.
struct Scene {
    folder: tempfile::TempDir,
}

/// Path, mode, time and content.
type Seen = Vec<(PathBuf, u32, i64, i64, Vec<u8>)>;

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("above/target")).unwrap();
        for canary in ["canary", "above/canary"] {
            let canary = folder.path().join(canary);
            fs::write(&canary, "tweet").unwrap();
            fs::set_permissions(&canary, fs::Permissions::from_mode(0o640)).unwrap();
        }
        Self { folder }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("above/target")
    }

    /// Everything but what is in the target.
    fn outside(&self) -> Seen {
        let target = self.target();
        let mut seen = Vec::new();
        let mut pending = vec![self.folder.path().to_owned()];
        while let Some(path) = pending.pop() {
            let meta = path.symlink_metadata().unwrap();
            if path == target {
                assert!(meta.is_dir(), "the target isn't what it was");
                continue;
            }
            let content = if meta.is_dir() {
                pending.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            seen.push((path, meta.mode(), meta.mtime(), meta.mtime_nsec(), content));
        }
        seen.sort();
        seen
    }
}

/// What lies in the target.
struct Found {
    entries: BTreeMap<Vec<u8>, Thing>,
    files: u64,
    bytes: u64,
}

/// One thing that lies there.
enum Thing {
    File(u64, Digest),
    Directory,
    Symlink(Vec<u8>),
}

impl Found {
    fn of(target: &Path) -> Self {
        let mut found = Self {
            entries: BTreeMap::new(),
            files: 0,
            bytes: 0,
        };
        let mut pending = vec![target.to_owned()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let meta = path.symlink_metadata().unwrap();
                let seed = if meta.is_symlink() {
                    Thing::Symlink(fs::read_link(&path).unwrap().as_os_str().as_bytes().into())
                } else {
                    assert_eq!(
                        meta.mode() & 0o7000,
                        0,
                        "{} has special bits",
                        path.display()
                    );
                    if meta.is_dir() {
                        pending.push(path.clone());
                        Thing::Directory
                    } else {
                        assert!(meta.is_file(), "{} is a device", path.display());
                        assert_eq!(meta.nlink(), 1, "{} is a hard link", path.display());
                        found.files += 1;
                        found.bytes += meta.len();
                        Thing::File(meta.len(), Digest::of(&fs::read(&path).unwrap()))
                    }
                };
                let below = path.strip_prefix(target).unwrap();
                found
                    .entries
                    .insert(below.as_os_str().as_bytes().to_vec(), seed);
            }
        }
        found
    }

    fn is_what_the_manifest_says(&self, chain: &Chain, wanted: &dyn Fn(&RelativePath) -> bool) {
        let mut said = 0;
        chain
            .entries(&mut |entry| {
                if wanted(&entry.path) {
                    said += 1;
                    self.has(entry);
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(said, self.entries.len(), "nothing else lies there");
    }

    fn has(&self, entry: &Entry) {
        let is_there = match (self.entries.get(entry.path.as_bytes()), &entry.content) {
            (Some(Thing::File(length, digest)), Content::File { size, sha256, .. }) => {
                (length, digest) == (size, sha256)
            }
            (Some(Thing::Directory), Content::Directory { .. }) => true,
            (Some(Thing::Symlink(found)), Content::Symlink { target, .. }) => {
                let Target(said) = target;
                found == said
            }
            _ => false,
        };
        assert!(is_there, "{entry:?}");
    }
}
