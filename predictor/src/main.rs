//! The `predictor` program. Everything it does is in the library.

use std::process::ExitCode;

use clap::Parser;
use stockpredictor_predictor::cli::{self, Cli};
use stockpredictor_predictor::storage_command;

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("error: {}", storage_command::explain(&error));
            storage_command::code_of(&error).into()
        }
    }
}
