//! The rules of `StorageBackup` without an API server: each accepts what is right and refuses what is wrong, with its own
//! sentence.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

mod common;

use common::backups::{cases, object};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use stockpredictor_api::{StorageBackup, crd};

fn definition() -> CustomResourceDefinition {
    let all = crd::all().unwrap().into_iter();
    let mut backups = all.filter(|crd| crd.spec.names.kind == "StorageBackup");
    backups.next().unwrap()
}

#[test]
fn each_case_gets_its_answer() {
    let definition = definition();
    for case in cases() {
        let found = common::refusals(&definition, &case.new, case.old.as_ref());
        match case.refused {
            None => assert!(found.is_empty(), "{}: refused: {found:?}", case.title),
            Some((path, message)) => assert!(
                found.len() == 1
                    && found[0].starts_with(&format!("{path}: "))
                    && found[0].contains(message),
                "{}: expected only '{path}: …{message}…', got {found:?} for {}",
                case.title,
                case.new["spec"]
            ),
        }
    }
}

#[test]
fn every_rule_is_broken_by_some_case() {
    let definition = definition();
    let mut rules = common::rules(&definition);
    assert!(rules.len() > 15, "{rules:?}");
    for case in cases() {
        for found in common::refusals(&definition, &case.new, case.old.as_ref()) {
            rules.retain(|message| !found.ends_with(message));
        }
    }
    assert!(
        rules.is_empty(),
        "add a case to tests/common/backups.rs for: {rules:#?}"
    );
}

#[test]
fn an_object_with_only_what_is_required_gets_the_documented_defaults() {
    let object: StorageBackup =
        serde_json::from_value(object("daily", &json!({"schedule": null}))).unwrap();
    assert_eq!(
        serde_json::to_value(&object.spec).unwrap(),
        json!({
            "predictorRef": {"name": "nvda"}, "suspend": false, "runOnCreate": false, "concurrencyPolicy": "Forbid",
            "activeDeadlineSeconds": 3600, "backoffLimit": 2, "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 3,
            "mode": "Full", "logsDays": 7, "retention": {"last": 10, "daily": 0, "weekly": 0, "monthly": 0},
            "destinations": [{"name": "volume", "volume": {}}], "minSuccessful": 1,
        })
    );
}

#[test]
fn the_guides_three_schedules_are_accepted_and_have_no_unknown_field() {
    let definition = definition();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/backups/daily-weekly-monthly.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let mut names = Vec::new();
    for document in text.split("\n---\n") {
        let document: Value = serde_yaml::from_str(document).unwrap();
        if document["kind"] != "StorageBackup" {
            continue;
        }
        names.push(document["metadata"]["name"].as_str().unwrap().to_owned());
        assert_eq!(
            common::refusals(&definition, &document, None),
            Vec::<String>::new()
        );
        let typed: StorageBackup = serde_json::from_value(document.clone()).unwrap();
        covers(&serde_json::to_value(typed).unwrap(), &document);
    }
    assert_eq!(names, ["nvda-daily", "nvda-weekly", "nvda-monthly"]);
}

/// Every member of `part` is in `whole` too.
fn covers(whole: &Value, part: &Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (key, value) in part {
                covers(
                    whole
                        .get(key)
                        .unwrap_or_else(|| panic!("unknown field {key}")),
                    value,
                );
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            assert_eq!(whole.len(), part.len());
            whole
                .iter()
                .zip(part)
                .for_each(|(whole, part)| covers(whole, part));
        }
        (whole, part) => assert_eq!(whole, part),
    }
}
