//! Why a model is refused: one type for loading, checking and running it.
//!
//! Every message names the file and what to do; none contains file content.

use crate::feature::{FEATURE_VERSION, FEATURES, MAX_WINDOW};
use crate::runtime::RuntimeError;

/// Why a model can't be used.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what the fields are")]
pub enum ModelError {
    #[error(
        "{path} is not there: put a model folder there with `predictor train` or `predictor storage put`"
    )]
    Missing { path: String },
    #[error("{path} can't be read ({reason}): check its owner and mode")]
    Read { path: String, reason: String },
    #[error("{path} is larger than {limit} bytes: it is not a file of this model format")]
    TooLarge { path: String, limit: u64 },
    #[error(
        "{path} is a pickle or Keras file, which runs code when it is opened: export the model as ONNX and the scaler as JSON"
    )]
    UnsafeFormat { path: String },
    #[error("{path} names no version: write the name of one version folder into it")]
    BadCurrent { path: String },
    #[error(
        "{text:?} is not a model name or version: use 1 to 64 letters, digits, dots, dashes or underscores, not beginning with a dot"
    )]
    BadName { text: String },
    #[error("{path} is not valid ({reason}): put the version again")]
    Parse { path: String, reason: String },
    #[error(
        "{path} has format {found}, this release reads format {}: use a matching release or train again",
        super::FORMAT
    )]
    Format { path: String, found: u32 },
    #[error("{path} does not match its sha256 in model_config.json: put the version again")]
    Hash { path: String },
    #[error(
        "{path} was made for features {found}, this release computes version {FEATURE_VERSION}: train the model again"
    )]
    Features { path: String, found: String },
    #[error(
        "{path} keeps tensors in other files, which are never opened: export it with all weights inside"
    )]
    ExternalData { path: String },
    #[error(
        "{path} has {found}, needed are inputs window [batch, 1 to {MAX_WINDOW}, {FEATURES}] and volatility [batch, 1] and output quantiles [batch, 3], all float32: export it with this shape"
    )]
    Shape { path: String, found: String },
    #[error("{path} says window {config}, but the graph takes {graph}: put the version again")]
    Window {
        path: String,
        config: usize,
        graph: usize,
    },
    #[error(
        "{path} says version {config:?}, but its folder is called {folder:?}: put the version again, under its own name"
    )]
    OtherVersion {
        path: String,
        config: String,
        folder: String,
    },
    #[error("{path} can't be loaded by ONNX Runtime ({reason}): export it again")]
    Session { path: String, reason: String },
    #[error(
        "the model gave {found} for a forecast, quantiles have to be finite and ascending: train it again"
    )]
    BadOutput { found: String },
    #[error("the model failed to compute a forecast ({reason}): put the version again")]
    Run { reason: String },
    #[error(
        "the window has {found} sessions, the model takes {needed}: compute it with the model's window"
    )]
    WindowLength { found: usize, needed: usize },
    #[error(
        "forecasts differ from {path} by up to {deviation:e}, allowed is {tolerance:e}: the model or the machine computes something else; put the version again"
    )]
    Golden {
        path: String,
        deviation: f64,
        tolerance: f64,
    },
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}
