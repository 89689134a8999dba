//! Measures of forecasts, as pure functions over forecasts and what came.
//!
//! In come forecasts with their outcomes; out come numbers. All errors are of log
//! returns. The random walk forecasts no change, a return of zero.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use stockpredictor_storage::symbol::Symbol;

use crate::model::Quantiles;

/// A forecast return above it, as a simple return, is a BUY; below its negative, a SELL.
pub const SIGNAL_THRESHOLD: f64 = 0.01;
/// Two-sided 95 % of a standard normal.
const Z: f64 = 1.959_963_984_540_054;

/// A walk-forward forecast and its outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Whose price it is.
    pub symbol: Symbol,
    /// The last session that the forecast knew.
    pub as_of: Date,
    /// The session that it forecast.
    pub target_date: Date,
    /// The forecast.
    pub quantiles: Quantiles,
    /// The log return that came.
    pub actual: f64,
    /// Mean absolute log return of the symbol in the training span of the forecast's model.
    pub scale: f64,
}

/// All measures of one set of forecasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Forecasts.
    pub n: u64,
    /// Mean absolute error of the median.
    pub mae_model: f64,
    /// Mean absolute error of the random walk on the same sessions.
    pub mae_random_walk: f64,
    /// The headline: `mae_model / mae_random_walk`; below 1 the model was better.
    pub mae_ratio: f64,
    /// Root mean squared error of the median.
    pub rmse_model: f64,
    /// Root mean squared error of the random walk.
    pub rmse_random_walk: f64,
    /// Mean of the absolute errors, each over its training span's mean absolute return.
    pub mase_model: f64,
    /// The same for the random walk.
    pub mase_random_walk: f64,
    /// How often the sign was right.
    pub direction: Direction,
    /// The 80 % interval.
    pub interval: Interval,
    /// How often each signal occurred.
    pub signals: Signals,
}

/// Directional accuracy over sessions whose price changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// Sessions whose price changed.
    pub n: u64,
    /// Share of forecasts with the right sign.
    pub accuracy: f64,
    /// Lower end of the 95 % confidence interval (Wilson, effective sample size by session).
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
    /// Share of the more frequent sign: what always saying the same would have reached in hindsight.
    pub majority: f64,
}

/// The 80 % interval against what came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Share of outcomes inside.
    pub coverage: f64,
    /// Mean width as a log return.
    pub width: f64,
    /// Share of outcomes below.
    pub below: f64,
    /// Share of outcomes above.
    pub above: f64,
}

/// Counts of signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals {
    /// Forecast returns above +1 %.
    pub buy: u64,
    /// Forecast returns between.
    pub hold: u64,
    /// Forecast returns below −1 %.
    pub sell: u64,
}

impl Measures {
    /// Computes all measures; `None` without a forecast.
    pub fn of(forecasts: &[&Forecast]) -> Option<Self> {
        if forecasts.is_empty() {
            return None;
        }
        let n = forecasts.len() as f64;
        let mean = |value: &dyn Fn(&Forecast) -> f64| {
            forecasts.iter().map(|one| value(one)).sum::<f64>() / n
        };
        let mae_model = mean(&|one| one.error().abs());
        let mae_random_walk = mean(&|one| one.actual.abs());
        Some(Self {
            n: forecasts.len() as u64,
            mae_model,
            mae_random_walk,
            mae_ratio: mae_model / mae_random_walk,
            rmse_model: mean(&|one| one.error().powi(2)).sqrt(),
            rmse_random_walk: mean(&|one| one.actual.powi(2)).sqrt(),
            mase_model: mean(&|one| one.error().abs() / one.scale),
            mase_random_walk: mean(&|one| one.actual.abs() / one.scale),
            direction: direction(forecasts),
            interval: Interval {
                coverage: mean(&|one| f64::from(one.is_covered())),
                width: mean(&|one| one.quantiles.high - one.quantiles.low),
                below: mean(&|one| f64::from(one.actual < one.quantiles.low)),
                above: mean(&|one| f64::from(one.actual > one.quantiles.high)),
            },
            signals: signals(forecasts),
        })
    }
}

impl Forecast {
    fn error(&self) -> f64 {
        self.actual - self.quantiles.median
    }

    fn is_covered(&self) -> bool {
        (self.quantiles.low..=self.quantiles.high).contains(&self.actual)
    }

    /// Whether the sign was right; `None` where the price did not change.
    pub fn has_right_sign(&self) -> Option<bool> {
        (self.actual != 0.0).then_some(self.quantiles.median * self.actual > 0.0)
    }
}

fn direction(forecasts: &[&Forecast]) -> Direction {
    // Symbols move together, so forecasts for one session are one observation for the confidence interval.
    let mut sessions: BTreeMap<Date, (f64, f64)> = BTreeMap::new();
    let (mut n, mut right, mut up) = (0_u64, 0_u64, 0_u64);
    for one in forecasts {
        if let Some(is_right) = one.has_right_sign() {
            n += 1;
            right += u64::from(is_right);
            up += u64::from(one.actual > 0.0);
            let session = sessions.entry(one.target_date).or_default();
            session.0 += 1.0;
            session.1 += f64::from(is_right);
        }
    }
    if n == 0 {
        return Direction {
            n,
            accuracy: 0.0,
            low: 0.0,
            high: 1.0,
            majority: 0.0,
        };
    }
    let share = right as f64 / n as f64;
    let clustered: f64 = sessions
        .values()
        .map(|(count, right)| (right - share * count).powi(2))
        .sum();
    let variance = clustered / (n as f64).powi(2);
    let binomial = share * (1.0 - share) / n as f64;
    let effective = if variance > binomial {
        n as f64 * binomial / variance
    } else {
        n as f64
    };
    let (low, high) = wilson(share, effective);
    let majority = up.max(n - up) as f64 / n as f64;
    Direction {
        n,
        accuracy: share,
        low,
        high,
        majority,
    }
}

/// Wilson's 95 % interval of a share among `n` observations.
pub fn wilson(share: f64, n: f64) -> (f64, f64) {
    let denominator = 1.0 + Z * Z / n;
    let centre = (share + Z * Z / (2.0 * n)) / denominator;
    let half = Z / denominator * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

fn signals(forecasts: &[&Forecast]) -> Signals {
    let mut counts = Signals::default();
    for one in forecasts {
        let simple_return = one.quantiles.median.exp_m1();
        if simple_return > SIGNAL_THRESHOLD {
            counts.buy += 1;
        } else if simple_return < -SIGNAL_THRESHOLD {
            counts.sell += 1;
        } else {
            counts.hold += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(day: i8, [low, median, high]: [f64; 3], actual: f64) -> Forecast {
        Forecast {
            symbol: Symbol::parse("AAA").unwrap(),
            as_of: jiff::civil::date(2020, 1, day),
            target_date: jiff::civil::date(2020, 1, day + 1),
            quantiles: Quantiles { low, median, high },
            actual,
            scale: 0.02,
        }
    }

    fn measures(forecasts: &[Forecast]) -> Measures {
        Measures::of(&forecasts.iter().collect::<Vec<_>>()).unwrap()
    }

    fn assert_near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-12,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn errors_are_what_hand_computation_gives() {
        let found = measures(&[
            forecast(1, [-0.02, 0.01, 0.03], 0.02),
            forecast(2, [-0.02, 0.01, 0.03], -0.03),
            forecast(3, [-0.01, 0.0, 0.01], 0.01),
            forecast(4, [-0.04, -0.02, 0.01], -0.02),
        ]);
        assert_near(found.mae_model, (0.01 + 0.04 + 0.01 + 0.0) / 4.0);
        assert_near(found.mae_random_walk, (0.02 + 0.03 + 0.01 + 0.02) / 4.0);
        assert_near(found.mae_ratio, 0.06 / 0.08);
        assert_near(
            found.rmse_model,
            ((0.0001 + 0.0016 + 0.0001) / 4.0_f64).sqrt(),
        );
        assert_near(
            found.rmse_random_walk,
            ((0.0004 + 0.0009 + 0.0001 + 0.0004) / 4.0_f64).sqrt(),
        );
        assert_near(found.mase_model, 0.015 / 0.02);
        assert_near(found.mase_random_walk, 1.0);
        assert_near(found.interval.coverage, 0.75);
        assert_near(found.interval.below, 0.25);
        assert_near(found.interval.width, (0.05 + 0.05 + 0.02 + 0.05) / 4.0);
    }

    #[test]
    fn a_median_of_zero_has_no_right_sign_and_a_still_price_is_not_counted() {
        let found = measures(&[
            forecast(1, [-0.02, 0.01, 0.03], 0.02),
            forecast(2, [-0.02, 0.0, 0.03], 0.02),
            forecast(3, [-0.02, 0.01, 0.03], 0.0),
            forecast(4, [-0.02, -0.01, 0.03], -0.01),
        ]);
        assert_eq!(found.direction.n, 3);
        assert_near(found.direction.accuracy, 2.0 / 3.0);
        assert_near(found.direction.majority, 2.0 / 3.0);
    }

    #[test]
    fn the_confidence_interval_is_wilsons() {
        let (low, high) = wilson(0.5, 100.0);
        assert!(
            (low - 0.403_83).abs() < 1e-5 && (high - 0.596_17).abs() < 1e-5,
            "{low} {high}"
        );
    }

    #[test]
    fn symbols_that_move_together_widen_the_confidence_interval() {
        let days: Vec<i8> = (1..=20).collect();
        let alone: Vec<Forecast> = days
            .iter()
            .map(|&day| {
                forecast(
                    day,
                    [-0.1, 0.01, 0.1],
                    if day % 2 == 0 { 0.01 } else { -0.01 },
                )
            })
            .collect();
        let together: Vec<Forecast> = alone
            .iter()
            .flat_map(|one| [one.clone(), one.clone(), one.clone()])
            .collect();
        let (alone, together) = (measures(&alone).direction, measures(&together).direction);
        assert_eq!(together.n, 60);
        assert!(
            (together.low - alone.low).abs() < 1e-9,
            "{} {}",
            together.low,
            alone.low
        );
    }

    #[test]
    fn signals_begin_beyond_one_percent_of_simple_return() {
        let at = |simple: f64| forecast(1, [-1.0, f64::ln_1p(simple), 1.0], 0.0);
        let found = measures(&[at(0.0101), at(0.0099), at(-0.0099), at(-0.0101), at(0.0)]);
        assert_eq!(
            found.signals,
            Signals {
                buy: 1,
                hold: 3,
                sell: 1
            }
        );
    }
}
