//! The walk-forward evaluation and the final fit: all fits of one training run.
//!
//! In come data and recipe; out come honest forecasts (each by a model that saw
//! nothing of its year) and the model that is shipped, which was fitted by the same
//! recipe on everything. The forecasts judge the recipe, not the shipped weights.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

use super::data::{Dataset, Fold, Sample};
use super::fit::{FitError, Fitted, fit};
use super::metric::Forecast;
use super::progress::Progress;
use super::recipe::Recipe;
use crate::model::config::Span;

/// What came out of all fits.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The model that is shipped.
    pub shipped: Fitted,
    /// Walk-forward forecasts by target date, then by symbol.
    pub forecasts: Vec<Forecast>,
    /// What each year's model was fitted on.
    pub folds: Vec<FoldRecord>,
}

/// One year of the evaluation, for the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoldRecord {
    /// Calendar year of the forecast sessions.
    pub year: i16,
    /// First and last target of the training span.
    pub training: Span,
    /// Samples in the training span.
    pub training_samples: u64,
    /// Mean absolute log return of each symbol in the training span: the scale of MASE.
    pub mean_absolute_return: BTreeMap<String, f64>,
    /// First and last forecast session.
    pub test: Span,
    /// Forecasts.
    pub test_samples: u64,
    /// Passes that the fit took.
    pub epochs: u64,
    /// Calibrated factor of the interval's half widths.
    pub width_factor: f64,
}

/// Runs the final fit and one fit a fold, on as many threads as `threads`.
///
/// Each fit has its own random numbers, so the result does not depend on how the
/// threads share the work.
pub fn run(
    dataset: &Dataset,
    folds: &[Fold],
    recipe: &Recipe,
    threads: usize,
) -> Result<Outcome, FitError> {
    // The largest span goes first, so that no thread is left with the longest fit at the end.
    let mut jobs: Vec<(u64, &str, &[Sample])> = vec![(0, "the shipped model", &dataset.samples)];
    let names: Vec<String> = folds.iter().map(|fold| fold.year.to_string()).collect();
    jobs.extend(
        folds
            .iter()
            .zip(&names)
            .map(|(fold, name)| (fold.year as u64, name.as_str(), fold.training.as_slice()))
            .rev(),
    );
    let progress = Progress::new(jobs.len(), recipe.max_epochs);
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<u64, Result<Fitted, FitError>>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len()) {
            scope.spawn(|| {
                while let Some(&(stream, name, training)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let passes = AtomicUsize::new(0);
                    let fitted = fit(dataset, training, recipe, stream, &|epoch| {
                        passes.store(epoch, Ordering::Relaxed);
                        progress.passed();
                    });
                    if let Ok(fitted) = &fitted {
                        let line = format!(
                            "fitted {name}: {} samples, best after {} passes, pinball loss {:.4}, width factor {:.3}",
                            training.len(), fitted.epochs, fitted.tail_loss, fitted.width_factor
                        );
                        progress.finished(&line, passes.into_inner());
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(stream, fitted);
                }
            });
        }
    });
    progress.clear();
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut take = |stream: u64| {
        results
            .remove(&stream)
            .unwrap_or(Err(FitError::TooFew { found: 0 }))
    };
    let shipped = take(0)?;
    let mut forecasts = Vec::new();
    let mut records = Vec::new();
    for fold in folds {
        let fitted = take(fold.year as u64)?;
        forecasts.extend(judge(dataset, fold, &fitted)?);
        records.extend(record(dataset, fold, &fitted));
    }
    Ok(Outcome {
        shipped,
        forecasts,
        folds: records,
    })
}

fn judge(dataset: &Dataset, fold: &Fold, fitted: &Fitted) -> Result<Vec<Forecast>, FitError> {
    let scales: Vec<f64> = (0..dataset.series.len())
        .map(|series| mean_absolute_target(&fold.training, series))
        .collect();
    let forecasts = fitted.forecast(dataset, &fold.test)?;
    let judged = fold
        .test
        .iter()
        .zip(forecasts)
        .map(|(sample, quantiles)| Forecast {
            symbol: dataset.series[sample.series].symbol.clone(),
            as_of: sample.as_of,
            target_date: sample.target_date,
            quantiles,
            actual: sample.target,
            scale: scales[sample.series],
        });
    Ok(judged.collect())
}

/// Over the training span of one symbol; a symbol that had no history yet takes that of all.
fn mean_absolute_target(training: &[Sample], series: usize) -> f64 {
    let mean = |samples: &mut dyn Iterator<Item = &Sample>| {
        let (count, sum) = samples.fold((0.0, 0.0), |(count, sum), sample| {
            (count + 1.0, sum + sample.target.abs())
        });
        (count > 0.0 && sum > 0.0).then(|| sum / count)
    };
    mean(&mut training.iter().filter(|sample| sample.series == series))
        .or_else(|| mean(&mut training.iter()))
        .unwrap_or(1.0)
}

fn record(dataset: &Dataset, fold: &Fold, fitted: &Fitted) -> Option<FoldRecord> {
    let span = |samples: &[Sample]| {
        Some(Span {
            first: samples.first()?.target_date,
            last: samples.last()?.target_date,
        })
    };
    Some(FoldRecord {
        year: fold.year,
        training: span(&fold.training)?,
        mean_absolute_return: dataset
            .series
            .iter()
            .enumerate()
            .map(|(index, one)| {
                (
                    one.symbol.to_string(),
                    mean_absolute_target(&fold.training, index),
                )
            })
            .collect(),
        training_samples: fold.training.len() as u64,
        test: span(&fold.test)?,
        test_samples: fold.test.len() as u64,
        epochs: fitted.epochs as u64,
        width_factor: fitted.width_factor,
    })
}
