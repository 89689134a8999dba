//! Large files: read in blocks by the coordinator, hashed on the way, packed by whichever thread is free.
//!
//! In comes what the plan says, out go blocks; a file that changes meanwhile is stored again as a later entry, and the last one holds.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::engine::Failed;
use super::entry::{EntryHeader, pad};
use super::plan::Store;
use super::read::{Large, RETRIES, Unread, settled};
use super::report::{BackupError, Warning};
use super::store::Coordinator;
use super::work::{Job, Member, Output, deleted};
use super::writer::Note;
use crate::archive::category::Category;
use crate::archive::digest::Digest;
use crate::archive::manifest::{Content, Entry, Place};
use crate::archive::member::TARGET;
use crate::archive::path::RelativePath;
use crate::extract::tree::HOLE;

impl<'scope, 'a: 'scope> Coordinator<'_, 'scope, 'a> {
    /// Stores a file in blocks, again as a later entry while it changes.
    pub(super) fn large(&mut self, store: &Store) -> Result<(), Failed> {
        let path = &store.item.path;
        if let Some(digest) = store.unless {
            match self.shared.reader.hash(path) {
                Ok((found, true)) if found == digest => {
                    self.keep(path, store.item.size);
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => return self.unread(store, error),
            }
        }
        let is_log = store.item.category == Category::Logs;
        // tar and the manifest's readers take the last reading of a path, so that one is what the manifest names.
        let mut last: Option<Reading> = None;
        let mut was_whole = false;
        for attempt in 0..=2 * RETRIES {
            let mut large = match self.shared.reader.large(path) {
                Ok(large) => large,
                // What was read before is better than nothing.
                Err(_) if last.is_some() => break,
                Err(error) => return self.unread(store, error),
            };
            self.engine.note(Note::Attempt)?;
            let (sha256, allocated, fault) = self.stream(path, &mut large)?;
            let has_changed = self.shared.reader.has_changed(path, &large);
            let is_settled = fault.is_none() && (is_log || !has_changed);
            // A disk that fails again and again is not read for ever.
            let is_hopeless = matches!(fault, Some(Fault::Unread(_))) && !was_whole;
            // After as many attempts as any live file gets, a reading that is whole is enough.
            let is_enough = fault.is_none() && attempt >= RETRIES;
            was_whole |= fault.is_none();
            last = Some(Reading {
                entry: large_entry(path, &large, sha256, allocated),
                attempt,
                size: large.status.size,
                is_settled,
                fault,
            });
            if is_settled || is_hopeless || is_enough {
                break;
            }
        }
        let Some(last) = last else {
            return Ok(());
        };
        match &last.fault {
            None if last.is_settled => {}
            None => self.warn(Warning::live(path)),
            Some(Fault::Unread(Unread::Refused(source))) => {
                self.warn(Warning::salvaged(path, source));
            }
            Some(_) => self.warn(Warning::shortened(path)),
        }
        self.outcome.tally.add(self.shared.volume, path, last.size);
        self.shared.progress.advance(1, 0);
        self.engine.note(Note::Stored(last.entry, last.attempt))
    }

    fn unread(&mut self, store: &Store, error: Unread) -> Result<(), Failed> {
        let path = &store.item.path;
        match error {
            Unread::Gone if store.in_base => self.engine.output(Output {
                rest: vec![deleted(path.clone())],
                ..Output::default()
            }),
            Unread::Gone | Unread::Grown => Ok(()),
            Unread::Refused(source) => {
                self.warn(Warning::unreadable(path, &source));
                Ok(())
            }
        }
    }

    /// Hands in a file's header and data. Whatever happens, the entry has the length that its header says.
    ///
    /// Gives the hash, and the bytes that aren't in blocks of zeros.
    fn stream(
        &mut self,
        path: &RelativePath,
        large: &mut Large,
    ) -> Result<(Digest, u64, Option<Fault>), Failed> {
        let size = large.status.size;
        let mut hasher = Sha256::new();
        let mut fault = None;
        let mut raw = self.shared.buffer();
        EntryHeader {
            path: path.as_bytes(),
            kind: EntryType::Regular,
            link: &[],
            size,
            mode: large.status.attributes.mode,
            mtime: large.status.attributes.mtime,
        }
        .write(&mut raw);
        let mut offset = 0;
        let mut continues = false;
        let mut allocated = 0;
        loop {
            let room = (TARGET - raw.len().min(TARGET / 2)) as u64;
            let length = room.min(size - offset);
            let is_whole = continues && length == TARGET as u64;
            let are_zeros = fault.is_some() || large.is_hole(offset, length);
            if is_whole && are_zeros {
                self.shared.zeros(&mut hasher);
                self.zero_member()?;
            } else {
                let start = raw.len();
                raw.resize(start + length as usize, 0);
                if !are_zeros {
                    match large.read(offset, &mut raw[start..]) {
                        Ok(filled) if filled < length as usize => fault = Some(Fault::Short),
                        Ok(_) => {}
                        Err(error) => fault = Some(Fault::Unread(error)),
                    }
                }
                hasher.update(&raw[start..]);
                allocated += filled(&raw[start..], offset);
                if offset + length == size {
                    pad(&mut raw, size);
                }
                if !raw.is_empty() {
                    self.engine.submit(Job::Block { raw, continues })?;
                }
                raw = self.shared.buffer();
            }
            self.shared.progress.advance(0, length);
            offset += length;
            continues = true;
            if offset == size {
                return Ok((Digest::finish(hasher), allocated, fault));
            }
        }
    }

    /// A member of zeros, packed once for all.
    fn zero_member(&mut self) -> Result<(), Failed> {
        let packed = if let Some(packed) = &self.zeros {
            Arc::clone(packed)
        } else {
            let job = Job::Block {
                raw: vec![0; TARGET],
                continues: true,
            };
            let packed = self.own.run(job).map_err(|error| error.to_string());
            let member = packed.map(|output| output.members.into_iter().next());
            let Ok(Some(member)) = member else {
                return Err(BackupError::Internal("zeros can't be packed".to_owned()).into());
            };
            Arc::clone(self.zeros.insert(member.packed))
        };
        self.engine.output(Output {
            members: vec![Member {
                packed,
                entries: Vec::new(),
            }],
            ..Output::default()
        })
    }
}

/// One attempt to store a large file.
struct Reading {
    entry: Entry,
    attempt: usize,
    size: u64,
    /// Whether the file stayed as it was meanwhile.
    is_settled: bool,
    fault: Option<Fault>,
}

/// Why an attempt to store a large file failed; the rest of its entry is zeros.
enum Fault {
    /// It became shorter.
    Short,
    /// It can't be read.
    Unread(Unread),
}

/// Bytes of the blocks of data at `offset` that aren't zeros; a block that is only touched counts whole.
fn filled(data: &[u8], offset: u64) -> u64 {
    let first = HOLE - (offset % HOLE as u64) as usize;
    let (start, rest) = data.split_at(first.min(data.len()));
    let is_filled = |block: &&[u8]| block.iter().any(|byte| *byte != 0);
    let blocks = std::iter::once(start).chain(rest.chunks(HOLE));
    blocks.filter(is_filled).count() as u64 * HOLE as u64
}

fn large_entry(path: &RelativePath, large: &Large, sha256: Digest, allocated: u64) -> Entry {
    Entry {
        path: path.clone(),
        content: Content::File {
            attributes: settled(large.status.attributes),
            size: large.status.size,
            allocated: allocated.min(large.status.size),
            sha256,
            place: Place { member: 0, skip: 0 },
        },
    }
}
