//! `predictor storage put`: a model or files onto the volume, as a tar on standard input.
//!
//! In come a path and the stream, out goes the storage crate's put; model versions pass the checks that serve has.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::Path;

use anyhow::Context;
use stockpredictor_storage::put::{self, Report, Request, Target};

use super::Common;
use super::exit::Outcome;
use super::ls;
use super::output::{grouped, human_bytes};
use super::progress;
use super::settle;
use crate::model::config::check_name;
use crate::model::{Session, folder};
use crate::runtime;
use stockpredictor_storage::restore::AllowSwitched;

/// Options of `predictor storage put`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  tar -C 2024-01-02 -cz . | predictor storage put ml_models/nvda_lstm_model/2024-01-02 --root ./persistent_data
  kubectl exec -i nvda-0 -- predictor storage put ml_models/nvda_lstm_model/2024-01-02 < model.tar
  tar -c ml_config.json | predictor storage put config/ml_config.json --force

The tar may be plain or gzip and may hold files and directories only. It is put whole or not at all. A version of a
model (ml_models/NAME/VERSION) is checked as serve does it, is never replaced, and becomes the current one.")]
pub struct Args {
    /// Where it goes, below `ml_models/`, `scalers/`, `config/` or `stock_data/historical/`.
    #[arg(value_name = "PATH")]
    path: OsString,
    /// Replace a single file that is there.
    #[arg(long)]
    force: bool,
    /// Put a model's version, but leave `current` as it is.
    #[arg(long)]
    no_activate: bool,
    #[command(flatten)]
    common: Common,
}

/// Puts what comes on standard input.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let path = ls::relative(args.path.clone())?.context("name a path below the root")?;
    let target = Target::new(path)?;
    settle::first(&args.common.layout(), AllowSwitched::No)?;
    let version = target.model_version().map(String::from_utf8_lossy);
    let version = version.map(std::borrow::Cow::into_owned);
    if let Some(version) = &version {
        for name in target.path().components().skip(1) {
            check_name(&String::from_utf8_lossy(name))?;
        }
        check_name(version)?;
    }
    let mut input = io::stdin().lock();
    anyhow::ensure!(
        !input.is_terminal(),
        "standard input is a terminal: pipe a tar in, as in `tar -C FOLDER -cz . | predictor storage put …`"
    );
    let inspect = |folder: &Path| inspect(folder, version.as_deref());
    let request = Request {
        target,
        force: args.force,
        activate: !args.no_activate,
        inspect: &inspect,
    };
    let watching = progress::watch(args.common.output);
    let report = put::run(&args.common.layout(), &request, &mut input, &*watching)?;
    drop(watching);
    args.common.output.print(&report, || text(&report))?;
    Ok(Outcome::Done)
}

/// The checks that serve has for a version before it is used.
fn inspect(path: &Path, version: Option<&str>) -> Result<(), String> {
    let model = folder::load(path).map_err(|error| error.to_string())?;
    if version.is_some_and(|version| version != model.version) {
        return Err(format!(
            "model_config.json says version {:?}: put it under that name",
            model.version
        ));
    }
    runtime::init().map_err(|error| error.to_string())?;
    let mut session = Session::open(&model).map_err(|error| error.to_string())?;
    match &model.golden {
        Some(golden) => golden
            .check(&mut session)
            .map(|_| ())
            .map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

fn text(report: &Report) -> String {
    let activated = if report.activated {
        "; it is the current version now"
    } else {
        ""
    };
    format!(
        "✅ Put {} ({} files, {}){activated}\n",
        report.path,
        grouped(report.files),
        human_bytes(report.bytes)
    )
}
