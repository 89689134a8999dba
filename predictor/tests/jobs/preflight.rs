//! The job `preflight`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Bench, Tmpfs, archives, damage, fill, next_second, pins, text};

/// Every file with its bytes, pins aside.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if !path.to_string_lossy().contains(".pin.") {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn it_tells_what_would_change_and_changes_nothing() {
    let bench = Bench::new();
    let backup = bench.backup(&json!({})).good();
    fs::write(bench.root.join("config/ml_config.json"), "{\"a\": 1}").unwrap();
    fs::write(bench.root.join("config/more"), "x").unwrap();
    let before = tree(&bench.root);
    let id = Uuid::new_v4();
    let told = bench
        .restore(
            "preflight",
            id,
            &json!({"backup": "latest", "include": ["config"]}),
        )
        .good();
    assert_eq!(tree(&bench.root), before);
    let restore = &told["restore"];
    assert_eq!(restore["state"], "none");
    assert_eq!(restore["name"], backup["backup"]["name"]);
    assert_eq!(restore["sha256"], backup["backup"]["sha256"]);
    assert_eq!(restore["attested"], true);
    let config = &restore["parts"]["config"];
    assert_eq!(
        (&config["changed"], &config["removed"]),
        (&1.into(), &1.into()),
        "{told}"
    );
    assert!(restore["needed_bytes"].as_u64() < restore["free_bytes"].as_u64());
    assert_eq!(pins(&bench.root.join("backups")).len(), 1);
    bench
        .restore(
            "preflight",
            Uuid::new_v4(),
            &json!({"backup": "latest", "dry_run": true}),
        )
        .good();
    assert_eq!(
        pins(&bench.root.join("backups")).len(),
        1,
        "a dry run pins nothing"
    );
}

#[test]
fn at_takes_the_newest_before_a_time_and_names_are_exact() {
    let bench = Bench::new();
    let first = bench.backup(&json!({})).good();
    next_second();
    bench.backup(&json!({})).good();
    let at = first["backup"]["created_at"].clone();
    let told = bench
        .restore("preflight", Uuid::new_v4(), &json!({"at": at}))
        .good();
    assert_eq!(told["restore"]["name"], first["backup"]["name"]);
    let name = json!({"backup": first["backup"]["name"]});
    bench.restore("preflight", Uuid::new_v4(), &name).good();
    bench
        .restore(
            "preflight",
            Uuid::new_v4(),
            &json!({"at": "2020-01-01T00:00:00Z"}),
        )
        .bad("NoBackup", 4);
    bench
        .restore(
            "preflight",
            Uuid::new_v4(),
            &json!({"backup": "latest-proven"}),
        )
        .bad("NoBackup", 4);
    let none = json!({"backup": "stock_prediction_backup_20200101_000000.tar.gz"});
    bench
        .restore("preflight", Uuid::new_v4(), &none)
        .bad("NoBackup", 4);
}

#[test]
fn damage_is_found_before_anything_stops_and_no_pin_stays() {
    let bench = Bench::new();
    let backups = bench.root.join("backups");
    bench.backup(&json!({})).good();
    damage(&backups.join(&archives(&backups)[0]));
    let told = bench
        .restore("preflight", Uuid::new_v4(), &json!({"backup": "latest"}))
        .message;
    assert!(
        ["Damaged", "HashMismatch"].contains(&text(&told["reason"])),
        "{told}"
    );
    assert_eq!(pins(&backups), [""; 0]);
}

#[test]
fn a_chain_without_its_base_is_broken() {
    let bench = Bench::new();
    let backups = bench.root.join("backups");
    let first = bench.backup(&json!({})).good();
    next_second();
    fs::write(bench.root.join("config/new"), "x").unwrap();
    let second = bench.backup(&json!({"mode": "incremental"})).good();
    let name = json!({"backup": second["backup"]["name"]});
    let told = bench.restore("preflight", Uuid::new_v4(), &name).good();
    assert_eq!(told["restore"]["base"], first["backup"]["name"]);
    fs::remove_file(backups.join(text(&first["backup"]["name"]))).unwrap();
    bench
        .restore("preflight", Uuid::new_v4(), &name)
        .bad("ChainBroken", 4);
}

#[test]
fn forged_archives_and_other_hashes_are_refused() {
    let bench = Bench::new();
    let backups = bench.root.join("backups");
    let stranger = Bench::new();
    let forged = stranger
        .backup(&json!({"destinations": [{"name": "nas", "path": backups}]}))
        .good();
    let latest = json!({"backup": "latest"});
    bench
        .restore("preflight", Uuid::new_v4(), &latest)
        .bad("Unattested", 4);
    let name = forged["backup"]["name"].clone();
    let exact = bench
        .restore("preflight", Uuid::new_v4(), &json!({"backup": name}))
        .good();
    assert_eq!(exact["restore"]["attested"], false);
    assert_eq!(exact["reason"], "CompletedWithWarnings");
    let pinned = json!({"backup": "latest", "sha256": forged["backup"]["sha256"]});
    bench.restore("preflight", Uuid::new_v4(), &pinned).good();
    let other = "9b74c9897bac770ffc029102a200c5de4d3c9d1a1a1b3f5e7d9c1b2a3f4e5d6c";
    let known = json!({"backup": "latest", "known": {text(&name): other}});
    bench
        .restore("preflight", Uuid::new_v4(), &known)
        .bad("NoBackup", 4);
    let known = json!({"backup": name, "known": {text(&name): other}});
    bench
        .restore("preflight", Uuid::new_v4(), &known)
        .bad("HashMismatch", 4);
}

#[test]
fn too_little_space_is_told_with_and_without_the_volume() {
    let bench = Bench::new();
    let other = bench.make("other");
    let place = json!({"name": "nas", "path": other});
    fill(&bench.root.join("more"), 30, 100_000);
    bench.backup(&json!({"destinations": [place]})).good();
    let without = |free: u64| {
        let known = known(&bench);
        let changes = json!({
            "root": null, "source": place, "backup": "latest", "known": known, "free_bytes": free,
        });
        bench.restore("preflight", Uuid::new_v4(), &changes)
    };
    let told = without(1 << 30).good();
    let needed = told["restore"]["needed_bytes"].as_u64().unwrap();
    assert!(needed > 3_000_000, "{told}");
    without(needed).good();
    let told = without(needed - 1).bad("NoSpace", 4);
    assert_eq!(told["restore"]["free_bytes"], needed - 1);

    let small = Bench::empty();
    let Some(_mounted) = Tmpfs::mount(&small.root, 2 << 20) else {
        return;
    };
    let changes = json!({"source": place, "backup": "latest", "known": known(&bench)});
    small
        .restore("preflight", Uuid::new_v4(), &changes)
        .bad("NoSpace", 4);
}

/// What the volume's own runs know, as the operator would.
fn known(bench: &Bench) -> Value {
    let lines = fs::read_to_string(bench.root.join("backups/.index/known.jsonl")).unwrap();
    let lines = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        (text(&line["name"]).to_owned(), line["sha256"].clone())
    });
    Value::Object(lines.collect())
}
