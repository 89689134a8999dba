//! `predictor storage …`: one module a command, and what they share.
//!
//! In come parsed arguments, out goes an [`Outcome`]. The work is in the storage crate; here settings and files
//! become its requests, and its reports become lines for people or JSON.

mod accept;
mod backup;
mod choice;
mod cleanup;
mod exit;
mod job;
mod level;
mod list;
mod ls;
mod monitor;
mod output;
mod place;
mod progress;
mod prove;
mod put;
mod restore;
mod retain;
mod selection;
mod settle;
mod setup;
mod test;
mod verify;

use std::path::PathBuf;

use clap::Subcommand;
use clap::builder::{StringValueParser, TypedValueParser as _};
use stockpredictor_storage::layout::Layout;

pub use exit::{Outcome, code_of, explain};
pub use output::Output;

/// Where the volume is when nobody says otherwise.
const DEFAULT_ROOT: &str = "/app/persistent_data";

/// What can be done with the volume.
#[derive(Debug, Subcommand)]
pub enum StorageCommand {
    /// Make the directory tree; put model and samples on an empty volume; repair owners and modes.
    Setup(setup::Args),
    /// Check directories, permissions, writing, locks, room and the mount.
    Test(test::Args),
    /// Back up the volume to one or more destinations.
    Backup(Box<backup::Args>),
    /// List the backups, and say which of them can't be restored.
    List(list::Args),
    /// Check archives: stored, readable, or proven by their models' predictions.
    Verify(verify::Args),
    /// Bring a backup's state back, in place or into a folder.
    Restore(Box<restore::Args>),
    /// Try the models of a restored volume.
    #[command(hide = true)]
    Prove(prove::Args),
    /// Do one job of a StorageBackup or StorageRestore and leave a message about it.
    #[command(hide = true)]
    Job(job::Args),
    /// Report how much lies where, how the volume grows, and whether it is healthy.
    Monitor(monitor::Args),
    /// Remove old cache files, logs and predictions, and what killed writers left.
    Cleanup(cleanup::Args),
    /// Put a model version or files onto the volume, from a tar on standard input.
    Put(put::Args),
    /// List a directory of the volume.
    Ls(ls::Args),
}

/// Does what the command line asks for.
pub fn run(command: &StorageCommand) -> anyhow::Result<Outcome> {
    match command {
        StorageCommand::Setup(args) => setup::run(args),
        StorageCommand::Test(args) => test::run(args),
        StorageCommand::Backup(args) => backup::run(args),
        StorageCommand::List(args) => list::run(args),
        StorageCommand::Verify(args) => verify::run(args),
        StorageCommand::Restore(args) => restore::run(args),
        StorageCommand::Prove(args) => prove::run(args),
        StorageCommand::Job(args) => job::run(args),
        StorageCommand::Monitor(args) => monitor::run(args),
        StorageCommand::Cleanup(args) => cleanup::run(args),
        StorageCommand::Put(args) => put::run(args),
        StorageCommand::Ls(args) => ls::run(args),
    }
}

/// Options that every command has which needs no settings.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    /// The volume's mount point.
    // Reports and settings have it as text, so a path that isn't UTF-8 is refused here as `setup` does.
    #[arg(long, env = "STOCKPREDICTOR_ROOT", value_name = "DIR", default_value = DEFAULT_ROOT,
        value_parser = StringValueParser::new().map(PathBuf::from))]
    root: PathBuf,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Common {
    /// The volume; an empty environment variable counts as not set.
    fn layout(&self) -> Layout {
        if self.root.as_os_str().is_empty() {
            Layout::new(DEFAULT_ROOT)
        } else {
            Layout::new(&self.root)
        }
    }
}
