//! The job `preflight`: whether a restore can succeed, before anything stops.
//!
//! In comes the document, out goes the message with the archive's name and SHA-256, what would change and what space it
//! takes. Every byte of the chain is read and every hash compared; the volume isn't touched.

use std::path::Path;

use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::meta::Level;
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::restore::{self, Journal, JournalError, Plan, RestoreError};
use stockpredictor_storage::space::{self, Space};
use stockpredictor_storage::verify;

use super::document::Restore;
use super::failure::{Failure, Reason, of_snapshot};
use super::interrupt::Stop;
use super::message::Message;
use super::source::{Chosen, Source, described};
use crate::storage_command::output::Output;
use crate::storage_command::progress;

/// Looks.
pub fn run(job: &Restore, stop: &Stop, message: &mut Message) -> Result<(), Failure> {
    message.restore();
    if let Some(root) = &job.root {
        refuse_waiting(&Layout::new(root), job)?;
    }
    let source = Source::reach(job, stop)?;
    let wanted = job
        .wanted()
        .ok_or_else(|| Failure::new(Reason::InvalidJob, "backup or at is missing"))?;
    let chosen = source.choose(job, &wanted, message)?;
    if !job.dry_run {
        source.pin(chosen.name, job.id, message);
    }
    let looked = look(job, &source, &chosen, message);
    if looked.is_err() && !job.dry_run && !stop.is_set() {
        source.unpin(chosen.name, job.id, message);
    }
    looked?;
    message.say(format!("{} can be restored", chosen.name));
    Ok(())
}

fn look(
    job: &Restore,
    source: &Source,
    chosen: &Chosen,
    message: &mut Message,
) -> Result<(), Failure> {
    let sha256 = verify(source, chosen)?;
    let chain = source.open(chosen.name, Some(sha256))?;
    let attested = chosen.expected.is_some();
    message.restore().archive = Some(described(&chain, chosen.name, sha256, attested));
    match &job.root {
        Some(root) => compare(job, root, &chain, message),
        None => estimate(job, &chain, message),
    }
}

/// Every hash of the chain; the SHA-256 that the whole file has.
pub fn verify(source: &Source, chosen: &Chosen) -> Result<Digest, Failure> {
    let watch = progress::watch(Output::Text);
    watch.step(&format!("🔍 Verifying {}", chosen.name));
    let request = verify::Request {
        level: Level::Readable,
        identities: &source.identities,
        known: chosen.expected,
        prover: None,
        progress: &*watch,
    };
    let name = chosen.name.to_string();
    let found = verify::verify(source.destination.as_ref(), &name, &request)
        .map_err(|error| source.explain(error.into()))?;
    if let Some(problem) = found.problems.first() {
        return Err(source.explain(Failure::new(of_snapshot(problem), problem)));
    }
    match found.sha256 {
        Some(sha256) => Ok(sha256),
        None => Err(source.explain(Failure::new(
            Reason::Damaged,
            format!("{name} was not read to its end"),
        ))),
    }
}

/// Another restore must not be under way; of this one every step may be.
fn refuse_waiting(layout: &Layout, job: &Restore) -> Result<(), Failure> {
    match Journal::read(layout)? {
        Some(journal) if journal.id != job.id => Err(JournalError::Waiting {
            id: journal.id,
            root: layout.root().display().to_string(),
            state: journal.state.as_str(),
        }
        .into()),
        _ => Ok(()),
    }
}

fn compare(
    job: &Restore,
    root: &Path,
    chain: &Chain,
    message: &mut Message,
) -> Result<(), Failure> {
    let layout = Layout::new(root);
    let plan = restore::compare(&layout, chain, job.only())?;
    let space = measure(root)?;
    let told = message.restore();
    told.take_plan(&plan);
    told.free_bytes = Some(space.free);
    match restore::preflight(&layout, &plan) {
        // A job that only looks may have the volume read-only.
        Err(RestoreError::Denied { .. }) if is_read_only(root) => Ok(restore::check_space(
            &root.display().to_string(),
            &plan,
            &space,
        )?),
        checked => Ok(checked?),
    }
}

pub fn measure(root: &Path) -> Result<Space, Failure> {
    space::measure(root).map_err(|error| {
        Failure::new(
            Reason::VolumeNotReady,
            format!("{}: {error}: mount the volume there", root.display()),
        )
    })
}

fn is_read_only(root: &Path) -> bool {
    rustix::fs::statvfs(root)
        .is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Without the volume everything counts as new, and the space is what the document says.
fn estimate(job: &Restore, chain: &Chain, message: &mut Message) -> Result<(), Failure> {
    let empty = tempfile::tempdir().map_err(|error| {
        Failure::new(
            Reason::Failed,
            format!("no folder can be made for the comparison: {error}"),
        )
    })?;
    let plan: Plan = restore::compare(&Layout::new(empty.path()), chain, job.only())?;
    let told = message.restore();
    told.take_plan(&plan);
    told.parts.clear();
    told.free_bytes = job.free_bytes;
    let space = Space {
        free: job.free_bytes.unwrap_or(u64::MAX),
        ..Space::default()
    };
    Ok(restore::check_space("the volume", &plan, &space)?)
}
