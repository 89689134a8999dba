//! A backup as a whole: a full archive, or an incremental one with the full one that it is based on.
//!
//! In come a destination and a name; out comes a [`Snapshot`], whose entries are those of two sorted manifests merged
//! while they are read, with deletions applied.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::archive::category::Category;
use crate::archive::digest::Digest;
use crate::archive::header::{Base, Header};
use crate::archive::listing::Listing;
use crate::archive::manifest::{Content, Entry};
use crate::archive::meta::{MAX_META, Meta};
use crate::archive::path::RelativePath;
use crate::archive::reader::Archive;
use crate::decrypt::Identity;
use crate::destination::{Destination, DestinationError};
use crate::extract;
use crate::progress::Progress;
use crate::snapshot::{Extracted, Snapshot, SnapshotError};

/// Most threads that unpack: beyond that memory grows and the disk is the limit.
const MAX_THREADS: usize = 16;

/// An archive with all that it needs to be restored.
#[derive(Debug)]
pub struct Chain {
    own: Link,
    base: Option<Link>,
    folder: Option<PathBuf>,
    /// SHA-256 of each manifest, once it was read: it is read again for each step, and must stay the same.
    manifests: OnceLock<Vec<Digest>>,
    is_pinned: bool,
    threads: usize,
    notes: Vec<String>,
}

/// One archive of a chain.
#[derive(Debug)]
pub(crate) struct Link {
    pub archive: Archive,
    /// SHA-256 that the whole file must have.
    pub expected: Option<Digest>,
}

impl Chain {
    /// Opens the archive `name` and, if it is incremental, its base at the same destination.
    ///
    /// `expected` is the SHA-256 that the run which wrote it reported, or one that a person pinned. Without it that of
    /// the file beside the archive serves, which finds damage but no forgery.
    pub fn open(
        destination: &dyn Destination,
        name: &str,
        identities: &[Identity],
        expected: Option<Digest>,
    ) -> Result<Self, SnapshotError> {
        let mut notes = Vec::new();
        let own = Link::open(destination, name, identities, expected, &mut notes)?;
        let base = match &own.archive.header().base {
            None => None,
            Some(base) => Some(Self::open_base(
                destination,
                &own.archive,
                base,
                identities,
                &mut notes,
            )?),
        };
        Ok(Self {
            own,
            base,
            folder: destination.folder().map(Path::to_owned),
            manifests: OnceLock::new(),
            is_pinned: expected.is_some(),
            threads: thread::available_parallelism()
                .map_or(1, usize::from)
                .min(MAX_THREADS),
            notes,
        })
    }

    fn open_base(
        destination: &dyn Destination,
        own: &Archive,
        base: &Base,
        identities: &[Identity],
        notes: &mut Vec<String>,
    ) -> Result<Link, SnapshotError> {
        let name = base.name.to_string();
        let found = destination.open(&name).map_err(failed)?;
        if found.is_none() {
            return Err(own.damaged(format!("its base {name} isn't at {}", destination.label())));
        }
        let link = Link::open(destination, &name, identities, Some(base.sha256), notes)?;
        let header = link.archive.header();
        if header.id != base.id || header.base.is_some() {
            return Err(own.damaged(format!(
                "its base {name} is another backup than the one it was made from"
            )));
        }
        if header.origin != own.header().origin {
            return Err(own.hostile(format!("its base {name} has another origin")));
        }
        Ok(link)
    }

    /// The same chain, unpacked by so many threads; with 1 everything happens in the caller's, in a fixed order.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.clamp(1, MAX_THREADS);
        self
    }

    /// What the backup is and where it comes from.
    pub fn header(&self) -> &Header {
        self.own.archive.header()
    }

    /// What a person should know, such as that the file beside an archive is missing.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The base, if there is one, then the archive itself.
    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        self.base.iter().chain([&self.own])
    }

    pub(crate) const fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    pub(crate) const fn threads(&self) -> usize {
        self.threads
    }

    /// All lines of all manifests, sorted by path.
    pub(crate) fn merge(&self) -> Result<Merge<'_>, SnapshotError> {
        let base = match &self.base {
            Some(link) => Some(link.archive.listing()?),
            None => None,
        };
        Merge::new(base, self.own.archive.listing()?, self)
    }
}

fn failed(error: DestinationError) -> SnapshotError {
    SnapshotError::Use {
        path: format!("{}: {}", error.destination, error.action),
        source: error.source,
    }
}

impl Link {
    pub fn open(
        destination: &dyn Destination,
        name: &str,
        identities: &[Identity],
        expected: Option<Digest>,
        notes: &mut Vec<String>,
    ) -> Result<Self, SnapshotError> {
        let file = destination
            .open(name)
            .map_err(failed)?
            .ok_or_else(|| SnapshotError::Use {
                path: format!("{}: {name}", destination.label()),
                source: io::Error::new(io::ErrorKind::NotFound, "there is no such backup"),
            })?;
        let archive = Archive::open_shared(name, Arc::from(file), identities)?;
        let beside = match read_meta(destination, name) {
            Ok(meta) => Some(meta.sha256),
            Err(note) => {
                notes.push(note);
                None
            }
        };
        Ok(Self {
            archive,
            expected: expected.or(beside),
        })
    }
}

/// Reads the file beside the archive, or says why there is none that helps.
pub(crate) fn read_meta(destination: &dyn Destination, name: &str) -> Result<Meta, String> {
    let parsed: crate::archive::name::ArchiveName = name
        .parse()
        .map_err(|_| format!("{name} isn't called as backups are, so no file beside it is read"))?;
    let beside = parsed.meta();
    let bytes = destination
        .read(&beside, MAX_META)
        .map_err(|error| format!("{beside} can't be read: {error}"))?
        .ok_or_else(|| {
            format!("{beside} is missing: the archive works without it, but its SHA-256 isn't known from there")
        })?;
    Meta::read(&bytes).map_err(|error| format!("{beside} is damaged and isn't used: {error}"))
}

/// One line of one manifest, in the order of paths.
#[derive(Debug)]
pub(crate) struct Step {
    pub entry: Entry,
    /// Which archive of the chain has the line.
    pub link: usize,
    /// Whether it is part of the state: not superseded and no deletion.
    pub is_current: bool,
}

/// Two sorted manifests as one.
pub(crate) struct Merge<'chain> {
    base: Option<Listing<'chain>>,
    own: Listing<'chain>,
    archive: &'chain Archive,
    manifests: &'chain OnceLock<Vec<Digest>>,
    next_base: Option<Entry>,
    next_own: Option<Entry>,
    own_link: usize,
    /// The last path of the base that was passed.
    passed: Option<RelativePath>,
    /// Directories that the last path lies in.
    above: Vec<RelativePath>,
}

impl<'chain> Merge<'chain> {
    fn new(
        mut base: Option<Listing<'chain>>,
        mut own: Listing<'chain>,
        chain: &'chain Chain,
    ) -> Result<Self, SnapshotError> {
        let next_base = match &mut base {
            Some(listing) => listing.next_entry()?,
            None => None,
        };
        let next_own = own.next_entry()?;
        Ok(Self {
            own_link: usize::from(base.is_some()),
            base,
            own,
            archive: &chain.own.archive,
            manifests: &chain.manifests,
            next_base,
            next_own,
            passed: None,
            above: Vec::new(),
        })
    }

    /// The next line; a superseded one of the base comes before what supersedes it.
    pub fn next_step(&mut self) -> Result<Option<Step>, SnapshotError> {
        let is_base = match (&self.next_base, &self.next_own) {
            (None, None) => {
                self.check_manifests()?;
                return Ok(None);
            }
            (Some(_), None) => true,
            (None, Some(own)) => {
                self.check_deletion(own)?;
                false
            }
            (Some(base), Some(own)) => {
                if own.path < base.path {
                    self.check_deletion(own)?;
                }
                base.path <= own.path
            }
        };
        let step = if is_base {
            let next = match &mut self.base {
                Some(listing) => listing.next_entry()?,
                None => None,
            };
            let entry = std::mem::replace(&mut self.next_base, next);
            self.passed = entry.as_ref().map(|entry| entry.path.clone());
            let is_current = match (&entry, &self.next_own) {
                (Some(entry), Some(own)) => entry.path != own.path,
                _ => true,
            };
            entry.map(|entry| (entry, 0, is_current))
        } else {
            let next = self.own.next_entry()?;
            let entry = std::mem::replace(&mut self.next_own, next);
            entry.map(|entry| {
                let is_current = entry.content != Content::Deleted;
                (entry, self.own_link, is_current)
            })
        };
        let Some((entry, link, is_current)) = step else {
            return Ok(None);
        };
        if is_current {
            self.check_parent(&entry)?;
        }
        Ok(Some(Step {
            entry,
            link,
            is_current,
        }))
    }

    /// SHA-256 of the manifests that were read to the end, in the order of the links.
    pub fn digests(&self) -> Vec<Digest> {
        let base = self.base.iter().map(Listing::digest);
        base.chain([self.own.digest()]).collect()
    }

    /// Someone who writes to the destination may exchange the archive between two reads.
    fn check_manifests(&self) -> Result<(), SnapshotError> {
        let found = self.digests();
        if *self.manifests.get_or_init(|| found.clone()) == found {
            Ok(())
        } else {
            let reason = "its manifest changed while it was read".to_owned();
            Err(self.archive.damaged(reason))
        }
    }

    /// A deletion is written for what the base has; one of nothing means that this isn't the base.
    fn check_deletion(&self, own: &Entry) -> Result<(), SnapshotError> {
        if own.content == Content::Deleted && self.passed.as_ref() != Some(&own.path) {
            return Err(self.archive.hostile(format!(
                "{}: the manifest deletes what its base doesn't have",
                own.path
            )));
        }
        Ok(())
    }

    /// Everything lies in a directory that the state has.
    fn check_parent(&mut self, entry: &Entry) -> Result<(), SnapshotError> {
        while self
            .above
            .pop_if(|above| !entry.path.is_within(above.as_bytes()))
            .is_some()
        {}
        if entry.path.parent().as_ref() != self.above.last() {
            return Err(self.archive.hostile(format!(
                "{}: the manifest doesn't have the directory that it lies in",
                entry.path
            )));
        }
        if let Content::Directory { .. } = entry.content {
            self.above.push(entry.path.clone());
        }
        Ok(())
    }
}

impl Snapshot for Chain {
    fn include(&self) -> &[Category] {
        &self.header().include
    }

    fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn entries(&self, each: &mut dyn FnMut(&Entry) -> io::Result<()>) -> Result<(), SnapshotError> {
        let mut merge = self.merge()?;
        while let Some(step) = merge.next_step()? {
            if step.is_current {
                each(&step.entry).map_err(|source| SnapshotError::Use {
                    path: step.entry.path.to_string(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    fn extract(
        &self,
        wanted: &(dyn Fn(&RelativePath) -> bool + Sync),
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<Extracted, SnapshotError> {
        extract::extract(self, wanted, target, progress)
    }
}
