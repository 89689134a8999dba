//! The rules without an API server: each accepts what is right and refuses what is wrong, with its own sentence.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

mod common;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use stockpredictor_api::{StockPredictor, crd};

fn definition() -> CustomResourceDefinition {
    crd::all().unwrap().remove(0)
}

#[test]
fn each_case_gets_its_answer() {
    let definition = definition();
    for case in common::cases() {
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
    for case in common::cases() {
        for found in common::refusals(&definition, &case.new, case.old.as_ref()) {
            rules.retain(|message| !found.ends_with(message));
        }
    }
    assert!(
        rules.is_empty(),
        "add a case to tests/common for: {rules:#?}"
    );
}

#[test]
fn an_object_with_only_what_is_required_gets_the_documented_defaults() {
    let object: StockPredictor =
        serde_json::from_value(common::object("nvda", &json!({}))).unwrap();
    let spec = serde_json::to_value(&object.spec).unwrap();
    assert_eq!(
        spec,
        json!({
            "symbols": ["NVDA"],
            "replicas": 1,
            "samples": false,
            "suspend": false,
            "storage": {"size": "1Gi", "accessMode": "ReadWriteOnce", "deletionPolicy": "Retain"},
        }),
        "model, cache and retention must stay absent: a default would beat the files on the volume"
    );
}

/// Reads an example as YAML documents of ours, and nothing else.
fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|document| serde_yaml::from_str(document).unwrap())
        .collect()
}

#[test]
fn every_example_is_accepted_and_has_no_unknown_field() {
    let definition = definition();
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for document in documents(&std::fs::read_to_string(&path).unwrap()) {
            if document["kind"] != "StockPredictor" {
                continue;
            }
            seen += 1;
            assert_eq!(
                common::refusals(&definition, &document, None),
                Vec::<String>::new(),
                "{}",
                path.display()
            );
            let typed: StockPredictor = serde_json::from_value(document.clone()).unwrap();
            assert_covers(
                &serde_json::to_value(typed).unwrap(),
                &document,
                &path.display().to_string(),
            );
        }
    }
    assert!(seen >= 4, "only {seen} examples found");
}

/// Every member of `part` is in `whole` too.
fn assert_covers(whole: &Value, part: &Value, at: &str) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (key, value) in part {
                let inner = whole
                    .get(key)
                    .unwrap_or_else(|| panic!("{at}: unknown field {key}"));
                assert_covers(inner, value, &format!("{at}.{key}"));
            }
        }
        (whole, part) => assert_eq!(whole, part, "{at}"),
    }
}
