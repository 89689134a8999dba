//! A fuzzer's bytes as a list of things to do: entries to store, then bytes and members and lines to spoil.
//!
//! In come bytes, any of which mean something; out come archives. Numbers choose among what there is, so that most
//! inputs change an archive rather than miss it.

use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::manifest::Time;
use uuid::Uuid;

use super::draft::{Draft, Line, Piece, Style};
use super::input::Input;
use super::spoil::{Edit, Kind};
use crate::builder::{Tar, header, header_on, noise};

/// Most things that are done to one archive, so that no input takes long.
const MAX_STEPS: usize = 48;
/// Names that the layout knows, and some that lead out of it.
const NAMES: [&[u8]; 16] = [
    b"config",
    b"ml_models",
    b"a.json",
    b"empty",
    b"link",
    b"model.onnx",
    b"nothing",
    b"\xff\xfe",
    b"logs",
    b"notes",
    b"a",
    b"..",
    b".",
    b"",
    b"canary",
    b".stockpredictor",
];

/// What an input says.
pub struct Made {
    /// The full archive.
    pub full: Vec<u8>,
    /// An incremental one that is based on it.
    pub incremental: Option<Vec<u8>>,
    /// How many threads unpack it.
    pub threads: usize,
    /// Whether only a part of it is unpacked.
    pub is_part: bool,
}

/// The archives that an input says.
pub fn archives(bytes: &[u8]) -> Made {
    let mut input = Input(bytes);
    let flags = input.byte();
    let full = read(&mut input, Draft::new(header())).pack();
    let incremental = (flags & 2 != 0).then(|| {
        let header = header_on(Uuid::from_u128(1), Digest::of(&full));
        read(&mut input, Draft::new(header)).pack()
    });
    Made {
        full,
        incremental,
        threads: if flags & 1 == 0 { 1 } else { 3 },
        is_part: flags & 4 != 0,
    }
}

fn read(input: &mut Input<'_>, mut draft: Draft) -> Draft {
    let flags = input.byte();
    if flags & 1 == 0 {
        usual(&mut draft);
    }
    draft.style = Style {
        keeps_layout: flags & 2 != 0,
        keeps_lines: flags & 4 != 0,
        keeps_checksums: flags & 8 != 0,
        allows_duplicates: flags & 16 != 0,
        parts_manifest: flags & 32 != 0,
        target: 4096 << (flags >> 6),
    };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 16 {
            0 => break,
            1 => draft.add(Piece::named(Tar::directory(path(input)))),
            2 => {
                let path = path(input);
                draft.add(Piece::named(Tar::file(path, &data(input))));
            }
            3 => {
                let path = path(input);
                draft.add(Piece::named(Tar::link(path, input.bytes())));
            }
            4 => draft.lines.push(Line::Deleted(path(input))),
            5 => draft.lines.push(Line::Raw(input.bytes().to_vec())),
            6 => {
                let piece = odd(input);
                draft.add(piece);
            }
            kind => draft.edits.push(Edit {
                kind: match kind {
                    7 | 8 => Kind::Tar,
                    9 | 10 => Kind::Line,
                    11 => Kind::Order,
                    12 | 13 => Kind::Member,
                    14 => Kind::Trailer,
                    _ => Kind::Packed,
                },
                what: input.number(),
                at: input.number(),
                bytes: input.bytes().to_vec(),
            }),
        }
    }
    draft
}

/// One of everything.
fn usual(draft: &mut Draft) {
    for tar in [
        Tar::directory("config"),
        Tar::file("config/a.json", b"{\"a\": 1}"),
        Tar::directory("config/empty"),
        Tar::link("config/link", "../../canary"),
        Tar::directory("ml_models"),
        Tar::file("ml_models/model.onnx", &noise(3000, 1)),
        Tar::file("ml_models/nothing", b""),
        Tar::file(b"ml_models/\xff\xfe", b"any"),
    ] {
        draft.add(Piece::named(tar));
    }
}

/// An entry with something unusual about it.
fn odd(input: &mut Input<'_>) -> Piece {
    let flags = input.byte();
    let path = path(input);
    let mut tar = Tar::file(path, &data(input));
    if flags & 2 != 0 {
        tar.mode = input.number() as u32;
    }
    if flags & 4 != 0 {
        let mut seconds = [0; 8];
        seconds.fill_with(|| input.byte());
        tar.mtime = Time {
            seconds: i64::from_le_bytes(seconds),
            nanoseconds: input.number() as u32,
        };
    }
    if flags & 8 != 0 {
        let key = input.bytes().to_vec();
        tar.records.push((key, input.bytes().to_vec()));
    }
    if flags & 16 != 0 {
        tar.size = u64::from(input.byte()) << (input.byte() % 64);
    }
    if flags & 32 != 0 {
        tar.kind = input.byte();
    }
    if flags & 64 != 0 {
        tar.target = input.bytes().to_vec();
    }
    tar.has_pax = flags & 128 == 0;
    Piece {
        tar,
        is_named: flags & 1 == 0,
    }
}

fn path(input: &mut Input<'_>) -> Vec<u8> {
    let mut path = Vec::new();
    loop {
        let said = input.byte();
        if said & 0x80 == 0 {
            path.extend(NAMES[usize::from(said & 15)]);
        } else {
            path.extend(input.bytes());
        }
        if said & 16 == 0 || path.len() > 1000 {
            return path;
        }
        path.push(b'/');
    }
}

fn data(input: &mut Input<'_>) -> Vec<u8> {
    let said = input.byte();
    let length = usize::from(said & 63) << (said >> 4 & 8);
    match said >> 6 {
        0 | 2 => noise(length, 1),
        1 => vec![0; length],
        _ => input.bytes().to_vec(),
    }
}
