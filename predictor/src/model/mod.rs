//! The model: its folder on the volume, what is in it, and forecasts made with it.
//!
//! In come a model folder (or a bare `.onnx` with a scaler) and windows of features;
//! out come quantiles of the next session's log return. Nothing here knows HTTP,
//! caches or the training.

pub mod config;
pub mod error;
pub mod folder;
pub mod golden;
pub mod onnx;
pub mod scaler;
pub mod session;

pub use config::ModelConfig;
pub use error::ModelError;
pub use folder::LoadedModel;
pub use golden::Golden;
pub use scaler::Scaler;
pub use session::{Quantiles, Session};

/// Name of the graph in a model folder.
pub const MODEL_FILE: &str = "model.onnx";
/// Name of the configuration in a model folder.
pub const CONFIG_FILE: &str = "model_config.json";
/// Name of the scaler in a model folder.
pub const SCALER_FILE: &str = "scaler.json";
/// Name of the recorded forecasts in a model folder.
pub const GOLDEN_FILE: &str = "golden.json";
/// Name of the file that names the version in use.
pub const CURRENT_FILE: &str = "current";
/// Version of the files' format.
pub const FORMAT: u32 = 1;
