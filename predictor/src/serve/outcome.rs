//! Outcomes: what really happened after a forecast, and how far off it was.
//!
//! In come stored forecasts and histories; out come outcomes, as they are kept for ever in
//! `stock_data/predictions/analysis/<SYMBOL>.jsonl`, and mean errors beside those of a random walk. Nobody waits for
//! this: it runs beside the requests.

mod file;
mod pass;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::ToSpan;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use stockpredictor_storage::history::Bar;
use stockpredictor_storage::symbol::Symbol;

use super::forecast::Forecast;

pub use pass::{Pass, Report};

/// Outcomes of so many days, by their targets, are in the metrics.
const RECENT_DAYS: i64 = 30;

/// A forecast beside the price that it was about: one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The forecast as it was stored.
    #[serde(flatten)]
    pub forecast: Forecast,
    /// The close of `target_date`.
    pub actual: f64,
    /// What a random walk forecasts: the close of `as_of`, as the history has it now.
    pub random_walk: f64,
}

/// Absolute errors as shares of the price before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Of the model.
    pub model: f64,
    /// Of the random walk.
    pub random_walk: f64,
}

/// How right the recent forecasts of a symbol were.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// The symbol.
    pub symbol: Symbol,
    /// How many outcomes there are.
    pub outcomes: u64,
    /// Their mean errors; `None` without outcomes.
    pub errors: Option<Errors>,
}

impl Outcome {
    /// The outcome of a forecast; `None` while the history has no close of its target.
    pub fn of(forecast: Forecast, bars: &[Bar]) -> Option<Self> {
        let actual = close_of(bars, forecast.target_date)?;
        // A history that begins later doesn't have it any more.
        let random_walk = close_of(bars, forecast.as_of).unwrap_or(forecast.current_price);
        Some(Self {
            forecast,
            actual,
            random_walk,
        })
    }

    /// How far off it was; `None` where the numbers are no prices.
    ///
    /// Returns are compared: a split between forecast and outcome changes the history's prices, but no return.
    pub fn errors(&self) -> Option<Errors> {
        let prices = [self.forecast.current_price, self.random_walk, self.actual];
        if !prices.iter().all(|price| price.is_normal() && *price > 0.0) {
            return None;
        }
        let happened = self.actual / self.random_walk;
        let errors = Errors {
            model: (self.forecast.predicted_price / self.forecast.current_price - happened).abs(),
            random_walk: (1.0 - happened).abs(),
        };
        (errors.model.is_finite() && errors.random_walk.is_finite()).then_some(errors)
    }
}

/// The close of a session.
fn close_of(bars: &[Bar], session: Date) -> Option<f64> {
    let found = bars.binary_search_by_key(&session, |bar| bar.date).ok()?;
    bars.get(found).map(|bar| bar.close)
}

/// The first target that is recent today.
fn recent_since(today: Date) -> Date {
    today.saturating_sub(RECENT_DAYS.days())
}

/// The recent errors of each symbol, by their targets.
pub type Recent = BTreeMap<Symbol, BTreeMap<Date, Errors>>;

/// What is known in memory.
#[derive(Default)]
pub struct Outcomes {
    recent: Mutex<Recent>,
}

impl Outcomes {
    /// Takes what a pass found.
    pub fn set(&self, recent: Recent) {
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = recent;
    }

    /// The accuracy of every symbol.
    pub fn accuracy(&self, today: Date) -> Vec<Accuracy> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let since = recent_since(today);
        let accuracy = recent.iter().map(|(symbol, errors)| {
            let errors: Vec<Errors> = errors.range(since..).map(|(_, errors)| *errors).collect();
            Accuracy {
                symbol: symbol.clone(),
                outcomes: errors.len() as u64,
                errors: mean(&errors),
            }
        });
        accuracy.collect()
    }
}

fn mean(errors: &[Errors]) -> Option<Errors> {
    if errors.is_empty() {
        return None;
    }
    let count = errors.len() as f64;
    let of = |part: fn(&Errors) -> f64| errors.iter().map(part).sum::<f64>() / count;
    Some(Errors {
        model: of(|errors| errors.model),
        random_walk: of(|errors| errors.random_walk),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::forecast::{Interval, ModelName, Signal};
    use super::*;
    use jiff::Timestamp;
    use jiff::civil::date;

    pub(crate) fn forecast(
        as_of: Date,
        target_date: Date,
        current: f64,
        predicted: f64,
    ) -> Forecast {
        Forecast {
            symbol: "NVDA".to_owned(),
            current_price: current,
            predicted_price: predicted,
            predicted_return: predicted / current - 1.0,
            interval: Interval {
                level: 0.8,
                low: predicted - 1.0,
                high: predicted + 1.0,
            },
            trading_signal: Signal::Hold,
            confidence: None,
            as_of,
            target_date,
            prediction_time: Timestamp::UNIX_EPOCH,
            model: ModelName {
                name: "m".to_owned(),
                version: "1".to_owned(),
                sha256: "a".to_owned(),
            },
        }
    }

    pub(crate) fn bar(date: Date, close: f64) -> Bar {
        Bar {
            date,
            open: close,
            high: close,
            low: close,
            close,
            volume: 1,
        }
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-12
    }

    #[test]
    fn errors_are_shares_of_the_price_before() {
        let (as_of, target) = (date(2024, 1, 2), date(2024, 1, 3));
        let bars = [bar(as_of, 200.0), bar(target, 210.0)];
        let outcome = Outcome::of(forecast(as_of, target, 200.0, 204.0), &bars).unwrap();
        assert!(near(outcome.actual, 210.0) && near(outcome.random_walk, 200.0));
        let errors = outcome.errors().unwrap();
        assert!(near(errors.model, 6.0 / 200.0) && near(errors.random_walk, 10.0 / 200.0));
        let unknown = Outcome::of(forecast(target, date(2024, 1, 4), 210.0, 210.0), &bars);
        assert_eq!(unknown, None, "its price isn't known yet");
    }

    #[test]
    fn a_split_between_forecast_and_outcome_is_no_error() {
        let (as_of, target) = (date(2024, 6, 7), date(2024, 6, 10));
        // Ten for one: the history's prices are a tenth now.
        let bars = [bar(as_of, 120.0), bar(target, 121.2)];
        let outcome = Outcome::of(forecast(as_of, target, 1200.0, 1212.0), &bars).unwrap();
        let errors = outcome.errors().unwrap();
        assert!(
            near(errors.model, 0.0) && near(errors.random_walk, 0.01),
            "{errors:?}"
        );
    }

    #[test]
    fn numbers_that_are_no_prices_have_no_error() {
        let (as_of, target) = (date(2024, 1, 2), date(2024, 1, 3));
        let bars = [bar(as_of, 200.0), bar(target, 210.0)];
        for (current, predicted) in [(0.0, 1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            let outcome = Outcome::of(forecast(as_of, target, current, predicted), &bars).unwrap();
            assert_eq!(outcome.errors(), None, "{current} {predicted}");
        }
    }

    #[test]
    fn only_targets_of_the_last_thirty_days_count() {
        let outcomes = Outcomes::default();
        let errors = |model| Errors {
            model,
            random_walk: 2.0 * model,
        };
        let symbol = Symbol::parse("NVDA").unwrap();
        let days = [
            (date(2024, 1, 2), errors(9.0)),
            (date(2024, 1, 31), errors(0.01)),
            (date(2024, 2, 1), errors(0.03)),
        ];
        outcomes.set(Recent::from([(symbol, BTreeMap::from(days))]));
        let found = outcomes.accuracy(date(2024, 2, 1));
        let all = &found[0];
        assert_eq!(all.outcomes, 3, "thirty days are whole days: {found:?}");
        let found = outcomes.accuracy(date(2024, 2, 2)).remove(0);
        let mean = found.errors.unwrap();
        assert!(found.outcomes == 2 && near(mean.model, 0.02) && near(mean.random_walk, 0.04));
        let found = outcomes.accuracy(date(2025, 1, 1)).remove(0);
        assert_eq!((found.outcomes, found.errors), (0, None));
    }
}
