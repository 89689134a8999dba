//! The jobs `prepare`, `switch`, `commit` and `undo`: a restore in place, step by step under its id.
//!
//! In comes the document, out goes the message. The journal on the volume is the truth: each step that was done before is
//! not done twice, and one that was cut off is finished or undone first.

use std::fs;

use jiff::Timestamp;
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::marker::{self, Marker};
use stockpredictor_storage::restore::{
    self, Ended, Journal, JournalError, Leftover, NoCheck, Outcome, Request, RestoreError, Volume,
};
use stockpredictor_storage::select::Wanted;
use stockpredictor_storage::setup;

use super::document::Restore;
use super::failure::{Failure, Reason};
use super::interrupt::Stop;
use super::message::{Message, State};
use super::preflight::measure;
use super::source::{Source, brings_models, described};
use crate::model::CURRENT_FILE;
use crate::storage_command::output::Output;
use crate::storage_command::{progress, prove};

/// The volume of a job whose document was checked.
pub fn layout(job: &Restore) -> Result<Layout, Failure> {
    job.root
        .as_ref()
        .map(Layout::new)
        .ok_or_else(|| Failure::new(Reason::InvalidJob, "root is missing"))
}

/// Unpacks the backup beside the data.
pub fn prepare(job: &Restore, stop: &Stop, message: &mut Message) -> Result<(), Failure> {
    let layout = layout(job)?;
    let done = prepare_on(job, &layout, stop, message);
    message.restore().state = state(&layout, job, State::None);
    done
}

fn prepare_on(
    job: &Restore,
    layout: &Layout,
    stop: &Stop,
    message: &mut Message,
) -> Result<(), Failure> {
    let source = Source::reach(job, stop)?;
    let (name, chain) = open(job, &source, message)?;
    complete(layout)?;
    message.restore().free_bytes = Some(measure(layout.root())?.free);
    let watch = progress::watch(Output::Text);
    let volume = Volume {
        progress: &*watch,
        ..Volume::new(layout)
    };
    let request = Request {
        id: job.id,
        backup: chain.header().id,
        only: job.only(),
        started_at: Timestamp::now(),
    };
    let report = restore::prepare(&volume, &chain, &request)
        .map_err(|error| source.explain(error.into()))?;
    drop(watch);
    tell_leftovers(&report.leftovers, message);
    // A step that had been done before has nothing more to tell.
    if report.plan.needed_bytes > 0 {
        message.restore().take_plan(&report.plan);
    }
    message.say(format!(
        "{name} lies beside the data, ready to be switched to"
    ));
    Ok(())
}

/// The archive that preflight chose, protected once more.
fn open(
    job: &Restore,
    source: &Source,
    message: &mut Message,
) -> Result<(ArchiveName, Chain), Failure> {
    let Some((Wanted::Name(name), sha256)) = job.wanted().zip(job.sha256) else {
        return Err(Failure::new(
            Reason::InvalidJob,
            "backup or sha256 is missing",
        ));
    };
    source.pin(name, job.id, message);
    let chain = source.open(name, Some(sha256))?;
    message.restore().archive = Some(described(&chain, name, sha256, true));
    Ok((name, chain))
}

/// A volume that lost its marker with everything else gets its tree again; the default model stays away.
fn complete(layout: &Layout) -> Result<(), Failure> {
    if !layout.root().is_dir() {
        return Err(Failure::new(
            Reason::VolumeNotReady,
            format!(
                "{} is no directory: mount the volume there",
                layout.root().display()
            ),
        ));
    }
    match Marker::read(layout)? {
        Some(Marker {
            state: marker::State::Ready,
            ..
        }) => Ok(()),
        Some(Marker {
            state: marker::State::Filling,
            ..
        }) => Err(Failure::new(
            Reason::VolumeNotReady,
            format!(
                "{} is being filled: let that finish",
                layout.root().display()
            ),
        )),
        Some(_) | None => {
            setup::run(layout, &setup::Request::default())?;
            Ok(())
        }
    }
}

/// Puts the prepared state in place; undone where it doesn't hold what the backup does.
pub fn switch(job: &Restore, message: &mut Message) -> Result<(), Failure> {
    let layout = layout(job)?;
    let done = switch_on(job, &layout, message);
    let otherwise = if done.is_ok() {
        State::None
    } else {
        State::Undone
    };
    message.restore().state = state(&layout, job, otherwise);
    done
}

fn switch_on(job: &Restore, layout: &Layout, message: &mut Message) -> Result<(), Failure> {
    // Seconds of renames; being told to stop in between would only undo what is nearly done.
    let source = Source::reach(job, &Stop::default())?;
    let (_, chain) = open(job, &source, message)?;
    let watch = progress::watch(Output::Text);
    let volume = Volume {
        progress: &*watch,
        ..Volume::new(layout)
    };
    let has_models = brings_models(&chain, job.only());
    let switched = if has_models {
        restore::switch(&volume, job.id, &chain, &prove::Child)
    } else {
        restore::switch(&volume, job.id, &chain, &NoCheck)
    };
    match switched {
        Ok(_) => {}
        // It had been switched before, so the check could not undo it by itself.
        Err(error @ RestoreError::Checker(_)) => {
            let failure = Failure::from(error);
            restore::undo(&volume, job.id).map_err(|undo| {
                Failure::new(
                    failure.reason,
                    format!("{}; undoing it failed too: {undo}", failure.text),
                )
            })?;
            return Err(failure);
        }
        Err(error) => return Err(source.explain(error.into())),
    }
    drop(watch);
    if has_models {
        tell_proof(&prove::verdict(layout.root()), message);
    } else {
        message.say("the restored state is in place");
    }
    message.restore().model = model(layout);
    Ok(())
}

/// What the models of the restored volume showed.
pub fn tell_proof(verdict: &prove::Verdict, message: &mut Message) {
    match verdict {
        prove::Verdict::Proven => message
            .say("the restored state is in place and its models give their golden predictions"),
        prove::Verdict::Unknown(reason) | prove::Verdict::Refuted(reason) => {
            message.say("the restored state is in place");
            message.warn(format!("its models are not proven: {reason}"));
        }
    }
}

/// The model that is in use, `NAME/VERSION`; the first by name where there are several.
pub fn model(layout: &Layout) -> Option<String> {
    let models = fs::read_dir(layout.join("ml_models")).ok()?;
    let mut found: Vec<String> = models
        .flatten()
        .filter_map(|entry| {
            let current = fs::read_to_string(entry.path().join(CURRENT_FILE)).ok()?;
            let name = entry.file_name().into_string().ok()?;
            Some(format!("{name}/{}", current.trim()))
        })
        .collect();
    found.sort();
    found.into_iter().next()
}

/// Keeps the new state.
pub fn commit(job: &Restore, message: &mut Message) -> Result<(), Failure> {
    let layout = layout(job)?;
    let volume = Volume::new(&layout);
    let done = or_of_another(restore::commit(&volume, job.id), message);
    message.restore().state = state(&layout, job, ended(done.is_ok(), State::Committed));
    let done = done?;
    tell_leftovers(&done.leftovers, message);
    match done.outcome {
        Outcome::Done => message.say("the restored state stays; the old one is removed"),
        Outcome::NothingToDo => message.say("no restore waits: it was ended before"),
    }
    unpin(job, message);
    Ok(())
}

/// Brings the old state back.
pub fn undo(job: &Restore, message: &mut Message) -> Result<(), Failure> {
    let layout = layout(job)?;
    let volume = Volume::new(&layout);
    let done = or_of_another(restore::undo(&volume, job.id), message);
    message.restore().state = state(&layout, job, ended(done.is_ok(), State::Undone));
    let done = done?;
    tell_leftovers(&done.leftovers, message);
    match done.outcome {
        Outcome::Done => message.say("the old state is back"),
        Outcome::NothingToDo => message.say("no restore waits: it was ended before"),
    }
    unpin(job, message);
    Ok(())
}

/// A journal of another restore tells that this one was ended before: else that one could not have begun.
fn or_of_another(
    done: Result<Ended, RestoreError>,
    message: &mut Message,
) -> Result<Ended, RestoreError> {
    match done {
        Err(RestoreError::Journal(error @ JournalError::Waiting { .. })) => {
            message.warn(error.to_string());
            Ok(Ended {
                outcome: Outcome::NothingToDo,
                leftovers: Vec::new(),
            })
        }
        done => done,
    }
}

/// What could not be removed and nothing needs.
pub fn tell_leftovers(leftovers: &[Leftover], message: &mut Message) {
    for leftover in leftovers {
        message.warn(leftover.to_string());
    }
}

const fn ended(is_done: bool, state: State) -> State {
    if is_done { state } else { State::Unknown }
}

fn unpin(job: &Restore, message: &mut Message) {
    let Some(Wanted::Name(name)) = job.wanted() else {
        return;
    };
    if job.source.is_none() || job.origin.is_none() {
        return;
    }
    match Source::reach(job, &Stop::default()) {
        Ok(source) => source.unpin(name, job.id, message),
        Err(failure) => message.warn(format!(
            "the protection of {name} from retention can't be taken off, it ends by itself: {}",
            failure.text
        )),
    }
}

/// What the journal says of this restore; without one, `otherwise`.
pub fn state(layout: &Layout, job: &Restore, otherwise: State) -> State {
    match Journal::read(layout) {
        Ok(Some(journal)) if journal.id == job.id => match journal.state {
            restore::State::Prepared => State::Prepared,
            restore::State::Switched => State::Switched,
            restore::State::Committing => State::Committed,
            restore::State::Undoing | restore::State::Discarding => State::Undone,
            restore::State::Extracting | restore::State::Switching => State::Unknown,
        },
        Ok(_) => otherwise,
        Err(_) => State::Unknown,
    }
}
