//! An archive that isn't sealed yet: entries, the members that they lie in, lines of the manifest, and what to spoil.
//!
//! In come pieces and edits; out comes an archive whose tar checksums, gzip framing, hashes and places were made right
//! after the spoiling, so that what was spoiled is seen by the code behind those checks.

use serde_json::{Value, json};
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::header::Header;
use stockpredictor_storage::archive::manifest::{Place, Target};
use stockpredictor_storage::archive::member::Packer;
use stockpredictor_storage::archive::path::RelativePath;

use super::spoil::{self, BLOCK, Edit, Kind, Laid, Member};
use crate::builder::{Tar, seal};

/// An entry, and whether the manifest names it.
pub struct Piece {
    pub tar: Tar,
    pub is_named: bool,
}

impl Piece {
    pub const fn named(tar: Tar) -> Self {
        Self {
            tar,
            is_named: true,
        }
    }
}

/// A line that belongs to no entry.
pub enum Line {
    Deleted(Vec<u8>),
    Raw(Vec<u8>),
}

/// What isn't made right, and how large members are.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a bit of the input")]
pub struct Style {
    pub keeps_layout: bool,
    pub keeps_lines: bool,
    pub keeps_checksums: bool,
    pub allows_duplicates: bool,
    pub parts_manifest: bool,
    pub target: usize,
}

/// What an archive is made from.
pub struct Draft {
    header: Header,
    pieces: Vec<Piece>,
    pub lines: Vec<Line>,
    pub edits: Vec<Edit>,
    pub style: Style,
}

impl Draft {
    pub fn new(header: Header) -> Self {
        Self {
            header,
            pieces: Vec::new(),
            lines: Vec::new(),
            edits: Vec::new(),
            style: Style::default(),
        }
    }

    pub fn add(&mut self, piece: Piece) {
        let is_there = |other: &Piece| other.is_named && other.tar.path == piece.tar.path;
        if piece.is_named && !self.style.allows_duplicates && self.pieces.iter().any(is_there) {
            return;
        }
        self.pieces.push(piece);
    }

    fn edits(&self, kind: Kind) -> impl Iterator<Item = &Edit> {
        self.edits.iter().filter(move |edit| edit.kind == kind)
    }

    /// The archive.
    pub fn pack(mut self) -> Vec<u8> {
        if !self.style.keeps_layout {
            self.pieces
                .sort_by_cached_key(|piece| order(&piece.tar.path));
        }
        let (mut members, mut laid) = self.lay();
        for edit in self.edits(Kind::Tar) {
            let count = laid.len() + 1;
            if let Some(place) = laid.get(edit.what % count) {
                spoil::overwrite(&mut members, place, edit);
            }
        }
        if !self.style.keeps_checksums {
            for place in &laid {
                for start in [0, place.head - BLOCK] {
                    spoil::fix(&mut members, place, start);
                }
            }
        }
        for edit in self.edits(Kind::Member) {
            spoil::restructure(&mut members, &mut laid, edit);
        }
        self.seal(&members, &laid)
    }

    /// Puts `backup.json` and the pieces into members as a backup does.
    fn lay(&self) -> (Vec<Member>, Vec<Laid>) {
        let target = self.style.target;
        let header = Tar::file("backup.json", &serde_json::to_vec(&self.header).unwrap()).bytes();
        let mut members = vec![Member {
            raw: header.clone(),
            continues: false,
        }];
        let mut laid = vec![Laid {
            member: 0,
            skip: 0,
            head: 3 * BLOCK,
            length: header.len(),
        }];
        let mut is_open = false;
        for piece in &self.pieces {
            let bytes = piece.tar.bytes();
            let fits = |last: &Member| is_open && last.raw.len() + bytes.len() <= target;
            let is_added = members.last().is_some_and(fits);
            let head = bytes.len() - piece.tar.data.len().next_multiple_of(BLOCK);
            laid.push(Laid {
                member: members.len() - usize::from(is_added),
                skip: members
                    .last()
                    .map_or(0, |last| if is_added { last.raw.len() } else { 0 }),
                head,
                length: bytes.len(),
            });
            is_open = bytes.len() <= target;
            match members.last_mut() {
                Some(last) if is_added => last.raw.extend(bytes),
                _ => members.extend(
                    bytes
                        .chunks(target)
                        .enumerate()
                        .map(|(index, part)| Member {
                            raw: part.to_vec(),
                            continues: index > 0,
                        }),
                ),
            }
        }
        (members, laid)
    }

    /// Packs the members, then the manifest, then what ends an archive.
    fn seal(&self, members: &[Member], laid: &[Laid]) -> Vec<u8> {
        let mut packer = Packer::new(1).unwrap();
        let mut out = Vec::new();
        let mut offsets = Vec::new();
        // The manifest may share the last member, whose place is known before it is packed.
        let (last, before) = members.split_last().unzip();
        for member in before.unwrap_or_default() {
            offsets.push(out.len());
            pack(&mut packer, &member.raw, member.continues, &mut out);
        }
        offsets.push(out.len());
        let lines = self.written(members, laid, &offsets);
        let manifest = self.manifest(&lines, laid.len());
        let mut raw = last.map_or_else(Vec::new, |last| last.raw.clone());
        let continues = last.is_some_and(|last| last.continues);
        let is_joined = !self.style.parts_manifest
            && !continues
            && offsets.len() > 1
            && raw.len() + manifest.len() <= self.style.target;
        let place = if is_joined {
            let place = Place {
                member: out.len() as u64,
                skip: raw.len() as u32,
            };
            raw.extend(manifest);
            pack(&mut packer, &raw, false, &mut out);
            place
        } else {
            pack(&mut packer, &raw, continues, &mut out);
            let member = out.len() as u64;
            // The end, two empty blocks, isn't cut.
            let target = self.style.target;
            let whole = (manifest.len() - 2 * BLOCK) / target * target;
            let (parts, rest) = manifest.split_at(whole);
            for (index, part) in parts.chunks(target).chain([rest]).enumerate() {
                pack(&mut packer, part, index > 0, &mut out);
            }
            Place { member, skip: 0 }
        };
        for edit in self.edits(Kind::Packed) {
            let length = out.len();
            for (index, byte) in edit.bytes.iter().enumerate() {
                if let Some(old) = out.get_mut((edit.at + index) % length.max(1)) {
                    *old = *byte;
                }
            }
        }
        seal(out, place, lines.len() as u64, |trailer| {
            self.edits(Kind::Trailer).fold(trailer, spoil::trailer)
        })
    }

    /// The manifest's entry and the end of the tar file.
    fn manifest(&self, lines: &[u8], index: usize) -> Vec<u8> {
        let mut bytes = Tar::file("manifest.jsonl", lines).bytes();
        let place = Laid {
            member: 0,
            skip: 0,
            head: 3 * BLOCK,
            length: bytes.len() + 2 * BLOCK,
        };
        bytes.extend([0; 2 * BLOCK]);
        let mut members = [Member {
            raw: bytes,
            continues: false,
        }];
        for edit in self.edits(Kind::Tar) {
            if edit.what % (index + 1) == index {
                spoil::overwrite(&mut members, &place, edit);
            }
        }
        if !self.style.keeps_checksums {
            spoil::fix(&mut members, &place, 0);
            spoil::fix(&mut members, &place, 2 * BLOCK);
        }
        let [member] = members;
        member.raw
    }

    /// The manifest's lines, each with the hash of what lies there now.
    fn written(&self, members: &[Member], laid: &[Laid], offsets: &[usize]) -> Vec<u8> {
        let mut lines: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (piece, place) in self.pieces.iter().zip(laid.iter().skip(1)) {
            if !piece.is_named {
                continue;
            }
            let data: Vec<u8> = (place.head..place.head + piece.tar.data.len())
                .filter_map(|at| spoil::find(members, place, at))
                .map(|(member, at)| members[member].raw[at])
                .collect();
            let offset = offsets.get(place.member).copied().unwrap_or_default();
            let line = line(&piece.tar, &data, offset, place.skip);
            lines.push((order(&piece.tar.path), format!("{line}\n").into_bytes()));
        }
        for line in &self.lines {
            match line {
                Line::Deleted(path) => {
                    let text = json!({"path": shown(path), "type": "deleted"});
                    lines.push((order(path), format!("{text}\n").into_bytes()));
                }
                Line::Raw(text) => lines.push((vec![255], [text, &b"\n"[..]].concat())),
            }
        }
        if !self.style.keeps_lines {
            lines.sort();
        }
        let mut lines: Vec<Vec<u8>> = lines.into_iter().map(|(_, line)| line).collect();
        for edit in self.edits(Kind::Order) {
            spoil::reorder(&mut lines, edit);
        }
        for edit in self.edits(Kind::Line) {
            let count = lines.len().max(1);
            if let Some(line) = lines.get_mut(edit.what % count) {
                let start = edit.at % line.len().max(1);
                // So many bytes go as come, but for the first, which says how many more.
                let (more, new) = edit.bytes.split_first().unwrap_or((&0, &[]));
                let end = (start + new.len() + usize::from(*more)).min(line.len());
                line.splice(start.min(end)..end, new.iter().copied());
            }
        }
        lines.concat()
    }
}

/// The order of a walk.
fn order(path: &[u8]) -> Vec<u8> {
    path.iter()
        .map(|byte| if *byte == b'/' { 0 } else { *byte })
        .collect()
}

fn shown(path: &[u8]) -> Value {
    RelativePath::new(path).map_or_else(
        |_| Value::from(String::from_utf8_lossy(path).into_owned()),
        |path| json!(path),
    )
}

fn line(tar: &Tar, data: &[u8], member: usize, skip: usize) -> Value {
    let time = format!("{}.{:09}", tar.mtime.seconds, tar.mtime.nanoseconds);
    let mut line = json!({
        "path": shown(&tar.path), "mode": format!("{:o}", tar.mode), "mtime": time, "ctime": time, "inode": 7,
        "member": member, "skip": skip,
    });
    match tar.kind {
        b'5' => line["type"] = json!("directory"),
        b'2' => {
            line["type"] = json!("symlink");
            line["target"] = json!(Target(tar.target.clone()));
        }
        _ => {
            line["type"] = json!("file");
            line["size"] = json!(tar.size);
            line["sha256"] = json!(Digest::of(data));
        }
    }
    line
}

fn pack(packer: &mut Packer, raw: &[u8], continues: bool, out: &mut Vec<u8>) {
    if !raw.is_empty() {
        packer.pack(raw, continues, out).unwrap();
    }
}
