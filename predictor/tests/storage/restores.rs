//! Restores as a person at a shell sees them: what is chosen, what is asked, and what is on the volume afterwards.

use std::fs;
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;
use stockpredictor_storage::catalog::Catalog;
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::destination::folder::Folder;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::restore::{self, NoCheck, Request, Volume};
use uuid::Uuid;

use crate::common::{MODEL, content, predictor, refusal, report, run, volume};

fn backup(root: &Path) -> Value {
    report("backup", root, &[], 0)
}

fn name(report: &Value) -> &str {
    report["name"].as_str().unwrap()
}

/// Each archive has a second of its own; a backup that finds its name taken waits for the next.
fn time(report: &Value) -> Timestamp {
    let text = name(report).split('_').collect::<Vec<_>>();
    let stamp = format!("{}{}", text[3], text[4].trim_end_matches(".tar.gz"));
    jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", stamp)
        .unwrap()
        .in_tz("UTC")
        .unwrap()
        .timestamp()
}

#[test]
fn a_restore_in_place_brings_the_state_back_and_loses_no_log() {
    let (_folder, root) = volume();
    fs::write(root.join("logs/api.log"), "before\n").unwrap();
    let before = content(&root);
    backup(&root);
    fs::write(root.join("logs/api.log"), "before\nafter\n").unwrap();
    fs::write(root.join("config/new.json"), "{}").unwrap();
    fs::remove_dir_all(root.join(MODEL)).unwrap();
    fs::write(root.join("stock_data/historical/NVDA/NVDA.csv"), "cut").unwrap();
    let damaged = content(&root);

    let plan = report("restore", &root, &["latest", "--dry-run"], 0);
    assert_eq!(plan["isDryRun"], true);
    assert_eq!(plan["plan"]["parts"]["config"]["removed"]["files"], 1);
    assert_eq!(content(&root), damaged, "a dry run changes nothing");
    let text = refusal("restore", &root, &["latest"]);
    assert!(text.contains("--yes"), "nobody can be asked: {text}");
    assert_eq!(content(&root), damaged);

    report("restore", &root, &["latest", "--yes"], 0);
    let mut after = content(&root);
    let log = after.remove(Path::new("logs/api.log")).unwrap();
    let mut expected = before;
    expected.remove(Path::new("logs/api.log"));
    let kept = |name: &Path| name.starts_with("logs");
    after.retain(|name, _| !kept(name));
    expected.retain(|name, _| !kept(name));
    assert_eq!(after, expected);
    assert_eq!(log, b"before\nafter\n");
}

#[test]
fn only_what_is_asked_for_is_replaced() {
    let (_folder, root) = volume();
    backup(&root);
    let history = root.join("stock_data/historical/NVDA/NVDA.csv");
    fs::write(&history, "mine").unwrap();
    fs::remove_dir_all(root.join("scalers")).unwrap();
    fs::remove_dir_all(root.join(MODEL)).unwrap();
    report(
        "restore",
        &root,
        &["latest", "--yes", "--only", "models,scalers"],
        0,
    );
    assert!(root.join(MODEL).join("current").is_file());
    assert!(root.join("scalers").is_dir());
    assert_eq!(fs::read(&history).unwrap(), b"mine");
}

#[test]
fn one_file_or_everything_comes_back_into_a_folder() {
    let (folder, root) = volume();
    let made = backup(&root);
    let to = folder.path().join("to");
    let one = to.display().to_string();
    let path = ["--path", "config/ml_config.json", "--path", "scalers"];
    let text = refusal(
        "restore",
        &root,
        &[name(&made), "--to", &one, "--path", "config/nothing"],
    );
    assert!(text.contains("the backup has no config/nothing"), "{text}");
    assert!(!to.exists());
    report(
        "restore",
        &root,
        &[&[name(&made), "--to", &one], &path[..]].concat(),
        0,
    );
    let found: Vec<_> = fs::read_dir(&to)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(to.join("config/ml_config.json").is_file());
    assert!(!to.join("config/api_config.json").exists());
    let text = refusal("restore", &root, &[name(&made), "--to", &one]);
    assert!(text.contains("not an empty directory"), "{text}");
    // The archive and the program are enough: no volume is needed.
    let elsewhere = folder.path().join("elsewhere");
    let archive = root.join("backups").join(name(&made)).display().to_string();
    let nowhere = folder.path().join("no-volume");
    let to = elsewhere.display().to_string();
    report("restore", &nowhere, &[&archive, "--to", &to], 0);
    assert_eq!(content(&elsewhere), content(&root));
    let code = run("restore", &root, &["--path", "config", "latest"])
        .status
        .code();
    assert_eq!(code, Some(2), "--path needs --to");
}

#[test]
fn a_folder_that_has_something_is_refused_and_a_fixed_one_is_filled() {
    let (folder, root) = volume();
    let made = backup(&root);
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("mine"), "mine").unwrap();
    let to = full.display().to_string();
    for more in [&[][..], &["--dry-run"], &["--path", "config"]] {
        let arguments = [&[name(&made), "--to", &to], more].concat();
        let text = refusal("restore", &root, &arguments);
        assert!(text.contains("not an empty directory"), "{text}");
        assert_eq!(content(&full).len(), 1, "{more:?}");
    }
    // Where someone stands the directory itself can't be replaced.
    let here = folder.path().join("here");
    fs::create_dir(&here).unwrap();
    let left = format!(".unpack-{}.folder.partial", Uuid::new_v4());
    fs::create_dir_all(here.join(&left).join("config")).unwrap();
    let done = predictor("restore", &root)
        .args([name(&made), "--to", "."])
        .current_dir(&here)
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(content(&here), content(&root));
    assert!(!here.join(&left).exists(), "a killed run left it");
}

#[test]
fn a_time_and_the_newest_proven_choose() {
    let (_folder, root) = volume();
    let first = backup(&root);
    fs::write(root.join("config/second"), "").unwrap();
    let second = backup(&root);
    report("verify", &root, &[name(&first), "--level", "proven"], 0);
    let chosen = |arguments: &[&str]| {
        let plan = report("restore", &root, &[arguments, &["--dry-run"]].concat(), 0);
        plan["backup"].clone()
    };
    assert_eq!(chosen(&["latest"]), second["name"]);
    assert_eq!(chosen(&["latest-proven"]), first["name"]);
    assert_eq!(
        chosen(&["--at", &time(&second).to_string()]),
        second["name"]
    );
    assert_eq!(chosen(&["--at", &time(&first).to_string()]), first["name"]);
    let early = refusal("restore", &root, &["--at", "2001-01-01", "--dry-run"]);
    assert!(early.contains("no backup not after"), "{early}");
    // An archive that this volume's runs did not write is never chosen, and taken by its exact name only.
    fs::remove_file(root.join("backups/.index/known.jsonl")).unwrap();
    let text = refusal("restore", &root, &["latest", "--dry-run"]);
    assert!(text.contains("--sha256"), "{text}");
    let plan = report("restore", &root, &[name(&second), "--dry-run"], 0);
    assert!(plan["notes"].to_string().contains("is not known"), "{plan}");
    let sha256 = second["sha256"].as_str().unwrap();
    assert_eq!(chosen(&["latest", "--sha256", sha256]), second["name"]);
}

/// A restore that another program began step by step.
pub struct Steps {
    pub id: Uuid,
    old: std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>,
    new: std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>,
}

pub fn begin(root: &Path, switch: bool) -> Steps {
    let new = content(root);
    let made = backup(root);
    fs::write(root.join("config/ml_config.json"), "{}").unwrap();
    let old = content(root);
    let layout = Layout::new(root);
    let destination = Folder::open(root.join("backups")).unwrap();
    let catalog = Catalog::read(&destination).unwrap();
    let meta = catalog.records[0].meta.as_ref().unwrap();
    let chain = Chain::open(&destination, name(&made), &[], Some(meta.sha256)).unwrap();
    let request = Request {
        id: Uuid::new_v4(),
        backup: meta.id,
        only: None,
        started_at: Timestamp::now(),
    };
    let volume = Volume::new(&layout);
    restore::prepare(&volume, &chain, &request).unwrap();
    if switch {
        restore::switch(&volume, request.id, &chain, &NoCheck).unwrap();
    }
    Steps {
        id: request.id,
        old,
        new,
    }
}

#[test]
fn a_restore_that_waits_is_told_and_only_its_id_ends_it() {
    for (switch, flag) in [(false, "--undo"), (true, "--undo"), (true, "--commit")] {
        let (_folder, root) = volume();
        let steps = begin(&root, switch);
        let id = steps.id.to_string();
        // Setup and serve run on what is switched; nobody runs on what is only prepared.
        let setup = run("setup", &root, &[]).status.code();
        assert_eq!(setup, Some(i32::from(!switch)), "{flag}");
        for (command, arguments) in [
            ("backup", &[][..]),
            ("cleanup", &[]),
            ("restore", &["latest", "--yes"]),
        ] {
            let text = refusal(command, &root, arguments);
            assert!(text.contains(&id), "{command}: {text}");
        }
        let stranger = Uuid::new_v4().to_string();
        let text = refusal("restore", &root, &[flag, &stranger]);
        assert!(text.contains(&id), "{text}");
        let done = run("restore", &root, &[flag, &id]);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        let expected = if flag == "--commit" {
            steps.new
        } else {
            steps.old
        };
        assert_eq!(content(&root), expected, "{flag}");
        let again = run("restore", &root, &[flag, &id]);
        assert!(
            String::from_utf8(again.stdout)
                .unwrap()
                .contains("no restore that waits"),
            "twice is the same as once"
        );
        assert_eq!(run("backup", &root, &[]).status.code(), Some(0));
    }
    let (_folder, root) = volume();
    let steps = begin(&root, false);
    let text = refusal("restore", &root, &["--commit", &steps.id.to_string()]);
    assert!(text.contains("must be switched first"), "{text}");
}

#[test]
fn an_undo_brings_the_old_state_back_with_what_was_logged_since() {
    let (_folder, root) = volume();
    let outcomes = root.join("stock_data/predictions/analysis/NVDA.jsonl");
    fs::create_dir_all(outcomes.parent().unwrap()).unwrap();
    fs::write(&outcomes, "{\"of\":1}\n").unwrap();
    fs::write(root.join("logs/api.log"), "first\n").unwrap();
    let steps = begin(&root, true);
    let append = |path: &Path, text: &str| {
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append(&outcomes, "{\"of\":2}\n");
    append(&root.join("logs/api.log"), "second\n");
    append(&root.join("logs/worker.log"), "mine\n");
    fs::write(root.join("config/ml_config.json"), "not kept").unwrap();
    let id = steps.id.to_string();
    assert_eq!(
        run("restore", &root, &["--undo", &id]).status.code(),
        Some(0)
    );
    let mut expected = steps.old;
    for (path, text) in [
        (
            "stock_data/predictions/analysis/NVDA.jsonl",
            "{\"of\":1}\n{\"of\":2}\n",
        ),
        ("logs/api.log", "first\nsecond\n"),
        ("logs/worker.log", "mine\n"),
    ] {
        expected.insert(path.into(), text.into());
    }
    assert_eq!(content(&root), expected);
}
