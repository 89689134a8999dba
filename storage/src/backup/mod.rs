//! The writing side of backups: the volume goes into an archive, and the archive to one or more destinations.
//!
//! In come a [`Request`] and destinations, out comes a [`Report`]. Memory is bounded, files may change meanwhile, and an
//! archive has its final name only when it is whole. The volume's lock is held shared, so a restore waits.

mod base;
mod engine;
mod entry;
mod index;
mod large;
mod models;
mod plan;
mod read;
mod report;
mod request;
mod store;
mod tee;
mod work;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, Scope};

use tar::EntryType;
use uuid::Uuid;

pub use self::engine::MAX_THREADS;
pub use self::index::{Index, Lines};
pub use self::report::{BackupError, DestinationReport, Report, Warning};
pub use self::request::{DEFAULT_LEVEL, DEFAULT_LOGS_DAYS, DEFAULT_PATIENCE, Request};

use self::base::Choice;
use self::engine::{Engine, Failed};
use self::entry::EntryHeader;
use self::plan::Merge;
use self::read::{Hook, Reader};
use self::store::Coordinator;
use self::tee::Tee;
use self::work::{Shared, Worker};
use self::writer::{Writer, Written};
use crate::archive::category::Category;
use crate::archive::header::{self, Base, HEADER_PATH, Header, Kind};
use crate::archive::manifest::{Entry, Time};
use crate::archive::member::{Packer, TARGET};
use crate::archive::meta::{Meta, Suspect};
use crate::archive::name::ArchiveName;
use crate::atomic::FILE_MODE;
use crate::descriptor::open_root;
use crate::destination::Destination;
use crate::encrypt::{Encrypted, Recipients};
use crate::guard;
use crate::lock::{Mode as LockMode, VolumeLock};
use crate::progress::Progress;
use crate::restore::{self, Access, AllowSwitched};
use crate::walk::{Found, Walk};

/// Makes a backup. It ends in `backups/backup_schedule.log`, whatever becomes of it.
///
/// # Errors
/// If fewer destinations than wanted have it; what the others have is whole and stays.
pub fn run(
    request: &Request,
    destinations: &[Box<dyn Destination>],
    progress: &dyn Progress,
) -> Result<Report, BackupError> {
    run_hooked(request, destinations, progress, None)
}

fn run_hooked(
    request: &Request,
    destinations: &[Box<dyn Destination>],
    progress: &dyn Progress,
    hook: Option<&Hook<'_>>,
) -> Result<Report, BackupError> {
    request.check(destinations.len() + request.unreachable.len())?;
    let recipients = Recipients::parse(&request.recipients)?;
    let mut result = if destinations.len() < request.min_successful {
        Err(Tee::none(destinations, request.min_successful).error())
    } else {
        locked(request, destinations, progress, hook, recipients)
    };
    // They count for the log and the report as those do that failed later.
    if let Ok(Report { destinations, .. }) | Err(BackupError::Destinations { destinations, .. }) =
        &mut result
    {
        destinations.extend(request.unreachable.iter().cloned());
    }
    if let Err(error) = index::log(&request.layout, request.now, &result)
        && let Ok(report) = &mut result
    {
        report.warnings.push(Warning {
            path: index::LOG.to_owned(),
            message: format!(
                "the line about this backup can't be written: {error}: check the volume's space"
            ),
        });
    }
    result
}

fn locked(
    request: &Request,
    destinations: &[Box<dyn Destination>],
    progress: &dyn Progress,
    hook: Option<&Hook<'_>>,
    recipients: Recipients,
) -> Result<Report, BackupError> {
    let volume = |path: &Path, source| BackupError::Volume {
        path: path.display().to_string(),
        source,
    };
    // A volume that a restore has left between two states must not get into an archive.
    let (_shared, _) = restore::enter(
        &request.layout,
        Access::of(&request.layout),
        AllowSwitched::No,
        request.patience,
    )?;
    let index =
        Index::open(&request.layout).map_err(|source| volume(&request.layout.index(), source))?;
    let _alone = VolumeLock::take(&index.lock(), LockMode::Exclusive, request.patience)?;
    index
        .sweep()
        .map_err(|source| volume(index.directory(), source))?;
    let run = Run {
        request,
        destinations,
        progress,
        hook,
        recipients,
        index,
        metas: Vec::new(),
    };
    run.all()
}

/// One run, under its locks.
struct Run<'r> {
    request: &'r Request,
    destinations: &'r [Box<dyn Destination>],
    progress: &'r dyn Progress,
    hook: Option<&'r Hook<'r>>,
    recipients: Recipients,
    index: Index,
    metas: Vec<Meta>,
}

/// An archive at its destinations, without its name yet.
struct Archive {
    name: ArchiveName,
    id: Uuid,
    base: Option<Base>,
    written: Written,
    skipped: u64,
}

/// Why an archive was not written.
enum Broken {
    /// The base's manifest can't be read: a full backup is needed.
    Base(String),
    Error(BackupError),
}

impl From<BackupError> for Broken {
    fn from(error: BackupError) -> Self {
        Self::Error(error)
    }
}

impl Run<'_> {
    fn all(mut self) -> Result<Report, BackupError> {
        self.metas =
            self.index
                .metas(&self.request.origin)
                .map_err(|source| BackupError::Volume {
                    path: self.index.directory().display().to_string(),
                    source,
                })?;
        if let Some(last) = self.metas.first() {
            let sum =
                |of: fn(&crate::archive::meta::Total) -> u64| last.totals.values().map(of).sum();
            self.progress
                .expect(sum(|total| total.files), sum(|total| total.bytes));
        }
        let choice = match self.request.mode {
            Kind::Full => Choice::Full(None),
            Kind::Incremental => base::choose(
                self.request,
                &self.metas,
                self.destinations,
                &self.recipients.ids(),
            ),
        };
        let (base, mut why_full) = match choice {
            Choice::Base(base) => (Some(*base), None),
            Choice::Full(why) => (None, why),
        };
        let archive = match self.archive(base.as_ref()) {
            Err(Broken::Base(reason)) => {
                why_full = Some(format!(
                    "the index of the last full backup is damaged: {reason}"
                ));
                self.archive(None)
            }
            other => other,
        };
        let archive = archive.map_err(|broken| match broken {
            Broken::Error(error) => error,
            Broken::Base(reason) => BackupError::Internal(reason),
        })?;
        self.finish(archive, why_full)
    }

    /// Writes the archive's bytes.
    fn archive(&self, base: Option<&Meta>) -> Result<Archive, Broken> {
        let root = self.request.layout.root();
        let failed = |source: io::Error| BackupError::Volume {
            path: root.display().to_string(),
            source,
        };
        let mut lines: Option<Lines<_>> = None;
        if let Some(base) = base {
            let opened = self.index.manifest(base);
            lines = Some(opened.map_err(|error| Broken::Base(error.to_string()))?);
        }
        let walk = Walk::new(root, &self.request.include).map_err(failed)?;
        let shared = Shared {
            reader: Reader::new(open_root(root).map_err(failed)?, self.hook),
            volume: self.request.origin.volume,
            progress: self.progress,
            buffers: Mutex::default(),
            zeros: vec![0; TARGET],
        };
        let (name, tee) = Tee::claim(
            self.destinations,
            self.request.now,
            !self.recipients.is_empty(),
            self.request.min_successful,
        )?;
        let fates = tee.fates();
        let id = Uuid::new_v4();
        let base = base.map(|base| Base {
            id: base.id,
            name: base.name,
            sha256: base.sha256,
        });
        let header = self.header(id, base.clone())?;
        let mtime = Time {
            seconds: self.request.now.as_second(),
            nanoseconds: 0,
        };
        let out = Encrypted::begin(&self.recipients, tee).map_err(|_| fates.error())?;
        let threads = self.request.threads();
        let packer = || {
            Packer::new(self.request.level)
                .ok_or_else(|| BackupError::Internal("the level is unknown".to_owned()))
        };
        thread::scope(|scope| {
            let mut engine = Engine::start(scope, &shared, threads, &packer, |manifest| {
                Writer::new(out, fates, manifest, mtime)
            })?;
            let oldest_log = Some(self.request.oldest_log());
            let walk = ahead(scope, threads, walk);
            let lines = ahead(scope, threads, lines.into_iter().flatten());
            let own = Worker::new(&shared, packer()?);
            let coordinator = Coordinator::new(&mut engine, &shared, own);
            match store(coordinator, header, Merge::new(walk, lines, oldest_log)) {
                Ok(Ok(skipped)) => Ok(Archive {
                    name,
                    id,
                    base,
                    written: engine.finish(None)?,
                    skipped,
                }),
                Ok(Err(reason)) => {
                    // The claimed names are freed when the engine is dropped.
                    drop(engine);
                    Err(Broken::Base(reason))
                }
                Err(failed) => match engine.finish(Some(failed)) {
                    Err(error) => Err(error.into()),
                    Ok(_) => Err(BackupError::Internal("a failure was lost".to_owned()).into()),
                },
            }
        })
    }

    /// The first entry, packed on its own.
    fn header(&self, id: Uuid, base: Option<Base>) -> Result<Vec<u8>, BackupError> {
        let header = Header {
            format: header::FORMAT,
            id,
            origin: self.request.origin.clone(),
            kind: kind(base.as_ref()),
            base,
            created_at: self.request.now,
            include: self.include(),
            logs_days: self.request.logs_days,
            generator: self.request.generator.clone(),
        };
        let text = serde_json::to_vec_pretty(&header)
            .map_err(|error| BackupError::Internal(error.to_string()))?;
        let mut raw = Vec::new();
        EntryHeader {
            path: HEADER_PATH.as_bytes(),
            kind: EntryType::Regular,
            link: &[],
            size: text.len() as u64,
            mode: FILE_MODE,
            mtime: Time {
                seconds: self.request.now.as_second(),
                nanoseconds: 0,
            },
        }
        .write(&mut raw);
        raw.extend(&text);
        entry::pad(&mut raw, text.len() as u64);
        Ok(raw)
    }

    fn include(&self) -> Vec<Category> {
        base::sorted(&self.request.include)
    }

    /// Gives the archive its name and keeps what the next run needs.
    fn finish(&self, archive: Archive, why_full: Option<String>) -> Result<Report, BackupError> {
        let Archive {
            name,
            id,
            base,
            written,
            skipped,
        } = archive;
        let outcome = written.outcome;
        let measures = base::measures(self.request, &self.metas, self.destinations);
        let reasons = guard::reasons(&measures, &outcome.tally);
        let meta = Meta {
            format: header::FORMAT,
            id,
            name,
            origin: self.request.origin.clone(),
            kind: kind(base.as_ref()),
            base: base.clone(),
            created_at: self.request.now,
            include: self.include(),
            stored_files: outcome.files,
            stored_bytes: outcome.bytes,
            archive_bytes: written.tee.bytes(),
            sha256: written.tee.sha256(),
            key_ids: self.recipients.ids(),
            totals: outcome.tally.totals,
            guarded: outcome.tally.guarded,
            suspect: (!reasons.is_empty()).then(|| Suspect {
                reasons: reasons.clone(),
                accepted: self.request.accept_shrink,
            }),
            verification: None,
        };
        let text = serde_json::to_vec_pretty(&meta)
            .map_err(|error| BackupError::Internal(error.to_string()))?;
        let mut warnings = outcome.warnings;
        // Before the archive has its name: a run that is killed leaves none that nobody knows.
        if let Err(error) = self.index.attest(&meta) {
            warnings.push(Warning {
                path: "backups/.index/known.jsonl".to_owned(),
                message: format!(
                    "it can't be written ({error}), so `restore latest` passes this backup over; restore it as {name}, or with --sha256 {}: check the volume's space, then make another backup",
                    meta.sha256
                ),
            });
        }
        let fates = written.tee.finish(&text);
        let destinations = fates.reports();
        let stored = destinations.iter().filter(|one| one.is_stored).count();
        if stored > 0 {
            let manifest = base.is_none().then_some(&written.manifest[..]);
            warnings.extend(self.remember(&meta, manifest, &measures));
        }
        if stored < self.request.min_successful {
            return Err(fates.error());
        }
        warnings.sort_unstable();
        warnings.dedup();
        Ok(Report {
            id,
            name,
            kind: meta.kind,
            base,
            why_full,
            files: meta.stored_files,
            bytes: meta.stored_bytes,
            archive_bytes: meta.archive_bytes,
            sha256: meta.sha256,
            totals: meta.totals,
            destinations,
            suspect: if self.request.accept_shrink {
                Vec::new()
            } else {
                reasons
            },
            warnings,
            skipped,
        })
    }

    /// Keeps what the next run needs, and nothing else.
    fn remember(
        &self,
        meta: &Meta,
        manifest: Option<&[Arc<[u8]>]>,
        measures: &BTreeMap<Category, Meta>,
    ) -> Option<Warning> {
        let failed = |message| Warning {
            path: "backups/.index".to_owned(),
            message,
        };
        if let Err(error) = self.index.record(meta, manifest) {
            return Some(failed(format!(
                "it can't be written ({error}), so the next incremental backup will be a full one: check the volume's space"
            )));
        }
        let measures: Vec<Uuid> = measures.values().map(|meta| meta.id).collect();
        let pruned = self.index.prune(&measures, self.request.now);
        pruned.err().map(|error| {
            failed(format!(
                "what no backup needs any more can't be removed from it ({error}): check the owner (1001) of its files"
            ))
        })
    }
}

const fn kind(base: Option<&Base>) -> Kind {
    match base {
        Some(_) => Kind::Incremental,
        None => Kind::Full,
    }
}

/// Hands in everything; the inner error is that of the base's manifest.
fn store<'scope, 'a: 'scope, W, B>(
    mut coordinator: Coordinator<'_, 'scope, 'a>,
    header: Vec<u8>,
    plans: Merge<W, B>,
) -> Result<Result<u64, String>, Failed>
where
    W: Iterator<Item = Found>,
    B: Iterator<Item = Result<Entry, String>>,
{
    coordinator.header(header)?;
    for plan in plans {
        match plan {
            Ok(plan) => coordinator.plan(plan)?,
            Err(reason) => return Ok(Err(reason)),
        }
    }
    coordinator.end().map(Ok)
}

/// Lets another thread work ahead, where there are several.
fn ahead<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    threads: usize,
    items: impl Iterator<Item = T> + Send + 'scope,
) -> Box<dyn Iterator<Item = T> + 'scope> {
    const BATCH: usize = 256;
    if threads <= 1 {
        return Box::new(items);
    }
    let (batches, received) = sync_channel::<Vec<T>>(4);
    scope.spawn(move || {
        let mut items = items.fuse();
        loop {
            let batch: Vec<_> = items.by_ref().take(BATCH).collect();
            // Nobody waits any more when the run has failed.
            if batch.is_empty() || batches.send(batch).is_err() {
                return;
            }
        }
    });
    Box::new(received.into_iter().flatten())
}

#[cfg(test)]
mod tests;
