//! What a worker does with a member: unpack it, read its tar entries strictly, check every hash, write what is wanted.
//!
//! In come packed members with what the manifest says about them; out go files below the target and faults. Members
//! of one large file are unpacked by several workers at once and brought back in order.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::tree::{Cursor, Tree, Writer};
use crate::archive::digest::Digest;
use crate::archive::manifest::{Content, Entry, Place};
use crate::archive::member::{MemberError, Unpacker};
use crate::archive::path::RelativePath;
use crate::archive::reader::Archive;
use crate::archive::tar_entry::{BLOCK, Kind, TarEntry, padded};
use crate::progress::Progress;
use crate::snapshot::SnapshotError;

/// Most faults that are kept.
const MAX_FAULTS: usize = 100;
/// Most attempts that were stored again later, and their paths' bytes.
const MAX_ATTEMPTS: usize = 1 << 16;
const MAX_ATTEMPT_BYTES: usize = 8 << 20;
/// Buffers that wait to be used again.
const MAX_IDLE: usize = 8;

/// What is wrong, as found by several threads.
pub(crate) struct Faults {
    keeps_going: bool,
    stopped: AtomicBool,
    found: Mutex<Vec<SnapshotError>>,
}

impl Faults {
    /// `keeps_going` looks for all that is wrong; else the first fault ends everything.
    pub fn new(keeps_going: bool) -> Self {
        Self {
            keeps_going,
            stopped: AtomicBool::new(false),
            found: Mutex::new(Vec::new()),
        }
    }

    /// Takes a fault.
    pub fn report(&self, fault: SnapshotError) {
        let mut found = lock(&self.found);
        if found.len() < MAX_FAULTS {
            found.push(fault);
        }
        if !self.keeps_going || found.len() >= MAX_FAULTS {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there is nothing more to do.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// All that was found.
    pub fn into_found(self) -> Vec<SnapshotError> {
        self.found
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its header must agree with the manifest.
    Compare,
    /// Its data is hashed too.
    Hash,
    /// Its data is written too.
    Write,
    /// It is `backup.json` or the manifest, whose size and hash are known.
    Frame,
}

/// What the manifest says about a place in a member.
#[derive(Debug)]
pub(crate) struct Expected {
    pub skip: u32,
    pub role: Role,
    pub entry: Entry,
}

/// A member for a worker.
pub(crate) enum Job {
    /// One that stands alone.
    Whole {
        packed: Vec<u8>,
        offset: u64,
        expected: Vec<Expected>,
        /// Whether it is the archive's last; `None` if that isn't known.
        is_last: Option<bool>,
    },
    /// One of a large file's.
    Part {
        packed: Vec<u8>,
        offset: u64,
        large: Arc<Large>,
        index: u64,
        /// Whether the file ends in it.
        is_end: bool,
    },
}

/// A file of several members.
pub(crate) struct Large {
    expected: Option<Expected>,
    /// Whether it is the archive's last entry.
    is_manifest: bool,
    offset: u64,
    order: Mutex<PartOrder>,
}

#[derive(Default)]
struct PartOrder {
    next: u64,
    waiting: BTreeMap<u64, Unpacked>,
    /// Taken by the worker that goes on with the file.
    state: Option<State>,
    is_taken: bool,
}

struct Unpacked {
    raw: Option<Vec<u8>>,
    is_end: bool,
    cost: usize,
}

/// How far a large file is.
struct State {
    left: u64,
    padding: u64,
    hasher: Option<Sha256>,
    writer: Option<Writer>,
    is_broken: bool,
}

impl Large {
    pub fn new(expected: Option<Expected>, is_manifest: bool, offset: u64) -> Self {
        Self {
            expected,
            is_manifest,
            offset,
            order: Mutex::new(PartOrder::default()),
        }
    }
}

impl Large {
    /// What the manifest calls it.
    pub fn path(&self) -> Option<&RelativePath> {
        self.expected.as_ref().map(|named| &named.entry.path)
    }
}

/// What all workers of a run share.
pub(crate) struct Shared<'run> {
    pub archive: &'run Archive,
    pub tree: Option<&'run Tree>,
    pub faults: &'run Faults,
    pub progress: &'run dyn Progress,
    pub files: AtomicU64,
    pub bytes: AtomicU64,
    attempts: Mutex<(Vec<(RelativePath, Place)>, usize)>,
    idle: Mutex<Vec<Vec<u8>>>,
}

impl<'run> Shared<'run> {
    pub fn new(
        archive: &'run Archive,
        tree: Option<&'run Tree>,
        faults: &'run Faults,
        progress: &'run dyn Progress,
    ) -> Self {
        Self {
            archive,
            tree,
            faults,
            progress,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            attempts: Mutex::new((Vec::new(), 0)),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// An empty buffer.
    pub fn buffer(&self) -> Vec<u8> {
        lock(&self.idle).pop().unwrap_or_default()
    }

    fn recycle(&self, buffer: Vec<u8>) {
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_IDLE {
            idle.push(buffer);
        }
    }

    /// Entries that the manifest doesn't name where they lie, sorted by path.
    pub fn into_attempts(self) -> Vec<(RelativePath, Place)> {
        let (mut attempts, _) = self
            .attempts
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        attempts.sort();
        attempts
    }

    fn attempt(&self, entry: TarEntry, place: Place) -> Result<(), SnapshotError> {
        let mut attempts = lock(&self.attempts);
        attempts.1 += entry.path.as_bytes().len();
        if attempts.0.len() >= MAX_ATTEMPTS || attempts.1 > MAX_ATTEMPT_BYTES {
            return Err(self
                .archive
                .hostile("it has more entries that its manifest doesn't name than any backup"));
        }
        attempts.0.push((entry.path, place));
        Ok(())
    }

    fn done(&self, entry: &Entry) {
        if let Content::File { size, .. } = entry.content {
            self.files.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(size, Ordering::Relaxed);
            self.progress.advance(1, size);
        }
    }

    fn about(&self, entry: &Entry, reason: &str) -> SnapshotError {
        self.archive.damaged(format!("{}: {reason}", entry.path))
    }
}

/// One thread's tools.
pub(crate) struct Worker<'run> {
    shared: &'run Shared<'run>,
    unpacker: Unpacker,
    cursor: Option<Cursor<'run>>,
}

impl<'run> Worker<'run> {
    pub fn new(shared: &'run Shared<'run>) -> Self {
        Self {
            shared,
            unpacker: Unpacker::default(),
            cursor: shared.tree.map(Cursor::new),
        }
    }

    /// Does a job and says how much of the queue's budget is free again.
    pub fn run(&mut self, job: Job, cost: usize) -> usize {
        let shared = self.shared;
        match job {
            Job::Whole {
                packed,
                offset,
                expected,
                is_last,
            } => {
                if !shared.faults.is_stopped()
                    && let Err(fault) = self.whole(&packed, offset, &expected, is_last)
                {
                    shared.faults.report(fault);
                }
                shared.recycle(packed);
                cost
            }
            Job::Part {
                packed,
                offset,
                large,
                index,
                is_end,
            } => {
                let mut raw = shared.buffer();
                let unpacked = if shared.faults.is_stopped() {
                    None
                } else {
                    match self.unpacker.unpack(&packed, &mut raw) {
                        Ok(_) => Some(raw),
                        Err(error) => {
                            shared.faults.report(member_fault(
                                shared,
                                offset,
                                large.expected.as_ref(),
                                error,
                            ));
                            None
                        }
                    }
                };
                shared.recycle(packed);
                self.part(
                    &large,
                    index,
                    Unpacked {
                        raw: unpacked,
                        is_end,
                        cost,
                    },
                )
            }
        }
    }

    fn whole(
        &mut self,
        packed: &[u8],
        offset: u64,
        expected: &[Expected],
        is_last: Option<bool>,
    ) -> Result<(), SnapshotError> {
        let shared = self.shared;
        let mut raw = shared.buffer();
        if let Err(error) = self.unpacker.unpack(packed, &mut raw) {
            // Every entry in it is lost: each is named.
            let (first, rest) = expected.split_first().unzip();
            for other in rest.unwrap_or_default() {
                shared
                    .faults
                    .report(member_fault(shared, offset, Some(other), error));
            }
            return Err(member_fault(shared, offset, first, error));
        }
        let read = self.entries(&raw, offset, expected, is_last);
        shared.recycle(raw);
        read
    }

    fn entries(
        &mut self,
        raw: &[u8],
        offset: u64,
        expected: &[Expected],
        is_last: Option<bool>,
    ) -> Result<(), SnapshotError> {
        let shared = self.shared;
        let archive = shared.archive;
        let manifest = archive.trailer().manifest;
        let mut expected = expected.iter().peekable();
        let mut at = 0;
        let mut has_manifest = false;
        while at < raw.len() && !has_manifest {
            let skip = at as u32;
            let entry = TarEntry::read(&raw[at..]).map_err(|error| archive.hostile(error))?;
            let start = at + entry.header_length;
            let end = padded(entry.size)
                .and_then(|length| usize::try_from(length).ok())
                .and_then(|length| start.checked_add(length))
                .filter(|end| *end <= raw.len())
                .ok_or_else(|| {
                    archive.hostile(format!("{}: it reaches beyond its member", entry.path))
                })?;
            let (data, padding) = raw[start..end].split_at(entry.size as usize);
            if !is_zero(padding) {
                return Err(archive.hostile(format!("{}: data is hidden after it", entry.path)));
            }
            has_manifest = manifest.member == offset && manifest.skip == skip;
            if let Some(named) = expected.next_if(|named| named.skip == skip) {
                if let Err(fault) = self.small(named, &entry, data) {
                    shared.faults.report(fault);
                    if shared.faults.is_stopped() {
                        return Ok(());
                    }
                }
            } else {
                shared.attempt(
                    entry,
                    Place {
                        member: offset,
                        skip,
                    },
                )?;
            }
            at = end;
        }
        if let Some(missing) = expected.next() {
            return Err(archive.hostile(format!(
                "{}: the manifest points to where no entry begins",
                missing.entry.path
            )));
        }
        if has_manifest {
            check_end(archive, &raw[at..])?;
        }
        if is_last.is_some_and(|is_last| is_last != has_manifest) {
            return Err(archive.hostile("its manifest isn't the last entry"));
        }
        Ok(())
    }

    fn small(
        &mut self,
        named: &Expected,
        found: &TarEntry,
        data: &[u8],
    ) -> Result<(), SnapshotError> {
        let shared = self.shared;
        let entry = &named.entry;
        agree(shared.archive, named, found)?;
        let (
            Content::File {
                sha256, attributes, ..
            },
            true,
        ) = (&entry.content, named.role != Role::Compare)
        else {
            return Ok(());
        };
        if Digest::of(data) != *sha256 {
            return Err(shared.about(entry, "its content has another SHA-256 than it had"));
        }
        if named.role == Role::Write
            && let Some(cursor) = &mut self.cursor
        {
            let write = |cursor: &mut Cursor<'_>| -> io::Result<()> {
                let mut writer = cursor.create(&entry.path)?;
                writer.write(data)?;
                writer.finish(attributes)
            };
            write(cursor).map_err(|source| unwritten(entry, source))?;
        }
        if named.role != Role::Frame {
            shared.done(entry);
        }
        Ok(())
    }

    /// Brings an unpacked part to its file, and those that waited for it; another worker may do so in our place.
    fn part(&mut self, large: &Large, index: u64, part: Unpacked) -> usize {
        let mut order = lock(&large.order);
        order.waiting.insert(index, part);
        if order.is_taken {
            return 0;
        }
        order.is_taken = true;
        let mut free = 0;
        loop {
            let next = order.next;
            let Some(part) = order.waiting.remove(&next) else {
                order.is_taken = false;
                return free;
            };
            let state = order.state.take();
            drop(order);
            free += part.cost;
            let state = self.advance(large, state, part);
            order = lock(&large.order);
            order.state = Some(state);
            order.next = next + 1;
        }
    }

    fn advance(&mut self, large: &Large, state: Option<State>, part: Unpacked) -> State {
        let shared = self.shared;
        let broken = State {
            left: 0,
            padding: 0,
            hasher: None,
            writer: None,
            is_broken: true,
        };
        let Some(raw) = part.raw else {
            return broken;
        };
        let advanced = match state {
            Some(state) if state.is_broken => return broken,
            Some(state) => self.feed(large, state, &raw, part.is_end),
            None => self
                .begin(large, &raw)
                .and_then(|(state, start)| self.feed(large, state, &raw[start..], part.is_end)),
        };
        shared.recycle(raw);
        advanced.unwrap_or_else(|fault| {
            shared.faults.report(fault);
            broken
        })
    }

    /// Reads a large file's header.
    fn begin(&mut self, large: &Large, raw: &[u8]) -> Result<(State, usize), SnapshotError> {
        let archive = self.shared.archive;
        let found = TarEntry::read(raw).map_err(|error| archive.hostile(error))?;
        if found.kind != Kind::File {
            return Err(archive.hostile(format!(
                "{}: only a file can have several members",
                found.path
            )));
        }
        let start = found.header_length;
        let size = found.size;
        let padding = padded(size)
            .ok_or_else(|| archive.hostile(format!("{}: its size is absurd", found.path)))?
            - size;
        let mut state = State {
            left: size,
            padding,
            hasher: None,
            writer: None,
            is_broken: false,
        };
        match &large.expected {
            None => self.shared.attempt(
                found,
                Place {
                    member: large.offset,
                    skip: 0,
                },
            )?,
            Some(named) => {
                agree(archive, named, &found)?;
                if named.role != Role::Compare {
                    state.hasher = Some(Sha256::new());
                }
                if named.role == Role::Write
                    && let Some(cursor) = &mut self.cursor
                {
                    let writer = cursor
                        .create(&named.entry.path)
                        .map_err(|source| unwritten(&named.entry, source))?;
                    state.writer = Some(writer);
                }
            }
        }
        Ok((state, start))
    }

    fn feed(
        &mut self,
        large: &Large,
        mut state: State,
        raw: &[u8],
        is_end: bool,
    ) -> Result<State, SnapshotError> {
        let archive = self.shared.archive;
        let length = usize::try_from(state.left)
            .unwrap_or(usize::MAX)
            .min(raw.len());
        let (data, rest) = raw.split_at(length);
        state.left -= length as u64;
        if let Some(hasher) = &mut state.hasher {
            hasher.update(data);
        }
        if let (Some(writer), Some(named)) = (&mut state.writer, &large.expected) {
            writer
                .write(data)
                .map_err(|source| unwritten(&named.entry, source))?;
        }
        let path = || {
            large.expected.as_ref().map_or_else(
                || format!("the entry at byte {}", large.offset),
                |named| named.entry.path.to_string(),
            )
        };
        let padding = usize::try_from(state.padding)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        let (padded, rest) = rest.split_at(padding);
        state.padding -= padding as u64;
        if !is_zero(padded) {
            return Err(archive.hostile(format!("{}: data is hidden after it", path())));
        }
        if !is_end {
            let is_over = state.left == 0 && state.padding == 0 && !large.is_manifest;
            if !rest.is_empty() || is_over {
                return Err(archive.hostile(format!("{}: it ends before its last member", path())));
            }
            return Ok(state);
        }
        if state.left > 0 || state.padding > 0 {
            return Err(archive.hostile(format!("{}: it is cut off", path())));
        }
        if large.is_manifest {
            check_end(archive, rest)?;
        } else if !rest.is_empty() {
            return Err(archive.hostile(format!("{}: data is hidden after it", path())));
        }
        self.end(large, &mut state)?;
        Ok(state)
    }

    fn end(&self, large: &Large, state: &mut State) -> Result<(), SnapshotError> {
        let Some(Expected { entry, role, .. }) = &large.expected else {
            return Ok(());
        };
        let Content::File {
            sha256, attributes, ..
        } = &entry.content
        else {
            return Ok(());
        };
        if let Some(hasher) = state.hasher.take()
            && Digest::finish(hasher) != *sha256
        {
            return Err(self
                .shared
                .about(entry, "its content has another SHA-256 than it had"));
        }
        if let Some(writer) = state.writer.take() {
            writer
                .finish(attributes)
                .map_err(|source| unwritten(entry, source))?;
        }
        if matches!(role, Role::Hash | Role::Write) {
            self.shared.done(entry);
        }
        Ok(())
    }
}

fn agree(archive: &Archive, named: &Expected, found: &TarEntry) -> Result<(), SnapshotError> {
    let entry = &named.entry;
    if named.role == Role::Frame {
        let is_right = found.path == entry.path
            && found.kind == Kind::File
            && found.size == entry.content.size();
        return if is_right {
            Ok(())
        } else {
            Err(archive.hostile(format!("another entry lies in the place of {}", entry.path)))
        };
    }
    found.agrees(entry).map_err(|error| archive.hostile(error))
}

/// Two blocks of zeros or more end a tar file.
fn check_end(archive: &Archive, rest: &[u8]) -> Result<(), SnapshotError> {
    if rest.len() < 2 * BLOCK || !rest.len().is_multiple_of(BLOCK) || !is_zero(rest) {
        return Err(archive.hostile("something other than the end follows its manifest"));
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn member_fault(
    shared: &Shared<'_>,
    offset: u64,
    named: Option<&Expected>,
    error: MemberError,
) -> SnapshotError {
    let reason = format!("the member at byte {offset}: {error}");
    match named {
        Some(named) => shared.about(&named.entry, &reason),
        None => shared.archive.damaged(reason),
    }
}

fn unwritten(entry: &Entry, source: io::Error) -> SnapshotError {
    SnapshotError::Use {
        path: entry.path.to_string(),
        source,
    }
}
