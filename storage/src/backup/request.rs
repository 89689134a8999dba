//! What is asked of a backup, and whether it makes sense.

use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use super::engine::MAX_THREADS;
use super::report::{BackupError, DestinationReport};
use crate::archive::category::Category;
use crate::archive::header::{Kind, Origin};
use crate::archive::manifest::Time;
use crate::encrypt::Recipients;
use crate::layout::Layout;

/// Deflate's level when nobody asks for another.
pub const DEFAULT_LEVEL: i32 = 5;
/// Logs of so many days are taken when nobody asks for more.
pub const DEFAULT_LOGS_DAYS: u32 = 7;
/// How long a lock is waited for when nobody says so.
pub const DEFAULT_PATIENCE: Duration = Duration::from_mins(1);
/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The volume.
    pub layout: Layout,
    /// Full, or incremental where a base allows it.
    pub mode: Kind,
    /// An incremental one becomes a full one when its base would be older than this.
    pub full_every: Option<Duration>,
    /// Parts of the volume.
    pub include: Vec<Category>,
    /// Logs that changed in so many days are taken.
    pub logs_days: u32,
    /// Whose backup it is.
    pub origin: Origin,
    /// Deflate's level, 1 to 12.
    pub level: i32,
    /// Threads that pack, at most [`MAX_THREADS`]; 0 means one for each core. With 1 everything happens in the caller's
    /// thread, with the same system calls in the same order each time.
    pub threads: usize,
    /// `age1…` keys; none for an archive that anyone can read.
    pub recipients: Vec<String>,
    /// So many destinations must take the archive.
    pub min_successful: usize,
    /// Destinations that were asked for and aren't there: they are told with the others.
    pub unreachable: Vec<DestinationReport>,
    /// The time of the backup.
    pub now: Timestamp,
    /// Whether a loss of data since the last backup was intended.
    pub accept_shrink: bool,
    /// The program, with its version.
    pub generator: String,
    /// How long each lock is waited for.
    pub patience: Duration,
}

impl Request {
    /// A full backup of everything.
    pub fn new(layout: Layout, origin: Origin, now: Timestamp) -> Self {
        Self {
            layout,
            mode: Kind::Full,
            full_every: None,
            include: Category::ALL.to_vec(),
            logs_days: DEFAULT_LOGS_DAYS,
            origin,
            level: DEFAULT_LEVEL,
            threads: 0,
            recipients: Vec::new(),
            min_successful: 1,
            unreachable: Vec::new(),
            now,
            accept_shrink: false,
            generator: concat!("stockpredictor ", env!("CARGO_PKG_VERSION")).to_owned(),
            patience: DEFAULT_PATIENCE,
        }
    }

    /// Refuses what makes no sense with so many destinations.
    pub fn check(&self, destinations: usize) -> Result<(), BackupError> {
        let fault = if !(1..=12).contains(&self.level) {
            format!("the compression level is {}: write 1 to 12", self.level)
        } else if self.include.is_empty() {
            "no part of the volume is to be backed up: name one, or leave the option out".to_owned()
        } else if destinations == 0 {
            "there is no destination: name a folder or an URL".to_owned()
        } else if !(1..=destinations).contains(&self.min_successful) {
            format!(
                "{} destinations must succeed and there are {destinations}: write 1 to {destinations}",
                self.min_successful
            )
        } else {
            Recipients::parse(&self.recipients)?;
            return Ok(());
        };
        Err(BackupError::Request(fault))
    }

    /// Threads that pack, at least one.
    pub(super) fn threads(&self) -> usize {
        match self.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
        .min(MAX_THREADS)
    }

    /// Logs that changed last before this are left out.
    pub(super) fn oldest_log(&self) -> Time {
        Time {
            seconds: self.now.as_second() - i64::from(self.logs_days) * DAY,
            nanoseconds: self.now.subsec_nanosecond().try_into().unwrap_or(0),
        }
    }
}
