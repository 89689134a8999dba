//! One log file that rotates daily and by size.
//!
//! In come lines, out goes a file that is never larger than the limit by more than a
//! line. Errors are swallowed here, with a pause before the next attempt.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use stockpredictor_storage::atomic::FILE_MODE;

/// A file of this size is rotated.
const MAX_BYTES: u64 = 50 * 1024 * 1024;
/// How long nothing is tried after an error.
const PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked whether the file is still there under its name.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Most files of one day.
const MAX_A_DAY: u32 = 10_000;

/// A log file under its own name, or under the pod's where another replica has it.
pub struct RotatingFile {
    folder: PathBuf,
    name: String,
    pod: String,
    max_bytes: u64,
    today: fn() -> Date,
    check_every: Duration,
    open: Option<Open>,
    retry_at: Option<Instant>,
}

struct Open {
    file: File,
    path: PathBuf,
    size: u64,
    day: Date,
    /// Device and inode.
    identity: (u64, u64),
    checked: Instant,
}

impl Open {
    /// Whether the name still leads to this file; a person may have removed or moved it.
    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|data| identity(&data) == self.identity)
    }
}

impl RotatingFile {
    /// `<folder>/<name>.log`, or `<name>.<pod>.log`.
    pub fn open(folder: &Path, name: &str, pod: &str) -> Self {
        let mut opened = Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            pod: pod.to_owned(),
            max_bytes: MAX_BYTES,
            today: utc_day,
            check_every: CHECK_EVERY,
            open: None,
            retry_at: None,
        };
        // The file is there from the start, also when nothing is ever written; a failure shows at the first line.
        opened.open = opened.reopen((opened.today)()).ok();
        opened
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let today = (self.today)();
        let due = |open: &Open| open.day != today || open.size + line.len() as u64 > self.max_bytes;
        if let Some(open) = &mut self.open
            && open.checked.elapsed() >= self.check_every
        {
            open.checked = Instant::now();
            if !open.is_there() {
                self.open = None;
            }
        }
        // What a process of another day left is put aside as well.
        let mut open = match self.open.take() {
            Some(open) if open.size > 0 && due(&open) => {
                rotate(&open)?;
                drop(open);
                self.reopen(today)?
            }
            Some(open) => open,
            None => self.reopen(today)?,
        };
        open.file.write_all(line)?;
        open.size += line.len() as u64;
        open.day = today;
        self.open = Some(open);
        Ok(())
    }

    /// Opens the plain name; where another process holds it, the pod's.
    fn reopen(&self, today: Date) -> io::Result<Open> {
        if !self.folder.exists() {
            // One level only: where all of the volume is gone, no other one is made up.
            fs::create_dir(&self.folder)?;
        }
        let plain = self.folder.join(format!("{}.log", self.name));
        let file = append_to(&plain)?;
        // Without locks on this file system the lines of replicas mix, which is better than none.
        let (file, path) = match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => {
                let own = self.folder.join(format!("{}.{}.log", self.name, self.pod));
                let file = append_to(&own)?;
                // Held so that cleanup knows a log that is being written; nobody else has this name.
                let _ = file.try_lock();
                (file, own)
            }
            _ => (file, plain),
        };
        let data = file.metadata()?;
        let changed = data
            .modified()
            .ok()
            .and_then(|time| Timestamp::try_from(time).ok());
        let day = changed.filter(|_| data.len() > 0).map_or(today, day_of);
        Ok(Open {
            file,
            path,
            size: data.len(),
            day,
            identity: identity(&data),
            checked: Instant::now(),
        })
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.retry_at.is_none_or(|at| Instant::now() >= at) {
            self.retry_at = None;
            if self.append(line).is_err() {
                self.open = None;
                self.retry_at = Some(Instant::now() + PAUSE);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn identity(data: &fs::Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
}

/// `api.log` of 2 January becomes `api.2024-01-02.log`, then `api.2024-01-02.1.log`.
fn rotate(open: &Open) -> io::Result<()> {
    let stem = open.path.with_extension("");
    for number in 0..MAX_A_DAY {
        let suffix = if number == 0 {
            String::new()
        } else {
            format!(".{number}")
        };
        let target = PathBuf::from(format!("{}.{}{suffix}.log", stem.display(), open.day));
        if !target.exists() {
            return fs::rename(&open.path, target);
        }
    }
    Err(io::Error::other("too many log files of one day"))
}

fn utc_day() -> Date {
    day_of(Timestamp::now())
}

fn day_of(time: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(time).date()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI8, Ordering};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_day_and_a_full_file_begin_another_one() {
        static DAY: AtomicI8 = AtomicI8::new(2);
        let folder = tempfile::tempdir().unwrap();
        let mut log = RotatingFile::open(folder.path(), "api", "p");
        log.max_bytes = 10;
        log.today = || jiff::civil::date(2024, 1, DAY.load(Ordering::Relaxed));
        for line in ["12345\n", "6789\n", "abc\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        DAY.store(3, Ordering::Relaxed);
        log.write_all(b"next\n").unwrap();
        assert_eq!(
            names(folder.path()),
            ["api.2024-01-02.1.log", "api.2024-01-02.log", "api.log"]
        );
        assert_eq!(
            fs::read_to_string(folder.path().join("api.log")).unwrap(),
            "next\n"
        );
    }

    #[test]
    fn a_second_replica_writes_under_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = RotatingFile::open(folder.path(), "api", "pod-1");
        let mut second = RotatingFile::open(folder.path(), "api", "pod-2");
        first.write_all(b"one\n").unwrap();
        second.write_all(b"two\n").unwrap();
        assert_eq!(names(folder.path()), ["api.log", "api.pod-2.log"]);
    }

    #[test]
    fn a_file_or_folder_that_was_removed_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        let path = logs.join("api.log");
        let mut log = RotatingFile::open(&logs, "api", "p");
        log.check_every = Duration::ZERO;
        log.write_all(b"one\n").unwrap();
        fs::remove_file(&path).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        fs::remove_dir_all(&logs).unwrap();
        log.write_all(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_folder_that_is_not_there_loses_lines_and_nothing_else() {
        let mut log = RotatingFile::open(Path::new("/nonexistent/logs"), "api", "p");
        assert_eq!(log.write(b"one\n").unwrap(), 4);
    }
}
