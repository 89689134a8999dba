//! `predictor storage setup` as a program: complete, repeatable, killed and continued.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::common::{MODEL, Volume, predictor};

fn setup(root: &Path) -> std::process::Output {
    predictor()
        .args(["storage", "setup", "--samples", "--root"])
        .arg(root)
        .output()
        .unwrap()
}

/// Every path with its content, without what is different on each volume.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() {
                found.insert(format!("{name}/"), Vec::new());
                pending.push(path);
            } else if !name.contains("volume.json") && !name.ends_with(".partial") {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_setup_that_is_killed_at_any_moment_is_finished_by_the_next_one() {
    let complete = tree(&Volume::new().root());
    let folder = tempfile::tempdir().unwrap();
    let mut cut_off = 0;
    for attempt in 0..40 {
        let root = folder.path().join(attempt.to_string());
        let mut child = predictor()
            .args(["storage", "setup", "--samples", "--tree-only", "--root"])
            .arg(&root)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(attempt));
        child.kill().unwrap();
        if !child.wait().unwrap().success() {
            cut_off += 1;
        }
        let done = setup(&root);
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        assert_eq!(tree(&root), complete, "killed after {attempt} ms");
        let marker = fs::read_to_string(root.join(".stockpredictor/volume.json")).unwrap();
        assert!(marker.contains("\"ready\""), "{marker}");
    }
    assert!(cut_off > 0, "no setup was cut off; the test shows nothing");
}

#[test]
fn several_setups_at_once_make_one_volume() {
    let complete = tree(&Volume::new().root());
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            predictor()
                .args([
                    "storage",
                    "setup",
                    "--samples",
                    "--output",
                    "json",
                    "--root",
                ])
                .arg(folder.path())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut ids: Vec<String> = Vec::new();
    for child in children {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success());
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        ids.push(report["volume_id"].to_string());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(tree(folder.path()), complete);
}

#[test]
fn without_samples_a_new_volume_has_the_model_only() {
    let folder = tempfile::tempdir().unwrap();
    let done = predictor()
        .args(["storage", "setup", "--root"])
        .arg(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("is a new volume and ready"), "{text}");
    assert!(folder.path().join(MODEL).join("current").exists());
    assert_eq!(
        fs::read_dir(folder.path().join("stock_data/historical/NVDA"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn the_operators_settings_file_decides_symbols_and_samples() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.json");
    fs::write(
        &settings,
        r#"{"version":1,"symbols":["BRK.B"],"samples":true}"#,
    )
    .unwrap();
    let root = folder.path().join("volume");
    let done = predictor()
        .args(["storage", "setup", "--tree-only", "--settings"])
        .arg(&settings)
        .env("STOCKPREDICTOR_ROOT", &root)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(root.join("stock_data/historical/BRK.B").is_dir());
    assert!(root.join("stock_data/historical/NVDA/NVDA.csv").exists());
}

#[test]
fn serve_refuses_a_folder_that_is_no_volume_and_names_setup() {
    let folder = tempfile::tempdir().unwrap();
    let done = predictor()
        .args(["serve", "--root"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(!done.status.success());
    let message = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        message.contains("predictor storage setup --root"),
        "{message}"
    );
}

#[test]
fn a_bad_setting_ends_the_start_with_its_name_source_and_form() {
    let volume = Volume::new();
    let done = predictor()
        .args(["serve", "--root"])
        .arg(volume.root())
        .env("ML_PREDICTION_TTL", "1 hour")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success());
    for part in ["cache.prediction_ttl", "environment", "30m, 24h or 7d"] {
        assert!(message.contains(part), "{message}");
    }
}
