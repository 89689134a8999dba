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
fn directories_are_compared(#[case] mode: u32, #[case] mtime: i64, #[case] expected: Difference) {
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
