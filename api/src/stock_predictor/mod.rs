//! `StockPredictor`: a service that forecasts the next session of some stocks, with a volume of its own.
//!
//! In: nothing. Out: the root type with its printer columns, scale subresource and the rules that see several fields.
//! Cross-field rules stand at the lowest object that has all the fields they read.

mod spec;
mod status;
mod storage;

pub use spec::{
    CacheSpec, ImagePullPolicy, ImagePullSecret, ModelSpec, RetentionSpec, StockPredictor,
    StockPredictorSpec,
};
pub use status::{ModelStatus, StockPredictorStatus, VolumeStatus};
pub use storage::{AccessMode, DeletionPolicy, StorageSpec};
