//! Monitor: how much lies where, how the volume grows, and whether it is healthy.
//!
//! In come the volume and the time, out come exact numbers; programs turn them into the guide's report. Nothing is
//! changed but a sample in the small history of use, where that can be written.

mod part;
mod usage;
mod walk;

use std::io;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{Access, AtFlags, CWD, FileType};
use serde::Serialize;

use part::{Part, SHOWN};
pub use usage::{Growth, Sample};
pub use walk::Pace;
use walk::{Count, Counts, Hurried};

use crate::archive::name::ArchiveName;
use crate::archive::path::RelativePath;
use crate::descriptor;
use crate::health::{Check, State};
use crate::layout::{DIRECTORIES, Layout};
use crate::progress::{Progress, Silent};
use crate::space::{self, Space};

/// A newest backup of this age is worth a warning.
const BACKUP_OLD: SignedDuration = SignedDuration::from_hours(48);
/// Most directories that one line names.
const MAX_NAMED: usize = 5;

/// The volume at one time.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When it was looked at.
    pub generated: Timestamp,
    /// The mount point.
    pub root: String,
    /// Bytes of all files, as readers see them; a file with several names counts once.
    pub bytes: u64,
    /// All regular files.
    pub files: u64,
    /// The guide's directories.
    pub directories: Vec<DirectoryUse>,
    /// The file system that holds the volume.
    pub volume: Volume,
    /// The newest backup on the volume.
    pub last_backup: Option<Backup>,
    /// Backups on the volume.
    pub backups: u64,
    /// Log files that were written in the last 24 hours.
    pub recent_logs: u64,
    /// Files of all caches.
    pub cache_files: u64,
    /// How the volume grows; absent before there are samples of a day.
    pub growth: Option<Growth>,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// One directory's use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DirectoryUse {
    /// Its name.
    pub name: &'static str,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its regular files.
    pub files: u64,
    /// When the latest of them changed.
    pub newest: Option<Timestamp>,
}

/// The file system's size and use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Bytes.
    pub capacity: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that can still be written.
    pub free: u64,
    /// Files that it can have; 0 where the file system doesn't count them.
    pub inodes: u64,
    /// Files that it can still take.
    pub inodes_free: u64,
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Its file.
    pub name: ArchiveName,
    /// Its bytes.
    pub bytes: u64,
    /// When it was made.
    pub time: Timestamp,
    /// Seconds since then; 0 for one of the future.
    pub age_seconds: u64,
}

impl From<Space> for Volume {
    fn from(space: Space) -> Self {
        Self {
            capacity: space.capacity,
            used: space.used,
            free: space.free,
            inodes: space.inodes,
            inodes_free: space.inodes_free,
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be looked at: {source}: name the volume's mount point with --root")]
pub struct MonitorError {
    /// The root.
    pub path: String,
    /// What the system said.
    pub source: io::Error,
}

/// Counts everything on the volume and checks it.
pub fn run(
    layout: &Layout,
    now: Timestamp,
    progress: &dyn Progress,
) -> Result<Report, MonitorError> {
    let failed = |source| MonitorError {
        path: layout.root().display().to_string(),
        source,
    };
    progress.step("Counting files");
    let counts = walk::count(layout.root(), clock(now), progress, &Hurried).map_err(failed)?;
    let space = space::measure(layout.root()).map_err(failed)?;
    let (backups, last_backup) = backups(layout, now).map_err(failed)?;
    let of = |part: Part| counts.parts[part as usize];
    let all = counts
        .parts
        .iter()
        .fold(Count::default(), |sum, part| sum.plus(*part));
    let mut checks = checks(layout, &space);
    checks.push(backup_check(backups, last_backup.as_ref()));
    if let Some(example) = &counts.example {
        checks.push(Check {
            name: "readable",
            state: State::Failed,
            message: format!(
                "{} directories can't be read, such as {example}",
                counts.unread
            ),
            fix: Some("run `predictor storage setup`, which repairs owners and modes".to_owned()),
        });
    }
    let sample = Sample {
        time: now,
        bytes: all.bytes,
        files: all.files,
    };
    Ok(Report {
        generated: now,
        root: layout.root().display().to_string(),
        bytes: all.bytes,
        files: all.files,
        directories: directories(&counts),
        volume: space.into(),
        last_backup,
        backups,
        recent_logs: of(Part::Logs).recent,
        cache_files: of(Part::MlCache).files + of(Part::StockCache).files,
        growth: growth(layout, sample, space.free),
        checks,
    })
}

/// Counts the files of the guide's directories, and nothing else: what a service does beside its work.
///
/// An end by the pace is [`io::ErrorKind::Interrupted`].
pub fn count(layout: &Layout, now: Timestamp, pace: &dyn Pace) -> io::Result<Vec<DirectoryUse>> {
    let counts = walk::count(layout.root(), clock(now), &Silent, pace)?;
    Ok(directories(&counts))
}

fn clock(now: Timestamp) -> SystemTime {
    let second = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    SystemTime::UNIX_EPOCH + second
}

fn directories(counts: &Counts) -> Vec<DirectoryUse> {
    let of = |part: Part| counts.parts[part as usize];
    let stock = of(Part::StockCache).plus(of(Part::StockInner));
    let shown = |(part, name): &(Part, &'static str)| {
        let count = match part {
            Part::StockData => of(*part).plus(stock),
            _ => of(*part),
        };
        directory_use(name, &count)
    };
    SHOWN.iter().map(shown).collect()
}

fn directory_use(name: &'static str, count: &Count) -> DirectoryUse {
    DirectoryUse {
        name,
        bytes: count.bytes,
        files: count.files,
        newest: count
            .newest
            .and_then(|second| Timestamp::from_second(second).ok()),
    }
}

/// Takes a sample where one is due, and looks at all of them.
fn growth(layout: &Layout, sample: Sample, free: u64) -> Option<Growth> {
    // A history that can't be read or written costs the forecast, not the report.
    let (samples, is_new) = usage::with(usage::read(layout).unwrap_or_default(), sample);
    if is_new {
        let _ = usage::write(layout, &samples);
    }
    usage::growth(&samples, free)
}

/// How many backups there are, and the newest, which is none of the future.
fn backups(layout: &Layout, now: Timestamp) -> io::Result<(u64, Option<Backup>)> {
    let root = descriptor::open_root(layout.root())?;
    let Ok(folder) = descriptor::open_child(&root, "backups") else {
        return Ok((0, None));
    };
    let (mut count, mut newest) = (0, None);
    descriptor::each_name(&folder, &mut Vec::new(), |name, _| {
        let text = name.to_str().ok();
        let Some(name) = text.and_then(|text| text.parse::<ArchiveName>().ok()) else {
            return Ok(());
        };
        let Ok(facts) = descriptor::facts(&folder, name.to_string()) else {
            return Ok(());
        };
        if facts.kind == FileType::RegularFile {
            count += 1;
            // A wrong clock made it: it says nothing of how old the newest is.
            if name.is_future(now) {
                return Ok(());
            }
            let found = (name.time(), name.to_string(), name, facts.size);
            newest = newest.take().max(Some(Newest(found)));
        }
        Ok(())
    })?;
    let newest = newest.map(|Newest((time, _, name, bytes))| Backup {
        name,
        bytes,
        time,
        age_seconds: u64::try_from(now.duration_since(time).as_secs()).unwrap_or_default(),
    });
    Ok((count, newest))
}

/// Compared by time, then by the text of the name.
struct Newest((Timestamp, String, ArchiveName, u64));

impl PartialEq for Newest {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Newest {}

impl PartialOrd for Newest {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Newest {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.0, &self.0.1).cmp(&(other.0.0, &other.0.1))
    }
}

/// The guide's four directories, the others together, permissions, and room.
fn checks(layout: &Layout, space: &Space) -> Vec<Check> {
    let named = [
        ("ml_models", "ML models"),
        ("stock_data", "Stock data"),
        ("logs", "Logs"),
        ("backups", "Backups"),
    ];
    let is_directory = |path: &str| {
        let found = RelativePath::new(path).ok();
        found.is_some_and(|path| {
            descriptor::open_root(layout.root())
                .and_then(|root| descriptor::open_below(&root, &path))
                .is_ok()
        })
    };
    let mut checks: Vec<Check> = named
        .iter()
        .map(|(path, title)| {
            if is_directory(path) {
                Check::ok(path, format!("{title} directory exists"))
            } else {
                let message = format!("{title} directory is missing");
                Check::failed(path, message, "run `predictor storage setup`")
            }
        })
        .collect();
    let missing = DIRECTORIES.iter().filter(|path| !is_directory(path));
    let missing: Vec<&str> = missing.copied().collect();
    let is_named = |path: &&str| named.iter().any(|(own, _)| own == path);
    if missing.iter().any(|path| !is_named(path)) {
        let message = format!(
            "{} directories are missing: {}",
            missing.len(),
            list(&missing)
        );
        let fix = "run `predictor storage setup`";
        checks.push(Check::failed("directories", message, fix));
    }
    let refused = DIRECTORIES.iter().copied().filter(|path| {
        let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        !missing.contains(path)
            && rustix::fs::accessat(CWD, layout.join(path), wanted, AtFlags::EACCESS).is_err()
    });
    let refused: Vec<&str> = refused.collect();
    checks.push(if refused.is_empty() {
        Check::ok(
            "permissions",
            "Directories can be read and written".to_owned(),
        )
    } else {
        let message = format!("Not readable and writable: {}", list(&refused));
        Check::failed(
            "permissions",
            message,
            "run `predictor storage setup`, or chown -R 1001:1001 the volume",
        )
    });
    checks.extend(crate::health::room(space));
    checks
}

fn list(paths: &[&str]) -> String {
    let mut text = paths[..paths.len().min(MAX_NAMED)].join(", ");
    if paths.len() > MAX_NAMED {
        text.push_str(", …");
    }
    text
}

fn backup_check(count: u64, newest: Option<&Backup>) -> Check {
    let fix = "run `predictor storage backup`, or schedule it";
    let Some(newest) = newest else {
        if count > 0 {
            let message = format!("{count} backup(s) available, all with names of the future");
            return Check::warning("backup_status", message, fix);
        }
        return Check::warning("backup_status", "No backups available".to_owned(), fix);
    };
    let days = newest.age_seconds / 86_400;
    let hours = newest.age_seconds % 86_400 / 3600;
    let age = match days {
        0 => format!("{hours} h"),
        _ => format!("{days} d {hours} h"),
    };
    if i64::try_from(newest.age_seconds).is_ok_and(|age| age <= BACKUP_OLD.as_secs()) {
        let message = format!("{count} backup(s) available");
        return Check::ok("backup_status", message);
    }
    let message = format!("{count} backup(s) available, the newest is {age} old");
    Check::warning("backup_status", message, fix)
}
