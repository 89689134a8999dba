//! Writing the model folder.
//!
//! In come a fitted model and its report; out goes `<out>/<version>/`, complete or not
//! at all, and then `<out>/current`. An existing version is never touched. What was
//! written is loaded and run before it is put in place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::Serialize;
use stockpredictor_storage::atomic;

use super::data::{Dataset, Sample};
use super::export::to_onnx;
use super::fit::{FitError, Fitted};
use crate::feature::Window;
use crate::model::config::ModelConfig;
use crate::model::folder::{self, hex_sha256};
use crate::model::golden::{Golden, TOLERANCE};
use crate::model::{
    CONFIG_FILE, CURRENT_FILE, GOLDEN_FILE, MODEL_FILE, ModelError, Quantiles, SCALER_FILE, Session,
};

/// Recorded forecasts of each symbol.
const GOLDEN_PER_SYMBOL: usize = 3;

/// Why the model could not be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what the fields are")]
pub enum PublishError {
    #[error("{} exists: versions are never changed, so choose another --version or remove it", path.display())]
    VersionExists { path: PathBuf },
    #[error("{} can't be written ({source}): check the folder's owner and the free space", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "the exported graph forecasts {deviation:e} differently from the trained network, so it was not written: report this with the command line"
    )]
    Export { deviation: f64 },
    #[error("{file} can't be written as JSON: {source}")]
    Json {
        file: String,
        source: serde_json::Error,
    },
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Fit(#[from] FitError),
}

/// Refuses a version that is there already; called before hours are spent on training it.
pub fn refuse_existing(out: &Path, version: &str) -> Result<(), PublishError> {
    let path = out.join(version);
    if path.symlink_metadata().is_ok() {
        Err(PublishError::VersionExists { path })
    } else {
        Ok(())
    }
}

/// Writes the version and makes it current; `report` are files for the version's `report/` folder.
///
/// The hashes of `config` are filled in here.
pub fn publish(
    out: &Path,
    mut config: ModelConfig,
    dataset: &Dataset,
    fitted: &Fitted,
    report: &[(&str, Vec<u8>)],
) -> Result<PathBuf, PublishError> {
    refuse_existing(out, &config.version)?;
    let target = out.join(&config.version);
    let partial = out.join(format!(
        ".{}.{}.partial",
        config.version,
        std::process::id()
    ));
    let writing = |path: &Path, source| PublishError::Write {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(out).map_err(|source| writing(out, source))?;
    let written = fill(&partial, &mut config, dataset, fitted, report)
        .and_then(|()| fs::rename(&partial, &target).map_err(|source| writing(&target, source)));
    if written.is_err() {
        // The first error is what has to be known; what is left behind is hidden and harmless.
        let _ = fs::remove_dir_all(&partial);
    }
    written?;
    let current = out.join(CURRENT_FILE);
    // write_durable also makes the rename of the version durable: both are entries of one directory.
    atomic::write_durable(&current, format!("{}\n", config.version).as_bytes())
        .map_err(|source| writing(&current, source))?;
    Ok(target)
}

fn fill(
    folder: &Path,
    config: &mut ModelConfig,
    dataset: &Dataset,
    fitted: &Fitted,
    report: &[(&str, Vec<u8>)],
) -> Result<(), PublishError> {
    create(folder)?;
    let onnx =
        to_onnx(&fitted.network, fitted.width_factor, dataset.window).map_err(FitError::Tensor)?;
    let scaler = json(SCALER_FILE, &fitted.scaler)?;
    config.sha256.model = hex_sha256(&onnx);
    config.sha256.scaler = hex_sha256(&scaler);
    write(&folder.join(MODEL_FILE), &onnx)?;
    write(&folder.join(SCALER_FILE), &scaler)?;
    write(&folder.join(CONFIG_FILE), &json(CONFIG_FILE, config)?)?;
    let golden = prove(folder, dataset, fitted)?;
    write(&folder.join(GOLDEN_FILE), &json(GOLDEN_FILE, &golden)?)?;
    if !report.is_empty() {
        write_report(&folder.join("report"), report)?;
    }
    Ok(())
}

/// Writes the report's files into a folder, which is made.
pub fn write_report(folder: &Path, report: &[(&str, Vec<u8>)]) -> Result<(), PublishError> {
    create(folder)?;
    for (name, content) in report {
        write(&folder.join(name), content)?;
    }
    Ok(())
}

/// Loads what was written, as serving will, and compares its forecasts with the trained network's.
fn prove(folder: &Path, dataset: &Dataset, fitted: &Fitted) -> Result<Golden, PublishError> {
    let mut session = Session::open(&folder::load(folder)?)?;
    let samples = golden_samples(dataset);
    let expected: Vec<Quantiles> = fitted.forecast(dataset, &samples)?;
    let inputs: Vec<(String, Date, Window)> = samples
        .iter()
        .filter_map(|sample| {
            let symbol = dataset.series[sample.series].symbol.to_string();
            Some((symbol, sample.as_of, dataset.window_of(sample)?))
        })
        .collect();
    let golden = Golden::record(&mut session, &inputs)?;
    let pairs = golden.cases.iter().zip(&expected);
    let deviation = pairs
        .map(|(case, expected)| case.quantiles.distance(expected))
        .fold(0.0, f64::max);
    if deviation > TOLERANCE {
        return Err(PublishError::Export { deviation });
    }
    Ok(golden)
}

/// Some samples of each symbol, spread over its history, the last one among them.
fn golden_samples(dataset: &Dataset) -> Vec<Sample> {
    let of_symbol = |series: usize| {
        let own: Vec<Sample> = dataset
            .samples
            .iter()
            .filter(|sample| sample.series == series)
            .copied()
            .collect();
        (1..=GOLDEN_PER_SYMBOL)
            .filter_map(|part| {
                own.get((own.len() * part / GOLDEN_PER_SYMBOL).checked_sub(1)?)
                    .copied()
            })
            .collect::<Vec<Sample>>()
    };
    (0..dataset.series.len()).flat_map(of_symbol).collect()
}

fn create(folder: &Path) -> Result<(), PublishError> {
    let failed = |source| PublishError::Write {
        path: folder.to_owned(),
        source,
    };
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    atomic::create_directory(folder).map_err(failed)
}

fn write(path: &Path, content: &[u8]) -> Result<(), PublishError> {
    atomic::write_durable(path, content).map_err(|source| PublishError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Indented, with a line end, so that it can be read and compared.
pub fn json(file: &str, value: &impl Serialize) -> Result<Vec<u8>, PublishError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| PublishError::Json {
        file: file.to_owned(),
        source,
    })?;
    text.push(b'\n');
    Ok(text)
}
