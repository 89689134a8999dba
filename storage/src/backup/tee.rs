//! One stream of bytes to several destinations: one that fails drops out, the others go on.
//!
//! In come uploads and bytes, out comes how each destination fared.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::report::{BackupError, DestinationReport};
use crate::archive::digest::Digest;
use crate::archive::name::ArchiveName;
use crate::destination::{Destination, DestinationError, Upload};

/// So many names are tried, a second apart.
const MAX_NAMES: usize = 120;

/// The destinations of one archive.
pub struct Tee {
    uploads: Vec<Option<Box<dyn Upload>>>,
    fates: Fates,
    hasher: Sha256,
    bytes: u64,
}

/// How each destination fares; read also while the stream lies behind an encryption.
#[derive(Clone)]
pub struct Fates {
    least: usize,
    reports: Arc<Mutex<Vec<DestinationReport>>>,
}

impl Fates {
    /// A copy.
    pub fn reports(&self) -> Vec<DestinationReport> {
        match self.reports.lock() {
            Ok(reports) => reports.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    fn set(&self, index: usize, result: Result<(), &DestinationError>) {
        let mut reports = match self.reports.lock() {
            Ok(reports) => reports,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some(report) = reports.get_mut(index) {
            report.is_stored = result.is_ok();
            report.error = result.err().map(ToString::to_string);
        }
    }

    /// The error that too few destinations work.
    pub fn error(&self) -> BackupError {
        let destinations = self.reports();
        BackupError::Destinations {
            stored: destinations.iter().filter(|one| one.is_stored).count(),
            wanted: self.least,
            destinations,
        }
    }
}

impl Tee {
    /// Claims one name at all destinations that work, of which there must be `least`.
    pub fn claim(
        destinations: &[Box<dyn Destination>],
        now: Timestamp,
        encrypted: bool,
        least: usize,
    ) -> Result<(ArchiveName, Self), BackupError> {
        let first = ArchiveName::at(now, encrypted);
        let mut name = first;
        for _ in 0..MAX_NAMES {
            let fates = Self::none(destinations, least);
            if let Some(uploads) = claim_all(destinations, name, &fates) {
                let tee = Self {
                    uploads,
                    fates,
                    hasher: Sha256::new(),
                    bytes: 0,
                };
                return if tee.alive() < least {
                    Err(tee.fates.error())
                } else {
                    Ok((name, tee))
                };
            }
            name = name.next();
        }
        Err(BackupError::Names { first })
    }

    /// How destinations fare that are too few to begin.
    pub fn none(destinations: &[Box<dyn Destination>], least: usize) -> Fates {
        Fates {
            least,
            reports: Arc::new(Mutex::new(unstored(destinations))),
        }
    }

    fn alive(&self) -> usize {
        self.uploads.iter().flatten().count()
    }

    /// Bytes that were written.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of what was written.
    pub fn sha256(&self) -> Digest {
        Digest::finish(self.hasher.clone())
    }

    /// How the destinations fare, now and later.
    pub fn fates(&self) -> Fates {
        self.fates.clone()
    }

    /// Gives the archive its name everywhere, with `meta` beside it.
    pub fn finish(self, meta: &[u8]) -> Fates {
        for (index, upload) in self.uploads.into_iter().enumerate() {
            if let Some(upload) = upload {
                let finished = upload.finish(meta);
                self.fates.set(index, finished.as_ref().copied());
            }
        }
        self.fates
    }
}

/// `None` if the name is taken anywhere.
fn claim_all(
    destinations: &[Box<dyn Destination>],
    name: ArchiveName,
    fates: &Fates,
) -> Option<Vec<Option<Box<dyn Upload>>>> {
    let mut uploads = Vec::new();
    for (index, destination) in destinations.iter().enumerate() {
        match destination.claim(name) {
            Ok(None) => return None,
            Ok(upload) => uploads.push(upload),
            Err(error) => {
                fates.set(index, Err(&error));
                uploads.push(None);
            }
        }
    }
    Some(uploads)
}

fn unstored(destinations: &[Box<dyn Destination>]) -> Vec<DestinationReport> {
    let labels = destinations.iter().map(|destination| destination.label());
    let report = |destination| DestinationReport {
        destination,
        is_stored: false,
        error: None,
    };
    labels.map(report).collect()
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (index, slot) in self.uploads.iter_mut().enumerate() {
            if let Some(upload) = slot
                && let Err(error) = upload.write_all(bytes)
            {
                self.fates.set(index, Err(&error));
                // Dropping an upload removes what it has written.
                *slot = None;
            }
        }
        if self.alive() < self.fates.least {
            return Err(io::Error::other("too few destinations are left"));
        }
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
