//! `ls`: what lies in one directory of the volume, for volumes whose image has no shell.
//!
//! In come the root and a path below it, out come sorted entries with their sizes, times and modes. Links are shown,
//! never followed, and the answer is bounded.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use serde::Serialize;

use crate::archive::path::RelativePath;
use crate::descriptor;

/// Most entries that are shown when nobody says otherwise.
pub const DEFAULT_LIMIT: usize = 10_000;

/// What was asked for, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Entries, sorted by name.
    pub entries: Vec<Entry>,
    /// How many entries there are in all; more than are listed when there are too many.
    pub total: u64,
}

/// One file, directory or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name, or the path that was asked for where that is no directory.
    pub name: RelativePath,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Last change of the content; `None` where no calendar has it.
    pub modified: Option<Timestamp>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device.
    Special,
}

impl Kind {
    /// The letter that `ls -l` has for it.
    pub const fn letter(self) -> char {
        match self {
            Self::File => '-',
            Self::Directory => 'd',
            Self::Link => 'l',
            Self::Special => '?',
        }
    }

    fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Link,
            _ => Self::Special,
        }
    }
}

/// Why nothing can be listed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} can't be listed: {source}: name a directory or file of the volume, not through a symbolic link"
)]
pub struct ListError {
    /// What was asked for.
    pub path: String,
    /// What the system said.
    pub source: io::Error,
}

/// Lists a directory below `root`, or `root` itself; of a file, the file.
///
/// At most `limit` entries are returned, the first by name; memory is bounded by them.
pub fn list(root: &Path, path: Option<&RelativePath>, limit: usize) -> Result<Listing, ListError> {
    read(root, path, limit).map_err(|source| ListError {
        path: path.map_or_else(
            || root.display().to_string(),
            |path| format!("{}/{path}", root.display()),
        ),
        source,
    })
}

fn read(root: &Path, path: Option<&RelativePath>, limit: usize) -> io::Result<Listing> {
    let root = descriptor::open_root(root)?;
    let Some(path) = path else {
        return read_directory(&root, limit);
    };
    let parent = path.parent();
    let parent = match &parent {
        Some(parent) => descriptor::open_below(&root, parent)?,
        None => root,
    };
    let facts = descriptor::facts(&parent, path.name())?;
    if facts.kind == FileType::Directory {
        return read_directory(&descriptor::open_child(&parent, path.name())?, limit);
    }
    Ok(Listing {
        entries: vec![entry(path.clone(), &facts)],
        total: 1,
    })
}

fn read_directory(directory: &OwnedFd, limit: usize) -> io::Result<Listing> {
    let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut total = 0;
    descriptor::each_name(directory, &mut Vec::new(), |name, _| {
        total += 1;
        names.insert(name.to_bytes().to_vec());
        // The first by name stay, so that a second look shows the same ones.
        if names.len() > limit {
            names.pop_last();
        }
        Ok(())
    })?;
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        match descriptor::facts(directory, name.as_slice()) {
            Ok(facts) => {
                let name = RelativePath::new(name).map_err(io::Error::other)?;
                entries.push(entry(name, &facts));
            }
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => total -= 1,
            Err(error) => return Err(error),
        }
    }
    Ok(Listing { entries, total })
}

fn entry(name: RelativePath, facts: &descriptor::Facts) -> Entry {
    let nanosecond = i32::try_from(facts.modified_nanosecond).unwrap_or_default();
    Entry {
        name,
        kind: Kind::of(facts.kind),
        size: facts.size,
        modified: Timestamp::new(facts.modified_second, nanosecond).ok(),
        mode: facts.mode,
        user: facts.user,
        group: facts.group,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn names(listing: &Listing) -> Vec<String> {
        let names = listing.entries.iter().map(|entry| entry.name.to_string());
        names.collect()
    }

    #[test]
    fn entries_are_sorted_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["c", "a", "b"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let all = list(folder.path(), None, 10).unwrap();
        assert_eq!(names(&all), ["a", "b", "c"]);
        let some = list(folder.path(), None, 2).unwrap();
        assert_eq!(
            (names(&some), some.total),
            (vec!["a".into(), "b".into()], 3)
        );
    }

    #[test]
    fn a_file_and_a_link_are_shown_and_a_link_is_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "12345").unwrap();
        symlink("/etc", folder.path().join("link")).unwrap();
        let one =
            |path: &str| list(folder.path(), Some(&RelativePath::new(path).unwrap()), 10).unwrap();
        assert_eq!(one("file").entries[0].size, 5);
        assert_eq!(one("link").entries[0].kind, Kind::Link);
        let inside = RelativePath::new("link/passwd").unwrap();
        let error = list(folder.path(), Some(&inside), 10).unwrap_err();
        assert!(error.to_string().contains("link/passwd"), "{error}");
    }

    #[test]
    fn control_characters_are_escaped() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a\u{1b}[31m\nb"), "").unwrap();
        let shown = names(&list(folder.path(), None, 10).unwrap());
        assert_eq!(shown, ["a\\u{1b}[31m\\nb"]);
    }
}
