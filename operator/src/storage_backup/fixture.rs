//! Objects for tests: one backup named `daily` of the predictor `nvda` in `default`, changed by a merge patch.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use stockpredictor_api::StorageBackup;

use super::validate::{Identity, ValidatedBackup, validate};
use crate::stock_predictor::fixture::{defaults, merge, predictor};

/// The uid of [`backup`].
pub const UID: &str = "0b0f8f6e-55a8-4c55-8a55-7d6f0d6c1a01";

/// A moment that tests call now.
pub fn now() -> Timestamp {
    "2025-08-01T12:00:00Z".parse().unwrap()
}

/// A backup whose spec is `changes` merged into a small valid one, with the schema's defaults.
pub fn backup(changes: &Value) -> StorageBackup {
    let mut spec = json!({"predictorRef": {"name": "nvda"}, "schedule": "0 3 * * *"});
    merge(&mut spec, changes);
    serde_json::from_value(json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageBackup",
        "metadata": {
            "name": "daily", "namespace": "default", "uid": UID, "generation": 2, "resourceVersion": "7",
            "creationTimestamp": "2025-08-01T11:00:00Z",
        },
        "spec": spec,
    }))
    .unwrap()
}

/// [`backup`], validated.
pub fn validated(changes: &Value) -> ValidatedBackup {
    let object = backup(changes);
    validate(
        &object,
        &Identity::of(&object).unwrap(),
        Some(&predictor(&json!({}))),
        &defaults(),
        now(),
    )
    .unwrap()
}
