//! One run over an archive: its members are read once, in order, and handed to workers with what the manifest says.
//!
//! In comes an open archive and what is wanted of it; out come files below a target and faults. A run over the whole
//! archive hashes the very bytes that it unpacks, so nobody can change them in between.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use sha2::{Digest as _, Sha256};

use super::places::ByPlace;
use super::queue::{Closing, Queue};
use super::tree::Tree;
use super::work::{Expected, Faults, Job, Large, Role, Shared, Worker};
use crate::archive::digest::Digest;
use crate::archive::header::HEADER_PATH;
use crate::archive::manifest::{Attributes, Content, Entry, MANIFEST_PATH, Place, Time};
use crate::archive::member::{HEADER_LENGTH, MAX_RAW, MemberHeader, TRAILER_LENGTH, Trailer};
use crate::archive::path::RelativePath;
use crate::archive::reader::Archive;
use crate::archive::tar_entry::BLOCK;
use crate::chain::{Chain, Step};
use crate::decrypt::Sequential;
use crate::progress::Progress;
use crate::snapshot::{Extracted, SnapshotError};

/// Bytes of packed and unpacked members that are under way at once.
const BUDGET: usize = 8 << 20;

/// What a run is for.
#[derive(Clone, Copy)]
pub(crate) enum Purpose<'run> {
    /// Every file's hash.
    Check,
    /// What is wanted is written into the tree.
    Extract {
        tree: &'run Tree,
        wanted: &'run (dyn Fn(&RelativePath) -> bool + Sync),
        /// Whether all of the state is wanted: then every member is looked at.
        is_everything: bool,
    },
}

/// A run over one archive of a chain.
pub(crate) struct Pass<'run> {
    pub chain: &'run Chain,
    /// Which archive.
    pub link: usize,
    pub archive: &'run Archive,
    /// SHA-256 that the whole file must have.
    pub expected: Option<Digest>,
    /// Places of entries out of order.
    pub late: BTreeSet<Place>,
    /// Of the manifest as it was first read.
    pub manifest: Digest,
    pub purpose: Purpose<'run>,
    /// Whether every byte is read and hashed; else only the members that are needed.
    pub is_whole: bool,
    pub threads: usize,
    pub faults: &'run Faults,
    pub progress: &'run dyn Progress,
}

/// What a run found, besides faults.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub files: Extracted,
    /// Of the file, encryption included; only of a whole run that got to the end.
    pub sha256: Option<Digest>,
}

impl<'run> Pass<'run> {
    /// Does it. Faults are in [`Faults`].
    pub fn run(self) -> Done {
        let tree = match self.purpose {
            Purpose::Extract { tree, .. } => Some(tree),
            Purpose::Check => None,
        };
        let shared = Shared::new(self.archive, tree, self.faults, self.progress);
        let result = if self.threads <= 1 {
            let mut worker = Worker::new(&shared);
            self.dispatch(&shared, &mut |job, cost| {
                worker.run(job, cost);
            })
        } else {
            let queue = Queue::new(BUDGET);
            thread::scope(|scope| {
                for _ in 0..self.threads {
                    scope.spawn(|| {
                        // A worker that panics must not leave the others waiting.
                        let _closing = Closing(&queue);
                        let mut worker = Worker::new(&shared);
                        while let Some((job, cost)) = queue.pop() {
                            queue.free(worker.run(job, cost));
                        }
                    });
                }
                let _closing = Closing(&queue);
                self.dispatch(&shared, &mut |job, cost| queue.push((job, cost), cost))
            })
        };
        let sha256 = result.unwrap_or_else(|fault| {
            self.faults.report(fault);
            None
        });
        let files = Extracted {
            files: shared.files.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
        };
        if let Err(fault) = check_attempts(self.archive, &shared.into_attempts()) {
            self.faults.report(fault);
        }
        Done { files, sha256 }
    }

    fn dispatch(
        &self,
        shared: &Shared<'run>,
        submit: &mut dyn FnMut(Job, usize),
    ) -> Result<Option<Digest>, SnapshotError> {
        let merge = self.chain.merge()?;
        let entries = ByPlace::new(self.archive, merge, self.link, self.late.clone())?;
        let mut dispatcher = Dispatcher {
            pass: self,
            shared,
            entries,
            has_header: false,
            has_manifest: false,
            held: Held::Nothing,
            submit,
        };
        if self.is_whole {
            dispatcher.whole().map(Some)
        } else {
            dispatcher.selected().map(|()| None)
        }
    }
}

/// The last member that was read: whether it ends its entry is known when the next one was seen.
enum Held {
    Nothing,
    /// Members that nobody needs.
    Unneeded,
    Whole(Member, Vec<Expected>),
    Part(Member, Arc<Large>, u64),
}

struct Member {
    offset: u64,
    header: MemberHeader,
    packed: Vec<u8>,
}

impl Member {
    fn cost(&self) -> usize {
        self.header.length as usize + self.header.raw as usize
    }
}

struct Dispatcher<'dispatch, 'run> {
    pass: &'dispatch Pass<'run>,
    shared: &'dispatch Shared<'run>,
    entries: ByPlace<'dispatch>,
    has_header: bool,
    has_manifest: bool,
    held: Held,
    submit: &'dispatch mut dyn FnMut(Job, usize),
}

impl Dispatcher<'_, '_> {
    /// Reads every byte; the file's SHA-256, if it got to the end.
    fn whole(&mut self) -> Result<Digest, SnapshotError> {
        let archive = self.pass.archive;
        let faults = self.pass.faults;
        let end = archive.end();
        let mut bytes = Hashing {
            reader: archive.sequential()?,
            hasher: Sha256::new(),
        };
        let mut offset = 0;
        while offset < end && !faults.is_stopped() {
            let mut start = [0; HEADER_LENGTH];
            let length = (end - offset).min(HEADER_LENGTH as u64) as usize;
            bytes.fill(archive, &mut start[..length])?;
            let header = archive.checked_header(&start[..length], offset);
            let result = header.and_then(|header| {
                let mut packed = self.shared.buffer();
                packed.resize(header.length as usize, 0);
                packed[..HEADER_LENGTH].copy_from_slice(&start);
                bytes.fill(archive, &mut packed[HEADER_LENGTH..])?;
                let at = offset;
                offset += u64::from(header.length);
                self.take(Member {
                    offset: at,
                    header,
                    packed,
                })
                .or_else(|fault| {
                    faults.report(fault);
                    Ok(())
                })
            });
            if let Err(fault) = result {
                if let SnapshotError::Use { .. } = fault {
                    return Err(fault);
                }
                // Without its header nobody knows where the next member begins, but the manifest does.
                self.lose(offset, fault)?;
                let next = self.peek().map_or(end, |place| place.member);
                let next = next.clamp(offset + length as u64, end);
                bytes.skip(archive, next - offset - length as u64)?;
                offset = next;
            }
        }
        if faults.is_stopped() {
            return Err(archive.damaged("the run ended at its first fault"));
        }
        self.flush(Some(true));
        if let Some(place) = self.peek() {
            let missing = self.next(place)?;
            faults.report(archive.hostile(format!(
                "{}: the manifest points to where no entry begins",
                missing.entry.path
            )));
        }
        let before = Digest::finish(bytes.hasher.clone());
        let mut last = [0; TRAILER_LENGTH];
        bytes.fill(archive, &mut last)?;
        let read_again = self.entries.digest();
        if Trailer::read(&last) != Ok(*archive.trailer()) || read_again != Some(self.pass.manifest)
        {
            faults.report(archive.damaged("its file was changed while it was read"));
        }
        if before != archive.trailer().sha256 {
            faults.report(archive.damaged(
                "its bytes have another SHA-256 than its end says, so some of them were changed",
            ));
        }
        let plain = Digest::finish(bytes.hasher);
        let found = bytes
            .reader
            .finish()
            .map_err(|error| archive.unread(error))?
            .unwrap_or(plain);
        if let Some(expected) = self.pass.expected
            && expected != found
        {
            faults.report(SnapshotError::Mismatch {
                archive: archive.name().to_owned(),
                found,
                expected,
            });
        }
        Ok(found)
    }

    /// Reads only the members that are needed.
    fn selected(&mut self) -> Result<(), SnapshotError> {
        let archive = self.pass.archive;
        self.has_header = true;
        while let Some(place) = self.peek() {
            if self.pass.faults.is_stopped() || place == archive.trailer().manifest {
                break;
            }
            let offset = place.member;
            let expected = self.collect(offset)?;
            if !self.is_needed(&expected) {
                continue;
            }
            let mut packed = self.shared.buffer();
            let header = archive.member_at(offset, &mut packed)?;
            if header.continues {
                return Err(archive.hostile("its manifest points into the middle of a file"));
            }
            let size = expected
                .first()
                .map_or(0, |first| first.entry.content.size());
            let is_large = size > u64::from(header.raw);
            let mut next = offset + u64::from(header.length);
            self.held = Held::Whole(
                Member {
                    offset,
                    header,
                    packed,
                },
                expected,
            );
            while is_large && next < archive.end() && !self.pass.faults.is_stopped() {
                if !archive.member_header_at(next)?.continues {
                    break;
                }
                let mut packed = self.shared.buffer();
                let header = archive.member_at(next, &mut packed)?;
                if !header.continues {
                    return Err(archive.damaged("its file was changed while it was read"));
                }
                self.take(Member {
                    offset: next,
                    header,
                    packed,
                })?;
                next += u64::from(header.length);
            }
            self.flush(None);
        }
        Ok(())
    }

    /// Takes the next member of the file.
    fn take(&mut self, member: Member) -> Result<(), SnapshotError> {
        let archive = self.pass.archive;
        if !member.header.continues {
            self.flush(Some(false));
            let expected = self.collect(member.offset)?;
            self.held = if self.is_needed(&expected) {
                Held::Whole(member, expected)
            } else {
                Held::Unneeded
            };
            return Ok(());
        }
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Unneeded => {
                self.held = Held::Unneeded;
                Ok(())
            }
            Held::Nothing => Err(archive.hostile("a member continues a file that didn't begin")),
            Held::Whole(first, mut expected) => {
                let named = expected.pop();
                if !expected.is_empty() || named.as_ref().is_some_and(|named| named.skip != 0) {
                    return Err(archive.hostile("a member of several entries is continued"));
                }
                let is_manifest = archive.trailer().manifest.member == first.offset;
                let large = Arc::new(Large::new(named, is_manifest, first.offset));
                self.submit_part(first, Arc::clone(&large), 0, false);
                self.held = Held::Part(member, large, 1);
                Ok(())
            }
            Held::Part(before, large, index) => {
                self.submit_part(before, Arc::clone(&large), index, false);
                self.held = Held::Part(member, large, index + 1);
                Ok(())
            }
        }
    }

    /// Hands on what is held. `is_last` says whether the archive ends here.
    fn flush(&mut self, is_last: Option<bool>) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing | Held::Unneeded => {}
            Held::Whole(member, expected) => {
                let cost = member.cost();
                let job = Job::Whole {
                    packed: member.packed,
                    offset: member.offset,
                    expected,
                    is_last,
                };
                (self.submit)(job, cost);
            }
            Held::Part(member, large, index) => self.submit_part(member, large, index, true),
        }
    }

    fn submit_part(&mut self, member: Member, large: Arc<Large>, index: u64, is_end: bool) {
        let cost = member.cost();
        let job = Job::Part {
            packed: member.packed,
            offset: member.offset,
            large,
            index,
            is_end,
        };
        (self.submit)(job, cost);
    }

    /// Where the next entry lies, `backup.json` and the manifest included.
    fn peek(&self) -> Option<Place> {
        if !self.has_header {
            return Some(Place { member: 0, skip: 0 });
        }
        let manifest = (!self.has_manifest).then(|| self.pass.archive.trailer().manifest);
        self.entries.peek().or(manifest)
    }

    fn next(&mut self, place: Place) -> Result<Expected, SnapshotError> {
        let archive = self.pass.archive;
        if !self.has_header {
            self.has_header = true;
            let (size, digest) = archive.header_content();
            return frame(archive, HEADER_PATH, place, size, digest);
        }
        let Some((place, step)) = self.entries.next_step()? else {
            self.has_manifest = true;
            let size = archive.trailer().manifest_size;
            return frame(archive, MANIFEST_PATH, place, size, self.pass.manifest);
        };
        Ok(Expected {
            skip: place.skip,
            role: self.role(&step),
            entry: step.entry,
        })
    }

    fn role(&self, step: &Step) -> Role {
        match self.pass.purpose {
            Purpose::Check => Role::Hash,
            Purpose::Extract { wanted, .. } if step.is_current && wanted(&step.entry.path) => {
                Role::Write
            }
            Purpose::Extract { .. } => Role::Compare,
        }
    }

    fn is_needed(&self, expected: &[Expected]) -> bool {
        match self.pass.purpose {
            Purpose::Check => true,
            Purpose::Extract {
                is_everything: true,
                ..
            } => self.pass.is_whole,
            Purpose::Extract { .. } => expected.iter().any(|named| named.role == Role::Write),
        }
    }

    /// What the manifest says about the member at `offset`.
    fn collect(&mut self, offset: u64) -> Result<Vec<Expected>, SnapshotError> {
        let archive = self.pass.archive;
        let mut expected = Vec::new();
        let mut bytes = 0;
        while let Some(place) = self.peek().filter(|place| place.member <= offset) {
            let named = self.next(place)?;
            if place.member < offset {
                return Err(archive.hostile(format!(
                    "{}: the manifest points to where no entry begins",
                    named.entry.path
                )));
            }
            bytes += BLOCK + named.entry.path.as_bytes().len();
            if bytes > MAX_RAW {
                return Err(archive.hostile("the manifest names more in a member than fits in it"));
            }
            expected.push(named);
        }
        Ok(expected)
    }

    /// A member's header is damaged: names what lay in it.
    fn lose(&mut self, offset: u64, fault: SnapshotError) -> Result<(), SnapshotError> {
        let archive = self.pass.archive;
        if let Held::Part(_, large, _) = &self.held
            && let Some(path) = large.path()
        {
            self.pass
                .faults
                .report(archive.damaged(format!("{path}: some of its data is lost")));
        }
        self.flush(Some(false));
        let lost = self.collect(offset)?;
        for named in &lost {
            self.pass
                .faults
                .report(archive.damaged(format!("{}: its member is lost", named.entry.path)));
        }
        self.pass.faults.report(fault);
        self.held = Held::Unneeded;
        Ok(())
    }
}

/// A reader whose bytes are hashed.
struct Hashing {
    reader: Sequential,
    hasher: Sha256,
}

impl Hashing {
    fn fill(&mut self, archive: &Archive, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        let read: io::Result<()> = self.reader.read_exact(buffer);
        read.map_err(|error| archive.unread(error))?;
        self.hasher.update(buffer);
        Ok(())
    }

    fn skip(&mut self, archive: &Archive, mut length: u64) -> Result<(), SnapshotError> {
        let mut buffer = vec![0; 64 << 10];
        while length > 0 {
            let part = length.min(buffer.len() as u64) as usize;
            self.fill(archive, &mut buffer[..part])?;
            length -= part as u64;
        }
        Ok(())
    }
}

/// An entry that every archive has and no manifest names.
fn frame(
    archive: &Archive,
    path: &str,
    place: Place,
    size: u64,
    sha256: Digest,
) -> Result<Expected, SnapshotError> {
    let path = RelativePath::new(path).map_err(|error| archive.hostile(error))?;
    let attributes = Attributes {
        mode: 0,
        mtime: Time::default(),
        ctime: Time::default(),
        inode: 0,
    };
    Ok(Expected {
        skip: place.skip,
        role: Role::Frame,
        entry: Entry {
            path,
            content: Content::File {
                attributes,
                size,
                allocated: size,
                sha256,
                place,
            },
        },
    })
}

/// What the manifest doesn't name must be a file that was stored again at a later place.
fn check_attempts(
    archive: &Archive,
    attempts: &[(RelativePath, Place)],
) -> Result<(), SnapshotError> {
    let mut attempts = attempts.iter().peekable();
    if attempts.peek().is_none() {
        return Ok(());
    }
    let mut listing = archive.listing()?;
    while let Some(entry) = listing.next_entry()? {
        while let Some((_, place)) = attempts.next_if(|(path, _)| *path == entry.path) {
            if entry.content.place().is_none_or(|later| later <= *place) {
                return Err(duplicate(archive, &entry.path));
            }
        }
        if let Some((path, _)) = attempts.next_if(|(path, _)| *path < entry.path) {
            return Err(duplicate(archive, path));
        }
    }
    attempts
        .next()
        .map_or(Ok(()), |(path, _)| Err(duplicate(archive, path)))
}

fn duplicate(archive: &Archive, path: &RelativePath) -> SnapshotError {
    archive.hostile(format!(
        "{path}: it has an entry that the manifest doesn't name and that wasn't stored again later"
    ))
}
