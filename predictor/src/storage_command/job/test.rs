//! The job `test`: the newest restorable backup is restored to scratch space, where its models must predict what they did.
//!
//! In comes the document, out goes the message; the level is noted beside the archive.

use jiff::Timestamp;
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::meta::{Level, Meta};
use stockpredictor_storage::catalog::{Catalog, Record};
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::known::Known;
use stockpredictor_storage::select::{self, Scope, SelectError, Wanted};
use stockpredictor_storage::verify::{self, Prover};

use super::document::Test;
use super::failure::{Failure, Reason, of_snapshot};
use super::interrupt::Stop;
use super::inventory::{Inventory, is_of};
use super::message::{self, Message, second};
use super::place::Missing;
use super::source::{Attested, identities};
use crate::storage_command::output::Output;
use crate::storage_command::{level, progress, prove};

/// A destination with what lies there.
struct Site {
    index: usize,
    destination: Box<dyn Destination>,
    catalog: Catalog,
}

/// The archive that is tested.
struct Chosen<'a> {
    site: &'a Site,
    record: &'a Record,
    meta: &'a Meta,
}

/// Tests the newest backup.
pub fn run(job: &Test, stop: &Stop, message: &mut Message) -> Result<(), Failure> {
    let identities = identities(job.identity.as_deref())?;
    let sites = reach(job, stop, message)?;
    let owned = sites
        .iter()
        .map(|site| (site, of_owner(job, &site.catalog)))
        .collect::<Vec<_>>();
    let attested = Attested::new(job.known.clone(), Known::default());
    let tested =
        choose(job, &owned, &attested).and_then(|chosen| test(job, &chosen, &identities, message));
    // What lies there is told in any case.
    let mut inventory = Inventory::default();
    for site in &sites {
        let Some(place) = job.destinations.get(site.index) else {
            continue;
        };
        let catalog = Catalog::read(site.destination.as_ref());
        let catalog = catalog.as_ref().unwrap_or(&site.catalog);
        let (archives, bytes) = inventory.add(&place.name, catalog, &job.origin);
        if let Some(told) = message.destinations.get_mut(site.index) {
            (told.archives, told.bytes) = (Some(archives), Some(bytes));
        }
    }
    inventory.tell(message);
    tested
}

fn reach(job: &Test, stop: &Stop, message: &mut Message) -> Result<Vec<Site>, Failure> {
    let mut sites = Vec::new();
    let mut first = None;
    for (index, place) in job.destinations.iter().enumerate() {
        let mut told = message::Destination {
            name: place.name.clone(),
            ..message::Destination::default()
        };
        let reached = place
            .reach(job.root.as_deref(), &job.origin, Missing::Refuse, stop)
            .and_then(|destination| {
                let catalog = Catalog::read(destination.as_ref())?;
                Ok((destination, catalog))
            });
        match reached {
            Ok((destination, catalog)) => sites.push(Site {
                index,
                destination,
                catalog,
            }),
            Err(failure) => {
                message.warn(format!("{}: {}", place.name, failure.text));
                told.error = Some(failure.text.clone());
                first.get_or_insert(failure.at(&place.name));
            }
        }
        message.destinations.push(told);
    }
    match first {
        Some(failure) if sites.is_empty() => Err(failure),
        _ => Ok(sites),
    }
}

/// The owner's records, sorted as before.
fn of_owner(job: &Test, catalog: &Catalog) -> Vec<Record> {
    let is_ours = |record: &&Record| {
        let meta = record.meta.as_ref();
        meta.is_none_or(|meta| is_of(&job.origin, &meta.origin))
    };
    catalog.records.iter().filter(is_ours).cloned().collect()
}

/// The newest that some destination has; the first destination that has it.
fn choose<'a>(
    job: &Test,
    owned: &'a [(&'a Site, Vec<Record>)],
    attested: &Attested,
) -> Result<Chosen<'a>, Failure> {
    let scope = Scope::Predictor {
        namespace: job.origin.namespace.clone(),
        predictor: job.origin.predictor.clone(),
    };
    let mut newest: Option<Chosen<'a>> = None;
    let mut refused: Option<SelectError> = None;
    for (site, records) in owned {
        let attest = |record: &Record| attested.attest(record);
        match select::select(records, &Wanted::Latest, &scope, &attest, None) {
            Ok(choice) => {
                let Some(meta) = &choice.record.meta else {
                    continue;
                };
                if newest
                    .as_ref()
                    .is_none_or(|newest| choice.record.name > newest.record.name)
                {
                    newest = Some(Chosen {
                        site,
                        record: choice.record,
                        meta,
                    });
                }
            }
            // One that lies there and isn't attested tells more than an empty place.
            Err(error @ SelectError::Unattested { .. }) => refused = Some(error),
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    match (newest, refused) {
        (Some(newest), _) => Ok(newest),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(Failure::new(Reason::NoBackup, "there is no backup to test")),
    }
}

fn test(
    job: &Test,
    chosen: &Chosen<'_>,
    identities: &[stockpredictor_storage::decrypt::Identity],
    message: &mut Message,
) -> Result<(), Failure> {
    let (name, meta) = (chosen.record.name, chosen.meta);
    let Some(place) = job.destinations.get(chosen.site.index) else {
        return Err(Failure::new(Reason::Failed, "the destination is gone"));
    };
    let has_models = meta.include.contains(&Category::Models);
    let wanted = if has_models {
        Level::Proven
    } else {
        Level::Readable
    };
    let scratch = tempfile::Builder::new()
        .prefix("restore-test-")
        .tempdir_in(&job.scratch)
        .map_err(|error| {
            Failure::new(
                Reason::VolumeNotReady,
                format!(
                    "{}: {error}: mount scratch space there",
                    job.scratch.display()
                ),
            )
        })?;
    let watch = progress::watch(Output::Text);
    watch.step(&format!("🔍 Testing {name} at {}", place.name));
    let request = verify::Request {
        level: wanted,
        identities,
        known: Some(meta.sha256),
        prover: Some((scratch.path(), &prove::Child as &dyn Prover)),
        progress: &*watch,
    };
    let site = chosen.site.destination.as_ref();
    let found = verify::verify(site, &name.to_string(), &request).map_err(|error| {
        Failure::from(error)
            .with_key(!identities.is_empty())
            .at(&place.name)
    })?;
    drop(watch);
    if let Err(error) = level::note(site, name, &found) {
        message.warn(format!(
            "{}: the level can't be noted: {error:#}",
            place.name
        ));
    }
    if let Some(told) = message.destinations.get_mut(chosen.site.index) {
        told.stored = true;
        told.verified = found.level;
    }
    let now = second(Timestamp::now());
    message.backup = Some(message::Backup {
        name,
        id: meta.id,
        kind: meta.kind,
        base: chosen.record.base(),
        created_at: second(meta.created_at),
        bytes: meta.archive_bytes,
        files: meta.stored_files,
        sha256: meta.sha256,
        key_ids: meta.key_ids.clone(),
        level: found.level,
        verified_at: found.level.map(|_| now),
        suspect: Vec::new(),
        destinations: vec![place.name.clone()],
    });
    if let Some(problem) = found.problems.first() {
        return Err(Failure::new(of_snapshot(problem), problem).at(&place.name));
    }
    if found.level < Some(wanted) {
        let told = found.notes.last().cloned().unwrap_or_default();
        return Err(Failure::new(Reason::NotProven, told).at(&place.name));
    }
    if !has_models {
        message.warn(format!(
            "{name} holds no models, so that it is readable is all that can be shown"
        ));
    }
    message.say(format!(
        "{name} from {} is {}",
        place.name,
        if has_models { "proven" } else { "readable" }
    ));
    Ok(())
}
