//! `backups/.index/`: what the volume remembers of its backups, so that an incremental one needs no archive.
//!
//! In comes what a run made, out come the bases and their manifests. Files appear whole or not at all.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::report::{BackupError, DestinationReport, Report};
use crate::archive::category::Category;
use crate::archive::header::{Kind, Origin};
use crate::archive::manifest::{Content, Entry, MAX_LINE};
use crate::archive::member::{HEADER_LENGTH, MemberHeader, Unpacker};
use crate::archive::meta::{MAX_META, Meta};
use crate::atomic;
use crate::known::{self, Known};
use crate::layout::Layout;

/// Lines that `known.jsonl` keeps, the newest.
const MAX_KNOWN: usize = 10_000;
/// Most files of the index that are looked at.
const MAX_FILES: usize = 100_000;
/// Backups of one origin that are remembered in any case.
const MAX_KEPT: usize = 50;
/// How names of manifests end.
const MANIFEST: &str = ".manifest.gz";

/// The directory.
pub struct Index {
    directory: PathBuf,
}

impl Index {
    /// Makes the directory where it is missing.
    pub fn open(layout: &Layout) -> io::Result<Self> {
        atomic::create_directory(&layout.join("backups"))?;
        let directory = layout.index();
        atomic::create_directory(&directory)?;
        Ok(Self { directory })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file that keeps two backups apart.
    pub fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Removes what a killed run left; only for the holder of the [`lock`](Self::lock).
    pub fn sweep(&self) -> io::Result<()> {
        for found in fs::read_dir(&self.directory)?.take(MAX_FILES) {
            let name = found?.file_name();
            let is_left = name
                .to_str()
                .is_some_and(|name| atomic::is_unfinished(name) && name.contains(MANIFEST));
            if is_left {
                fs::remove_file(self.directory.join(name))?;
            }
        }
        Ok(())
    }

    /// The backups of an origin, newest first. A file that can't be read counts as absent.
    pub fn metas(&self, origin: &Origin) -> io::Result<Vec<Meta>> {
        let mut metas = self.all()?;
        metas.retain(|meta| meta.origin == *origin);
        Ok(metas)
    }

    /// The backups of all origins, newest first.
    fn all(&self) -> io::Result<Vec<Meta>> {
        let mut metas = Vec::new();
        for found in fs::read_dir(&self.directory)?.take(MAX_FILES) {
            let name = found?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(id) = stem.and_then(|stem| stem.parse::<Uuid>().ok()) else {
                continue;
            };
            let mut text = Vec::new();
            let read = File::open(self.directory.join(name))
                .and_then(|file| file.take(MAX_META as u64).read_to_end(&mut text));
            if read.is_ok()
                && let Ok(meta) = serde_json::from_slice::<Meta>(&text)
                && meta.id == id
            {
                metas.push(meta);
            }
        }
        metas.sort_by_key(|meta| std::cmp::Reverse((meta.name.time(), meta.id)));
        Ok(metas)
    }

    fn manifest_path(&self, id: Uuid) -> PathBuf {
        self.directory.join(format!("{id}{MANIFEST}"))
    }

    /// The manifest of a full backup, to be read from its beginning.
    pub fn manifest(&self, base: &Meta) -> io::Result<Lines<BufReader<File>>> {
        let file = File::open(self.manifest_path(base.id))?;
        Ok(Lines::new(BufReader::new(file), base.stored_files))
    }

    /// Keeps a backup, and its manifest if it is a full one.
    pub fn record(&self, meta: &Meta, manifest: Option<&[Arc<[u8]>]>) -> io::Result<()> {
        if let Some(members) = manifest {
            self.write_manifest(meta.id, members)?;
        }
        let text = serde_json::to_vec(meta).map_err(io::Error::other)?;
        // Last: whoever finds it finds the manifest.
        atomic::write_durable(&self.directory.join(format!("{}.json", meta.id)), &text)
    }

    /// Removes what no later run needs; only for the holder of the [`lock`](Self::lock). `measures` are the guard's.
    ///
    /// Of each origin the newest [`MAX_KEPT`] stay. However old they are, so do the newest full one of the same parts,
    /// which alone has a manifest, because an incremental backup has no other base, and the guard's measure of each
    /// part.
    pub fn prune(&self, measures: &[Uuid], now: Timestamp) -> io::Result<()> {
        let mut origins: Vec<(Origin, Needed)> = Vec::new();
        let (mut kept, mut bases) = (HashSet::new(), HashSet::new());
        let mut gone = Vec::new();
        for meta in self.all()? {
            let known = origins
                .iter()
                .position(|(origin, _)| *origin == meta.origin);
            let at = known.unwrap_or_else(|| {
                origins.push((meta.origin.clone(), Needed::default()));
                origins.len() - 1
            });
            let needed = &mut origins[at].1;
            let is_base = needed.is_base(&meta, now);
            if needed.is_kept(&meta, now) || is_base || measures.contains(&meta.id) {
                kept.insert(meta.id);
            } else {
                gone.push(meta.id);
            }
            if is_base {
                bases.insert(meta.id);
            }
        }
        for found in fs::read_dir(&self.directory)?.take(MAX_FILES) {
            let name = found?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(MANIFEST));
            if let Some(id) = stem.and_then(|stem| stem.parse::<Uuid>().ok())
                && !bases.contains(&id)
            {
                fs::remove_file(self.manifest_path(id))?;
            }
        }
        for id in gone {
            fs::remove_file(self.directory.join(format!("{id}.json")))?;
        }
        Ok(())
    }

    fn write_manifest(&self, id: Uuid, members: &[Arc<[u8]>]) -> io::Result<()> {
        let partial = self.directory.join(format!(".{id}{MANIFEST}.partial"));
        let write = || {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(atomic::FILE_MODE)
                .open(&partial)?;
            file.set_permissions(fs::Permissions::from_mode(atomic::FILE_MODE))?;
            members
                .iter()
                .try_for_each(|member| file.write_all(member))?;
            file.sync_all()?;
            fs::rename(&partial, self.manifest_path(id))?;
            File::open(&self.directory)?.sync_all()
        };
        let written = write();
        if written.is_err() {
            // The first error is what has to be known.
            let _ = fs::remove_file(&partial);
        }
        written
    }

    /// Writes down what an archive is, so that a restore takes it by itself.
    pub fn attest(&self, meta: &Meta) -> io::Result<()> {
        let path = self.directory.join("known.jsonl");
        let line = known::Line {
            id: meta.id,
            name: meta.name,
            sha256: meta.sha256,
        };
        known::append(&path, &line).map_err(io::Error::other)?;
        let all = Known::read(&path).map_err(io::Error::other)?;
        let surplus = all.lines().len().saturating_sub(MAX_KNOWN);
        if surplus > 0 {
            let oldest: HashSet<Uuid> = all.lines()[..surplus].iter().map(|line| line.id).collect();
            known::prune(&path, |line| !oldest.contains(&line.id)).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// What of one origin's backups is needed, the newest seen first.
#[derive(Default)]
struct Needed {
    count: usize,
    /// Parts of which there is a base.
    based: BTreeSet<BTreeSet<Category>>,
    /// Parts of which there is a measure.
    measured: BTreeSet<Category>,
}

impl Needed {
    fn is_kept(&mut self, meta: &Meta, now: Timestamp) -> bool {
        // One of the future is newer than nothing, and takes no other's place.
        if meta.name.is_future(now) {
            return true;
        }
        self.count += 1;
        let mut is_measure = false;
        if !meta.is_suspect() {
            for part in &meta.include {
                is_measure |= self.measured.insert(*part);
            }
        }
        is_measure || self.count <= MAX_KEPT
    }

    fn is_base(&mut self, meta: &Meta, now: Timestamp) -> bool {
        meta.kind == Kind::Full
            && !meta.name.is_future(now)
            && self.based.insert(meta.include.iter().copied().collect())
    }
}

/// Reads a manifest's members line by line; memory is that of one member.
pub struct Lines<R> {
    source: R,
    unpacker: Unpacker,
    member: Vec<u8>,
    raw: Vec<u8>,
    next: usize,
    /// Files that are still to come.
    files: u64,
    is_done: bool,
}

impl<R: Read> Lines<R> {
    /// A reader that expects so many files.
    pub fn new(source: R, files: u64) -> Self {
        Self {
            source,
            unpacker: Unpacker::default(),
            member: Vec::new(),
            raw: Vec::new(),
            next: 0,
            files,
            is_done: false,
        }
    }

    /// Whether there was another member.
    fn fill(&mut self) -> Result<bool, String> {
        let mut header = [0; HEADER_LENGTH];
        let mut filled = 0;
        while filled < HEADER_LENGTH {
            match self.source.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err("it is cut off".to_owned()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let length = MemberHeader::read(&header).map_err(|error| error.to_string())?;
        self.member.clear();
        self.member.extend(header);
        self.member.resize(length.length as usize, 0);
        self.source
            .read_exact(&mut self.member[HEADER_LENGTH..])
            .map_err(|error| error.to_string())?;
        // What is left over of the member before belongs to the next line.
        let rest = self.raw.split_off(self.next);
        self.next = 0;
        self.unpacker
            .unpack(&self.member, &mut self.raw)
            .map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            if rest.len() > MAX_LINE {
                return Err("a line is too long".to_owned());
            }
            self.raw.splice(..0, rest);
        }
        Ok(true)
    }

    fn line(&mut self) -> Result<Option<Entry>, String> {
        loop {
            let rest = &self.raw[self.next..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let entry: Entry =
                    serde_json::from_slice(&rest[..length]).map_err(|error| error.to_string())?;
                self.next += length + 1;
                if matches!(entry.content, Content::File { .. }) {
                    self.files = self.files.checked_sub(1).ok_or("it has too many files")?;
                }
                return Ok(Some(entry));
            }
            if !self.fill()? {
                return if self.files == 0 && self.next == self.raw.len() {
                    Ok(None)
                } else {
                    Err("it is cut off".to_owned())
                };
            }
        }
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Result<Entry, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let line = self.line().transpose();
        self.is_done = !matches!(line, Some(Ok(_)));
        line
    }
}

/// The log of all runs, relative to the root.
pub const LOG: &str = "backups/backup_schedule.log";

/// Appends a line about a run.
pub fn log(
    layout: &Layout,
    now: Timestamp,
    result: &Result<Report, BackupError>,
) -> io::Result<()> {
    let mut line = match result {
        Ok(report) => {
            let fate = |one: &DestinationReport| match &one.error {
                None => format!("{}: stored", one.destination),
                Some(error) => format!("failed: {error}"),
            };
            let fates: Vec<_> = report.destinations.iter().map(fate).collect();
            format!(
                "{now} {} {} files={} bytes={} size={} result={} {}",
                report.name,
                match report.kind {
                    Kind::Full => "full",
                    Kind::Incremental => "incremental",
                },
                report.files,
                report.bytes,
                report.archive_bytes,
                if !report.suspect.is_empty() {
                    "suspect"
                } else if report.warnings.is_empty() {
                    "ok"
                } else {
                    "warnings"
                },
                fates.join("; ")
            )
        }
        Err(error) => format!("{now} - result=failed {error}"),
    };
    // One run, one line, whatever a system's message has in it.
    line.retain(|character| !character.is_control());
    line.push('\n');
    let mut file = File::options()
        .append(true)
        .create(true)
        .mode(atomic::FILE_MODE)
        .open(layout.join(LOG))?;
    file.write_all(line.as_bytes())
}
