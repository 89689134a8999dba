//! The jobs `prepare`, `switch`, `commit` and `undo`.

use std::fs;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{
    Bench, archives, fill, next_second, origin, pins, program, terminate, text, wait_for, with,
};
use crate::restore_test::shift;

const CONFIG: &str = "config/ml_config.json";

fn config(bench: &Bench) -> String {
    fs::read_to_string(bench.root.join(CONFIG)).unwrap()
}

/// A volume whose config changed since its backup.
fn changed() -> (Bench, Uuid, Value) {
    let bench = Bench::new();
    fs::write(bench.root.join(CONFIG), "old").unwrap();
    bench.backup(&json!({})).good();
    fs::write(bench.root.join(CONFIG), "new").unwrap();
    let id = Uuid::new_v4();
    let chosen = bench.chosen(id);
    (bench, id, chosen)
}

fn end(bench: &Bench, job: &str, id: Uuid, chosen: &Value) -> Value {
    bench
        .restore(job, id, &json!({"backup": chosen["backup"]}))
        .good()
}

#[test]
fn a_restore_goes_from_preflight_to_commit_and_each_step_may_be_repeated() {
    let (bench, id, chosen) = changed();
    for round in 0..2 {
        let told = bench.restore("prepare", id, &chosen).good();
        assert_eq!(told["restore"]["state"], "prepared");
        assert_eq!(told["restore"]["parts"].is_object(), round == 0);
        assert_eq!(config(&bench), "new", "the data is as before");
    }
    for _ in 0..2 {
        let told = bench.restore("switch", id, &chosen).good();
        assert_eq!(told["restore"]["state"], "switched");
        assert!(
            text(&told["message"]).contains("golden predictions"),
            "{told}"
        );
        assert!(text(&told["restore"]["model"]).starts_with("nvda_lstm_model/"));
        assert_eq!(config(&bench), "old");
    }
    bench.backup(&json!({})).bad("RestoreWaiting", 4);
    assert_eq!(pins(&bench.root.join("backups")).len(), 1);
    for _ in 0..2 {
        let told = end(&bench, "commit", id, &chosen);
        assert_eq!(told["restore"]["state"], "committed");
    }
    assert_eq!(pins(&bench.root.join("backups")), [""; 0]);
    assert_eq!(config(&bench), "old");
    next_second();
    bench.backup(&json!({})).good();
}

#[test]
fn undo_brings_the_old_state_back_from_every_step() {
    let (bench, id, chosen) = changed();
    for steps in [&["prepare"][..], &["prepare", "switch"], &[]] {
        for step in steps {
            bench.restore(step, id, &chosen).good();
        }
        let told = end(&bench, "undo", id, &chosen);
        assert_eq!(told["restore"]["state"], "undone");
        assert_eq!(config(&bench), "new");
        assert_eq!(pins(&bench.root.join("backups")), [""; 0]);
    }
    bench.restore("switch", id, &chosen).bad("NotPrepared", 4);
    let told = bench.restore("prepare", id, &chosen).good();
    assert_eq!(told["restore"]["state"], "prepared");
    let told = bench
        .restore("commit", id, &json!({}))
        .bad("NotPrepared", 4);
    assert_eq!(told["restore"]["state"], "prepared");
}

#[test]
fn another_restore_waits_for_the_first() {
    let (bench, id, chosen) = changed();
    bench.restore("prepare", id, &chosen).good();
    let other = Uuid::new_v4();
    for step in ["preflight", "prepare", "switch"] {
        let told = bench.restore(step, other, &chosen).bad("RestoreWaiting", 4);
        assert!(text(&told["message"]).contains(&id.to_string()), "{told}");
    }
    // The other one has nothing on this volume that could be ended, and the operator must not try that for ever.
    for step in ["commit", "undo"] {
        let told = bench.restore(step, other, &json!({})).good();
        let warned = text(&told["warnings"][0]);
        assert!(warned.contains(&id.to_string()), "{told}");
    }
    assert_eq!(config(&bench), "new");
    let told = bench.restore("switch", id, &chosen).good();
    assert_eq!(told["restore"]["state"], "switched");
}

#[test]
fn models_that_do_not_predict_what_they_did_are_not_left_in_place() {
    let bench = Bench::new();
    let folder = bench.root.join("ml_models/nvda_lstm_model");
    let version = fs::read_to_string(folder.join("current")).unwrap();
    let golden = folder.join(version.trim()).join("golden.json");
    let good = fs::read(&golden).unwrap();
    let mut content: Value = serde_json::from_slice(&good).unwrap();
    shift(&mut content);
    fs::write(&golden, content.to_string()).unwrap();
    bench.backup(&json!({})).good();
    fs::write(&golden, &good).unwrap();
    let id = Uuid::new_v4();
    let chosen = bench.chosen(id);
    bench.restore("prepare", id, &chosen).good();
    let told = bench.restore("switch", id, &chosen).bad("NotProven", 4);
    assert_eq!(told["restore"]["state"], "undone");
    assert_eq!(fs::read(&golden).unwrap(), good);
    next_second();
    bench.backup(&json!({})).good();
    // Without the models nothing is wrong with that backup.
    let id = Uuid::new_v4();
    let some = with(chosen, &json!({"include": ["config"]}));
    bench.restore("prepare", id, &some).good();
    bench.restore("switch", id, &some).good();
}

#[test]
fn a_backup_without_golden_predictions_is_restored_with_a_warning() {
    let bench = Bench::new();
    let folder = bench.root.join("ml_models/nvda_lstm_model");
    let version = fs::read_to_string(folder.join("current")).unwrap();
    fs::remove_file(folder.join(version.trim()).join("golden.json")).unwrap();
    bench.backup(&json!({})).good();
    let id = Uuid::new_v4();
    let chosen = bench.chosen(id);
    bench.restore("prepare", id, &chosen).good();
    let told = bench.restore("switch", id, &chosen).good();
    assert_eq!(told["reason"], "CompletedWithWarnings");
    assert!(
        told["warnings"].to_string().contains("golden.json"),
        "{told}"
    );
}

#[test]
fn another_archive_under_the_name_is_refused_and_nothing_changes() {
    let (bench, id, chosen) = changed();
    let backups = bench.root.join("backups");
    let name = text(&chosen["backup"]);
    // The same state packed anew: every hash inside is right, and yet it isn't what preflight looked at.
    next_second();
    bench.backup(&json!({})).good();
    let other = archives(&backups)[1].clone();
    fs::copy(backups.join(other), backups.join(name)).unwrap();
    let told = bench.restore("prepare", id, &chosen).bad("HashMismatch", 4);
    assert_eq!(told["restore"]["state"], "none");
    assert_eq!(config(&bench), "new");
    bench.backup(&json!({})).good();
}

#[test]
fn an_encrypted_backup_needs_its_key_at_every_step() {
    let bench = Bench::new();
    let (public, private) = bench.key("key");
    bench.backup(&json!({"recipients": [public]})).good();
    let id = Uuid::new_v4();
    let latest = json!({"backup": "latest"});
    bench.restore("preflight", id, &latest).bad("KeyMissing", 4);
    let key = json!({"identity": private});
    let told = bench.restore("preflight", id, &with(latest, &key)).good();
    let chosen = json!({
        "backup": told["restore"]["name"], "sha256": told["restore"]["sha256"], "identity": private,
    });
    bench
        .restore(
            "prepare",
            id,
            &with(chosen.clone(), &json!({"identity": null})),
        )
        .bad("KeyMissing", 4);
    for step in ["prepare", "switch", "commit"] {
        bench.restore(step, id, &chosen).good();
    }
}

#[test]
fn everything_on_the_volume_may_be_gone() {
    let bench = Bench::new();
    let other = bench.make("other");
    let place = json!({"name": "nas", "path": other});
    let told = bench.backup(&json!({"destinations": [place]})).good();
    fs::remove_dir_all(&bench.root).unwrap();
    fs::create_dir(&bench.root).unwrap();
    let id = Uuid::new_v4();
    let chosen = json!({
        "source": place, "backup": told["backup"]["name"], "sha256": told["backup"]["sha256"],
    });
    for step in ["preflight", "prepare", "switch", "commit"] {
        bench.restore(step, id, &chosen).good();
    }
    assert!(bench.root.join(CONFIG).is_file());
    let done = program()
        .args(["storage", "test", "--root"])
        .arg(&bench.root)
        .output()
        .unwrap();
    assert_ne!(done.status.code(), Some(1), "{done:?}");
}

#[test]
fn a_killed_or_stopped_preparation_is_begun_anew() {
    let bench = Bench::new();
    fill(&bench.root.join("more"), 400, 100_000);
    fs::write(bench.root.join(CONFIG), "old").unwrap();
    bench.backup(&json!({})).good();
    fs::write(bench.root.join(CONFIG), "new").unwrap();
    let id = Uuid::new_v4();
    let chosen = bench.chosen(id);
    let document = json!({
        "version": 1, "job": "prepare", "restore": id, "root": bench.root, "origin": origin(),
        "source": {"name": "volume", "path": "backups"},
    });
    let document = with(document, &chosen);
    let unpacked = bench.root.join(format!(".restore-{id}/new/more"));
    for is_killed in [false, true] {
        let (mut child, message) = bench.spawn(&document);
        wait_for("files are unpacked", || unpacked.is_dir());
        if is_killed {
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(config(&bench), "new");
        } else {
            terminate(&child);
            let told = Bench::wait((child, message)).bad("Interrupted", 1);
            assert_eq!(told["restore"]["state"], "none");
            assert!(!unpacked.exists(), "nothing half done is left");
        }
    }
    assert_eq!(config(&bench), "new");
    for step in ["prepare", "switch", "commit"] {
        bench.restore(step, id, &chosen).good();
    }
    assert_eq!(config(&bench), "old");
    assert_eq!(fs::read_dir(bench.root.join("more")).unwrap().count(), 400);
}

#[test]
fn a_volume_in_use_is_not_switched() {
    let (bench, id, chosen) = changed();
    let lock = fs::File::open(bench.root.join(".stockpredictor/lock")).unwrap();
    lock.lock_shared().unwrap();
    let told = bench.restore("prepare", id, &chosen).bad("VolumeLocked", 1);
    assert!(text(&told["message"]).contains("in use"), "{told}");
    assert_eq!(config(&bench), "new");
    drop(lock);
    bench.restore("prepare", id, &chosen).good();
}
