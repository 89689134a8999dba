//! Gzip members: the archive is a row of them, each of about 1 MiB of tar that is unpacked on its own.
//!
//! Every header is the same but for one extra field `SP`, which says how long the member is, so that a reader can
//! hand members to several threads without unpacking them, and whether it begins with an entry's header. The last
//! member is empty: its field `SX` points to the manifest and has the SHA-256 of every byte before it. A gzip
//! program skips both fields. Whatever differs from these bytes is damage, so no flipped bit goes unseen.

use libdeflater::{CompressionLvl, Compressor, Crc, Decompressor};

use super::digest::Digest;
use super::manifest::Place;

/// Uncompressed bytes after which a member is closed, and how a large file is cut.
pub const TARGET: usize = 1 << 20;
/// Most uncompressed bytes of a member: a member of small files holds at most [`TARGET`] and one entry more.
pub const MAX_RAW: usize = 4 << 20;
/// Bytes of a member's header.
pub const HEADER_LENGTH: usize = 12 + 4 + 9;
/// Bytes of the last member.
pub const TRAILER_LENGTH: usize = 12 + 4 + 52 + 2 + 8;

/// Magic, deflate, flag FEXTRA, no time, no extra flags, unknown system.
const FIXED: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
/// Flag in `SP`: the member continues the file that the member before it began.
const CONTINUES: u8 = 1;
/// An empty deflate stream, then CRC and size 0.
const EMPTY: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What a member's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberHeader {
    /// Bytes of the whole member, header and footer included.
    pub length: u32,
    /// Bytes of it, uncompressed.
    pub raw: u32,
    /// Whether it continues a large file; else it begins with an entry's header.
    pub continues: bool,
}

/// What the last member says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Where the manifest's tar header begins.
    pub manifest: Place,
    /// Bytes of the manifest, uncompressed.
    pub manifest_size: u64,
    /// SHA-256 of every byte of the archive before the trailer.
    pub sha256: Digest,
}

/// Why bytes are no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// It doesn't begin or end as this program writes it.
    #[error("it is not written by stockpredictor, or its header is damaged")]
    Form,
    /// The data can't be unpacked, or not to the size and checksum that it says.
    #[error("its data is damaged")]
    Data,
}

/// Packs members; one for a thread.
pub struct Packer(Compressor);

impl Packer {
    /// `level` is libdeflate's, 1 to 12.
    pub fn new(level: i32) -> Option<Self> {
        Some(Self(Compressor::new(CompressionLvl::new(level).ok()?)))
    }

    /// The member for `raw`, of at most [`MAX_RAW`] bytes, appended to `out`.
    pub fn pack(
        &mut self,
        raw: &[u8],
        continues: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), MemberError> {
        if raw.is_empty() || raw.len() > MAX_RAW {
            return Err(MemberError::Data);
        }
        let start = out.len();
        let bound = self.0.deflate_compress_bound(raw.len());
        out.resize(start + HEADER_LENGTH + bound, 0);
        let packed = self
            .0
            .deflate_compress(raw, &mut out[start + HEADER_LENGTH..])
            .map_err(|_| MemberError::Data)?;
        out.truncate(start + HEADER_LENGTH + packed);
        out.extend(libdeflater::crc32(raw).to_le_bytes());
        out.extend(small(raw.len())?.to_le_bytes());
        let header = MemberHeader {
            length: small(out.len() - start)?,
            raw: small(raw.len())?,
            continues,
        };
        out[start..start + HEADER_LENGTH].copy_from_slice(&header.bytes());
        Ok(())
    }
}

fn small(length: usize) -> Result<u32, MemberError> {
    u32::try_from(length).map_err(|_| MemberError::Data)
}

impl MemberHeader {
    fn bytes(self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..10].copy_from_slice(&FIXED);
        bytes[10..12].copy_from_slice(&13_u16.to_le_bytes());
        bytes[12..14].copy_from_slice(b"SP");
        bytes[14..16].copy_from_slice(&9_u16.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.raw.to_le_bytes());
        bytes[24] = if self.continues { CONTINUES } else { 0 };
        bytes
    }

    /// Reads the header that `bytes` begin with.
    pub fn read(bytes: &[u8]) -> Result<Self, MemberError> {
        let bytes: &[u8; HEADER_LENGTH] = bytes.first_chunk().ok_or(MemberError::Form)?;
        let number = |at: usize| {
            bytes[at..at + 4]
                .try_into()
                .map(u32::from_le_bytes)
                .map_err(|_| MemberError::Form)
        };
        let header = Self {
            length: number(16)?,
            raw: number(20)?,
            continues: bytes[24] == CONTINUES,
        };
        // libdeflate never makes data longer than this by packing it.
        let longest = MAX_RAW + MAX_RAW / 1000 + 1024;
        let is_possible = (1..=MAX_RAW).contains(&(header.raw as usize))
            && (HEADER_LENGTH + 8 + 1..=longest).contains(&(header.length as usize));
        if header.bytes() == *bytes && is_possible {
            Ok(header)
        } else {
            Err(MemberError::Form)
        }
    }
}

/// Unpacks members; one for a thread.
pub struct Unpacker(Decompressor);

impl Default for Unpacker {
    fn default() -> Self {
        Self(Decompressor::new())
    }
}

impl Unpacker {
    /// Replaces `raw` with the data of `member`, a whole one. Memory is bounded by [`MAX_RAW`].
    pub fn unpack(
        &mut self,
        member: &[u8],
        raw: &mut Vec<u8>,
    ) -> Result<MemberHeader, MemberError> {
        let header = MemberHeader::read(member)?;
        if header.length as usize != member.len() {
            return Err(MemberError::Form);
        }
        let (packed, footer) = member[HEADER_LENGTH..]
            .split_last_chunk::<8>()
            .ok_or(MemberError::Form)?;
        raw.clear();
        raw.resize(header.raw as usize, 0);
        let length = self
            .0
            .deflate_decompress(packed, raw)
            .map_err(|_| MemberError::Data)?;
        let mut crc = Crc::new();
        crc.update(raw);
        let mut expected = [0; 8];
        expected[..4].copy_from_slice(&crc.sum().to_le_bytes());
        expected[4..].copy_from_slice(&header.raw.to_le_bytes());
        if length != raw.len() || expected != *footer {
            return Err(MemberError::Data);
        }
        Ok(header)
    }
}

impl Trailer {
    /// The last member.
    pub fn bytes(&self) -> [u8; TRAILER_LENGTH] {
        let mut bytes = [0; TRAILER_LENGTH];
        bytes[..10].copy_from_slice(&FIXED);
        bytes[10..12].copy_from_slice(&56_u16.to_le_bytes());
        bytes[12..14].copy_from_slice(b"SX");
        bytes[14..16].copy_from_slice(&52_u16.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.manifest.member.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.manifest.skip.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.manifest_size.to_le_bytes());
        bytes[36..68].copy_from_slice(&self.sha256.0);
        bytes[68..].copy_from_slice(&EMPTY);
        bytes
    }

    /// Reads the last member, which is exactly `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Self, MemberError> {
        let bytes: &[u8; TRAILER_LENGTH] = bytes.try_into().map_err(|_| MemberError::Form)?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(&bytes[36..68]);
        let long = |at: usize| {
            bytes[at..at + 8]
                .try_into()
                .map(u64::from_le_bytes)
                .map_err(|_| MemberError::Form)
        };
        let trailer = Self {
            manifest: Place {
                member: long(16)?,
                skip: bytes[24..28]
                    .try_into()
                    .map(u32::from_le_bytes)
                    .map_err(|_| MemberError::Form)?,
            },
            manifest_size: long(28)?,
            sha256: Digest(sha256),
        };
        if trailer.bytes() == *bytes {
            Ok(trailer)
        } else {
            Err(MemberError::Form)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Packer::new(5).unwrap().pack(raw, true, &mut out).unwrap();
        out
    }

    #[test]
    fn every_flipped_bit_outside_the_deflate_stream_is_seen() {
        let whole = member(b"price,price,price,price,price");
        let trailer = Trailer {
            manifest: Place {
                member: 77,
                skip: 512,
            },
            manifest_size: 9,
            sha256: Digest::of(b"all"),
        };
        let mut raw = Vec::new();
        for bit in 0..HEADER_LENGTH * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = Unpacker::default().unpack(&damaged, &mut raw);
            // The one free bit says whether a file is continued; the hash in the trailer covers it.
            assert!(read.is_err() || bit == 24 * 8, "bit {bit}");
        }
        for bit in 0..TRAILER_LENGTH * 8 {
            let mut damaged = trailer.bytes();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Trailer::read(&damaged), Ok(trailer), "bit {bit}");
        }
        assert_eq!(Trailer::read(&trailer.bytes()), Ok(trailer));
    }

    #[test]
    fn gzip_reads_members_and_trailer() {
        let trailer = Trailer {
            manifest: Place { member: 0, skip: 0 },
            manifest_size: 0,
            sha256: Digest::of(b""),
        };
        let whole = [member(b"one,"), member(b"two"), trailer.bytes().to_vec()].concat();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gz");
        std::fs::write(&path, whole).unwrap();
        let output = std::process::Command::new("gzip")
            .arg("-dc")
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"one,two");
    }

    proptest! {
        #[test]
        fn members_are_unpacked_as_they_were_packed(raw in proptest::collection::vec(any::<u8>(), 1..5000)) {
            let mut out = Vec::new();
            let header = Unpacker::default().unpack(&member(&raw), &mut out).unwrap();
            prop_assert_eq!(&out, &raw);
            prop_assert_eq!(header.raw as usize, raw.len());
        }

        #[test]
        fn any_bytes_are_a_member_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Unpacker::default().unpack(&bytes, &mut Vec::new());
            let _ = Trailer::read(&bytes);
        }
    }
}
