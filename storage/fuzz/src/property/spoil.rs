//! Ways to spoil an archive that isn't sealed yet.
//!
//! In come members, lines and an edit whose numbers choose among them; nothing is out of range, so every edit counts.

use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::manifest::Place;
use stockpredictor_storage::archive::member::Trailer;

use super::input::Input;
use crate::builder::checksum;

/// Unit of a tar file.
pub const BLOCK: usize = 512;

/// What an edit changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of an entry, the first being `backup.json`, the last the manifest.
    Tar,
    /// Bytes of a line.
    Line,
    /// Which lines there are, and their order.
    Order,
    /// Which members there are, and their order.
    Member,
    /// What the last member says.
    Trailer,
    /// Bytes of the packed archive, before it is sealed.
    Packed,
}

/// Something to spoil; the numbers choose among what there is.
pub struct Edit {
    pub kind: Kind,
    pub what: usize,
    pub at: usize,
    pub bytes: Vec<u8>,
}

/// Uncompressed data of a member.
#[derive(Clone)]
pub struct Member {
    pub raw: Vec<u8>,
    pub continues: bool,
}

/// Where an entry lies.
pub struct Laid {
    pub member: usize,
    pub skip: usize,
    /// Bytes of its header, PAX records included.
    pub head: usize,
    /// All of its bytes.
    pub length: usize,
}

/// Where a byte of an entry lies: in which member, and where in it.
pub fn find(members: &[Member], place: &Laid, at: usize) -> Option<(usize, usize)> {
    let mut at = place.skip + at;
    for (index, member) in members.iter().enumerate().skip(place.member) {
        if at < member.raw.len() {
            return Some((index, at));
        }
        at -= member.raw.len();
    }
    None
}

/// Puts bytes over an entry's.
pub fn overwrite(members: &mut [Member], place: &Laid, edit: &Edit) {
    for (index, byte) in edit.bytes.iter().enumerate() {
        let at = (edit.at + index) % place.length.max(1);
        if let Some((member, at)) = find(members, place, at) {
            members[member].raw[at] = *byte;
        }
    }
}

/// Makes the checksum of a header right that begins at `start`.
pub fn fix(members: &mut [Member], place: &Laid, start: usize) {
    let mut block = [0; BLOCK];
    for (index, byte) in block.iter_mut().enumerate() {
        if let Some((member, at)) = find(members, place, start + index) {
            *byte = members[member].raw[at];
        }
    }
    checksum(&mut block);
    for (index, byte) in block.iter().enumerate() {
        if let Some((member, at)) = find(members, place, start + index) {
            members[member].raw[at] = *byte;
        }
    }
}

/// Splits, swaps, repeats, lengthens or drops members.
pub fn restructure(members: &mut Vec<Member>, laid: &mut [Laid], edit: &Edit) {
    let mut input = Input(&edit.bytes);
    let how = input.byte();
    let what = edit.what % members.len().max(1);
    let other = edit.at % members.len().max(1);
    match how % 6 {
        0 => {
            let Some(first) = members.get_mut(what) else {
                return;
            };
            let at = edit.at % first.raw.len().max(1);
            let raw = first.raw.split_off(at);
            members.insert(
                what + 1,
                Member {
                    raw,
                    continues: how & 128 != 0,
                },
            );
            for place in laid {
                if place.member > what {
                    place.member += 1;
                } else if place.member == what && place.skip >= at {
                    place.member += 1;
                    place.skip -= at;
                }
            }
        }
        1 => {
            if let Some(member) = members.get_mut(what) {
                member.continues = !member.continues;
            }
        }
        2 if !members.is_empty() => members.swap(what, other),
        3 if !members.is_empty() => drop(members.remove(what)),
        4 => {
            if let Some(copy) = members.get(what).cloned() {
                members.insert(other, copy);
            }
        }
        _ => {
            if let Some(member) = members.get_mut(what) {
                member.raw.extend(input.0);
            }
        }
    }
}

/// Swaps, drops or repeats lines.
pub fn reorder(lines: &mut Vec<Vec<u8>>, edit: &Edit) {
    if lines.is_empty() {
        return;
    }
    let (what, other) = (edit.what % lines.len(), edit.at % lines.len());
    match edit.bytes.len() % 3 {
        0 => lines.swap(what, other),
        1 => drop(lines.remove(what)),
        _ => {
            let copy = lines[what].clone();
            lines.insert(other, copy);
        }
    }
}

/// Changes what the last member says.
pub fn trailer(trailer: Trailer, edit: &Edit) -> Trailer {
    let Place { member, skip } = trailer.manifest;
    let by = edit.at as u64;
    match edit.what % 6 {
        0 => Trailer {
            manifest_size: trailer.manifest_size.wrapping_sub(by),
            ..trailer
        },
        1 => Trailer {
            manifest_size: trailer.manifest_size + by,
            ..trailer
        },
        2 => Trailer {
            manifest: Place {
                member: member.wrapping_sub(by),
                skip,
            },
            ..trailer
        },
        3 => Trailer {
            manifest: Place {
                member,
                skip: skip.wrapping_add(edit.at as u32 * BLOCK as u32),
            },
            ..trailer
        },
        4 => Trailer {
            manifest: Place {
                member,
                skip: edit.at as u32,
            },
            ..trailer
        },
        _ => Trailer {
            sha256: Digest::of(&edit.bytes),
            ..trailer
        },
    }
}
