//! `StorageRestore`: one restore, from what was chosen to how it ended.
//!
//! In: nothing. Out: the root type with its printer columns and rules, and the source of data that a new volume of a
//! `StockPredictor` shares with it. A restore is one deed: its spec never changes, and another try is another object.

pub mod condition;
mod source;
mod spec;
mod status;

pub use source::{Bootstrap, Origin, RestoreSource, StorageBackupRef};
pub use spec::{
    InPlaceTarget, NewClaim, OnFailure, RestoreTarget, StorageRestore, StorageRestoreSpec,
    TimeLimits,
};
pub use status::{
    ChosenBackup, PartStatus, PhaseStatus, RestoreFailure, RestorePhase, RestoredStatus,
    StorageRestoreStatus, TargetStatus,
};
