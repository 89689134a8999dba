//! What users write: the custom resources of the group `stockpredictor.io`.
//!
//! In: nothing. Out: Rust types, their schemas with CEL rules, the names of conditions and reasons, and the
//! generated files (CRDs, API reference). Forbidden here: a Kubernetes client, and I/O other than writing the
//! generated files.

pub mod condition;
pub mod crd;
mod destination;
mod part;
mod predictor_ref;
pub mod reference;
mod rule;
mod stock_predictor;
mod storage_backup;
mod storage_restore;
pub mod well_known;

pub use destination::{
    ArchiveRetention, ClaimPlace, Destination, ObjectStorePlace, Place, SecretKeyReference,
    SecretReference, VolumePlace,
};
pub use part::Part;
pub use predictor_ref::PredictorRef;
pub use stock_predictor::{
    AccessMode, CacheSpec, DeletionPolicy, ImagePullPolicy, ImagePullSecret, ModelSpec,
    ModelStatus, RetentionSpec, StockPredictor, StockPredictorSpec, StockPredictorStatus,
    StorageSpec, VolumeStatus,
};
pub use storage_backup::condition as backup_condition;
pub use storage_backup::{
    BackupMode, BackupStatus, ConcurrencyPolicy, DestinationStatus, Encryption, JobPodSettings,
    Objectives, RestoreTest, RunKind, RunResult, RunStatus, StorageBackup, StorageBackupSpec,
    StorageBackupStatus, Verification, VerificationLevel,
};
pub use storage_restore::condition as restore_condition;
pub use storage_restore::{
    Bootstrap, ChosenBackup, InPlaceTarget, NewClaim, OnFailure, Origin, PartStatus, PhaseStatus,
    RestoreFailure, RestorePhase, RestoreSource, RestoreTarget, RestoredStatus, StorageBackupRef,
    StorageRestore, StorageRestoreSpec, StorageRestoreStatus, TargetStatus, TimeLimits,
};
