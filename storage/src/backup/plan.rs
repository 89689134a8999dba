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
mod tests {
    use super::*;
    use crate::archive::manifest::{Place, Target};
    use proptest::prelude::*;
    use rstest::rstest;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    fn time(seconds: i64) -> Time {
        Time {
            seconds,
            nanoseconds: 0,
        }
    }

    fn attributes(mode: u32, mtime: i64, ctime: i64, inode: u64) -> Attributes {
        Attributes {
            mode,
            mtime: time(mtime),
            ctime: time(ctime),
            inode,
        }
    }

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    fn item(text: &str, kind: ItemKind, attributes: Attributes, size: u64) -> Item {
        let path = path(text);
        Item {
            category: Category::of_top_level(path.top_level()).unwrap(),
            path,
            kind,
            attributes,
            size,
            content: None,
        }
    }

    fn entry(item: &Item) -> Entry {
        let (attributes, place) = (item.attributes, Place { member: 0, skip: 0 });
        let content = match &item.kind {
            ItemKind::File => Content::File {
                attributes,
                size: item.size,
                allocated: item.size,
                sha256: Digest::of(b"base"),
                place,
            },
            ItemKind::Directory => Content::Directory { attributes, place },
            ItemKind::Symlink(target) => Content::Symlink {
                attributes,
                target: target.clone(),
                place,
            },
            ItemKind::Special(_) => panic!("no archive holds it"),
        };
        Entry {
            path: item.path.clone(),
            content,
        }
    }

    const NONE: Difference = Difference::None;
    const CONTENT: Difference = Difference::Content;

    fn inode() -> Difference {
        Difference::Inode(Digest::of(b"base"))
    }

    #[rstest]
    #[case::same((9, 0o644, 1, 2, 3), NONE)]
    #[case::size((8, 0o644, 1, 2, 3), CONTENT)]
    #[case::mtime((9, 0o644, 0, 2, 3), CONTENT)]
    #[case::ctime((9, 0o644, 1, 9, 3), inode())]
    #[case::inode((9, 0o644, 1, 2, 9), inode())]
    #[case::chmod((9, 0o600, 1, 9, 3), CONTENT)]
    #[case::group_bits((9, 0o664, 1, 9, 3), inode())]
    #[case::group_bits_alone((9, 0o664, 1, 2, 3), NONE)]
    #[case::executable((9, 0o654, 1, 9, 3), CONTENT)]
    #[case::setgid((9, 0o2644, 1, 9, 3), CONTENT)]
    fn files_are_compared(
        #[case] (size, mode, mtime, ctime, number): (u64, u32, i64, i64, u64),
        #[case] expected: Difference,
    ) {
        let before = item("config/a", ItemKind::File, attributes(0o644, 1, 2, 3), 9);
        let now = attributes(mode, mtime, ctime, number);
        let now = item("config/a", ItemKind::File, now, size);
        assert_eq!(difference(&now, &entry(&before).content), expected);
    }

    #[rstest]
    #[case::same(0o755, 1, NONE)]
    #[case::kubelet(0o2775, 1, NONE)]
    #[case::changed(0o755, 2, CONTENT)]
    #[case::everyone(0o777, 1, CONTENT)]
    #[case::less(0o700, 1, CONTENT)]
    fn directories_are_compared(
        #[case] mode: u32,
        #[case] mtime: i64,
        #[case] expected: Difference,
    ) {
        let before = item("config", ItemKind::Directory, attributes(0o755, 1, 2, 3), 0);
        let now = attributes(mode, mtime, 9, 9);
        let now = item("config", ItemKind::Directory, now, 0);
        assert_eq!(difference(&now, &entry(&before).content), expected);
    }

    #[test]
    fn links_are_compared_by_target_and_time_and_kinds_differ() {
        let link = |target: &[u8], mtime| {
            let kind = ItemKind::Symlink(Target(target.to_vec()));
            item("config/a", kind, attributes(0o777, mtime, 2, 3), 0)
        };
        let before = entry(&link(b"x", 1)).content;
        assert_eq!(difference(&link(b"x", 1), &before), NONE);
        assert_eq!(difference(&link(b"y", 1), &before), CONTENT);
        assert_eq!(difference(&link(b"x", 2), &before), CONTENT);
        let file = item("config/a", ItemKind::File, attributes(0o777, 1, 2, 3), 0);
        assert_eq!(difference(&file, &before), CONTENT);
    }

    fn plans(walk: Vec<Found>, base: Vec<Entry>, oldest: Option<Time>) -> Vec<String> {
        let base = base.into_iter().map(Ok::<_, Infallible>);
        let name = |plan: Result<Plan, Infallible>| match plan.unwrap() {
            Plan::Keep { path, .. } => format!("keep {path}"),
            Plan::Store(store) => format!("store {}", store.item.path),
            Plan::Delete(path) => format!("delete {path}"),
            Plan::Trouble(_) => "trouble".to_owned(),
            Plan::Skip(item, in_base) => format!("skip {} {in_base}", item.path),
        };
        Merge::new(walk.into_iter(), base, oldest)
            .map(name)
            .collect()
    }

    fn file(text: &str) -> Item {
        item(text, ItemKind::File, attributes(0o644, 1, 2, 3), 9)
    }

    #[test]
    fn what_can_not_be_read_is_not_taken_for_deleted() {
        let base =
            ["config/a", "config/d/x", "config/d/y/z", "config/e"].map(|text| entry(&file(text)));
        let unreadable = |text| Found::Unreadable {
            path: path(text),
            source: std::io::ErrorKind::PermissionDenied.into(),
        };
        let found = plans(
            vec![unreadable("config/a"), unreadable("config/d")],
            base.to_vec(),
            None,
        );
        let expected = [
            "trouble",
            "keep config/a",
            "trouble",
            "keep config/d/x",
            "keep config/d/y/z",
            "delete config/e",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn old_logs_are_left_out_and_special_files_take_the_place_of_others() {
        let pipe = item(
            "config/p",
            ItemKind::Special("a FIFO"),
            attributes(0o644, 1, 2, 3),
            0,
        );
        let grown = item("logs/c", ItemKind::File, attributes(0o644, 1, 2, 3), 10);
        let walk = vec![
            Found::Item(pipe.clone()),
            Found::Item(file("logs/a")),
            Found::Item(file("logs/b")),
            Found::Item(grown),
        ];
        let base = ["config/p", "logs/b", "logs/c"].map(|text| entry(&file(text)));
        let found = plans(walk, base.to_vec(), Some(time(2)));
        let expected = ["skip config/p true", "keep logs/b", "store logs/c"];
        assert_eq!(found, expected);
    }

    fn trees() -> impl Strategy<Value = BTreeMap<RelativePath, Item>> {
        let one = ("[ab]{1,2}(/[ab-]{1,2}){0,2}", 0_i64..3, 0_i64..2);
        proptest::collection::vec(one, 0..12).prop_map(|items| {
            let item = |(text, mtime, ctime): (String, i64, i64)| {
                let item = item(&text, ItemKind::File, attributes(0o644, mtime, ctime, 3), 9);
                (item.path.clone(), item)
            };
            items.into_iter().map(item).collect()
        })
    }

    proptest! {
        #[test]
        fn the_merge_says_what_two_maps_say(now in trees(), then in trees()) {
            let walk = now.values().cloned().map(Found::Item).collect();
            let base = then.values().map(entry).collect();
            let mut expected = Vec::new();
            let mut paths: Vec<_> = now.keys().chain(then.keys()).collect();
            paths.sort();
            paths.dedup();
            for path in paths {
                let word = match (now.get(path), then.get(path)) {
                    (Some(now), Some(then)) if now == then => "keep",
                    (Some(_), _) => "store",
                    _ => "delete",
                };
                expected.push(format!("{word} {path}"));
            }
            prop_assert_eq!(plans(walk, base, None), expected);
        }
    }
}
