//! `predictor storage …` as a program: reports, exit codes, and what is on the volume afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test like its body does"
)]

mod backups;
mod commands;
mod common;
mod pairs;
mod reading;
mod restores;
