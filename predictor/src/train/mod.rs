//! `predictor train`: price history in, a versioned model folder out.
//!
//! In come CSV files and a recipe; out go the model, and a report that says how the
//! recipe did on years that its models had not seen. No clock and no name of the
//! machine gets into a file: the same program, machine, data and seed give the same
//! bytes.

pub mod confidence;
pub mod data;
pub mod export;
pub mod fit;
pub mod metric;
pub mod network;
pub mod plot;
mod progress;
pub mod publish;
pub mod recipe;
pub mod report;
pub mod walk_forward;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;

use jiff::civil::Date;
use stockpredictor_storage::symbol::{Symbol, SymbolError};

use self::data::{DataError, Dataset};
use self::fit::FitError;
use self::publish::PublishError;
use self::recipe::Recipe;
use self::report::{Report, SOUND_COVERAGE};
use self::walk_forward::Outcome;
use crate::model::config::{
    Confidence, FeatureSet, Hashes, ModelConfig, QUANTILES, Span, check_name,
};
use crate::model::{FORMAT, ModelError};
use crate::runtime::{self, RuntimeError};

/// Options of `predictor train`.
#[derive(Clone, Debug, clap::Args)]
#[command(disable_version_flag = true)]
pub struct Args {
    /// Folder with `<SYMBOL>.csv` or `<SYMBOL>/*.csv`, header date,open,high,low,close,volume
    #[arg(long, env = "TRAIN_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Symbols to learn from, separated by commas
    #[arg(
        long,
        env = "TRAIN_SYMBOLS",
        value_name = "SYMBOLS",
        value_delimiter = ',',
        required = true
    )]
    pub symbols: Vec<String>,
    /// Folder of the model; the version becomes a folder in it
    #[arg(long, env = "TRAIN_OUT", value_name = "DIR")]
    pub out: PathBuf,
    /// Name of the model [default: the name of the folder]
    #[arg(long, env = "TRAIN_NAME")]
    pub name: Option<String>,
    /// Version of the model [default: the last day of the data]
    #[arg(long, env = "TRAIN_VERSION")]
    pub version: Option<String>,
    /// Seed of all random numbers
    #[arg(long, env = "TRAIN_SEED", default_value_t = Recipe::default().seed)]
    pub seed: u64,
    /// Folder for the report [default: report/ in the version's folder]
    #[arg(long, env = "TRAIN_REPORT", value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Most passes over the training data
    #[arg(long, env = "TRAIN_MAX_EPOCHS", value_name = "N", default_value_t = Recipe::default().max_epochs as u64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub max_epochs: u64,
    /// Units of the LSTM
    #[arg(long, env = "TRAIN_HIDDEN", value_name = "N", default_value_t = Recipe::default().hidden as u64, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub hidden: u64,
    /// Step size of the optimiser
    #[arg(long, env = "TRAIN_LEARNING_RATE", value_name = "RATE", default_value_t = Recipe::default().learning_rate)]
    pub learning_rate: f64,
    /// Fits at the same time [default: the number of cores]; the result does not depend on it
    #[arg(long, env = "TRAIN_THREADS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub threads: Option<u64>,
}

/// Why training ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A name that is no symbol.
    #[error(transparent)]
    Symbol(#[from] SymbolError),
    /// The price history can't be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A fit failed.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The folder could not be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A name that can't be a folder.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// ONNX Runtime is needed to check what was written.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The evaluated years have no session of any symbol.
    #[error("the evaluated years have no session: put newer prices there too")]
    NoForecast,
    /// The picture of the report.
    #[error("the report's picture can't be drawn ({reason}): report this with the command line")]
    Plot {
        /// What the drawing library said.
        reason: String,
    },
    /// The step size is no step.
    #[error("--learning-rate {rate} is not between 0 and 1: leave it out to take the usual one")]
    LearningRate {
        /// What was given.
        rate: f64,
    },
}

/// What a run is asked for, after all checks that need no data.
#[derive(Clone, Debug)]
pub struct Task {
    /// Folder with the price history.
    pub data: PathBuf,
    /// Whose history is learnt from.
    pub symbols: Vec<Symbol>,
    /// Folder of the model.
    pub out: PathBuf,
    /// Name of the model.
    pub name: String,
    /// Version, if it is not the last day of the data.
    pub version: Option<String>,
    /// Where the report goes, if not into the version's folder.
    pub report: Option<PathBuf>,
    /// The numbers.
    pub recipe: Recipe,
    /// Fits at the same time.
    pub threads: usize,
    /// The current day: later bars are refused.
    pub today: Date,
}

/// Trains, evaluates and writes; says on standard output where the model is.
pub fn run(args: &Args) -> Result<(), TrainError> {
    let task = Task::new(args)?;
    let folder = train(&task)?;
    println!(
        "wrote {}, which is now the current version",
        folder.display()
    );
    Ok(())
}

impl Task {
    fn new(args: &Args) -> Result<Self, TrainError> {
        if !(args.learning_rate > 0.0 && args.learning_rate < 1.0) {
            return Err(TrainError::LearningRate {
                rate: args.learning_rate,
            });
        }
        let symbols = args
            .symbols
            .iter()
            .map(|text| Symbol::parse(text.trim()))
            .collect::<Result<_, _>>()?;
        let folder_name = || {
            args.out
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let cores = || thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        Ok(Self {
            data: args.data.clone(),
            symbols,
            out: args.out.clone(),
            name: args.name.clone().unwrap_or_else(folder_name),
            version: args.version.clone(),
            report: args.report.clone(),
            recipe: Recipe {
                seed: args.seed,
                max_epochs: args.max_epochs as usize,
                hidden: args.hidden as usize,
                learning_rate: args.learning_rate,
                ..Recipe::default()
            },
            threads: args.threads.unwrap_or_else(cores) as usize,
            today: jiff::tz::TimeZone::UTC
                .to_datetime(jiff::Timestamp::now())
                .date(),
        })
    }
}

/// Trains, evaluates and writes; returns the version's folder.
pub fn train(task: &Task) -> Result<PathBuf, TrainError> {
    // What can fail at once fails before minutes are spent.
    check_name(&task.name)?;
    runtime::init()?;
    let dataset = Dataset::load(&task.data, &task.symbols, task.recipe.window, task.today)?;
    let version = match &task.version {
        Some(version) => version.clone(),
        None => dataset
            .last_day()
            .map(|day| day.to_string())
            .unwrap_or_default(),
    };
    check_name(&version)?;
    publish::refuse_existing(&task.out, &version)?;
    let folds = dataset.folds(
        task.recipe.evaluation_years,
        task.recipe.min_training_sessions,
    )?;
    let outcome = walk_forward::run(&dataset, &folds, &task.recipe, task.threads)?;
    let confidence = confidence::table(&outcome.forecasts);
    let config = describe(task, version, &dataset, &outcome, confidence);
    let report = report_files(&config, &task.recipe, &outcome)?;
    let inside: &[(&str, Vec<u8>)] = if task.report.is_some() { &[] } else { &report };
    let folder = publish::publish(&task.out, config, &dataset, &outcome.shipped, inside)?;
    if let Some(elsewhere) = &task.report {
        publish::write_report(elsewhere, &report)?;
    }
    Ok(folder)
}

/// The report's files, and its headline on standard output.
fn report_files(
    config: &ModelConfig,
    recipe: &Recipe,
    outcome: &Outcome,
) -> Result<Vec<(&'static str, Vec<u8>)>, TrainError> {
    let report = Report::new(config, recipe, outcome).ok_or(TrainError::NoForecast)?;
    println!("{}", report.headline());
    if !SOUND_COVERAGE.contains(&report.pooled.interval.coverage) {
        eprintln!(
            "warning: the 80 % interval held {:.1} % of the outcomes: don't trust its width for these symbols",
            100.0 * report.pooled.interval.coverage
        );
    }
    let picture =
        plot::svg(&report, &outcome.forecasts).map_err(|reason| TrainError::Plot { reason })?;
    Ok(vec![
        ("report.json", publish::json("report.json", &report)?),
        ("report.md", report.markdown().into_bytes()),
        ("report.svg", picture.into_bytes()),
        (
            "forecasts.csv",
            report::forecasts_csv(&outcome.forecasts).into_bytes(),
        ),
    ])
}

fn describe(
    task: &Task,
    version: String,
    dataset: &Dataset,
    outcome: &Outcome,
    confidence: Option<Confidence>,
) -> ModelConfig {
    let (recipe, shipped) = (&task.recipe, &outcome.shipped);
    let fit = [
        ("batch", recipe.batch as f64),
        ("epochs", shipped.epochs as f64),
        ("hidden", recipe.hidden as f64),
        ("learning_rate", recipe.learning_rate),
        ("samples", dataset.samples.len() as f64),
        ("tail_loss", shipped.tail_loss),
        ("tail_share", recipe.tail_share),
        ("weight_decay", recipe.weight_decay),
        ("width_factor", shipped.width_factor),
    ];
    ModelConfig {
        format: FORMAT,
        name: task.name.clone(),
        version,
        sha256: Hashes {
            model: String::new(),
            scaler: String::new(),
        },
        features: FeatureSet::ours(),
        window: recipe.window,
        quantiles: QUANTILES,
        training_span: Span {
            first: dataset.first_day().unwrap_or_default(),
            last: dataset.last_day().unwrap_or_default(),
        },
        symbols: task.symbols.iter().map(Symbol::to_string).collect(),
        seed: recipe.seed,
        fit: fit
            .iter()
            .map(|&(name, value)| (name.to_owned(), value))
            .collect::<BTreeMap<_, _>>(),
        confidence,
    }
}
