//! `manifest.jsonl`, the last entry of an archive: a line for each file, directory, link and deletion.
//!
//! Lines are sorted by path, component by component. An incremental archive's manifest has what it
//! stores and what was deleted since its base; the rest is the base's.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::Digest;
use super::path::{RelativePath, Text};

/// Path of the last entry.
pub const MANIFEST_PATH: &str = "manifest.jsonl";
/// Longest line that is read, in bytes: two longest paths, each byte a control character that takes six, and the numbers.
pub const MAX_LINE: usize = 64 << 10;

/// A moment to the nanosecond; in files `"SECONDS.NANOSECONDS"` with nine digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// 0 to 999,999,999, forward in time.
    pub nanoseconds: u32,
}

/// Where an entry's tar header begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Offset of the gzip member in the (decrypted) archive, in bytes.
    pub member: u64,
    /// Offset in the member's uncompressed data, in bytes: the header, an extended (PAX) one included.
    pub skip: u32,
}

/// One line of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub struct Entry {
    /// Where it belongs, relative to the root.
    pub path: RelativePath,
    /// What it is.
    pub content: Content,
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File {
        /// Its attributes.
        attributes: Attributes,
        /// Size in bytes.
        size: u64,
        /// Bytes of it that take room when it is unpacked: without the holes of a sparse file.
        allocated: u64,
        /// Of its content.
        sha256: Digest,
        /// Where it begins.
        place: Place,
    },
    /// A directory.
    Directory {
        /// Its attributes.
        attributes: Attributes,
        /// Where its entry begins.
        place: Place,
    },
    /// A symbolic link, kept as it is and never followed.
    Symlink {
        /// Its attributes.
        attributes: Attributes,
        /// What it points to.
        target: Target,
        /// Where its entry begins.
        place: Place,
    },
    /// Something of the base that is gone. What lay below a deleted directory has a line each.
    Deleted,
}

/// The line as it is written: flat, because a tagged enum would be read into a tree first, which takes three times as long.
#[derive(Serialize, Deserialize)]
struct Line {
    path: RelativePath,
    #[serde(rename = "type")]
    kind: LineKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Only where it is less than the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allocated: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ctime: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skip: Option<u32>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineKind {
    File,
    Directory,
    Symlink,
    Deleted,
}

impl From<Entry> for Line {
    fn from(Entry { path, content }: Entry) -> Self {
        let attributes = content.attributes().copied();
        let place = content.place();
        let allocated = Some(content.allocated()).filter(|bytes| *bytes < content.size());
        let (kind, size, sha256, target) = match content {
            Content::File { size, sha256, .. } => (LineKind::File, Some(size), Some(sha256), None),
            Content::Directory { .. } => (LineKind::Directory, None, None, None),
            Content::Symlink { target, .. } => (LineKind::Symlink, None, None, Some(target)),
            Content::Deleted => (LineKind::Deleted, None, None, None),
        };
        Self {
            path,
            kind,
            size,
            allocated,
            mode: attributes.map(|attributes| Mode(attributes.mode)),
            mtime: attributes.map(|attributes| attributes.mtime),
            ctime: attributes.map(|attributes| attributes.ctime),
            inode: attributes.map(|attributes| attributes.inode),
            sha256,
            target,
            member: place.map(|place| place.member),
            skip: place.map(|place| place.skip),
        }
    }
}

impl TryFrom<Line> for Entry {
    type Error = &'static str;

    fn try_from(line: Line) -> Result<Self, Self::Error> {
        const INCOMPLETE: &str = "a line of the manifest lacks a member of its type";
        let attributes = || {
            Some(Attributes {
                mode: line.mode?.0,
                mtime: line.mtime?,
                ctime: line.ctime?,
                inode: line.inode?,
            })
        };
        let place = || {
            Some(Place {
                member: line.member?,
                skip: line.skip?,
            })
        };
        let content = match line.kind {
            LineKind::Deleted => Content::Deleted,
            kind => {
                let attributes = attributes().ok_or(INCOMPLETE)?;
                let place = place().ok_or(INCOMPLETE)?;
                match kind {
                    LineKind::File => Content::File {
                        attributes,
                        size: line.size.ok_or(INCOMPLETE)?,
                        allocated: line.allocated.or(line.size).ok_or(INCOMPLETE)?,
                        sha256: line.sha256.ok_or(INCOMPLETE)?,
                        place,
                    },
                    LineKind::Symlink => Content::Symlink {
                        attributes,
                        target: line.target.ok_or(INCOMPLETE)?,
                        place,
                    },
                    LineKind::Directory | LineKind::Deleted => {
                        Content::Directory { attributes, place }
                    }
                }
            }
        };
        Ok(Self {
            path: line.path,
            content,
        })
    }
}

/// Attributes of a file, directory or link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The permission bits, at most 0o7777.
    pub mode: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode: for comparison only.
    pub ctime: Time,
    /// The inode: for comparison only.
    pub inode: u64,
}

/// What a symbolic link points to: any bytes but zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(pub Vec<u8>);

impl Content {
    /// The attributes; `None` for a deletion.
    pub const fn attributes(&self) -> Option<&Attributes> {
        match self {
            Self::File { attributes, .. }
            | Self::Directory { attributes, .. }
            | Self::Symlink { attributes, .. } => Some(attributes),
            Self::Deleted => None,
        }
    }

    /// Where its tar header begins; `None` for a deletion.
    pub const fn place(&self) -> Option<Place> {
        match self {
            Self::File { place, .. }
            | Self::Directory { place, .. }
            | Self::Symlink { place, .. } => Some(*place),
            Self::Deleted => None,
        }
    }

    /// Size of a file, 0 for everything else.
    pub const fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            _ => 0,
        }
    }

    /// Bytes that a file takes when it is unpacked, 0 for everything else.
    pub const fn allocated(&self) -> u64 {
        match self {
            Self::File { allocated, .. } => *allocated,
            _ => 0,
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Text::of(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Text::deserialize(deserializer)?
            .bytes()
            .map_err(D::Error::custom)?;
        if bytes.is_empty() || bytes.contains(&0) || bytes.len() >= super::path::MAX_PATH {
            return Err(D::Error::custom(
                "a link's target is empty, too long or has a zero byte",
            ));
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}.{:09}", self.seconds, self.nanoseconds))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let parsed = text.split_once('.').and_then(|(seconds, fraction)| {
            let is_nine = fraction.len() == 9 && fraction.bytes().all(|byte| byte.is_ascii_digit());
            Some(Self {
                seconds: seconds.parse().ok()?,
                nanoseconds: fraction.parse().ok().filter(|_| is_nine)?,
            })
        });
        parsed.ok_or_else(|| D::Error::custom("a time is written SECONDS.NNNNNNNNN"))
    }
}

/// A mode; in files octal text such as `"644"`.
#[derive(Clone, Copy)]
struct Mode(u32);

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:o}", self.0))
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let mode = u32::from_str_radix(&text, 8).map_err(D::Error::custom)?;
        if mode > 0o7777 {
            return Err(D::Error::custom("a mode has at most four octal digits"));
        }
        Ok(Self(mode))
    }
}

#[cfg(test)]
mod tests;
