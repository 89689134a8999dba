//! The generated files are those in the repository, and their schemas keep the promises that CEL's cost rests on.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stockpredictor_api::{crd, reference};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn assert_same(path: &Path, generated: &str) {
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        stored == generated,
        "{} is not what api/ says: run `make crds` and commit the result",
        path.display()
    );
}

#[test]
fn the_definitions_in_crds_and_in_the_chart_have_not_drifted() {
    let files = crd::files().unwrap();
    for (name, content) in &files {
        assert_same(&root().join("crds").join(name), content);
    }
    let stored = std::fs::read_dir(root().join("crds")).unwrap().count();
    assert_eq!(
        stored,
        files.len(),
        "crds/ has a file that nothing generates: delete it"
    );
}

#[test]
fn the_api_reference_has_not_drifted() {
    assert_same(
        &root().join("docs/reference/api.md"),
        &reference::markdown().unwrap(),
    );
}

#[test]
fn writing_makes_the_directory_and_one_file_a_kind() {
    let scratch = tempfile::tempdir().unwrap();
    let target = scratch.path().join("a/b");
    let written = crd::write(&target).unwrap();
    assert_eq!(
        written,
        [
            "stockpredictors.yaml",
            "storagebackups.yaml",
            "storagerestores.yaml"
        ]
        .map(|name| target.join(name))
    );
    assert!(
        std::fs::read_to_string(&written[0])
            .unwrap()
            .contains("kind: CustomResourceDefinition")
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_a_clear_error() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("file"), "").unwrap();
    let error = crd::write(&scratch.path().join("file"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("stockpredictors.yaml") && error.contains("is it a directory"),
        "{error}"
    );
}

/// Calls `check` for every schema below `schema`; `ours` is false inside Kubernetes' own types.
fn walk(path: &str, schema: &Value, ours: bool, check: &mut dyn FnMut(&str, &Value, bool)) {
    const FOREIGN: [&str; 5] = [
        ".affinity",
        ".env",
        ".resources",
        ".tolerations",
        ".conditions",
    ];
    check(path, schema, ours);
    let ours = ours && !FOREIGN.iter().any(|end| path.ends_with(end));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, ours, check);
    }
    for (key, end) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&format!("{path}{end}"), &schema[key], ours, check);
        }
    }
}

fn for_every_schema(check: impl FnMut(&str, &Value, bool)) {
    for_schemas_of(|_| true, check);
}

fn for_schemas_of(kind: impl Fn(&str) -> bool, mut check: impl FnMut(&str, &Value, bool)) {
    for definition in crd::all().unwrap() {
        if !kind(&definition.spec.names.kind) {
            continue;
        }
        let schema = json!(
            definition.spec.versions[0]
                .schema
                .as_ref()
                .unwrap()
                .open_api_v3_schema
        );
        for part in ["spec", "status"] {
            walk(part, &schema["properties"][part], true, &mut check);
        }
    }
}

#[test]
fn every_string_list_and_map_is_bounded() {
    for_every_schema(|path, schema, _| {
        let bound = match schema["type"].as_str() {
            Some("string") if schema["enum"].is_array() || schema["format"] == "date-time" => {
                return;
            }
            Some("string") => "maxLength",
            Some("array") => "maxItems",
            Some("object") if schema["additionalProperties"].is_object() => "maxProperties",
            _ => return,
        };
        assert!(schema[bound].is_u64(), "{path} has no {bound}");
    });
}

#[test]
fn every_number_of_ours_has_a_lower_bound() {
    for_every_schema(|path, schema, ours| {
        if ours && schema["type"] == "integer" {
            assert!(schema["minimum"].is_number(), "{path} has no minimum");
        }
    });
}

#[test]
fn every_field_of_ours_is_described() {
    for_every_schema(|path, schema, ours| {
        if ours && !path.ends_with("[]") && !path.ends_with("{}") {
            let text = schema["description"].as_str().unwrap_or_default();
            assert!(
                text.ends_with('.') && text.len() > 10,
                "{path} needs a doc comment that ends with a full stop: '{text}'"
            );
        }
    });
}

#[test]
fn no_schema_is_nullable_unsigned_floating_or_open() {
    for_every_schema(|path, schema, _| {
        assert!(schema["nullable"].is_null(), "{path} is nullable");
        assert!(schema["type"] != "number", "{path} is a float");
        assert!(
            !schema["format"]
                .as_str()
                .unwrap_or_default()
                .starts_with("uint"),
            "{path} has an unsigned format"
        );
        assert!(
            schema["x-kubernetes-preserve-unknown-fields"].is_null(),
            "{path} takes anything"
        );
    });
}

#[test]
fn settings_of_the_predictor_have_no_schema_default() {
    for_schemas_of(
        |kind| kind == "StockPredictor",
        |path, schema, _| {
            if ["spec.model", "spec.cache", "spec.retention"]
                .iter()
                .any(|part| path.starts_with(part))
            {
                assert!(
                    schema["default"].is_null(),
                    "{path} has a default, which would beat a file on the volume"
                );
            }
        },
    );
}

#[test]
fn the_columns_stand_in_the_documented_order() {
    let expected = [
        (
            "StockPredictor",
            "Ready, Reason, Symbols, Model, Volume, Used, Age",
        ),
        (
            "StorageBackup",
            "Schedule, Last success, Level, Backups, Size, Suspended, Age",
        ),
    ];
    for (kind, names) in expected {
        let all = crd::all().unwrap();
        let definition = all.iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let columns = definition.spec.versions[0]
            .additional_printer_columns
            .iter();
        let plain: Vec<&str> = columns
            .flatten()
            .filter(|column| column.priority.unwrap_or(0) == 0)
            .map(|column| column.name.as_str())
            .collect();
        assert_eq!(plain.join(", "), names);
    }
}

#[test]
fn no_helm_release_can_take_a_definition_away() {
    for definition in crd::all().unwrap() {
        let annotations = definition.metadata.annotations.unwrap_or_default();
        assert_eq!(
            annotations
                .get("helm.sh/resource-policy")
                .map(String::as_str),
            Some("keep")
        );
    }
}
