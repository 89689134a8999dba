//! Settings: one table says which there are, where each may come from, and its default.
//!
//! In come flags, environment, the settings file and the volume's config/ files; out
//! comes [`Settings`], every value with its source. Nothing else in the crate reads
//! the environment or a configuration file.

mod read;
mod resolve;
mod table;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stockpredictor_storage::cleanup::Retention;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::period::Period;
use stockpredictor_storage::symbol::Symbol;

pub use resolve::{Environment, Resolved, SettingsError, resolve};
pub use table::{CleanupFlags, Flags, ServeFlags, SetupFlags};

/// What decides how the program behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The volume.
    pub layout: Layout,
    /// Symbols that are served, in the order they were given.
    pub symbols: Vec<Symbol>,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Whether a new volume gets sample price history.
    pub samples: bool,
    /// The model.
    pub model: ModelSettings,
    /// Caches.
    pub cache: CacheSettings,
    /// What cleanup leaves on the volume.
    pub retention: Retention,
    /// `stock_data/historical`, or what `STOCK_HISTORICAL_PATH` names.
    pub historical: PathBuf,
    /// `stock_data/predictions`, or what `PREDICTION_CACHE_PATH` names.
    pub predictions: PathBuf,
    /// `logs`, or what `LOG_PATH` names.
    pub logs: PathBuf,
    /// A file with the token for `POST /api/v1/cache/clear`.
    pub token_file: Option<PathBuf>,
    /// How long requests are still accepted after SIGTERM.
    pub drain: Duration,
    /// Each value with its source, sorted by name.
    pub shown: Vec<ShownSetting>,
}

/// Which model is served.
#[derive(Clone, Debug)]
pub struct ModelSettings {
    /// Folder with versions and `current`, a version's folder, or an `.onnx` file.
    pub path: PathBuf,
    /// The version that is pinned; absent means what `current` names.
    pub version: Option<String>,
    /// The scaler for a bare `.onnx` file.
    pub scaler: Option<PathBuf>,
    /// How often the folder is looked at.
    pub check_interval: Duration,
}

/// How long things are kept.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// `ml_cache`, or what `ML_CACHE_PATH` names.
    pub path: PathBuf,
    /// How long a prediction is served from the cache.
    pub prediction_ttl: Period,
    /// How long a parsed history is trusted while its files look unchanged.
    pub stock_data_ttl: Period,
    /// How often the volume is cleaned up.
    pub cleanup_interval: Period,
    /// Most predictions in the cache.
    pub max_entries: u64,
}

/// One value as `/api/v1/stats` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShownSetting {
    /// The setting.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where the value came from: flag, environment, settings file, config/…, or built-in.
    pub source: String,
}

impl Settings {
    /// Builds the typed settings; everything was checked when it was resolved.
    pub fn from_resolved(resolved: &Resolved) -> Result<Self, SettingsError> {
        let root = PathBuf::from(resolved.text("root"));
        let optional = |name| Some(resolved.text(name)).filter(|text| !text.is_empty());
        let path = |name, inside: &str| {
            optional(name).map_or_else(|| root.join(inside), |text| absolute(&root, text))
        };
        let model_inside = format!("ml_models/{}", resolved.text("model.name"));
        Ok(Self {
            symbols: resolved.parse("symbols", value::symbols)?,
            listen: resolved.parse("listen", value::address)?,
            samples: resolved.parse("samples", value::switch)?,
            model: ModelSettings {
                path: path("model.path", &model_inside),
                version: optional("model.version").map(str::to_owned),
                scaler: optional("model.scaler_path").map(|text| absolute(&root, text)),
                check_interval: resolved
                    .parse("model.check_interval", value::period)?
                    .duration(),
            },
            cache: CacheSettings {
                path: path("cache.path", "ml_cache"),
                prediction_ttl: resolved.parse("cache.prediction_ttl", value::period)?,
                stock_data_ttl: resolved.parse("cache.stock_data_ttl", value::period)?,
                cleanup_interval: resolved.parse("cache.cleanup_interval", value::period)?,
                max_entries: resolved.parse("cache.max_entries", value::entries)?,
            },
            retention: Retention {
                cache: resolved.parse("retention.cache", value::period)?.duration(),
                logs: resolved.parse("retention.logs", value::period)?.duration(),
                predictions: resolved
                    .parse("retention.predictions", value::period)?
                    .duration(),
            },
            historical: path("stock_data.historical_path", "stock_data/historical"),
            predictions: path("stock_data.predictions_path", "stock_data/predictions"),
            logs: path("logs.path", "logs"),
            token_file: optional("api.token_file").map(|text| absolute(&root, text)),
            drain: resolved.parse("shutdown.drain", value::period)?.duration(),
            shown: resolved.shown(&root),
            layout: Layout::new(root),
        })
    }
}

/// Relative paths are relative to the root.
fn absolute(root: &Path, text: &str) -> PathBuf {
    root.join(text)
}
