//! `scaler.json`: what turns features into the numbers that the graph takes.
//!
//! In come rows of features; out come float32 numbers, (x − mean) / std, clipped. It
//! is fitted on training rows only; who fits it decides which those are.

use serde::{Deserialize, Serialize};

use super::FORMAT;
use super::config::FeatureSet;
use super::error::ModelError;
use crate::feature::{FEATURES, Row, Window};

/// Scaled numbers lie between −CLIP and CLIP.
const CLIP: f64 = 5.0;
/// Smallest standard deviation; a feature that never changes is not blown up.
const MIN_STD: f64 = 1e-6;

/// Content of `scaler.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// Version of this file's format.
    pub format: u32,
    /// The features, in the order of the numbers below.
    pub features: FeatureSet,
    /// Mean of each feature over the training rows.
    pub mean: [f64; FEATURES],
    /// Standard deviation (of the population) of each feature over the training rows.
    pub std: [f64; FEATURES],
    /// Scaled numbers are cut off at ±`clip`.
    pub clip: f64,
}

impl Scaler {
    /// Fits mean and standard deviation (divided by n, not n − 1).
    pub fn fit<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Self {
        let count = rows.clone().count().max(1) as f64;
        let mut mean = [0.0; FEATURES];
        for row in rows.clone() {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += value / count;
            }
        }
        let mut variance = [0.0; FEATURES];
        for row in rows {
            for ((sum, value), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *sum += (value - mean).powi(2) / count;
            }
        }
        Self {
            format: FORMAT,
            features: FeatureSet::ours(),
            mean,
            std: variance.map(|value: f64| value.sqrt().max(MIN_STD)),
            clip: CLIP,
        }
    }

    /// Reads the file's text; `path` is what errors call it.
    pub fn parse(text: &[u8], path: &str) -> Result<Self, ModelError> {
        let invalid = |reason: String| ModelError::Parse {
            path: path.to_owned(),
            reason,
        };
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|error| invalid(error.to_string()))?;
        // Format and features come first: a scaler of other features has other lengths, which would read as damage.
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            let found = format
                .and_then(|format| u32::try_from(format).ok())
                .unwrap_or(0);
            return Err(ModelError::Format {
                path: path.to_owned(),
                found,
            });
        }
        let features: FeatureSet =
            serde_json::from_value(value.get("features").cloned().unwrap_or_default())
                .map_err(|error| invalid(error.to_string()))?;
        if features != FeatureSet::ours() {
            return Err(ModelError::Features {
                path: path.to_owned(),
                found: features.shown(),
            });
        }
        let scaler: Self =
            serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
        let sound = scaler.mean.iter().all(|mean| mean.is_finite())
            && scaler.std.iter().all(|std| std.is_finite() && *std > 0.0)
            && scaler.clip.is_finite()
            && scaler.clip > 0.0;
        if sound {
            Ok(scaler)
        } else {
            Err(invalid(
                "mean has to be finite, std and clip finite and above 0".to_owned(),
            ))
        }
    }

    /// Scales one row.
    pub fn row(&self, row: &Row) -> [f32; FEATURES] {
        let mut scaled = [0.0; FEATURES];
        for (index, scaled) in scaled.iter_mut().enumerate() {
            let value = (row[index] - self.mean[index]) / self.std[index];
            *scaled = value.clamp(-self.clip, self.clip) as f32;
        }
        scaled
    }

    /// Scales a window into one run of numbers, row after row.
    pub fn window(&self, window: &Window) -> Vec<f32> {
        window.rows().iter().flat_map(|row| self.row(row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_all(found: [f32; FEATURES], expected: f32) {
        assert!(
            found.iter().all(|value| (value - expected).abs() < 1e-7),
            "{found:?}"
        );
    }

    #[test]
    fn scaling_takes_the_population_standard_deviation_and_clips() {
        let scaler = Scaler::fit([[1.0; FEATURES], [5.0; FEATURES]].iter());
        assert!((scaler.mean[0] - 3.0).abs() < 1e-12 && (scaler.std[0] - 2.0).abs() < 1e-12);
        assert_all(scaler.row(&[4.0; FEATURES]), 0.5);
        assert_all(scaler.row(&[-1000.0; FEATURES]), -5.0);
    }

    #[test]
    fn a_feature_that_never_changes_is_scaled_to_zero() {
        let scaler = Scaler::fit([[7.0; FEATURES], [7.0; FEATURES]].iter());
        assert_all(scaler.row(&[7.0; FEATURES]), 0.0);
    }

    #[test]
    fn a_scaler_of_other_features_is_refused_by_name() {
        let mut value = serde_json::to_value(Scaler::fit([[1.0; FEATURES]].iter())).unwrap();
        value["features"]["version"] = 99.into();
        let error = Scaler::parse(value.to_string().as_bytes(), "scaler.json").unwrap_err();
        assert!(matches!(error, ModelError::Features { .. }), "{error}");
    }

    #[test]
    fn a_scaler_with_a_zero_or_missing_number_is_refused() {
        let sound = serde_json::to_value(Scaler::fit([[1.0; FEATURES]].iter())).unwrap();
        let mut zero = sound.clone();
        zero["std"][3] = 0.0.into();
        let mut short = sound;
        short["mean"].as_array_mut().unwrap().pop();
        for value in [zero, short] {
            let error = Scaler::parse(value.to_string().as_bytes(), "scaler.json").unwrap_err();
            assert!(matches!(error, ModelError::Parse { .. }), "{error}");
        }
    }
}
