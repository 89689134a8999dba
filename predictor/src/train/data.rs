//! Training data: price history in, samples and splits by date out.
//!
//! A sample is a window that ends with one session and the log return to the next.
//! All splits are made here, by date and over all symbols at once, so that there is
//! one place to look at for a leak from the future.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use stockpredictor_storage::history::{self, Bar, HistoryError};
use stockpredictor_storage::symbol::Symbol;

use crate::feature::{self, LOOKBACK, Row, Window};

/// Sessions between the last training target and the first forecast's target that belong to neither.
pub const EMBARGO: usize = 1;

/// Why the data can't be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what the fields are")]
pub enum DataError {
    #[error("there is no history of {symbol}: put {} or {}/*.csv there, or leave the symbol out", file.display(), folder.display())]
    NoHistory {
        symbol: Symbol,
        file: PathBuf,
        folder: PathBuf,
    },
    #[error("{symbol} is given twice: name each symbol once")]
    RepeatedSymbol { symbol: Symbol },
    #[error("no symbol is given: name at least one with --symbols")]
    NoSymbols,
    #[error(
        "{symbol} has {found} sessions and training needs {needed}: put older prices there too, or leave the symbol out"
    )]
    TooShort {
        symbol: Symbol,
        found: usize,
        needed: usize,
    },
    #[error(
        "the history has {found} sessions before {year} and the evaluation needs {needed}: put older prices there too"
    )]
    NothingToEvaluate {
        found: usize,
        year: i16,
        needed: usize,
    },
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// One symbol's history and its rows of features.
#[derive(Clone, Debug)]
pub struct Series {
    /// Whose prices they are.
    pub symbol: Symbol,
    /// The bars, ascending.
    pub bars: Vec<Bar>,
    /// `rows[i]` belongs to `bars[i + LOOKBACK]`.
    pub rows: Vec<Row>,
}

/// A window by its place, and what came next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Index of the symbol.
    pub series: usize,
    /// Index of the window's last row.
    pub row: usize,
    /// Session of that row.
    pub as_of: Date,
    /// The session after it.
    pub target_date: Date,
    /// Log return from the one close to the other.
    pub target: f64,
    /// Trailing volatility at `as_of`, as a daily log return.
    pub volatility: f64,
}

/// All symbols and all samples.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The symbols in the order they were given.
    pub series: Vec<Series>,
    /// The samples, by target date, then by symbol.
    pub samples: Vec<Sample>,
    /// Sessions in a window.
    pub window: usize,
}

/// What one fit may see, and what it is then judged by.
#[derive(Clone, Debug)]
pub struct Fold {
    /// Calendar year of the forecast sessions.
    pub year: i16,
    /// The training span: everything that fitting, scaling, stopping and calibrating may see.
    pub training: Vec<Sample>,
    /// What the fitted model is judged by.
    pub test: Vec<Sample>,
}

/// A training span cut into what is fitted and what stops and calibrates the fit.
#[derive(Clone, Debug)]
pub struct Tailed {
    /// The earlier samples.
    pub fit: Vec<Sample>,
    /// The last samples.
    pub tail: Vec<Sample>,
}

impl Dataset {
    /// Reads `<SYMBOL>.csv` or `<SYMBOL>/*.csv` under `folder`; `today` bounds the dates.
    pub fn load(
        folder: &Path,
        symbols: &[Symbol],
        window: usize,
        today: Date,
    ) -> Result<Self, DataError> {
        let mut histories = Vec::new();
        for symbol in symbols {
            let file = folder.join(format!("{symbol}.csv"));
            let bars = if file.exists() {
                history::load_file(&file, today)?
            } else {
                let folder = folder.join(symbol.as_str());
                match history::load_folder(&folder, today) {
                    Err(HistoryError::NoFiles { .. }) => {
                        return Err(DataError::NoHistory {
                            symbol: symbol.clone(),
                            file,
                            folder,
                        });
                    }
                    other => other?,
                }
            };
            histories.push((symbol.clone(), bars));
        }
        Self::new(histories, window)
    }

    /// Computes features and samples of some histories.
    pub fn new(histories: Vec<(Symbol, Vec<Bar>)>, window: usize) -> Result<Self, DataError> {
        if histories.is_empty() {
            return Err(DataError::NoSymbols);
        }
        let mut seen = BTreeSet::new();
        let mut series = Vec::new();
        for (symbol, bars) in histories {
            if !seen.insert(symbol.clone()) {
                return Err(DataError::RepeatedSymbol { symbol });
            }
            let needed = feature::bars_needed(window) + 1;
            if bars.len() < needed {
                return Err(DataError::TooShort {
                    symbol,
                    found: bars.len(),
                    needed,
                });
            }
            let rows = feature::rows(&bars);
            series.push(Series { symbol, bars, rows });
        }
        let mut samples: Vec<Sample> = series
            .iter()
            .enumerate()
            .flat_map(|(index, one)| one.samples(index, window))
            .collect();
        samples.sort_by_key(|sample| (sample.target_date, sample.series));
        Ok(Self {
            series,
            samples,
            window,
        })
    }

    /// The window of a sample.
    pub fn window_of(&self, sample: &Sample) -> Option<Window> {
        let rows = self.series[sample.series]
            .rows
            .get(sample.row + 1 - self.window..=sample.row)?;
        Window::from_rows(rows.to_vec())
    }

    /// All days on which any symbol was traded, ascending.
    fn sessions(&self) -> Vec<Date> {
        let days: BTreeSet<Date> = self
            .series
            .iter()
            .flat_map(|one| one.bars.iter().map(|bar| bar.date))
            .collect();
        days.into_iter().collect()
    }

    /// The last day of all.
    pub fn last_day(&self) -> Option<Date> {
        self.series
            .iter()
            .filter_map(|one| one.bars.last())
            .map(|bar| bar.date)
            .max()
    }

    /// First and last day of all.
    pub fn first_day(&self) -> Option<Date> {
        self.series
            .iter()
            .filter_map(|one| one.bars.first())
            .map(|bar| bar.date)
            .min()
    }

    /// The last `years` calendar years, each with everything before it as its training span.
    ///
    /// Years whose training span has fewer than `min_sessions` sessions are left out;
    /// when none is left, that is an error.
    pub fn folds(&self, years: usize, min_sessions: usize) -> Result<Vec<Fold>, DataError> {
        let sessions = self.sessions();
        let targets: BTreeSet<i16> = self
            .samples
            .iter()
            .map(|sample| sample.target_date.year())
            .collect();
        let mut folds = Vec::new();
        let mut refused = DataError::NothingToEvaluate {
            found: 0,
            year: 0,
            needed: min_sessions,
        };
        for year in targets.into_iter().rev().take(years) {
            let first_test = sessions.partition_point(|day| day.year() < year);
            // Targets end EMBARGO sessions before the first test target's own predecessor ends.
            let end = first_test.saturating_sub(EMBARGO);
            let (training, found) = match sessions.get(end) {
                Some(&bound) => (
                    self.targets_before(bound),
                    end.saturating_sub(LOOKBACK + self.window),
                ),
                None => (Vec::new(), 0),
            };
            if found < min_sessions {
                refused = DataError::NothingToEvaluate {
                    found: end,
                    year,
                    needed: min_sessions + LOOKBACK + self.window,
                };
                break;
            }
            let test = self
                .samples
                .iter()
                .filter(|sample| sample.target_date.year() == year)
                .copied()
                .collect();
            folds.push(Fold {
                year,
                training,
                test,
            });
        }
        folds.reverse();
        if folds.is_empty() {
            Err(refused)
        } else {
            Ok(folds)
        }
    }

    /// Samples whose target came strictly before `bound`.
    fn targets_before(&self, bound: Date) -> Vec<Sample> {
        let end = self
            .samples
            .partition_point(|sample| sample.target_date < bound);
        self.samples[..end].to_vec()
    }
}

impl Series {
    fn samples(&self, index: usize, window: usize) -> impl Iterator<Item = Sample> + '_ {
        let last = self.rows.len().saturating_sub(1);
        (window - 1..last).map(move |row| {
            let (from, to) = (&self.bars[row + LOOKBACK], &self.bars[row + LOOKBACK + 1]);
            Sample {
                series: index,
                row,
                as_of: from.date,
                target_date: to.date,
                target: feature::log_return(from, to),
                volatility: feature::volatility(&self.rows[row]),
            }
        })
    }
}

/// Cuts a training span by date; the session between the two parts belongs to neither.
pub fn cut_tail(training: &[Sample], tail_share: f64) -> Tailed {
    let days: BTreeSet<Date> = training.iter().map(|sample| sample.target_date).collect();
    let days: Vec<Date> = days.into_iter().collect();
    let tail_days = (days.len() as f64 * tail_share).round() as usize;
    let cut = days.len().saturating_sub(tail_days.max(1));
    let (Some(&tail_from), fit_until) = (
        days.get(cut),
        cut.checked_sub(EMBARGO).and_then(|index| days.get(index)),
    ) else {
        return Tailed {
            fit: Vec::new(),
            tail: Vec::new(),
        };
    };
    let fit = fit_until.map_or_else(Vec::new, |bound| {
        training
            .iter()
            .filter(|sample| sample.target_date < *bound)
            .copied()
            .collect()
    });
    let tail = training
        .iter()
        .filter(|sample| sample.target_date >= tail_from)
        .copied()
        .collect();
    Tailed { fit, tail }
}

#[cfg(test)]
mod tests;
