//! Whether a version of a model that is there is the one that is put again.
//!
//! In come two directories, out comes whether both hold the same names with the same content. Links are never followed.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};

use crate::descriptor;

/// What the service adds to a version when it loads it first, if it isn't there.
const ADDED: &str = "golden.json";
/// Deeper trees count as different.
const MAX_DEPTH: usize = 64;
/// Bytes that are compared at once.
const CHUNK: usize = 64 * 1024;

/// Whether `there` holds what `put` does, and nothing else but what the service added.
pub fn holds(there: &OwnedFd, put: &OwnedFd) -> io::Result<bool> {
    let (mut old, new) = (names(there)?, names(put)?);
    old.retain(|name| name.to_bytes() != ADDED.as_bytes() || new.contains(name));
    are_same(there, &old, put, &new, MAX_DEPTH)
}

fn are_same(
    left: &OwnedFd,
    left_names: &[CString],
    right: &OwnedFd,
    right_names: &[CString],
    depth: usize,
) -> io::Result<bool> {
    if left_names != right_names || depth == 0 {
        return Ok(false);
    }
    for name in left_names {
        let kinds = (
            descriptor::facts(left, name.as_c_str())?,
            descriptor::facts(right, name.as_c_str())?,
        );
        let is_same = match (kinds.0.kind, kinds.1.kind) {
            (FileType::RegularFile, FileType::RegularFile) => {
                kinds.0.size == kinds.1.size && have_same_bytes(left, right, name)?
            }
            (FileType::Directory, FileType::Directory) => {
                let left = descriptor::open_child(left, name.as_c_str())?;
                let right = descriptor::open_child(right, name.as_c_str())?;
                are_same(&left, &names(&left)?, &right, &names(&right)?, depth - 1)?
            }
            _ => false,
        };
        if !is_same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The names in a directory, sorted.
fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    // Opened again: a descriptor that was listed before is at its end.
    let opened = descriptor::open_child(directory, c".")?;
    let mut names = Vec::new();
    descriptor::each_name(&opened, &mut Vec::new(), |name, _| {
        names.push(name.to_owned());
        Ok(())
    })?;
    names.sort_unstable();
    Ok(names)
}

fn have_same_bytes(left: &OwnedFd, right: &OwnedFd, name: &CString) -> io::Result<bool> {
    let open = |directory| -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, name.as_c_str(), flags, Mode::empty())?;
        Ok(File::from(file))
    };
    let (mut left, mut right) = (open(left)?, open(right)?);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    loop {
        one.clear();
        other.clear();
        (&mut left).take(CHUNK as u64).read_to_end(&mut one)?;
        (&mut right).take(CHUNK as u64).read_to_end(&mut other)?;
        if one != other {
            return Ok(false);
        }
        if one.is_empty() {
            return Ok(true);
        }
    }
}
