//! What the merged directories of a new state hold before it is switched to: what is there later was written since.
//!
//! In comes the folder of the new state, out goes a file of one line for each file in them; an undo reads it again. A file
//! grows at its end, is renamed and removed, so it is known by its inode or its path, and by the bytes before its old end.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use super::plan::MERGED;
use super::tree::{self, Node, Walk};
use crate::archive::digest::Digest;
use crate::archive::path::RelativePath;

/// Name of that file, in the scratch folder.
pub(super) const BASELINE: &str = "baseline.jsonl";
/// Bytes before a file's end by which it is known again: reading all of every log would take minutes.
const WINDOW: u64 = 64 << 10;

/// A file as it was.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    path: RelativePath,
    inode: u64,
    size: u64,
    /// Where its last whole line ends.
    lines: u64,
    sha256: Digest,
}

/// The files as they were.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    files: Vec<Known>,
    by_inode: HashMap<u64, usize>,
    by_path: HashMap<RelativePath, usize>,
}

/// Where in a file begins what was written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// There is nothing new.
    Nothing,
    /// From this offset on, which is the beginning of a line.
    Offset(u64),
}

/// Notes what lies in the merged directories below `new`.
pub(super) fn write(new: BorrowedFd<'_>, file: File) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    for merged in MERGED {
        let Some(directory) = tree::open_below(new, merged)? else {
            continue;
        };
        let mut walk = Walk::new(directory, &|_| true)?;
        while let Some((path, node)) = walk.next()? {
            let (Some(directory), true) = (walk.directory(), node.is_file()) else {
                continue;
            };
            let file = tree::open_file(directory, path.name())?;
            let end = read_before(&file, node.size)?;
            let known = Known {
                path: below(merged, &path)?,
                inode: node.inode,
                size: node.size,
                lines: last_line(&end, node.size),
                sha256: Digest::of(&end),
            };
            serde_json::to_writer(&mut out, &known)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

/// A path of a merged directory as one of the volume.
pub(super) fn below(merged: &str, path: &RelativePath) -> io::Result<RelativePath> {
    let whole = [merged.as_bytes(), b"/", path.as_bytes()].concat();
    RelativePath::new(whole).map_err(|error| io::Error::new(io::ErrorKind::InvalidFilename, error))
}

impl Baseline {
    /// Reads it. Whatever can't be understood counts as written since: too much is kept, never too little.
    pub(super) fn read(scratch: BorrowedFd<'_>) -> io::Result<Self> {
        let file = match tree::open_file(scratch, BASELINE.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened?,
        };
        let mut found = Self::default();
        for line in BufReader::new(file).split(b'\n') {
            if let Ok(known) = serde_json::from_slice::<Known>(&line?) {
                let index = found.files.len();
                found.by_inode.insert(known.inode, index);
                found.by_path.insert(known.path.clone(), index);
                found.files.push(known);
            }
        }
        Ok(found)
    }

    /// What is new in a file.
    pub(super) fn since(&self, path: &RelativePath, node: &Node, file: &File) -> io::Result<Since> {
        let candidates = [self.by_inode.get(&node.inode), self.by_path.get(path)];
        for known in candidates
            .into_iter()
            .flatten()
            .map(|index| &self.files[*index])
        {
            // An inode may have been given out again, and a path, too.
            if known.size <= node.size
                && Digest::of(&read_before(file, known.size)?) == known.sha256
            {
                return Ok(if known.size == node.size {
                    Since::Nothing
                } else {
                    Since::Offset(known.lines)
                });
            }
        }
        Ok(Since::Offset(0))
    }
}

/// The bytes before an offset.
fn read_before(file: &File, end: u64) -> io::Result<Vec<u8>> {
    let length = end.min(WINDOW);
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, end - length)?;
    Ok(bytes)
}

/// Where the last whole line before `end` ends, as far as the bytes before it show.
fn last_line(bytes: &[u8], end: u64) -> u64 {
    let rest = bytes
        .iter()
        .rev()
        .take_while(|byte| **byte != b'\n')
        .count();
    match end - rest as u64 {
        // No end of a line in sight: one that is longer is cut.
        start if rest == bytes.len() && start > 0 => end,
        start => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::open_root;
    use std::fs;
    use std::os::fd::AsFd;
    use std::path::Path;

    fn since(baseline: &Baseline, root: &Path, path: &str) -> Since {
        let root = open_root(root).unwrap();
        let path = RelativePath::new(path).unwrap();
        let directory = tree::open_below(root.as_fd(), "logs").unwrap().unwrap();
        let node = tree::look(directory.as_fd(), path.name()).unwrap().unwrap();
        let file = tree::open_file(directory.as_fd(), path.name()).unwrap();
        baseline.since(&path, &node, &file).unwrap()
    }

    #[test]
    fn what_was_written_since_is_seen_whatever_became_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let log = |name: &str| root.join("logs").join(name);
        fs::create_dir(root.join("logs")).unwrap();
        let large = [&vec![b'x'; 200_000][..], b"\n"].concat();
        for (name, content) in [
            ("same.log", &b"a\n"[..]),
            ("grown.log", b"a\nb\n"),
            ("half.log", b"a\nhal"),
            ("rotated.log", b"r\n"),
            ("cut.log", b"a\nb\n"),
            ("replaced.log", b"a\n"),
            ("large.log", &large),
            ("line.log", &large[..100_000]),
        ] {
            fs::write(log(name), content).unwrap();
        }
        let opened = open_root(root).unwrap();
        write(opened.as_fd(), File::create(root.join(BASELINE)).unwrap()).unwrap();
        for name in ["grown.log", "half.log", "large.log", "line.log"] {
            let mut file = File::options().append(true).open(log(name)).unwrap();
            file.write_all(b"new\n").unwrap();
        }
        fs::rename(log("rotated.log"), log("rotated.1.log")).unwrap();
        fs::write(log("rotated.log"), "fresh\n").unwrap();
        fs::write(log("cut.log"), "n\n").unwrap();
        fs::write(log("replaced.log"), "b\nnew\n").unwrap();
        let baseline = Baseline::read(opened.as_fd()).unwrap();
        for (name, expected) in [
            ("same.log", Since::Nothing),
            ("grown.log", Since::Offset(4)),
            ("half.log", Since::Offset(2)),
            ("rotated.1.log", Since::Nothing),
            ("rotated.log", Since::Offset(0)),
            ("cut.log", Since::Offset(0)),
            ("replaced.log", Since::Offset(0)),
            ("large.log", Since::Offset(200_001)),
            ("line.log", Since::Offset(100_000)),
        ] {
            let path = format!("logs/{name}");
            assert_eq!(since(&baseline, root, &path), expected, "{name}");
        }
        // Without it everything is new.
        fs::write(root.join(BASELINE), "{\"path\":").unwrap();
        let lost = Baseline::read(opened.as_fd()).unwrap();
        assert_eq!(since(&lost, root, "logs/same.log"), Since::Offset(0));
    }
}
