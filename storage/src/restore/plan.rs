//! What a restore will change: the backup's entries beside what lies on the volume, in one pass over both.
//!
//! In come a snapshot and a volume, out comes a [`Plan`]; nothing is touched. Memory is that of the largest directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Access, AtFlags, FileType};
use rustix::io::Errno;
use serde::Serialize;

use super::error::{RestoreError, shown, used};
use super::journal::Item;
use super::tree::{self, Node, Walk};
use crate::archive::category::Category;
use crate::archive::manifest::{Content, Entry};
use crate::archive::meta::Total;
use crate::archive::path::RelativePath;
use crate::descriptor;
use crate::layout::Layout;
use crate::snapshot::Snapshot;

/// Directories whose live files survive a restore.
pub const MERGED: [&str; 2] = ["logs", ANALYSIS];
/// Outcomes: a line each, kept for ever.
pub(super) const ANALYSIS: &str = "stock_data/predictions/analysis";
/// Most names directly below the root that a restore replaces.
const MAX_ITEMS: usize = 100_000;
/// What a file system gives out at once, in bytes.
const BLOCK: u64 = 4096;
/// Space for the journal and the folders of the restore, in bytes.
const MARGIN: u64 = 1 << 20;
/// Inodes for the same.
const MARGIN_INODES: u64 = 32;

/// What a restore will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What happens in each part of the volume that is restored. Links count as files, directories don't count.
    pub parts: BTreeMap<Category, Changes>,
    /// What is replaced, directly below the root.
    pub items: Vec<Item>,
    /// What will be unpacked.
    pub unpacked: Total,
    /// Bytes that must be free on the volume.
    pub needed_bytes: u64,
    /// Inodes that must be free on the volume.
    pub needed_inodes: u64,
    /// Directories that would be removed and can't be emptied, one for each name below the root.
    #[serde(skip)]
    pub locked: Vec<RelativePath>,
}

impl Plan {
    /// Counts what an entry of the backup takes.
    pub(super) fn reserve(&mut self, entry: &Entry) {
        let bytes = entry.content.allocated();
        let bytes = bytes
            .checked_next_multiple_of(BLOCK)
            .unwrap_or(bytes)
            .max(BLOCK);
        self.needed_bytes = self.needed_bytes.saturating_add(bytes);
        self.needed_inodes += 1;
    }
}

/// What happens to the files of one part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// In the backup only.
    pub added: Total,
    /// In both, with another size, time, kind or target; sizes are the backup's. In merged directories both are kept.
    pub changed: Total,
    /// On the volume only, and dropped.
    pub removed: Total,
    /// The same in both, and what lies only on the volume in merged directories.
    pub kept: Total,
}

/// Whether `path` lies below a directory whose live files survive.
pub(super) fn is_merged(path: &RelativePath) -> bool {
    MERGED
        .iter()
        .map(|merged| merged.as_bytes())
        .any(|merged| path.is_within(merged) && path.as_bytes() != merged)
}

/// The parts that are restored: what the backup has, limited by `only`.
pub(super) fn choose(
    include: &[Category],
    only: Option<&[Category]>,
) -> Result<BTreeSet<Category>, RestoreError> {
    let chosen: BTreeSet<_> = only.unwrap_or(include).iter().copied().collect();
    if chosen.is_empty() {
        return Err(RestoreError::Nothing);
    }
    match chosen.iter().find(|category| !include.contains(category)) {
        None => Ok(chosen),
        Some(category) => {
            let names: Vec<_> = include.iter().map(|category| category.as_str()).collect();
            Err(RestoreError::NotIncluded {
                category: *category,
                include: names.join(", "),
            })
        }
    }
}

/// Whether a path belongs to one of the parts.
pub(super) fn is_chosen(chosen: &BTreeSet<Category>, top_level: &[u8]) -> bool {
    Category::of_top_level(top_level).is_some_and(|category| chosen.contains(&category))
}

/// Compares the snapshot with the volume.
///
/// Files are the same when size and time are; contents are not read.
pub fn compare(
    layout: &Layout,
    snapshot: &dyn Snapshot,
    only: Option<&[Category]>,
) -> Result<Plan, RestoreError> {
    let chosen = choose(snapshot.include(), only)?;
    let failed = || used(layout.root());
    let root = descriptor::open_root(layout.root()).map_err(failed())?;
    let again = root.try_clone().map_err(failed())?;
    let walk = Walk::new(again, &|name| is_chosen(&chosen, name)).map_err(failed())?;
    let source = snapshot
        .folder()
        .map(inode_of)
        .transpose()
        .map_err(failed())?;
    let mut comparison = Comparison {
        source,
        found_source: None,
        unwritable: None,
        walk,
        live: None,
        names: BTreeSet::new(),
        last: None,
        plan: Plan {
            parts: chosen
                .iter()
                .map(|part| (*part, Changes::default()))
                .collect(),
            needed_bytes: MARGIN,
            needed_inodes: MARGIN_INODES,
            ..Plan::default()
        },
    };
    comparison
        .advance()
        .map_err(|error| explain(layout, error))?;
    let mut failure = None;
    let told = snapshot.entries(&mut |entry| {
        if !is_chosen(&chosen, entry.path.top_level()) {
            return Ok(());
        }
        comparison.take(entry).map_err(|error| {
            // The snapshot would say that the archive is at fault.
            let copy = io::Error::from(error.kind());
            failure = Some(error);
            copy
        })
    });
    if let Some(error) = failure {
        return Err(explain(layout, error));
    }
    told?;
    let many = comparison.names.len() > MAX_ITEMS;
    if many {
        return Err(RestoreError::TooManyNames { limit: MAX_ITEMS });
    }
    comparison
        .finish()
        .map_err(|error| explain(layout, error))?;
    let Comparison {
        mut plan,
        names,
        found_source,
        ..
    } = comparison;
    plan.items = items(root.as_fd(), &chosen, names).map_err(failed())?;
    let is_replaced = |path: &RelativePath| {
        let mut names = plan.items.iter().map(|item| item.name.as_bytes());
        names.any(|name| name == path.top_level())
    };
    if let Some(path) = found_source.filter(is_replaced) {
        return Err(RestoreError::Source {
            path: shown(&layout.root().join(path.as_path())),
        });
    }
    let (locked, _) = plan.locked.drain(..).partition(is_replaced);
    plan.locked = locked;
    Ok(plan)
}

/// Device and inode of a directory, by which it is known under whatever path.
fn inode_of(path: &Path) -> io::Result<(u64, u64)> {
    let node = tree::look_at(descriptor::open_root(path)?.as_fd())?;
    Ok((node.device, node.inode))
}

/// Tells mounts inside the volume from other failures.
fn explain(layout: &Layout, source: io::Error) -> RestoreError {
    if source.kind() == io::ErrorKind::CrossesDevices {
        let path = source.to_string();
        return RestoreError::Mount { path };
    }
    RestoreError::Use {
        path: shown(layout.root()),
        source,
    }
}

/// What is replaced below the root.
fn items(
    root: std::os::fd::BorrowedFd<'_>,
    chosen: &BTreeSet<Category>,
    mut names: BTreeSet<RelativePath>,
) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    for category in chosen {
        let Some(directory) = category.directory() else {
            continue;
        };
        let name = RelativePath::new(directory).map_err(io::Error::other)?;
        let had_old = tree::look(root, name.as_bytes())?.is_some();
        let in_backup = names.remove(&name);
        let has_new = in_backup || (*category == Category::StockData && has_analysis(root)?);
        // Logs are merged: without any in the backup the live ones stay as they are.
        let is_kept = *category == Category::Logs && !has_new;
        if (had_old || has_new) && !is_kept {
            items.push(Item {
                name,
                had_old,
                has_new,
            });
        }
    }
    for name in names {
        items.push(Item {
            had_old: tree::look(root, name.as_bytes())?.is_some(),
            has_new: true,
            name,
        });
    }
    Ok(items)
}

fn has_analysis(root: std::os::fd::BorrowedFd<'_>) -> io::Result<bool> {
    Ok(tree::open_below(root, ANALYSIS)?.is_some())
}

struct Comparison {
    /// The folder that the backup is read from.
    source: Option<(u64, u64)>,
    /// Where the walk came to it.
    found_source: Option<RelativePath>,
    /// The last directory that can't be written to: nothing in it could be removed.
    unwritable: Option<RelativePath>,
    walk: Walk,
    live: Option<(RelativePath, Node)>,
    names: BTreeSet<RelativePath>,
    last: Option<RelativePath>,
    plan: Plan,
}

impl Comparison {
    fn advance(&mut self) -> io::Result<()> {
        self.live = self.walk.next()?;
        Ok(())
    }

    fn take(&mut self, entry: &Entry) -> io::Result<()> {
        let path = &entry.path;
        if self.last.as_ref().is_some_and(|last| last >= path) {
            let reason = format!("{path} is not in order in the backup's manifest");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        if self
            .last
            .as_ref()
            .is_none_or(|last| last.top_level() != path.top_level())
            && self.names.len() <= MAX_ITEMS
        {
            let name = RelativePath::new(path.top_level()).map_err(io::Error::other)?;
            self.names.insert(name);
        }
        self.last = Some(path.clone());
        self.plan.reserve(entry);
        if !matches!(entry.content, Content::Directory { .. }) {
            count(&mut self.plan.unpacked, entry.content.size());
        }
        while self.live.as_ref().is_some_and(|(live, _)| live < path) {
            self.drop_live(Some(path))?;
        }
        let node = match &self.live {
            Some((live, node)) if live == path => Some(*node),
            _ => None,
        };
        match node {
            None => self.add(entry),
            Some(node) => {
                self.both(entry, &node)?;
                self.advance()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        while self.live.is_some() {
            self.drop_live(None)?;
        }
        Ok(())
    }

    /// Something that lies on the volume only.
    fn drop_live(&mut self, next: Option<&RelativePath>) -> io::Result<()> {
        let Some((path, node)) = self.live.take() else {
            return Ok(());
        };
        let own = Category::of_top_level(path.top_level());
        let is_foreign = own == Some(Category::Other)
            && !RelativePath::new(path.top_level()).is_ok_and(|name| self.names.contains(&name))
            && !next.is_some_and(|next| next.is_within(path.as_bytes()));
        if is_foreign {
            self.walk.skip();
            return self.advance();
        }
        self.inspect(&path, &node)?;
        if !node.is_directory() {
            self.reserve(&path, &node);
            self.live_only(&path, node.size);
        }
        self.advance()
    }

    /// Looks for what speaks against removing a live entry.
    fn inspect(&mut self, path: &RelativePath, node: &Node) -> io::Result<()> {
        let is_stuck = |locked: &RelativePath| path != locked && path.is_within(locked.as_bytes());
        if let Some(locked) = self.unwritable.take_if(|locked| is_stuck(locked)) {
            let last = self.plan.locked.last();
            if last.is_none_or(|last| last.top_level() != locked.top_level()) {
                self.plan.locked.push(locked);
            }
        }
        if !node.is_directory() {
            return Ok(());
        }
        // What is in merged directories survives.
        if self.source == Some((node.device, node.inode)) && !is_merged(path) {
            self.found_source = Some(path.clone());
        }
        // Its owner can give himself the rights.
        if node.uid != rustix::process::geteuid().as_raw() {
            let directory = self.walk.directory().ok_or(io::ErrorKind::NotFound)?;
            let rights = Access::WRITE_OK | Access::EXEC_OK;
            let name = tree::os(path.name());
            let may = rustix::fs::accessat(directory, name, rights, AtFlags::EACCESS);
            if matches!(may, Err(Errno::ACCESS | Errno::PERM)) {
                self.unwritable = Some(path.clone());
            }
        }
        Ok(())
    }

    /// A live file that the backup has no file for.
    fn live_only(&mut self, path: &RelativePath, bytes: u64) {
        let changes = self.part(path);
        let total = if is_merged(path) {
            &mut changes.kept
        } else {
            &mut changes.removed
        };
        count(total, bytes);
    }

    fn add(&mut self, entry: &Entry) {
        if !matches!(entry.content, Content::Directory { .. }) {
            count(&mut self.part(&entry.path).added, entry.content.size());
        }
    }

    fn both(&mut self, entry: &Entry, node: &Node) -> io::Result<()> {
        self.inspect(&entry.path, node)?;
        self.reserve(&entry.path, node);
        let same = match &entry.content {
            Content::File {
                attributes, size, ..
            } => node.is_file() && node.size == *size && node.mtime == attributes.mtime,
            Content::Symlink { target, .. } if node.kind == FileType::Symlink => {
                let directory = self.walk.directory().ok_or(io::ErrorKind::NotFound)?;
                let name = tree::os(entry.path.name());
                let found = rustix::fs::readlinkat(directory, name, Vec::new())?;
                found.as_bytes() == target.0
            }
            Content::Symlink { .. } | Content::Deleted => false,
            Content::Directory { .. } => {
                if !node.is_directory() {
                    self.live_only(&entry.path, node.size);
                }
                return Ok(());
            }
        };
        let changes = self.part(&entry.path);
        let total = match (same, node.is_directory()) {
            (true, _) => &mut changes.kept,
            (false, false) => &mut changes.changed,
            (false, true) => &mut changes.added,
        };
        count(total, entry.content.size());
        Ok(())
    }

    /// Outcomes of both states are written together into a new file.
    fn reserve(&mut self, path: &RelativePath, node: &Node) {
        if is_merged(path) {
            self.plan.needed_inodes += 1;
            if path.is_within(ANALYSIS.as_bytes()) {
                self.plan.needed_bytes += node.size.next_multiple_of(BLOCK);
            }
        }
    }

    fn part(&mut self, path: &RelativePath) -> &mut Changes {
        let category = Category::of_top_level(path.top_level()).unwrap_or(Category::Other);
        self.plan.parts.entry(category).or_default()
    }
}

fn count(total: &mut Total, bytes: u64) {
    total.files += 1;
    total.bytes += bytes;
}
