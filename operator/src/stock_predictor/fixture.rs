//! Objects for tests: one predictor named `nvda` in `default`, changed by a merge patch.

use serde_json::{Value, json};
use stockpredictor_api::{ImagePullPolicy, StockPredictor};

use super::validate::{Defaults, ValidatedPredictor, validate};

/// The uid of [`predictor`].
pub const UID: &str = "6c7f7d1e-0000-4000-8000-000000000001";

/// A predictor whose spec is `changes` merged into a small valid one.
pub fn predictor(changes: &Value) -> StockPredictor {
    let mut spec = json!({"symbols": ["NVDA", "TSLA"], "storage": {"size": "10Gi"}});
    merge(&mut spec, changes);
    serde_json::from_value(json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StockPredictor",
        "metadata": {"name": "nvda", "namespace": "default", "uid": UID, "generation": 3, "resourceVersion": "7"},
        "spec": spec,
    }))
    .unwrap()
}

/// What an operator would be started with.
pub fn defaults() -> Defaults {
    Defaults {
        image: "registry.example.com/predictor:1".into(),
        pull_policy: ImagePullPolicy::IfNotPresent,
        allow_from: vec!["monitoring".into()],
        operator_namespace: "stockpredictor".into(),
    }
}

/// [`predictor`], validated.
pub fn validated(changes: &Value) -> ValidatedPredictor {
    validate(&predictor(changes), &defaults()).unwrap()
}

/// JSON merge patch.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    for (key, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else if value.is_object() && target[key].is_object() {
            merge(&mut target[key], value);
        } else {
            target[key] = value.clone();
        }
    }
}
