//! Removing one file, but only in the state in which it was judged.
//!
//! In come a directory, a name and what was seen; out comes whether it went. The system can't remove a name only if it
//! still is the same file, so it is put aside first, looked at once more, and put back if someone wrote it meanwhile.

use std::ffi::{CStr, CString};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::archive::path::MAX_NAME;
use crate::atomic;
use crate::descriptor::{self, Facts};

/// Between a file's name and our number in the name under which it is put aside.
const ASIDE: &str = ".cleanup-";
const END: &str = ".partial";

/// Whether a file went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It is removed.
    Removed,
    /// Someone wrote, moved or removed it meanwhile, or is writing it.
    Kept,
}

/// Removes `name` if it still is what was seen.
pub fn remove(directory: &OwnedFd, name: &CStr, seen: &Facts) -> io::Result<Gone> {
    let aside = aside_of(name.to_bytes())?;
    match rustix::fs::renameat(directory, name, directory, &aside) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Gone::Kept),
        Err(error) => return Err(error.into()),
    }
    if descriptor::facts(directory, &aside)? == *seen {
        rustix::fs::unlinkat(directory, &aside, AtFlags::empty())?;
        return Ok(Gone::Removed);
    }
    put_back(directory, &aside, name)?;
    Ok(Gone::Kept)
}

/// Gives a file its name again, unless a newer one has it by now.
pub fn put_back(directory: &OwnedFd, aside: &CStr, name: &CStr) -> io::Result<()> {
    match rustix::fs::renameat_with(directory, aside, directory, name, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        // File systems without this flag have hard links, which don't replace anything either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match rustix::fs::linkat(directory, aside, directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::fs::unlinkat(directory, aside, AtFlags::empty())?)
}

/// The name that a file had which a killed cleanup put aside.
pub fn original_of(aside: &[u8]) -> Option<CString> {
    let text = aside.strip_suffix(END.as_bytes())?.strip_prefix(b".")?;
    let at = text
        .windows(ASIDE.len())
        .rposition(|part| part == ASIDE.as_bytes())?;
    let (name, number) = (&text[..at], &text[at + ASIDE.len()..]);
    let is_number = !number.is_empty()
        && number
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'-');
    if name.is_empty() || !is_number {
        return None;
    }
    CString::new(name).ok()
}

fn aside_of(name: &[u8]) -> io::Result<CString> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let end = format!("{ASIDE}{}-{number}{END}", std::process::id());
    // A name that is too long for this can be given back by this process only.
    let kept = if name.len() + 1 + end.len() > MAX_NAME {
        &b""[..]
    } else {
        name
    };
    Ok(CString::new([b".", kept, end.as_bytes()].concat())?)
}

/// An exclusive lock on a file or directory, or the answer that someone uses it.
#[derive(Debug)]
pub enum Claim {
    /// Nobody uses it; the descriptor holds the lock.
    Ours(OwnedFd),
    /// Someone holds a lock on it.
    Taken,
    /// It can't be told.
    Unknown,
}

/// Tries to lock an entry without waiting and without following links.
pub fn claim(directory: &OwnedFd, name: &CStr) -> Claim {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(directory, name, flags, Mode::empty()) else {
        return Claim::Unknown;
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Claim::Ours(file),
        Err(Errno::WOULDBLOCK) => Claim::Taken,
        Err(_) => Claim::Unknown,
    }
}

/// Removes a temp directory of ours with everything in it; links in it are removed, not followed.
pub fn remove_tree(directory: &OwnedFd, name: &CStr, depth: usize) -> io::Result<u64> {
    if depth == 0 {
        return Err(io::Error::other("directories are nested too deeply"));
    }
    let inner = descriptor::open_child(directory, name)?;
    let mut bytes = 0;
    descriptor::each_name(&inner, &mut Vec::new(), |name, _| {
        let facts = descriptor::facts(&inner, name)?;
        if facts.kind == FileType::Directory {
            bytes += remove_tree(&inner, name, depth - 1)?;
        } else {
            rustix::fs::unlinkat(&inner, name, AtFlags::empty())?;
            bytes += facts.size;
        }
        Ok(())
    })?;
    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
    Ok(bytes)
}

/// Whether a directory is one that a killed `put` left.
pub fn is_unfinished_directory(name: &[u8]) -> bool {
    name.ends_with(crate::atomic::UNFINISHED_DIRECTORY.as_bytes()) && name.starts_with(b".")
}

/// Whether a file is one that a killed writer left.
pub fn is_unfinished(name: &[u8]) -> bool {
    atomic::is_unfinished(&String::from_utf8_lossy(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::{Duration, SystemTime};

    fn old(path: &std::path::Path, text: &str) {
        fs::write(path, text).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(48))
            .unwrap();
    }

    #[test]
    fn a_file_that_was_replaced_or_written_after_it_was_judged_survives() {
        let folder = tempfile::tempdir().unwrap();
        let directory = descriptor::open_root(folder.path()).unwrap();
        let path = folder.path().join("a");
        for rewrite in [true, false] {
            old(&path, "old");
            let seen = descriptor::facts(&directory, c"a").unwrap();
            if rewrite {
                fs::write(&path, "new").unwrap();
            } else {
                atomic::write_cache(&path, b"new").unwrap();
            }
            assert_eq!(remove(&directory, c"a", &seen).unwrap(), Gone::Kept);
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        old(&path, "old");
        let seen = descriptor::facts(&directory, c"a").unwrap();
        assert_eq!(remove(&directory, c"a", &seen).unwrap(), Gone::Removed);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_newer_file_of_the_same_name_wins_over_one_that_was_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let directory = descriptor::open_root(folder.path()).unwrap();
        fs::write(folder.path().join("aside"), "older").unwrap();
        fs::write(folder.path().join("a"), "newer").unwrap();
        put_back(&directory, c"aside", c"a").unwrap();
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"newer");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_original_name_can_be_read_from_the_one_put_aside() {
        let aside = aside_of(b"a.cleanup-x.json").unwrap();
        assert!(is_unfinished(aside.to_bytes()));
        assert_eq!(
            original_of(aside.to_bytes()).unwrap().to_bytes(),
            b"a.cleanup-x.json"
        );
        let long = aside_of(&[b'x'; MAX_NAME]).unwrap();
        assert!(long.to_bytes().len() <= MAX_NAME);
        assert_eq!(original_of(long.to_bytes()), None);
        assert_eq!(original_of(b".volume.json.host-1-0.partial"), None);
    }
}
