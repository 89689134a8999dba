//! Which backups a new one is compared with: the base of an incremental one, and the guard's measure.
//!
//! In come what the index has and the destinations, out comes a choice with its reason.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::Request;
use crate::archive::category::Category;
use crate::archive::header::Kind;
use crate::archive::meta::{MAX_META, Meta};
use crate::archive::name::ArchiveName;
use crate::catalog::{Catalog, Record};
use crate::destination::Destination;
use crate::guard::GUARDED;

/// What an incremental request becomes.
pub enum Choice {
    /// Based on this full backup.
    Base(Box<Meta>),
    /// A full one, and why if that was not asked for.
    Full(Option<String>),
}

/// A set of parts in one order.
pub fn sorted(include: &[Category]) -> Vec<Category> {
    let mut include = include.to_vec();
    include.sort_unstable();
    include.dedup();
    include
}

/// The base for a request; `metas` are the origin's, newest first.
pub fn choose(
    request: &Request,
    metas: &[Meta],
    destinations: &[Box<dyn Destination>],
    key_ids: &[String],
) -> Choice {
    let because = |reason: String| Choice::Full(Some(reason));
    let is_full = |meta: &&Meta| meta.kind == Kind::Full && !meta.name.is_future(request.now);
    let Some(newest) = metas.iter().find(is_full) else {
        return because("there is no full backup of this origin in backups/.index yet".to_owned());
    };
    // Not one that holds more either: what an incremental one doesn't name would come back from it.
    let wanted = sorted(&request.include);
    let mut fulls = metas.iter().filter(is_full);
    let Some(base) = fulls.find(|meta| sorted(&meta.include) == wanted) else {
        return because(format!(
            "{} holds other parts of the volume",
            newest.name.stem()
        ));
    };
    if base.key_ids != key_ids {
        return because(format!(
            "{} is encrypted to other recipients",
            base.name.stem()
        ));
    }
    if let Some(age) = too_old(base, request) {
        return because(format!("{} is {age} hours old", base.name.stem()));
    }
    if is_doubted(base, destinations) {
        return because(format!(
            "{} is suspected to lack data and nobody has accepted it",
            base.name.stem()
        ));
    }
    for destination in destinations {
        if let Err(reason) = is_there(base, &**destination) {
            return because(format!(
                "{}: {}: {reason}",
                destination.label(),
                base.name.stem()
            ));
        }
    }
    Choice::Base(Box::new(base.clone()))
}

/// Hours since the base was made, if that is longer than the request allows.
fn too_old(base: &Meta, request: &Request) -> Option<i64> {
    let limit = SignedDuration::try_from(request.full_every?).ok()?;
    let age = request.now.duration_since(base.created_at);
    // A run of the same schedule may begin some seconds earlier in its period than the one before.
    let slack = (limit / 10).min(SignedDuration::from_hours(1));
    (age > limit - slack).then(|| age.as_hours())
}

/// Whether a destination has a base as it was written.
fn is_there(base: &Meta, destination: &dyn Destination) -> Result<(), String> {
    let items = destination.list().map_err(|error| error.to_string())?;
    let name = base.name.to_string();
    match items.iter().find(|item| item.name == name) {
        None => return Err("it is not there".to_owned()),
        Some(item) if item.size != base.archive_bytes => {
            return Err("it has another size".to_owned());
        }
        Some(_) => {}
    }
    match read(destination, base.name) {
        Some(meta) if meta.id == base.id && meta.sha256 == base.sha256 => Ok(()),
        Some(_) => Err("it is another backup".to_owned()),
        None => Err("the file beside it is missing".to_owned()),
    }
}

fn read(destination: &dyn Destination, name: ArchiveName) -> Option<Meta> {
    let text = destination.read(&name.meta(), MAX_META).ok()??;
    serde_json::from_slice(&text).ok()
}

fn each(destinations: &[Box<dyn Destination>]) -> impl Iterator<Item = &dyn Destination> {
    destinations.iter().map(AsRef::as_ref)
}

/// Whether the guard doubts a backup; a person may have accepted it at any destination.
fn is_doubted(meta: &Meta, destinations: &[Box<dyn Destination>]) -> bool {
    let is_accepted = |destination: &dyn Destination| {
        read(destination, meta.name).is_some_and(|said| said.id == meta.id && !said.is_suspect())
    };
    meta.is_suspect() && !each(destinations).any(is_accepted)
}

/// What the guard compares each requested part with: the newest backup of the origin that holds it and isn't doubted.
/// A volume whose index has none, as one that has lost it, asks the destinations.
pub fn measures(
    request: &Request,
    metas: &[Meta],
    destinations: &[Box<dyn Destination>],
) -> BTreeMap<Category, Meta> {
    let mut found = BTreeMap::new();
    let wanted = |found: &BTreeMap<Category, Meta>, meta: &Meta| -> Vec<Category> {
        let missing = GUARDED
            .into_iter()
            .filter(|part| request.include.contains(part) && !found.contains_key(part));
        missing.filter(|part| meta.include.contains(part)).collect()
    };
    for meta in metas {
        let parts = wanted(&found, meta);
        if parts.is_empty() || meta.name.is_future(request.now) || is_doubted(meta, destinations) {
            continue;
        }
        found.extend(parts.into_iter().map(|part| (part, meta.clone())));
    }
    let is_complete = GUARDED
        .into_iter()
        .all(|part| !request.include.contains(&part) || found.contains_key(&part));
    if is_complete {
        return found;
    }
    // A destination that can't be read measures nothing; that it failed is told where the archive goes.
    let catalogs = each(destinations).filter_map(|destination| Catalog::read(destination).ok());
    let mut there: Vec<Meta> = catalogs
        .flat_map(|catalog| catalog.records)
        .filter(Record::is_restorable)
        .filter_map(|record| record.meta)
        .filter(|meta| meta.origin == request.origin)
        .collect();
    there.sort_by_key(|meta| std::cmp::Reverse(meta.name));
    for meta in there {
        let parts = wanted(&found, &meta);
        found.extend(parts.into_iter().map(|part| (part, meta.clone())));
    }
    found
}
