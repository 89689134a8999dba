//! Opening an archive: its trailer, its header, and its members at any offset.
//!
//! In comes a file at a destination; out come what it says about itself and its data, every length and offset checked
//! before it is used.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::digest::Digest;
use super::header::{FORMAT, HEADER_PATH, Header, Kind, MAX_HEADER};
use super::listing::Listing;
use super::manifest::{Entry, Place};
use super::member::{HEADER_LENGTH, MemberHeader, TRAILER_LENGTH, Trailer, Unpacker};
use super::tar_entry::{self, TarEntry};
use crate::decrypt::{Bytes, Identity, Sequential, unreadable};
use crate::destination::ReadAt;
use crate::snapshot::SnapshotError;

/// Most bytes that one byte of a deflate stream unpacks to.
const MAX_RATIO: u64 = 1032;

/// An archive that is open for reading, from several threads.
pub struct Archive {
    name: String,
    bytes: Bytes,
    trailer: Trailer,
    content: Content,
}

/// `backup.json`.
struct Content {
    header: Header,
    size: u64,
    digest: Digest,
}

impl fmt::Debug for Archive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Archive")
            .field("name", &self.name)
            .field("header", &self.content.header)
            .finish_non_exhaustive()
    }
}

/// Only as much of `backup.json` as every format has.
#[derive(serde::Deserialize)]
struct Version {
    format: u32,
}

impl Archive {
    /// Reads trailer and header. `name` is for messages; whether the file is encrypted its first bytes say.
    pub fn open(
        name: &str,
        file: Box<dyn ReadAt>,
        identities: &[Identity],
    ) -> Result<Self, SnapshotError> {
        Self::open_shared(name, Arc::from(file), identities)
    }

    pub(crate) fn open_shared(
        name: &str,
        file: Arc<dyn ReadAt>,
        identities: &[Identity],
    ) -> Result<Self, SnapshotError> {
        let bytes = Bytes::open(name, file, identities)?;
        let damaged = |reason: &str| SnapshotError::Damaged {
            archive: name.to_owned(),
            reason: reason.to_owned(),
        };
        let end = bytes
            .size()
            .checked_sub(TRAILER_LENGTH as u64)
            .ok_or_else(|| damaged("it is too short for an archive"))?;
        let mut last = [0; TRAILER_LENGTH];
        bytes
            .read_exact_at(&mut last, end)
            .map_err(|error| unreadable(name, error))?;
        let trailer = Trailer::read(&last).map_err(|_| {
            damaged("its end is missing or damaged, so it wasn't written to the end or was cut")
        })?;
        if trailer.manifest.member >= end {
            return Err(damaged("its end points to a manifest outside the file"));
        }
        let content = Content::read(name, &bytes, end)?;
        Ok(Self {
            name: name.to_owned(),
            bytes,
            trailer,
            content,
        })
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is and where it comes from.
    pub const fn header(&self) -> &Header {
        &self.content.header
    }

    /// What its last member says.
    pub const fn trailer(&self) -> &Trailer {
        &self.trailer
    }

    /// Whether its file is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.bytes.is_encrypted()
    }

    /// Calls `each` for every line of the manifest, each checked on its own and against the one before.
    pub fn manifest(
        &self,
        each: &mut dyn FnMut(&Entry) -> io::Result<()>,
    ) -> Result<(), SnapshotError> {
        let mut listing = self.listing()?;
        while let Some(entry) = listing.next_entry()? {
            each(&entry).map_err(|source| SnapshotError::Use {
                path: entry.path.to_string(),
                source,
            })?;
        }
        Ok(())
    }

    /// The manifest line by line.
    pub(crate) fn listing(&self) -> Result<Listing<'_>, SnapshotError> {
        Listing::new(self)
    }

    /// Size and SHA-256 of the `backup.json` that was read.
    pub(crate) const fn header_content(&self) -> (u64, Digest) {
        (self.content.size, self.content.digest)
    }

    /// All plain bytes from the beginning.
    pub(crate) fn sequential(&self) -> Result<Sequential, SnapshotError> {
        self.bytes.sequential().map_err(|error| self.unread(error))
    }

    /// Plain offset of the trailer: the members end there.
    pub(crate) fn end(&self) -> u64 {
        self.bytes.size() - TRAILER_LENGTH as u64
    }

    /// Reads the member at `offset` into `packed`.
    pub(crate) fn member_at(
        &self,
        offset: u64,
        packed: &mut Vec<u8>,
    ) -> Result<MemberHeader, SnapshotError> {
        let header = self.member_header_at(offset)?;
        packed.resize(header.length as usize, 0);
        self.bytes
            .read_exact_at(packed, offset)
            .map_err(|error| self.unread(error))?;
        Ok(header)
    }

    /// Reads the header of the member at `offset`.
    pub(crate) fn member_header_at(&self, offset: u64) -> Result<MemberHeader, SnapshotError> {
        let mut start = [0; HEADER_LENGTH];
        if self.end().saturating_sub(offset) < HEADER_LENGTH as u64 {
            return Err(self.damaged(format!("there is no member at byte {offset}")));
        }
        self.bytes
            .read_exact_at(&mut start, offset)
            .map_err(|error| self.unread(error))?;
        self.checked_header(&start, offset)
    }

    /// Checks a member's header that was read at `offset`.
    pub(crate) fn checked_header(
        &self,
        start: &[u8],
        offset: u64,
    ) -> Result<MemberHeader, SnapshotError> {
        let header = MemberHeader::read(start)
            .map_err(|error| self.damaged(format!("member at byte {offset}: {error}")))?;
        if u64::from(header.length) > self.end().saturating_sub(offset) {
            return Err(self.damaged(format!("member at byte {offset} reaches beyond the end")));
        }
        Ok(header)
    }

    /// Reads and unpacks the member at `offset`.
    pub(crate) fn unpack_at(
        &self,
        offset: u64,
        unpacker: &mut Unpacker,
        packed: &mut Vec<u8>,
        raw: &mut Vec<u8>,
    ) -> Result<MemberHeader, SnapshotError> {
        self.member_at(offset, packed)?;
        unpacker
            .unpack(packed, raw)
            .map_err(|error| self.damaged(format!("member at byte {offset}: {error}")))
    }

    /// Whether `size` bytes can be packed into what lies between `place` and the end.
    pub(crate) fn can_hold(&self, place: Place, size: u64) -> bool {
        let room = self.end().saturating_sub(place.member);
        size <= room.saturating_mul(MAX_RATIO)
    }

    pub(crate) fn unread(&self, error: io::Error) -> SnapshotError {
        unreadable(&self.name, error)
    }

    pub(crate) fn damaged(&self, reason: impl fmt::Display) -> SnapshotError {
        SnapshotError::Damaged {
            archive: self.name.clone(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn hostile(&self, reason: impl fmt::Display) -> SnapshotError {
        SnapshotError::Hostile {
            archive: self.name.clone(),
            reason: reason.to_string(),
        }
    }
}

impl Content {
    fn read(name: &str, bytes: &Bytes, end: u64) -> Result<Self, SnapshotError> {
        let damaged = |reason: String| SnapshotError::Damaged {
            archive: name.to_owned(),
            reason: format!("its first member: {reason}"),
        };
        let hostile = |reason: &str| SnapshotError::Hostile {
            archive: name.to_owned(),
            reason: reason.to_owned(),
        };
        let mut packed = vec![0; end.min(HEADER_LENGTH as u64) as usize];
        bytes
            .read_exact_at(&mut packed, 0)
            .map_err(|error| unreadable(name, error))?;
        let member = MemberHeader::read(&packed).map_err(|error| damaged(error.to_string()))?;
        if u64::from(member.length) > end {
            return Err(damaged("it reaches beyond the end".to_owned()));
        }
        packed.resize(member.length as usize, 0);
        bytes
            .read_exact_at(&mut packed, 0)
            .map_err(|error| unreadable(name, error))?;
        let mut raw = Vec::new();
        Unpacker::default()
            .unpack(&packed, &mut raw)
            .map_err(|error| damaged(error.to_string()))?;
        if member.continues {
            return Err(hostile("its first member continues another one"));
        }
        let entry = TarEntry::read(&raw).map_err(|error| hostile(&error.to_string()))?;
        let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
        if entry.path.as_bytes() != HEADER_PATH.as_bytes()
            || entry.kind != tar_entry::Kind::File
            || size > MAX_HEADER
        {
            return Err(hostile("its first entry is no backup.json"));
        }
        let data = raw
            .get(entry.header_length..)
            .and_then(|data| data.get(..size))
            .ok_or_else(|| hostile("its backup.json reaches beyond its member"))?;
        let malformed =
            |error: serde_json::Error| hostile(&format!("its backup.json is malformed: {error}"));
        let Version { format } = serde_json::from_slice(data).map_err(malformed)?;
        if format > FORMAT {
            return Err(SnapshotError::Newer {
                archive: name.to_owned(),
                found: format,
                known: FORMAT,
            });
        }
        if format == 0 {
            return Err(hostile("its backup.json has format 0"));
        }
        let header: Header = serde_json::from_slice(data).map_err(malformed)?;
        if (header.kind == Kind::Incremental) != header.base.is_some() {
            return Err(hostile(
                "an incremental backup has a base and a full one has none, this one differs",
            ));
        }
        Ok(Self {
            header,
            size: entry.size,
            digest: Digest::of(data),
        })
    }
}
