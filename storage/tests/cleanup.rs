//! Cleanup on whole volumes: what goes, what stays, and who else may be at work.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use stockpredictor_storage::cleanup::{self, CleanupError, Report, Request, Retention};
use stockpredictor_storage::layout::{DIRECTORIES, Layout};
use stockpredictor_storage::lock::{Mode, VolumeLock};
use stockpredictor_storage::progress::Silent;
use stockpredictor_storage::setup;

const HOUR: u64 = 1;
const DAY: u64 = 24;

fn volume() -> (tempfile::TempDir, Layout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    setup::run(&layout, &setup::Request::default()).unwrap();
    (folder, layout)
}

/// A file whose last change was so many hours ago.
fn put(layout: &Layout, path: &str, hours: u64) {
    let path = layout.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, path.to_str().unwrap()).unwrap();
    age(&path, hours);
}

fn age(path: &Path, hours: u64) {
    let file = fs::File::open(path).unwrap();
    // A little more than that, so that a limit of as many hours is passed.
    let age = Duration::from_hours(hours) + Duration::from_secs(5);
    file.set_modified(SystemTime::now() - age).unwrap();
}

fn clean(layout: &Layout, dry_run: bool) -> Report {
    let request = Request {
        retention: Retention::default(),
        dry_run,
        now: SystemTime::now(),
    };
    cleanup::run(layout, &request, &Silent).unwrap()
}

/// Everything below the root but the locks.
fn tree(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry
                .path()
                .strip_prefix(root)
                .unwrap()
                .display()
                .to_string();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            }
            if !name.ends_with("lock") {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn what_is_old_goes_and_everything_else_stays() {
    let (folder, layout) = volume();
    let go = [
        ("ml_cache/predictions_cache/a.json", DAY),
        ("ml_cache/a/b/c.bin", DAY),
        ("stock_data/cache/daily_cache/NVDA.json", DAY),
        ("logs/api.2024-01-02.log", 30 * DAY),
        ("logs/api.log", 30 * DAY),
        ("stock_data/predictions/daily/NVDA_2024-01-02.json", 7 * DAY),
        (
            "stock_data/predictions/daily/TSLA_2024-01-02.json",
            30 * DAY,
        ),
        ("ml_models/m/.current.host-1-0.partial", HOUR),
        (".stockpredictor/.volume.json.host-1-0.partial", HOUR),
        ("backups/.stock_prediction_backup.partial", HOUR),
    ];
    let stay = [
        ("ml_cache/predictions_cache/b.json", DAY - 1),
        ("ml_cache/predictions_cache/.new.host-1-0.partial", 0),
        ("logs/api.2024-02-02.log", 29 * DAY),
        ("logs/notes.txt", 300 * DAY),
        ("stock_data/predictions/daily/NVDA_2024-01-03.json", 7 * DAY),
        ("stock_data/predictions/daily/NVDA_2024-01-04.json", 6 * DAY),
        ("stock_data/predictions/analysis/NVDA.jsonl", 300 * DAY),
        ("stock_data/historical/NVDA/NVDA.csv", 3000 * DAY),
        ("ml_models/m/1/model.onnx", 3000 * DAY),
        ("scalers/scaler.json", 3000 * DAY),
        ("config/ml_config.json", 3000 * DAY),
        (
            "backups/stock_prediction_backup_20240101_000000.tar.gz",
            3000 * DAY,
        ),
        ("monitoring/prometheus/.x.partial", 3000 * DAY),
        (".restore-1/ml_cache/a", 3000 * DAY),
        ("a_persons_file", 3000 * DAY),
    ];
    for (path, hours) in go.iter().chain(&stay) {
        put(&layout, path, *hours);
    }
    let outcomes = layout.join("stock_data/predictions/analysis/NVDA.jsonl");
    fs::write(&outcomes, "{\"target_date\":\"2024-01-02\",\"actual\":1}\n").unwrap();
    fs::create_dir(layout.join("ml_cache/empty")).unwrap();
    for directory in ["ml_cache/a/b", "ml_cache/a", "ml_cache/empty"] {
        age(&layout.join(directory), 2);
    }
    let before = tree(folder.path());
    let dry = clean(&layout, true);
    assert_eq!(tree(folder.path()), before, "a dry run removes nothing");
    let report = clean(&layout, false);
    let gone: BTreeSet<String> = before.difference(&tree(folder.path())).cloned().collect();
    let mut expected: BTreeSet<String> = go.iter().map(|(path, _)| (*path).to_owned()).collect();
    expected.extend(["ml_cache/a/b", "ml_cache/a", "ml_cache/empty"].map(str::to_owned));
    assert_eq!(gone, expected);
    assert_eq!(report.problems, 0, "{report:?}");
    assert_eq!((report.total().files, report.directories), (10, 3));
    assert_eq!((report.cache.files, report.logs.files), (3, 2));
    assert_eq!((report.predictions.files, report.unscored), (2, 1));
    assert_eq!(
        Report {
            dry_run: false,
            ..dry
        },
        report
    );
}

#[test]
fn the_guides_directories_stay_when_they_are_empty() {
    let (_folder, layout) = volume();
    for directory in DIRECTORIES {
        age(&layout.join(directory), 1000);
    }
    let report = clean(&layout, false);
    assert_eq!(report.directories, 0);
    for directory in DIRECTORIES {
        assert!(layout.join(directory).is_dir(), "{directory}");
    }
}

#[test]
fn links_are_removed_themselves_and_never_followed() {
    let (_folder, layout) = volume();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a"), "x").unwrap();
    age(&outside.path().join("a"), 1000);
    symlink(outside.path(), layout.join("ml_cache/link")).unwrap();
    fs::remove_dir_all(layout.join("stock_data/cache")).unwrap();
    symlink(outside.path(), layout.join("stock_data/cache")).unwrap();
    let request = Request {
        retention: Retention::default(),
        dry_run: false,
        now: SystemTime::now() + Duration::from_hours(48),
    };
    let report = cleanup::run(&layout, &request, &Silent).unwrap();
    assert_eq!(report.cache.files, 1);
    assert!(layout.join("ml_cache/link").symlink_metadata().is_err());
    assert!(layout.join("stock_data/cache").is_symlink());
    assert!(outside.path().join("a").exists());
}

#[test]
fn a_log_that_is_locked_by_its_writer_stays_however_old_it_is() {
    let (_folder, layout) = volume();
    put(&layout, "logs/error.log", 1000 * DAY);
    put(&layout, "logs/error.pod.log", 1000 * DAY);
    let writer = fs::File::open(layout.join("logs/error.log")).unwrap();
    writer.try_lock().unwrap();
    assert_eq!(clean(&layout, false).logs.files, 1);
    assert!(layout.join("logs/error.log").exists());
    drop(writer);
    assert_eq!(clean(&layout, false).logs.files, 1);
}

#[test]
fn what_a_killed_cleanup_put_aside_gets_its_name_back_or_goes() {
    let (_folder, layout) = volume();
    put(&layout, "ml_cache/.fresh.json.cleanup-1-0.partial", 2);
    put(&layout, "ml_cache/.old.json.cleanup-1-1.partial", 2 * DAY);
    put(&layout, "ml_cache/.twice.json.cleanup-1-2.partial", 2);
    fs::write(layout.join("ml_cache/twice.json"), "newer").unwrap();
    clean(&layout, false);
    let left: BTreeSet<_> = fs::read_dir(layout.join("ml_cache"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, ["fresh.json", "twice.json"].map(str::to_owned).into());
    assert_eq!(
        fs::read(layout.join("ml_cache/twice.json")).unwrap(),
        b"newer"
    );
}

#[test]
fn a_folder_that_a_killed_put_left_goes_and_one_in_use_stays() {
    let (_folder, layout) = volume();
    for name in [".1.a.folder.partial", ".2.b.folder.partial"] {
        put(&layout, &format!("ml_models/m/{name}/inner/model.onnx"), 0);
        age(&layout.join(format!("ml_models/m/{name}")), 2);
    }
    let used = fs::File::open(layout.join("ml_models/m/.2.b.folder.partial")).unwrap();
    used.try_lock().unwrap();
    clean(&layout, false);
    assert!(!layout.join("ml_models/m/.1.a.folder.partial").exists());
    assert!(
        layout
            .join("ml_models/m/.2.b.folder.partial/inner/model.onnx")
            .exists()
    );
}

#[test]
fn a_folder_that_a_killed_restore_left_goes_and_one_in_use_stays() {
    let (_folder, layout) = volume();
    let unpack = |place: &str, number: u32| {
        let id = format!("00000000-0000-0000-0000-00000000000{number}");
        format!("{place}.unpack-{id}.folder.partial")
    };
    let dead = [unpack("", 1), unpack("mine/", 2), unpack("ml_models/m/", 3)];
    let used = unpack("", 4);
    let (young, similar) = (unpack("", 5), ".unpack-mine".to_owned());
    for name in dead.iter().chain([&used, &young, &similar]) {
        put(&layout, &format!("{name}/config/deep/a.json"), 0);
        std::os::unix::fs::symlink("/etc", layout.join(name).join("link")).unwrap();
        age(&layout.join(name), if *name == young { 0 } else { 2 });
    }
    let lock = fs::File::open(layout.join(&used)).unwrap();
    lock.try_lock().unwrap();
    let all: Vec<_> = dead.iter().chain([&used, &young, &similar]).collect();
    clean(&layout, true);
    assert!(all.iter().all(|name| layout.join(name).exists()));
    clean(&layout, false);
    let left: Vec<_> = all
        .into_iter()
        .filter(|name| layout.join(name).exists())
        .collect();
    assert_eq!(left, [&used, &young, &similar]);
}

#[test]
fn only_one_cleans_up_and_a_restore_keeps_all_away() {
    let (folder, layout) = volume();
    put(&layout, "ml_cache/a", 48);
    let other = layout.state().join("cleanup.lock");
    let held = VolumeLock::try_take(&other, Mode::Exclusive).unwrap();
    let report = clean(&layout, false);
    assert!(report.another_at_work && report.total().files == 0);
    drop(held);
    assert!(folder.path().join("ml_cache/a").exists());
    assert_eq!(clean(&layout, false).cache.files, 1);
}

#[test]
fn a_folder_that_is_no_volume_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    put(&layout, "logs/api.log", 1000 * DAY);
    let request = Request {
        retention: Retention::default(),
        dry_run: false,
        now: SystemTime::now(),
    };
    let error = cleanup::run(&layout, &request, &Silent).unwrap_err();
    assert!(matches!(error, CleanupError::NoVolume { .. }), "{error}");
    assert!(folder.path().join("logs/api.log").exists());
}

#[test]
fn nothing_is_cleaned_up_while_a_restore_waits() {
    let (_folder, layout) = volume();
    put(&layout, "ml_cache/old", 2 * DAY);
    let id = "6f1c2d34-0000-4000-8000-000000000001";
    let journal = format!(
        r#"{{"format":1,"id":"{id}","backup":"{id}","startedAt":"2025-08-01T00:00:00Z","oneShot":false,"state":"switched","items":[]}}"#
    );
    fs::write(layout.state().join("restore.json"), journal).unwrap();
    let request = Request {
        retention: Retention::default(),
        dry_run: false,
        now: SystemTime::now(),
    };
    let error = cleanup::run(&layout, &request, &Silent).unwrap_err();
    assert!(error.to_string().contains("restore"), "{error}");
    assert!(layout.join("ml_cache/old").exists());
}
