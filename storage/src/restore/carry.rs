//! Undoing a restore keeps what the service wrote on the restored state, where the volume only grows: logs and outcomes.
//!
//! In comes a switched restore; out comes the old state with the lines that were added since. First the files that the old
//! state will get are made beside both states, which may be repeated; then they are moved into the old one, which is
//! done only in the state `undoing` and may be repeated, too, before any old name is put back.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode};

use super::baseline::{Baseline, Since, below};
use super::gate::Gate;
use super::journal::Journal;
use super::merge::{self, MAX_TRIES, aside_name, begins_alike, link};
use super::owner;
use super::plan::{ANALYSIS, MERGED};
use super::switch::{NEW, OLD};
use super::tree::{self, Node, Walk};
use super::volume::{is_full, short_id};
use crate::archive::path::RelativePath;
use crate::descriptor;
use crate::layout::Layout;

/// Where the files are made, in the scratch folder.
pub(super) const KEPT: &str = "kept";

/// The directories of a switched restore.
struct Places {
    root: OwnedFd,
    scratch: OwnedFd,
    old: OwnedFd,
    kept: OwnedFd,
}

impl Places {
    fn open(layout: &Layout, journal: &Journal) -> io::Result<Self> {
        let root = descriptor::open_root(layout.root())?;
        let scratch = tree::open_child(root.as_fd(), journal.scratch().as_bytes())?;
        Ok(Self {
            old: tree::open_child(scratch.as_fd(), OLD.as_bytes())?,
            kept: tree::make_directory(scratch.as_fd(), KEPT.as_bytes(), 0o700)?,
            scratch,
            root,
        })
    }
}

/// Makes the folders while there is room: on a volume that is full later, links in them take none.
pub(super) fn reserve(scratch: BorrowedFd<'_>) -> io::Result<()> {
    let kept = tree::make_directory(scratch, KEPT.as_bytes(), 0o700)?;
    let new = tree::open_child(scratch, NEW.as_bytes())?;
    for merged in MERGED {
        if tree::open_below(new.as_fd(), merged)?.is_some() {
            same_path(new.as_fd(), kept.as_fd(), components(merged))?;
        }
    }
    Ok(())
}

/// Makes the files that the old state will get. Nothing that is in use is changed.
pub(super) fn stage(layout: &Layout, journal: &mut Journal, gate: &dyn Gate) -> io::Result<()> {
    let places = Places::open(layout, journal)?;
    // An earlier undo may have been cut off here, and the service have gone on since.
    let mut walk = Walk::new(places.kept.try_clone()?, &|_| true)?;
    while let Some((path, node)) = walk.next()? {
        if let (Some(directory), false) = (walk.directory(), node.is_directory()) {
            gate.pass("drop what an earlier undo made")?;
            rustix::fs::unlinkat(directory, tree::os(path.name()), AtFlags::empty())?;
        }
    }
    let short = short_id(journal);
    let baseline = Baseline::read(places.scratch.as_fd())?;
    for merged in MERGED {
        let top_level = components(merged).next().unwrap_or_default();
        let mut items = journal.items.iter_mut();
        let Some(item) = items.find(|item| item.name.as_bytes() == top_level) else {
            continue;
        };
        let Some(live) = tree::open_below(places.root.as_fd(), merged)? else {
            continue;
        };
        let old = match find(places.old.as_fd(), components(merged))? {
            // The old state has a file or a link there, below which nothing has a place.
            Found::Blocked => continue,
            Found::Absent => None,
            Found::Directory(old) => Some(old),
        };
        let inodes = old.as_ref().map(inodes).transpose()?.unwrap_or_default();
        let carrier = Carrier {
            places: &places,
            merged,
            old,
            inodes,
            baseline: &baseline,
            short: &short,
            gate,
        };
        // Where the old state had nothing, it gets a directory, which the way back has to put in place.
        item.had_old |= carrier.carry(live)?;
    }
    gate.pass("make the kept lines durable")?;
    Ok(rustix::fs::syncfs(&places.root)?)
}

/// Moves the files into the old state, which is still set aside.
pub(super) fn apply(layout: &Layout, journal: &Journal, gate: &dyn Gate) -> io::Result<()> {
    let places = Places::open(layout, journal)?;
    let (kept, old) = (places.kept.as_fd(), places.old.as_fd());
    let mut walk = Walk::new(places.kept.try_clone()?, &|_| true)?;
    while let Some((path, node)) = walk.next()? {
        let (Some(directory), false) = (walk.directory(), node.is_directory()) else {
            continue;
        };
        gate.pass("keep what was written since the switch")?;
        move_into(kept, old, directory, &path)?;
    }
    // No old name is put back before: then what is left here would have nowhere to go.
    gate.pass("make the kept lines durable")?;
    Ok(rustix::fs::syncfs(&places.root)?)
}

/// Moves a kept file to its place, or the first directory on the way that the old state lacks: whole, so that a kill leaves
/// none without its rights.
fn move_into(
    kept: BorrowedFd<'_>,
    old: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    path: &RelativePath,
) -> io::Result<()> {
    let mut from = kept.try_clone_to_owned()?;
    let mut to = old.try_clone_to_owned()?;
    let parent = path.parent();
    for name in parent.iter().flat_map(RelativePath::components) {
        if tree::look(to.as_fd(), name)?.is_none() {
            return tree::rename(from.as_fd(), name, to.as_fd(), name);
        }
        to = tree::open_child(to.as_fd(), name)?;
        from = match tree::open_child(from.as_fd(), name) {
            // It was moved with another file in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
    }
    let name = tree::os(path.name());
    Ok(rustix::fs::renameat(directory, name, &to, name)?)
}

/// Opens a path below `target`, making it as it is below `model`. What a kill left half made gets its rights.
fn same_path<'a>(
    model: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    path: impl Iterator<Item = &'a [u8]>,
) -> io::Result<OwnedFd> {
    let mut model = model.try_clone_to_owned()?;
    let mut target = target.try_clone_to_owned()?;
    for name in path {
        model = tree::open_child(model.as_fd(), name)?;
        let node = tree::look_at(model.as_fd())?;
        let made = tree::make_directory(target.as_fd(), name, node.mode)?;
        owner::give(target.as_fd(), name, node.uid, node.gid)?;
        if tree::look_at(made.as_fd())?.mode != node.mode {
            rustix::fs::fchmod(&made, Mode::from_raw_mode(node.mode))?;
        }
        target = made;
    }
    Ok(target)
}

fn components(path: &str) -> impl Iterator<Item = &[u8]> {
    path.split('/').map(str::as_bytes)
}

/// What the old state has at a path.
enum Found {
    Directory(OwnedFd),
    Absent,
    /// On the way lies something that is no directory.
    Blocked,
}

fn find<'a>(root: BorrowedFd<'_>, path: impl Iterator<Item = &'a [u8]>) -> io::Result<Found> {
    let mut current = root.try_clone_to_owned()?;
    for name in path {
        current = match tree::look(current.as_fd(), name)? {
            None => return Ok(Found::Absent),
            Some(node) if !node.is_directory() => return Ok(Found::Blocked),
            Some(_) => tree::open_child(current.as_fd(), name)?,
        };
    }
    Ok(Found::Directory(current))
}

/// The files of the old state: those that the new one shares have the new lines already, under whatever name.
fn inodes(old: &OwnedFd) -> io::Result<HashSet<u64>> {
    let mut found = HashSet::new();
    let mut walk = Walk::new(old.try_clone()?, &|_| true)?;
    while let Some((_, node)) = walk.next()? {
        found.insert(node.inode);
    }
    Ok(found)
}

/// One merged directory.
struct Carrier<'a> {
    places: &'a Places,
    merged: &'static str,
    old: Option<OwnedFd>,
    inodes: HashSet<u64>,
    baseline: &'a Baseline,
    short: &'a str,
    gate: &'a dyn Gate,
}

/// A file that has something new.
struct Grown<'a> {
    directory: BorrowedFd<'a>,
    name: &'a [u8],
    node: &'a Node,
    /// Where that begins.
    start: u64,
}

impl Carrier<'_> {
    /// Makes the files of one merged directory; whether there are any.
    fn carry(&self, live: OwnedFd) -> io::Result<bool> {
        let mut is_any = false;
        let base = live.try_clone()?;
        let mut walk = Walk::new(live, &|_| true)?;
        while let Some((path, node)) = walk.next()? {
            let (Some(directory), true) = (walk.directory(), node.is_file()) else {
                continue;
            };
            if self.inodes.contains(&node.inode) {
                continue;
            }
            let file = tree::open_file(directory, path.name())?;
            let whole = below(self.merged, &path)?;
            let Since::Offset(start) = self.baseline.since(&whole, &node, &file)? else {
                continue;
            };
            let grown = Grown {
                directory,
                name: path.name(),
                node: &node,
                start,
            };
            self.gate.pass("keep a file that has grown")?;
            self.one(&base, &path, &grown)?;
            is_any = true;
        }
        Ok(is_any)
    }

    fn one(&self, live: &OwnedFd, path: &RelativePath, grown: &Grown<'_>) -> io::Result<()> {
        let parent = path.parent();
        let parents = || parent.iter().flat_map(RelativePath::components);
        let found = match &self.old {
            Some(old) => find(old.as_fd(), parents())?,
            None => Found::Absent,
        };
        let kept = |path: Option<&RelativePath>| {
            let base = same_path(
                self.places.root.as_fd(),
                self.places.kept.as_fd(),
                components(self.merged),
            )?;
            let path = path.into_iter().flat_map(RelativePath::components);
            same_path(live.as_fd(), base.as_fd(), path)
        };
        let (old, target, name) = match (found, &self.old) {
            (Found::Directory(old), _) => (Some(old), kept(parent.as_ref())?, grown.name.to_vec()),
            (Found::Absent, _) => (None, kept(parent.as_ref())?, grown.name.to_vec()),
            (Found::Blocked, old) => {
                let flat: Vec<_> = path.components().collect();
                let old = old.as_ref().map(OwnedFd::try_clone).transpose()?;
                (old, kept(None)?, flat.join(&b'-'))
            }
        };
        let old = old.as_ref().map(AsFd::as_fd);
        let (target, directory) = (target.as_fd(), grown.directory);
        let there = old.map(|old| tree::look(old, &name)).transpose()?.flatten();
        let is_outcome = self.merged == ANALYSIS && name.ends_with(b".jsonl");
        // A log that came with the backup is kept whole; of outcomes each line counts.
        let is_free = there.is_none() && (grown.start == 0 || !is_outcome);
        let has_all = match (old, there) {
            (Some(old), Some(_)) => begins_alike(grown.directory, grown.name, old, &name)?,
            _ => is_free,
        };
        // Another one may have got it as a name beside its own.
        let is_unused = tree::look(target, &name)?.is_none();
        if has_all && is_unused {
            return link(directory, grown.name, target, &name, grown.node);
        }
        if is_outcome && is_unused && there.is_none_or(|there| there.is_file()) {
            match grown.union(old.filter(|_| there.is_some()), target, &name) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // A name of its own takes no room.
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let mut candidate = name.clone();
        for number in 0..MAX_TRIES {
            let in_old = old.map(|old| tree::look(old, &candidate)).transpose()?;
            if in_old.flatten().is_none() && tree::look(target, &candidate)?.is_none() {
                return link(directory, grown.name, target, &candidate, grown.node);
            }
            candidate = aside_name(&name, self.short, number);
        }
        Err(rustix::io::Errno::EXIST.into())
    }
}

impl Grown<'_> {
    /// Makes a file of the old lines and the new ones; `false` when they aren't lines.
    fn union(
        &self,
        old: Option<BorrowedFd<'_>>,
        target: BorrowedFd<'_>,
        name: &[u8],
    ) -> io::Result<bool> {
        let new = tree::open_file(self.directory, self.name)?;
        match old {
            Some(old) => {
                let old = tree::open_file(old, name)?;
                merge::write_union((old, new), self.start, target, name, self.node)
            }
            None => merge::write_union((io::empty(), new), self.start, target, name, self.node),
        }
    }
}
