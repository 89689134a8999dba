//! The operator's entry point. In: the command line and the environment. Out: an exit status.

use std::process::ExitCode;

use clap::Parser;
use stockpredictor_operator::cli::Cli;

fn main() -> anyhow::Result<ExitCode> {
    Cli::parse().execute()
}
