//! `GET /api/v1/stats`: what the operator and people want to know of the service.
//!
//! In comes the service, out comes the document of contracts/stats.json. Blocks on
//! the file system.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::symbol::Symbol;
use utoipa::ToSchema;

use super::problem::{Kind, Problem};
use super::state::Service;
use crate::calendar;
use crate::feature;
use crate::settings::ShownSetting;

/// Version of the document.
const VERSION: u32 = 1;

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Version of this document.
    pub version: u32,
    /// Release of the program.
    pub release: String,
    /// When the process started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// How it is.
    pub status: Status,
    /// Everything that keeps it from being `ok`.
    pub problems: Vec<StatsProblem>,
    /// The model.
    pub model: ModelStats,
    /// The volume.
    pub volume: VolumeStats,
    /// The served symbols.
    pub symbols: Vec<SymbolStats>,
    /// The prediction cache.
    pub cache: CacheStats,
    /// Every setting with its source.
    pub settings: Vec<ShownSetting>,
}

/// How the service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything works.
    Ok,
    /// Predictions are served, but neither cached nor stored.
    Degraded,
    /// No predictions: there is no model.
    Unavailable,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatsProblem {
    /// `ModelLoading`, `ModelMissing`, `ModelRefused`, `VolumeFull` or `VolumeNotWritable`.
    pub r#type: String,
    /// What it means and what to do.
    pub message: String,
}

/// The model's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelStats {
    /// `Loading`, `Loaded`, `ModelMissing` or `ModelRefused`.
    pub state: String,
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// SHA-256 of its graph.
    pub sha256: Option<String>,
    /// When it was taken into use.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub loaded_at: Option<Timestamp>,
    /// Why there is none.
    pub message: Option<String>,
    /// A version that was refused while this one works.
    pub candidate: Option<CandidateStats>,
}

/// A refused version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CandidateStats {
    /// Its version.
    pub version: String,
    /// Why it was refused.
    pub message: String,
}

/// The volume's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeStats {
    /// Its id; null where the marker can't be read.
    pub id: Option<String>,
    /// `installing` or `ready`; null where the marker can't be read.
    pub state: Option<String>,
    /// Whether it takes writes.
    pub writable: bool,
    /// Its size.
    pub capacity_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Inodes there are.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
    /// Whether backups lie in its `backups/`; null where that can't be read.
    pub holds_archives: Option<bool>,
}

/// One symbol's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SymbolStats {
    /// The symbol.
    pub symbol: String,
    /// `Ready`, `NoHistory`, `BrokenHistory` or `ShortHistory`.
    pub state: String,
    /// Last session of its history.
    #[schema(value_type = Option<String>, format = Date)]
    pub as_of: Option<Date>,
    /// Sessions that ended since.
    pub data_age: Option<u32>,
    /// What is wrong.
    pub message: Option<String>,
}

/// The cache's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheStats {
    /// Predictions in it.
    pub entries: u64,
    /// Most predictions in it.
    pub max_entries: u64,
    /// Answers without a computation since the start.
    pub hits: u64,
    /// Answers with one.
    pub misses: u64,
    /// Entries that made room for others.
    pub evictions: u64,
}

/// Status and problems, without looking at histories.
pub fn status(service: &Service) -> (Status, Vec<StatsProblem>) {
    let mut problems = Vec::new();
    let mut status = Status::Ok;
    if let Some(failure) = service.volume.state().failing {
        status = Status::Degraded;
        problems.push(StatsProblem {
            r#type: failure.kind.to_owned(),
            message: failure.message,
        });
    }
    if let Err(problem) = service.model.active() {
        status = Status::Unavailable;
        problems.push(StatsProblem {
            r#type: match problem.kind {
                Kind::ModelLoading => "ModelLoading",
                _ => model_state(&problem),
            }
            .to_owned(),
            message: problem.detail,
        });
    }
    (status, problems)
}

/// The whole document.
pub fn collect(service: &Service) -> Stats {
    let (status, problems) = status(service);
    let active = service.model.active();
    let window = active
        .as_ref()
        .map_or(feature::WINDOW, |active| active.pool.model().window);
    let counts = service.cache.counts();
    Stats {
        version: VERSION,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: service.started_at,
        status,
        problems,
        model: model_stats(service),
        volume: volume_stats(service),
        symbols: service
            .settings
            .symbols
            .iter()
            .map(|symbol| symbol_stats(service, symbol, window))
            .collect(),
        cache: CacheStats {
            entries: service.cache.approximate_count(),
            max_entries: service.cache.max_entries(),
            hits: counts.hits.load(Ordering::Relaxed),
            misses: counts.misses.load(Ordering::Relaxed),
            evictions: counts.evictions.load(Ordering::Relaxed),
        },
        settings: service.settings.shown.clone(),
    }
}

fn model_state(problem: &Problem) -> &'static str {
    match problem.kind {
        Kind::ModelLoading => "Loading",
        Kind::ModelMissing => "ModelMissing",
        _ => "ModelRefused",
    }
}

fn model_stats(service: &Service) -> ModelStats {
    let candidate = service.model.candidate();
    let candidate = candidate.map(|one| CandidateStats {
        version: one.version,
        message: one.message,
    });
    match service.model.active() {
        Ok(active) => {
            let model = active.pool.model();
            ModelStats {
                state: "Loaded".to_owned(),
                name: Some(model.name.clone()),
                version: Some(model.version.clone()),
                sha256: Some(model.sha256.clone()),
                loaded_at: Some(active.loaded_at),
                message: None,
                candidate,
            }
        }
        Err(problem) => ModelStats {
            state: model_state(&problem).to_owned(),
            name: None,
            version: None,
            sha256: None,
            loaded_at: None,
            message: Some(problem.detail),
            candidate,
        },
    }
}

fn volume_stats(service: &Service) -> VolumeStats {
    let state = service.volume.state();
    let marker = service.volume.marker();
    VolumeStats {
        id: marker.as_ref().map(|marker| marker.id.to_string()),
        state: marker.map(|marker| marker.state.as_str().to_owned()),
        writable: state.failing.is_none(),
        capacity_bytes: state.space.capacity,
        used_bytes: state.space.used,
        free_bytes: state.space.free,
        inodes: state.space.inodes,
        inodes_free: state.space.inodes_free,
        holds_archives: holds_archives(service.volume.root()),
    }
}

/// Looks at names only, and at no more of them than needed.
fn holds_archives(root: &Path) -> Option<bool> {
    let entries = match fs::read_dir(root.join("backups")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(false),
        Err(_) => return None,
    };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    Some(names.any(|name| {
        let name = name.to_str();
        name.is_some_and(|name| name.parse::<ArchiveName>().is_ok())
    }))
}

fn symbol_stats(service: &Service, symbol: &Symbol, window: usize) -> SymbolStats {
    let (as_of, problem) = service.check_symbol(symbol, window);
    let state = match problem.as_ref().map(|problem| problem.kind) {
        None => "Ready",
        Some(Kind::NoHistory) => "NoHistory",
        Some(Kind::ShortHistory) => "ShortHistory",
        Some(_) => "BrokenHistory",
    };
    SymbolStats {
        symbol: symbol.to_string(),
        state: state.to_owned(),
        as_of,
        data_age: as_of.map(|as_of| calendar::sessions_between(as_of, service.clock.today())),
        message: problem.map(|problem| problem.detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_archives_count_as_backups() {
        let volume = tempfile::tempdir().unwrap();
        assert_eq!(holds_archives(volume.path()), Some(false));
        let backups = volume.path().join("backups");
        fs::create_dir(&backups).unwrap();
        fs::write(backups.join("backup_schedule.log"), "").unwrap();
        assert_eq!(holds_archives(volume.path()), Some(false));
        let archive = "stock_prediction_backup_20250801_030000.tar.gz";
        fs::write(backups.join(archive), "").unwrap();
        assert_eq!(holds_archives(volume.path()), Some(true));
        fs::remove_dir_all(&backups).unwrap();
        fs::write(&backups, "no folder").unwrap();
        assert_eq!(holds_archives(volume.path()), None);
    }

    #[test]
    fn the_document_is_exactly_the_contracts() {
        let contract =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/stats.json");
        let text = std::fs::read_to_string(contract).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let stats: Stats = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(&stats).unwrap(), document);
        // The order of members is the contract's too: people read it.
        let compact = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(
            compact(&serde_json::to_string(&stats).unwrap()),
            compact(&text)
        );
    }
}
