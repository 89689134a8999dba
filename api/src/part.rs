//! The parts of a volume that a backup or a restore can be limited to.
//!
//! In: nothing. Out: a closed list, in the words of `contracts/jobs.json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One part of the volume.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// `ml_models/`.
    Models,
    /// `scalers/`.
    Scalers,
    /// `stock_data/`.
    StockData,
    /// `config/`.
    Config,
    /// `logs/`.
    Logs,
    /// `ml_cache/`.
    Cache,
    /// Whatever else lies on the volume.
    Other,
}

impl Part {
    /// As in job documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Scalers => "scalers",
            Self::StockData => "stock-data",
            Self::Config => "config",
            Self::Logs => "logs",
            Self::Cache => "cache",
            Self::Other => "other",
        }
    }
}
