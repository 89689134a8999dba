//! The job `fill`: a new volume gets a backup's state before its first setup and its first start.
//!
//! In comes the document, out goes the message. The volume is marked before a store is asked for anything, and
//! every command refuses it until everything is in place.

use jiff::Timestamp;
use stockpredictor_storage::fill::{self, Begun, Filling};
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::marker::Source as Taken;
use stockpredictor_storage::restore::NoCheck;
use stockpredictor_storage::select::Wanted;

use super::document::Restore;
use super::failure::{Failure, Reason};
use super::in_place::{layout, model, tell_leftovers, tell_proof};
use super::interrupt::Stop;
use super::message::{Message, State};
use super::preflight::{measure, verify};
use super::source::{Chosen, Source, brings_models, described};
use crate::storage_command::output::Output;
use crate::storage_command::{progress, prove};

/// Fills the volume.
pub fn run(job: &Restore, stop: &Stop, message: &mut Message) -> Result<(), Failure> {
    let layout = layout(job)?;
    message.restore();
    match fill::begin(&layout, job.id, Timestamp::now())? {
        Begun::Done(marker) => {
            let told = message.restore();
            told.state = State::Filled;
            told.model = model(&layout);
            let from = marker.fill.and_then(|fill| fill.backup);
            let from = from.map_or_else(String::new, |backup| format!(" from {}", backup.name));
            message.say(format!("the volume had been filled{from} before"));
            if let Some(backup) = from_marker(&layout) {
                unpin(job, stop, backup, message);
            }
            Ok(())
        }
        Begun::Open(filling) => fill(job, &layout, filling, stop, message),
    }
}

fn from_marker(layout: &Layout) -> Option<Taken> {
    let marker = stockpredictor_storage::marker::Marker::read(layout).ok()??;
    marker.fill?.backup
}

/// A fill that was killed between its last step and the pin's end left one.
fn unpin(job: &Restore, stop: &Stop, backup: Taken, message: &mut Message) {
    if let Ok(source) = Source::reach(job, stop) {
        source.unpin(backup.name, job.id, message);
    }
}

fn fill(
    job: &Restore,
    layout: &Layout,
    mut filling: Filling<'_>,
    stop: &Stop,
    message: &mut Message,
) -> Result<(), Failure> {
    let source = Source::reach(job, stop)?;
    let chosen = choose(job, &source, &filling, message)?;
    source.pin(chosen.name, job.id, message);
    let sha256 = verify(&source, &chosen)?;
    let chain = source.open(chosen.name, Some(sha256))?;
    let attested = chosen.expected.is_some();
    let told = message.restore();
    told.archive = Some(described(&chain, chosen.name, sha256, attested));
    told.free_bytes = Some(measure(layout.root())?.free);
    filling.choose(Taken {
        name: chosen.name,
        sha256,
    })?;
    let has_models = brings_models(&chain, job.only());
    let watch = progress::watch(Output::Text);
    let id = chain.header().id;
    let filled = if has_models {
        filling.run(&chain, id, job.only(), &prove::Child, &*watch)
    } else {
        filling.run(&chain, id, job.only(), &NoCheck, &*watch)
    };
    let report = filled.map_err(|error| source.explain(error.into()))?;
    drop(watch);
    if has_models {
        tell_proof(&prove::verdict(layout.root()), message);
    }
    tell_leftovers(&report.leftovers, message);
    let told = message.restore();
    told.state = State::Filled;
    told.take_plan(&report.plan);
    told.parts.clear();
    told.model = model(layout);
    message.say(format!("the new volume holds {}", chosen.name));
    source.unpin(chosen.name, job.id, message);
    Ok(())
}

/// The archive that was chosen before the fill was cut off, as long as it is there; else what the document asks for.
fn choose(
    job: &Restore,
    source: &Source,
    filling: &Filling<'_>,
    message: &mut Message,
) -> Result<Chosen, Failure> {
    if let Some(taken) = filling.chosen() {
        let there = source.destination.open(&taken.name.to_string())?;
        if there.is_some() {
            return Ok(Chosen {
                name: taken.name,
                expected: Some(taken.sha256),
            });
        }
    }
    let wanted: Wanted = job
        .wanted()
        .ok_or_else(|| Failure::new(Reason::InvalidJob, "backup or at is missing"))?;
    source.choose(job, &wanted, message)
}
