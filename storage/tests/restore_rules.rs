//! What a restore refuses, keeps and merges, and what other commands may do meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod restore_support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use restore_support::{
    Fake, Fate, TestVolume, Thing, Things, Trap, difference, file, folder, killable, read, request,
    things,
};
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::meta::Total;
use stockpredictor_storage::archive::path::RelativePath;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::lock::{Mode, VolumeLock};
use stockpredictor_storage::progress::Silent;
use stockpredictor_storage::restore::{
    Access, AllowSwitched, Changes, Journal, JournalError, MERGED, NoCheck, Open, Outcome,
    RestoreError, State, commit, compare, enter, prepare, run, settle, switch, to_directory, undo,
};
use stockpredictor_storage::setup;
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(7);

fn restore(volume: &TestVolume, snapshot: &Fake) -> Result<(), RestoreError> {
    run(&volume.volume(&Open), snapshot, &request(ID), &NoCheck).map(|_| ())
}

fn expect(volume: &TestVolume, expected: &Things) {
    let found = volume.read();
    assert_eq!(difference(expected, &found), Vec::<String>::new());
}

/// Name, live, backup, what is there afterwards.
type Row = (
    &'static str,
    Option<Thing>,
    Option<Thing>,
    Vec<(&'static str, Thing)>,
);

#[allow(clippy::too_many_lines, reason = "a table")]
fn merges() -> Vec<Row> {
    let log = |content: &str| file(content);
    vec![
        (
            "logs/a.log",
            Some(log("1\n")),
            None,
            vec![("logs/a.log", log("1\n"))],
        ),
        (
            "logs/a.log",
            None,
            Some(log("1\n")),
            vec![("logs/a.log", log("1\n"))],
        ),
        (
            "logs/a.log",
            Some(log("1\n2\n")),
            Some(log("1\n")),
            vec![("logs/a.log", log("1\n2\n"))],
        ),
        (
            "logs/a.log",
            Some(log("1\n")),
            Some(log("1\n2\n")),
            vec![
                ("logs/a.log", log("1\n")),
                ("logs/a.abcdef01.log", log("1\n2\n")),
            ],
        ),
        (
            "logs/d/a.log",
            Some(log("2\n")),
            Some(log("1\n")),
            vec![
                ("logs/d/a.log", log("2\n")),
                ("logs/d/a.abcdef01.log", log("1\n")),
            ],
        ),
        (
            "logs/a",
            Some(Thing::Directory),
            Some(log("1\n")),
            vec![
                ("logs/a", Thing::Directory),
                ("logs/a.abcdef01", log("1\n")),
            ],
        ),
        (
            "logs/a",
            Some(log("1\n")),
            Some(Thing::Directory),
            vec![
                ("logs/a", log("1\n")),
                ("logs/a.abcdef01", Thing::Directory),
            ],
        ),
        (
            "logs/a",
            Some(Thing::Link("x".to_owned())),
            Some(Thing::Link("x".to_owned())),
            vec![("logs/a", Thing::Link("x".to_owned()))],
        ),
        (
            "logs/a",
            Some(Thing::Link("x".to_owned())),
            Some(Thing::Link("y".to_owned())),
            vec![
                ("logs/a", Thing::Link("x".to_owned())),
                ("logs/a.abcdef01", Thing::Link("y".to_owned())),
            ],
        ),
        (
            "stock_data/predictions/analysis/A.jsonl",
            Some(log("1\n2\n")),
            Some(log("3\n1\n")),
            vec![("stock_data/predictions/analysis/A.jsonl", log("3\n1\n2\n"))],
        ),
        (
            "stock_data/predictions/analysis/A.jsonl",
            Some(log("1\n")),
            None,
            vec![("stock_data/predictions/analysis/A.jsonl", log("1\n"))],
        ),
        (
            "stock_data/predictions/analysis/A.txt",
            Some(log("1\n")),
            Some(log("2\n")),
            vec![
                ("stock_data/predictions/analysis/A.txt", log("1\n")),
                ("stock_data/predictions/analysis/A.abcdef01.txt", log("2\n")),
            ],
        ),
        ("stock_data/cache/c.json", Some(log("1\n")), None, vec![]),
    ]
}

#[test]
fn logs_and_outcomes_are_merged() {
    for (path, live, backup, after) in merges() {
        let at = |thing: Option<Thing>| {
            let list: Vec<_> = thing.into_iter().map(|thing| (path, thing)).collect();
            things(&list)
        };
        let volume = TestVolume::with(&at(live.clone()));
        let mut snapshot = Fake::all(&[]);
        snapshot.things = at(backup.clone());
        restore(&volume, &snapshot).unwrap();
        let mut expected = things(&after);
        for (path, thing) in snapshot.things {
            if thing == Thing::Directory && !expected.contains_key(&path) {
                expected.insert(path, thing);
            }
        }
        let found = volume.read();
        let differs = difference(&expected, &found);
        assert!(
            differs.is_empty(),
            "{path} {live:?} {backup:?}: {differs:#?}"
        );
    }
}

#[test]
fn the_same_restore_twice_adds_no_second_copy_of_a_log() {
    let volume = TestVolume::with(&things(&[("logs/a.log", file("live"))]));
    let snapshot = Fake::all(&[("logs/a.log", file("archived"))]);
    restore(&volume, &snapshot).unwrap();
    let once = volume.read();
    restore(&volume, &snapshot).unwrap();
    expect(&volume, &once);
    // Another content under the same backup's id gets a name of its own.
    restore(&volume, &Fake::all(&[("logs/a.log", file("changed"))])).unwrap();
    assert_eq!(volume.read().len(), once.len() + 1);
}

#[test]
fn undoing_leaves_the_inodes_of_live_logs() {
    let volume = TestVolume::with(&things(&[("logs/a.log", file("live"))]));
    let log = volume.layout.join("logs/a.log");
    let before = fs::metadata(&log).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o400)).unwrap();
    let snapshot = Fake::all(&[("logs/b.log", file("b"))]);
    let at = volume.volume(&Open);
    prepare(&at, &snapshot, &request(ID)).unwrap();
    undo(&at, ID).unwrap();
    let after = fs::metadata(&log).unwrap();
    assert_eq!(
        (before.ino(), after.mode() & 0o777, after.nlink()),
        (after.ino(), 0o400, 1)
    );
}

#[test]
fn a_volume_in_use_is_refused_and_nothing_is_written() {
    let volume = TestVolume::with(&things(&[("config/a", file("a"))]));
    let before = volume.read();
    let lock = VolumeLock::try_take(&volume.layout.lock(), Mode::Shared).unwrap();
    let snapshot = Fake::all(&[("config/b", file("b"))]);
    let error = restore(&volume, &snapshot).unwrap_err();
    assert!(
        matches!(error, RestoreError::Journal(JournalError::InUse { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("spec.suspend: true"), "{error}");
    expect(&volume, &before);
    assert_eq!(volume.state(), Vec::<String>::new());
    drop(lock);
    restore(&volume, &snapshot).unwrap();
}

#[test]
fn a_running_restore_keeps_others_away() {
    let volume = TestVolume::with(&things(&[("config/a", file("a"))]));
    let lock = volume.layout.state().join("restore.lock");
    let _lock = VolumeLock::try_take(&lock, Mode::Exclusive).unwrap();
    let error = restore(&volume, &Fake::all(&[])).unwrap_err();
    assert!(
        matches!(error, RestoreError::Journal(JournalError::Running { .. })),
        "{error}"
    );
}

#[test]
fn links_to_places_outside_are_neither_followed_nor_entered() {
    let outside = folder();
    fs::write(outside.path().join("precious"), "x").unwrap();
    let volume = TestVolume::with(&things(&[("stock_data/old", file("o"))]));
    symlink(outside.path(), volume.layout.join("stock_data/link")).unwrap();
    symlink(outside.path(), volume.layout.join("config")).unwrap();
    symlink(outside.path(), volume.layout.join("logs")).unwrap();
    let snapshot = Fake::all(&[
        ("stock_data/new", file("n")),
        ("config/new", file("n")),
        ("logs/new.log", file("n")),
    ]);
    let plan = compare(&volume.layout, &snapshot, None).unwrap();
    let removed: u64 = plan.parts.values().map(|part| part.removed.files).sum();
    assert_eq!(removed, 4, "three links and a file: {plan:#?}");
    restore(&volume, &snapshot).unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"x");
    expect(&volume, &snapshot.things);
}

#[test]
fn directories_that_deny_and_deep_ones_are_removed() {
    let volume = TestVolume::with(&things(&[]));
    let mut deep = volume.layout.join("stock_data");
    for level in 0..300 {
        fs::create_dir(&deep).unwrap();
        fs::write(deep.join("deep-1"), "a name that the removal uses").unwrap();
        deep.push(if level % 2 == 0 { "a" } else { "b" });
    }
    let locked = volume.layout.join("stock_data/locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("file"), "x").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    restore(&volume, &Fake::all(&[])).unwrap();
    expect(&volume, &Things::new());
}

#[test]
fn what_the_backup_lacks_is_removed_and_foreign_names_stay() {
    let volume = TestVolume::with(&things(&[
        ("scalers/a", file("a")),
        ("foreign/a", file("a")),
        ("lost+found/a", file("a")),
    ]));
    restore(&volume, &Fake::all(&[("other/b", file("b"))])).unwrap();
    let mut expected = things(&[("foreign/a", file("a")), ("lost+found/a", file("a"))]);
    expected.extend(things(&[("other/b", file("b"))]));
    expect(&volume, &expected);

    let limited = Fake::of(&[Category::Models], &[("ml_models/m", file("m"))]);
    let mut asked = request(ID);
    asked.only = Some(&[Category::Scalers]);
    let error = run(&volume.volume(&Open), &limited, &asked, &NoCheck).unwrap_err();
    assert!(matches!(error, RestoreError::NotIncluded { .. }), "{error}");
    expect(&volume, &expected);
}

#[test]
fn a_prepared_or_switched_volume_belongs_to_its_restore() {
    let before = things(&[("config/a", file("a"))]);
    let snapshot = Fake::all(&[("config/b", file("b"))]);
    let volume = TestVolume::with(&before);
    let (at, layout) = (volume.volume(&Open), &volume.layout);
    let other = request(Uuid::from_u128(8));
    let refused = |result: Result<(), JournalError>| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, JournalError::Waiting { id: ID, .. }),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains(&format!("--undo {ID}")), "{text}");
        // Only what works is recommended.
        let is_switched = text.contains("is switched");
        assert_eq!(
            text.contains(&format!("--commit {ID}")),
            is_switched,
            "{text}"
        );
    };
    let settled = |access, allow| settle(layout, access, allow).map(|_| ());

    prepare(&at, &snapshot, &request(ID)).unwrap();
    prepare(&at, &snapshot, &request(ID)).unwrap();
    refused(settled(Access::Write, AllowSwitched::Yes));
    refused(settled(Access::ReadOnly, AllowSwitched::No));
    let error = run(&at, &snapshot, &other, &NoCheck).unwrap_err();
    assert!(
        matches!(error, RestoreError::Journal(JournalError::Waiting { .. })),
        "{error}"
    );
    let error = commit(&at, ID).unwrap_err();
    assert!(matches!(error, RestoreError::State { .. }), "{error}");
    assert!(undo(&at, other.id).is_err());
    assert!(setup::run(layout, &setup::Request::default()).is_err());

    assert_eq!(switch(&at, ID, &snapshot, &NoCheck).unwrap(), Outcome::Done);
    assert_eq!(
        switch(&at, ID, &snapshot, &NoCheck).unwrap(),
        Outcome::NothingToDo
    );
    refused(settled(Access::Write, AllowSwitched::No));
    assert_eq!(
        settle(layout, Access::ReadOnly, AllowSwitched::Yes)
            .unwrap()
            .switched,
        Some(ID)
    );
    setup::run(layout, &setup::Request::default()).unwrap();
    let (lock, told) = enter(layout, Access::Write, AllowSwitched::Yes, Duration::ZERO).unwrap();
    assert_eq!(told.switched, Some(ID));
    // The service runs: the old state can't come back under it, but it may be dropped.
    assert!(undo(&at, ID).is_err());
    assert_eq!(commit(&at, ID).unwrap().outcome, Outcome::Done);
    drop(lock);
    assert_eq!(commit(&at, ID).unwrap().outcome, Outcome::NothingToDo);
    let error = switch(&at, ID, &snapshot, &NoCheck).unwrap_err();
    assert!(matches!(error, RestoreError::Unknown { .. }), "{error}");
    assert_eq!(fs::read(layout.join("config/b")).unwrap(), b"b");
}

#[test]
fn what_setup_makes_after_the_switch_does_not_stop_an_undo() {
    let volume = TestVolume::with(&things(&[("scalers/a", file("a"))]));
    let snapshot = Fake::all(&[("config/b", file("b"))]);
    let at = volume.volume(&Open);
    prepare(&at, &snapshot, &request(ID)).unwrap();
    switch(&at, ID, &snapshot, &NoCheck).unwrap();
    setup::run(&volume.layout, &setup::Request::default()).unwrap();
    assert!(volume.layout.join("scalers").is_dir());
    undo(&at, ID).unwrap();
    assert_eq!(fs::read(volume.layout.join("scalers/a")).unwrap(), b"a");
    assert!(!volume.layout.join("config").exists());
}

#[test]
fn setup_ends_a_restore_that_was_cut_off_and_readers_refuse() {
    let volume = TestVolume::with(&things(&[("config/a", file("a"))]));
    let mut snapshot = Fake::all(&[("config/b", file("b"))]);
    snapshot.dies_after = Some(1);
    assert!(killable(|| restore(&volume, &snapshot)).is_none());
    let error = settle(&volume.layout, Access::ReadOnly, AllowSwitched::Yes).unwrap_err();
    assert!(
        matches!(error, JournalError::Unsettled { id: ID, .. }),
        "{error}"
    );
    setup::run(&volume.layout, &setup::Request::default()).unwrap();
    assert!(Journal::read(&volume.layout).unwrap().is_none());
    assert_eq!(fs::read(volume.layout.join("config/a")).unwrap(), b"a");
    assert!(!volume.layout.join(format!(".restore-{ID}")).exists());
}

#[test]
fn a_restore_killed_while_dropping_is_ended_beside_a_running_service() {
    let volume = TestVolume::with(&things(&[("config/a", file("a"))]));
    let snapshot = Fake::all(&[("config/b", file("b"))]);
    let at = volume.volume(&Open);
    prepare(&at, &snapshot, &request(ID)).unwrap();
    switch(&at, ID, &snapshot, &NoCheck).unwrap();
    let _service = VolumeLock::try_take(&volume.layout.lock(), Mode::Shared).unwrap();
    let trap = Trap::at(2, Fate::Dies);
    assert!(killable(|| commit(&volume.volume(&trap), ID)).is_none());
    assert_eq!(
        Journal::read(&volume.layout).unwrap().unwrap().state,
        State::Committing
    );
    settle(&volume.layout, Access::Write, AllowSwitched::No).unwrap();
    expect(&volume, &snapshot.things);
}

#[test]
fn rubbish_of_restores_is_removed_and_similar_names_stay() {
    let volume = TestVolume::with(&things(&[
        (
            ".restore-00000000-0000-0000-0000-000000000009/old/a",
            file("a"),
        ),
        (".restore-mine/a", file("a")),
    ]));
    let partial = volume.layout.state().join(".restore.json.host-1-0.partial");
    fs::write(&partial, "half").unwrap();
    settle(&volume.layout, Access::ReadOnly, AllowSwitched::No).unwrap();
    assert!(partial.exists());
    settle(&volume.layout, Access::Write, AllowSwitched::No).unwrap();
    expect(&volume, &things(&[(".restore-mine/a", file("a"))]));
    assert!(!partial.exists());
}

#[test]
fn a_damaged_or_later_journal_is_refused() {
    let volume = TestVolume::with(&Things::new());
    for (text, expected) in [
        ("{\"format\":1,", "damaged"),
        ("{\"format\":2}", "format 2"),
    ] {
        fs::write(Journal::path(&volume.layout), text).unwrap();
        let error = settle(&volume.layout, Access::Write, AllowSwitched::Yes).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn modes_are_repaired_and_the_marker_stays() {
    let volume = TestVolume::with(&Things::new());
    fs::write(volume.layout.marker(), "marker").unwrap();
    let odd = |mode| Thing::File(b"x".to_vec(), mode, 5);
    let snapshot = Fake::all(&[
        ("config/none", odd(0o044)),
        ("config/script.sh", odd(0o640)),
        ("restore_data.sh", odd(0o640)),
        (".stockpredictor/volume.json", odd(0o644)),
    ]);
    restore(&volume, &snapshot).unwrap();
    let mode = |name: &str| fs::metadata(volume.layout.join(name)).unwrap().mode() & 0o7777;
    assert_eq!(mode("config/none"), 0o644);
    assert_eq!(mode("config/script.sh"), 0o640);
    assert_eq!(mode("restore_data.sh"), 0o755);
    assert_eq!(fs::read(volume.layout.marker()).unwrap(), b"marker");
}

#[test]
fn a_backup_that_does_not_fit_is_refused_before_anything_is_written() {
    let volume = TestVolume::with(&Things::new());
    let plan = compare(
        &volume.layout,
        &Fake::all(&[("config/a", file("abc")), ("config/b", file(""))]),
        None,
    )
    .unwrap();
    assert_eq!(plan.unpacked, Total { files: 2, bytes: 3 });
    // Two files and the directory, a block each.
    assert_eq!(plan.needed_bytes, (1 << 20) + 3 * 4096);
    assert_eq!(plan.needed_inodes, 32 + 3);
}

#[test]
fn an_extraction_needs_an_empty_directory_and_leaves_nothing_when_it_fails() {
    let base = folder();
    let snapshot = Fake::all(&[("config/a", file("a")), ("x.sh", file("s"))]);
    let at = |name: &str| base.path().join(name);
    let extract = |snapshot: &Fake, path: &Path, only| to_directory(snapshot, path, only, &Silent);
    let mut expected = snapshot.things.clone();
    let script = Thing::File(b"s".to_vec(), 0o755, 1_700_000_000);
    expected.insert(RelativePath::new("x.sh").unwrap(), script);

    extract(&snapshot, &at("deep/new"), None).unwrap();
    assert_eq!(
        difference(&expected, &read(&at("deep/new"))),
        Vec::<String>::new()
    );
    fs::create_dir(at("empty")).unwrap();
    extract(&snapshot, &at("empty"), Some(&[Category::Config])).unwrap();
    assert_eq!(read(&at("empty")), things(&[("config/a", file("a"))]));
    let error = extract(&snapshot, &at("empty"), None).unwrap_err();
    assert!(matches!(error, RestoreError::NotEmpty { .. }), "{error}");
    let mut damaged = Fake::all(&[("config/a", file("a"))]);
    damaged.fails_after = Some(1);
    assert!(extract(&damaged, &at("none"), None).is_err());
    let mut names: Vec<_> = fs::read_dir(base.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["deep", "empty"]);
}

fn a_thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        4 => ("[ab]{0,3}", 1_u64..3).prop_map(|(content, time)| {
            Thing::File(content.into_bytes(), 0o644, time)
        }),
        1 => Just(Thing::Directory),
        1 => "[xy]".prop_map(Thing::Link),
    ]
}

fn a_tree() -> impl Strategy<Value = Things> {
    let path = "(ml_models|config|logs|stock_data|stock_data/predictions/analysis|foreign|other|backups|x|x-y)(/[ab-]){0,3}";
    proptest::collection::vec((path, a_thing()), 0..25).prop_map(|list| {
        let mut all = Things::new();
        for (path, thing) in list {
            let path = RelativePath::new(path).unwrap();
            let mut above = path.parent();
            let mut fits = !all.contains_key(&path);
            while let Some(parent) = above {
                fits &= all
                    .get(&parent)
                    .is_none_or(|found| *found == Thing::Directory);
                above = parent.parent();
            }
            if fits {
                above = path.parent();
                while let Some(parent) = above {
                    above = parent.parent();
                    all.insert(parent, Thing::Directory);
                }
                all.insert(path, thing);
            }
        }
        all
    })
}

fn size(thing: &Thing) -> u64 {
    match thing {
        Thing::File(content, ..) => content.len() as u64,
        Thing::Directory => 0,
        Thing::Link(target) => target.len() as u64,
    }
}

/// Contents aren't read for a plan.
fn alike(left: &Thing, right: &Thing) -> bool {
    match (left, right) {
        (Thing::File(left, _, one), Thing::File(right, _, other)) => {
            (left.len(), one) == (right.len(), other)
        }
        (left, right) => left == right,
    }
}

/// What a plan must say, from two maps.
fn expected_changes(live: &Things, backup: &Things, part: Category) -> Changes {
    let mut changes = Changes::default();
    let count = |total: &mut Total, bytes| {
        total.files += 1;
        total.bytes += bytes;
    };
    let in_part = |path: &RelativePath| Category::of_top_level(path.top_level()) == Some(part);
    let merged = |path: &RelativePath| {
        MERGED
            .iter()
            .any(|merged| path.is_within(merged.as_bytes()) && path.as_bytes() != merged.as_bytes())
    };
    let replaced = |path: &RelativePath| {
        part != Category::Other
            || backup
                .keys()
                .any(|other| other.top_level() == path.top_level())
    };
    for (path, thing) in live
        .iter()
        .filter(|(path, _)| in_part(path) && replaced(path))
    {
        let stays = matches!(backup.get(path), Some(other) if *other != Thing::Directory);
        if *thing != Thing::Directory && !stays {
            let total = if merged(path) {
                &mut changes.kept
            } else {
                &mut changes.removed
            };
            count(total, size(thing));
        }
    }
    for (path, thing) in backup.iter().filter(|(path, _)| in_part(path)) {
        let bytes = match thing {
            Thing::Directory => continue,
            Thing::Link(_) => 0,
            Thing::File(content, ..) => content.len() as u64,
        };
        match live.get(path) {
            None | Some(Thing::Directory) => count(&mut changes.added, bytes),
            Some(other) if alike(other, thing) => count(&mut changes.kept, bytes),
            Some(_) => count(&mut changes.changed, bytes),
        }
    }
    changes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    #[test]
    fn a_plan_counts_what_a_restore_changes(live in a_tree(), backup in a_tree()) {
        let volume = TestVolume::with(&live);
        let mut snapshot = Fake::all(&[]);
        snapshot.things = backup.clone();
        let plan = compare(&volume.layout, &snapshot, None).unwrap();
        for part in Category::ALL {
            let expected = expected_changes(&live, &backup, part);
            prop_assert_eq!(plan.parts.get(&part).copied(), Some(expected), "{}", part);
        }
        prop_assert_eq!(volume.read(), live);
    }

    #[test]
    fn a_restore_brings_the_backup_and_keeps_the_rest(live in a_tree(), backup in a_tree()) {
        let volume = TestVolume::with(&live);
        let mut snapshot = Fake::all(&[]);
        snapshot.things = backup.clone();
        let merged = |path: &RelativePath| {
            MERGED.iter().any(|merged| path.is_within(merged.as_bytes()))
        };
        // A merged directory that is a file on one side is refused; this is about the others.
        let clear = |tree: &Things| MERGED.iter().all(|merged| {
            let mut path = RelativePath::new(*merged).ok();
            let mut clear = true;
            while let Some(at) = path {
                clear &= tree.get(&at).is_none_or(|thing| *thing == Thing::Directory);
                path = at.parent();
            }
            clear
        });
        prop_assume!(clear(&live) && clear(&backup));
        restore(&volume, &snapshot).unwrap();
        let found = volume.read();
        let mut expected = Things::new();
        for (path, thing) in &live {
            let category = Category::of_top_level(path.top_level());
            let stays = match category {
                None => true,
                Some(Category::Other) => {
                    !backup.keys().any(|other| other.top_level() == path.top_level())
                }
                Some(_) => false,
            };
            if stays {
                expected.insert(path.clone(), thing.clone());
            }
        }
        for (path, thing) in &backup {
            let is_ours = Category::of_top_level(path.top_level()).is_some();
            if is_ours && !merged(path) {
                expected.insert(path.clone(), thing.clone());
            }
        }
        let parents = |path: &RelativePath| {
            MERGED.iter().any(|merged| {
                RelativePath::new(*merged).is_ok_and(|merged| merged.is_within(path.as_bytes()))
            })
        };
        let rest: Things = found
            .iter()
            .filter(|(path, _)| !merged(path) && (expected.contains_key(path) || !parents(path)))
            .map(|(path, thing)| (path.clone(), thing.clone()))
            .collect();
        prop_assert_eq!(rest, expected);
        // No live log is lost, whatever the backup has.
        for (path, thing) in live.iter().filter(|(path, _)| merged(path)) {
            prop_assert_eq!(found.get(path), Some(thing), "{}", path);
        }
        prop_assert_eq!(volume.state(), Vec::<String>::new());
    }
}

#[test]
fn a_root_that_is_not_there_is_told() {
    let layout = Layout::new("/nonexistent/volume");
    let error = compare(&layout, &Fake::all(&[]), None).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/volume"), "{error}");
}
