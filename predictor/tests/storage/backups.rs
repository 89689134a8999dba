//! Backups and their verification as a person at a shell sees them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;

use crate::common::{MODEL, content, predictor, refusal, report, run, volume};

fn backup(root: &Path, arguments: &[&str], code: i32) -> Value {
    report("backup", root, arguments, code)
}

fn name(report: &Value) -> &str {
    report["name"].as_str().unwrap()
}

fn rows(root: &Path, arguments: &[&str]) -> Vec<Value> {
    let done = run("list", root, &[arguments, &["--output", "json"]].concat());
    crate::common::json(&done)["backups"]
        .as_array()
        .unwrap()
        .clone()
}

/// A key pair of age, made for this test: where the private key lies, and the public key.
fn key(folder: &Path, name: &str) -> (String, String) {
    use age::secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    let path = folder.join(name);
    fs::write(&path, identity.to_string().expose_secret()).unwrap();
    (path.display().to_string(), identity.to_public().to_string())
}

#[test]
fn a_backup_says_what_the_guide_shows_and_leaves_a_line_in_the_schedule() {
    let (_folder, root) = volume();
    let done = run("backup", &root, &[]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let text = String::from_utf8(done.stdout).unwrap();
    for part in [
        "✅ Backup completed successfully!\n",
        "   📁 File: backups/stock_prediction_backup_",
        "   📊 Size: ",
        "   🕐 Time: ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let log = fs::read_to_string(root.join("backups/backup_schedule.log")).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("stock_prediction_backup_"), "{log}");
}

#[test]
fn the_three_levels_are_reached_and_noted_and_each_can_fail() {
    let (_folder, root) = volume();
    let first = backup(&root, &[], 0);
    for level in ["stored", "readable", "proven"] {
        let found = report("verify", &root, &["latest", "--level", level], 0);
        assert_eq!(found["archives"][0]["level"], level);
        assert_eq!(rows(&root, &[])[0]["level"], level, "noted beside it");
    }
    // A lower level later takes nothing back.
    report("verify", &root, &["latest", "--level", "stored"], 0);
    assert_eq!(rows(&root, &[])[0]["level"], "proven");
    assert_eq!(rows(&root, &[])[0]["name"], first["name"]);

    // Every hash is right, and the model doesn't predict what it did.
    let golden = root.join(MODEL).join("2023-12-29/golden.json");
    let text = fs::read_to_string(&golden).unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    assert!(perturb(&mut document["cases"][0]["quantiles"]));
    fs::write(&golden, serde_json::to_string(&document).unwrap()).unwrap();
    let second = backup(&root, &[], 0);
    let found = report("verify", &root, &[name(&second), "--level", "readable"], 0);
    assert_eq!(found["archives"][0]["level"], "readable");
    let found = report("verify", &root, &[name(&second), "--level", "proven"], 1);
    assert_eq!(found["archives"][0]["level"], "readable");
    assert!(
        found["archives"][0]["notes"][0]
            .as_str()
            .unwrap()
            .contains("don't predict what they did"),
        "{found}"
    );

    // One byte in the middle.
    let path = root.join("backups").join(name(&second));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for level in ["stored", "readable"] {
        let found = report("verify", &root, &[name(&second), "--level", level], 1);
        assert_eq!(found["archives"][0]["level"], Value::Null, "{level}");
    }
    let all = report("verify", &root, &["--all"], 1);
    let good = |row: &&Value| row["isGood"] == true;
    let archives = all["archives"].as_array().unwrap();
    assert_eq!(
        (archives.len(), archives.iter().filter(good).count()),
        (2, 1)
    );
}

/// Adds 0.01 to the first number in it.
fn perturb(value: &mut Value) -> bool {
    match value {
        Value::Array(items) => items.iter_mut().any(perturb),
        Value::Number(number) => {
            *value = (number.as_f64().unwrap() + 0.01).into();
            true
        }
        _ => false,
    }
}

#[test]
fn the_file_that_is_wrong_is_named() {
    let (folder, root) = volume();
    let made = backup(&root, &[], 0);
    // Unpacked, changed and packed again: each gzip checksum is right, one file isn't what the manifest says.
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let archive = root.join("backups").join(name(&made));
    let tar = |arguments: &[&str]| {
        let done = std::process::Command::new("tar")
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    let (archive, tree_path) = (archive.display().to_string(), tree.display().to_string());
    tar(&["-xzf", &archive, "-C", &tree_path]);
    fs::write(tree.join("config/ml_config.json"), "{\"forged\": true}").unwrap();
    fs::remove_file(&archive).unwrap();
    tar(&["-czf", &archive, "-C", &tree_path, "."]);
    let found = report("verify", &root, &[name(&made), "--level", "readable"], 1);
    let problems = found["archives"][0]["problems"].to_string();
    assert!(!problems.is_empty() && problems != "[]", "{found}");
    let refused = refusal("restore", &root, &[name(&made), "--yes"]);
    assert!(refused.contains(name(&made)), "{refused}");
}

#[test]
fn an_encrypted_backup_is_stored_without_the_key_and_proven_with_it() {
    let (folder, root) = volume();
    let (old_key, old_public) = key(folder.path(), "old.txt");
    let (new_key, new_public) = key(folder.path(), "new.txt");
    let (wrong, _) = key(folder.path(), "wrong.txt");
    let made = backup(
        &root,
        &["--encrypt-to", &format!("{old_public},{new_public}")],
        0,
    );
    assert!(name(&made).ends_with(".tar.gz.age"));
    let found = report("verify", &root, &["latest"], 0);
    assert_eq!(
        found["archives"][0]["level"], "stored",
        "without a key that is all"
    );
    for identity in [&old_key, &new_key] {
        let level = ["latest", "--level", "proven", "--identity", identity];
        let found = report("verify", &root, &level, 0);
        assert_eq!(found["archives"][0]["level"], "proven");
    }
    let text = refusal("restore", &root, &["latest", "--yes"]);
    assert!(text.contains("--identity"), "{text}");
    let text = refusal("restore", &root, &["latest", "--yes", "--identity", &wrong]);
    assert!(
        text.contains("recipients") || text.contains("key"),
        "{text}"
    );
    let before = content(&root);
    fs::remove_dir_all(root.join("scalers")).unwrap();
    report(
        "restore",
        &root,
        &["latest", "--yes", "--identity", &new_key],
        0,
    );
    assert_eq!(content(&root), before);
}

#[test]
fn a_loss_makes_a_backup_suspect_until_someone_accepts_it() {
    let (_folder, root) = volume();
    let good = backup(&root, &[], 0);
    fs::remove_dir_all(root.join("stock_data/historical/NVDA")).unwrap();
    fs::remove_dir_all(root.join("stock_data/historical/TSLA")).unwrap();
    let doubted = backup(&root, &["--keep-last", "1"], 3);
    assert!(
        doubted["suspect"][0].as_str().unwrap().contains("history"),
        "{doubted}"
    );
    assert_eq!(rows(&root, &[]).len(), 2, "it pushes nothing out");
    let plan = report("restore", &root, &["latest", "--dry-run"], 0);
    assert_eq!(plan["backup"], good["name"]);
    assert!(
        plan["notes"][0].as_str().unwrap().contains(name(&doubted)),
        "{plan}"
    );
    // The next one is measured by the good one again.
    let third = backup(&root, &[], 3);
    assert!(!third["suspect"].as_array().unwrap().is_empty());
    let id = third["id"].as_str().unwrap();
    let unknown = "00000000-0000-4000-8000-000000000000";
    assert!(refusal("backup", &root, &["--accept", unknown]).contains(unknown));
    let fourth = backup(&root, &["--accept", id], 0);
    assert_eq!(fourth["accepted"][0], id);
    let plan = report("restore", &root, &["latest", "--dry-run"], 0);
    assert_eq!(plan["backup"], fourth["name"]);
    // Said beforehand, there is no doubt at all.
    fs::remove_dir_all(root.join(MODEL)).unwrap();
    let fifth = backup(&root, &["--accept-shrink"], 0);
    assert_eq!(fifth["suspect"], Value::Array(Vec::new()));
}

#[test]
fn destinations_that_fail_are_told_and_enough_must_succeed() {
    let (folder, root) = volume();
    let good = folder.path().join("good").display().to_string();
    let bad = folder.path().join("file").display().to_string();
    fs::write(&bad, "no folder").unwrap();
    let both = ["--destination", &good, "--destination", &bad];
    let done = backup(&root, &both, 3);
    let stored: Vec<_> = done["destinations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["isStored"] == true)
        .collect();
    assert_eq!(stored, [true, false]);
    assert_eq!(rows(&root, &["--from", &good]).len(), 1);
    let text = refusal(
        "backup",
        &root,
        &[&both[..], &["--min-successful", "2"]].concat(),
    );
    assert!(text.contains("2 must"), "{text}");
    assert_eq!(
        rows(&root, &["--from", &good]).len(),
        1,
        "nothing half done"
    );
    let code = |arguments: &[&str]| run("backup", &root, arguments).status.code();
    assert_eq!(code(&["--include", "everything"]), Some(2));
    let log = fs::read_to_string(root.join("backups/backup_schedule.log")).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.lines().all(|line| line.contains(&bad)), "{log}");
}

#[test]
fn what_makes_no_sense_is_a_usage_error_in_a_whole_sentence() {
    let (folder, root) = volume();
    let place = folder.path().join("place").display().to_string();
    for (arguments, told) in [
        (["--compression-level", "13"], "write 1 to 12"),
        (["--encrypt-to", "age1nonsense"], "write the public key"),
        (["--min-successful", "2"], "write 1 to 1"),
    ] {
        let done = run(
            "backup",
            &root,
            &[&arguments[..], &["--destination", &place]].concat(),
        );
        let text = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{text}");
        assert!(text.contains(told), "{text}");
    }
    assert!(!Path::new(&place).exists());
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"n\xff"));
    for command in ["setup", "backup", "list", "monitor", "ls", "cleanup"] {
        let done = run(command, &odd, &[]);
        let text = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{command}: {text}");
        assert!(text.contains("UTF-8"), "{command}: {text}");
    }
    assert!(!odd.exists());
}

#[test]
fn a_destination_on_the_volume_is_refused_and_one_that_is_named_twice_counts_once() {
    let (folder, root) = volume();
    let inside = root.join("archive").display().to_string();
    let done = run("backup", &root, &["--destination", &inside]);
    let text = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(2), "{text}");
    assert!(text.contains("/backups or a folder elsewhere"), "{text}");
    assert!(!root.join("archive").exists());
    let done = predictor("backup", &root)
        .env("BACKUP_PATH", "archive")
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    let place = folder.path().join("place").display().to_string();
    let twice = [
        "--destination",
        &place,
        "--destination",
        &format!("{place}/"),
    ];
    let done = backup(&root, &twice, 0);
    assert_eq!(done["destinations"].as_array().unwrap().len(), 1);
}

#[test]
fn a_backup_of_one_part_pushes_out_no_other() {
    let (_folder, root) = volume();
    let whole = backup(&root, &["--keep-last", "1"], 0);
    let part = backup(&root, &["--include", "config", "--keep-last", "1"], 0);
    fs::remove_dir_all(root.join(MODEL)).unwrap();
    let suspect = backup(&root, &["--keep-last", "1"], 3);
    assert!(
        suspect["suspect"].to_string().contains("models"),
        "{suspect}"
    );
    let there: Vec<_> = rows(&root, &[])
        .iter()
        .map(|row| row["name"].clone())
        .collect();
    assert_eq!(
        there,
        [&suspect, &part, &whole].map(|one| one["name"].clone())
    );
}

#[test]
fn the_newest_are_kept_and_a_base_as_long_as_it_is_needed() {
    let (_folder, root) = volume();
    let full = backup(&root, &[], 0);
    let mut made = Vec::new();
    for number in 0..3 {
        fs::write(root.join("config/number"), number.to_string()).unwrap();
        let one = backup(&root, &["--mode", "incremental", "--keep-last", "2"], 0);
        assert_eq!(one["kind"], "incremental");
        assert_eq!(one["base"]["name"], full["name"]);
        made.push(name(&one).to_owned());
    }
    let there: Vec<_> = rows(&root, &[])
        .iter()
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(there, [&made[2], &made[1], name(&full)]);
    // Its base gone, a chain is broken, is said to be, and is not chosen.
    fs::remove_file(root.join("backups").join(name(&full))).unwrap();
    let list = run("list", &root, &[]);
    assert_eq!(list.status.code(), Some(3));
    assert!(
        String::from_utf8(list.stdout)
            .unwrap()
            .contains("broken chain")
    );
    let text = refusal("restore", &root, &["latest", "--yes"]);
    assert!(
        text.contains(&format!("{}: broken chain", made[2])),
        "{text}"
    );
}
