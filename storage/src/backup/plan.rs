//! What an incremental backup stores: the walk is merged with the base's index, both sorted.
//!
//! In come two sorted streams, out comes one of plans. Nothing is read here.

use std::iter::Peekable;

use crate::archive::category::Category;
use crate::archive::digest::Digest;
use crate::archive::manifest::{Attributes, Content, Entry, Time};
use crate::archive::path::RelativePath;
use crate::walk::{Found, Item, ItemKind};

/// Bits that kubelet adds to files of a volume with an `fsGroup`.
const FILE_GROUP_BITS: u32 = 0o060;
/// The same for directories.
const DIRECTORY_GROUP_BITS: u32 = 0o2070;

/// What is done with one path.
#[derive(Debug)]
pub enum Plan {
    /// The base has it as it is.
    Keep {
        /// Where.
        path: RelativePath,
        /// What.
        content: Content,
    },
    /// It is stored.
    Store(Store),
    /// The base has it, the volume hasn't.
    Delete(RelativePath),
    /// The walk couldn't read it; what the base has of it stays.
    Trouble(Found),
    /// A kind of file that no archive holds, and whether the base has something else there.
    Skip(Item, bool),
}

/// Something to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// What the walk found.
    pub item: Item,
    /// Whether the base has something at this path.
    pub in_base: bool,
    /// The base's hash: a file that has it still is kept.
    pub unless: Option<Digest>,
}

/// The merged streams.
pub struct Merge<W: Iterator, B: Iterator> {
    walk: Peekable<W>,
    base: Peekable<B>,
    /// Logs that changed last before this are left out.
    oldest_log: Option<Time>,
    /// Below it nothing is known to be gone.
    unreadable: Option<RelativePath>,
}

impl<E, W: Iterator<Item = Found>, B: Iterator<Item = Result<Entry, E>>> Merge<W, B> {
    pub fn new(walk: W, base: B, oldest_log: Option<Time>) -> Self {
        Self {
            walk: walk.peekable(),
            base: base.peekable(),
            oldest_log,
            unreadable: None,
        }
    }

    fn gone(&mut self, entry: Entry) -> Option<Plan> {
        let unknown = self
            .unreadable
            .as_ref()
            .is_some_and(|unreadable| entry.path.is_within(unreadable.as_bytes()));
        match entry.content {
            Content::File { .. } if unknown => Some(Plan::Keep {
                path: entry.path,
                content: entry.content,
            }),
            _ if unknown => None,
            _ => Some(Plan::Delete(entry.path)),
        }
    }

    fn is_old_log(&self, item: &Item) -> bool {
        item.category == Category::Logs
            && item.kind == ItemKind::File
            && self
                .oldest_log
                .is_some_and(|oldest| item.attributes.mtime < oldest)
    }

    fn step(&mut self) -> Result<Option<Plan>, E> {
        let is_walked = self.walk.peek().is_none();
        let path = match self.walk.peek() {
            None | Some(Found::Unnameable { .. }) => None,
            Some(Found::Item(Item { path, .. }) | Found::Unreadable { path, .. }) => Some(path),
        };
        let base = match self.base.peek() {
            Some(Err(_)) => match self.base.next() {
                Some(Err(error)) => return Err(error),
                _ => None,
            },
            Some(Ok(entry)) => Some(&entry.path),
            None => None,
        };
        let is_base_first = match (path, base) {
            (Some(path), Some(base)) => base < path,
            (None, Some(_)) => is_walked,
            (_, None) => false,
        };
        let is_same = path.is_some() && path == base;
        if is_base_first {
            return match self.base.next() {
                Some(entry) => Ok(self.gone(entry?)),
                None => Ok(None),
            };
        }
        let Some(found) = self.walk.next() else {
            return Ok(None);
        };
        match found {
            Found::Item(item) => {
                let before = if is_same {
                    self.base.next().transpose()?
                } else {
                    None
                };
                Ok(self.compare(item, before))
            }
            Found::Unreadable { path, source } => {
                // The path's own entry in the base, if it comes next, lies within it too.
                self.unreadable = Some(path.clone());
                Ok(Some(Plan::Trouble(Found::Unreadable { path, source })))
            }
            found @ Found::Unnameable { .. } => Ok(Some(Plan::Trouble(found))),
        }
    }

    fn compare(&self, item: Item, before: Option<Entry>) -> Option<Plan> {
        if before.is_none() && self.is_old_log(&item) {
            return None;
        }
        if matches!(item.kind, ItemKind::Special(_)) {
            return Some(Plan::Skip(item, before.is_some()));
        }
        let Some(before) = before else {
            return Some(Plan::Store(Store {
                item,
                in_base: false,
                unless: None,
            }));
        };
        match difference(&item, &before.content) {
            Difference::None => Some(Plan::Keep {
                path: item.path,
                content: before.content,
            }),
            Difference::Inode(digest) => Some(Plan::Store(Store {
                item,
                in_base: true,
                unless: Some(digest),
            })),
            Difference::Content => Some(Plan::Store(Store {
                item,
                in_base: true,
                unless: None,
            })),
        }
    }
}

impl<E, W: Iterator<Item = Found>, B: Iterator<Item = Result<Entry, E>>> Iterator for Merge<W, B> {
    type Item = Result<Plan, E>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step() {
                Ok(None) if self.walk.peek().is_none() && self.base.peek().is_none() => {
                    return None;
                }
                Ok(None) => {}
                Ok(Some(plan)) => return Some(Ok(plan)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// How an entry differs from the base's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    None,
    /// Only where and when the inode changed: the content decides.
    Inode(Digest),
    Content,
}

fn difference(item: &Item, before: &Content) -> Difference {
    let Some(then) = before.attributes() else {
        return Difference::Content;
    };
    let now = &item.attributes;
    match (&item.kind, before) {
        (ItemKind::File, Content::File { size, sha256, .. }) => {
            let is_alike = item.size == *size
                && now.mtime == then.mtime
                && is_same_mode(then.mode, now.mode, FILE_GROUP_BITS);
            match (is_alike, is_same_inode(then, now)) {
                (false, _) => Difference::Content,
                (true, true) => Difference::None,
                (true, false) => Difference::Inode(*sha256),
            }
        }
        (ItemKind::Directory, Content::Directory { .. })
            if now.mtime == then.mtime
                && is_same_mode(then.mode, now.mode, DIRECTORY_GROUP_BITS) =>
        {
            Difference::None
        }
        (ItemKind::Symlink(target), Content::Symlink { target: old, .. })
            if target == old && now.mtime == then.mtime =>
        {
            Difference::None
        }
        _ => Difference::Content,
    }
}

fn is_same_inode(then: &Attributes, now: &Attributes) -> bool {
    then.ctime == now.ctime && then.inode == now.inode
}

/// Whether `now` is `then`, or has only bits more that kubelet adds.
fn is_same_mode(then: u32, now: u32, added: u32) -> bool {
    now & then == then && now & !then & !added == 0
}

#[cfg(test)]
mod tests;
