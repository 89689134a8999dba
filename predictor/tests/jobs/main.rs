//! `predictor storage job` as a program: each kind of job, what it leaves on the volume and at destinations, its message
//! and its exit code.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod backup;
mod common;
mod fill;
mod in_place;
mod preflight;
mod restore_test;
mod s3;
#[path = "../s3_server/mod.rs"]
mod s3_server;
