//! `.stockpredictor/restore.json`: what a restore is about to do, so that any command can finish or undo it.
//!
//! In comes the file, out comes a [`Journal`]. It is durable before `.restore-<id>/` is made and removed last.

use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::{JournalError, shown};
use crate::archive::category::RESTORE_PREFIX;
use crate::archive::path::RelativePath;
use crate::atomic;
use crate::layout::Layout;

/// The format that this release writes and reads.
const FORMAT: u32 = 1;
/// Longest journal that is read, in bytes.
const MAX_JOURNAL: u64 = 64 << 20;

/// The content of `restore.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// Version of the format.
    pub format: u32,
    /// The restore's id.
    pub id: Uuid,
    /// The backup that is restored.
    pub backup: Uuid,
    /// When the restore began.
    pub started_at: Timestamp,
    /// Whether one command does all steps, so that no stable state waits for another one.
    pub one_shot: bool,
    /// How far it is.
    pub state: State,
    /// What is replaced, each as a whole.
    pub items: Vec<Item>,
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The new state is being unpacked; the old one is in place.
    Extracting,
    /// The new state is complete beside the old one, which is in place. Stable.
    Prepared,
    /// Names are changing from old to new.
    Switching,
    /// The new state is in place, the old one is kept. Stable.
    Switched,
    /// Names are changing back from new to old.
    Undoing,
    /// The old state is in place; the scratch folder is being removed.
    Discarding,
    /// The new state is in place and stays; the scratch folder is being removed.
    Committing,
}

/// A name directly below the root that a restore replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The name.
    pub name: RelativePath,
    /// Whether something lay there.
    pub had_old: bool,
    /// Whether the backup has something for it.
    pub has_new: bool,
}

/// The part of a journal that every release understands.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Journal {
    /// A journal of a restore that begins.
    pub(super) fn begin(
        id: Uuid,
        backup: Uuid,
        started_at: Timestamp,
        one_shot: bool,
        items: Vec<Item>,
    ) -> Self {
        Self {
            format: FORMAT,
            id,
            backup,
            started_at,
            one_shot,
            state: State::Extracting,
            items,
        }
    }

    /// Where it lies.
    pub fn path(layout: &Layout) -> PathBuf {
        layout.state().join("restore.json")
    }

    /// Reads it; `None` when no restore is under way.
    pub fn read(layout: &Layout) -> Result<Option<Self>, JournalError> {
        let path = Self::path(layout);
        let used = |source| JournalError::Use {
            path: shown(&path),
            source,
        };
        let text = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(used(error)),
            Ok(found) if found.len() > MAX_JOURNAL => {
                return Err(JournalError::Damaged {
                    path: shown(&path),
                    reason: "it is too long".to_owned(),
                });
            }
            Ok(_) => match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                read => read.map_err(used)?,
            },
        };
        let damaged = |error: serde_json::Error| JournalError::Damaged {
            path: shown(&path),
            reason: error.to_string(),
        };
        let Format { format } = serde_json::from_slice(&text).map_err(damaged)?;
        if format > FORMAT {
            return Err(JournalError::Newer {
                path: shown(&path),
                found: format,
                known: FORMAT,
            });
        }
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Writes it durably.
    pub(super) fn write(&self, layout: &Layout) -> io::Result<()> {
        atomic::write_durable(&Self::path(layout), &self.bytes()?)
    }

    /// Removes it durably.
    pub(super) fn remove(layout: &Layout) -> io::Result<()> {
        match fs::remove_file(Self::path(layout)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::File::open(layout.state())?.sync_all()
    }

    /// Name of the scratch folder, directly below the root.
    pub(super) fn scratch(&self) -> String {
        format!("{RESTORE_PREFIX}{}", self.id)
    }
}
