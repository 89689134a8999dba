//! Loading a model: a version folder, or a bare `.onnx` with a scaler.
//!
//! In come paths; out comes a [`LoadedModel`] whose files belong together and were
//! checked before any of them reached ONNX Runtime. Pickles are never opened, sizes
//! are bounded, and nothing is written.

use std::fmt::Write;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::config::{ModelConfig, check_name};
use super::error::ModelError;
use super::golden::Golden;
use super::onnx;
use super::scaler::Scaler;
use super::{CONFIG_FILE, CURRENT_FILE, GOLDEN_FILE, MODEL_FILE, SCALER_FILE};

/// Largest graph in bytes.
pub const MAX_MODEL_BYTES: u64 = 64 * 1024 * 1024;
/// Largest JSON file in bytes.
pub const MAX_JSON_BYTES: u64 = 8 * 1024 * 1024;

/// A checked model in memory; sessions are opened from it.
#[derive(Clone, Debug)]
pub struct LoadedModel {
    /// Name of the model; of a bare file, its name without `.onnx`.
    pub name: String,
    /// Version of the model; of a bare file, `unversioned`.
    pub version: String,
    /// SHA-256 of the graph, in lower-case hexadecimal.
    pub sha256: String,
    /// SHA-256 of the scaler, in lower-case hexadecimal.
    pub scaler_sha256: String,
    /// SHA-256 of `model_config.json`, in lower-case hexadecimal; empty for a bare file.
    pub config_sha256: String,
    /// Sessions in a window.
    pub window: usize,
    /// Where the graph came from, for messages.
    pub path: String,
    /// What `model_config.json` says; a bare file has none.
    pub config: Option<ModelConfig>,
    /// The scaler.
    pub scaler: Arc<Scaler>,
    /// Recorded forecasts, if there are any yet.
    pub golden: Option<Golden>,
    /// The graph.
    pub onnx: Arc<[u8]>,
}

impl LoadedModel {
    /// Share of right signs among forecasts as strong as `median`; see [`super::config::Confidence`].
    pub fn confidence(&self, median: f64) -> Option<f64> {
        self.config.as_ref()?.confidence.as_ref()?.of(median)
    }
}

/// Reads which version of `<model folder>` is in use; the file holds one version name.
pub fn current_version(model_folder: &Path) -> Result<String, ModelError> {
    let path = model_folder.join(CURRENT_FILE);
    let text = read(&path, 1024)?;
    let version = std::str::from_utf8(&text)
        .map(str::trim)
        .unwrap_or_default();
    check_name(version).map_err(|_| ModelError::BadCurrent { path: shown(&path) })?;
    Ok(version.to_owned())
}

/// Loads `<model folder>/<version>`, or the version that `current` names; a folder that
/// holds another version than it is called is refused.
pub fn load_version(model_folder: &Path, version: Option<&str>) -> Result<LoadedModel, ModelError> {
    let version = match version {
        Some(version) => version.to_owned(),
        None => current_version(model_folder)?,
    };
    check_name(&version)?;
    let folder = model_folder.join(&version);
    let model = load(&folder)?;
    if model.version != version {
        return Err(ModelError::OtherVersion {
            path: shown(&folder.join(CONFIG_FILE)),
            config: model.version,
            folder: version,
        });
    }
    Ok(model)
}

/// Loads one version folder and checks that its files belong together.
pub fn load(folder: &Path) -> Result<LoadedModel, ModelError> {
    let (model_path, scaler_path) = (folder.join(MODEL_FILE), folder.join(SCALER_FILE));
    let config_path = folder.join(CONFIG_FILE);
    let config_text = read(&config_path, MAX_JSON_BYTES)?;
    let config = ModelConfig::parse(&config_text, &shown(&config_path))?;
    let scaler_text = read(&scaler_path, MAX_JSON_BYTES)?;
    let onnx = read(&model_path, MAX_MODEL_BYTES)?;
    let (sha256, scaler_sha256) = (hex_sha256(&onnx), hex_sha256(&scaler_text));
    if !config.sha256.model.eq_ignore_ascii_case(&sha256) {
        return Err(ModelError::Hash {
            path: shown(&model_path),
        });
    }
    if !config.sha256.scaler.eq_ignore_ascii_case(&scaler_sha256) {
        return Err(ModelError::Hash {
            path: shown(&scaler_path),
        });
    }
    let scaler = Scaler::parse(&scaler_text, &shown(&scaler_path))?;
    let window = onnx::inspect(&onnx, &shown(&model_path))?;
    if window != config.window {
        return Err(ModelError::Window {
            path: shown(&config_path),
            config: config.window,
            graph: window,
        });
    }
    let golden_path = folder.join(GOLDEN_FILE);
    let golden = match read(&golden_path, MAX_JSON_BYTES) {
        Ok(text) => Some(Golden::parse(&text, &shown(&golden_path))?),
        Err(ModelError::Missing { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(LoadedModel {
        name: config.name.clone(),
        version: config.version.clone(),
        sha256,
        scaler_sha256,
        config_sha256: hex_sha256(&config_text),
        window,
        path: shown(&model_path),
        config: Some(config),
        scaler: Arc::new(scaler),
        golden,
        onnx: onnx.into(),
    })
}

/// Loads a graph and a scaler that stand alone.
///
/// Where `scaler` ends in `.pkl` the `.json` beside it is read instead; callers warn
/// about that, [`json_beside_pickle`] tells when.
pub fn load_bare(model: &Path, scaler: &Path) -> Result<LoadedModel, ModelError> {
    refuse_unsafe(model)?;
    let scaler_path = json_beside_pickle(scaler).unwrap_or_else(|| scaler.to_path_buf());
    refuse_unsafe(&scaler_path)?;
    let onnx = read(model, MAX_MODEL_BYTES)?;
    let scaler_text = read(&scaler_path, MAX_JSON_BYTES)?;
    let parsed = Scaler::parse(&scaler_text, &shown(&scaler_path))?;
    let window = onnx::inspect(&onnx, &shown(model))?;
    Ok(LoadedModel {
        name: model
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        version: "unversioned".to_owned(),
        sha256: hex_sha256(&onnx),
        scaler_sha256: hex_sha256(&scaler_text),
        config_sha256: String::new(),
        window,
        path: shown(model),
        config: None,
        scaler: Arc::new(parsed),
        golden: None,
        onnx: onnx.into(),
    })
}

/// The `.json` that stands for a `.pkl`; `None` for any other path.
pub fn json_beside_pickle(path: &Path) -> Option<PathBuf> {
    has_extension(path, "pkl").then(|| path.with_extension("json"))
}

fn refuse_unsafe(path: &Path) -> Result<(), ModelError> {
    if [
        "pkl", "pickle", "h5", "hdf5", "keras", "pt", "pth", "joblib",
    ]
    .iter()
    .any(|end| has_extension(path, end))
    {
        return Err(ModelError::UnsafeFormat { path: shown(path) });
    }
    Ok(())
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// Reads a plain file of at most `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ModelError::Missing { path: shown(path) }
        }
        _ => ModelError::Read {
            path: shown(path),
            reason: error.to_string(),
        },
    };
    // Looked at before it is opened: opening a pipe would wait for a writer for ever.
    if !fs::metadata(path)
        .map_err(|error| failed(&error))?
        .is_file()
    {
        return Err(ModelError::Read {
            path: shown(path),
            reason: "it is not a plain file".to_owned(),
        });
    }
    let file = fs::File::open(path).map_err(|error| failed(&error))?;
    let mut content = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut content)
        .map_err(|error| failed(&error))?;
    if content.len() as u64 > limit {
        return Err(ModelError::TooLarge {
            path: shown(path),
            limit,
        });
    }
    Ok(content)
}

/// SHA-256 in lower-case hexadecimal.
pub fn hex_sha256(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    let mut text = String::with_capacity(64);
    for byte in digest {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
