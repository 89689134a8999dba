//! From quantiles of a return to what a person asks for: prices, an interval, a signal.
//!
//! In come the last close and quantiles of the next log return; out comes a
//! [`Forecast`]. Pure: no model, no files, no clock.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::problem::{Kind, Problem};
use crate::model::Quantiles;

/// Predicted return above which the signal is BUY and below whose negative it is SELL.
pub const SIGNAL_THRESHOLD: f64 = 0.01;
/// Share of outcomes that the interval should hold.
pub const LEVEL: f64 = 0.8;

/// What a prediction suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// The predicted return is above 1 %.
    Buy,
    /// The predicted return is below −1 %.
    Sell,
    /// Anything between, which is the usual answer.
    Hold,
}

impl Signal {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "BUY",
            Self::Sell => "SELL",
            Self::Hold => "HOLD",
        }
    }
}

/// A range of prices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Interval {
    /// Share of outcomes that the range should hold.
    #[schema(example = 0.8)]
    pub level: f64,
    /// Lower price.
    pub low: f64,
    /// Higher price.
    pub high: f64,
}

/// The model that computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelName {
    /// Its name.
    #[schema(example = "nvda_lstm_model")]
    pub name: String,
    /// Its version.
    #[schema(example = "2023-12-29")]
    pub version: String,
    /// SHA-256 of its graph.
    pub sha256: String,
}

/// A prediction as it is cached and stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Forecast {
    /// The symbol.
    #[schema(example = "NVDA")]
    pub symbol: String,
    /// Close of `as_of`.
    pub current_price: f64,
    /// The price that the next close is as likely to exceed as not.
    pub predicted_price: f64,
    /// `predicted_price / current_price − 1`.
    pub predicted_return: f64,
    /// Where the next close should lie.
    pub interval: Interval,
    /// BUY above +1 %, SELL below −1 %, else HOLD.
    pub trading_signal: Signal,
    /// Share of right signs among forecasts of the same strength; null below 200 cases.
    pub confidence: Option<f64>,
    /// Last session of the history.
    #[schema(value_type = String, format = Date, example = "2023-12-29")]
    pub as_of: Date,
    /// The session that is predicted.
    #[schema(value_type = String, format = Date, example = "2024-01-02")]
    pub target_date: Date,
    /// When it was computed.
    #[schema(value_type = String, format = DateTime)]
    pub prediction_time: Timestamp,
    /// What computed it.
    pub model: ModelName,
}

/// Prices and signal of a forecast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// See [`Forecast::predicted_price`].
    pub predicted: f64,
    /// See [`Forecast::predicted_return`].
    pub predicted_return: f64,
    /// See [`Forecast::interval`].
    pub interval: Interval,
    /// See [`Forecast::trading_signal`].
    pub signal: Signal,
}

/// Applies quantiles of a log return to a close.
pub fn prices(close: f64, quantiles: &Quantiles) -> Result<Prices, Problem> {
    let price = |log_return: f64| close * log_return.exp();
    let predicted_return = quantiles.median.exp_m1();
    let found = Prices {
        predicted: price(quantiles.median),
        predicted_return,
        interval: Interval {
            level: LEVEL,
            low: price(quantiles.low),
            high: price(quantiles.high),
        },
        signal: signal(predicted_return),
    };
    let all = [
        found.predicted,
        predicted_return,
        found.interval.low,
        found.interval.high,
    ];
    if all.iter().all(|number| number.is_finite()) {
        Ok(found)
    } else {
        Err(Problem::new(
            Kind::ForecastFailed,
            "the model's forecast is too large to be a price: train the model again",
        ))
    }
}

/// What a predicted return suggests.
pub fn signal(predicted_return: f64) -> Signal {
    if predicted_return > SIGNAL_THRESHOLD {
        Signal::Buy
    } else if predicted_return < -SIGNAL_THRESHOLD {
        Signal::Sell
    } else {
        Signal::Hold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_needs_more_than_one_percent() {
        let table = [
            (0.0101, Signal::Buy),
            (0.01, Signal::Hold),
            (0.0, Signal::Hold),
            (-0.01, Signal::Hold),
            (-0.0101, Signal::Sell),
        ];
        for (predicted, expected) in table {
            assert_eq!(signal(predicted), expected, "{predicted}");
        }
    }

    #[test]
    fn prices_are_the_close_times_the_exponential_of_the_return() {
        let quantiles = Quantiles {
            low: -0.02,
            median: 0.0,
            high: 0.03,
        };
        let found = prices(200.0, &quantiles).unwrap();
        assert!((found.predicted - 200.0).abs() < 1e-12 && found.predicted_return.abs() < 1e-12);
        assert!((found.interval.low - 200.0 * (-0.02_f64).exp()).abs() < 1e-9);
        assert!((found.interval.high - 200.0 * 0.03_f64.exp()).abs() < 1e-9);
    }

    #[test]
    fn a_forecast_beyond_all_numbers_is_refused() {
        let quantiles = Quantiles {
            low: 0.0,
            median: 1.0,
            high: 1000.0,
        };
        assert_eq!(
            prices(100.0, &quantiles).unwrap_err().kind,
            Kind::ForecastFailed
        );
    }
}
