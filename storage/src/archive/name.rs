//! Names of archives: `stock_prediction_backup_YYYYMMDD_HHMMSS.tar.gz`, UTC, `.age` when encrypted.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PREFIX: &str = "stock_prediction_backup_";
const PLAIN: &str = ".tar.gz";
const ENCRYPTED: &str = ".tar.gz.age";
const META: &str = ".meta.json";
const TIME: &str = "%Y%m%d_%H%M%S";
/// How far clocks of several machines may differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// The name of an archive: a second, and whether it is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArchiveName {
    second: i64,
    encrypted: bool,
}

/// The text is no archive's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no backup's name: write it as `predictor storage list` shows it, such as stock_prediction_backup_20250801_120000.tar.gz"
)]
pub struct NameError(String);

impl ArchiveName {
    /// The name for a moment; its fraction of a second is dropped.
    pub fn at(time: Timestamp, encrypted: bool) -> Self {
        Self {
            second: time.as_second(),
            encrypted,
        }
    }

    /// The name to try when this one is taken.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            second: self.second + 1,
            encrypted: self.encrypted,
        }
    }

    /// The moment in the name.
    pub fn time(self) -> Timestamp {
        Timestamp::from_second(self.second).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Whether its moment is still to come: a wrong clock made it, and it is newer than nothing.
    pub fn is_future(self, now: Timestamp) -> bool {
        self.time().duration_since(now) > CLOCK_TOLERANCE
    }

    /// Whether the archive is encrypted.
    pub const fn is_encrypted(self) -> bool {
        self.encrypted
    }

    /// The name without an ending, as the guide's output shows it.
    pub fn stem(self) -> String {
        format!("{PREFIX}{}", self.time().strftime(TIME))
    }

    /// The name of the small file beside the archive.
    pub fn meta(self) -> String {
        format!("{}{META}", self.stem())
    }

    /// Whether `text` is the name of a [`meta`](Self::meta) file, whatever its archive is called.
    pub fn is_meta(text: &str) -> bool {
        text.strip_suffix(META).is_some_and(|stem| {
            stem.starts_with(PREFIX) && format!("{stem}{PLAIN}").parse::<Self>().is_ok()
        })
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.encrypted { ENCRYPTED } else { PLAIN };
        write!(formatter, "{}{end}", self.stem())
    }
}

impl FromStr for ArchiveName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || NameError(text.chars().take(80).collect());
        let rest = text.strip_prefix(PREFIX).ok_or_else(refused)?;
        let (time, encrypted) = match (rest.strip_suffix(ENCRYPTED), rest.strip_suffix(PLAIN)) {
            (Some(time), _) => (time, true),
            (None, Some(time)) => (time, false),
            (None, None) => return Err(refused()),
        };
        let parsed = DateTime::strptime(TIME, time).map_err(|_| refused())?;
        let time = TimeZone::UTC.to_timestamp(parsed).map_err(|_| refused())?;
        let name = Self::at(time, encrypted);
        // One spelling only: a parser may be more lenient than the printer.
        if name.to_string() == text {
            Ok(name)
        } else {
            Err(refused())
        }
    }
}

impl Serialize for ArchiveName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArchiveName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let time: Timestamp = "2025-08-01T12:00:00.7Z".parse().unwrap();
        let name = ArchiveName::at(time, false);
        assert_eq!(
            name.to_string(),
            "stock_prediction_backup_20250801_120000.tar.gz"
        );
        assert_eq!(
            name.meta(),
            "stock_prediction_backup_20250801_120000.meta.json"
        );
        assert!(ArchiveName::is_meta(&name.meta()));
        let secret = ArchiveName::at(time, true).next();
        assert_eq!(
            secret.to_string(),
            "stock_prediction_backup_20250801_120001.tar.gz.age"
        );
        for name in [name, secret] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }

    #[test]
    fn other_names_are_refused() {
        for text in [
            "",
            "backup_20250801_120000.tar.gz",
            "stock_prediction_backup_20250801_120000.tar",
            "stock_prediction_backup_20251301_120000.tar.gz",
            "stock_prediction_backup_2025081_120000.tar.gz",
            "../stock_prediction_backup_20250801_120000.tar.gz",
            "stock_prediction_backup_20250801_120000.tar.gz.age.age",
        ] {
            assert!(text.parse::<ArchiveName>().is_err(), "{text}");
        }
    }
}
