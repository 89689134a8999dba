//! Looking at an archive: are its bytes those that were written, is every file in it readable, does its model work?
//!
//! In come a destination and a name; out comes a report with the level that was reached and what is wrong. Nothing is
//! changed: the caller keeps the result.

use std::fmt;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::archive::digest::Digest;
use crate::archive::member::TRAILER_LENGTH;
use crate::archive::meta::Level;
use crate::archive::reader::Archive;
use crate::chain::{Chain, Link, read_meta};
use crate::decrypt::Identity;
use crate::destination::{Destination, ReadAt};
use crate::extract::pass::{Pass, Purpose};
use crate::extract::survey;
use crate::extract::work::Faults;
use crate::progress::Progress;
use crate::snapshot::{Extracted, Snapshot, SnapshotError};

/// Bytes that are read at once when only the file is hashed.
const BLOCK: usize = 1 << 20;

/// Says whether a restored volume works.
pub trait Prover {
    /// Looks at the volume restored to `root`; an error is a sentence for people.
    fn prove(&self, root: &Path) -> Result<(), String>;
}

/// What verify looks at and how far it goes.
pub struct Request<'request> {
    /// The level that is wanted.
    pub level: Level,
    /// What opens an encrypted archive.
    pub identities: &'request [Identity],
    /// SHA-256 that the run which wrote the archive reported, if it is known from another place than the destination.
    pub known: Option<Digest>,
    /// For [`Level::Proven`]: an existing empty directory to restore to, and who looks at it.
    pub prover: Option<(&'request Path, &'request dyn Prover)>,
    /// Who is told how far it is.
    pub progress: &'request dyn Progress,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Request")
            .field("level", &self.level)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// The level that was reached; `None` when something is wrong with the bytes.
    pub level: Option<Level>,
    /// What is wrong: each names the archive, and the file where one is. Empty for a good archive.
    pub problems: Vec<SnapshotError>,
    /// What a person should know, such as that the file beside the archive is missing.
    pub notes: Vec<String>,
    /// Regular files that were hashed, the base's included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// SHA-256 of the archive's file; `None` if it wasn't read to the end.
    pub sha256: Option<Digest>,
    /// Whether that was compared with one that isn't from the destination.
    pub is_attested: bool,
}

impl Report {
    /// Whether the wanted level was reached.
    pub fn is_good(&self, wanted: Level) -> bool {
        self.problems.is_empty() && self.level.is_some_and(|level| level >= wanted)
    }
}

/// Looks at the archive `name`. An error means that nothing could be found out; what is wrong is in the report.
pub fn verify(
    destination: &dyn Destination,
    name: &str,
    request: &Request<'_>,
) -> Result<Report, SnapshotError> {
    let mut report = match request.level {
        Level::Stored => stored(destination, name, request)?,
        Level::Readable | Level::Proven => readable(destination, name, request)?,
    };
    report.is_attested = report.level.is_some() && request.known.is_some();
    if request.level == Level::Proven && report.problems.is_empty() {
        prove(destination, name, request, &mut report)?;
    }
    Ok(report)
}

/// Whether an error says what is wrong with an archive, rather than that it couldn't be looked at.
const fn is_finding(error: &SnapshotError) -> bool {
    matches!(
        error,
        SnapshotError::Damaged { .. }
            | SnapshotError::Mismatch { .. }
            | SnapshotError::Hostile { .. }
    )
}

/// The file's SHA-256 against what is known of it; one that can be opened against its own end too.
fn stored(
    destination: &dyn Destination,
    name: &str,
    request: &Request<'_>,
) -> Result<Report, SnapshotError> {
    let mut report = Report::default();
    let file = destination
        .open(name)
        .map_err(|error| SnapshotError::Use {
            path: format!("{}: {}", error.destination, error.action),
            source: error.source,
        })?
        .ok_or_else(|| missing(destination, name))?;
    let beside = match read_meta(destination, name) {
        Ok(meta) => Some(meta.sha256),
        Err(note) => {
            report.notes.push(note);
            None
        }
    };
    request.progress.expect(1, file.size());
    let (before, found) = hash(name, file.as_ref(), request.progress)?;
    report.sha256 = Some(found);
    let expected = request.known.or(beside);
    if let Some(expected) = expected
        && expected != found
    {
        report.problems.push(SnapshotError::Mismatch {
            archive: name.to_owned(),
            found,
            expected,
        });
    }
    let opened = Archive::open(name, file, request.identities);
    // Its end is compared with the manifest that it points to.
    let opened = opened.and_then(|archive| archive.listing().map(|_| ()).map(|()| archive));
    let is_ended = match opened {
        Ok(archive) if !archive.is_encrypted() => {
            if archive.trailer().sha256 != before {
                report.problems.push(archive.damaged(
                    "its bytes have another SHA-256 than its end says, so some of them were changed",
                ));
            }
            true
        }
        Ok(_) | Err(SnapshotError::Locked { .. } | SnapshotError::Newer { .. }) => false,
        Err(error) if is_finding(&error) => {
            report.problems.push(error);
            false
        }
        Err(error) => return Err(error),
    };
    if report.problems.is_empty() && expected.is_none() && !is_ended {
        report.notes.push(format!(
            "{name}: no SHA-256 of it is known and it can't be opened, so nothing can be said about its bytes"
        ));
    } else if report.problems.is_empty() {
        report.level = Some(Level::Stored);
    }
    Ok(report)
}

fn missing(destination: &dyn Destination, name: &str) -> SnapshotError {
    SnapshotError::Use {
        path: format!("{}: {name}", destination.label()),
        source: io::Error::new(io::ErrorKind::NotFound, "there is no such backup"),
    }
}

/// SHA-256 of everything before an archive's end, and of everything.
fn hash(
    name: &str,
    file: &dyn ReadAt,
    progress: &dyn Progress,
) -> Result<(Digest, Digest), SnapshotError> {
    let size = file.size();
    let end = size.saturating_sub(TRAILER_LENGTH as u64);
    let mut hasher = Sha256::new();
    let mut before = hasher.clone();
    let mut buffer = vec![0; BLOCK];
    let mut offset = 0;
    while offset < size {
        let limit = if offset < end { end } else { size };
        let length = (limit - offset).min(BLOCK as u64) as usize;
        file.read_exact_at(&mut buffer[..length], offset)
            .map_err(|source| SnapshotError::Use {
                path: name.to_owned(),
                source,
            })?;
        hasher.update(&buffer[..length]);
        offset += length as u64;
        if offset == end {
            before = hasher.clone();
        }
        progress.advance(0, length as u64);
    }
    progress.advance(1, 0);
    Ok((Digest::finish(before), Digest::finish(hasher)))
}

/// Every byte, every member, every file, and the base's.
fn readable(
    destination: &dyn Destination,
    name: &str,
    request: &Request<'_>,
) -> Result<Report, SnapshotError> {
    let mut report = Report::default();
    let opened = Chain::open(destination, name, request.identities, request.known);
    let chain = match opened {
        Ok(chain) => chain,
        Err(error) if is_finding(&error) => {
            report.problems.push(error);
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    report.notes = chain.notes().to_vec();
    let survey = match survey(&chain, &|_| true, &mut |_, _| Ok(())) {
        Ok(survey) => survey,
        Err(error) if is_finding(&error) => {
            report.problems.push(error);
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    request
        .progress
        .expect(survey.wanted.files, survey.wanted.bytes);
    let faults = Faults::new(true);
    let parts = survey.late.into_iter().zip(&survey.digests);
    for (index, (link, (late, manifest))) in chain.links().zip(parts).enumerate() {
        let Link { archive, expected } = link;
        let pass = Pass {
            chain: &chain,
            link: index,
            archive,
            expected: *expected,
            late,
            manifest: *manifest,
            purpose: Purpose::Check,
            is_whole: true,
            threads: chain.threads(),
            faults: &faults,
            progress: request.progress,
        };
        let done = pass.run();
        let Extracted { files, bytes } = done.files;
        report.files += files;
        report.bytes += bytes;
        // The last link is the archive itself.
        report.sha256 = done.sha256;
    }
    for fault in faults.into_found() {
        if !is_finding(&fault) {
            return Err(fault);
        }
        report.problems.push(fault);
    }
    if report.problems.is_empty() {
        report.level = Some(Level::Readable);
    }
    Ok(report)
}

/// Restores to the scratch directory and asks.
fn prove(
    destination: &dyn Destination,
    name: &str,
    request: &Request<'_>,
    report: &mut Report,
) -> Result<(), SnapshotError> {
    let Some((scratch, prover)) = request.prover else {
        report
            .notes
            .push("nothing is here that could prove that the model works".to_owned());
        return Ok(());
    };
    // What is unpacked now must be what was looked at before.
    let chain = Chain::open(destination, name, request.identities, report.sha256)?;
    chain.extract(&|_| true, scratch, request.progress)?;
    match prover.prove(scratch) {
        Ok(()) => report.level = Some(Level::Proven),
        Err(reason) => report
            .notes
            .push(format!("{name} is readable, but isn't proven: {reason}")),
    }
    Ok(())
}
