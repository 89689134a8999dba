#![allow(clippy::unwrap_used, reason = "a test may panic")]
//! The whole engine against a simple model: random changes, backups, retention, losses and restores of a real volume.
//!
//! The model remembers what lay on the volume at each backup and shares no code with the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::header::{Kind, Origin};
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::backup::{self, Request};
use stockpredictor_storage::catalog::Catalog;
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::destination::folder::Folder;
use stockpredictor_storage::known::Known;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::progress::Silent;
use stockpredictor_storage::restore::{self, NoCheck, Volume};
use stockpredictor_storage::retention::{self, Policy};
use stockpredictor_storage::select::{Scope, Wanted, select};
use stockpredictor_storage::snapshot::Snapshot;
use uuid::Uuid;

/// Mode, time of a file, and content.
type Look = BTreeMap<PathBuf, (u32, (i64, i64), Vec<u8>)>;

/// Folders in which things change: of four parts of the volume.
const FOLDERS: [&str; 6] = [
    "config",
    "config/deep",
    "scalers",
    "ml_cache/a",
    "mine",
    "mine/deep/er",
];
const STEPS: usize = 30;

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

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

fn look(root: &Path) -> Look {
    let mut found = Look::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if relative == Path::new("backups") || relative == Path::new(".stockpredictor") {
                continue;
            }
            let meta = path.symlink_metadata().unwrap();
            let (time, content) = if meta.is_dir() {
                pending.push(path.clone());
                ((0, 0), Vec::new())
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                ((0, 0), target.as_os_str().as_bytes().to_vec())
            } else {
                ((meta.mtime(), meta.mtime_nsec()), fs::read(&path).unwrap())
            };
            found.insert(relative, (meta.mode(), time, content));
        }
    }
    found
}

fn part(path: &Path) -> (Category, PathBuf) {
    let top = path.components().next().unwrap().as_os_str();
    let category = Category::of_top_level(top.as_bytes()).unwrap();
    (category, PathBuf::from(top))
}

/// A backup as the model knows it.
struct Made {
    include: Vec<Category>,
    base: Option<ArchiveName>,
    look: Look,
}

struct Life {
    dice: Dice,
    _folder: tempfile::TempDir,
    layout: Layout,
    origin: Origin,
    now: Timestamp,
    made: BTreeMap<ArchiveName, Made>,
    done: Counts,
}

impl Life {
    fn new(seed: u64) -> Self {
        let folder =
            tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let layout = Layout::new(folder.path());
        for name in [".stockpredictor", "backups"] {
            fs::create_dir(layout.join(name)).unwrap();
        }
        Self {
            dice: Dice(seed),
            _folder: folder,
            layout,
            origin: Origin::manual(Uuid::new_v4()),
            now: Timestamp::now() - SignedDuration::from_hours(2000),
            made: BTreeMap::new(),
            done: Counts::new(),
        }
    }

    fn destinations(&self) -> Vec<Box<dyn Destination>> {
        vec![Box::new(Folder::open(self.layout.join("backups")).unwrap())]
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn step(&mut self) {
        match self.dice.roll(20) {
            0..=7 => self.change(),
            8..=9 => self.backup(Kind::Full),
            10..=13 => self.backup(Kind::Incremental),
            14 => self.retain(),
            15 => self.lose(),
            16..=17 => self.restore_by_name(),
            _ => self.restore_at(),
        }
    }

    fn path(&mut self) -> PathBuf {
        let folder = *self.dice.pick(&FOLDERS);
        let name = *self.dice.pick(&["a", "b", "c", "deep"]);
        self.layout.join(folder).join(name)
    }

    /// Some changes, many of which leave the size or the time as it is.
    fn change(&mut self) {
        for _ in 0..=self.dice.roll(4) {
            let path = self.path();
            let kind = self.dice.roll(10);
            let is_folder = path.is_dir() && !path.is_symlink();
            let there = path.symlink_metadata().is_ok();
            if kind < 6 || !there {
                fs::create_dir_all(path.parent().unwrap()).ok();
                if is_folder {
                    fs::remove_dir_all(&path).unwrap();
                }
                let size = *self.dice.pick(&[0, 10, 10, 10, 3000]);
                let size = if self.dice.roll(60) == 0 {
                    1_300_000
                } else {
                    size
                };
                let byte = u8::try_from(self.dice.roll(256)).unwrap();
                // Through a link or below a file nothing is written.
                if path.is_symlink() || fs::write(&path, vec![byte; size]).is_err() {
                    continue;
                }
                // As rsync and tar do: then only the inode's own time tells a change of content.
                if self.dice.roll(2) == 0 {
                    let file = fs::File::open(&path).unwrap();
                    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
                    file.set_modified(time).unwrap();
                }
            } else if kind == 6 {
                if is_folder {
                    fs::remove_dir_all(&path).unwrap();
                } else {
                    fs::remove_file(&path).unwrap();
                }
            } else if kind == 7 {
                let to = self.path();
                if !to.starts_with(&path) {
                    fs::rename(&path, to).ok();
                }
            } else if kind == 8 {
                let mode = *self.dice.pick(&[0o600, 0o644, 0o755]);
                if !is_folder && !path.is_symlink() {
                    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
                }
            } else if !is_folder {
                fs::remove_file(&path).unwrap();
                let target = *self.dice.pick(&["../b", "nowhere", "deep"]);
                symlink(target, &path).unwrap();
            }
        }
        self.count("change");
    }

    fn backup(&mut self, mode: Kind) {
        self.now += SignedDuration::from_mins(i64::try_from(1 + self.dice.roll(900)).unwrap());
        let mut request = Request::new(self.layout.clone(), self.origin.clone(), self.now);
        request.mode = mode;
        request.accept_shrink = true;
        request.threads = usize::try_from(1 + self.dice.roll(3)).unwrap();
        if self.dice.roll(4) == 0 {
            request.include = vec![Category::Config, Category::Other];
        }
        let report = backup::run(&request, &self.destinations(), &Silent).unwrap();
        let mut look = look(self.layout.root());
        look.retain(|path, _| request.include.contains(&part(path).0));
        let base = report.base.as_ref().map(|base| base.name);
        if let Some(base) = base {
            let of = &self.made[&base];
            assert_eq!(of.base, None, "a chain has two links");
            assert_eq!(of.include, request.include);
            assert!(self.is_there(base));
        }
        self.count(if base.is_some() {
            "incremental"
        } else {
            "full"
        });
        let include = request.include;
        let own = Made {
            include,
            base,
            look,
        };
        assert!(self.made.insert(report.name, own).is_none());
    }

    fn is_there(&self, name: ArchiveName) -> bool {
        self.layout.join("backups").join(name.to_string()).is_file()
    }

    fn can_be_restored(&self, name: ArchiveName) -> bool {
        let base = self.made[&name].base;
        self.is_there(name) && base.is_none_or(|base| self.is_there(base))
    }

    /// Those that can be restored, the oldest first.
    fn good(&self) -> Vec<ArchiveName> {
        let names = self.made.keys().copied();
        names.filter(|name| self.can_be_restored(*name)).collect()
    }

    fn retain(&mut self) {
        let before = self.good();
        let keep = 1 + self.dice.roll(4);
        let policy = Policy {
            keep_last: u32::try_from(keep).unwrap(),
            ..Policy::default()
        };
        let destination = &self.destinations()[0];
        let catalog = Catalog::read(&**destination).unwrap();
        let pinned = BTreeSet::new();
        let decision =
            retention::decide(&catalog.records, &self.origin, &policy, self.now, &pinned);
        let report = retention::apply(&decision, &**destination);
        assert!(report.failed.is_none());
        // Of each set of parts the newest stay, and whatever stays can be restored as before.
        let mut left: BTreeMap<&[Category], u64> = BTreeMap::new();
        for name in before.iter().rev() {
            let count = left.entry(&self.made[name].include).or_default();
            *count += 1;
            let is_kept = self.can_be_restored(*name);
            assert!(is_kept || *count > keep, "{name} is gone");
            assert_eq!(is_kept, self.is_there(*name), "{name} lost its base");
        }
        let deleted = report.deleted.len();
        self.count("retention");
        *self.done.entry("deleted").or_default() += deleted as u64;
    }

    /// An archive is removed by hand.
    fn lose(&mut self) {
        let good = self.good();
        if good.len() < 3 || self.dice.roll(3) > 0 {
            return;
        }
        let name = *self.dice.pick(&good);
        fs::remove_file(self.layout.join("backups").join(name.to_string())).unwrap();
        self.count("lost");
    }

    /// Any backup that was ever made: refused unless it can be restored.
    fn restore_by_name(&mut self) {
        let names: Vec<_> = self.made.keys().copied().collect();
        if names.is_empty() {
            return;
        }
        let name = *self.dice.pick(&names);
        let opened = Chain::open(&*self.destinations()[0], &name.to_string(), &[], None);
        assert_eq!(opened.is_ok(), self.can_be_restored(name), "{name}");
        let Ok(chain) = opened else {
            self.count("refused");
            return;
        };
        let target =
            tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        chain.extract(&|_| true, target.path(), &Silent).unwrap();
        same(&look(target.path()), &self.made[&name].look);
        self.count("by name");
    }

    /// In place, from the newest backup not after some time.
    fn restore_at(&mut self) {
        let Some((oldest, _)) = self.made.first_key_value() else {
            return;
        };
        let span = self.now.duration_since(oldest.time()).as_secs() + 120;
        let ahead = self.dice.roll(u64::try_from(span).unwrap());
        let time = oldest.time() + SignedDuration::from_secs(i64::try_from(ahead).unwrap() - 60);
        let good = self.good();
        let expected = good.iter().rev().find(|name| name.time() <= time);
        let destinations = self.destinations();
        let catalog = Catalog::read(&*destinations[0]).unwrap();
        let known = Known::read(&self.layout.known()).unwrap();
        let scope = Scope::Volume(self.origin.volume);
        let attest = |record: &_| known.attest_record(record);
        let chosen = select(&catalog.records, &Wanted::At(time), &scope, &attest, None);
        let chosen = chosen.map(|choice| (choice.record.name, choice.expected));
        assert_eq!(chosen.as_ref().ok().map(|(name, _)| name), expected);
        let Ok((name, sha256)) = chosen else {
            self.count("nothing at that time");
            return;
        };
        let chain = Chain::open(&*destinations[0], &name.to_string(), &[], sha256).unwrap();
        let made = &self.made[&name];
        let mut after = look(self.layout.root());
        after.retain(|path, _| {
            let (category, top) = part(path);
            let is_foreign = category == Category::Other && !made.look.contains_key(&top);
            !made.include.contains(&category) || is_foreign
        });
        after.extend(made.look.clone());
        let request = restore::Request {
            id: Uuid::new_v4(),
            backup: chain.header().id,
            only: None,
            started_at: Timestamp::now(),
        };
        let volume = Volume::new(&self.layout);
        if made.look.is_empty() && after == look(self.layout.root()) {
            return;
        }
        restore::run(&volume, &chain, &request, &NoCheck).unwrap();
        same(&look(self.layout.root()), &after);
        self.count("in place");
    }
}

fn same(found: &Look, expected: &Look) {
    let names = |look: &Look| look.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (path, entry) in expected {
        // Contents are too long for a message.
        assert!(found.get(path) == Some(entry), "{}", path.display());
    }
}

/// Tells which sequence failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the sequence with seed {} failed", self.0);
        }
    }
}

/// How often each thing happened.
type Counts = BTreeMap<&'static str, u64>;

fn live(seeds: &std::ops::Range<u64>) -> Counts {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let one = &|first: usize| {
        let mut done = Counts::new();
        for seed in seeds.clone().skip(first).step_by(threads) {
            let _seed = Seed(seed);
            let mut life = Life::new(seed);
            for _ in 0..STEPS {
                life.step();
            }
            for (what, count) in life.done {
                *done.entry(what).or_default() += count;
            }
        }
        done
    };
    let mut all = Counts::new();
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || one(first)))
            .collect();
        for thread in started {
            for (what, count) in thread.join().unwrap() {
                *all.entry(what).or_default() += count;
            }
        }
    });
    all
}

#[test]
fn sixty_lives_of_a_volume_are_as_the_model_says() {
    let done = live(&(0..60));
    // Each thing happened, or the test shows nothing.
    for what in [
        "change",
        "full",
        "incremental",
        "retention",
        "deleted",
        "lost",
        "refused",
        "by name",
        "in place",
    ] {
        assert!(done.get(what).is_some_and(|count| *count > 10), "{done:?}");
    }
}

#[test]
#[ignore = "minutes: make test-long"]
fn two_thousand_lives_of_a_volume_are_as_the_model_says() {
    live(&(1000..3000));
}
