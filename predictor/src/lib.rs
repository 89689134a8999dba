//! The program in the pod: trains a model, prepares the volume, serves predictions.
//!
//! In come files of the volume and HTTP requests; out go predictions. Nothing in
//! this crate knows Kubernetes: the operator meets it in `contracts/` only.

pub mod calendar;
pub mod cli;
pub mod feature;
pub mod model;
pub mod object_store;
pub mod runtime;
mod sample;
pub mod serve;
pub mod settings;
pub mod storage_command;
pub mod train;
