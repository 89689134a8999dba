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
use super::models::{FIRST_OWN, Member, own_name};
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
    /// A model's version folder begins: lines from its own files on wait, because those may be replaced.
    Withhold(RelativePath),
    /// What the archive has of the model's own files.
    Ask(SyncSender<Told>),
    /// Lines wait no longer.
    Release,
    /// Counts and complaints of the coordinator.
    Outcome(Box<Outcome>),
}

/// What the archive has of a model's own files.
pub struct Told {
    /// By name.
    pub members: BTreeMap<&'static str, Member>,
    /// Whether their lines still wait, so that the files may be stored again.
    pub may_replace: bool,
}

/// A model's version folder that is being written.
struct Withheld {
    folder: RelativePath,
    members: BTreeMap<&'static str, Member>,
    /// From the first of the model's own names on.
    lines: BTreeMap<RelativePath, Entry>,
    /// There were too many lines to wait for the folder's end.
    is_released: bool,
}

/// Writes one archive.
pub struct Writer<'a> {
    out: Encrypted<Tee>,
    fates: Fates,
    offset: u64,
    hasher: Sha256,
    attempts: Vec<u64>,
    is_attempt: bool,
    withheld: Option<Withheld>,
    /// The last line's path: the manifest must ascend, or no reader takes the archive.
    last: Option<RelativePath>,
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

impl Withheld {
    /// Whether nothing that may be stored again can come before this path.
    fn is_before_own(&self, path: &RelativePath) -> bool {
        let first = self.folder.child(FIRST_OWN.as_bytes());
        first.is_ok_and(|first| *path < first)
    }
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
            last: None,
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
            Note::Withhold(folder) => {
                self.withheld = Some(Withheld {
                    folder,
                    members: BTreeMap::new(),
                    lines: BTreeMap::new(),
                    is_released: false,
                });
            }
            Note::Ask(reply) => {
                let withheld = self.withheld.as_ref();
                let told = Told {
                    members: withheld.map_or_else(BTreeMap::new, |held| held.members.clone()),
                    may_replace: withheld.is_some_and(|held| !held.is_released),
                };
                // One who doesn't wait any more has failed himself.
                let _ = reply.try_send(told);
            }
            Note::Release => self.release()?,
            Note::Outcome(outcome) => self.outcome.merge(*outcome),
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), BackupError> {
        let lines = self.withheld.take().map(|withheld| withheld.lines);
        self.lines_of(&lines.unwrap_or_default())
    }

    fn lines_of(&mut self, lines: &BTreeMap<RelativePath, Entry>) -> Result<(), BackupError> {
        lines.values().try_for_each(|entry| self.line(entry))
    }

    fn entry(&mut self, mut entry: Entry, member: u64) -> Result<(), BackupError> {
        match &mut entry.content {
            Content::File { place, .. }
            | Content::Directory { place, .. }
            | Content::Symlink { place, .. } => place.member = member,
            Content::Deleted => {}
        }
        let Some(withheld) = &mut self.withheld else {
            return self.line(&entry);
        };
        let own = own_name(&entry.path, &withheld.folder);
        if let Some(name) = own {
            match Member::of(&entry.content) {
                Some(member) => withheld.members.insert(name, member),
                None => withheld.members.remove(name),
            };
        }
        if withheld.is_released || withheld.is_before_own(&entry.path) {
            return self.line(&entry);
        }
        withheld.lines.insert(entry.path.clone(), entry);
        // The model's own files never end the waiting: those that follow would come too late.
        if own.is_none() && withheld.lines.len() > MAX_WITHHELD {
            withheld.is_released = true;
            let lines = std::mem::take(&mut withheld.lines);
            return self.lines_of(&lines);
        }
        Ok(())
    }

    fn line(&mut self, entry: &Entry) -> Result<(), BackupError> {
        if self.last.as_ref().is_some_and(|last| *last >= entry.path) {
            return Err(BackupError::Internal(format!(
                "{} would come twice or out of order in the manifest",
                entry.path
            )));
        }
        self.last = Some(entry.path.clone());
        serde_json::to_writer(&mut self.lines, entry)
            .map_err(|error| BackupError::Internal(error.to_string()))?;
        self.lines.push(b'\n');
        if let Content::File { size, .. } = &entry.content {
            self.outcome.files += 1;
            self.outcome.bytes += size;
        }
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
