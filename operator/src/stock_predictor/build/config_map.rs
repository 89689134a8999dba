//! The settings file, as `contracts/settings.json` has it.
//!
//! In: the spec. Out: a `ConfigMap` with the key `settings.json`. What the spec doesn't say is absent here too, because a
//! default written here would beat a file on the volume.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Serialize;
use stockpredictor_api::StockPredictorSpec;

use super::metadata;
use crate::stock_predictor::validate::ValidatedPredictor;
use crate::writer;

/// The key, which is the file's name in the pod.
pub const KEY: &str = "settings.json";
/// The version of the contract.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Settings<'a> {
    version: u32,
    symbols: &'a [String],
    samples: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Model<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<Cache<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<Retention<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

#[derive(Serialize)]
struct Cache<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction_ttl: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stock_data_ttl: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daily_ttl: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleanup_interval: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_entries: Option<i32>,
}

#[derive(Serialize)]
struct Retention<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<&'a str>,
}

/// The `ConfigMap`.
///
/// # Errors
/// When the settings don't become JSON.
pub fn build_config_map(predictor: &ValidatedPredictor) -> Result<ConfigMap, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&settings(&predictor.spec))?;
    text.push('\n');
    Ok(ConfigMap {
        metadata: metadata(predictor),
        data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
        ..ConfigMap::default()
    })
}

/// A digest of what the pods read from the map. It changes exactly when they have to start anew.
pub fn settings_hash(config_map: &ConfigMap) -> String {
    writer::digest(&serde_json::json!(config_map.data))
}

fn settings(spec: &StockPredictorSpec) -> Settings<'_> {
    Settings {
        version: VERSION,
        symbols: &spec.symbols,
        samples: spec.samples,
        model: spec.model.as_ref().map(|model| Model {
            name: model.name.as_deref(),
            version: model.version.as_deref(),
        }),
        cache: spec.cache.as_ref().map(|cache| Cache {
            prediction_ttl: cache.prediction_ttl.as_deref(),
            stock_data_ttl: cache.stock_data_ttl.as_deref(),
            daily_ttl: cache.daily_ttl.as_deref(),
            cleanup_interval: cache.cleanup_interval.as_deref(),
            max_entries: cache.max_entries,
        }),
        retention: spec.retention.as_ref().map(|retention| Retention {
            cache: retention.cache.as_deref(),
            predictions: retention.predictions.as_deref(),
            logs: retention.logs.as_deref(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock_predictor::fixture::validated;
    use serde_json::{Value, json};

    fn document(changes: &Value) -> Value {
        let map = build_config_map(&validated(changes)).unwrap();
        serde_json::from_str(&map.data.unwrap()[KEY]).unwrap()
    }

    #[test]
    fn an_object_that_says_everything_becomes_the_contract() {
        let contract: Value =
            serde_json::from_str(include_str!("../../../../contracts/settings.json")).unwrap();
        let spec = json!({
            "symbols": ["NVDA", "TSLA", "AAPL"],
            "samples": true,
            "model": {"name": "nvda_lstm_model", "version": "2023-12-29"},
            "cache": {"predictionTtl": "1h", "stockDataTtl": "30m", "dailyTtl": "24h", "cleanupInterval": "6h", "maxEntries": 1000},
            "retention": {"cache": "24h", "predictions": "7d", "logs": "30d"},
        });
        assert_eq!(document(&spec), contract);
    }

    #[test]
    fn what_the_spec_does_not_say_is_absent() {
        assert_eq!(
            document(&json!({})),
            json!({"version": 1, "symbols": ["NVDA", "TSLA"], "samples": false})
        );
        let partly = document(&json!({"model": {"name": "m"}, "cache": {"dailyTtl": "1h"}}));
        assert_eq!(partly["model"], json!({"name": "m"}));
        assert_eq!(partly["cache"], json!({"daily_ttl": "1h"}));
    }
}
