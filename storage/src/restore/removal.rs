//! Removing trees by directory descriptors, never following a link nor leaving a file system.
//!
//! In come a directory and a name in it; out comes the directory without it. Few descriptors are open however deep it is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode};

use super::gate::Gate;
use super::tree;

/// Deeper directories are moved up before they are removed, so that few descriptors are open.
const MAX_DEPTH: usize = 64;
/// Names that are held per directory.
const BATCH: usize = 1024;

/// Removes `name` and everything below it; nothing there is no error.
///
/// A mount point below it is an error, and what is mounted there is left alone.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &[u8], gate: &dyn Gate) -> io::Result<()> {
    let Some(top) = tree::look(parent, name)? else {
        return Ok(());
    };
    if !top.is_directory() {
        gate.pass("remove a file")?;
        return Ok(rustix::fs::unlinkat(
            parent,
            tree::os(name),
            AtFlags::empty(),
        )?);
    }
    let mut moved = 0_u64;
    let mut frames = vec![Removal::open(parent, name)?];
    loop {
        let depth = frames.len();
        let Some(frame) = frames.last_mut() else {
            return Ok(());
        };
        if frame.names.is_empty() {
            frame.names = tree::some_names(frame.directory.as_fd(), BATCH)?;
        }
        let Some(child) = frame.names.pop() else {
            let Some(done) = frames.pop() else {
                return Ok(());
            };
            let above = frames
                .last()
                .map_or(parent, |above| above.directory.as_fd());
            gate.pass("remove a directory")?;
            rustix::fs::unlinkat(above, tree::os(&done.name), AtFlags::REMOVEDIR)?;
            continue;
        };
        let directory = frame.directory.as_fd();
        let Some(node) = tree::look(directory, &child)? else {
            continue;
        };
        if !node.is_directory() {
            gate.pass("remove a file")?;
            rustix::fs::unlinkat(directory, tree::os(&child), AtFlags::empty())?;
        } else if depth < MAX_DEPTH {
            let inner = Removal::open(directory, &child)?;
            frames.push(inner);
        } else {
            gate.pass("move a deep directory up")?;
            let top = frames.first().map_or(parent, |top| top.directory.as_fd());
            let directory = frames.last().map_or(parent, |last| last.directory.as_fd());
            moved = move_up(directory, &child, top, moved)?;
        }
    }
}

/// A directory that is being removed.
struct Removal {
    directory: OwnedFd,
    name: Box<[u8]>,
    names: Vec<Box<[u8]>>,
}

impl Removal {
    fn open(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Self> {
        let directory = match tree::open_child(parent, name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tree::change_mode(parent, name, 0o700)?;
                tree::open_child(parent, name)?
            }
            opened => opened?,
        };
        let node = tree::look_at(directory.as_fd())?;
        if node.mode & 0o300 != 0o300 {
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o700))?;
        }
        Ok(Self {
            directory,
            name: name.into(),
            names: Vec::new(),
        })
    }
}

/// Gives a deep directory a free name at the top; a killed removal may have left some there.
fn move_up(
    from: BorrowedFd<'_>,
    name: &[u8],
    top: BorrowedFd<'_>,
    mut number: u64,
) -> io::Result<u64> {
    loop {
        number += 1;
        match tree::rename(from, name, top, format!("deep-{number}").as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|()| number),
        }
    }
}
