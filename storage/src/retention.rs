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
mod tests {
    use std::fs;

    use super::*;
    use crate::archive::meta::{Suspect, Verification};
    use crate::catalog::tests::{full, incremental, origin, records, store};
    use crate::destination::folder::Folder;

    const DAY: i64 = 86_400;
    const NOW: i64 = 20_000 * DAY;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    /// Full backups, one a day, the last one now.
    fn days(count: i64) -> Vec<Meta> {
        (0..count).map(|day| full(NOW - day * DAY)).collect()
    }

    fn policy(keep_last: u32) -> Policy {
        Policy {
            keep_last,
            ..Policy::default()
        }
    }

    fn suspect(mut meta: Meta) -> Meta {
        meta.suspect = Some(Suspect {
            reasons: vec!["models are gone".to_owned()],
            accepted: false,
        });
        meta
    }

    fn verified(mut meta: Meta, level: Level) -> Meta {
        meta.verification = Some(Verification { level, at: now() });
        meta
    }

    fn decide_all(records: &[Record], policy: &Policy) -> Decision {
        decide(records, &origin("manual"), policy, now(), &BTreeSet::new())
    }

    fn kept(decision: &Decision) -> Vec<ArchiveName> {
        decision.keep.iter().map(|kept| kept.name).collect()
    }

    fn names<'a>(metas: impl IntoIterator<Item = &'a Meta>) -> Vec<ArchiveName> {
        metas.into_iter().map(|meta| meta.name).collect()
    }

    #[test]
    fn the_newest_stay_and_the_oldest_go_first() {
        let metas = days(5);
        let decision = decide_all(&records(metas.clone()), &policy(3));
        assert_eq!(kept(&decision), names(&metas[..3]));
        assert_eq!(
            decision.delete,
            [
                Deletion::Backup(metas[4].name),
                Deletion::Backup(metas[3].name)
            ]
        );
        for keep_last in [0, 1] {
            let decision = decide_all(&records(metas.clone()), &policy(keep_last));
            assert_eq!(kept(&decision), names(&metas[..1]));
        }
    }

    #[test]
    fn each_period_keeps_its_newest() {
        // Two a day over a hundred days.
        let metas: Vec<_> = (0..200)
            .map(|half| full(NOW + 60 - half * DAY / 2))
            .collect();
        let kept_by = |policy: Policy, reason: Reason| -> Vec<String> {
            let decision = decide(
                &records(metas.clone()),
                &origin("manual"),
                &policy,
                now(),
                &BTreeSet::new(),
            );
            decision
                .keep
                .iter()
                .filter(|kept| kept.reasons.contains(&reason))
                .map(|kept| kept.name.time().strftime("%Y-%m-%d %H").to_string())
                .collect()
        };
        let with = |daily, weekly, monthly| Policy {
            keep_last: 1,
            daily,
            weekly,
            monthly,
        };
        // 2024-10-04, a Friday.
        assert_eq!(
            kept_by(with(3, 0, 0), Reason::Daily),
            ["2024-10-04 00", "2024-10-03 12", "2024-10-02 12"]
        );
        assert_eq!(
            kept_by(with(0, 3, 0), Reason::Weekly),
            ["2024-10-04 00", "2024-09-29 12", "2024-09-22 12"]
        );
        assert_eq!(
            kept_by(with(0, 0, 3), Reason::Monthly),
            ["2024-10-04 00", "2024-09-30 12", "2024-08-31 12"]
        );
    }

    #[test]
    fn bases_of_what_stays_stay_and_go_after_what_is_based_on_them() {
        let old = full(NOW - 9 * DAY);
        let base = full(NOW - 8 * DAY);
        let upper: Vec<_> = (0..4)
            .map(|day| incremental(NOW - day * DAY, &base))
            .collect();
        let old_upper = incremental(NOW - 8 * DAY - 9, &old);
        let all = [old.clone(), base.clone(), old_upper.clone()]
            .into_iter()
            .chain(upper.clone());
        let decision = decide_all(&records(all), &policy(2));
        assert_eq!(
            kept(&decision),
            [upper[0].name, upper[1].name, base.name],
            "the base doesn't count"
        );
        let backup = Deletion::Backup;
        assert_eq!(
            decision.delete,
            [
                backup(old_upper.name),
                backup(upper[3].name),
                backup(upper[2].name),
                backup(old.name)
            ]
        );
        assert_eq!(decision.keep[2].reasons, [Reason::Base]);
    }

    #[test]
    fn the_newest_of_the_highest_level_stays() {
        let mut metas = days(6);
        metas[4] = verified(metas[4].clone(), Level::Proven);
        metas[5] = verified(metas[5].clone(), Level::Proven);
        metas[0] = verified(metas[0].clone(), Level::Readable);
        let decision = decide_all(&records(metas.clone()), &policy(1));
        assert_eq!(kept(&decision), [metas[0].name, metas[4].name]);
        assert_eq!(
            decision.keep[1].reasons,
            [Reason::NewestOfLevel(Some(Level::Proven))]
        );
    }

    #[test]
    fn suspects_push_nothing_out_and_do_not_pile_up() {
        let mut metas = days(8);
        for meta in &mut metas[..4] {
            *meta = suspect(meta.clone());
        }
        metas[6] = suspect(metas[6].clone());
        let decision = decide_all(&records(metas.clone()), &policy(3));
        // Three suspects, the newest three good ones; the suspect between them is older than a good one and goes.
        let expected = [0, 1, 2, 4, 5, 7].map(|index| metas[index].name);
        assert_eq!(kept(&decision), expected);
        assert_eq!(decision.keep[0].reasons, [Reason::NothingNewer]);
        // Accepted it is like any other.
        metas[0].suspect.as_mut().unwrap().accepted = true;
        let decision = decide_all(&records(metas.clone()), &policy(1));
        assert_eq!(kept(&decision), [metas[0].name]);
    }

    #[test]
    fn broken_chains_do_not_count_and_stay_only_while_nothing_newer_is_good() {
        let gone = full(NOW - 9 * DAY);
        let broken = [incremental(NOW, &gone), incremental(NOW - 2 * DAY, &gone)];
        let good = [full(NOW - DAY), full(NOW - 3 * DAY)];
        let all = broken.iter().chain(&good).cloned();
        let decision = decide_all(&records(all), &policy(1));
        assert_eq!(kept(&decision), [broken[0].name, good[0].name]);
    }

    #[test]
    fn other_origins_and_unreadable_archives_are_left_alone() {
        let mut metas = days(4);
        for meta in &mut metas[2..] {
            meta.origin = origin("another");
        }
        let mut all = records(metas.clone());
        let decision = decide_all(&all, &policy(1));
        assert_eq!(decision.delete, [Deletion::Backup(metas[1].name)]);
        // Without a readable meta the newest may be based on the one before it.
        all[0].meta = None;
        let decision = decide_all(&all, &policy(1));
        assert_eq!(decision.delete, []);
        assert_eq!(kept(&decision), [metas[1].name]);
    }

    #[test]
    fn backups_of_other_parts_push_nothing_out() {
        let mut metas = days(4);
        for limited in &mut metas[..3] {
            limited.include = vec![Category::Config];
        }
        let records = records(metas.clone());
        let decision = decide(
            &records,
            &origin("manual"),
            &policy(1),
            now(),
            &BTreeSet::new(),
        );
        let kept: Vec<_> = decision.keep.iter().map(|kept| kept.name).collect();
        assert_eq!(kept, [metas[0].name, metas[3].name]);
    }

    #[test]
    fn pins_keep_a_backup_and_its_base() {
        let base = full(NOW - 9 * DAY);
        let upper = incremental(NOW - 8 * DAY, &base);
        let newest = full(NOW);
        let all = records([base.clone(), upper.clone(), newest.clone()]);
        let pinned = BTreeSet::from([upper.id]);
        let decision = decide(&all, &origin("manual"), &policy(1), now(), &pinned);
        assert_eq!(kept(&decision), [newest.name, upper.name, base.name]);
        assert_eq!(decide_all(&all, &policy(1)).delete.len(), 2);
    }

    #[test]
    fn a_clock_that_was_wrong_pushes_nothing_out() {
        let future = full(NOW + 400 * DAY);
        let metas = days(2);
        let all = records(metas.iter().cloned().chain([future.clone()]));
        let decision = decide_all(&all, &policy(1));
        assert_eq!(kept(&decision), [future.name, metas[0].name]);
        assert_eq!(decision.keep[0].reasons, [Reason::Future]);
    }

    #[test]
    fn a_decision_is_carried_out_and_an_interrupted_one_is_finished() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let metas = days(4);
        for meta in &metas {
            store(scratch.path(), meta);
        }
        fs::remove_file(scratch.path().join(metas[3].name.to_string())).unwrap();
        let read = || Catalog::read(&folder).unwrap().records;
        let decision = decide_all(&read(), &policy(2));
        assert_eq!(
            decision.delete,
            [
                Deletion::Leftover(metas[3].name),
                Deletion::Backup(metas[2].name)
            ]
        );
        let report = apply(&decision, &folder);
        assert!(report.failed.is_none());
        assert_eq!(report.deleted, [metas[3].name, metas[2].name]);
        let left: Vec<_> = read().iter().map(|record| record.name).collect();
        assert_eq!(left, names(&metas[..2]));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_failure_ends_it_before_a_base_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let base = full(NOW - 2 * DAY);
        let upper = incremental(NOW - DAY, &base);
        store(scratch.path(), &base);
        // Deleting a folder as if it were a file fails.
        fs::create_dir(scratch.path().join(upper.name.to_string())).unwrap();
        let decision = Decision {
            keep: Vec::new(),
            delete: vec![Deletion::Backup(upper.name), Deletion::Backup(base.name)],
        };
        let report = apply(&decision, &folder);
        assert!(report.failed.is_some());
        assert_eq!((report.left, report.deleted.len()), (2, 0));
        assert!(scratch.path().join(base.name.to_string()).exists());
    }

    #[test]
    fn the_file_of_a_writer_at_work_is_no_leftover() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let meta = full(NOW);
        let decision = Decision {
            keep: Vec::new(),
            delete: vec![Deletion::Leftover(meta.name)],
        };
        let beside = scratch.path().join(meta.name.meta());
        // Between the file beside it and the archive's name.
        let upload = folder.claim(meta.name).unwrap().unwrap();
        fs::write(&beside, serde_json::to_vec(&meta).unwrap()).unwrap();
        assert!(
            decide_all(&Catalog::read(&folder).unwrap().records, &policy(1))
                .delete
                .is_empty()
        );
        assert!(apply(&decision, &folder).deleted.is_empty());
        assert!(beside.exists());
        drop(upload);
        // Finished meanwhile.
        store(scratch.path(), &meta);
        assert!(apply(&decision, &folder).deleted.is_empty());
        fs::remove_file(scratch.path().join(meta.name.to_string())).unwrap();
        assert_eq!(apply(&decision, &folder).deleted, [meta.name]);
        assert!(!beside.exists());
    }
}
