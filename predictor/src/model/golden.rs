//! `golden.json`: some windows and what the model forecast for them.
//!
//! In come raw (unscaled) windows and a session; out comes the record, or the answer
//! whether model, scaler and machine still give what was recorded.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::error::ModelError;
use super::session::{Quantiles, Session};
use super::{FORMAT, GOLDEN_FILE};
use crate::feature::{FEATURE_VERSION, Row, Window};

/// Largest difference of a log return that still counts as reproduced.
pub const TOLERANCE: f64 = 1e-5;
/// Most cases in a record.
const MAX_CASES: usize = 256;

/// Content of `golden.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// Version of this file's format.
    pub format: u32,
    /// Version of the features in the windows.
    pub feature_version: u32,
    /// Windows and forecasts.
    pub cases: Vec<GoldenCase>,
}

/// One recorded forecast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenCase {
    /// Symbol whose window it is.
    pub symbol: String,
    /// Last session of the window.
    pub as_of: Date,
    /// Rows of features as they were before scaling, oldest first.
    pub window: Vec<Row>,
    /// What the model gave: quantiles 0.1, 0.5, 0.9 of the next log return.
    pub quantiles: Quantiles,
}

impl Golden {
    /// Computes and records forecasts.
    pub fn record(
        session: &mut Session,
        inputs: &[(String, Date, Window)],
    ) -> Result<Self, ModelError> {
        let windows: Vec<Window> = inputs.iter().map(|(_, _, window)| window.clone()).collect();
        let forecasts = session.run(&windows)?;
        let cases = inputs
            .iter()
            .zip(forecasts)
            .map(|((symbol, as_of, window), quantiles)| GoldenCase {
                symbol: symbol.clone(),
                as_of: *as_of,
                window: window.rows().to_vec(),
                quantiles,
            });
        Ok(Self {
            format: FORMAT,
            feature_version: FEATURE_VERSION,
            cases: cases.collect(),
        })
    }

    /// Reads the file's text; `path` is what errors call it.
    pub fn parse(text: &[u8], path: &str) -> Result<Self, ModelError> {
        let invalid = |reason: String| ModelError::Parse {
            path: path.to_owned(),
            reason,
        };
        let golden: Self =
            serde_json::from_slice(text).map_err(|error| invalid(error.to_string()))?;
        if golden.format != FORMAT {
            return Err(ModelError::Format {
                path: path.to_owned(),
                found: golden.format,
            });
        }
        if golden.feature_version != FEATURE_VERSION {
            return Err(ModelError::Features {
                path: path.to_owned(),
                found: format!("version {}", golden.feature_version),
            });
        }
        if golden.cases.is_empty() || golden.cases.len() > MAX_CASES {
            return Err(invalid(format!(
                "it has {} cases, not 1 to {MAX_CASES}",
                golden.cases.len()
            )));
        }
        Ok(golden)
    }

    /// Computes the forecasts again and returns the largest difference, at most [`TOLERANCE`].
    pub fn check(&self, session: &mut Session) -> Result<f64, ModelError> {
        let windows: Option<Vec<Window>> = self
            .cases
            .iter()
            .map(|case| Window::from_rows(case.window.clone()))
            .collect();
        let windows = windows.ok_or_else(|| ModelError::Parse {
            path: GOLDEN_FILE.to_owned(),
            reason: "a window is empty or has a number that isn't finite".to_owned(),
        })?;
        let forecasts = session.run(&windows)?;
        let pairs = self.cases.iter().zip(&forecasts);
        let deviation = pairs
            .map(|(case, found)| case.quantiles.distance(found))
            .fold(0.0, f64::max);
        if deviation <= TOLERANCE {
            Ok(deviation)
        } else {
            Err(ModelError::Golden {
                path: GOLDEN_FILE.to_owned(),
                deviation,
                tolerance: TOLERANCE,
            })
        }
    }
}
