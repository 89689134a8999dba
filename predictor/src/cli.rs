//! The command line: what can be asked of the program, and which module answers.
//!
//! In comes `argv`, out goes a call. No work is done here.

use clap::{Parser, Subcommand};

use crate::storage_command::{self, Outcome, StorageCommand};
use crate::{serve, train};

/// Predicts the next session's price from past sessions, with an LSTM in ONNX Runtime.
#[derive(Debug, Parser)]
#[command(name = "predictor", version, propagate_version = true)]
#[command(after_help = "Examples:
  predictor storage setup --root ./persistent_data --samples
  predictor serve --root ./persistent_data --symbols NVDA,TSLA --listen 127.0.0.1:8080
  curl http://127.0.0.1:8080/api/v1/predict/NVDA")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve predictions over HTTP.
    Serve(serve::Args),
    /// Train a model from price history and evaluate it by walking forward.
    Train(train::Args),
    /// Work on the volume.
    Storage {
        /// What to do with the volume.
        #[command(subcommand)]
        command: StorageCommand,
    },
}

/// Does what the command line asks for.
pub fn run(cli: Cli) -> anyhow::Result<Outcome> {
    match cli.command {
        Command::Serve(args) => serve::run(&args).map(|()| Outcome::Done),
        Command::Train(args) => {
            train::run(&args)?;
            Ok(Outcome::Done)
        }
        Command::Storage { command } => storage_command::run(&command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_that_the_operator_writes_are_understood() {
        let contract =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/commands.json");
        let contract: serde_json::Value =
            serde_json::from_slice(&std::fs::read(contract).unwrap()).unwrap();
        let parse = |name: &str| {
            let words = contract[name].as_array().unwrap();
            Cli::try_parse_from(words.iter().map(|word| word.as_str().unwrap()))
                .unwrap()
                .command
        };
        assert!(matches!(
            parse("setup"),
            Command::Storage {
                command: StorageCommand::Setup(_)
            }
        ));
        assert!(matches!(parse("serve"), Command::Serve(_)));
    }

    #[test]
    fn samples_may_be_given_alone_or_with_a_value() {
        for arguments in [
            &["--samples"][..],
            &["--samples=false", "--tree-only"],
            &["--samples", "--tree-only"],
        ] {
            let words = ["predictor", "storage", "setup"].iter().chain(arguments);
            Cli::try_parse_from(words).unwrap();
        }
    }
}
