//! `predictor storage job`: one job of a StorageBackup or StorageRestore, and the message that it leaves.
//!
//! In comes a job document (`contracts/jobs.json`), out goes a message of at most 4096 bytes into the container's
//! termination message, and an exit code that tells whether a retry may help. The work is that of the other commands.

mod backup;
mod document;
mod failure;
mod fill;
mod in_place;
mod interrupt;
mod inventory;
mod message;
mod place;
mod preflight;
mod source;
mod test;

use std::path::PathBuf;
use std::time::Instant;

use document::{Document, Work};
use failure::{Failure, Reason};
use interrupt::{Stop, Teller};
use message::Message;

use super::Outcome;

/// Options of `predictor storage job`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor storage job --job \"$(cat job.json)\" --termination-message /dev/termination-log

The operator writes the document; contracts/jobs.json has an example of each kind and of each message.
Exit codes: 0 done (warnings are in the message), 1 failed and a retry may help, 2 usage, 4 failed and a retry is useless.")]
pub struct Args {
    /// The job, a JSON document
    #[arg(
        long,
        env = "STOCKPREDICTOR_JOB",
        value_name = "JSON",
        hide_env_values = true
    )]
    job: String,
    /// Where the message goes besides standard output
    #[arg(long, env = "STOCKPREDICTOR_TERMINATION_MESSAGE", value_name = "FILE")]
    termination_message: Option<PathBuf>,
}

/// Does the job.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let stop = Stop::default();
    let teller = Teller::new(args.termination_message.clone());
    let document = Document::parse(&args.job);
    let name = document
        .as_ref()
        .map_or("unknown", |document| document.work.name());
    interrupt::listen(&stop, &teller, name, started)?;
    let mut message = Message::new(name);
    let done = match &document {
        Ok(document) => act(document, &stop, &mut message),
        Err(fault) => Err(Failure::new(Reason::InvalidJob, fault)),
    };
    if let Err(failure) = done {
        message.fail(if stop.is_set() && !failure.is_final() {
            failure.interrupted()
        } else {
            failure
        });
    }
    message.seconds = started.elapsed().as_secs();
    let outcome = message.outcome();
    teller.tell(&message);
    Ok(outcome)
}

fn act(document: &Document, stop: &Stop, message: &mut Message) -> Result<(), Failure> {
    match &document.work {
        Work::Backup(job) => backup::run(job, stop, message),
        Work::Test(job) => test::run(job, stop, message),
        Work::Preflight(job) => preflight::run(job, stop, message),
        Work::Prepare(job) => in_place::prepare(job, stop, message),
        Work::Switch(job) => in_place::switch(job, message),
        Work::Commit(job) => in_place::commit(job, message),
        Work::Undo(job) => in_place::undo(job, message),
        Work::Fill(job) => fill::run(job, stop, message),
    }
}
