//! What every command does first: a restore that was cut off is finished or undone.
//!
//! In come a volume and what the command may do; out comes what was done, or why the command must not go on.

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::error::{JournalError, Leftover, RestoreError, shown};
use super::journal::{Journal, State};
use super::removal;
use super::volume::Volume;
use crate::archive::category::RESTORE_PREFIX;
use crate::atomic;
use crate::descriptor;
use crate::layout::Layout;
use crate::lock::{Mode, VolumeLock};
use crate::marker::{self, Marker};

/// How often a command looks again when a restore begins between its look and its lock.
const MAX_ROUNDS: usize = 10;

/// Whether the command may write to the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may: what was cut off is finished or undone.
    Write,
    /// It may not: it refuses.
    ReadOnly,
}

impl Access {
    /// What the system allows: jobs mount all but `backups/` read-only.
    pub fn of(layout: &Layout) -> Self {
        if rustix::fs::access(layout.root(), rustix::fs::Access::WRITE_OK).is_ok() {
            Self::Write
        } else {
            Self::ReadOnly
        }
    }
}

/// Whether the command runs on a volume whose restore is switched and not yet committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowSwitched {
    /// Setup and serve do.
    Yes,
    /// Everything else refuses.
    No,
}

/// How a cut-off restore ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// The new state is in place.
    Finished,
    /// The old state is in place.
    Undone,
}

impl Ending {
    /// As in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Undone => "undone",
        }
    }
}

/// What was found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// A restore that had been cut off, and how it ended; people are told.
    pub ended: Option<(Uuid, Ending)>,
    /// A restore that is switched and waits to be committed or undone.
    pub switched: Option<Uuid>,
    /// What restores left, nothing needs and can't be removed; people are told, and the command goes on.
    pub leftovers: Vec<Leftover>,
}

/// What [`finish`] did.
pub(super) struct Finished {
    pub(super) ended: Option<(Uuid, Ending)>,
    pub(super) leftovers: Vec<Leftover>,
}

/// Finishes or undoes a restore that was cut off. Twice is the same as once.
pub fn settle(
    layout: &Layout,
    access: Access,
    allow: AllowSwitched,
) -> Result<Settled, JournalError> {
    settle_volume(&Volume::new(layout), access, allow)
}

/// A volume that is being filled is nobody's but the restore's that fills it.
fn refuse_half_filled(layout: &Layout) -> Result<(), JournalError> {
    match Marker::read(layout) {
        Ok(Some(Marker {
            state: marker::State::Filling,
            fill,
            ..
        })) => Err(JournalError::Filling {
            root: shown(layout.root()),
            id: fill.map_or_else(Uuid::nil, |fill| fill.restore),
        }),
        // A marker that can't be used is told by those who need it.
        _ => Ok(()),
    }
}

/// As [`settle`], on a volume with its own patience.
pub fn settle_volume(
    volume: &Volume<'_>,
    access: Access,
    allow: AllowSwitched,
) -> Result<Settled, JournalError> {
    let layout = volume.layout;
    refuse_half_filled(layout)?;
    let mut settled = Settled::default();
    let mut journal = Journal::read(layout)?;
    let is_unstable = journal.as_ref().is_some_and(|journal| !is_stable(journal));
    if is_unstable || (access == Access::Write && has_leftovers(layout, journal.as_ref())) {
        if let (Access::ReadOnly, Some(journal)) = (access, &journal) {
            return Err(JournalError::Unsettled {
                id: journal.id,
                root: shown(layout.root()),
            });
        }
        let _lock = volume.lock_restore()?;
        let finished = finish(volume)?;
        settled.ended = finished.ended;
        settled.leftovers = finished.leftovers;
        journal = Journal::read(layout)?;
    }
    if let Some(journal) = journal {
        judge(layout, &journal, allow)?;
        settled.switched = Some(journal.id);
    }
    Ok(settled)
}

/// Settles, then takes the volume's lock shared; afterwards no restore can begin.
pub fn enter(
    layout: &Layout,
    access: Access,
    allow: AllowSwitched,
    patience: Duration,
) -> Result<(VolumeLock, Settled), JournalError> {
    let mut told = Settled::default();
    for _ in 0..MAX_ROUNDS {
        let settled = settle(layout, access, allow)?;
        told.ended = settled.ended.or(told.ended);
        told.leftovers = settled.leftovers;
        told.switched = settled.switched;
        let lock = VolumeLock::take(&layout.lock(), Mode::Shared, patience)?;
        // A restore may have begun, and even been cut off, before the lock was ours.
        let journal = Journal::read(layout)?;
        if journal.as_ref().is_none_or(is_harmless) {
            if let Some(journal) = journal.filter(is_stable) {
                judge(layout, &journal, allow)?;
                told.switched = Some(journal.id);
            }
            return Ok((lock, told));
        }
    }
    Err(JournalError::Running {
        root: shown(layout.root()),
    })
}

/// Whether the state waits for a command of the restore's id.
fn is_stable(journal: &Journal) -> bool {
    !journal.one_shot && matches!(journal.state, State::Prepared | State::Switched)
}

/// Whether no name below the root changes any more without the volume's lock.
fn is_harmless(journal: &Journal) -> bool {
    is_stable(journal) || matches!(journal.state, State::Committing | State::Discarding)
}

fn judge(layout: &Layout, journal: &Journal, allow: AllowSwitched) -> Result<(), JournalError> {
    match (journal.state, allow) {
        (State::Switched, AllowSwitched::Yes) => Ok(()),
        (state, _) => Err(JournalError::Waiting {
            id: journal.id,
            root: shown(layout.root()),
            state: state.as_str(),
        }),
    }
}

/// Brings the journal to a stable state or away; needs the lock of restores.
pub(super) fn finish(volume: &Volume<'_>) -> Result<Finished, JournalError> {
    let journal = Journal::read(volume.layout)?;
    let ended = match journal {
        None => None,
        Some(mut journal) => {
            let id = journal.id;
            finish_one(volume, &mut journal)?.map(|ending| (id, ending))
        }
    };
    // Also what the end of that restore could not remove.
    let leftovers = remove_leftovers(volume)?;
    Ok(Finished { ended, leftovers })
}

fn finish_one(volume: &Volume<'_>, journal: &mut Journal) -> Result<Option<Ending>, JournalError> {
    let failed = |error| unfinished(volume.layout, error);
    match journal.state {
        State::Prepared | State::Switched if !journal.one_shot => Ok(None),
        State::Extracting | State::Discarding | State::Prepared => {
            volume.go_back(journal).map_err(failed)?;
            Ok(Some(Ending::Undone))
        }
        State::Undoing => {
            let _lock = volume.lock_volume()?;
            volume.go_back(journal).map_err(failed)?;
            Ok(Some(Ending::Undone))
        }
        State::Switching => {
            let _lock = volume.lock_volume()?;
            volume.finish_switch(journal).map_err(failed)?;
            if journal.one_shot {
                volume.commit(journal).map_err(failed)?;
            }
            Ok(Some(Ending::Finished))
        }
        State::Switched | State::Committing => {
            volume.commit(journal).map_err(failed)?;
            Ok(Some(Ending::Finished))
        }
    }
}

fn unfinished(layout: &Layout, error: RestoreError) -> JournalError {
    match error {
        RestoreError::Journal(error) => error,
        RestoreError::Use { path, source } => JournalError::Use { path, source },
        other => JournalError::Use {
            path: shown(layout.root()),
            source: std::io::Error::other(other),
        },
    }
}

/// Names of scratch folders and journals that nobody knows any more.
fn leftovers(layout: &Layout, journal: Option<&Journal>) -> Vec<(std::path::PathBuf, String)> {
    let own = journal.map(Journal::scratch);
    let mut found = Vec::new();
    for directory in [layout.root().to_owned(), layout.state()] {
        // A volume that can't be read is told by whoever reads it next.
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let is_scratch = name
                .strip_prefix(RESTORE_PREFIX)
                .is_some_and(|id| Uuid::try_parse(id).is_ok());
            let is_partial = name.starts_with(".restore.json.") && atomic::is_unfinished(&name);
            let is_ours = if directory == layout.root() {
                is_scratch && own.as_ref() != Some(&name)
            } else {
                is_partial
            };
            if is_ours {
                found.push((directory.clone(), name));
            }
        }
    }
    found
}

fn has_leftovers(layout: &Layout, journal: Option<&Journal>) -> bool {
    !leftovers(layout, journal).is_empty()
}

/// Removes them; those that stay are told and stop nothing.
fn remove_leftovers(volume: &Volume<'_>) -> Result<Vec<Leftover>, JournalError> {
    let journal = Journal::read(volume.layout)?;
    let mut stay = Vec::new();
    for (directory, name) in leftovers(volume.layout, journal.as_ref()) {
        let removed = descriptor::open_root(&directory)
            .and_then(|opened| removal::remove(opened.as_fd(), name.as_bytes(), volume.gate));
        if let Err(source) = removed {
            stay.push(Leftover::new(&directory.join(&name), &source));
        }
    }
    Ok(stay)
}
