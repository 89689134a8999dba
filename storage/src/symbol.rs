//! The ticker symbol: the only text from outside that may become part of a path.
//!
//! In comes any text; out comes a [`Symbol`], upper-cased and checked. Nothing else
//! in the workspace may turn a name from a request, a flag or a file into a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// Longest symbol in characters.
pub const MAX_SYMBOL_LENGTH: usize = 10;

/// A ticker symbol that matches `^[A-Z][A-Z0-9.-]{0,9}$`.
///
/// It starts with a letter and has no path separator, so it is always one plain
/// path component and never `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Symbol(String);

/// The text is not a symbol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{shown:?} is not a stock symbol: use a letter followed by at most 9 letters, digits, dots or dashes, such as NVDA or BRK.B"
)]
pub struct SymbolError {
    /// The beginning of the refused text, bounded so that it can go into a log line.
    pub shown: String,
}

impl Symbol {
    /// Upper-cases `text` and checks it; spaces around it are not accepted.
    pub fn parse(text: &str) -> Result<Self, SymbolError> {
        let refused = || SymbolError {
            shown: text.chars().take(24).collect(),
        };
        let bytes = text.as_bytes();
        let rest_fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        match bytes.split_first() {
            Some((first, rest))
                if first.is_ascii_alphabetic()
                    && bytes.len() <= MAX_SYMBOL_LENGTH
                    && rest.iter().all(rest_fits) =>
            {
                Ok(Self(text.to_ascii_uppercase()))
            }
            _ => Err(refused()),
        }
    }

    /// The upper-case text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl AsRef<str> for Symbol {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for Symbol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_becomes_upper_case() {
        assert_eq!(Symbol::parse("brk.b").unwrap().as_str(), "BRK.B");
    }

    #[test]
    fn the_longest_symbol_has_ten_characters() {
        assert!(Symbol::parse("A123456789").is_ok());
        assert!(Symbol::parse("A1234567890").is_err());
    }

    #[test]
    fn nothing_that_could_leave_a_folder_is_a_symbol() {
        for text in [
            "", ".", "..", "../A", "A/B", "A\\B", "-A", ".A", "1A", " A", "A ", "A\0", "A\n", "ÄB",
            "ſ", "A%2F",
        ] {
            assert!(Symbol::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_refused_text_is_shown_only_in_part() {
        let error = Symbol::parse(&"x".repeat(5000)).unwrap_err();
        assert_eq!(error.shown.len(), 24);
    }

    #[test]
    fn json_is_checked_like_any_other_text() {
        assert!(serde_json::from_str::<Symbol>("\"../NVDA\"").is_err());
        assert_eq!(
            serde_json::from_str::<Symbol>("\"nvda\"").unwrap().as_str(),
            "NVDA"
        );
    }
}
