//! From old to new and back, name by name: each step may be repeated after a kill at any point.
//!
//! In come a journal and its scratch folder; out comes the root with the new names, or the old ones. Where a name
//! stands is seen from what exists: `old/X` means that X was set aside, no `new/X` that it was put in place.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::error::{RestoreError, used};
use super::gate::Gate;
use super::journal::{Item, Journal};
use super::tree;
use crate::descriptor;
use crate::layout::Layout;

/// Where the new state is unpacked, in the scratch folder.
pub(super) const NEW: &str = "new";
/// Where the old state is set aside.
pub(super) const OLD: &str = "old";

/// The three directories between which names move.
pub(super) struct Places {
    pub(super) root: OwnedFd,
    pub(super) old: OwnedFd,
    pub(super) new: OwnedFd,
}

impl Places {
    pub(super) fn open(layout: &Layout, journal: &Journal) -> Result<Self, RestoreError> {
        let scratch = journal.scratch();
        let failed = || used(layout.join(&scratch));
        let root = descriptor::open_root(layout.root()).map_err(failed())?;
        let folder = tree::open_child(root.as_fd(), scratch.as_bytes()).map_err(failed())?;
        let inner = |name: &str| tree::open_child(folder.as_fd(), name.as_bytes());
        Ok(Self {
            old: inner(OLD).map_err(failed())?,
            new: inner(NEW).map_err(failed())?,
            root,
        })
    }

    fn sync(&self) -> io::Result<()> {
        for directory in [&self.old, &self.new, &self.root] {
            rustix::fs::fsync(directory)?;
        }
        Ok(())
    }
}

/// Puts the new state in place.
pub(super) fn forward(
    layout: &Layout,
    journal: &Journal,
    gate: &dyn Gate,
) -> Result<(), RestoreError> {
    let places = Places::open(layout, journal)?;
    for item in &journal.items {
        replace(&places, item, gate).map_err(used(layout.root().join(item.name.as_path())))?;
    }
    gate.pass("make the switch durable")
        .and_then(|()| places.sync())
        .map_err(used(layout.root()))
}

/// Puts the old state back in place.
pub(super) fn backward(
    layout: &Layout,
    journal: &Journal,
    gate: &dyn Gate,
) -> Result<(), RestoreError> {
    let places = Places::open(layout, journal)?;
    for item in journal.items.iter().rev() {
        put_back(&places, item, gate).map_err(used(layout.root().join(item.name.as_path())))?;
    }
    gate.pass("make the way back durable")
        .and_then(|()| places.sync())
        .map_err(used(layout.root()))
}

fn replace(places: &Places, item: &Item, gate: &dyn Gate) -> io::Result<()> {
    let name = item.name.as_bytes();
    let (root, old, new) = (places.root.as_fd(), places.old.as_fd(), places.new.as_fd());
    if item.had_old && tree::look(old, name)?.is_none() {
        gate.pass("set an old name aside")?;
        tree::rename(root, name, old, name)?;
    }
    if item.has_new && tree::look(new, name)?.is_some() {
        gate.pass("put a new name in place")?;
        tree::rename(new, name, root, name)?;
    }
    Ok(())
}

fn put_back(places: &Places, item: &Item, gate: &dyn Gate) -> io::Result<()> {
    let name = item.name.as_bytes();
    let (root, old, new) = (places.root.as_fd(), places.old.as_fd(), places.new.as_fd());
    let has_live = tree::look(root, name)?.is_some();
    if item.had_old {
        if tree::look(old, name)?.is_none() {
            return Ok(());
        }
        // What lies there is the new state, or what a setup made after the switch.
        if has_live {
            gate.pass("take a new name away")?;
            tree::rename(root, name, new, name)?;
        }
        gate.pass("put an old name back")?;
        tree::rename(old, name, root, name)
    } else if has_live && tree::look(new, name)?.is_none() {
        gate.pass("take a new name away")?;
        tree::rename(root, name, new, name)
    } else {
        Ok(())
    }
}
