//! Which backups of one origin stay at a destination, and which go in what order.
//!
//! In come records, a policy and the time; out comes a decision, made without touching anything. [`apply`] carries it
//! out. Whatever a policy says: no chain is broken, nothing of another origin is touched, a backup that can be restored
//! stays as long as there is one, and so does the newest of the highest level that was reached.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::archive::category::Category;
use crate::archive::header::{Kind, Origin};
use crate::archive::meta::{Level, Meta};
use crate::archive::name::ArchiveName;
use crate::catalog::{self, Catalog, Record};
use crate::destination::{Destination, DestinationError};
use crate::pin;

/// How many backups stay, of those that hold the same parts of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many backups that can be restored; at least one stays in any case.
    pub keep_last: u32,
    /// The newest backup of each of the newest so many UTC days that have one.
    pub daily: u32,
    /// The same by ISO week.
    pub weekly: u32,
    /// The same by month.
    pub monthly: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            keep_last: 10,
            daily: 0,
            weekly: 0,
            monthly: 0,
        }
    }
}

/// Why a backup stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Among the newest.
    Last,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of the highest level that a restorable backup reached.
    NewestOfLevel(Option<Level>),
    /// One that stays is based on it, or may be.
    Base,
    /// Asked for by name, such as by a restore that uses it.
    Pinned,
    /// In doubt or with a broken chain, but nothing newer can be restored.
    NothingNewer,
    /// Its name is of the future; a wrong clock must not push others out.
    Future,
}

/// A backup that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: ArchiveName,
    /// Why, sorted.
    pub reasons: Vec<Reason>,
}

/// What goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The archive, then the file beside it.
    Backup(ArchiveName),
    /// The file beside an archive that is gone: an interrupted deletion is finished.
    Leftover(ArchiveName),
}

/// What stays and what goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The origin's backups that stay, the newest first.
    pub keep: Vec<Kept>,
    /// What goes, in an order that may be interrupted anywhere: leftovers, incremental backups, full ones.
    pub delete: Vec<Deletion>,
}

/// What [`apply`] did.
#[derive(Debug, Default)]
pub struct Report {
    /// What is gone.
    pub deleted: Vec<ArchiveName>,
    /// What ended it; the next run continues.
    pub failed: Option<DestinationError>,
    /// How many deletions are left because of that.
    pub left: usize,
}

/// Decides for the backups of one origin at one destination.
///
/// `records` is all that lies there, sorted as a catalog's records are; `pinned` are ids of backups that stay, with
/// their bases. Archives without a readable file beside them are of no origin and never deleted.
pub fn decide(
    records: &[Record],
    origin: &Origin,
    policy: &Policy,
    now: Timestamp,
    pinned: &BTreeSet<Uuid>,
) -> Decision {
    let ours: Vec<(&Record, &Meta)> = records
        .iter()
        .filter_map(|record| Some((record, record.meta.as_ref()?)))
        .filter(|(record, meta)| meta.origin == *origin && !record.is_unfinished())
        .collect();
    let mut keeper = Keeper::default();
    let (future, past): (Vec<_>, Vec<_>) = ours
        .iter()
        .copied()
        .filter(|(record, _)| record.size.is_some())
        .partition(|(record, _)| record.name.is_future(now));
    keeper.keep_each(&future, Reason::Future);
    for past in by_parts(&past) {
        let good: Vec<_> = past
            .iter()
            .copied()
            .filter(|(record, _)| record.is_restorable())
            .collect();
        keep_good(&mut keeper, &good, policy);
        keep_doubtful(&mut keeper, &past, &good, policy);
    }
    let pinned: Vec<_> = ours
        .iter()
        .copied()
        .filter(|(record, meta)| record.size.is_some() && pinned.contains(&meta.id))
        .collect();
    keeper.keep_each(&pinned, Reason::Pinned);
    keep_bases(&mut keeper, records, &ours);
    keeper.decision(&ours)
}

/// Backups that hold the same parts of the volume, each list the newest first. One of the configuration alone must not
/// push out the only one that has the models.
fn by_parts<'a>(past: &[(&'a Record, &'a Meta)]) -> Vec<Vec<(&'a Record, &'a Meta)>> {
    let mut groups: BTreeMap<BTreeSet<Category>, Vec<_>> = BTreeMap::new();
    for (record, meta) in past {
        let parts = meta.include.iter().copied().collect();
        groups.entry(parts).or_default().push((*record, *meta));
    }
    groups.into_values().collect()
}

/// Year and number of the day, week or month that a moment is in.
type Period = fn(Timestamp) -> (i16, i8, i8);

/// What a policy asks for, among backups that can be restored, the newest first.
fn keep_good(keeper: &mut Keeper, good: &[(&Record, &Meta)], policy: &Policy) {
    let last = at_least_one(policy.keep_last).min(good.len());
    keeper.keep_each(good.get(..last).unwrap_or(good), Reason::Last);
    let periods: [(Reason, u32, Period); 3] = [
        (Reason::Daily, policy.daily, day),
        (Reason::Weekly, policy.weekly, week),
        (Reason::Monthly, policy.monthly, month),
    ];
    for (reason, count, period) in periods {
        let mut seen = BTreeSet::new();
        for (record, _) in good {
            if seen.len() == count as usize {
                break;
            }
            if seen.insert(period(record.name.time())) {
                keeper.keep(record.name, reason);
            }
        }
    }
    let level = |meta: &Meta| meta.verification.map(|verification| verification.level);
    let highest = good.iter().map(|(_, meta)| level(meta)).max();
    if let Some((record, meta)) = good.iter().find(|(_, meta)| Some(level(meta)) == highest) {
        keeper.keep(record.name, Reason::NewestOfLevel(level(meta)));
    }
}

/// Backups in doubt, and incremental ones without their base, push nothing out and stay while nothing newer can be
/// restored. As many of each stay as of good ones, so that they can't fill the disk.
fn keep_doubtful(
    keeper: &mut Keeper,
    past: &[(&Record, &Meta)],
    good: &[(&Record, &Meta)],
    policy: &Policy,
) {
    let newest_good = good.first().map(|(record, _)| record.name);
    for is_broken in [false, true] {
        past.iter()
            .filter(|(record, _)| !record.is_restorable() && record.is_broken() == is_broken)
            .take_while(|(record, _)| newest_good.is_none_or(|good| record.name > good))
            .take(at_least_one(policy.keep_last))
            .for_each(|(record, _)| keeper.keep(record.name, Reason::NothingNewer));
    }
}

/// Bases of what stays. An archive that can't be read may be incremental too, then most likely on the newest full
/// backup before it; that one stays as well.
fn keep_bases(keeper: &mut Keeper, records: &[Record], ours: &[(&Record, &Meta)]) {
    for (record, _) in ours {
        if !keeper.keeps(record.name) || record.is_broken() {
            continue;
        }
        if let Some(base) = record.base() {
            keeper.keep(base, Reason::Base);
        }
    }
    for unreadable in records.iter().filter(|record| record.meta.is_none()) {
        let base = ours.iter().find(|(record, meta)| {
            record.size.is_some() && meta.kind == Kind::Full && record.name < unreadable.name
        });
        if let Some((record, _)) = base {
            keeper.keep(record.name, Reason::Base);
        }
    }
}

/// What is kept so far.
#[derive(Default)]
struct Keeper {
    kept: BTreeMap<ArchiveName, BTreeSet<Reason>>,
}

impl Keeper {
    fn keep(&mut self, name: ArchiveName, reason: Reason) {
        self.kept.entry(name).or_default().insert(reason);
    }

    fn keep_each(&mut self, records: &[(&Record, &Meta)], reason: Reason) {
        for (record, _) in records {
            self.keep(record.name, reason);
        }
    }

    fn keeps(&self, name: ArchiveName) -> bool {
        self.kept.contains_key(&name)
    }

    fn decision(self, ours: &[(&Record, &Meta)]) -> Decision {
        let oldest_first = || ours.iter().rev();
        let leftovers = oldest_first()
            .filter(|(record, _)| record.size.is_none())
            .map(|(record, _)| Deletion::Leftover(record.name));
        let going = |kind| {
            let kept = &self.kept;
            oldest_first()
                .filter(move |(record, meta)| {
                    record.size.is_some() && meta.kind == kind && !kept.contains_key(&record.name)
                })
                .map(|(record, _)| Deletion::Backup(record.name))
        };
        let delete = leftovers
            .chain(going(Kind::Incremental))
            .chain(going(Kind::Full))
            .collect();
        let keep = self
            .kept
            .into_iter()
            .rev()
            .map(|(name, reasons)| Kept {
                name,
                reasons: reasons.into_iter().collect(),
            })
            .collect();
        Decision { keep, delete }
    }
}

/// Carries a decision out. The first failure ends it, so that no base goes before what is based on it.
pub fn apply(decision: &Decision, destination: &dyn Destination) -> Report {
    let mut report = Report::default();
    for (index, deletion) in decision.delete.iter().enumerate() {
        let done = match deletion {
            Deletion::Backup(name) => delete(*name, destination).map(|()| Some(*name)),
            Deletion::Leftover(name) => {
                delete_leftover(*name, destination).map(|gone| gone.then_some(*name))
            }
        };
        match done {
            Ok(gone) => report.deleted.extend(gone),
            Err(error) => {
                report.failed = Some(error);
                report.left = decision.delete.len() - index;
                break;
            }
        }
    }
    report
}

/// Removes pins that no longer count, so that restores that died leave nothing behind.
pub fn remove_expired_pins(
    catalog: &Catalog,
    destination: &dyn Destination,
    now: Timestamp,
) -> Result<(), DestinationError> {
    catalog
        .pins
        .iter()
        .filter(|pin| !pin.is_valid(now))
        .try_for_each(|pin| pin::remove(destination, pin.archive, pin.restore))
}

/// The archive first: what is left by an interruption is seen, and finished by the next run.
fn delete(name: ArchiveName, destination: &dyn Destination) -> Result<(), DestinationError> {
    destination.delete(&name.to_string())?;
    destination.delete(&name.meta())
}

/// Deletes the file beside an archive that is gone, unless its archive appeared: a writer puts that file in place
/// before the archive has its name. No claim in a list and then no archive means that nobody is between the two.
fn delete_leftover(
    name: ArchiveName,
    destination: &dyn Destination,
) -> Result<bool, DestinationError> {
    let now = Catalog::read(destination)?;
    let is_claimed = catalog::find(&now.records, name).is_none_or(Record::is_unfinished);
    if is_claimed || destination.open(&name.to_string())?.is_some() {
        return Ok(false);
    }
    destination.delete(&name.meta())?;
    Ok(true)
}

fn at_least_one(count: u32) -> usize {
    count.max(1) as usize
}

fn day(time: Timestamp) -> (i16, i8, i8) {
    let date = TimeZone::UTC.to_datetime(time).date();
    (date.year(), date.month(), date.day())
}

fn week(time: Timestamp) -> (i16, i8, i8) {
    let week = TimeZone::UTC.to_datetime(time).date().iso_week_date();
    (week.year(), week.week(), 0)
}

fn month(time: Timestamp) -> (i16, i8, i8) {
    let (year, month, _) = day(time);
    (year, month, 0)
}

#[cfg(test)]
mod tests;
