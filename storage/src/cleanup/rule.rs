//! The rules: which file goes at what age. Pure; nothing is touched here.
//!
//! In come a place and a name, out comes what is to be done with a file of some age.

use std::time::Duration;

use jiff::civil::Date;
use rustix::fs::FileType;

use super::{Retention, UNSCORED};
use crate::archive::category::RESTORE_PREFIX;

/// Which files a directory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// What can be computed or fetched again.
    Cache,
    /// Stored predictions.
    Predictions,
    /// Logs.
    Logs,
    /// Everything else: only our own temp files go.
    Other,
}

/// Top-level directories that are never entered: other programs' databases, and what the file system makes.
const NOT_ENTERED: [&[u8]; 2] = [b"monitoring", b"lost+found"];

impl Place {
    /// The place of a directory at `path`, relative to the root; `None` where nobody may enter.
    pub fn of(path: &[u8]) -> Option<Self> {
        let top = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        if NOT_ENTERED.contains(&top) || top.starts_with(RESTORE_PREFIX.as_bytes()) {
            return None;
        }
        let within = |directory: &[u8]| {
            path.strip_prefix(directory)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        Some(if within(b"ml_cache") || within(b"stock_data/cache") {
            Self::Cache
        } else if within(b"stock_data/predictions/daily") {
            Self::Predictions
        } else if within(b"logs") {
            Self::Logs
        } else {
            Self::Other
        })
    }

    /// Whether directories that are empty go, too.
    pub const fn loses_empty_directories(self) -> bool {
        matches!(self, Self::Cache | Self::Predictions)
    }

    /// Whether a file may go at this age; of a prediction, if it was scored.
    pub fn is_old(self, name: &[u8], kind: FileType, age: Duration, retention: &Retention) -> bool {
        let is_file = matches!(kind, FileType::RegularFile | FileType::Symlink);
        is_file
            && match self {
                Self::Cache => age > retention.cache,
                Self::Predictions => age > retention.predictions,
                Self::Logs => is_log(name) && age > retention.logs,
                Self::Other => false,
            }
    }
}

/// Whether an old prediction has waited for its real price for long enough.
pub fn has_waited(age: Duration) -> bool {
    age > UNSCORED
}

/// `api.log`, `api.2024-01-02.log`, `api.log.1`, `api.log.gz`; a person's notes among the logs are none.
fn is_log(name: &[u8]) -> bool {
    let dotted = |rest: &[u8]| rest.is_empty() || rest.starts_with(b".");
    name.windows(4)
        .enumerate()
        .any(|(index, part)| part == b".log" && dotted(&name[index + 4..]))
}

/// Symbol and session of `NVDA_2024-01-02.json`.
pub fn prediction_of(name: &[u8]) -> Option<(&str, Date)> {
    let stem = std::str::from_utf8(name).ok()?.strip_suffix(".json")?;
    let (symbol, date) = stem.rsplit_once('_')?;
    let date = date.parse().ok()?;
    crate::symbol::Symbol::parse(symbol).ok()?;
    Some((symbol, date))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_has_its_rules() {
        let table: [(&[u8], Option<Place>); 14] = [
            (b"ml_cache", Some(Place::Cache)),
            (b"ml_cache/predictions_cache/deep", Some(Place::Cache)),
            (b"ml_cached", Some(Place::Other)),
            (b"stock_data", Some(Place::Other)),
            (b"stock_data/cache/daily_cache", Some(Place::Cache)),
            (b"stock_data/historical/NVDA", Some(Place::Other)),
            (b"stock_data/predictions", Some(Place::Other)),
            (b"stock_data/predictions/daily", Some(Place::Predictions)),
            (b"stock_data/predictions/analysis", Some(Place::Other)),
            (b"logs/old", Some(Place::Logs)),
            (b"backups", Some(Place::Other)),
            (b".restore-1/ml_cache", None),
            (b"monitoring", None),
            (b"lost+found", None),
        ];
        for (path, place) in table {
            assert_eq!(Place::of(path), place, "{}", path.escape_ascii());
        }
    }

    #[test]
    fn logs_are_known_by_their_names() {
        for name in ["api.log", "api.2024-01-02.1.log", "api.log.1", "api.log.gz"] {
            assert!(is_log(name.as_bytes()), "{name}");
        }
        for name in ["notes.txt", "blog", "api.logbook", "log"] {
            assert!(!is_log(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn ages_are_compared_with_the_rule_of_the_place() {
        let retention = Retention::default();
        let hour = Duration::from_hours;
        let table = [
            (Place::Cache, "a", 24, false),
            (Place::Cache, "a", 25, true),
            (Place::Predictions, "a", 24 * 7, false),
            (Place::Predictions, "a", 24 * 7 + 1, true),
            (Place::Logs, "api.log", 24 * 30, false),
            (Place::Logs, "api.log", 24 * 30 + 1, true),
            (Place::Logs, "notes", 24 * 300, false),
            (Place::Other, "a", 24 * 3000, false),
        ];
        for (place, name, age, expected) in table {
            let kind = FileType::RegularFile;
            let old = place.is_old(name.as_bytes(), kind, hour(age), &retention);
            assert_eq!(old, expected, "{place:?} {name} {age}");
        }
        assert!(!Place::Cache.is_old(b"a", FileType::Fifo, hour(25), &retention));
    }

    #[test]
    fn predictions_are_named_by_symbol_and_session() {
        let date = jiff::civil::date(2024, 1, 2);
        assert_eq!(
            prediction_of(b"BRK.B_2024-01-02.json"),
            Some(("BRK.B", date))
        );
        for name in ["NVDA.json", "NVDA_x.json", "../a_2024-01-02.json", "\u{e9}"] {
            assert_eq!(prediction_of(name.as_bytes()), None, "{name}");
        }
    }
}
