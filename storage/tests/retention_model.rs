#![allow(clippy::unwrap_used, reason = "a test may panic")]
//! Retention against a simple model: random lives of several origins at one destination, and a simulated year.
//!
//! The oracle reads the files of an in-memory destination by itself and shares no code with the catalog's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;

use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::header::{Base, FORMAT, Kind, Origin};
use stockpredictor_storage::archive::meta::{Guarded, Level, Meta, Suspect, Verification};
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::catalog::Catalog;
use stockpredictor_storage::destination::{Destination, DestinationError, Item, ReadAt, Upload};
use stockpredictor_storage::retention::{self, Policy};
use uuid::Uuid;

/// Files in memory, with a fuse: so many deletions work, then each fails.
#[derive(Debug, Default)]
struct Memory {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    fuse: Mutex<Option<u64>>,
}

impl Memory {
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.files.lock().unwrap().clone()
    }

    fn put(&self, name: &(impl ToString + ?Sized), bytes: Vec<u8>) {
        self.files.lock().unwrap().insert(name.to_string(), bytes);
    }

    fn put_backup(&self, meta: &Meta) {
        self.put(
            &meta.name,
            vec![0; usize::try_from(meta.archive_bytes).unwrap()],
        );
        self.put(&meta.name.meta(), serde_json::to_vec(meta).unwrap());
    }

    fn remove(&self, name: &(impl ToString + ?Sized)) {
        self.files.lock().unwrap().remove(&name.to_string());
    }
}

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let part = self.0.get(start..start + buffer.len());
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Destination for Memory {
    fn label(&self) -> String {
        "memory".to_owned()
    }

    fn list(&self) -> Result<Vec<Item>, DestinationError> {
        let files = self.files.lock().unwrap();
        let items = files.iter().map(|(name, bytes)| Item {
            name: name.clone(),
            size: bytes.len() as u64,
        });
        Ok(items.collect())
    }

    fn read(&self, name: &str, _: usize) -> Result<Option<Vec<u8>>, DestinationError> {
        Ok(self.files.lock().unwrap().get(name).cloned())
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn ReadAt>>, DestinationError> {
        let found = self.files.lock().unwrap().get(name).cloned();
        Ok(found.map(|bytes| Box::new(Bytes(bytes)) as Box<dyn ReadAt>))
    }

    fn claim(&self, _: ArchiveName) -> Result<Option<Box<dyn Upload>>, DestinationError> {
        Ok(None)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DestinationError> {
        self.put(name, bytes.to_vec());
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), DestinationError> {
        if let Some(left) = self.fuse.lock().unwrap().as_mut() {
            if *left == 0 {
                return Err(DestinationError {
                    destination: self.label(),
                    action: format!("delete {name}"),
                    source: io::Error::other("the power is gone"),
                });
            }
            *left -= 1;
        }
        self.remove(name);
        Ok(())
    }
}

/// Seeded numbers; a failing sequence is found again by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        (!of.is_empty()).then(|| &of[usize::try_from(self.roll(of.len() as u64)).unwrap()])
    }
}

/// What the oracle sees: archives that are there with a meta that can be read, the newest first.
#[derive(Clone, Debug)]
struct Seen {
    backups: Vec<Meta>,
}

impl Seen {
    fn of(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut backups: Vec<Meta> = files
            .iter()
            .filter(|(name, _)| name.ends_with(".meta.json"))
            .filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok())
            .filter(|meta: &Meta| files.contains_key(&meta.name.to_string()))
            .collect();
        backups.sort_by_key(|meta| std::cmp::Reverse(meta.name));
        Self { backups }
    }

    fn has(&self, id: Uuid) -> bool {
        self.backups.iter().any(|meta| meta.id == id)
    }

    fn is_whole(&self, meta: &Meta) -> bool {
        meta.base.as_ref().is_none_or(|base| self.has(base.id))
    }

    fn good(&self, origin: &Origin) -> Vec<&Meta> {
        let is_sure = |meta: &Meta| meta.suspect.as_ref().is_none_or(|suspect| suspect.accepted);
        self.backups
            .iter()
            .filter(|meta| meta.origin == *origin && is_sure(meta) && self.is_whole(meta))
            .collect()
    }
}

/// One life of a destination.
struct Life {
    memory: Memory,
    dice: Dice,
    now: Timestamp,
    ids: u128,
    origins: Vec<Origin>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let origins = (0..3_u8).map(|index| Origin {
            volume: Uuid::from_u128(u128::from(index / 2 + 1)),
            namespace: String::new(),
            predictor: String::new(),
            backup: format!("schedule {index}"),
        });
        Self {
            memory: Memory::default(),
            dice: Dice(seed),
            now: "2025-01-01T00:00:00Z".parse().unwrap(),
            ids: 0,
            origins: origins.collect(),
        }
    }

    fn seen(&self) -> Seen {
        Seen::of(&self.memory.files())
    }

    fn meta(&mut self, origin: &Origin, base: Option<&Meta>) -> Meta {
        self.ids += 1;
        let files = self.memory.files();
        let mut name = ArchiveName::at(self.now, false);
        while files.contains_key(&name.meta()) || files.contains_key(&name.to_string()) {
            name = name.next();
        }
        Meta {
            format: FORMAT,
            id: Uuid::from_u128(self.ids),
            name,
            origin: origin.clone(),
            kind: base.map_or(Kind::Full, |_| Kind::Incremental),
            base: base.map(|base| Base {
                id: base.id,
                name: base.name,
                sha256: base.sha256,
            }),
            created_at: self.now,
            include: Vec::new(),
            stored_files: 1,
            stored_bytes: 1,
            archive_bytes: 1,
            sha256: Digest::of(&self.ids.to_le_bytes()),
            key_ids: Vec::new(),
            totals: BTreeMap::new(),
            guarded: Guarded::default(),
            suspect: None,
            verification: None,
        }
    }

    fn step(&mut self) {
        let minutes = i64::try_from(self.dice.roll(3 * 24 * 60)).unwrap();
        self.now += SignedDuration::from_mins(minutes);
        let origin = self.dice.pick(&self.origins).unwrap().clone();
        let seen = self.seen();
        match self.dice.roll(20) {
            0..=8 => self.back_up(&origin, &seen),
            9 | 10 => self.change(&seen, |dice, meta| {
                let levels = [Level::Stored, Level::Readable, Level::Proven];
                let level = *dice.pick(&levels).unwrap();
                let at = meta.created_at;
                meta.verification = Some(Verification { level, at });
            }),
            11 => self.change(&seen, |_, meta| {
                if let Some(suspect) = &mut meta.suspect {
                    suspect.accepted = true;
                }
            }),
            12 => self.harm(&seen),
            _ => self.retain(&origin, &seen),
        }
    }

    fn back_up(&mut self, origin: &Origin, seen: &Seen) {
        let fulls: Vec<_> = seen
            .backups
            .iter()
            .filter(|meta| meta.origin == *origin && meta.kind == Kind::Full)
            .collect();
        let base = (self.dice.roll(2) == 0)
            .then(|| fulls.first().copied())
            .flatten();
        let mut meta = self.meta(origin, base);
        if self.dice.roll(4) == 0 {
            meta.suspect = Some(Suspect {
                reasons: Vec::new(),
                accepted: false,
            });
        }
        self.memory.put_backup(&meta);
    }

    fn change(&mut self, seen: &Seen, change: impl FnOnce(&mut Dice, &mut Meta)) {
        if let Some(meta) = self.dice.pick(&seen.backups) {
            let mut meta = meta.clone();
            change(&mut self.dice, &mut meta);
            self.memory
                .replace(&meta.name.meta(), &serde_json::to_vec(&meta).unwrap())
                .unwrap();
        }
    }

    /// A person deletes or damages something.
    fn harm(&mut self, seen: &Seen) {
        let Some(meta) = self.dice.pick(&seen.backups).cloned() else {
            return;
        };
        match self.dice.roll(4) {
            0 => self.memory.remove(&meta.name.meta()),
            1 => self.memory.put(&meta.name.meta(), b"{\"format\":".to_vec()),
            2 => self.memory.remove(&meta.name),
            _ => {
                self.memory.remove(&meta.name.meta());
                self.memory.remove(&meta.name);
            }
        }
    }

    fn retain(&mut self, origin: &Origin, before: &Seen) {
        let mut number = |sides| u32::try_from(self.dice.roll(sides)).unwrap();
        let policy = Policy {
            keep_last: number(6),
            daily: number(4),
            weekly: number(4),
            monthly: number(3),
        };
        let pinned: BTreeSet<Uuid> = if self.dice.roll(4) == 0 {
            self.dice
                .pick(&before.backups)
                .map(|meta| meta.id)
                .into_iter()
                .collect()
        } else {
            BTreeSet::new()
        };
        let fuse = (self.dice.roll(3) == 0).then(|| self.dice.roll(6));
        *self.memory.fuse.lock().unwrap() = fuse;
        let files_before = self.memory.files();
        let done = run(&self.memory, origin, &policy, self.now, &pinned);
        *self.memory.fuse.lock().unwrap() = None;
        self.check(origin, &policy, &pinned, &files_before);
        if done {
            self.check_complete(origin, &policy, &pinned);
        }
    }

    /// What holds after every run, an interrupted one too.
    fn check(
        &self,
        origin: &Origin,
        policy: &Policy,
        pinned: &BTreeSet<Uuid>,
        files_before: &BTreeMap<String, Vec<u8>>,
    ) {
        let (before, after) = (Seen::of(files_before), self.seen());
        let files = self.memory.files();
        for (name, bytes) in files_before {
            let beside = name
                .parse()
                .map_or(name.clone(), |name: ArchiveName| name.meta());
            let meta: Option<Meta> = files_before
                .get(&beside)
                .and_then(|bytes| serde_json::from_slice(bytes).ok());
            if meta.is_none_or(|meta| meta.origin != *origin) {
                assert_eq!(files.get(name), Some(bytes), "{name} is another's");
            }
        }
        for meta in &after.backups {
            let broke = before.is_whole(meta) && !after.is_whole(meta);
            assert!(!broke, "the chain of {} was broken", meta.name);
        }
        let good = before.good(origin);
        let keep_last = policy.keep_last.max(1) as usize;
        for meta in good.iter().take(keep_last) {
            assert!(after.has(meta.id), "{} is among the newest", meta.name);
        }
        let level = |meta: &Meta| meta.verification.map(|verification| verification.level);
        let highest = good.iter().map(|meta| level(meta)).max();
        if let Some(meta) = good.iter().find(|meta| Some(level(meta)) == highest) {
            assert!(
                after.has(meta.id),
                "{} is the newest of its level",
                meta.name
            );
        }
        assert_eq!(good.is_empty(), after.good(origin).is_empty());
        for meta in before.backups.iter().filter(|meta| meta.origin == *origin) {
            if pinned.contains(&meta.id) {
                assert!(after.has(meta.id), "{} is pinned", meta.name);
            }
        }
        let newest_good = good.first().map(|meta| meta.name);
        let suspects = before
            .backups
            .iter()
            .filter(|meta| meta.origin == *origin && meta.is_suspect() && before.is_whole(meta));
        for meta in suspects
            .take_while(|meta| newest_good.is_none_or(|good| meta.name > good))
            .take(keep_last)
        {
            assert!(
                after.has(meta.id),
                "{} is a suspect without anything newer",
                meta.name
            );
        }
    }

    /// What holds after a run that wasn't interrupted.
    fn check_complete(&self, origin: &Origin, policy: &Policy, pinned: &BTreeSet<Uuid>) {
        let records = Catalog::read(&self.memory).unwrap().records;
        let again = retention::decide(&records, origin, policy, self.now, pinned);
        assert_eq!(again.delete, [], "a second run finds nothing");
        let periods = policy.daily + policy.weekly + policy.monthly;
        let unreadable = records
            .iter()
            .filter(|record| record.meta.is_none())
            .count();
        let ours = records.iter().filter(|record| record.is_of(origin));
        // Good ones, suspects and broken ones; the newest of the highest level; a pin; each with a base.
        let most = 2 * (3 * policy.keep_last.max(1) + periods + 2) as usize + unreadable;
        assert!(ours.clone().count() <= most, "backups pile up");
        assert!(
            ours.clone().all(|record| record.size.is_some()),
            "a leftover"
        );
    }
}

/// One retention run; whether it was carried out to its end.
fn run(
    memory: &Memory,
    origin: &Origin,
    policy: &Policy,
    now: Timestamp,
    pinned: &BTreeSet<Uuid>,
) -> bool {
    let records = Catalog::read(memory).unwrap().records;
    let decision = retention::decide(&records, origin, policy, now, pinned);
    let report = retention::apply(&decision, memory);
    assert_eq!(report.failed.is_some(), report.left > 0);
    report.failed.is_none()
}

fn live(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let lived = std::panic::catch_unwind(|| {
            let mut life = Life::new(seed);
            for _ in 0..40 {
                life.step();
            }
        });
        assert!(lived.is_ok(), "the sequence of seed {seed} failed");
    }
}

#[test]
fn random_lives_keep_every_promise() {
    live(0..150);
}

#[test]
#[ignore = "minutes: 10,000 sequences, for make test-long"]
fn ten_thousand_random_lives_keep_every_promise() {
    live(1_000..11_000);
}

#[test]
fn a_year_of_the_guides_schedules_leaves_what_was_asked_for() {
    let mut life = Life::new(0);
    let [daily, weekly, monthly] = [0, 1, 2].map(|index| life.origins[index].clone());
    let policy = |keep_last| Policy {
        keep_last,
        ..Policy::default()
    };
    let mut day = date(2025, 1, 1);
    let mut runs = [0; 3];
    while day < date(2026, 1, 1) {
        // 0 0 1 * *, 0 1 * * 0, 0 2 * * *
        let due = [
            (&monthly, 0, day.day() == 1, policy(12)),
            (
                &weekly,
                1,
                day.weekday() == jiff::civil::Weekday::Sunday,
                policy(4),
            ),
            (&daily, 2, true, policy(7)),
        ];
        for (index, (origin, hour, is_due, policy)) in due.into_iter().enumerate() {
            if !is_due {
                continue;
            }
            runs[index] += 1;
            life.now = TimeZone::UTC.to_timestamp(day.at(hour, 0, 0, 0)).unwrap();
            let seen = life.seen();
            // Daily ones are incremental, with a full one each Monday.
            let is_full = index < 2 || day.weekday() == jiff::civil::Weekday::Monday;
            let base = (!is_full)
                .then(|| {
                    let mut fulls = seen.backups.iter();
                    fulls.find(|meta| meta.origin == *origin && meta.kind == Kind::Full)
                })
                .flatten();
            let meta = life.meta(origin, base);
            life.memory.put_backup(&meta);
            let before = life.memory.files();
            assert!(run(
                &life.memory,
                origin,
                &policy,
                life.now,
                &BTreeSet::new()
            ));
            life.check(origin, &policy, &BTreeSet::new(), &before);
            life.check_complete(origin, &policy, &BTreeSet::new());
        }
        day = day.checked_add(1.day()).unwrap();
    }
    assert_eq!(runs, [12, 52, 365]);
    let seen = life.seen();
    let names = |origin: &Origin| -> Vec<String> {
        let good = seen.good(origin);
        good.iter()
            .rev()
            .map(|meta| meta.name.time().strftime("%m-%d %H").to_string())
            .collect()
    };
    let firsts: Vec<_> = (1..=12).map(|month| format!("{month:02}-01 00")).collect();
    assert_eq!(names(&monthly), firsts);
    assert_eq!(
        names(&weekly),
        ["12-07 01", "12-14 01", "12-21 01", "12-28 01"]
    );
    // The last seven, and the Monday's full one that the older of them are based on.
    let days = ["22", "25", "26", "27", "28", "29", "30", "31"].map(|day| format!("12-{day} 02"));
    assert_eq!(names(&daily), days);
}
