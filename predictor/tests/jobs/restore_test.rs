//! The job `test`.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Bench, Done, archives, damage, next_second, origin, text, with};

fn test(bench: &Bench, known: &Value, changes: &Value) -> Done {
    let scratch = bench.make("scratch");
    let document = json!({
        "version": 1, "job": "test", "origin": origin(), "scratch": scratch, "known": known,
        "destinations": [{"name": "nas", "path": bench.path("nas")}],
    });
    let done = bench.job(&with(document, changes));
    assert_eq!(
        fs::read_dir(&scratch).unwrap().count(),
        0,
        "scratch is left empty"
    );
    done
}

/// A backup at another claim, and what the status knows of it.
fn stored(bench: &Bench, changes: &Value) -> (Value, Value) {
    let path = bench.make("nas");
    let at = json!({"destinations": [{"name": "nas", "path": path}]});
    let told = bench.backup(&with(at, changes)).good();
    let name = text(&told["backup"]["name"]).to_owned();
    let known = json!({name: told["backup"]["sha256"]});
    (told["backup"].clone(), known)
}

#[test]
fn the_newest_backup_is_proven_by_its_golden_predictions() {
    let bench = Bench::new();
    stored(&bench, &json!({}));
    next_second();
    let (backup, known) = stored(&bench, &json!({}));
    let told = test(&bench, &known, &json!({})).good();
    assert_eq!(told["backup"]["name"], backup["name"]);
    assert_eq!(told["backup"]["level"], "proven");
    assert_eq!(
        told["backups"][0]["level"], "proven",
        "noted beside the archive"
    );
    assert_eq!(told["destinations"][0]["verified"], "proven");
    assert_eq!(told["total"], 2);
}

#[test]
fn a_backup_on_the_volume_itself_is_proven_where_the_volume_is_mounted() {
    let bench = Bench::new();
    let told = bench.backup(&json!({})).good();
    let known = json!({text(&told["backup"]["name"]): told["backup"]["sha256"]});
    let place = json!({"destinations": [{"name": "volume", "path": "backups"}]});
    test(&bench, &known, &place).bad("InvalidJob", 4);
    let told = test(&bench, &known, &with(place, &json!({"root": bench.root}))).good();
    assert_eq!(told["destinations"][0]["verified"], "proven");
}

#[test]
fn archives_for_an_old_and_a_new_key_open_with_either_until_the_old_one_is_dropped() {
    let bench = Bench::new();
    let ((old, old_file), (new, new_file)) = (bench.key("old"), bench.key("new"));
    let (_, known) = stored(&bench, &json!({"recipients": [old, new]}));
    for identity in [&old_file, &new_file] {
        test(&bench, &known, &json!({"identity": identity})).good();
    }
    next_second();
    let (_, known) = stored(&bench, &json!({"recipients": [new]}));
    test(&bench, &known, &json!({"identity": old_file})).bad("KeyWrong", 4);
    test(&bench, &known, &json!({"identity": new_file})).good();
}

#[test]
fn a_corrupted_newest_backup_fails_the_test_and_loses_its_level() {
    let bench = Bench::new();
    let (backup, known) = stored(&bench, &json!({}));
    damage(&bench.path("nas").join(text(&backup["name"])));
    let told = test(&bench, &known, &json!({})).bad("Damaged", 4);
    assert!(
        text(&told["message"]).contains(text(&backup["name"])),
        "{told}"
    );
    assert_eq!(told["backups"][0]["level"], Value::Null);
}

#[test]
fn a_forged_archive_is_unattested_and_a_replaced_one_is_refused() {
    let bench = Bench::new();
    let (backup, known) = stored(&bench, &json!({}));
    // Whoever can write to the store puts a well-formed archive there, made on a volume of their own.
    let stranger = Bench::new();
    next_second();
    let path = bench.path("nas");
    let at = json!({"destinations": [{"name": "nas", "path": path}]});
    let forged = stranger.backup(&at).good();
    assert_eq!(archives(&path).len(), 2);
    let told = test(&bench, &known, &json!({})).good();
    assert_eq!(
        told["backup"]["name"], backup["name"],
        "the forged one is passed over"
    );
    let none = test(&bench, &json!({}), &json!({})).bad("Unattested", 4);
    assert!(
        text(&none["message"]).contains(text(&forged["backup"]["name"])),
        "{none}"
    );
}

#[test]
fn a_model_that_predicts_something_else_is_not_proven() {
    let bench = Bench::new();
    let golden = bench.root.join("ml_models/nvda_lstm_model");
    let version = fs::read_to_string(golden.join("current")).unwrap();
    let golden = golden.join(version.trim()).join("golden.json");
    let mut content: Value = serde_json::from_slice(&fs::read(&golden).unwrap()).unwrap();
    shift(&mut content);
    fs::write(&golden, content.to_string()).unwrap();
    let (_, known) = stored(&bench, &json!({}));
    let told = test(&bench, &known, &json!({})).bad("NotProven", 4);
    assert_eq!(told["backup"]["level"], "readable", "{told}");
}

/// Moves the last number anywhere in it.
pub fn shift(value: &mut Value) -> bool {
    match value {
        Value::Number(number) if number.is_f64() => {
            *value = json!(number.as_f64().unwrap() + 0.5);
            true
        }
        Value::Array(items) => items.iter_mut().rev().any(shift),
        Value::Object(members) => members.values_mut().rev().any(shift),
        _ => false,
    }
}

#[test]
fn keys_and_destinations_that_are_missing_have_their_words() {
    let bench = Bench::new();
    let (public, private) = bench.key("key");
    let (_, wrong) = bench.key("wrong");
    let (_, known) = stored(&bench, &json!({"recipients": [public]}));
    test(&bench, &known, &json!({})).bad("KeyMissing", 4);
    test(&bench, &known, &json!({"identity": bench.path("none")})).bad("KeyMissing", 4);
    test(&bench, &known, &json!({"identity": wrong})).bad("KeyWrong", 4);
    test(&bench, &known, &json!({"identity": private})).good();
    let gone = json!({"destinations": [{"name": "gone", "path": bench.path("gone")}]});
    test(&bench, &known, &gone).bad("DestinationNotFound", 1);
    let empty = json!({"destinations": [{"name": "empty", "path": bench.make("empty")}]});
    test(&bench, &known, &empty).bad("NoBackup", 4);
}

#[test]
fn a_backup_without_models_can_only_be_readable() {
    let bench = Bench::new();
    let (_, known) = stored(&bench, &json!({"include": ["config"]}));
    let told = test(&bench, &known, &json!({})).good();
    assert_eq!(told["backup"]["level"], "readable");
    assert_eq!(told["reason"], "CompletedWithWarnings");
}
