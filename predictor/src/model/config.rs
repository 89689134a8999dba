//! `model_config.json`: what a model is, what it was trained on, how sure it is.
//!
//! In comes the file's text; out comes a checked [`ModelConfig`], and the other way
//! round for training. Members that are not known are ignored, so that a later
//! release may add some.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::FORMAT;
use super::error::ModelError;
use crate::feature::{FEATURE_VERSION, MAX_WINDOW, NAMES};

/// The quantiles that a model forecasts; the outer two enclose the 80 % interval.
pub const QUANTILES: [f64; 3] = [0.1, 0.5, 0.9];
/// Forecasts that a bin of the confidence table needs before it says anything.
pub const MINIMUM_CASES: u64 = 200;

/// Content of `model_config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Version of this file's format.
    pub format: u32,
    /// Name of the model; the folder above the version.
    pub name: String,
    /// Version of the model; the folder's name.
    pub version: String,
    /// SHA-256 of the files, in hexadecimal.
    pub sha256: Hashes,
    /// The features that the model was trained on.
    pub features: FeatureSet,
    /// Sessions in a window.
    pub window: usize,
    /// The forecast quantiles: 0.1, 0.5 and 0.9.
    pub quantiles: [f64; 3],
    /// First and last session of the training data.
    pub training_span: Span,
    /// Symbols in the training data.
    pub symbols: Vec<String>,
    /// Seed of the random numbers.
    pub seed: u64,
    /// How the network was fitted, for the record; loading doesn't look at it.
    #[serde(default)]
    pub fit: BTreeMap<String, f64>,
    /// How often forecasts of a strength had the right sign.
    #[serde(default)]
    pub confidence: Option<Confidence>,
}

/// SHA-256 of the files that belong together, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// Of `model.onnx`.
    #[serde(rename = "model.onnx")]
    pub model: String,
    /// Of `scaler.json`.
    #[serde(rename = "scaler.json")]
    pub scaler: String,
}

/// Names the formulas of the features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureSet {
    /// Version of the formulas.
    pub version: u32,
    /// Names in the order of the graph's last axis.
    pub names: Vec<String>,
}

impl FeatureSet {
    /// The features that this release computes.
    pub fn ours() -> Self {
        Self {
            version: FEATURE_VERSION,
            names: NAMES.map(str::to_owned).to_vec(),
        }
    }

    /// How an error names it.
    pub fn shown(&self) -> String {
        let names: String = self.names.join(", ").chars().take(200).collect();
        format!("version {} ({names})", self.version)
    }
}

/// First and last day, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First day.
    pub first: Date,
    /// Last day.
    pub last: Date,
}

/// Shares of right signs in the walk-forward evaluation, by strength of the forecast.
///
/// The strength is the absolute median log return. A forecast belongs to the bin
/// with `from <= strength < to` (the last bin includes its end). Outside of all bins,
/// and in bins of fewer than [`MINIMUM_CASES`] forecasts, nothing is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// Where the shares come from, in words.
    pub method: String,
    /// Ascending, each begins where the one before ends.
    pub bins: Vec<ConfidenceBin>,
}

/// Forecasts of about the same strength.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceBin {
    /// Smallest strength, as a log return.
    pub from: f64,
    /// Strength that ends the bin, as a log return.
    pub to: f64,
    /// Share of forecasts with the right sign; absent below [`MINIMUM_CASES`].
    pub share: Option<f64>,
    /// Forecasts in the bin.
    pub cases: u64,
}

impl Confidence {
    /// The share of right signs among forecasts as strong as `median`, if enough are known.
    pub fn of(&self, median: f64) -> Option<f64> {
        let strength = median.abs();
        let (last, earlier) = self.bins.split_last()?;
        let bin = earlier
            .iter()
            .find(|bin| (bin.from..bin.to).contains(&strength))
            .or_else(|| Some(last).filter(|bin| (bin.from..=bin.to).contains(&strength)))?;
        bin.share.filter(|_| bin.cases >= MINIMUM_CASES)
    }
}

/// Checks that a name or version can be one folder: 1 to 64 of `A-Za-z0-9._-`, not beginning with a dot.
pub fn check_name(text: &str) -> Result<(), ModelError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(fits) {
        Ok(())
    } else {
        Err(ModelError::BadName {
            text: text.chars().take(80).collect(),
        })
    }
}

impl ModelConfig {
    /// Reads the file's text; `path` is what errors call it.
    pub fn parse(text: &[u8], path: &str) -> Result<Self, ModelError> {
        let invalid = |reason: String| ModelError::Parse {
            path: path.to_owned(),
            reason,
        };
        let format = serde_json::from_slice::<FormatOnly>(text)
            .map_err(|error| invalid(error.to_string()))?
            .format;
        if format != FORMAT {
            return Err(ModelError::Format {
                path: path.to_owned(),
                found: format,
            });
        }
        let config: Self =
            serde_json::from_slice(text).map_err(|error| invalid(error.to_string()))?;
        check_name(&config.name)?;
        check_name(&config.version)?;
        if config.features != FeatureSet::ours() {
            return Err(ModelError::Features {
                path: path.to_owned(),
                found: config.features.shown(),
            });
        }
        if !(1..=MAX_WINDOW).contains(&config.window) {
            return Err(invalid(format!(
                "window {} is not between 1 and {MAX_WINDOW}",
                config.window
            )));
        }
        if config.quantiles != QUANTILES {
            return Err(invalid("quantiles are not 0.1, 0.5 and 0.9".to_owned()));
        }
        if let Some(confidence) = &config.confidence {
            confidence
                .check()
                .map_err(|reason| invalid(reason.to_owned()))?;
        }
        Ok(config)
    }
}

impl Confidence {
    fn check(&self) -> Result<(), &'static str> {
        let share_fits =
            |bin: &ConfidenceBin| bin.share.is_none_or(|share| (0.0..=1.0).contains(&share));
        let ascends =
            |bin: &ConfidenceBin| bin.from >= 0.0 && bin.from <= bin.to && bin.to.is_finite();
        let touches = |pair: &[ConfidenceBin]| pair[0].to.total_cmp(&pair[1].from).is_eq();
        if self.bins.len() <= 100
            && self.bins.iter().all(|bin| share_fits(bin) && ascends(bin))
            && self.bins.windows(2).all(touches)
        {
            Ok(())
        } else {
            Err("the confidence bins don't ascend without gaps, or a share is not between 0 and 1")
        }
    }
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confidence() -> Confidence {
        let bin = |from, to, share, cases| ConfidenceBin {
            from,
            to,
            share,
            cases,
        };
        Confidence {
            method: String::new(),
            bins: vec![
                bin(0.0, 0.001, Some(0.51), 500),
                bin(0.001, 0.002, Some(0.53), 200),
                bin(0.002, 0.003, Some(0.99), 199),
                bin(0.003, 0.004, Some(0.55), 300),
            ],
        }
    }

    #[test]
    fn a_forecast_takes_the_share_of_its_own_strength_whatever_its_sign() {
        assert_eq!(confidence().of(0.0), Some(0.51));
        assert_eq!(confidence().of(-0.001), Some(0.53));
        assert_eq!(confidence().of(0.004), Some(0.55));
    }

    #[test]
    fn below_200_cases_and_outside_of_what_was_seen_nothing_is_known() {
        assert_eq!(confidence().of(0.0025), None);
        assert_eq!(confidence().of(0.0041), None);
        assert_eq!(confidence().of(f64::NAN), None);
    }

    #[test]
    fn bins_with_a_gap_are_refused() {
        let mut broken = confidence();
        broken.bins.remove(1);
        assert!(broken.check().is_err());
    }

    #[test]
    fn names_that_are_not_one_plain_folder_are_refused() {
        for text in ["", ".", "..", ".x", "a/b", "a b", "ü", &"x".repeat(65)] {
            assert!(check_name(text).is_err(), "{text:?}");
        }
        check_name("2023-12-29").unwrap();
        check_name("nvda_lstm_model").unwrap();
    }
}
