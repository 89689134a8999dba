//! A session of ONNX Runtime: windows in, quantiles out.
//!
//! A session serves one caller at a time and computes on the caller's thread; serving
//! keeps several. Nothing that isn't finite and ascending leaves it.

use std::sync::Arc;

use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use serde::{Deserialize, Serialize};

use super::error::ModelError;
use super::folder::LoadedModel;
use super::onnx::{QUANTILES_OUTPUT, VOLATILITY_INPUT, WINDOW_INPUT};
use super::scaler::Scaler;
use crate::feature::{FEATURES, Window};
use crate::runtime;

/// Windows in one run of the graph; more are computed in several runs, so memory stays bounded.
const BATCH: usize = 256;

/// Quantiles of the next session's log return, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 3]", into = "[f64; 3]")]
pub struct Quantiles {
    /// Quantile 0.1.
    pub low: f64,
    /// Quantile 0.5.
    pub median: f64,
    /// Quantile 0.9.
    pub high: f64,
}

impl From<[f64; 3]> for Quantiles {
    fn from([low, median, high]: [f64; 3]) -> Self {
        Self { low, median, high }
    }
}

impl From<Quantiles> for [f64; 3] {
    fn from(quantiles: Quantiles) -> Self {
        [quantiles.low, quantiles.median, quantiles.high]
    }
}

impl Quantiles {
    /// Refuses numbers that are not finite or not ascending.
    fn checked(self) -> Result<Self, ModelError> {
        let Self { low, median, high } = self;
        if low.is_finite() && high.is_finite() && low <= median && median <= high {
            Ok(self)
        } else {
            Err(ModelError::BadOutput {
                found: format!("({low}, {median}, {high})"),
            })
        }
    }

    /// The largest difference between any of the three numbers.
    pub fn distance(&self, other: &Self) -> f64 {
        let differences = [
            self.low - other.low,
            self.median - other.median,
            self.high - other.high,
        ];
        differences.into_iter().map(f64::abs).fold(0.0, f64::max)
    }
}

/// A loaded graph with its scaler. Not shared: `run` needs it alone.
#[derive(Debug)]
pub struct Session {
    inner: ort::session::Session,
    scaler: Arc<Scaler>,
    length: usize,
}

impl Session {
    /// Loads the model's graph from memory; needs ONNX Runtime, see [`runtime::init`].
    pub fn open(model: &LoadedModel) -> Result<Self, ModelError> {
        let environment = runtime::init()?;
        let inner = build(environment, &model.onnx).map_err(|error| ModelError::Session {
            path: model.path.clone(),
            reason: error.to_string().chars().take(300).collect(),
        })?;
        Ok(Self {
            inner,
            scaler: Arc::clone(&model.scaler),
            length: model.window,
        })
    }

    /// Forecasts for some windows, in their order. The volatility of each is taken from its last row.
    pub fn run(&mut self, windows: &[Window]) -> Result<Vec<Quantiles>, ModelError> {
        let mut forecasts = Vec::with_capacity(windows.len());
        for batch in windows.chunks(BATCH) {
            forecasts.extend(self.run_batch(batch)?);
        }
        Ok(forecasts)
    }

    fn run_batch(&mut self, windows: &[Window]) -> Result<Vec<Quantiles>, ModelError> {
        if let Some(window) = windows
            .iter()
            .find(|window| window.rows().len() != self.length)
        {
            return Err(ModelError::WindowLength {
                found: window.rows().len(),
                needed: self.length,
            });
        }
        let failed = |error: ort::Error| ModelError::Run {
            reason: error.to_string().chars().take(300).collect(),
        };
        let count = windows.len();
        let scaled: Vec<f32> = windows
            .iter()
            .flat_map(|window| self.scaler.window(window))
            .collect();
        let volatility: Vec<f32> = windows
            .iter()
            .map(|window| window.volatility() as f32)
            .collect();
        let window_input =
            TensorRef::from_array_view(([count, self.length, FEATURES], scaled.as_slice()))
                .map_err(failed)?;
        let volatility_input =
            TensorRef::from_array_view(([count, 1], volatility.as_slice())).map_err(failed)?;
        let outputs = self
            .inner
            .run(ort::inputs![WINDOW_INPUT => window_input, VOLATILITY_INPUT => volatility_input])
            .map_err(failed)?;
        let output = outputs
            .get(QUANTILES_OUTPUT)
            .ok_or_else(|| ModelError::Run {
                reason: "the output quantiles is missing".to_owned(),
            })?;
        let (shape, values) = output.try_extract_tensor::<f32>().map_err(failed)?;
        if values.len() != count * 3 || shape.len() != 2 {
            return Err(ModelError::BadOutput {
                found: format!("shape {shape:?}"),
            });
        }
        values
            .chunks_exact(3)
            .map(|three| {
                Quantiles::from([three[0].into(), three[1].into(), three[2].into()]).checked()
            })
            .collect()
    }
}

/// One thread, the caller's: a pool of sessions uses the cores, and nothing spins on a small CPU limit.
fn build(
    environment: &ort::environment::Environment,
    onnx: &[u8],
) -> ort::Result<ort::session::Session> {
    ort::session::Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .commit_from_memory(onnx)
}
