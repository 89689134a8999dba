//! A backup seen through a list of paths: only these, what is below them, and the directories above.

use std::io;
use std::path::Path;
use std::sync::Mutex;

use anyhow::bail;
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::manifest::Entry;
use stockpredictor_storage::archive::path::RelativePath;
use stockpredictor_storage::progress::Progress;
use stockpredictor_storage::snapshot::{Extracted, Snapshot, SnapshotError};

/// The part of a snapshot that was asked for; all of it without paths.
pub struct Selection<'a> {
    inner: &'a (dyn Snapshot + Sync),
    paths: Vec<RelativePath>,
    /// For each path whether the backup has it.
    found: Mutex<Vec<bool>>,
}

impl<'a> Selection<'a> {
    /// Nothing but `paths`, unless there are none.
    pub fn new(inner: &'a (dyn Snapshot + Sync), paths: Vec<RelativePath>) -> Self {
        let found = Mutex::new(vec![false; paths.len()]);
        Self {
            inner,
            paths,
            found,
        }
    }

    /// Whether every path was in the backup.
    pub fn check(&self) -> anyhow::Result<()> {
        let found = self
            .found
            .lock()
            .map(|found| found.clone())
            .unwrap_or_default();
        for (path, found) in self.paths.iter().zip(found) {
            if !found {
                bail!("the backup has no {path}");
            }
        }
        Ok(())
    }

    fn has(&self, path: &RelativePath) -> bool {
        self.paths.is_empty()
            || self.paths.iter().any(|wanted| {
                path.is_within(wanted.as_bytes()) || wanted.is_within(path.as_bytes())
            })
    }
}

impl Snapshot for Selection<'_> {
    fn include(&self) -> &[Category] {
        self.inner.include()
    }

    fn entries(&self, each: &mut dyn FnMut(&Entry) -> io::Result<()>) -> Result<(), SnapshotError> {
        self.inner.entries(&mut |entry| {
            if let Some(at) = self.paths.iter().position(|wanted| *wanted == entry.path)
                && let Ok(mut found) = self.found.lock()
            {
                found[at] = true;
            }
            if self.has(&entry.path) {
                each(entry)
            } else {
                Ok(())
            }
        })
    }

    fn extract(
        &self,
        wanted: &(dyn Fn(&RelativePath) -> bool + Sync),
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<Extracted, SnapshotError> {
        self.inner
            .extract(&|path| self.has(path) && wanted(path), target, progress)
    }
}
