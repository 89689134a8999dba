//! The moves between a restore's states, each durable before the next; locks are the caller's.
//!
//! In come a volume and a journal; out comes the next state.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode as FileMode;
use rustix::io::Errno;
use uuid::Uuid;

use super::baseline::{self, BASELINE};
use super::carry;
use super::check::{self, Checker};
use super::error::{JournalError, Leftover, RestoreError, shown, used};
use super::gate::{Gate, Open};
use super::journal::{Journal, State};
use super::merge;
use super::owner;
use super::plan::is_chosen;
use super::preflight;
use super::removal;
use super::switch::{self, NEW, OLD, Places};
use super::tree;
use crate::archive::category::{Category, RESTORE_PREFIX};
use crate::archive::manifest::Time;
use crate::atomic::DIRECTORY_MODE;
use crate::descriptor;
use crate::extract::tree::times;
use crate::layout::Layout;
use crate::lock::{LockError, Mode, VolumeLock};
use crate::progress::{Progress, Silent};
use crate::snapshot::{Extracted, Snapshot};

/// How long a restore waits for those who use the volume.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Space that lets the journal change its state when the volume is full.
const SPARE: &str = "spare";
/// A file that shows which times the file system can keep.
const PROBE: &str = "time";
/// The spare's least size, in bytes.
const MIN_SPARE: usize = 64 << 10;

/// The volume that a restore works on, and how.
#[derive(Clone, Copy)]
pub struct Volume<'a> {
    /// Its paths.
    pub layout: &'a Layout,
    /// How long others are waited for.
    pub patience: Duration,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// Asked before each change.
    pub gate: &'a dyn Gate,
}

impl<'a> Volume<'a> {
    /// With the usual patience, unwatched.
    pub fn new(layout: &'a Layout) -> Self {
        Self {
            layout,
            patience: PATIENCE,
            progress: &Silent,
            gate: &Open,
        }
    }

    fn root(&self) -> Result<OwnedFd, RestoreError> {
        descriptor::open_root(self.layout.root()).map_err(used(self.layout.root()))
    }

    fn pass(&self, step: &'static str) -> Result<(), RestoreError> {
        self.gate.pass(step).map_err(used(self.layout.root()))
    }

    fn scratch(&self, journal: &Journal) -> PathBuf {
        self.layout.join(journal.scratch())
    }

    /// The lock that keeps two restores apart; whoever has it knows that no other restore is at work.
    pub(super) fn lock_restore(&self) -> Result<VolumeLock, JournalError> {
        let path = self.layout.state().join("restore.lock");
        VolumeLock::take(&path, Mode::Exclusive, self.patience).map_err(|error| match error {
            LockError::Taken { .. } => JournalError::Running {
                root: shown(self.layout.root()),
            },
            error @ LockError::Use { .. } => error.into(),
        })
    }

    /// The volume's lock, alone.
    pub(super) fn lock_volume(&self) -> Result<VolumeLock, JournalError> {
        let path = self.layout.lock();
        VolumeLock::take(&path, Mode::Exclusive, self.patience).map_err(|error| match error {
            LockError::Taken { .. } => JournalError::InUse {
                root: shown(self.layout.root()),
            },
            error @ LockError::Use { .. } => error.into(),
        })
    }

    /// Makes a state durable. On a full volume the spare space makes room.
    fn save(&self, journal: &mut Journal, state: State) -> Result<(), RestoreError> {
        let before = std::mem::replace(&mut journal.state, state);
        let path = Journal::path(self.layout);
        let saved = self.pass("write the journal").and_then(|()| {
            match journal.write(self.layout) {
                Err(error) if is_full(&error) && self.drop_spare(journal) => {
                    journal.write(self.layout)
                }
                written => written,
            }
            .map_err(used(path))
        });
        if saved.is_err() {
            journal.state = before;
        }
        saved
    }

    fn drop_spare(&self, journal: &Journal) -> bool {
        std::fs::remove_file(self.scratch(journal).join(SPARE)).is_ok()
    }

    /// Unpacks and merges the new state beside the old one. The journal says `extracting` before, `prepared` after.
    pub(super) fn build(
        &self,
        journal: &mut Journal,
        snapshot: &dyn Snapshot,
        chosen: &std::collections::BTreeSet<Category>,
    ) -> Result<Extracted, RestoreError> {
        let path = self.scratch(journal);
        let failed = || used(&path);
        self.save(journal, State::Extracting)?;
        let root = self.root()?;
        self.pass("make the scratch folder")?;
        let name = journal.scratch();
        rustix::fs::mkdirat(&root, name.as_str(), FileMode::from_raw_mode(0o700))
            .map_err(io::Error::from)
            .map_err(failed())?;
        let folder = tree::open_child(root.as_fd(), name.as_bytes()).map_err(failed())?;
        for inner in [NEW, OLD] {
            self.pass("make a folder in it")?;
            tree::make_directory(folder.as_fd(), inner.as_bytes(), DIRECTORY_MODE)
                .map_err(failed())?;
        }
        self.pass("reserve space for the journal")?;
        let spare = journal.bytes().map_err(failed())?.len() * 2 + MIN_SPARE;
        std::fs::write(path.join(SPARE), vec![b' '; spare]).map_err(failed())?;

        self.pass("unpack the backup")?;
        self.progress.step("Unpacking the backup");
        let wanted =
            |path: &crate::archive::path::RelativePath| is_chosen(chosen, path.top_level());
        let extracted = snapshot.extract(&wanted, &path.join(NEW), self.progress)?;
        let new = tree::open_child(folder.as_fd(), NEW.as_bytes()).map_err(failed())?;
        let again = new.try_clone().map_err(failed())?;
        owner::repair(again, self.gate).map_err(failed())?;
        self.progress.step("Merging logs and outcomes");
        let short = short_id(journal);
        let replaced = |name: &[u8]| {
            let named = |item: &super::journal::Item| item.name.as_bytes() == name;
            journal.items.iter().any(|item| item.has_new && named(item))
        };
        merge::merge(root.as_fd(), new.as_fd(), &short, &replaced, self.gate).map_err(failed())?;
        self.pass("note what the merged directories hold")?;
        std::fs::File::create(path.join(BASELINE))
            .and_then(|file| baseline::write(new.as_fd(), file))
            .and_then(|()| carry::reserve(folder.as_fd()))
            .map_err(failed())?;
        for item in &journal.items {
            let found = tree::look(new.as_fd(), item.name.as_bytes()).map_err(failed())?;
            if found.is_some() != item.has_new {
                return Err(RestoreError::Check {
                    path: item.name.to_string(),
                    reason: "it was not unpacked".to_owned(),
                });
            }
        }
        self.pass("make the new state durable")?;
        rustix::fs::syncfs(&root)
            .map_err(io::Error::from)
            .map_err(failed())?;
        self.save(journal, State::Prepared)?;
        Ok(extracted)
    }

    /// From `prepared` to `switched`.
    pub(super) fn forward(
        &self,
        journal: &mut Journal,
        snapshot: &dyn Snapshot,
        checker: &dyn Checker,
    ) -> Result<(), RestoreError> {
        let root = self.root()?;
        // Since the preparation a person may have made or removed a name.
        for item in &mut journal.items {
            let path = self.layout.root().join(item.name.as_path());
            let found = tree::look(root.as_fd(), item.name.as_bytes()).map_err(used(path))?;
            item.had_old = found.is_some();
        }
        preflight::check_items(self.layout, root.as_fd(), &journal.items)?;
        Places::open(self.layout, journal)?;
        self.progress.step("Switching to the restored state");
        self.save(journal, State::Switching)?;
        self.finish_switch(journal)?;
        let restored = |name: &[u8]| {
            let named = |item: &super::journal::Item| item.name.as_bytes() == name;
            journal.items.iter().any(|item| item.has_new && named(item))
        };
        self.progress.step("Checking the restored state");
        let scratch = self.scratch(journal);
        let kept_time = |time| kept_time(&scratch, time);
        check::check_entries(snapshot, root, &restored, &kept_time)?;
        self.check(checker)
    }

    pub(super) fn check(&self, checker: &dyn Checker) -> Result<(), RestoreError> {
        checker
            .check(self.layout.root())
            .map_err(RestoreError::Checker)
    }

    /// From `switching` to `switched`.
    pub(super) fn finish_switch(&self, journal: &mut Journal) -> Result<(), RestoreError> {
        switch::forward(self.layout, journal, self.gate)?;
        self.save(journal, State::Switched)
    }

    /// Makes what the old state will get of the lines that were written since the switch; the state stays `switched`.
    pub(super) fn keep_written(&self, journal: &mut Journal) -> Result<(), RestoreError> {
        self.progress
            .step("Keeping what was logged since the switch");
        carry::stage(self.layout, journal, self.gate).map_err(used(self.scratch(journal)))
    }

    /// Once begun it must end, also on a full volume: names need room, too.
    fn put_written(&self, journal: &Journal) -> Result<(), RestoreError> {
        match carry::apply(self.layout, journal, self.gate) {
            Err(error) if is_full(&error) && self.drop_spare(journal) => {
                carry::apply(self.layout, journal, self.gate)
            }
            applied => applied,
        }
        .map_err(used(self.scratch(journal)))
    }

    /// From any state but `committing` to the old state, without a journal.
    pub(super) fn go_back(&self, journal: &mut Journal) -> Result<Option<Leftover>, RestoreError> {
        if matches!(
            journal.state,
            State::Switching | State::Switched | State::Undoing
        ) {
            self.save(journal, State::Undoing)?;
            self.put_written(journal)?;
            switch::backward(self.layout, journal, self.gate)?;
            // Before this is durable nothing may be removed: half of the new state would be put in place.
            self.save(journal, State::Discarding)?;
        } else if journal.state == State::Prepared
            && let Err(error) = self.save(journal, State::Discarding)
        {
            if !matches!(&error, RestoreError::Use { source, .. } if is_full(source)) {
                return Err(error);
            }
            // A folder without a journal is rubbish; a journal without a whole folder would be a trap.
            self.pass("remove the journal")?;
            Journal::remove(self.layout).map_err(used(Journal::path(self.layout)))?;
        }
        self.clean(journal)
    }

    /// From `switched` to the new state, without a journal.
    pub(super) fn commit(&self, journal: &mut Journal) -> Result<Option<Leftover>, RestoreError> {
        self.progress.step("Removing the old state");
        if journal.state != State::Committing {
            self.save(journal, State::Committing)?;
        }
        self.clean(journal)
    }

    /// Removes the scratch folder, then the journal.
    ///
    /// A folder that can't be removed stays as rubbish: nothing needs it, so it must not keep anyone from the volume.
    fn clean(&self, journal: &Journal) -> Result<Option<Leftover>, RestoreError> {
        let root = self.root()?;
        let removed = removal::remove(root.as_fd(), journal.scratch().as_bytes(), self.gate)
            .and_then(|()| Ok(rustix::fs::fsync(&root)?));
        let leftover = removed.err().map(|source| {
            // Under a name of its own it is in nobody's way, not even when the same restore is tried again.
            let name = format!("{RESTORE_PREFIX}{}", Uuid::new_v4());
            let (root, scratch) = (root.as_fd(), journal.scratch());
            let moved = tree::rename(root, scratch.as_bytes(), root, name.as_bytes());
            let stays = if moved.is_ok() { name } else { scratch };
            Leftover::new(&self.layout.join(stays), &source)
        });
        self.pass("remove the journal")?;
        Journal::remove(self.layout).map_err(used(Journal::path(self.layout)))?;
        Ok(leftover)
    }
}

/// What the file system makes of a time: a file beside the new state gets it, too.
fn kept_time(scratch: &Path, time: Time) -> io::Result<Time> {
    let file = std::fs::File::create(scratch.join(PROBE))?;
    rustix::fs::futimens(&file, &times(time))?;
    Ok(tree::look_at(file.as_fd())?.mtime)
}

/// The beginning of the backup's id, which tells names apart.
pub(super) fn short_id(journal: &Journal) -> String {
    journal
        .backup
        .simple()
        .to_string()
        .chars()
        .take(8)
        .collect()
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSPC | Errno::DQUOT)
    )
}
