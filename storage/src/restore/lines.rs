//! Files of lines: what two of them have together, each line once.
//!
//! In come two files, out go the lines of the first, then those that only the second has.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};

use crate::archive::digest::Digest;

/// Longest line that is compared, in bytes; a file with longer ones is kept beside the other one.
const MAX_LINE: u64 = 1 << 20;
/// Most different lines that are compared, for the same reason: memory stays below 64 MiB.
const MAX_LINES: usize = 1 << 20;

/// Writes each line of `first`, and of `second` from `start` on, once; `false` when there are too many or too long ones.
pub(super) fn write_union(
    first: impl Read,
    mut second: impl Read + Seek,
    start: u64,
    out: &mut impl Write,
) -> io::Result<bool> {
    let mut seen = HashSet::new();
    let mut line = Vec::new();
    let mut first = BufReader::new(first);
    while read_line(&mut first, &mut line)? {
        // The last line was perhaps being written when it was read; then the other file has all of it.
        if !line.ends_with(b"\n") && has_line_from(&mut second, start, &line)? {
            break;
        }
        if !add_line(&mut line, &mut seen, out)? {
            return Ok(false);
        }
    }
    second.seek(SeekFrom::Start(start))?;
    let mut second = BufReader::new(second);
    while read_line(&mut second, &mut line)? {
        if !add_line(&mut line, &mut seen, out)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes a line that wasn't seen yet; `false` when it is too long or there are too many.
fn add_line(
    line: &mut Vec<u8>,
    seen: &mut HashSet<[u8; 16]>,
    out: &mut impl Write,
) -> io::Result<bool> {
    if line.len() as u64 == MAX_LINE || seen.len() == MAX_LINES {
        return Ok(false);
    }
    // The last line of a file may lack its end.
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    let mut key = [0; 16];
    key.copy_from_slice(&Digest::of(line).0[..16]);
    if seen.insert(key) {
        line.push(b'\n');
        out.write_all(line)?;
    }
    Ok(true)
}

/// Reads the next line; `false` at the end.
fn read_line(source: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(source.take(MAX_LINE).read_until(b'\n', line)? > 0)
}

/// Whether a line from `from` on begins with `beginning`.
fn has_line_from(file: &mut (impl Read + Seek), from: u64, beginning: &[u8]) -> io::Result<bool> {
    file.seek(SeekFrom::Start(from))?;
    let mut source = BufReader::new(file);
    let mut line = Vec::new();
    while read_line(&mut source, &mut line)? {
        if line.starts_with(beginning) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_line_of_both_files_is_written_once_and_the_archives_come_first() {
        let table: [(&[u8], &[u8], &[u8]); 9] = [
            (b"a\nb\n", b"b\nc\n", b"a\nb\nc\n"),
            // The backup read a line that was being written.
            (b"a\n{\"x\":", b"a\n{\"x\":1}\n", b"a\n{\"x\":1}\n"),
            (b"a\n{\"x\":", b"a\n", b"a\n{\"x\":\n"),
            (b"a\n{\"x\":\n", b"{\"x\":1}\n", b"a\n{\"x\":\n{\"x\":1}\n"),
            (b"b\n", b"a\nb\n", b"b\na\n"),
            (b"a", b"b", b"a\nb\n"),
            (b"a\n", b"a", b"a\n"),
            (b"", b"a\na\n", b"a\n"),
            (b"", b"", b""),
        ];
        for (archive, live, expected) in table {
            let mut out = Vec::new();
            assert!(write_union(archive, Cursor::new(live), 0, &mut out).unwrap());
            assert_eq!(out, expected, "{archive:?} {live:?}");
        }
        let long = vec![b'x'; MAX_LINE as usize];
        assert!(!write_union(&long[..], Cursor::new(b""), 0, &mut Vec::new()).unwrap());
        let mut out = Vec::new();
        assert!(write_union(&b"a\n"[..], Cursor::new(b"b\nc\na\n"), 2, &mut out).unwrap());
        assert_eq!(out, b"a\nc\n", "nothing from before the start");
    }
}
