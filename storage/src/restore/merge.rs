//! Logs and outcomes: what lies on the volume is put beside what the backup has, in the folder of the new state.
//!
//! In come the live directory and the unpacked one; the unpacked one goes out as the union of both, complete, so
//! that the switch stays a rename. The live directory isn't changed: its files are linked, not moved.

use std::fs::{File, FileTimes};
use std::io::{self, BufRead, BufReader, BufWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::gate::Gate;
use super::lines;
use super::owner;
use super::plan::{ANALYSIS, MERGED};
use super::tree::{self, Node, Parents, Walk};

/// Names that are tried for a file that is put aside.
pub(super) const MAX_TRIES: u32 = 1000;
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
            link(directory, name, target, name, &node)?;
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
pub(super) fn aside_name(name: &[u8], short: &str, number: u32) -> Vec<u8> {
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
pub(super) fn begins_alike(
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

/// Puts the live entry into another state: the same inode, or a copy where links are refused.
pub(super) fn link(
    live: BorrowedFd<'_>,
    name: &[u8],
    target: BorrowedFd<'_>,
    new_name: &[u8],
    node: &Node,
) -> io::Result<()> {
    let (shown, new) = (tree::os(name), tree::os(new_name));
    match rustix::fs::linkat(live, shown, target, new, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        // Other owners' files, file systems without hard links, an inode with too many of them.
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
        Err(error) => return Err(error.into()),
    }
    match node.kind {
        FileType::RegularFile => {
            let mut from = tree::open_file(live, name)?;
            let mut to = create(target, new_name)?;
            io::copy(&mut from, &mut to)?;
            finish(target, new_name, &to, node)
        }
        FileType::Symlink => {
            let points_to = rustix::fs::readlinkat(live, shown, Vec::new())?;
            Ok(rustix::fs::symlinkat(&points_to, target, new)?)
        }
        // Pipes and sockets hold no data; whoever needs them makes them again.
        _ => Ok(()),
    }
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
    let sources = (tree::open_file(target, name)?, tree::open_file(live, name)?);
    write_union(sources, 0, target, name, node)
}

/// Makes or replaces a file by the lines of two, of the second one from `start` on; `false` when they aren't files of
/// lines.
pub(super) fn write_union(
    (first, second): (impl Read, File),
    start: u64,
    target: BorrowedFd<'_>,
    name: &[u8],
    node: &Node,
) -> io::Result<bool> {
    let drop_unfinished = || match rustix::fs::unlinkat(target, tree::os(UNION), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(io::Error::from(error)),
    };
    drop_unfinished()?;
    let mut file = BufWriter::new(create(target, UNION)?);
    let written = lines::write_union(first, second, start, &mut file).and_then(|is_written| {
        Ok((
            is_written,
            file.into_inner().map_err(io::IntoInnerError::into_error)?,
        ))
    });
    let file = match written {
        Ok((true, file)) => file,
        other => {
            drop_unfinished()?;
            return other.map(|_| false);
        }
    };
    finish(target, UNION, &file, node)?;
    rustix::fs::renameat(target, tree::os(UNION), target, tree::os(name))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
