//! The report of the walk-forward evaluation: JSON, a table for people, the forecasts.
//!
//! In come forecasts and what each year's model was fitted on; out come the report's
//! files. All numbers of the report follow from `forecasts.csv` and the folds, so
//! anyone can compute them again.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::data::EMBARGO;
use super::metric::{Forecast, Measures};
use super::recipe::Recipe;
use super::walk_forward::{FoldRecord, Outcome};
use crate::model::FORMAT;
use crate::model::config::ModelConfig;

/// Pooled coverage of the 80 % interval outside of this means that the recipe does not fit the data.
pub const SOUND_COVERAGE: std::ops::RangeInclusive<f64> = 0.77..=0.83;

const JUDGES: &str = "These numbers judge the recipe, not the shipped weights: each forecast was made by a model that was \
fitted, by the same recipe, on the years before it. The shipped weights were fitted on the whole span, so there is nothing \
left to judge them by.";

/// Content of `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this file's format.
    pub format: u32,
    /// Name of the model that the recipe's final fit gave.
    pub model: String,
    /// Its version.
    pub version: String,
    /// What the numbers say and what they don't.
    pub judges: String,
    /// How the evaluation was done.
    pub method: Method,
    /// What each year's model was fitted on.
    pub folds: Vec<FoldRecord>,
    /// All forecasts together.
    pub pooled: Measures,
    /// Each symbol's forecasts.
    pub by_symbol: BTreeMap<String, Measures>,
    /// Each year's forecasts, all symbols together.
    pub by_year: BTreeMap<i16, Measures>,
}

/// How the evaluation was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// How the history was split.
    pub split: String,
    /// Sessions between training targets and forecasts that belong to neither.
    pub embargo_sessions: u64,
    /// Share of each training span, the end of it, that stopped the fit and calibrated the interval.
    pub tail_share: f64,
    /// Sessions in a window.
    pub window: u64,
    /// Units of the LSTM.
    pub hidden: u64,
    /// Seed of all random numbers.
    pub seed: u64,
}

impl Report {
    /// Computes all measures; `None` without a forecast.
    pub fn new(config: &ModelConfig, recipe: &Recipe, outcome: &Outcome) -> Option<Self> {
        let all: Vec<&Forecast> = outcome.forecasts.iter().collect();
        let mut symbols: BTreeMap<String, Vec<&Forecast>> = BTreeMap::new();
        let mut years: BTreeMap<i16, Vec<&Forecast>> = BTreeMap::new();
        for one in &all {
            symbols.entry(one.symbol.to_string()).or_default().push(one);
            years.entry(one.target_date.year()).or_default().push(one);
        }
        Some(Self {
            format: FORMAT,
            model: config.name.clone(),
            version: config.version.clone(),
            judges: JUDGES.to_owned(),
            method: Method {
                split: "expanding window, refitted for each calendar year, split by date over all symbols at once".to_owned(),
                embargo_sessions: EMBARGO as u64,
                tail_share: recipe.tail_share,
                window: recipe.window as u64,
                hidden: recipe.hidden as u64,
                seed: recipe.seed,
            },
            folds: outcome.folds.clone(),
            pooled: Measures::of(&all)?,
            by_symbol: symbols.into_iter().filter_map(|(key, of)| Some((key, Measures::of(&of)?))).collect(),
            by_year: years.into_iter().filter_map(|(key, of)| Some((key, Measures::of(&of)?))).collect(),
        })
    }

    /// One line for the end of a training run.
    pub fn headline(&self) -> String {
        let Measures {
            n,
            mae_ratio,
            interval,
            direction,
            ..
        } = &self.pooled;
        format!(
            "walk-forward over {n} forecasts: MAE {mae_ratio:.4} of the random walk's, 80 % interval held {:.1} %, sign right {:.1} % ({:.1} to {:.1} %; majority {:.1} %)",
            100.0 * interval.coverage,
            100.0 * direction.accuracy,
            100.0 * direction.low,
            100.0 * direction.high,
            100.0 * direction.majority,
        )
    }

    /// The report as Markdown tables.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# Evaluation of {} {}\n\n{}\n\n",
            self.model, self.version, self.judges
        );
        let method = &self.method;
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "Method: {}; embargo of {} session; the last {:.0} % of each training span stopped its fit and calibrated its interval. \
             Seed {}, window {} sessions, {} LSTM units. Errors are of log returns; the random walk forecasts no change. \
             A MAE ratio near 1.00 is what an honest forecast of daily returns gives.\n",
            method.split,
            method.embargo_sessions,
            100.0 * method.tail_share,
            method.seed,
            method.window,
            method.hidden
        );
        text.push_str(
            "![Interval and outcome, coverage by year, MAE ratio](report.svg)\n\n## By symbol\n\n",
        );
        let mut columns: Vec<(String, &Measures)> = self
            .by_symbol
            .iter()
            .map(|(name, of)| (name.clone(), of))
            .collect();
        columns.push(("pooled".to_owned(), &self.pooled));
        text.push_str(&table(&columns));
        text.push_str("\n## By year, all symbols\n\n");
        let columns: Vec<(String, &Measures)> = self
            .by_year
            .iter()
            .map(|(year, of)| (year.to_string(), of))
            .collect();
        text.push_str(&table(&columns));
        text.push_str("\n## Fits\n\n| year | training targets | samples | passes | width factor | forecasts |\n|---|---|---|---|---|---|\n");
        for fold in &self.folds {
            let _ = writeln!(
                text,
                "| {} | {} to {} | {} | {} | {:.3} | {} |",
                fold.year,
                fold.training.first,
                fold.training.last,
                fold.training_samples,
                fold.epochs,
                fold.width_factor,
                fold.test_samples
            );
        }
        text.push_str(
            "\nThe confidence interval of the directional accuracy is Wilson's at 95 %, with the forecasts for one session counted as \
             one observation as far as they agree. \"Majority\" is the share of the more frequent sign, known only in hindsight.\n",
        );
        text
    }
}

type Cell = fn(&Measures) -> String;

fn table(columns: &[(String, &Measures)]) -> String {
    let rows: [(&str, Cell); 14] = [
        ("**MAE ratio, model / random walk**", |of| {
            format!("**{:.4}**", of.mae_ratio)
        }),
        ("MAE model", |of| format!("{:.5}", of.mae_model)),
        ("MAE random walk", |of| format!("{:.5}", of.mae_random_walk)),
        ("RMSE model", |of| format!("{:.5}", of.rmse_model)),
        ("RMSE random walk", |of| {
            format!("{:.5}", of.rmse_random_walk)
        }),
        ("MASE model", |of| format!("{:.4}", of.mase_model)),
        ("MASE random walk", |of| {
            format!("{:.4}", of.mase_random_walk)
        }),
        ("directional accuracy", |of| percent(of.direction.accuracy)),
        ("its 95 % interval", |of| {
            format!(
                "{} to {}",
                percent(of.direction.low),
                percent(of.direction.high)
            )
        }),
        ("majority", |of| percent(of.direction.majority)),
        ("coverage of the 80 % interval", |of| {
            percent(of.interval.coverage)
        }),
        ("mean width of it", |of| format!("{:.5}", of.interval.width)),
        ("BUY / HOLD / SELL", |of| {
            format!(
                "{} / {} / {}",
                of.signals.buy, of.signals.hold, of.signals.sell
            )
        }),
        ("n", |of| of.n.to_string()),
    ];
    let mut text = String::from("| |");
    for (name, _) in columns {
        let _ = write!(text, " {name} |");
    }
    let _ = writeln!(text, "\n|---{}|", "|---:".repeat(columns.len()));
    for (name, cell) in rows {
        let _ = write!(text, "| {name} |");
        for (_, measures) in columns {
            let _ = write!(text, " {} |", cell(measures));
        }
        text.push('\n');
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// All forecasts as CSV; log returns with nine decimals.
pub fn forecasts_csv(forecasts: &[Forecast]) -> String {
    let mut text = String::from("symbol,as_of,target_date,low,median,high,actual\n");
    for one in forecasts {
        let quantiles = one.quantiles;
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "{},{},{},{:.9},{:.9},{:.9},{:.9}",
            one.symbol,
            one.as_of,
            one.target_date,
            quantiles.low,
            quantiles.median,
            quantiles.high,
            one.actual
        );
    }
    text
}
