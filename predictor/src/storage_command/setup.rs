//! `predictor storage setup`: the embedded model, samples and configuration, and the report.
//!
//! In come settings and embedded files; out go calls to the storage crate, which knows
//! what belongs where and when, and lines for people or JSON.

use std::path::PathBuf;

use include_dir::{Dir, DirEntry, include_dir};
use serde::Serialize;
use stockpredictor_storage::restore::AllowSwitched;
use stockpredictor_storage::{permission, setup as volume};

use super::exit::Outcome;
use super::output::Output;
use super::settle;
use crate::sample;
use crate::settings::{self, Settings, SetupFlags};

static DEFAULT_MODEL: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/default_model");

const PERSISTENT_ENV: &[u8] =
    b"# Settings of this volume, one NAME=value a line. Flags, the environment and the
# StockPredictor's spec win over them. Take the # away to use a line.
#ML_PREDICTION_TTL=1h
#STOCK_DATA_TTL=30m
#CACHE_CLEANUP_INTERVAL=6h
";
const EMPTY_JSON: &[u8] = b"{}\n";

/// Options of `predictor storage setup`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor storage setup --root ./persistent_data --samples
  predictor storage setup --tree-only --settings /etc/stockpredictor/settings.json

Setup may be repeated at any time. Model and samples are put on an empty volume only; files that are there are never changed.")]
pub struct Args {
    #[command(flatten)]
    flags: SetupFlags,
    /// The settings file that the operator writes.
    #[arg(long, env = "STOCKPREDICTOR_SETTINGS", value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Leave out the walk over owners and modes of what is already there.
    #[arg(long)]
    tree_only: bool,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Serialize)]
struct Report {
    root: PathBuf,
    #[serde(flatten)]
    volume: volume::Report,
    permissions: Option<permission::Report>,
}

/// Prepares the volume.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let environment = |name: &str| std::env::var(name).ok();
    let resolved = settings::resolve(&args.flags.0, &environment, args.settings.as_deref())?;
    let settings = Settings::from_resolved(&resolved)?;
    let (model, samples) = (model_files(), sample_files());
    let request = volume::Request {
        symbols: settings.symbols.clone(),
        model: gifts(&model),
        samples: gifts(&samples),
        wants_samples: settings.samples,
    };
    settle::first(&settings.layout, AllowSwitched::Yes)?;
    let done = volume::run(&settings.layout, &request)?;
    let permissions = if args.tree_only {
        // In a pod serve tells whether it may write: its readiness and stats reach the operator.
        None
    } else {
        volume::check_writable(&settings.layout)?;
        Some(permission::repair(&settings.layout)?)
    };
    let report = Report {
        root: settings.layout.root().to_owned(),
        volume: done,
        permissions,
    };
    args.output.print(&report, || text(&report))?;
    let failed = report.permissions.as_ref();
    let failed = failed.is_some_and(|permissions| !permissions.failed.is_empty());
    Ok(Outcome::with_warnings(failed))
}

/// A path relative to the root and what goes there.
type Embedded = (String, &'static [u8]);

fn gifts(files: &[Embedded]) -> Vec<volume::Gift<'_>> {
    files
        .iter()
        .map(|(path, bytes)| volume::Gift { path, bytes })
        .collect()
}

/// The configuration files and the default model; each model's `current` comes after its versions.
fn model_files() -> Vec<Embedded> {
    let mut files: Vec<Embedded> = vec![
        ("config/persistent.env".to_owned(), PERSISTENT_ENV),
        ("config/ml_config.json".to_owned(), EMPTY_JSON),
        ("config/api_config.json".to_owned(), EMPTY_JSON),
    ];
    let mut models: Vec<Embedded> = Vec::new();
    let mut pending: Vec<&DirEntry<'_>> = DEFAULT_MODEL.dirs().flat_map(Dir::entries).collect();
    while let Some(entry) = pending.pop() {
        match entry {
            DirEntry::Dir(folder) => pending.extend(folder.entries()),
            DirEntry::File(file) => models.push((
                format!("ml_models/{}", file.path().display()),
                file.contents(),
            )),
        }
    }
    models.sort_by_key(|(path, _)| (path.ends_with("/current"), path.clone()));
    files.extend(models);
    files
}

/// `NVDA.csv` goes to `stock_data/historical/NVDA/NVDA.csv`.
fn sample_files() -> Vec<Embedded> {
    let path = |symbol| format!("stock_data/historical/{symbol}/{symbol}.csv");
    let files = sample::files();
    files.map(|(symbol, text)| (path(symbol), text)).collect()
}

fn text(report: &Report) -> String {
    let Report {
        root,
        volume,
        permissions,
    } = report;
    let mut lines = Vec::new();
    let state = match (volume.new_volume, volume.resumed) {
        (true, _) => "is a new volume and ready",
        (false, true) => "had been set up in part and is ready now",
        (false, false) => "is ready",
    };
    lines.push(format!(
        "{} {state} (volume {})",
        root.display(),
        volume.volume_id
    ));
    if !volume.directories.is_empty() {
        lines.push(format!(
            "  made {} directories{}",
            volume.directories.len(),
            some(&volume.directories)
        ));
    }
    for file in &volume.files {
        lines.push(format!("  installed {file}"));
    }
    for script in &volume.scripts {
        lines.push(format!("  wrote {script}"));
    }
    for failed in &volume.scripts_failed {
        lines.push(format!("  notice: a script can't be written: {failed}"));
    }
    if let Some(permissions) = permissions {
        lines.push(format!(
            "  owners and modes: {} checked, {} repaired",
            permissions.checked, permissions.repaired
        ));
        if permissions.group_bits > 0 {
            lines.push(format!(
                "  notice: {} entries carry group bits that an fsGroup adds; they stay",
                permissions.group_bits
            ));
        }
        if permissions.foreign > 0 {
            lines.push(format!(
                "  notice: {} entries belong to another user, which only root can change: chown -R 1001:1001 {}",
                permissions.foreign,
                root.display()
            ));
        }
        for changed in &permissions.changed {
            lines.push(format!("    {changed}"));
        }
        for failed in &permissions.failed {
            lines.push(format!("  not repaired: {failed}"));
        }
    }
    lines.join("\n") + "\n"
}

/// The names, where they are few; of a whole new tree they say nothing.
fn some(names: &[String]) -> String {
    if names.len() > 5 {
        return String::new();
    }
    format!(": {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_is_written_after_the_version_that_it_names() {
        let files = model_files();
        let position = |end: &str| files.iter().position(|(path, _)| path.ends_with(end));
        assert!(position("/current") > position("/model.onnx"));
        assert!(position("/model.onnx").is_some());
    }

    #[test]
    fn the_embedded_default_model_passes_its_own_checks() {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in model_files() {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let model = crate::model::folder::load_version(
            &folder.path().join("ml_models/nvda_lstm_model"),
            None,
        )
        .unwrap();
        let mut session = crate::model::Session::open(&model).unwrap();
        assert!(model.golden.unwrap().check(&mut session).is_ok());
    }

    #[test]
    fn samples_lie_in_the_folders_of_their_symbols() {
        let mut paths: Vec<String> = sample_files().into_iter().map(|(path, _)| path).collect();
        paths.sort();
        assert_eq!(
            paths,
            ["AAPL", "NVDA", "TSLA"]
                .map(|symbol| format!("stock_data/historical/{symbol}/{symbol}.csv"))
        );
    }
}
