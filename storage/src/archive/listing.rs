//! The manifest as a stream of checked lines, in bounded memory.
//!
//! In comes an open archive; out comes entry after entry. Order, duplicates, places, sizes, and whether a path may be
//! in a backup at all are checked on the way.

use sha2::{Digest as _, Sha256};

use super::category::Category;
use super::digest::Digest;
use super::header::Kind;
use super::manifest::{Entry, MANIFEST_PATH, MAX_LINE};
use super::member::Unpacker;
use super::path::RelativePath;
use super::reader::Archive;
use super::tar_entry::{self, TarEntry};
use crate::snapshot::SnapshotError;

/// A manifest that is being read.
pub(crate) struct Listing<'archive> {
    archive: &'archive Archive,
    unpacker: Unpacker,
    packed: Vec<u8>,
    raw: Vec<u8>,
    /// Next byte of `raw`.
    at: usize,
    /// Offset of the member after `raw`.
    next_member: u64,
    /// Bytes of the manifest that weren't read.
    left: u64,
    line: Vec<u8>,
    previous: Option<RelativePath>,
    hasher: Sha256,
}

impl<'archive> Listing<'archive> {
    pub fn new(archive: &'archive Archive) -> Result<Self, SnapshotError> {
        let trailer = archive.trailer();
        let mut listing = Self {
            archive,
            unpacker: Unpacker::default(),
            packed: Vec::new(),
            raw: Vec::new(),
            at: 0,
            next_member: trailer.manifest.member,
            left: trailer.manifest_size,
            line: Vec::new(),
            previous: None,
            hasher: Sha256::new(),
        };
        if listing.unpack(false)? {
            return Err(archive.hostile("its manifest begins in the middle of another entry"));
        }
        let skip = trailer.manifest.skip as usize;
        let begin = listing
            .raw
            .get(skip..)
            .ok_or_else(|| archive.hostile("its end points to a manifest beyond its member"))?;
        let entry = TarEntry::read(begin).map_err(|error| archive.hostile(error))?;
        if entry.path.as_bytes() != MANIFEST_PATH.as_bytes()
            || entry.kind != tar_entry::Kind::File
            || entry.size != trailer.manifest_size
        {
            return Err(archive.hostile("its end points to an entry that is not the manifest"));
        }
        listing.at = skip + entry.header_length;
        Ok(listing)
    }

    /// Unpacks the next member and says whether it continues another.
    fn unpack(&mut self, continues: bool) -> Result<bool, SnapshotError> {
        let archive = self.archive;
        if self.next_member >= archive.end() {
            return Err(archive.damaged("its manifest has no end"));
        }
        let header = archive
            .unpack_at(
                self.next_member,
                &mut self.unpacker,
                &mut self.packed,
                &mut self.raw,
            )
            .map_err(|error| about_manifest(archive, error))?;
        if continues && !header.continues {
            return Err(archive.hostile("its manifest is cut off by another entry"));
        }
        self.next_member += u64::from(header.length);
        self.at = 0;
        Ok(header.continues)
    }

    /// The next entry; `None` after the last one.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, SnapshotError> {
        self.line.clear();
        loop {
            if self.left == 0 {
                if self.line.is_empty() {
                    return Ok(None);
                }
                return Err(self.archive.damaged("its manifest's last line is cut"));
            }
            if self.at == self.raw.len() {
                self.unpack(true)?;
            }
            let length = usize::try_from(self.left).unwrap_or(usize::MAX);
            let rest = &self.raw[self.at..];
            let rest = &rest[..rest.len().min(length)];
            let end = rest.iter().position(|byte| *byte == b'\n');
            let part = &rest[..end.map_or(rest.len(), |end| end + 1)];
            if self.line.len() + part.len() > MAX_LINE {
                return Err(self
                    .archive
                    .hostile("a line of its manifest is longer than any that is written"));
            }
            self.line.extend_from_slice(part);
            self.hasher.update(part);
            self.at += part.len();
            self.left -= part.len() as u64;
            if end.is_some() {
                return self.parse().map(Some);
            }
        }
    }

    /// The SHA-256 of what was read.
    pub fn digest(&self) -> Digest {
        Digest::finish(self.hasher.clone())
    }

    fn parse(&mut self) -> Result<Entry, SnapshotError> {
        let archive = self.archive;
        let entry: Entry = serde_json::from_slice(&self.line).map_err(|error| {
            let after = self.previous.as_ref().map_or_else(
                || "its first line".to_owned(),
                |previous| format!("the line after {previous}"),
            );
            archive.hostile(format!("its manifest is malformed in {after}: {error}"))
        })?;
        self.check(&entry)
            .map_err(|reason| archive.hostile(format!("{}: {reason}", entry.path)))?;
        self.previous = Some(entry.path.clone());
        Ok(entry)
    }

    fn check(&self, entry: &Entry) -> Result<(), &'static str> {
        let archive = self.archive;
        let manifest = archive.trailer().manifest;
        match &self.previous {
            Some(previous) if *previous == entry.path => {
                return Err("the manifest names it twice");
            }
            Some(previous) if *previous > entry.path => {
                return Err("the manifest isn't sorted");
            }
            _ => {}
        }
        let category = Category::of_top_level(entry.path.top_level())
            .ok_or("no backup holds this part of the volume")?;
        if !archive.header().include.contains(&category) {
            return Err("the manifest names it, but backup.json doesn't include its part");
        }
        match entry.content.place() {
            None if archive.header().kind == Kind::Full => {
                return Err("a full backup has no deletions");
            }
            Some(place) if place >= manifest || place.member == 0 => {
                return Err("the manifest points to where no entry of its can be");
            }
            Some(place) if !archive.can_hold(place, entry.content.size()) => {
                return Err("its size is more than the archive can hold");
            }
            _ => {}
        }
        Ok(())
    }
}

fn about_manifest(archive: &Archive, error: SnapshotError) -> SnapshotError {
    match error {
        SnapshotError::Damaged { reason, .. } => {
            archive.damaged(format!("its manifest can't be read: {reason}"))
        }
        other => other,
    }
}
