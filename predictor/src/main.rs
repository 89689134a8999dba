//! The `predictor` program. Everything it does is in the library.

use std::process::ExitCode;

use clap::Parser;
use stockpredictor_predictor::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
