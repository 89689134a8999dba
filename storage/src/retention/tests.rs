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
