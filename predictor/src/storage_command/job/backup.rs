//! The job `backup`: one archive at the destinations, a look at it, retention, and what lies there afterwards.
//!
//! In comes the document, out goes the message. A destination that fails doesn't stop the others; old archives go only where
//! the new one lies and was found good.

use jiff::Timestamp;
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::header::Origin;
use stockpredictor_storage::archive::meta::Level;
use stockpredictor_storage::backup::{self, BackupError, DestinationReport, Report, Request};
use stockpredictor_storage::catalog::Catalog;
use stockpredictor_storage::decrypt::Identity;
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::marker::{Marker, State};
use stockpredictor_storage::period::Period;
use stockpredictor_storage::restore::{Access, AllowSwitched};
use stockpredictor_storage::verify;

use super::document::{Backup, Look};
use super::failure::{Failure, Reason, of_snapshot};
use super::interrupt::Stop;
use super::inventory::Inventory;
use super::message::{self, Message, second};
use super::place::Missing;
use crate::storage_command::output::Output;
use crate::storage_command::{accept, level, place, progress, retain, settle};

/// A destination that can be reached.
type Reached = Box<dyn Destination>;

/// A volume that may be backed up.
pub fn ready(layout: &Layout) -> Result<Marker, Failure> {
    let not_ready = |told: &str| {
        Failure::new(
            Reason::VolumeNotReady,
            format!(
                "{} {told}: wait for the predictor's first start",
                layout.root().display()
            ),
        )
    };
    let marker = Marker::read(layout)?.ok_or_else(|| not_ready("is no volume of ours yet"))?;
    if marker.state == State::Ready {
        Ok(marker)
    } else {
        Err(not_ready("is not set up completely"))
    }
}

/// Makes the backup.
pub fn run(job: &Backup, stop: &Stop, message: &mut Message) -> Result<(), Failure> {
    let layout = Layout::new(&job.root);
    settle::settled(&layout, Access::Write, AllowSwitched::No)?;
    let marker = ready(&layout)?;
    message.destinations = told(job);
    let sites = reach(job, stop, message)?;
    accept_all(job, &layout, &sites, message);
    let now = Timestamp::now();
    let request = request(job, &layout, &marker, now)?;
    let (indices, destinations): (Vec<usize>, Vec<Reached>) = sites.into_iter().unzip();
    let watch = progress::watch(Output::Text);
    let done = match backup::run(&request, &destinations, &*watch) {
        Ok(done) => done,
        Err(error) => {
            if let BackupError::Destinations { destinations, .. } = &error {
                take_fates(message, &indices, destinations);
            }
            return Err(error.into());
        }
    };
    drop(watch);
    take_fates(message, &indices, &done.destinations);
    told_backup(message, &done, &request);
    let run = Run {
        job,
        request: &request,
        done: &done,
        now,
    };
    let good = run.finish(&indices, &destinations, message);
    inventory(job, &indices, &destinations, message);
    if good < job.min_successful {
        return Err(Failure::new(
            Reason::DestinationsFailed,
            format!(
                "{} was written, but is good at only {good} destinations, {} must have it",
                done.name, job.min_successful
            ),
        ));
    }
    message.say(sentence(&done, message));
    Ok(())
}

fn told(job: &Backup) -> Vec<message::Destination> {
    job.destinations
        .iter()
        .map(|place| message::Destination {
            name: place.name.clone(),
            ..message::Destination::default()
        })
        .collect()
}

/// Those that answer, with their positions in the document; an error if they are too few.
fn reach(
    job: &Backup,
    stop: &Stop,
    message: &mut Message,
) -> Result<Vec<(usize, Reached)>, Failure> {
    let mut sites = Vec::new();
    let mut failures: Vec<Failure> = Vec::new();
    for (index, place) in job.destinations.iter().enumerate() {
        let reached = place
            .reach(Some(&job.root), &job.origin, Missing::Make, stop)
            // A store is asked for the first time here.
            .and_then(|site| site.list().map(|_| site).map_err(Failure::from));
        match reached {
            Ok(site) => sites.push((index, site)),
            Err(failure) => {
                message.warn(format!("{}: {}", place.name, failure.text));
                if let Some(told) = message.destinations.get_mut(index) {
                    told.error = Some(failure.text.clone());
                }
                failures.push(failure.at(&place.name));
            }
        }
    }
    if sites.len() >= job.min_successful {
        return Ok(sites);
    }
    let texts: Vec<_> = failures.iter().map(|one| one.text.as_str()).collect();
    let reached = match sites.len() {
        0 => "no destination can be reached".to_owned(),
        some => format!(
            "{some} of {} destinations can be reached, and {} must have the backup",
            job.destinations.len(),
            job.min_successful
        ),
    };
    let text = format!("{reached}: {}", texts.join("; "));
    // Several causes have no word of their own.
    let reason = match failures.first() {
        Some(first) if failures.iter().all(|one| one.reason == first.reason) => first.reason,
        _ => Reason::DestinationsFailed,
    };
    Err(Failure::new(reason, text))
}

fn accept_all(job: &Backup, layout: &Layout, sites: &[(usize, Reached)], message: &mut Message) {
    if job.accept.is_empty() {
        return;
    }
    let mut found = Vec::new();
    for (_, site) in sites {
        match accept::accept_at(site.as_ref(), &job.accept) {
            Ok(ids) => found.extend(ids),
            Err(error) => message.warn(format!("{}: {error:#}", site.label())),
        }
    }
    if let Err(error) = accept::accept_in_index(layout, &job.accept) {
        message.warn(format!("backups/.index: {error:#}"));
    }
    for id in job.accept.iter().filter(|id| !found.contains(id)) {
        message.warn(format!(
            "no destination has a backup with id {id}, so nothing was accepted: copy the id from the status"
        ));
    }
}

fn request(
    job: &Backup,
    layout: &Layout,
    marker: &Marker,
    now: Timestamp,
) -> Result<Request, Failure> {
    let origin = Origin {
        namespace: job.origin.namespace.clone(),
        predictor: job.origin.predictor.clone(),
        backup: job.origin.backup.clone().unwrap_or_default(),
        ..Origin::manual(marker.id)
    };
    Ok(Request {
        mode: job.mode,
        full_every: job.full_every.map(Period::duration),
        include: if job.include.is_empty() {
            Category::ALL.to_vec()
        } else {
            job.include.clone()
        },
        logs_days: job.logs_days,
        threads: place::threads().map_err(|error| Failure::new(Reason::InvalidJob, error))?,
        recipients: job.recipients.clone(),
        min_successful: job.min_successful,
        ..Request::new(layout.clone(), origin, now)
    })
}

fn take_fates(message: &mut Message, indices: &[usize], fates: &[DestinationReport]) {
    for (index, fate) in indices.iter().zip(fates) {
        let Some(told) = message.destinations.get_mut(*index) else {
            continue;
        };
        told.stored = fate.is_stored;
        told.error.clone_from(&fate.error);
        if let Some(error) = &fate.error {
            let text = format!("{}: {error}", told.name);
            message.warn(text);
        }
    }
}

fn told_backup(message: &mut Message, done: &Report, request: &Request) {
    let stored = message.destinations.iter().filter(|one| one.stored);
    let destinations = stored.map(|one| one.name.clone()).collect();
    message.backup = Some(message::Backup {
        name: done.name,
        id: done.id,
        kind: done.kind,
        base: done.base.as_ref().map(|base| base.name),
        created_at: second(request.now),
        bytes: done.archive_bytes,
        files: done.files,
        sha256: done.sha256,
        key_ids: request.recipients.clone(),
        level: None,
        verified_at: None,
        suspect: done.suspect.clone(),
        destinations,
    });
    if !done.suspect.is_empty() {
        message.warn(format!(
            "the backup is suspect: {}; if that was intended, accept {}",
            done.suspect.join("; "),
            done.id
        ));
    }
    if done.skipped > 0 {
        message.warn(format!(
            "{} FIFOs, sockets or devices can't be in an archive",
            done.skipped
        ));
    }
    for warning in &done.warnings {
        message.warn(format!("{}: {}", warning.path, warning.message));
    }
}

/// What happens once the archive is written.
struct Run<'a> {
    job: &'a Backup,
    request: &'a Request,
    done: &'a Report,
    now: Timestamp,
}

impl Run<'_> {
    /// Looks at the archive wherever it lies, and applies retention where it is good; at how many it is.
    fn finish(&self, indices: &[usize], sites: &[Reached], message: &mut Message) -> usize {
        let identities = self.identities(message);
        let mut good = 0;
        for (index, site) in indices.iter().zip(sites) {
            let Some(told) = message
                .destinations
                .get_mut(*index)
                .filter(|told| told.stored)
            else {
                continue;
            };
            let name = told.name.clone();
            let found = self.verify(site.as_ref(), &identities);
            match found {
                Ok(level) => {
                    told.verified = Some(level);
                    good += 1;
                    take_level(message, level);
                    self.retain(*index, site.as_ref(), message);
                }
                Err(failure) => {
                    told.error = Some(failure.text.clone());
                    message.warn(format!("{name}: {}", failure.text));
                }
            }
        }
        good
    }

    fn identities(&self, message: &mut Message) -> Vec<Identity> {
        let Some(path) = &self.job.identity else {
            return Vec::new();
        };
        Identity::read_file(path).unwrap_or_else(|error| {
            // What isn't encrypted can be read all the same.
            let but = if self.job.recipients.is_empty() {
                "the identity can't be read"
            } else {
                "the archive is only looked at from outside"
            };
            message.warn(format!("{but}: {error}"));
            Vec::new()
        })
    }

    fn verify(&self, site: &dyn Destination, identities: &[Identity]) -> Result<Level, Failure> {
        let is_sealed = self.done.name.is_encrypted() && identities.is_empty();
        let level = if self.job.verify == Look::Stored || is_sealed {
            Level::Stored
        } else {
            Level::Readable
        };
        let watch = progress::watch(Output::Text);
        watch.step(&format!(
            "🔍 Verifying {} at {}",
            self.done.name,
            site.label()
        ));
        let wanted = verify::Request {
            level,
            identities,
            known: Some(self.done.sha256),
            prover: None,
            progress: &*watch,
        };
        let found = verify::verify(site, &self.done.name.to_string(), &wanted)?;
        level::note(site, self.done.name, &found)
            .map_err(|error| Failure::new(Reason::DestinationsFailed, format!("{error:#}")))?;
        match (found.problems.first(), found.level) {
            (Some(problem), _) => Err(Failure::new(of_snapshot(problem), problem)),
            (None, Some(level)) => Ok(level),
            (None, None) => Err(Failure::new(
                Reason::Damaged,
                "nothing can be said about the archive's bytes",
            )),
        }
    }

    fn retain(&self, index: usize, site: &dyn Destination, message: &mut Message) {
        let Some(place) = self.job.destinations.get(index) else {
            return;
        };
        let done = retain::retain(
            site,
            &self.request.origin,
            &place.policy(),
            self.done.id,
            self.now,
        );
        if let Some(told) = message.destinations.get_mut(index) {
            told.deleted = done.deleted.len();
        }
        if let Some(error) = done.error {
            message.warn(format!("{}: old backups not removed: {error}", place.name));
        }
    }
}

/// The backup's level is the best that was reached anywhere.
fn take_level(message: &mut Message, level: Level) {
    if let Some(backup) = &mut message.backup
        && Some(level) > backup.level
    {
        backup.level = Some(level);
        backup.verified_at = Some(second(Timestamp::now()));
    }
}

fn inventory(job: &Backup, indices: &[usize], sites: &[Reached], message: &mut Message) {
    let mut inventory = Inventory::default();
    for (index, site) in indices.iter().zip(sites) {
        let Some(place) = job.destinations.get(*index) else {
            continue;
        };
        match Catalog::read(site.as_ref()) {
            Ok(catalog) => {
                let (archives, bytes) = inventory.add(&place.name, &catalog, &job.origin);
                if let Some(told) = message.destinations.get_mut(*index) {
                    (told.archives, told.bytes) = (Some(archives), Some(bytes));
                }
            }
            Err(error) => message.warn(format!("{}: {error}", place.name)),
        }
    }
    inventory.tell(message);
}

fn sentence(done: &Report, message: &Message) -> String {
    let names = |stored: bool| {
        let places = message.destinations.iter();
        let names: Vec<_> = places
            .filter(|one| one.stored == stored)
            .map(|one| one.name.as_str())
            .collect();
        names.join(", ")
    };
    let why = done
        .why_full
        .as_ref()
        .map_or_else(String::new, |why| format!(" (full, because {why})"));
    match (names(true), names(false)) {
        (at, not) if not.is_empty() => format!("{} is at {at}{why}", done.name),
        (at, not) => format!("{} is at {at}, but not at {not}{why}", done.name),
    }
}
