//! The volume's state while it is served: how full, whether writable, and since when not.
//!
//! In come outcomes of writes and a look now and then; out come numbers and problems.
//! A full or read-only volume degrades the service and never stops it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::marker::Marker;
use stockpredictor_storage::space::{self, Space};
use tracing::error;

/// Files whose failed writes are remembered; one is enough to be degraded.
const MAX_FAILED: usize = 64;
const FULL: &str = "VolumeFull";
const NOT_WRITABLE: &str = "VolumeNotWritable";

/// What is known of the volume.
#[derive(Clone, Debug, Default)]
pub struct VolumeState {
    /// Its use.
    pub space: Space,
    /// Its marker as the last look found it; `None` where it can't be read.
    pub marker: Option<Marker>,
    /// Why writes fail; `None` while they work.
    pub failing: Option<Failure>,
    /// Whether it could be written to at least once since the start; a full one could be.
    pub was_writable: bool,
}

#[derive(Default)]
struct Inner {
    space: Space,
    marker: Option<Marker>,
    was_writable: bool,
    /// What the last look found.
    looked: Option<Failure>,
    /// Files that could not be written.
    failed: BTreeMap<PathBuf, Failure>,
}

/// Why writes fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `VolumeFull` or `VolumeNotWritable`.
    pub kind: &'static str,
    /// What it means and what to do.
    pub message: String,
}

/// Watches one volume.
pub struct Volume {
    layout: Layout,
    inner: Mutex<Inner>,
}

impl Volume {
    /// Nothing is known before the first [`Volume::look`].
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            inner: Mutex::default(),
        }
    }

    /// What is known.
    pub fn state(&self) -> VolumeState {
        let inner = self.inner();
        let failed = inner.failed.values().next();
        VolumeState {
            space: inner.space,
            marker: inner.marker.clone(),
            failing: inner.looked.as_ref().or(failed).cloned(),
            was_writable: inner.was_writable,
        }
    }

    /// The marker, read anew; `None` when it is absent or can't be read.
    pub fn marker(&self) -> Option<Marker> {
        Marker::read(&self.layout).ok().flatten()
    }

    /// Measures, and tries a write there and wherever one failed. Blocks on the file system.
    pub fn look(&self) {
        let space = space::measure(self.layout.root()).unwrap_or_default();
        let looked = space::probe(&self.layout)
            .err()
            .map(|error| failure(&self.layout.state(), &error));
        let failed: Vec<PathBuf> = self.inner().failed.keys().cloned().collect();
        let folders: BTreeSet<&Path> = failed.iter().filter_map(|path| path.parent()).collect();
        let writable: BTreeSet<&Path> = folders
            .into_iter()
            .filter(|folder| space::probe_folder(folder).is_ok())
            .collect();
        let healed = failed.iter().filter(|path| {
            // A folder in the file's place fails at each write, wherever others succeed.
            let free = !path.is_dir();
            free && path
                .parent()
                .is_some_and(|folder| writable.contains(folder))
        });
        let marker = self.marker();
        let mut inner = self.inner();
        inner.space = space;
        inner.marker = marker;
        inner.was_writable |= looked
            .as_ref()
            .is_none_or(|failure| failure.kind != NOT_WRITABLE);
        inner.looked = looked;
        for path in healed {
            inner.failed.remove(path);
        }
    }

    /// Hears how the write of a file went. A failure stays until this file can be written again.
    pub fn told(&self, path: &Path, result: &io::Result<()>) {
        let mut inner = self.inner();
        match result {
            Ok(()) => {
                inner.failed.remove(path);
            }
            Err(_) if inner.failed.contains_key(path) || inner.failed.len() >= MAX_FAILED => {}
            Err(error) => {
                error!(path = %path.display(), reason = %error, "a file can't be written");
                inner.failed.insert(path.to_owned(), failure(path, error));
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mount point.
    pub fn root(&self) -> &Path {
        self.layout.root()
    }
}

impl VolumeState {
    /// Why requests should not come here: writes failed ever since the start, and not for lack of space.
    pub fn never_writable(&self) -> Option<&Failure> {
        let failing = self.failing.as_ref();
        failing.filter(|failure| failure.kind == NOT_WRITABLE && !self.was_writable)
    }
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure {
            kind: FULL,
            message: "the volume is full: predictions are served, but neither cached nor stored; \
                      free space with `predictor storage cleanup` or grow spec.storage.size"
                .to_owned(),
        },
        _ => Failure {
            kind: NOT_WRITABLE,
            message: format!(
                "{} can't be written to ({error}): predictions are served, but neither cached nor stored; \
                 the volume has to be mounted read-write and belong to 1001:1001, with nothing in the way of this path",
                path.display()
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> (tempfile::TempDir, Volume) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".stockpredictor")).unwrap();
        let volume = Volume::new(Layout::new(folder.path()));
        (folder, volume)
    }

    #[test]
    fn a_failed_write_degrades_until_its_folder_takes_writes() {
        let (folder, volume) = volume();
        let cache = folder.path().join("cache");
        let path = cache.join("a.json");
        // A file is where the folder should be.
        std::fs::write(&cache, "").unwrap();
        volume.look();
        assert!(volume.state().was_writable && volume.state().failing.is_none());
        volume.told(&path, &Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(volume.state().failing.unwrap().kind, FULL);
        volume.told(&folder.path().join("other"), &Ok(()));
        volume.look();
        assert!(volume.state().failing.is_some(), "elsewhere it works");
        std::fs::remove_file(&cache).unwrap();
        std::fs::create_dir(&cache).unwrap();
        volume.look();
        assert!(volume.state().failing.is_none());
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_can_not_be_replaced_stays_a_failure_until_it_is_written() {
        let (folder, volume) = volume();
        let path = folder.path().join("NVDA_2024-01-02.json");
        std::fs::create_dir(&path).unwrap();
        volume.told(&path, &Err(io::ErrorKind::IsADirectory.into()));
        volume.look();
        let failing = volume.state().failing.unwrap();
        assert_eq!(failing.kind, NOT_WRITABLE);
        assert!(failing.message.contains("NVDA_2024-01-02.json"));
        volume.told(&path, &Ok(()));
        assert!(volume.state().failing.is_none());
    }

    #[test]
    fn a_volume_that_refuses_writes_was_never_writable() {
        let volume = Volume::new(Layout::new("/nonexistent"));
        volume.look();
        let state = volume.state();
        assert!(!state.was_writable);
        assert_eq!(state.never_writable().unwrap().kind, NOT_WRITABLE);
    }

    #[test]
    fn a_volume_that_is_full_from_the_start_is_no_reason_to_stay_away() {
        let state = VolumeState {
            failing: Some(failure(
                Path::new("/data"),
                &io::ErrorKind::StorageFull.into(),
            )),
            ..VolumeState::default()
        };
        assert!(state.never_writable().is_none());
    }
}
