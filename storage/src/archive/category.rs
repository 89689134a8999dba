//! What a backup can be limited to, in the guide's words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One part of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// `ml_models/`.
    Models,
    /// `ml_cache/`.
    Cache,
    /// `scalers/`.
    Scalers,
    /// `stock_data/`.
    StockData,
    /// `config/`.
    Config,
    /// `logs/`.
    Logs,
    /// Whatever else lies on the volume and isn't ours. Part of a backup that isn't limited.
    Other,
}

/// The text names no part of the volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no part of the volume: write models, cache, scalers, stock-data, config, logs or other"
)]
pub struct CategoryError(String);

/// Top-level names that are never archived and never touched by a restore: our state, the archives themselves,
/// monitoring's databases (copies of a live database are broken ones) and what the file system makes.
pub const NEVER: [&str; 4] = [".stockpredictor", "backups", "monitoring", "lost+found"];
/// How the scratch folder of a restore begins; never archived either.
pub const RESTORE_PREFIX: &str = ".restore-";

impl Category {
    /// All of them, in the order in which people read them.
    pub const ALL: [Self; 7] = [
        Self::Models,
        Self::Cache,
        Self::Scalers,
        Self::StockData,
        Self::Config,
        Self::Logs,
        Self::Other,
    ];

    /// As in options and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Cache => "cache",
            Self::Scalers => "scalers",
            Self::StockData => "stock-data",
            Self::Config => "config",
            Self::Logs => "logs",
            Self::Other => "other",
        }
    }

    /// Its directory; `None` for [`Category::Other`].
    pub const fn directory(self) -> Option<&'static str> {
        match self {
            Self::Models => Some("ml_models"),
            Self::Cache => Some("ml_cache"),
            Self::Scalers => Some("scalers"),
            Self::StockData => Some("stock_data"),
            Self::Config => Some("config"),
            Self::Logs => Some("logs"),
            Self::Other => None,
        }
    }

    /// Where a name directly below the volume's root belongs; `None` for what is never archived.
    pub fn of_top_level(name: &[u8]) -> Option<Self> {
        let is_never = NEVER.iter().any(|never| never.as_bytes() == name);
        if is_never || name.starts_with(RESTORE_PREFIX.as_bytes()) {
            return None;
        }
        let own = |category: &Self| {
            category
                .directory()
                .is_some_and(|own| own.as_bytes() == name)
        };
        Some(Self::ALL.into_iter().find(own).unwrap_or(Self::Other))
    }
}

impl fmt::Display for Category {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Category {
    type Err = CategoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |category: &Self| category.as_str() == text;
        Self::ALL
            .into_iter()
            .find(named)
            .ok_or_else(|| CategoryError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_top_level_name_has_one_place() {
        let table: [(&[u8], _); 7] = [
            (b"ml_models", Some(Category::Models)),
            (b"stock_data", Some(Category::StockData)),
            (b"notes.txt", Some(Category::Other)),
            (b"\xff", Some(Category::Other)),
            (b"backups", None),
            (b".stockpredictor", None),
            (b".restore-1", None),
        ];
        for (name, expected) in table {
            assert_eq!(Category::of_top_level(name), expected, "{name:?}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for category in Category::ALL {
            assert_eq!(category.as_str().parse(), Ok(category));
        }
        let error = "modells".parse::<Category>().unwrap_err().to_string();
        assert!(error.contains("stock-data"), "{error}");
    }
}
