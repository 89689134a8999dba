//! The program as it ships: the real binary on a scratch volume, real HTTP on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test like its body does"
)]

mod broken_input;
mod cache;
mod common;
mod exposition;
mod full_disk;
mod limits;
mod metrics;
mod model;
mod outcomes;
mod predict;
mod setup;
mod shutdown;
mod walks;
