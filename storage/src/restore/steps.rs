//! The commands of a restore in place: all steps at once, or one by one under the restore's id.
//!
//! In come a volume and a snapshot; out comes the restored volume, or the old one and the reason.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::check::Checker;
use super::error::{JournalError, Leftover, RestoreError, shown};
use super::journal::{Journal, State};
use super::plan::{self, Plan};
use super::preflight::preflight;
use super::settle::{self, Ending};
use super::volume::Volume;
use crate::archive::category::Category;
use crate::snapshot::{Extracted, Snapshot};

/// What is to be restored.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The restore's id: the one who asks chooses it and names it in the later steps.
    pub id: Uuid,
    /// The backup's id; its beginning gets into names of logs that are kept twice.
    pub backup: Uuid,
    /// The parts of the volume; all that the backup has when it is `None`.
    pub only: Option<&'a [Category]>,
    /// Now.
    pub started_at: Timestamp,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The restore's id.
    pub id: Uuid,
    /// What changed. Of a step that had been done before only the items are known.
    pub plan: Plan,
    /// What was unpacked.
    #[serde(skip)]
    pub extracted: Extracted,
    /// A restore that had been cut off before, and how it ended.
    pub earlier: Option<(Uuid, Ending)>,
    /// What could not be removed and nothing needs.
    pub leftovers: Vec<Leftover>,
}

/// How a restore that waited was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Whether there was something to do.
    pub outcome: Outcome,
    /// What could not be removed and nothing needs.
    pub leftovers: Vec<Leftover>,
}

/// Whether a step was needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// There was nothing left to do.
    NothingToDo,
}

impl State {
    /// As in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Extracting => "extracting",
            Self::Prepared => "prepared",
            Self::Switching => "switching",
            Self::Switched => "switched",
            Self::Undoing => "undoing",
            Self::Discarding => "discarding",
            Self::Committing => "committing",
        }
    }
}

/// All steps in one: afterwards the new state is in place and the old one gone, or nothing has changed.
pub fn run(
    volume: &Volume<'_>,
    snapshot: &dyn Snapshot,
    request: &Request<'_>,
    checker: &dyn Checker,
) -> Result<Report, RestoreError> {
    let _restores = volume.lock_restore()?;
    let settled = settle::finish(volume)?;
    if let Some(journal) = Journal::read(volume.layout)? {
        return Err(waiting(volume, &journal));
    }
    let _lock = volume.lock_volume()?;
    let (mut journal, mut report) = begin(volume, snapshot, request, true)?;
    report.earlier = settled.ended;
    report.leftovers = settled.leftovers;
    if let Err(cause) = volume.forward(&mut journal, snapshot, checker) {
        return Err(back(volume, journal, cause));
    }
    // Whatever fails now, the new state is in place and stays; the next command that writes goes on.
    let left = match volume.commit(&mut journal) {
        Ok(left) => left,
        Err(error) => Some(Leftover {
            path: shown(&volume.layout.join(journal.scratch())),
            reason: error.to_string(),
        }),
    };
    report.leftovers.extend(left);
    Ok(report)
}

/// Unpacks the new state beside the old one; the volume belongs to this restore from now on.
///
/// Done before under the same id, it is not done again.
pub fn prepare(
    volume: &Volume<'_>,
    snapshot: &dyn Snapshot,
    request: &Request<'_>,
) -> Result<Report, RestoreError> {
    let _restores = volume.lock_restore()?;
    let settled = settle::finish(volume)?;
    match Journal::read(volume.layout)? {
        None => {}
        Some(journal) if journal.id == request.id => {
            return Ok(Report {
                id: journal.id,
                plan: Plan {
                    items: journal.items,
                    ..Plan::default()
                },
                extracted: Extracted::default(),
                earlier: settled.ended,
                leftovers: settled.leftovers,
            });
        }
        Some(journal) => return Err(waiting(volume, &journal)),
    }
    let _lock = volume.lock_volume()?;
    let (_, report) = begin(volume, snapshot, request, false)?;
    Ok(Report {
        earlier: settled.ended,
        leftovers: settled.leftovers,
        ..report
    })
}

/// Puts the prepared state in place and checks it; setup and serve run on it, and it can still be undone.
///
/// When a check fails, everything is undone, the preparation too.
pub fn switch(
    volume: &Volume<'_>,
    id: Uuid,
    snapshot: &dyn Snapshot,
    checker: &dyn Checker,
) -> Result<Outcome, RestoreError> {
    let _restores = volume.lock_restore()?;
    settle::finish(volume)?;
    let mut journal = own(volume, id)?.ok_or_else(|| unknown(volume, id))?;
    if journal.state == State::Switched {
        // The service may have changed files since, so entries aren't compared again.
        volume.check(checker)?;
        return Ok(Outcome::NothingToDo);
    }
    let _lock = volume.lock_volume()?;
    match volume.forward(&mut journal, snapshot, checker) {
        Ok(()) => Ok(Outcome::Done),
        Err(cause) => Err(back(volume, journal, cause)),
    }
}

/// Keeps the new state and removes the old one. The service may be running.
pub fn commit(volume: &Volume<'_>, id: Uuid) -> Result<Ended, RestoreError> {
    let _restores = volume.lock_restore()?;
    let mut ended = Ended {
        outcome: Outcome::NothingToDo,
        leftovers: settle::finish(volume)?.leftovers,
    };
    let Some(mut journal) = own(volume, id)? else {
        return Ok(ended);
    };
    if journal.state != State::Switched {
        return Err(RestoreError::State {
            id,
            state: journal.state.as_str(),
            needed: State::Switched.as_str(),
        });
    }
    ended.leftovers.extend(volume.commit(&mut journal)?);
    ended.outcome = Outcome::Done;
    Ok(ended)
}

/// Brings the old state back and removes the new one; the service must be stopped.
///
/// Logs and outcomes that were written since the switch stay: the old state gets them.
pub fn undo(volume: &Volume<'_>, id: Uuid) -> Result<Ended, RestoreError> {
    let _restores = volume.lock_restore()?;
    let mut ended = Ended {
        outcome: Outcome::NothingToDo,
        leftovers: settle::finish(volume)?.leftovers,
    };
    let Some(mut journal) = own(volume, id)? else {
        return Ok(ended);
    };
    let _lock = volume.lock_volume()?;
    if journal.state == State::Switched {
        volume.keep_written(&mut journal)?;
    }
    ended.leftovers.extend(volume.go_back(&mut journal)?);
    ended.outcome = Outcome::Done;
    Ok(ended)
}

/// Compares, checks and unpacks; on failure nothing is left.
fn begin(
    volume: &Volume<'_>,
    snapshot: &dyn Snapshot,
    request: &Request<'_>,
    one_shot: bool,
) -> Result<(Journal, Report), RestoreError> {
    let chosen = plan::choose(snapshot.include(), request.only)?;
    volume.progress.step("Comparing the backup with the volume");
    let plan = plan::compare(volume.layout, snapshot, request.only)?;
    preflight(volume.layout, &plan)?;
    volume
        .progress
        .expect(plan.unpacked.files, plan.unpacked.bytes);
    let mut journal = Journal::begin(
        request.id,
        request.backup,
        request.started_at,
        one_shot,
        plan.items.clone(),
    );
    match volume.build(&mut journal, snapshot, &chosen) {
        Ok(extracted) => {
            let report = Report {
                id: journal.id,
                plan,
                extracted,
                earlier: None,
                leftovers: Vec::new(),
            };
            Ok((journal, report))
        }
        Err(cause) => Err(back(volume, journal, cause)),
    }
}

/// Undoes everything and says so.
fn back(volume: &Volume<'_>, mut journal: Journal, cause: RestoreError) -> RestoreError {
    let (id, cause) = (journal.id, Box::new(cause));
    match volume.go_back(&mut journal) {
        Ok(leftover) => RestoreError::Undone {
            id,
            cause,
            leftover,
        },
        Err(undo) => RestoreError::NotUndone {
            id,
            root: shown(volume.layout.root()),
            cause,
            undo: Box::new(undo),
        },
    }
}

/// The journal, where it is that of `id`; `None` without one.
fn own(volume: &Volume<'_>, id: Uuid) -> Result<Option<Journal>, RestoreError> {
    match Journal::read(volume.layout)? {
        Some(journal) if journal.id != id => Err(waiting(volume, &journal)),
        journal => Ok(journal),
    }
}

fn waiting(volume: &Volume<'_>, journal: &Journal) -> RestoreError {
    RestoreError::Journal(JournalError::Waiting {
        id: journal.id,
        root: shown(volume.layout.root()),
        state: journal.state.as_str(),
    })
}

fn unknown(volume: &Volume<'_>, id: Uuid) -> RestoreError {
    RestoreError::Unknown {
        id,
        root: shown(volume.layout.root()),
    }
}
