//! Builds archives for tests, good ones and ones that no program of ours writes.
#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test may panic, and not every test uses all of it"
)]

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use sha2::{Digest as _, Sha256};
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::header::{Base, FORMAT, Header, Kind, Origin};
use stockpredictor_storage::archive::manifest::{Attributes, Content, Entry, Place, Target, Time};
use stockpredictor_storage::archive::member::{Packer, Trailer};
use stockpredictor_storage::archive::meta::{Guarded, Meta};
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::archive::path::RelativePath;
use stockpredictor_storage::destination::{Destination, DestinationError, Item, ReadAt, Upload};
use uuid::Uuid;

pub const NAME: &str = "stock_prediction_backup_20250801_120000.tar.gz";
pub const LATER: &str = "stock_prediction_backup_20250802_120000.tar.gz";
pub const TIME: Time = Time {
    seconds: 1_700_000_000,
    nanoseconds: 123_456_789,
};

/// Files in memory.
#[derive(Debug, Default)]
pub struct Shelf(pub Mutex<BTreeMap<String, Vec<u8>>>);

impl Shelf {
    pub fn with(name: &str, bytes: Vec<u8>) -> Self {
        let shelf = Self::default();
        shelf.put(name, bytes);
        shelf
    }

    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap().insert(name.to_owned(), bytes);
    }
}

pub struct Memory(pub Vec<u8>);

impl ReadAt for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(buffer.len());
        let part = end.and_then(|end| self.0.get(start..end));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Destination for Shelf {
    fn label(&self) -> String {
        "a shelf".to_owned()
    }

    fn list(&self) -> Result<Vec<Item>, DestinationError> {
        Ok(Vec::new())
    }

    fn read(&self, name: &str, _limit: usize) -> Result<Option<Vec<u8>>, DestinationError> {
        Ok(self.0.lock().unwrap().get(name).cloned())
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn ReadAt>>, DestinationError> {
        let found = self.0.lock().unwrap().get(name).cloned();
        Ok(found.map(|bytes| Box::new(Memory(bytes)) as Box<dyn ReadAt>))
    }

    fn claim(&self, _name: ArchiveName) -> Result<Option<Box<dyn Upload>>, DestinationError> {
        Ok(None)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DestinationError> {
        self.put(name, bytes.to_vec());
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), DestinationError> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }
}

pub fn header() -> Header {
    Header {
        format: FORMAT,
        id: Uuid::from_u128(1),
        origin: Origin::manual(Uuid::from_u128(2)),
        kind: Kind::Full,
        base: None,
        created_at: "2025-08-01T12:00:00Z".parse().unwrap(),
        include: Category::ALL.to_vec(),
        logs_days: 7,
        generator: "test".to_owned(),
    }
}

/// The header of an incremental backup.
pub fn header_on(base: Uuid, sha256: Digest) -> Header {
    Header {
        id: Uuid::from_u128(3),
        kind: Kind::Incremental,
        base: Some(Base {
            id: base,
            name: NAME.parse().unwrap(),
            sha256,
        }),
        created_at: "2025-08-02T12:00:00Z".parse().unwrap(),
        ..header()
    }
}

pub fn meta(name: &str, header: &Header, archive: &[u8]) -> Vec<u8> {
    let meta = Meta {
        format: header.format,
        id: header.id,
        name: name.parse().unwrap(),
        origin: header.origin.clone(),
        kind: header.kind,
        base: header.base.clone(),
        created_at: header.created_at,
        include: header.include.clone(),
        stored_files: 0,
        stored_bytes: 0,
        archive_bytes: archive.len() as u64,
        sha256: Digest::of(archive),
        key_ids: Vec::new(),
        totals: BTreeMap::new(),
        guarded: Guarded::default(),
        suspect: None,
        verification: None,
    };
    serde_json::to_vec(&meta).unwrap()
}

pub fn path(bytes: impl AsRef<[u8]>) -> RelativePath {
    RelativePath::new(bytes.as_ref()).unwrap()
}

pub fn attributes(mode: u32) -> Attributes {
    Attributes {
        mode,
        mtime: TIME,
        ctime: TIME,
        inode: 7,
    }
}

/// A tar entry, header and padding included, as bytes that a test may spoil.
#[derive(Clone)]
pub struct Tar {
    pub kind: u8,
    pub path: Vec<u8>,
    pub size: u64,
    pub mode: u32,
    pub mtime: Time,
    pub target: Vec<u8>,
    pub data: Vec<u8>,
    /// Records besides those that are needed.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the time is in a PAX record.
    pub has_pax: bool,
}

impl Tar {
    pub fn new(kind: u8, path: impl AsRef<[u8]>) -> Self {
        Self {
            kind,
            path: path.as_ref().to_vec(),
            size: 0,
            mode: if kind == b'5' { 0o755 } else { 0o644 },
            mtime: TIME,
            target: Vec::new(),
            data: Vec::new(),
            records: Vec::new(),
            has_pax: true,
        }
    }

    pub fn file(path: impl AsRef<[u8]>, data: &[u8]) -> Self {
        Self {
            size: data.len() as u64,
            data: data.to_vec(),
            ..Self::new(b'0', path)
        }
    }

    pub fn directory(path: impl AsRef<[u8]>) -> Self {
        Self::new(b'5', path)
    }

    pub fn link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self {
            mode: 0o777,
            target: target.as_ref().to_vec(),
            ..Self::new(b'2', path)
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut records = Vec::new();
        let mut stored = self.path.clone();
        if self.kind == b'5' {
            stored.push(b'/');
        }
        if self.has_pax {
            record(&mut records, b"mtime", decimal(self.mtime).as_bytes());
            if stored.len() > 100 || !stored.is_ascii() {
                record(&mut records, b"path", &stored);
                stored.truncate(100);
            }
        }
        let mut target = self.target.clone();
        if target.len() > 100 || !target.is_ascii() {
            record(&mut records, b"linkpath", &target);
            target.truncate(100);
        }
        for (key, value) in &self.records {
            record(&mut records, key, value);
        }
        if self.has_pax || !records.is_empty() {
            out.extend(block(b'x', b"pax", records.len() as u64, 0o644, &[]));
            out.extend(&records);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.extend(block(self.kind, &stored, self.size, self.mode, &target));
        out.extend(&self.data);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    /// The manifest's line for it.
    pub fn line(&self, place: Place) -> Entry {
        let attributes = Attributes {
            mode: self.mode,
            mtime: self.mtime,
            ctime: TIME,
            inode: 7,
        };
        let content = match self.kind {
            b'5' => Content::Directory { attributes, place },
            b'2' => Content::Symlink {
                attributes,
                target: Target(self.target.clone()),
                place,
            },
            _ => Content::File {
                attributes,
                size: self.size,
                allocated: self.size,
                sha256: Digest::of(&self.data),
                place,
            },
        };
        Entry {
            path: path(&self.path),
            content,
        }
    }
}

fn decimal(time: Time) -> String {
    let total = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let sign = if total < 0 { "-" } else { "" };
    let total = total.unsigned_abs();
    format!(
        "{sign}{}.{:09}",
        total / 1_000_000_000,
        total % 1_000_000_000
    )
}

fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend(format!("{length} ").bytes());
    out.extend(key);
    out.push(b'=');
    out.extend(value);
    out.push(b'\n');
}

/// A ustar header.
pub fn block(kind: u8, path: &[u8], size: u64, mode: u32, target: &[u8]) -> [u8; 512] {
    let mut block = [0; 512];
    block[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
    let mut put = |at: usize, text: String| {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(100, format!("{mode:07o}"));
    put(108, format!("{:07o}", 1001));
    put(116, format!("{:07o}", 1001));
    put(124, format!("{:011o}", size & 0o77_777_777_777));
    put(136, format!("{:011o}", TIME.seconds));
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target);
    block[257..265].copy_from_slice(b"ustar\x0000");
    checksum(&mut block);
    block
}

/// Makes a header's checksum right.
pub fn checksum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Archives piece by piece.
pub struct Builder {
    pub out: Vec<u8>,
    pub lines: Vec<Vec<u8>>,
    pub packer: Packer,
    /// The member that is being filled.
    pub open: Vec<u8>,
    /// Bytes of a member.
    pub target: usize,
}

impl Builder {
    pub fn new(header: &Header) -> Self {
        Self::raw(&Tar::file("backup.json", &serde_json::to_vec(header).unwrap()).bytes())
    }

    /// With any first member.
    pub fn raw(first: &[u8]) -> Self {
        let mut builder = Self {
            out: Vec::new(),
            lines: Vec::new(),
            packer: Packer::new(5).unwrap(),
            open: Vec::new(),
            target: 64 << 10,
        };
        builder.member(first, false);
        builder
    }

    pub fn member(&mut self, raw: &[u8], continues: bool) {
        self.packer.pack(raw, continues, &mut self.out).unwrap();
    }

    pub fn flush(&mut self) {
        let open = std::mem::take(&mut self.open);
        if !open.is_empty() {
            self.member(&open, false);
        }
    }

    /// Where the next entry will lie.
    pub fn place(&self) -> Place {
        Place {
            member: self.out.len() as u64,
            skip: self.open.len() as u32,
        }
    }

    /// An entry without a line; its place.
    pub fn entry(&mut self, tar: &Tar) -> Place {
        let bytes = tar.bytes();
        if bytes.len() > self.target {
            self.flush();
            let place = self.place();
            let mut parts = bytes.chunks(self.target);
            self.member(parts.next().unwrap(), false);
            for part in parts {
                self.member(part, true);
            }
            return place;
        }
        if self.open.len() + bytes.len() > self.target {
            self.flush();
        }
        let place = self.place();
        self.open.extend(bytes);
        place
    }

    /// An entry with its line.
    pub fn add(&mut self, tar: &Tar) -> Place {
        let place = self.entry(tar);
        self.line(&tar.line(place));
        place
    }

    pub fn line(&mut self, entry: &Entry) {
        let mut line = serde_json::to_vec(entry).unwrap();
        line.push(b'\n');
        self.lines.push(line);
    }

    pub fn json(&mut self, line: &serde_json::Value) {
        self.lines.push(format!("{line}\n").into_bytes());
    }

    pub fn deleted(&mut self, gone: &str) {
        self.line(&Entry {
            path: path(gone),
            content: Content::Deleted,
        });
    }

    pub fn finish(self) -> Vec<u8> {
        self.finish_with(|trailer| trailer)
    }

    /// With a trailer that a test may spoil.
    pub fn finish_with(mut self, spoil: impl FnOnce(Trailer) -> Trailer) -> Vec<u8> {
        let lines = self.lines.concat();
        let mut bytes = Tar::file("manifest.jsonl", &lines).bytes();
        bytes.extend([0; 1024]);
        if self.open.len() + bytes.len() > self.target {
            self.flush();
        }
        let manifest = self.place();
        let manifest_size = lines.len() as u64;
        if bytes.len() > self.target {
            let (parts, rest) = bytes.split_at((bytes.len() - 1024) / self.target * self.target);
            for (index, part) in parts.chunks(self.target).enumerate() {
                self.member(part, index > 0);
            }
            self.member(rest, true);
        } else {
            self.open.extend(bytes);
            self.flush();
        }
        seal(self.out, manifest, manifest_size, spoil)
    }
}

/// Appends the trailer.
pub fn seal(
    mut out: Vec<u8>,
    manifest: Place,
    manifest_size: u64,
    spoil: impl FnOnce(Trailer) -> Trailer,
) -> Vec<u8> {
    let trailer = spoil(Trailer {
        manifest,
        manifest_size,
        sha256: Digest(Sha256::digest(&out).into()),
    });
    out.extend(trailer.bytes());
    out
}

/// Data that isn't all the same and packs well.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b"0123456789,.\n;-ab"[(state % 17) as usize]
        })
        .collect()
}

/// A small good archive with one of everything.
pub fn small() -> Builder {
    let mut builder = Builder::new(&header());
    builder.add(&Tar::directory("config"));
    builder.add(&Tar::file("config/a.json", b"{\"a\": 1}"));
    builder.add(&Tar::directory("config/empty"));
    builder.add(&Tar::link("config/link", "../../outside"));
    builder.add(&Tar::directory("ml_models"));
    builder.add(&Tar::file("ml_models/model.onnx", &noise(3000, 1)));
    builder.add(&Tar::file("ml_models/nothing", b""));
    builder.add(&Tar::file(b"ml_models/\xff\xfe", b"any"));
    builder
}

/// The same encrypted.
pub fn encrypted(plain: &[u8]) -> (Vec<u8>, String) {
    use age::secrecy::ExposeSecret as _;
    let identity = age::x25519::Identity::generate();
    let sealed = age::encrypt(&identity.to_public(), plain).unwrap();
    (sealed, identity.to_string().expose_secret().to_owned())
}
