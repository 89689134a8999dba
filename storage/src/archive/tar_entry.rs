//! A strict reader of one tar entry: files, directories, symbolic links and their PAX records, nothing else.
//!
//! In come bytes that begin with an entry's header; out comes the entry or why it is refused. GNU extensions, hard
//! links, devices, FIFOs, sparse files and global headers are never written by this program, so they are refused.

use tar::{EntryType, Header};

use super::manifest::{Attributes, Content, Entry, Target, Time};
use super::path::{MAX_PATH, RelativePath};

/// Size of a header and unit of an entry's data, in bytes.
pub const BLOCK: usize = 512;
/// Longest PAX data: a longest path, a longest target and the numbers.
const MAX_PAX: usize = 16 << 10;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// One entry's header, PAX records applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarEntry {
    /// Where it belongs.
    pub path: RelativePath,
    /// What it is.
    pub kind: Kind,
    /// Bytes of data that follow.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change.
    pub mtime: Time,
    /// What a link points to.
    pub target: Option<Vec<u8>>,
    /// Bytes of the header, PAX records included.
    pub header_length: usize,
}

/// Why bytes are no entry that this program writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TarError(pub String);

/// Size with padding; `None` if there is no such size.
pub fn padded(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(BLOCK as u64)
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    mtime: Option<Time>,
    size: Option<u64>,
    is_binary: bool,
}

impl TarEntry {
    /// Reads the entry that `raw` begins with.
    pub fn read(raw: &[u8]) -> Result<Self, TarError> {
        let first = header(raw)?;
        if first.entry_type() != EntryType::XHeader {
            // Every entry has one for its time; without it nothing tells where an entry begins.
            return Self::build(first, Pax::default(), BLOCK);
        }
        let size = octal(&first.as_old().size, "size")?;
        let length = usize::try_from(size)
            .ok()
            .filter(|length| *length <= MAX_PAX)
            .ok_or_else(|| refused("a PAX header is longer than any that is written"))?;
        let end = BLOCK + length.next_multiple_of(BLOCK);
        let data = raw.get(BLOCK..end).ok_or_else(cut)?;
        if data[length..].iter().any(|byte| *byte != 0) {
            return Err(refused("data is hidden after a PAX header"));
        }
        let pax = Pax::read(&data[..length])?;
        let second = header(&raw[end..])?;
        Self::build(second, pax, end + BLOCK)
    }

    fn build(header: &Header, pax: Pax, header_length: usize) -> Result<Self, TarError> {
        let fields = header.as_old();
        let kind = match fields.linkflag[0] {
            b'0' => Kind::File,
            b'5' => Kind::Directory,
            b'2' => Kind::Symlink,
            other => {
                return Err(refused(&format!(
                    "an entry has the type {:?}, only files, directories and symbolic links are allowed",
                    char::from(other)
                )));
            }
        };
        let mut path = pax.path.unwrap_or_else(|| header.path_bytes().into_owned());
        if kind == Kind::Directory && path.last() == Some(&b'/') {
            path.pop();
        }
        let path = RelativePath::new(path).map_err(|error| TarError(error.to_string()))?;
        let about = |error: TarError| TarError(format!("{path}: {error}"));
        let size = match pax.size {
            Some(size) => size,
            None => octal(&fields.size, "size").map_err(about)?,
        };
        if kind != Kind::File && size != 0 {
            return Err(about(refused("only a file has data")));
        }
        let linked = pax
            .target
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .filter(|target| !target.is_empty());
        let target = match (kind, linked) {
            (Kind::Symlink, Some(target)) if target.len() < MAX_PATH && !target.contains(&0) => {
                Some(target)
            }
            (Kind::Symlink, _) => return Err(about(refused("a link has no usable target"))),
            (_, None) => None,
            (_, Some(_)) => return Err(about(refused("only a link has a target"))),
        };
        let mode = octal(&fields.mode, "mode").map_err(about)?;
        let mode = u32::try_from(mode)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .ok_or_else(|| about(refused("its mode has more than four digits")))?;
        let mtime = pax
            .mtime
            .ok_or_else(|| about(refused("its time isn't in a PAX record")))?;
        Ok(Self {
            path,
            kind,
            size,
            mode,
            mtime,
            target,
            header_length,
        })
    }

    /// Compares with the manifest's line.
    pub fn agrees(&self, entry: &Entry) -> Result<(), TarError> {
        let differs = |what| {
            TarError(format!(
                "{}: the manifest and the entry in the archive differ in {what}",
                entry.path
            ))
        };
        if self.path != entry.path {
            return Err(differs("the path"));
        }
        let (kind, target) = match &entry.content {
            Content::File { .. } => (Kind::File, None),
            Content::Directory { .. } => (Kind::Directory, None),
            Content::Symlink { target, .. } => (Kind::Symlink, Some(target)),
            Content::Deleted => return Err(differs("the type")),
        };
        let fault = if self.kind != kind {
            Some("the type")
        } else if self.size != entry.content.size() {
            Some("the size")
        } else if target.map(|Target(bytes)| bytes) != self.target.as_ref() {
            Some("the target")
        } else {
            entry.content.attributes().and_then(|attributes| {
                let Attributes { mode, mtime, .. } = *attributes;
                if mode != self.mode {
                    Some("the mode")
                } else if mtime != self.mtime {
                    Some("the time")
                } else {
                    None
                }
            })
        };
        fault.map_or(Ok(()), |what| Err(differs(what)))
    }
}

fn refused(reason: &str) -> TarError {
    TarError(reason.to_owned())
}

fn cut() -> TarError {
    refused("an entry reaches beyond its member")
}

fn header(raw: &[u8]) -> Result<&Header, TarError> {
    let block: &[u8; BLOCK] = raw.first_chunk().ok_or_else(cut)?;
    let header = Header::from_byte_slice(block);
    let stored = octal(&header.as_old().cksum, "checksum")?;
    let blank = block.iter().enumerate().map(|(at, byte)| {
        if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        }
    });
    if blank.map(u64::from).sum::<u64>() != stored {
        return Err(refused("an entry's header has a wrong checksum"));
    }
    if block[257..265] != *b"ustar\x0000" {
        return Err(refused("an entry's header isn't that of POSIX tar"));
    }
    Ok(header)
}

/// An octal number with blanks or zeros at its ends; binary numbers are a GNU extension.
fn octal(field: &[u8], what: &str) -> Result<u64, TarError> {
    let wrong = || TarError(format!("an entry's {what} is no octal number"));
    let text = std::str::from_utf8(field).map_err(|_| wrong())?;
    let text = text.trim_matches(|character| character == '\0' || character == ' ');
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    u64::from_str_radix(text, 8).map_err(|_| wrong())
}

impl Pax {
    fn read(mut data: &[u8]) -> Result<Self, TarError> {
        let mut pax = Self::default();
        while !data.is_empty() {
            let (key, value, rest) =
                record(data).ok_or_else(|| refused("a PAX record is malformed"))?;
            let is_new = match key {
                b"path" => pax.path.replace(value.to_vec()).is_none(),
                b"linkpath" => pax.target.replace(value.to_vec()).is_none(),
                b"mtime" => {
                    let time = decimal_time(value)
                        .ok_or_else(|| refused("a PAX time is no decimal number"))?;
                    pax.mtime.replace(time).is_none()
                }
                // The names are bytes; the only charset that is written says so.
                b"hdrcharset" if value == b"BINARY" => !std::mem::replace(&mut pax.is_binary, true),
                b"size" => {
                    let size =
                        decimal(value).ok_or_else(|| refused("a PAX size is no decimal number"))?;
                    pax.size.replace(size).is_none()
                }
                other => {
                    let shown: String = String::from_utf8_lossy(other).chars().take(40).collect();
                    return Err(TarError(format!(
                        "a PAX record has the unknown key {shown:?}"
                    )));
                }
            };
            if !is_new {
                return Err(refused("a PAX record appears twice"));
            }
            data = rest;
        }
        Ok(pax)
    }
}

/// `LENGTH KEY=VALUE\n`: key, value and what follows.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().take(8).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&data[..blank])?).ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let pair = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    Some((&pair[..equals], &pair[equals + 1..], rest))
}

fn decimal(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()?
        .parse()
        .ok()
        .filter(|_| is_number)
}

/// A decimal number of seconds with at most nine digits after the point; its sign holds for all of it.
fn decimal_time(text: &[u8]) -> Option<Time> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    if fraction.len() > 9 {
        return None;
    }
    let seconds = i128::from(decimal(whole)?);
    let digits = if fraction.is_empty() {
        0
    } else {
        decimal(fraction)?
    };
    let scale = 10_i128.pow(9 - fraction.len() as u32);
    let total = seconds * 1_000_000_000 + i128::from(digits) * scale;
    let total = if is_negative { -total } else { total };
    Some(Time {
        seconds: i64::try_from(total.div_euclid(1_000_000_000)).ok()?,
        nanoseconds: u32::try_from(total.rem_euclid(1_000_000_000)).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_decimal_numbers() {
        let table: [(&str, Option<(i64, u32)>); 9] = [
            ("0", Some((0, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("-1", Some((-1, 0))),
            ("-0.999999995", Some((-1, 5))),
            ("-1.5", Some((-2, 500_000_000))),
            (
                "9223372036854775807.999999999",
                Some((i64::MAX, 999_999_999)),
            ),
            ("9223372036854775808", None),
            ("1.0000000001", None),
            ("+1", None),
        ];
        for (text, expected) in table {
            let time = decimal_time(text.as_bytes());
            assert_eq!(
                time.map(|time| (time.seconds, time.nanoseconds)),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn records_are_read_strictly() {
        assert!(Pax::read(b"11 mtime=1\n").is_ok());
        for wrong in [
            &b"11 mtime=1"[..],
            b"12 mtime=1\n",
            b"11 mtime=1\n11 mtime=1\n",
            b"10 uname=a\n",
            b"22 GNU.sparse.major=1\n",
            b"0 \n",
            b"99999999999 path=a\n",
        ] {
            assert!(Pax::read(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = TarEntry::read(&bytes);
            let _ = Pax::read(&bytes);
        }
    }
}
