//! What restores leave, what they must not remove, and folders that backups are unpacked into.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod restore_support;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use restore_support::{
    Fake, TestVolume, Things, difference, file, folder, killable, read, request, silence, things,
};
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::progress::Silent;
use stockpredictor_storage::restore::{
    Access, AllowSwitched, Checker, Gate, NoCheck, Open, Outcome, RestoreError, compare,
    plan_directory, prepare, run, settle, settle_volume, to_directory, to_directory_gated, undo,
};
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(7);

/// A file system on which no file can be removed.
struct Stuck;

impl Gate for Stuck {
    fn pass(&self, step: &'static str) -> io::Result<()> {
        if step == "remove a file" {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }
}

struct Refuses;

impl Checker for Refuses {
    fn check(&self, _root: &Path) -> Result<(), String> {
        Err("golden predictions differ".to_owned())
    }
}

/// Everything but what restores left.
fn state(volume: &TestVolume) -> Things {
    let mut found = volume.read();
    found.retain(|path, _| !path.top_level().starts_with(b".restore-"));
    found
}

#[test]
fn what_cannot_be_removed_is_told_and_stops_nobody() {
    let old = things(&[("config/a", file("old"))]);
    let volume = TestVolume::with(&old);
    let stuck = volume.volume(&Stuck);
    let new = Fake::all(&[("config/a", file("new"))]);

    let error = run(&stuck, &new, &request(ID), &Refuses).unwrap_err();
    assert!(
        matches!(
            error,
            RestoreError::Undone {
                leftover: Some(_),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(state(&volume), old);
    assert_eq!(volume.state(), Vec::<String>::new());

    let report = run(&stuck, &new, &request(Uuid::from_u128(8)), &NoCheck).unwrap();
    assert_eq!(report.leftovers.len(), 2, "its own and the one before");
    let told = report.leftovers[1].to_string();
    assert!(told.contains("chown -R 1001:1001"), "{told}");
    assert_eq!(state(&volume), new.things);
    assert_eq!(volume.state(), Vec::<String>::new());

    prepare(&stuck, &Fake::all(&[("config/a", file("x"))]), &request(ID)).unwrap();
    let ended = undo(&stuck, ID).unwrap();
    assert_eq!(ended.outcome, Outcome::Done);
    assert!(!ended.leftovers.is_empty());
    for _ in 0..2 {
        let settled = settle_volume(&stuck, Access::Write, AllowSwitched::No).unwrap();
        assert!(!settled.leftovers.is_empty(), "{settled:?}");
    }
    // When the cause is gone, so is the rubbish.
    let settled = settle(&volume.layout, Access::Write, AllowSwitched::No).unwrap();
    assert!(settled.leftovers.is_empty(), "{settled:?}");
    assert_eq!(volume.read(), new.things);
}

#[test]
fn a_restore_that_would_remove_the_backups_it_reads_from_is_refused() {
    let live = things(&[
        ("backups/a.tar.gz", file("a")),
        ("mine/store/a.tar.gz", file("a")),
        ("stock_data/store/a.tar.gz", file("a")),
        ("logs/store/a.tar.gz", file("a")),
    ]);
    let volume = TestVolume::with(&live);
    std::os::unix::fs::symlink("stock_data/store", volume.layout.join("link")).unwrap();
    let live = volume.read();
    let at = volume.volume(&Open);
    let mut snapshot = Fake::all(&[
        ("config/a", file("a")),
        ("mine/b", file("b")),
        ("logs/b", file("b")),
    ]);
    for (folder, is_refused) in [
        ("mine/store", true),
        ("stock_data/store", true),
        ("link", true),
        ("backups", false),
        // What is in logs/ survives.
        ("logs/store", false),
    ] {
        snapshot.folder = Some(volume.layout.join(folder));
        let compared = compare(&volume.layout, &snapshot, None);
        let is_source = matches!(compared, Err(RestoreError::Source { .. }));
        assert_eq!(is_source, is_refused, "{folder}: {compared:?}");
        if is_refused {
            let error = run(&at, &snapshot, &request(ID), &NoCheck).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains(folder.trim_start_matches("link"))
            );
            assert_eq!(volume.read(), live);
        }
    }
    // Other parts can be restored from there.
    snapshot.folder = Some(volume.layout.join("stock_data/store"));
    let mut asked = request(ID);
    asked.only = Some(&[Category::Config]);
    run(&at, &snapshot, &asked, &NoCheck).unwrap();
    assert!(volume.layout.join("stock_data/store/a.tar.gz").exists());
}

fn unpack(snapshot: &Fake, to: &Path) -> Result<(), RestoreError> {
    to_directory(snapshot, to, None, &Silent).map(|_| ())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Lets another command work on the volume while a backup is unpacked on it.
struct Meanwhile<'a>(&'a Layout);

impl Gate for Meanwhile<'_> {
    fn pass(&self, step: &'static str) -> io::Result<()> {
        if step == "name the folder" {
            settle(self.0, Access::Write, AllowSwitched::No).map_err(io::Error::other)?;
            let other = Fake::all(&[("config/b", file("b"))]);
            unpack(&other, &self.0.join("other")).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

#[test]
fn others_leave_a_folder_alone_that_is_being_unpacked_on_the_volume() {
    let volume = TestVolume::with(&Things::new());
    let snapshot = Fake::all(&[("config/a", file("a"))]);
    let to = volume.layout.join("out");
    let gate = Meanwhile(&volume.layout);
    to_directory_gated(&snapshot, &to, None, &Silent, &gate).unwrap();
    assert_eq!(read(&to), snapshot.things);
    assert_eq!(
        names(volume.layout.root()),
        [".stockpredictor", "other", "out"]
    );
}

#[test]
fn what_a_killed_run_left_goes_with_the_next_and_what_is_in_use_stays() {
    let base = folder();
    let snapshot = Fake::all(&[("config/a", file("a"))]);
    let left = |at: &Path, number: u128| -> PathBuf {
        let id = Uuid::from_u128(number);
        let path = at.join(format!(".unpack-{id}.folder.partial"));
        fs::create_dir_all(path.join("config")).unwrap();
        path
    };
    let to = base.path().join("to");
    let (dead, used, inner) = (left(base.path(), 1), left(base.path(), 2), left(&to, 3));
    let similar = base.path().join(".unpack-mine");
    fs::create_dir(&similar).unwrap();
    let lock = fs::File::open(&used).unwrap();
    lock.lock().unwrap();
    plan_directory(&snapshot, &to, None).unwrap();
    assert!(inner.exists(), "only looked at");
    unpack(&snapshot, &to).unwrap();
    assert_eq!(read(&to), snapshot.things);
    assert!(!dead.exists() && used.exists() && similar.exists());
}

/// A file system of its own; only root can make one.
struct Mount(PathBuf);

impl Mount {
    fn at(path: &Path) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(path)
            .output();
        let is_mounted = done.is_ok_and(|done| done.status.success());
        is_mounted.then(|| Self(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_mount_point_gets_the_backup_inside_and_stays_one() {
    silence();
    let base = folder();
    let to = base.path().join("mount");
    let Some(_mount) = Mount::at(&to) else {
        return;
    };
    let inode = || fs::metadata(&to).unwrap().ino();
    let before = inode();
    fs::create_dir(to.join("lost+found")).unwrap();
    let mut snapshot = Fake::all(&[("config/a", file("a")), ("scalers/b", file("b"))]);
    plan_directory(&snapshot, &to, None).unwrap();
    // A failure leaves nothing, a kill a folder that doesn't count as content.
    snapshot.fails_after = Some(2);
    let error = unpack(&snapshot, &to).unwrap_err();
    assert!(error.to_string().contains("another hash"), "{error}");
    assert_eq!(names(&to), ["lost+found"]);
    snapshot.fails_after = None;
    snapshot.dies_after = Some(2);
    assert!(killable(|| unpack(&snapshot, &to)).is_none());
    assert_eq!(names(&to).len(), 2);
    snapshot.dies_after = None;
    unpack(&snapshot, &to).unwrap();
    assert_eq!(names(&to), ["config", "lost+found", "scalers"]);
    assert_eq!(names(base.path()), ["mount"], "nothing beside it");
    fs::remove_dir(to.join("lost+found")).unwrap();
    assert_eq!(read(&to), snapshot.things);
    assert_eq!(inode(), before);
    let error = unpack(&snapshot, &to).unwrap_err();
    assert!(matches!(error, RestoreError::NotEmpty { .. }), "{error}");
    assert_eq!(read(&to), snapshot.things);
}

#[test]
fn a_plan_for_a_folder_says_what_would_be_unpacked_and_refuses_what_would_fail() {
    let base = folder();
    let snapshot = Fake::all(&[("config/a", file("abc")), ("scalers/b", file("b"))]);
    let at = |name: &str| base.path().join(name);
    let plan = |name: &str, only| plan_directory(&snapshot, &at(name), only);
    let all = plan("new/deep", None).unwrap();
    assert_eq!((all.unpacked.files, all.unpacked.bytes), (2, 4));
    let some = plan("new", Some(&[Category::Config])).unwrap();
    assert_eq!((some.unpacked.files, some.unpacked.bytes), (1, 3));
    assert!(names(base.path()).is_empty(), "nothing is written");
    fs::create_dir_all(at("full/a")).unwrap();
    fs::write(at("file"), "").unwrap();
    for name in ["full", "file"] {
        let error = plan(name, None).unwrap_err();
        assert!(matches!(error, RestoreError::NotEmpty { .. }), "{error}");
    }
    let link = at("link");
    fs::create_dir(at("empty")).unwrap();
    std::os::unix::fs::symlink("empty", &link).unwrap();
    unpack(&snapshot, &link).unwrap();
    assert!(link.is_symlink());
    assert_eq!(
        difference(&snapshot.things, &read(&at("empty"))),
        Vec::<String>::new()
    );
}
