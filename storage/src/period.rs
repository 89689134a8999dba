//! Lengths of time as people write them: `30m`, `24h`, `7d`.
//!
//! In comes text of our own pattern, out comes a [`Period`], which is shown as it
//! was written. Fractions, signs, spaces and joined units (`1h30m`) are refused.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a period has to look like, for messages.
pub const PERIOD_FORM: &str = "a whole number and one of s, m, h, d, such as 30m, 24h or 7d";
/// Most digits, as in the rule that the custom resource has for the same texts.
const MAX_DIGITS: usize = 6;

/// A positive length of time that matches `^[1-9][0-9]{0,5}[smhd]$`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    count: u64,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

impl Unit {
    const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::Second => 's',
            Self::Minute => 'm',
            Self::Hour => 'h',
            Self::Day => 'd',
        }
    }
}

/// The text is not a period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} is not a length of time: write {PERIOD_FORM}, at least 1 and at most 999999")]
pub struct PeriodError {
    /// The beginning of the refused text.
    pub shown: String,
}

impl Period {
    /// The same length for the standard library.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.count * self.unit.seconds())
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || PeriodError {
            shown: text.chars().take(24).collect(),
        };
        let unit = match text.chars().last() {
            Some('s') => Unit::Second,
            Some('m') => Unit::Minute,
            Some('h') => Unit::Hour,
            Some('d') => Unit::Day,
            _ => return Err(refused()),
        };
        let digits = &text[..text.len() - 1];
        let fits = (1..=MAX_DIGITS).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !fits {
            return Err(refused());
        }
        let count = digits.parse().map_err(|_| refused())?;
        Ok(Self { count, unit })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.count, self.unit.letter())
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_period_is_shown_as_it_was_written() {
        for text in ["30m", "24h", "7d", "90s", "999999d"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        assert_eq!(
            "24h".parse::<Period>().unwrap().duration(),
            "1d".parse::<Period>().unwrap().duration()
        );
    }

    #[test]
    fn other_forms_are_refused_with_the_accepted_one() {
        for text in [
            "",
            "h",
            "0h",
            "-1h",
            "+1h",
            "1.5h",
            "1h30m",
            "1 h",
            "1H",
            "1000000d",
            "01h",
            "99999999999999999999d",
            "1ö",
            "½h",
        ] {
            let error = text.parse::<Period>().unwrap_err().to_string();
            assert!(error.contains("30m, 24h or 7d"), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,12}") {
            if let Ok(period) = text.parse::<Period>() {
                prop_assert!(period.duration() >= Duration::from_secs(1));
            }
        }
    }
}
