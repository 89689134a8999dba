//! The archive's end of the pipeline: members in their order, offsets, the manifest, the trailer.
//!
//! In come packed members and notes, out go the archive's bytes; the manifest's members stay in memory until the end.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::engine::Packing;
use super::entry::{self, BLOCK, EntryHeader};
use super::report::BackupError;
use super::tee::{Fates, Tee};
use super::work::{Outcome, Output};
use crate::archive::digest::Digest;
use crate::archive::manifest::{Content, Entry, MANIFEST_PATH, Place, Time};
use crate::archive::member::{TARGET, Trailer};
use crate::archive::path::RelativePath;
use crate::encrypt::Encrypted;

/// Most lines that wait for the end of a model's folder.
const MAX_WITHHELD: usize = 1000;

/// What the coordinator says between members.
pub enum Note {
    /// The next member begins an attempt to store a large file.
    Attempt,
    /// The attempt of this number is the valid one.
    Stored(Entry, usize),
    /// The base's file is kept, so there is no line.
    Unstored,
    /// Lines wait from here on, because some may be replaced.
    Withhold,
    /// Which files wait, with their hashes.
    Ask(SyncSender<BTreeMap<RelativePath, Digest>>),
    /// Lines wait no longer.
    Release,
    /// Counts and complaints of the coordinator.
    Outcome(Box<Outcome>),
}

/// Writes one archive.
pub struct Writer<'a> {
    out: Encrypted<Tee>,
    fates: Fates,
    offset: u64,
    hasher: Sha256,
    attempts: Vec<u64>,
    is_attempt: bool,
    withheld: Option<BTreeMap<RelativePath, Entry>>,
    lines: Vec<u8>,
    lines_size: u64,
    manifest: Packing<'a>,
    outcome: Outcome,
    mtime: Time,
}

/// An archive whose bytes are all written.
pub struct Written {
    /// To be finished.
    pub tee: Tee,
    /// The manifest's members.
    pub manifest: Vec<Arc<[u8]>>,
    /// Counts and complaints.
    pub outcome: Outcome,
}

impl<'a> Writer<'a> {
    /// `mtime` is that of the archive's own two entries.
    pub fn new(out: Encrypted<Tee>, fates: Fates, manifest: Packing<'a>, mtime: Time) -> Self {
        Self {
            out,
            fates,
            offset: 0,
            hasher: Sha256::new(),
            attempts: Vec::new(),
            is_attempt: false,
            withheld: None,
            lines: Vec::with_capacity(TARGET + BLOCK),
            lines_size: 0,
            manifest,
            outcome: Outcome::default(),
            mtime,
        }
    }

    fn emit(&mut self, packed: &[u8]) -> Result<(), BackupError> {
        self.hasher.update(packed);
        self.offset += packed.len() as u64;
        match self.out.write_all(packed) {
            Ok(()) => Ok(()),
            // Which destinations failed and why is known better there.
            Err(_) => Err(self.fates.error()),
        }
    }

    /// The next members in their order.
    pub fn output(&mut self, output: Output) -> Result<(), BackupError> {
        for member in output.members {
            if std::mem::take(&mut self.is_attempt) {
                self.attempts.push(self.offset);
            }
            let offset = self.offset;
            self.emit(&member.packed)?;
            for entry in member.entries {
                self.entry(entry, offset)?;
            }
        }
        for entry in output.rest {
            self.entry(entry, 0)?;
        }
        self.outcome.merge(output.outcome);
        Ok(())
    }

    /// What the coordinator says.
    pub fn note(&mut self, note: Note) -> Result<(), BackupError> {
        match note {
            Note::Attempt => self.is_attempt = true,
            Note::Stored(entry, attempt) => {
                let offset = self.attempts.get(attempt).copied();
                self.attempts.clear();
                let offset = offset
                    .ok_or_else(|| BackupError::Internal("a large file has no place".to_owned()))?;
                self.entry(entry, offset)?;
            }
            Note::Unstored => self.attempts.clear(),
            Note::Withhold => self.withheld = Some(BTreeMap::new()),
            Note::Ask(reply) => {
                let hash = |(path, entry): (&RelativePath, &Entry)| match &entry.content {
                    Content::File { sha256, .. } => Some((path.clone(), *sha256)),
                    _ => None,
                };
                let withheld = self.withheld.iter().flatten();
                // One who doesn't wait any more has failed himself.
                let _ = reply.try_send(withheld.filter_map(hash).collect());
            }
            Note::Release => self.release()?,
            Note::Outcome(outcome) => self.outcome.merge(*outcome),
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), BackupError> {
        for entry in self.withheld.take().into_iter().flatten() {
            self.line(&entry.1)?;
        }
        Ok(())
    }

    fn entry(&mut self, mut entry: Entry, member: u64) -> Result<(), BackupError> {
        match &mut entry.content {
            Content::File { place, .. }
            | Content::Directory { place, .. }
            | Content::Symlink { place, .. } => place.member = member,
            Content::Deleted => {}
        }
        match &mut self.withheld {
            Some(withheld) => {
                withheld.insert(entry.path.clone(), entry);
                if withheld.len() > MAX_WITHHELD {
                    self.release()?;
                }
                Ok(())
            }
            None => self.line(&entry),
        }
    }

    fn line(&mut self, entry: &Entry) -> Result<(), BackupError> {
        serde_json::to_writer(&mut self.lines, entry)
            .map_err(|error| BackupError::Internal(error.to_string()))?;
        self.lines.push(b'\n');
        if self.lines.len() >= TARGET {
            self.pack_lines()?;
        }
        Ok(())
    }

    fn pack_lines(&mut self) -> Result<(), BackupError> {
        self.lines_size += self.lines.len() as u64;
        let lines = std::mem::replace(&mut self.lines, Vec::with_capacity(TARGET + BLOCK));
        self.manifest.push(lines)
    }

    /// Writes the manifest and the trailer.
    pub fn finish(mut self) -> Result<Written, BackupError> {
        self.release()?;
        if !self.lines.is_empty() {
            self.pack_lines()?;
        }
        let place = Place {
            member: self.offset,
            skip: 0,
        };
        let mut raw = Vec::new();
        EntryHeader {
            path: MANIFEST_PATH.as_bytes(),
            kind: EntryType::Regular,
            link: &[],
            size: self.lines_size,
            mode: crate::atomic::FILE_MODE,
            mtime: self.mtime,
        }
        .write(&mut raw);
        let header = self.manifest.one(raw, false)?;
        self.emit(&header)?;
        let members = self.manifest.finish()?;
        for member in &members {
            self.emit(member)?;
        }
        let end = entry::padding(self.lines_size) + 2 * BLOCK;
        let end = self.manifest.one(vec![0; end], true)?;
        self.emit(&end)?;
        let trailer = Trailer {
            manifest: place,
            manifest_size: self.lines_size,
            sha256: Digest::finish(self.hasher.clone()),
        };
        self.emit(&trailer.bytes())?;
        let tee = self.out.finish().map_err(|_| self.fates.error())?;
        Ok(Written {
            tee,
            manifest: members,
            outcome: self.outcome,
        })
    }
}
