//! The job `fill`.

use std::fs;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{
    Bench, Done, archives, damage, fill as put_files, next_second, origin, pins, program, text,
    wait_for, with,
};

/// A volume with a backup at a claim of its own, and what a clone asks for.
fn source(changes: &Value) -> (Bench, Value) {
    let bench = Bench::new();
    let nas = bench.make("nas");
    fs::write(bench.root.join("config/mine"), "mine").unwrap();
    put_files(&bench.root.join("more"), 100, 50_000);
    let at = json!({"destinations": [{"name": "nas", "path": nas}]});
    let told = bench.backup(&with(at, changes)).good();
    let name = text(&told["backup"]["name"]).to_owned();
    let wanted = json!({
        "source": {"name": "nas", "path": nas}, "backup": "latest",
        "known": {name: told["backup"]["sha256"]},
    });
    (bench, wanted)
}

fn fill(bench: &Bench, id: Uuid, wanted: &Value) -> Done {
    bench.restore("fill", id, wanted)
}

fn setup(bench: &Bench) -> std::process::Output {
    program()
        .args(["storage", "setup", "--tree-only", "--root"])
        .arg(&bench.root)
        .output()
        .unwrap()
}

fn volume_id(bench: &Bench) -> Value {
    let marker = fs::read(bench.root.join(".stockpredictor/volume.json")).unwrap();
    serde_json::from_slice::<Value>(&marker).unwrap()["id"].clone()
}

#[test]
fn a_new_volume_holds_the_backup_and_has_an_id_of_its_own() {
    let (old, wanted) = source(&json!({}));
    let new = Bench::empty();
    fs::create_dir(new.root.join("lost+found")).unwrap();
    let id = Uuid::new_v4();
    let told = fill(&new, id, &wanted).good();
    assert_eq!(told["restore"]["state"], "filled");
    assert!(text(&told["restore"]["model"]).starts_with("nvda_lstm_model/"));
    assert_eq!(fs::read(new.root.join("config/mine")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(new.root.join("more")).unwrap().count(), 100);
    assert_ne!(volume_id(&new), volume_id(&old));
    assert_eq!(pins(&old.path("nas")), [""; 0]);
    assert!(setup(&new).status.success());
    let again = fill(&new, id, &wanted).good();
    assert_eq!(again["restore"]["state"], "filled");
    fill(&new, Uuid::new_v4(), &wanted).bad("VolumeNotEmpty", 4);
    new.backup(&json!({})).good();
}

#[test]
fn a_volume_with_data_is_refused_and_left_alone() {
    let (old, wanted) = source(&json!({}));
    fill(&old, Uuid::new_v4(), &wanted).bad("VolumeNotEmpty", 4);
    let new = Bench::empty();
    fs::write(new.root.join("a"), "x").unwrap();
    fill(&new, Uuid::new_v4(), &wanted).bad("VolumeNotEmpty", 4);
    assert!(!new.root.join(".stockpredictor/volume.json").exists());
}

#[test]
fn what_cannot_be_read_never_becomes_an_empty_volume() {
    let (old, wanted) = source(&json!({}));
    let nas = old.path("nas");
    let archive = nas.join(&archives(&nas)[0]);
    let away = old.path("away");
    let new = Bench::empty();
    let id = Uuid::new_v4();
    let refused = |done: Done, reason: &str, code: i32| {
        done.bad(reason, code);
        let done = setup(&new);
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        assert!(
            String::from_utf8_lossy(&done.stderr).contains(&id.to_string()),
            "{done:?}"
        );
        assert!(!new.root.join("ml_models").exists());
        new.backup(&json!({})).bad("VolumeNotReady", 1);
    };
    let unreachable = json!({"source": {"name": "gone", "path": old.path("gone")}});
    refused(
        fill(&new, id, &with(wanted.clone(), &unreachable)),
        "DestinationNotFound",
        1,
    );
    refused(
        fill(&new, id, &with(wanted.clone(), &json!({"known": {}}))),
        "Unattested",
        4,
    );
    let other =
        json!({"sha256": "9b74c9897bac770ffc029102a200c5de4d3c9d1a1a1b3f5e7d9c1b2a3f4e5d6c"});
    refused(fill(&new, id, &with(wanted.clone(), &other)), "NoBackup", 4);
    fs::copy(&archive, &away).unwrap();
    damage(&archive);
    let done = fill(&new, id, &wanted);
    let reason = text(&done.message["reason"]).to_owned();
    assert!(
        ["Damaged", "HashMismatch"].contains(&reason.as_str()),
        "{reason}"
    );
    refused(done, &reason, 4);
    fs::copy(&away, &archive).unwrap();
    fill(&new, Uuid::new_v4(), &wanted).bad("VolumeNotEmpty", 4);
    fill(&new, id, &wanted).good();
    assert!(setup(&new).status.success());
}

#[test]
fn a_killed_fill_is_begun_anew_with_the_same_backup() {
    let (old, wanted) = source(&json!({}));
    put_files(&old.root.join("more"), 400, 100_000);
    next_second();
    let nas = old.path("nas");
    let told = old
        .backup(&json!({"destinations": [{"name": "nas", "path": nas}]}))
        .good();
    let name = text(&told["backup"]["name"]).to_owned();
    let wanted = with(
        wanted,
        &json!({"known": {name.clone(): told["backup"]["sha256"]}}),
    );
    let new = Bench::empty();
    let id = Uuid::new_v4();
    let document = json!({
        "version": 1, "job": "fill", "restore": id, "root": new.root, "origin": origin(),
    });
    let document = with(document, &wanted);
    let unpacked = new.root.join(format!(".restore-{id}/new/more"));
    let (mut child, _) = new.spawn(&document);
    wait_for("files are unpacked", || unpacked.is_dir());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(setup(&new).status.code(), Some(1));
    // A newer one has come meanwhile; the volume was begun with the other.
    next_second();
    fs::write(old.root.join("config/mine"), "later").unwrap();
    let later = old
        .backup(&json!({"destinations": [{"name": "nas", "path": nas}]}))
        .good();
    let both = json!({
        "known": {
            name.clone(): told["backup"]["sha256"],
            text(&later["backup"]["name"]): later["backup"]["sha256"],
        },
    });
    let done = fill(&new, id, &with(wanted, &both)).good();
    assert_eq!(done["restore"]["name"], name.as_str());
    assert_eq!(fs::read(new.root.join("config/mine")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(new.root.join("more")).unwrap().count(), 400);
    assert!(setup(&new).status.success());
}

#[test]
fn an_encrypted_backup_and_an_incremental_one_fill_a_volume() {
    let (old, wanted) = source(&json!({}));
    let (public, private) = old.key("key");
    let nas = old.path("nas");
    let sealed = json!({
        "destinations": [{"name": "nas", "path": nas}], "recipients": [public], "mode": "incremental",
    });
    for content in ["one", "two"] {
        next_second();
        fs::write(old.root.join("config/mine"), content).unwrap();
        old.backup(&sealed).good();
    }
    let newest = archives(&nas).pop().unwrap();
    let exact = with(wanted, &json!({"backup": newest}));
    let new = Bench::empty();
    let id = Uuid::new_v4();
    fill(&new, id, &exact).bad("KeyMissing", 4);
    let told = fill(&new, id, &with(exact, &json!({"identity": private}))).good();
    assert_eq!(told["restore"]["kind"], "incremental");
    assert_eq!(told["restore"]["attested"], false);
    assert_eq!(fs::read(new.root.join("config/mine")).unwrap(), b"two");
    assert_eq!(fs::read_dir(new.root.join("more")).unwrap().count(), 100);
}
