//! Tar headers: ustar, with PAX records for what ustar can't say.
//!
//! In comes what an entry is, out come blocks of 512 bytes that GNU tar and bsdtar read.

use tar::{EntryType, Header};

use crate::archive::manifest::Time;
use crate::permission::OWNER;

/// Size of a tar block.
pub const BLOCK: usize = 512;
/// Longest name and link in a ustar header.
const SHORT: usize = 100;
/// The largest size that a ustar header can say.
const MAX_USTAR_SIZE: u64 = 0o777_7777_7777;

/// What a header is for.
#[derive(Clone, Copy, Debug)]
pub struct EntryHeader<'a> {
    /// The path; a directory's gets its slash here.
    pub path: &'a [u8],
    /// What it is.
    pub kind: EntryType,
    /// What a link points to, else empty.
    pub link: &'a [u8],
    /// Bytes that follow.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change.
    pub mtime: Time,
}

impl EntryHeader<'_> {
    /// Appends the header, the extended one first.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut path = self.path.to_vec();
        if self.kind == EntryType::Directory {
            path.push(b'/');
        }
        let mut records = Vec::with_capacity(BLOCK);
        if std::str::from_utf8(&path).is_err() || std::str::from_utf8(self.link).is_err() {
            // Without it a reader may take the bytes for UTF-8 and change them.
            record(&mut records, "hdrcharset", b"BINARY");
        }
        if !is_short(&path) {
            record(&mut records, "path", &path);
        }
        if !is_short(self.link) {
            record(&mut records, "linkpath", self.link);
        }
        if self.size > MAX_USTAR_SIZE {
            record(&mut records, "size", self.size.to_string().as_bytes());
        }
        record(&mut records, "mtime", decimal(self.mtime).as_bytes());

        let name = [b"PaxHeaders/", tail(&path)].concat();
        let length = records.len() as u64;
        block(out, &name, EntryType::XHeader, &[], length, 0o644, 0);
        out.extend(&records);
        pad(out, length);
        let seconds = u64::try_from(self.mtime.seconds).unwrap_or_default();
        block(
            out, &path, self.kind, self.link, self.size, self.mode, seconds,
        );
    }
}

/// Appends zeros after `size` bytes of data.
pub fn pad(out: &mut Vec<u8>, size: u64) {
    out.resize(out.len() + padding(size), 0);
}

/// Zeros that follow `size` bytes of data.
pub const fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

fn is_short(text: &[u8]) -> bool {
    text.len() <= SHORT && text.is_ascii()
}

/// The end of a path: readers that know PAX don't look at it.
fn tail(path: &[u8]) -> &[u8] {
    &path[path.len().saturating_sub(SHORT - 20)..]
}

fn block(
    out: &mut Vec<u8>,
    name: &[u8],
    kind: EntryType,
    link: &[u8],
    size: u64,
    mode: u32,
    seconds: u64,
) {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size.min(MAX_USTAR_SIZE));
    header.set_mode(mode);
    header.set_uid(u64::from(OWNER));
    header.set_gid(u64::from(OWNER));
    header.set_mtime(seconds.min(MAX_USTAR_SIZE));
    let fields = header.as_old_mut();
    put(&mut fields.name, name);
    put(&mut fields.linkname, link);
    header.set_cksum();
    out.extend(header.as_bytes());
}

fn put(field: &mut [u8; SHORT], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = if from.is_ascii() { *from } else { b'_' };
    }
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts itself.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend(format!("{length} {key}=").as_bytes());
    out.extend(value);
    out.push(b'\n');
}

/// A time as PAX has it, a signed decimal number of seconds.
fn decimal(time: Time) -> String {
    if time.seconds < 0 && time.nanoseconds > 0 {
        let whole = time.seconds.saturating_add(1).unsigned_abs();
        format!("-{whole}.{:09}", 1_000_000_000 - time.nanoseconds)
    } else {
        format!("{}.{:09}", time.seconds, time.nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, 5, "0.000000005")]
    #[case(7, 0, "7.000000000")]
    #[case(-1, 500_000_000, "-0.500000000")]
    #[case(-2, 0, "-2.000000000")]
    fn times_are_signed_decimals(
        #[case] seconds: i64,
        #[case] nanoseconds: u32,
        #[case] text: &str,
    ) {
        let time = Time {
            seconds,
            nanoseconds,
        };
        assert_eq!(decimal(time), text);
    }

    #[test]
    fn a_records_length_counts_its_own_digits() {
        for length in 1..2000 {
            let mut out = Vec::new();
            record(&mut out, "path", &vec![b'x'; length]);
            let text = String::from_utf8(out).unwrap();
            let (said, _) = text.split_once(' ').unwrap();
            assert_eq!(said.parse::<usize>().unwrap(), text.len());
        }
    }
}
