//! What each command reports, and with which exit code.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::common::{MODEL, json, old, predictor, run, volume};

#[test]
fn setup_tells_what_it_repaired() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, root) = volume();
    fs::set_permissions(root.join("config"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::remove_dir(root.join("ml_cache/model_cache")).unwrap();
    fs::remove_file(root.join("monitor_data.sh")).unwrap();
    let done = run("setup", &root, &[]);
    let text = String::from_utf8(done.stdout).unwrap();
    for part in [
        "made 1 directories: ml_cache/model_cache",
        "wrote monitor_data.sh",
        "config had mode 700",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let again = String::from_utf8(run("setup", &root, &[]).stdout).unwrap();
    assert!(
        again.contains(", 0 repaired") && !again.contains("made"),
        "{again}"
    );
}

#[test]
fn a_volume_passes_the_test_and_a_damaged_one_fails_with_the_fix() {
    let (_folder, root) = volume();
    let good = run("test", &root, &["--output", "json"]);
    let report = json(&good);
    let state = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        check["state"].as_str().unwrap().to_owned()
    };
    for name in [
        "setup",
        "directories",
        "permissions",
        "write",
        "fsync",
        "rename",
        "locks",
    ] {
        assert_eq!(state(name), "ok", "{name}");
    }
    fs::remove_dir_all(root.join("scalers")).unwrap();
    let bad = run("test", &root, &[]);
    assert_eq!(bad.status.code(), Some(1));
    let text = String::from_utf8(bad.stdout).unwrap();
    assert!(
        text.contains("✗ ") && text.contains("storage setup --root"),
        "{text}"
    );
}

#[test]
fn usage_errors_are_2_and_failures_1() {
    let folder = tempfile::tempdir().unwrap();
    let code = |command: &str, arguments: &[&str]| {
        let done = run(command, folder.path(), arguments);
        done.status.code().unwrap()
    };
    assert_eq!(code("cleanup", &["--nonsense"]), 2);
    assert_eq!(code("ls", &["--limit", "many"]), 2);
    assert_eq!(code("cleanup", &[]), 1, "no volume");
    assert_eq!(code("ls", &["nothing"]), 1);
    assert_eq!(code("ls", &["../x"]), 1);
    assert_eq!(code("ls", &[]), 0);
}

#[test]
fn cleanup_takes_its_retention_from_flags_and_settings() {
    let (_folder, root) = volume();
    let (cache, log) = (
        root.join("ml_cache/a"),
        root.join("logs/api.2024-01-02.log"),
    );
    old(&cache, 3);
    old(&log, 10 * 24);
    let report = json(&run("cleanup", &root, &["--output", "json"]));
    assert_eq!(
        (&report["cache"]["files"], &report["logs"]["files"]),
        (&0.into(), &0.into())
    );
    fs::write(
        root.join("config/ml_config.json"),
        r#"{"retention":{"logs":"7d"}}"#,
    )
    .unwrap();
    let dry = json(&run(
        "cleanup",
        &root,
        &["--dry-run", "--retention-cache", "1h", "--output", "json"],
    ));
    assert_eq!(
        (&dry["cache"]["files"], &dry["logs"]["files"]),
        (&1.into(), &1.into())
    );
    assert!(cache.exists() && log.exists());
    let done = run("cleanup", &root, &["--retention-cache", "1h"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(!cache.exists() && !log.exists());
}

#[test]
fn monitor_counts_exactly_and_keeps_a_sample() {
    let (_folder, root) = volume();
    fs::write(root.join("logs/api.log"), [0; 1234]).unwrap();
    let done = run("monitor", &root, &["--output", "json"]);
    assert_eq!(done.status.code(), Some(3), "there is no backup yet");
    let report = json(&done);
    let logs = report["directories"]
        .as_array()
        .unwrap()
        .iter()
        .find(|directory| directory["name"] == "logs")
        .unwrap();
    assert_eq!((&logs["bytes"], &logs["files"]), (&1234.into(), &1.into()));
    assert_eq!(report["growth"], Value::Null);
    let samples = fs::read_to_string(root.join(".stockpredictor/usage.jsonl")).unwrap();
    assert_eq!(samples.lines().count(), 1);
    run("monitor", &root, &[]);
    let samples = fs::read_to_string(root.join(".stockpredictor/usage.jsonl")).unwrap();
    assert_eq!(samples.lines().count(), 1, "one an hour");
}

fn put(root: &Path, path: &str, tar: &[u8]) -> Output {
    let mut child = predictor("put", root)
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A refusal may come before all of it is read.
    let _ = child.stdin.take().unwrap().write_all(tar);
    child.wait_with_output().unwrap()
}

fn tar_of(folder: &Path, what: &str) -> Vec<u8> {
    let done = Command::new("tar")
        .arg("-C")
        .arg(folder)
        .args(["-cz", what])
        .output()
        .unwrap();
    assert!(done.status.success());
    done.stdout
}

#[test]
fn a_model_is_put_when_it_passes_its_checks_and_only_then() {
    let (folder, root) = volume();
    let shipped = root.join(MODEL).join("2023-12-29");
    // The same model under another version.
    let version = folder.path().join("2024-01-02");
    fs::create_dir(&version).unwrap();
    for entry in fs::read_dir(&shipped).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), version.join(entry.file_name())).unwrap();
        }
    }
    let target = format!("{MODEL}/2024-01-02");
    let done = put(&root, &target, &tar_of(&version, "."));
    assert_eq!(done.status.code(), Some(1));
    let message = String::from_utf8(done.stderr).unwrap();
    assert!(message.contains("says version"), "{message}");
    let config = version.join("model_config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"2023-12-29\"", "\"2024-01-02\"")).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("2024-01-02"));
    let scaler = fs::read(version.join("scaler.json")).unwrap();
    fs::write(version.join("scaler.json"), b"{}").unwrap();
    assert_eq!(
        put(&root, &target, &tar_of(&version, ".")).status.code(),
        Some(1)
    );
    assert!(!root.join(&target).exists(), "its hash is wrong");
    fs::write(version.join("scaler.json"), scaler).unwrap();
    let done = put(&root, &target, &tar_of(folder.path(), "2024-01-02"));
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let current = fs::read_to_string(root.join(MODEL).join("current")).unwrap();
    assert_eq!(current.trim(), "2024-01-02");
    let names: Vec<_> = fs::read_dir(root.join(MODEL)).unwrap().collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn the_guides_scripts_do_what_the_commands_do() {
    let (folder, root) = volume();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    old(&root.join("ml_cache/a"), 48);
    let script = |name: &str, arguments: &[&str]| {
        Command::new(root.join(name))
            .args(arguments)
            .env("PREDICTOR", env!("CARGO_BIN_EXE_predictor"))
            .current_dir(&elsewhere)
            .output()
            .unwrap()
    };
    let report = script("monitor_data.sh", &[]);
    let text = String::from_utf8(report.stdout).unwrap();
    assert!(text.contains("   ml_cache: 1B (1 files)"), "{text}");
    assert!(script("cleanup_data.sh", &[]).status.success());
    assert!(!root.join("ml_cache/a").exists());

    let done = script("backup_data.sh", &[]);
    let text = String::from_utf8(done.stdout).unwrap();
    let (_, file) = text
        .split_once("File: ")
        .unwrap_or_else(|| panic!("{text}"));
    let archive = file.lines().next().unwrap();
    assert!(root.join(archive).is_file(), "{text}");
    let list = String::from_utf8(script("restore_data.sh", &[]).stdout).unwrap();
    assert!(
        list.contains(archive.trim_start_matches("backups/")),
        "{list}"
    );
    let config = root.join("config/ml_config.json");
    let before = fs::read(&config).unwrap();
    fs::write(&config, "{}").unwrap();
    let refused = script("restore_data.sh", &[archive]);
    assert_eq!(refused.status.code(), Some(1), "nobody can be asked");
    assert_eq!(fs::read(&config).unwrap(), b"{}");
    let done = script("restore_data.sh", &[archive, "--yes"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(fs::read(&config).unwrap(), before);
}
