//! What commands that read backups refuse, pass over and tell, whatever lies at the destination.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use uuid::Uuid;

use crate::common::{content, json, predictor, refusal, report, run, volume};
use crate::restores::begin;

fn backup(root: &Path) -> String {
    let made = report("backup", root, &[], 0);
    made["name"].as_str().unwrap().to_owned()
}

fn beside(archive: &Path) -> PathBuf {
    let name = archive.file_name().unwrap().to_str().unwrap();
    archive.with_file_name(name.replace(".tar.gz", ".meta.json"))
}

/// A volume with two backups, the older one first, and where they lie.
fn two() -> (tempfile::TempDir, PathBuf, [PathBuf; 2]) {
    let (folder, root) = volume();
    let first = root.join("backups").join(backup(&root));
    fs::write(root.join("config/second"), "").unwrap();
    let second = root.join("backups").join(backup(&root));
    (folder, root, [first, second])
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

#[test]
fn another_archive_under_a_known_name_is_refused_whatever_lies_beside_it() {
    let (_folder, root, [first, second]) = two();
    fs::copy(&second, &first).unwrap();
    let before = content(&root);
    for beside_it in [None, Some("{"), Some("{}")] {
        fs::remove_file(beside(&first)).ok();
        if let Some(text) = beside_it {
            fs::write(beside(&first), text).unwrap();
        }
        for arguments in [vec!["--yes"], vec!["--to", "somewhere"]] {
            let text = refusal(
                "restore",
                &root,
                &[&[name(&first)], &arguments[..]].concat(),
            );
            assert!(text.contains("was changed since"), "{beside_it:?}: {text}");
        }
    }
    assert_eq!(content(&root), before);
    assert!(!Path::new("somewhere").exists());
}

#[test]
fn newer_archives_that_tell_nothing_are_passed_over_aloud_by_restore_and_verify() {
    let (_folder, root, [first, second]) = two();
    fs::remove_file(beside(&second)).unwrap();
    let plan = report("restore", &root, &["latest", "--dry-run"], 0);
    assert_eq!(plan["backup"], name(&first));
    let notes = plan["notes"].to_string();
    assert!(
        notes.contains(name(&second)) && notes.contains("was passed over"),
        "{notes}"
    );
    let told = text(&run("restore", &root, &["latest", "--dry-run"]));
    assert!(told.contains("was passed over"), "{told}");
    let verified = report("verify", &root, &["latest"], 0);
    assert_eq!(verified["archives"][0]["name"], name(&first));
}

#[test]
fn verify_all_looks_at_the_others_when_one_cannot_be_opened() {
    let (_folder, root, archives) = two();
    let sealed = "stock_prediction_backup_20200101_000000.tar.gz.age";
    fs::write(root.join("backups").join(sealed), "age-encryption.org/v1\n").unwrap();
    let arguments = ["--all", "--level", "readable"];
    let report = report("verify", &root, &arguments, 1);
    let rows = report["archives"].as_array().unwrap();
    let is_good = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        row["isGood"] == true
    };
    assert!(archives.iter().all(|archive| is_good(name(archive))));
    assert!(!is_good(sealed));
}

#[test]
fn directories_that_this_user_cannot_empty_are_told_before_anything_is_unpacked() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (folder, root) = volume();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let name = backup(&root);
    let mut pending = vec![root.clone()];
    while let Some(path) = pending.pop() {
        chown(&path, Some(1001), Some(1001)).unwrap();
        if path.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    let foreign = root.join("stock_data/cache/foreign");
    fs::create_dir(&foreign).unwrap();
    let restore = |code: i32| {
        let done = predictor("restore", &root)
            .args([&name, "--yes"])
            .uid(1001)
            .gid(1001)
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(code), "{done:?}");
        text(&done)
    };
    fs::write(foreign.join("file"), "x").unwrap();
    let told = restore(1);
    assert!(told.contains("cache/foreign is not writable"), "{told}");
    assert!(told.contains("chown -R 1001:1001"), "{told}");
    assert!(foreign.join("file").exists());
    // An empty one goes.
    fs::remove_file(foreign.join("file")).unwrap();
    restore(0);
    assert!(!foreign.exists());
}

#[test]
fn backups_in_a_part_that_is_replaced_are_not_restored_from_there() {
    let (_folder, root) = volume();
    let name = backup(&root);
    let store = root.join("stock_data/store");
    fs::rename(root.join("backups"), &store).unwrap();
    let from = store.display().to_string();
    for more in ["--yes", "--dry-run"] {
        let told = refusal("restore", &root, &[&name, "--from", &from, more]);
        assert!(told.contains("which this restore would replace"), "{told}");
    }
    assert!(store.join(&name).exists());
}

#[test]
fn a_dry_run_writes_nothing_and_ls_refuses_as_the_others_do() {
    let (_folder, root) = volume();
    backup(&root);
    let rubbish = root.join(format!(".restore-{}/old", Uuid::from_u128(1)));
    fs::create_dir_all(&rubbish).unwrap();
    report("restore", &root, &["latest", "--dry-run"], 0);
    assert!(rubbish.exists());
    report("backup", &root, &[], 0);
    assert!(!rubbish.exists());
    let id = begin(&root, false).id.to_string();
    let told = refusal("ls", &root, &[]);
    assert!(told.contains(&id) && !told.contains("--commit"), "{told}");
}

#[test]
fn a_folder_that_one_stands_in_is_filled() {
    let (folder, root) = volume();
    let name = backup(&root);
    let to = folder.path().join("to");
    fs::create_dir(&to).unwrap();
    let unpack = || {
        let mut program = predictor("restore", &root);
        program.args([&name, "--to", "."]).current_dir(&to);
        program.output().unwrap()
    };
    let done = unpack();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(content(&to), content(&root));
    let done = unpack();
    assert!(text(&done).contains("not an empty directory"), "{done:?}");
}

#[test]
fn a_dry_run_into_a_folder_counts_what_would_come_and_refuses_what_would_fail() {
    let (folder, root) = volume();
    backup(&root);
    let to = folder.path().join("to").display().to_string();
    let look = |more: &[&str], code| {
        let arguments = [&["latest", "--to", &to, "--dry-run"], more].concat();
        let done = predictor("restore", &root)
            .args(arguments)
            .args(["--output", "json"])
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(code), "{done:?}");
        done
    };
    let files = |done: &Output| json(done)["files"].as_u64().unwrap();
    let (all, some) = (look(&[], 0), look(&["--only", "config"], 0));
    assert!(files(&all) > files(&some) && files(&some) > 0);
    fs::create_dir_all(folder.path().join("to/full")).unwrap();
    assert!(text(&look(&[], 1)).contains("not an empty directory"));
}

#[test]
fn what_is_written_wrongly_is_a_usage_error() {
    let (folder, root) = volume();
    let name = backup(&root);
    let to = folder.path().join("to").display().to_string();
    let code = |arguments: &[&str]| run("restore", &root, arguments).status.code().unwrap();
    assert_eq!(code(&["--at", "yesterday", "--dry-run"]), 2);
    assert_eq!(code(&["latest", "--origin", "nobody", "--dry-run"]), 2);
    assert_eq!(code(&[&name, "--to", &to, "--path", "../x"]), 2);
    assert_eq!(
        code(&[&name, "--to", &to, "--path", "config", "--only", "logs"]),
        2
    );
    assert!(!Path::new(&to).exists());
    let twice = ["--path", "config/", "--path", "./config"];
    assert_eq!(code(&[&[&name, "--to", &to], &twice[..]].concat()), 0);
    assert!(Path::new(&to).join("config/ml_config.json").is_file());
    // An empty variable is one that isn't set.
    for command in ["list", "verify"] {
        let mut program = predictor(command, &root);
        program.env("STOCKPREDICTOR_BACKUP_FROM", "");
        if command == "verify" {
            program.arg("latest");
        }
        let done = program.output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

#[test]
fn nothing_at_a_destination_writes_on_the_terminal_and_causes_are_told_once() {
    let (folder, root) = volume();
    let archive = root.join("backups").join(backup(&root));
    let mut forged: Value = serde_json::from_slice(&fs::read(beside(&archive)).unwrap()).unwrap();
    forged["origin"]["predictor"] = "\u{1b}[2Jnvda".into();
    forged["origin"]["namespace"] = "a\u{9b}".into();
    forged["suspect"] = serde_json::json!({"reasons": ["gone\r\u{1b}]0;x\n"], "accepted": false});
    fs::write(beside(&archive), forged.to_string()).unwrap();
    for (command, arguments) in [
        ("list", &[][..]),
        ("list", &["--output", "json"]),
        ("restore", &["latest", "--dry-run"]),
        ("restore", &["latest", "--dry-run", "--origin", "a/b"]),
    ] {
        let told = text(&run(command, &root, arguments));
        let is_odd = |char: char| char.is_control() && char != '\n';
        assert!(!told.contains(is_odd), "{command}: {told:?}");
    }
    let nowhere = folder.path().join("nowhere").display().to_string();
    let told = refusal("list", &root, &["--from", &nowhere]);
    assert_eq!(told.matches("No such file").count(), 1, "{told}");
}
