//! Where everything lies on the volume: the guide's tree, and nothing else.
//!
//! In comes the root, out come paths. Nothing is read or written here.

use std::path::{Path, PathBuf};

use crate::symbol::Symbol;

/// The guide's directories, parents before children, relative to the root.
pub const DIRECTORIES: [&str; 21] = [
    "ml_models",
    "ml_cache",
    "ml_cache/predictions_cache",
    "ml_cache/model_cache",
    "scalers",
    "scalers/feature_scalers",
    "stock_data",
    "stock_data/historical",
    "stock_data/cache",
    "stock_data/cache/daily_cache",
    "stock_data/cache/intraday_cache",
    "stock_data/predictions",
    "stock_data/predictions/daily",
    "stock_data/predictions/analysis",
    "logs",
    "config",
    "backups",
    "monitoring",
    "monitoring/prometheus",
    "monitoring/grafana",
    STATE_DIRECTORY,
];

/// What is ours alone: marker and locks. Never archived.
pub const STATE_DIRECTORY: &str = ".stockpredictor";

/// Symbols whose history folders the guide shows.
pub const GUIDE_SYMBOLS: [&str; 3] = ["NVDA", "TSLA", "AAPL"];

/// The volume's paths.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, the mount point.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The mount point.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path of the tree, given relative to the root.
    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// `.stockpredictor/`.
    pub fn state(&self) -> PathBuf {
        self.join(STATE_DIRECTORY)
    }

    /// The marker that says what volume this is and whether it is complete.
    pub fn marker(&self) -> PathBuf {
        self.state().join("volume.json")
    }

    /// `backups/.index/`: what runs on this volume know of their archives.
    pub fn index(&self) -> PathBuf {
        self.join("backups/.index")
    }

    /// The archives that runs on this volume wrote, with their hashes.
    pub fn known(&self) -> PathBuf {
        self.index().join("known.jsonl")
    }

    /// The file that serve, backup and cleanup lock shared and restore exclusively.
    pub fn lock(&self) -> PathBuf {
        self.state().join("lock")
    }

    /// The file that keeps two setups apart.
    pub fn setup_lock(&self) -> PathBuf {
        self.state().join("setup.lock")
    }

    /// `ml_models/<name>/`, which holds versions and the file `current`.
    pub fn model(&self, name: &str) -> PathBuf {
        self.join("ml_models").join(name)
    }

    /// `stock_data/historical/<SYMBOL>/`.
    pub fn history(&self, symbol: &Symbol) -> PathBuf {
        self.join("stock_data/historical").join(symbol.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_their_children() {
        for (index, directory) in DIRECTORIES.iter().enumerate() {
            if let Some((parent, _)) = directory.rsplit_once('/') {
                assert!(DIRECTORIES[..index].contains(&parent), "{directory}");
            }
        }
    }
}
