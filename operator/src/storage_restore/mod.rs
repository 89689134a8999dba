//! `StorageRestore`.
pub mod facts;
pub mod hold;
pub mod plan;
