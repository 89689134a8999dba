//! The job `backup`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::common::{
    Bench, Tmpfs, archives, fill, names, next_second, origin, pins, terminate, text, wait_for,
};

#[test]
fn a_backup_is_written_verified_and_told_with_its_inventory() {
    let bench = Bench::new();
    let told = bench.backup(&json!({})).good();
    let name = text(&told["backup"]["name"]).to_owned();
    assert_eq!(archives(&bench.root.join("backups")), [name.as_str()]);
    assert_eq!(told["reason"], "Completed", "{told}");
    assert_eq!(told["backup"]["kind"], "full");
    assert_eq!(told["backup"]["level"], "readable");
    assert_eq!(told["backup"]["destinations"], json!(["volume"]));
    assert_eq!(told["destinations"][0]["archives"], 1);
    assert_eq!(told["backups"][0]["name"], name.as_str());
    assert_eq!(told["backups"][0]["level"], "readable");
    assert_eq!(told["total"], 1);
    let meta = fs::read(
        bench
            .root
            .join("backups")
            .join(name.replace(".tar.gz", ".meta.json")),
    );
    let meta: Value = serde_json::from_slice(&meta.unwrap()).unwrap();
    assert_eq!(meta["sha256"], told["backup"]["sha256"]);
    assert_eq!(meta["origin"]["backup"], origin()["backup"]);
    assert_eq!(meta["verification"]["level"], "readable");
}

#[test]
fn the_same_backup_at_several_destinations_is_one_in_the_inventory() {
    let bench = Bench::new();
    let other = bench.make("other");
    let destinations = json!([
        {"name": "volume", "path": "backups", "retention": {"last": 2}},
        {"name": "nas", "path": other, "retention": {"last": 1}},
    ]);
    let changes = json!({"destinations": destinations, "mode": "incremental"});
    let first = bench.backup(&changes).good();
    next_second();
    fs::write(bench.root.join("config/new"), "x").unwrap();
    let second = bench.backup(&changes).good();
    assert_eq!(second["backup"]["kind"], "incremental");
    assert_eq!(second["backup"]["base"], first["backup"]["name"]);
    assert_eq!(second["total"], 2);
    assert_eq!(
        second["backups"][0]["destinations"],
        json!(["volume", "nas"])
    );
    assert_eq!(second["destinations"][1]["archives"], 2, "the base stays");
    next_second();
    let full = json!({"destinations": destinations});
    let third = bench.backup(&full).good();
    assert_eq!(third["destinations"][1]["deleted"], 2, "{third}");
    assert_eq!(archives(&other), [text(&third["backup"]["name"])]);
    assert_eq!(archives(&bench.root.join("backups")).len(), 3);
    assert_eq!(third["total"], 3);
}

#[test]
fn full_every_makes_a_full_backup_when_the_last_one_is_old() {
    let bench = Bench::new();
    let incremental = |every: &str| {
        bench
            .backup(&json!({"mode": "incremental", "full_every": every}))
            .good()
    };
    assert_eq!(incremental("7d")["backup"]["kind"], "full");
    next_second();
    assert_eq!(incremental("7d")["backup"]["kind"], "incremental");
    next_second();
    let told = incremental("1s");
    assert_eq!(told["backup"]["kind"], "full");
    assert!(text(&told["message"]).contains("full, because"), "{told}");
}

#[test]
fn a_destination_that_fails_does_not_stop_the_others() {
    let bench = Bench::new();
    let destinations = json!([
        {"name": "gone", "path": bench.path("not/mounted")},
        {"name": "volume", "path": "backups"},
    ]);
    let told = bench.backup(&json!({"destinations": destinations})).good();
    assert_eq!(told["reason"], "CompletedWithWarnings");
    assert_eq!(told["destinations"][0]["stored"], false);
    assert!(text(&told["destinations"][0]["error"]).contains("not/mounted"));
    assert_eq!(told["destinations"][1]["stored"], true);
    assert!(
        text(&told["message"]).contains("at volume, but not at gone"),
        "{told}"
    );
    let told = bench
        .backup(&json!({"destinations": destinations, "min_successful": 2}))
        .bad("DestinationNotFound", 1);
    assert!(
        text(&told["message"]).contains("1 of 2 destinations"),
        "{told}"
    );
    assert_eq!(archives(&bench.root.join("backups")).len(), 1);
}

#[test]
fn an_encrypted_backup_is_readable_with_the_key_and_stored_without() {
    let bench = Bench::new();
    let (public, private) = bench.key("key");
    let sealed = json!({"recipients": [public]});
    let told = bench.backup(&sealed).good();
    assert_eq!(told["backup"]["level"], "stored");
    assert_eq!(told["backup"]["key_ids"], json!([public]));
    assert_eq!(told["backups"][0]["key_ids"], json!([public]));
    next_second();
    let told = bench
        .backup(&json!({"recipients": [public], "identity": private}))
        .good();
    assert_eq!(told["backup"]["level"], "readable");
    next_second();
    let told = bench
        .backup(&json!({"recipients": [public], "identity": bench.path("none")}))
        .good();
    assert_eq!(told["backup"]["level"], "stored");
    assert_eq!(told["reason"], "CompletedWithWarnings");
}

#[test]
fn a_lost_model_makes_the_backup_suspect_until_its_id_is_accepted() {
    let bench = Bench::new();
    bench.backup(&json!({})).good();
    next_second();
    fs::remove_dir_all(bench.root.join("ml_models")).unwrap();
    let told = bench.backup(&json!({})).good();
    assert_eq!(told["reason"], "CompletedWithWarnings");
    assert!(!told["backup"]["suspect"].as_array().unwrap().is_empty());
    assert_eq!(told["backups"][0]["suspect"], true);
    let id = told["backup"]["id"].clone();
    next_second();
    let other = "3f2c1d1c-7a11-4a55-9a39-0c9a3d8f6b02";
    let told = bench.backup(&json!({"accept": [id, other]})).good();
    let rows = told["backups"].as_array().unwrap();
    let row = rows.iter().find(|row| row["id"] == id).unwrap();
    assert_eq!(row["suspect"], false);
    assert_eq!(told["backup"]["suspect"], json!([]));
    assert!(told["warnings"].to_string().contains(other), "{told}");
}

#[test]
fn a_volume_that_is_not_ready_and_a_document_that_makes_no_sense_are_told_apart() {
    let bench = Bench::empty();
    bench.backup(&json!({})).bad("VolumeNotReady", 1);
    let told = bench.backup(&json!({"mode": "half"})).bad("InvalidJob", 4);
    assert!(text(&told["message"]).contains("half"), "{told}");
    assert_eq!(told["job"], "unknown");
    let told = bench.backup(&json!({"recipients": ["nonsense"]})).message;
    assert_eq!(told["result"], "failed");
}

#[test]
fn a_mounted_volume_may_be_read_only_but_for_its_backups() {
    if rustix::process::geteuid().is_root() {
        // Root writes wherever it likes.
        return;
    }
    let bench = Bench::new();
    let writable = |mode: u32| {
        for name in ["", ".stockpredictor", "config", "ml_models"] {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(bench.root.join(name), mode).unwrap();
        }
    };
    writable(0o555);
    let done = bench.backup(&json!({}));
    writable(0o755);
    done.good();
}

#[test]
fn two_runs_at_once_make_two_backups() {
    let bench = Bench::new();
    let document = json!({
        "version": 1, "job": "backup", "root": bench.root, "origin": origin(), "mode": "full",
        "destinations": [{"name": "volume", "path": "backups"}],
    });
    let both = [bench.spawn(&document), bench.spawn(&document)];
    let told = both.map(|one| Bench::wait(one).good());
    assert_ne!(told[0]["backup"]["name"], told[1]["backup"]["name"]);
    assert_eq!(archives(&bench.root.join("backups")).len(), 2);
}

#[test]
fn a_job_that_is_told_to_stop_says_so_and_leaves_nothing_half_done() {
    let bench = Bench::new();
    fill(&bench.root.join("other"), 400, 100_000);
    let backups = bench.root.join("backups");
    let document = json!({
        "version": 1, "job": "backup", "root": bench.root, "origin": origin(), "mode": "full",
        "destinations": [{"name": "volume", "path": "backups"}],
    });
    let (child, message) = bench.spawn(&document);
    let is_partial = |name: &str| name.ends_with(".partial");
    wait_for("the archive is begun", || {
        fs::read_dir(&backups).unwrap().any(|entry| {
            let entry = entry.unwrap();
            let length = entry.metadata().map_or(0, |found| found.len());
            is_partial(&entry.file_name().to_string_lossy()) && length > 0
        })
    });
    terminate(&child);
    let told = Bench::wait((child, message)).bad("Interrupted", 1);
    assert!(text(&told["message"]).contains("run again"), "{told}");
    assert_eq!(archives(&backups), [""; 0]);
    assert!(
        !fs::read_dir(&backups)
            .unwrap()
            .any(|entry| { is_partial(&entry.unwrap().file_name().to_string_lossy()) })
    );
    bench.backup(&json!({})).good();
}

#[test]
fn retention_leaves_what_a_restore_has_pinned() {
    let bench = Bench::new();
    let backups = bench.root.join("backups");
    let one =
        json!({"destinations": [{"name": "volume", "path": "backups", "retention": {"last": 1}}]});
    bench.backup(&one).good();
    let id = uuid::Uuid::new_v4();
    let chosen = bench.chosen(id);
    assert_eq!(pins(&backups).len(), 1);
    for _ in 0..2 {
        next_second();
        bench.backup(&one).good();
    }
    let left = archives(&backups);
    assert_eq!(left.len(), 2, "the newest and the pinned one: {left:?}");
    assert_eq!(left[0], text(&chosen["backup"]));
    // A pin that has expired is as none, and goes.
    let pin = backups.join(&pins(&backups)[0]);
    fs::write(
        pin,
        json!({"format": 1, "restore": id, "expiresAt": "2020-01-01T00:00:00Z"}).to_string(),
    )
    .unwrap();
    next_second();
    bench.backup(&one).good();
    assert_eq!(archives(&backups).len(), 1);
    assert_eq!(pins(&backups), [""; 0], "{:?}", names(&backups));
}

#[test]
fn a_full_destination_keeps_its_old_archives_and_does_not_stop_the_others() {
    let bench = Bench::new();
    let other = bench.make("other");
    let Some(_small) = Tmpfs::mount(&other, 1 << 20) else {
        return;
    };
    let destinations = json!([
        {"name": "volume", "path": "backups", "retention": {"last": 1}},
        {"name": "nas", "path": other, "retention": {"last": 1}},
    ]);
    let changes = json!({"destinations": destinations, "include": ["config", "other"]});
    let first = bench.backup(&changes).good();
    assert_eq!(first["destinations"][1]["stored"], true, "{first}");
    fill(&bench.root.join("other"), 20, 100_000);
    next_second();
    let second = bench.backup(&changes).good();
    assert_eq!(second["reason"], "CompletedWithWarnings");
    assert_eq!(second["destinations"][1]["stored"], false);
    assert_eq!(second["destinations"][1]["archives"], 1);
    assert_eq!(archives(&other), [text(&first["backup"]["name"])]);
    assert_eq!(
        archives(&bench.root.join("backups")),
        [text(&second["backup"]["name"])]
    );
    next_second();
    bench
        .backup(&crate::common::with(changes, &json!({"min_successful": 2})))
        .bad("DestinationsFailed", 1);
}
