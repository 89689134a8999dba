//! Logs and outcomes: what lies on the volume is put beside what the backup has, in the folder of the new state.
//!
//! In come the live directory and the unpacked one; the unpacked one goes out as the union of both, complete, so
//! that the switch stays a rename. The live directory isn't changed: its files are linked, not moved.

use std::collections::HashSet;
use std::fs::{File, FileTimes};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::gate::Gate;
use super::owner;
use super::plan::{ANALYSIS, MERGED};
use super::tree::{self, Node, Parents, Walk};
use crate::archive::digest::Digest;

/// Longest line of an outcome that is compared; a file with longer ones is kept beside the live one.
const MAX_LINE: u64 = 1 << 20;
/// Most different lines that are compared, for the same reason: memory stays below 64 MiB.
const MAX_LINES: usize = 1 << 20;
/// Names that are tried for a file that is put aside.
const MAX_TRIES: u32 = 1000;
/// While a merged file is written.
const UNION: &[u8] = b".union.partial";

/// Merges every merged directory whose top-level name is in `replaced`.
pub(super) fn merge(
    root: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    short: &str,
    replaced: &dyn Fn(&[u8]) -> bool,
    gate: &dyn Gate,
) -> io::Result<()> {
    for merged in MERGED {
        let top_level = merged.split('/').next().unwrap_or(merged);
        if !replaced(top_level.as_bytes()) {
            continue;
        }
        let Some(live) = tree::open_below(root, merged)? else {
            continue;
        };
        gate.pass("make a merged directory")?;
        let target = same_path(root, new, merged)?;
        let merger = Merger {
            base: merged,
            short,
            gate,
        };
        merger.directory(live, target)?;
    }
    Ok(())
}

/// Opens `path` below `new`, making what is missing as it is below `root`.
fn same_path(root: BorrowedFd<'_>, new: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let mut live = root.try_clone_to_owned()?;
    let mut target = new.try_clone_to_owned()?;
    for name in path.split('/').map(str::as_bytes) {
        live = tree::open_child(live.as_fd(), name)?;
        let node = tree::look_at(live.as_fd())?;
        target = make_like(target.as_fd(), name, &node)?;
    }
    Ok(target)
}

/// Makes a directory with the rights of another one; one that is there is left as it is.
fn make_like(parent: BorrowedFd<'_>, name: &[u8], node: &Node) -> io::Result<OwnedFd> {
    if tree::look(parent, name)?.is_some() {
        return tree::open_child(parent, name);
    }
    let made = tree::make_directory(parent, name, node.mode)?;
    owner::give(parent, name, node.uid, node.gid)?;
    Ok(made)
}

struct Merger<'a> {
    base: &'static str,
    short: &'a str,
    gate: &'a dyn Gate,
}

impl Merger<'_> {
    fn directory(&self, live: OwnedFd, target: OwnedFd) -> io::Result<()> {
        let mut parents = Parents::below(target);
        let mut walk = Walk::new(live, &|_| true)?;
        while let Some((path, node)) = walk.next()? {
            let (Some(directory), name) = (walk.directory(), path.name()) else {
                break;
            };
            let target = parents.of(&path)?;
            let found = tree::look(target, name)?;
            self.gate.pass("merge an entry")?;
            if node.is_directory() {
                if found.is_some_and(|found| !found.is_directory()) {
                    self.put_aside(directory, target, name)?;
                }
                make_like(target, name, &node)?;
                continue;
            }
            match found {
                None => {}
                Some(found) if self.is_outcome(name) && node.is_file() && found.is_file() => {
                    if union(directory, target, name, &node)? {
                        continue;
                    }
                    self.put_aside(directory, target, name)?;
                }
                Some(_) => self.put_aside(directory, target, name)?,
            }
            link(directory, target, name, &node)?;
        }
        Ok(())
    }

    fn is_outcome(&self, name: &[u8]) -> bool {
        self.base == ANALYSIS && name.ends_with(b".jsonl")
    }

    /// Gives the backup's entry another name, or drops it where the live one has all of it.
    fn put_aside(
        &self,
        live: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &[u8],
    ) -> io::Result<()> {
        let mut candidate = name.to_vec();
        for number in 0..MAX_TRIES {
            let in_live = tree::look(live, &candidate)?;
            if in_live.is_some() && begins_alike(live, &candidate, target, name)? {
                return Ok(rustix::fs::unlinkat(
                    target,
                    tree::os(name),
                    AtFlags::empty(),
                )?);
            }
            if in_live.is_none() && tree::look(target, &candidate)?.is_none() {
                return tree::rename(target, name, target, &candidate);
            }
            candidate = aside_name(name, self.short, number);
        }
        Err(Errno::EXIST.into())
    }
}

/// `api.log` becomes `api.<short>.log`, then `api.<short>-1.log`.
fn aside_name(name: &[u8], short: &str, number: u32) -> Vec<u8> {
    let dot = name
        .iter()
        .rposition(|byte| *byte == b'.')
        .filter(|dot| *dot > 0);
    let (stem, ending) = name.split_at(dot.unwrap_or(name.len()));
    let number = match number {
        0 => String::new(),
        number => format!("-{number}"),
    };
    let middle = format!(".{short}{number}");
    // A long stem is cut: the whole name must be one that the file system takes.
    let room = crate::archive::path::MAX_NAME.saturating_sub(middle.len() + ending.len());
    [&stem[..stem.len().min(room)], middle.as_bytes(), ending].concat()
}

/// Whether the live entry has everything that the backup's one has: a log grows at its end.
fn begins_alike(
    live: BorrowedFd<'_>,
    live_name: &[u8],
    target: BorrowedFd<'_>,
    name: &[u8],
) -> io::Result<bool> {
    let (Some(ours), Some(theirs)) = (tree::look(live, live_name)?, tree::look(target, name)?)
    else {
        return Ok(false);
    };
    if ours.kind == FileType::Symlink && theirs.kind == FileType::Symlink {
        let read = |directory, name| rustix::fs::readlinkat(directory, tree::os(name), Vec::new());
        return Ok(read(live, live_name)? == read(target, name)?);
    }
    if !ours.is_file() || !theirs.is_file() || theirs.size > ours.size {
        return Ok(false);
    }
    let mut ours = BufReader::new(tree::open_file(live, live_name)?);
    let mut theirs = BufReader::new(tree::open_file(target, name)?);
    loop {
        let left = theirs.fill_buf()?;
        if left.is_empty() {
            return Ok(true);
        }
        let right = ours.fill_buf()?;
        let both = left.len().min(right.len());
        if both == 0 || left[..both] != right[..both] {
            return Ok(false);
        }
        theirs.consume(both);
        ours.consume(both);
    }
}

/// Puts the live entry into the new state: the same inode, or a copy where links are refused.
fn link(live: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &[u8], node: &Node) -> io::Result<()> {
    let shown = tree::os(name);
    match rustix::fs::linkat(live, shown, target, shown, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        // Other owners' files, file systems without hard links, an inode with too many of them.
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
        Err(error) => return Err(error.into()),
    }
    match node.kind {
        FileType::RegularFile => copy(live, target, name, node),
        FileType::Symlink => {
            let points_to = rustix::fs::readlinkat(live, shown, Vec::new())?;
            Ok(rustix::fs::symlinkat(&points_to, target, shown)?)
        }
        // Pipes and sockets hold no data; whoever needs them makes them again.
        _ => Ok(()),
    }
}

fn copy(live: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &[u8], node: &Node) -> io::Result<()> {
    let mut from = tree::open_file(live, name)?;
    let mut to = create(target, name)?;
    io::copy(&mut from, &mut to)?;
    finish(target, name, &to, node)
}

fn create(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    Ok(rustix::fs::openat(directory, tree::os(name), flags, mode)?.into())
}

/// Gives a written file the owner, mode and time of the live one.
fn finish(directory: BorrowedFd<'_>, name: &[u8], file: &File, node: &Node) -> io::Result<()> {
    owner::give(directory, name, node.uid, node.gid)?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(node.mode & 0o777))?;
    let seconds = u64::try_from(node.mtime.seconds).unwrap_or_default();
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, node.mtime.nanoseconds);
    file.set_times(FileTimes::new().set_modified(time))
}

/// Replaces the backup's file by the lines of both, the backup's first; `false` when it isn't a file of lines.
fn union(
    live: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &[u8],
    node: &Node,
) -> io::Result<bool> {
    let sources = [tree::open_file(target, name)?, tree::open_file(live, name)?];
    match rustix::fs::unlinkat(target, tree::os(UNION), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut file = BufWriter::new(create(target, UNION)?);
    if !write_union(sources, &mut file)? {
        rustix::fs::unlinkat(target, tree::os(UNION), AtFlags::empty())?;
        return Ok(false);
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    finish(target, UNION, &file, node)?;
    rustix::fs::renameat(target, tree::os(UNION), target, tree::os(name))?;
    Ok(true)
}

/// Writes each line of the archive's file and the live one once; `false` when there are too many or too long ones.
fn write_union<R: Read + Seek>(sources: [R; 2], out: &mut impl Write) -> io::Result<bool> {
    let mut seen = HashSet::new();
    let mut line = Vec::new();
    let [archived, mut current] = sources;
    let mut archived = BufReader::new(archived);
    while read_line(&mut archived, &mut line)? {
        // The last line was perhaps being written when the backup read it; then the live file has all of it.
        if !line.ends_with(b"\n") && has_line_from(&mut current, &line)? {
            break;
        }
        if !add_line(&mut line, &mut seen, out)? {
            return Ok(false);
        }
    }
    let mut current = BufReader::new(current);
    while read_line(&mut current, &mut line)? {
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

/// Whether a line begins with `start`; afterwards the file stands at its beginning.
fn has_line_from(file: &mut (impl Read + Seek), start: &[u8]) -> io::Result<bool> {
    file.rewind()?;
    let mut source = BufReader::new(&mut *file);
    let mut line = Vec::new();
    let mut is_found = false;
    while !is_found && read_line(&mut source, &mut line)? {
        is_found = line.starts_with(start);
    }
    file.rewind()?;
    Ok(is_found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn what_is_put_aside_gets_the_backups_id_into_its_name() {
        let long = [&[b'x'; 251][..], b".log"].concat();
        let table: [(&[u8], u32, &[u8]); 6] = [
            (b"api.log", 0, b"api.1a2b.log"),
            (b"api.log", 2, b"api.1a2b-2.log"),
            (b"api.2025.log", 0, b"api.2025.1a2b.log"),
            (b"plain", 0, b"plain.1a2b"),
            (b".hidden", 0, b".hidden.1a2b"),
            (b"\xff.log", 0, b"\xff.1a2b.log"),
        ];
        for (name, number, expected) in table {
            assert_eq!(aside_name(name, "1a2b", number), expected, "{name:?}");
        }
        assert_eq!(aside_name(&long, "1a2b", 0).len(), 255);
    }

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
            assert!(write_union([archive, live].map(Cursor::new), &mut out).unwrap());
            assert_eq!(out, expected, "{archive:?} {live:?}");
        }
        let long = vec![b'x'; MAX_LINE as usize];
        let sources = [&long[..], b""].map(Cursor::new);
        assert!(!write_union(sources, &mut Vec::new()).unwrap());
    }
}
