//! Features: what the network sees of a price history.
//!
//! In come bars, ascending by day; out come rows of scale-free numbers, one row a
//! session. A row uses its own session and [`LOOKBACK`] sessions before it, never a
//! later one, and no feature changes when all prices, or all volumes, are multiplied
//! by a constant, so one scaler serves any symbol. The formulas are in docs/model.md
//! for whoever computes them elsewhere; a change of any of them raises
//! [`FEATURE_VERSION`].

use sha2::{Digest, Sha256};
use stockpredictor_storage::history::Bar;

/// Version of the formulas. A model trained on another version is refused.
pub const FEATURE_VERSION: u32 = 1;
/// Features in a row.
pub const FEATURES: usize = 8;
/// Names of the features, in the order of a row.
pub const NAMES: [&str; FEATURES] = [
    "return",
    "gap",
    "range",
    "close_location",
    "volume",
    "short_volatility",
    "momentum",
    "log_volatility",
];
/// Sessions before a row's own that the row uses.
pub const LOOKBACK: usize = 20;
/// Sessions in a window, unless a model says otherwise.
pub const WINDOW: usize = 20;
/// Longest window that a model may ask for.
pub const MAX_WINDOW: usize = 512;
/// Smallest trailing volatility, as a daily log return; keeps a price that never moves from dividing by zero.
pub const MIN_VOLATILITY: f64 = 1e-4;

const SHORT: usize = 5;
const MIN_RELATIVE_VOLUME: f64 = 0.01;
const LOG_VOLATILITY: usize = 7;

/// One session's features, in the order of [`NAMES`].
pub type Row = [f64; FEATURES];

/// The rows of some successive sessions, oldest first: what a forecast is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    rows: Vec<Row>,
}

/// The history is too short for a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the history has {found} sessions and a forecast needs {needed}: put older prices there too"
)]
pub struct TooFewBars {
    /// Sessions that are there.
    pub found: usize,
    /// Sessions that are needed.
    pub needed: usize,
}

/// Sessions that a window of `length` rows needs.
pub const fn bars_needed(length: usize) -> usize {
    length + LOOKBACK
}

/// The window that ends with the last of `bars`.
pub fn window(bars: &[Bar], length: usize) -> Result<Window, TooFewBars> {
    let needed = bars_needed(length);
    let start = bars.len().checked_sub(needed);
    let recent = start.and_then(|start| bars.get(start..));
    match recent {
        Some(recent) if length > 0 => Ok(Window { rows: rows(recent) }),
        _ => Err(TooFewBars {
            found: bars.len(),
            needed,
        }),
    }
}

/// The row of every session that has [`LOOKBACK`] sessions before it; the first belongs to `bars[LOOKBACK]`.
pub fn rows(bars: &[Bar]) -> Vec<Row> {
    bars.windows(LOOKBACK + 1).map(row).collect()
}

/// The row of the last of `bars`, which are that session and [`LOOKBACK`] before it.
fn row(bars: &[Bar]) -> Row {
    let returns: Vec<f64> = bars
        .windows(2)
        .map(|pair| pair[1].close.ln() - pair[0].close.ln())
        .collect();
    let volatility = root_mean_square(&returns);
    let short_volatility = root_mean_square(&returns[LOOKBACK - SHORT..]);
    let (last, previous, first) = (&bars[LOOKBACK], &bars[LOOKBACK - 1], &bars[0]);
    [
        (last.close.ln() - previous.close.ln()) / volatility,
        (last.open.ln() - previous.close.ln()) / volatility,
        (last.high.ln() - last.low.ln()) / volatility,
        close_location(last),
        relative_volume(&bars[1..]),
        short_volatility.ln() - volatility.ln(),
        (last.close.ln() - first.close.ln()) / (volatility * (LOOKBACK as f64).sqrt()),
        volatility.ln(),
    ]
}

fn root_mean_square(returns: &[f64]) -> f64 {
    let mean = returns.iter().map(|value| value * value).sum::<f64>() / returns.len() as f64;
    mean.sqrt().max(MIN_VOLATILITY)
}

/// Where the close lies in the session's range: −1 at the low, 1 at the high, 0 without a range.
fn close_location(bar: &Bar) -> f64 {
    let range = bar.high - bar.low;
    if range > 0.0 {
        (((bar.close - bar.low) - (bar.high - bar.close)) / range).clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

/// Logarithm of the last volume over the mean of all given; 0 where nothing was traded at all.
fn relative_volume(bars: &[Bar]) -> f64 {
    let mean = bars.iter().map(|bar| bar.volume as f64).sum::<f64>() / bars.len() as f64;
    match bars.last() {
        Some(last) if mean > 0.0 => (last.volume as f64 / mean).max(MIN_RELATIVE_VOLUME).ln(),
        _ => 0.0,
    }
}

impl Window {
    /// Takes rows as they are; `None` for no rows or a number that isn't finite.
    pub fn from_rows(rows: Vec<Row>) -> Option<Self> {
        let sound = !rows.is_empty() && rows.iter().flatten().all(|value| value.is_finite());
        sound.then_some(Self { rows })
    }

    /// The rows, oldest first.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Trailing volatility at the last session, as a daily log return: the scale of the forecast.
    pub fn volatility(&self) -> f64 {
        self.rows.last().map_or(MIN_VOLATILITY, volatility)
    }

    /// SHA-256 over feature version, number of rows and all numbers: equal windows, and only they, have equal hashes.
    pub fn sha256(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(FEATURE_VERSION.to_le_bytes());
        hasher.update((self.rows.len() as u64).to_le_bytes());
        for value in self.rows.iter().flatten() {
            hasher.update(value.to_le_bytes());
        }
        hasher.finalize().into()
    }
}

/// Trailing volatility of one row, as a daily log return.
pub fn volatility(row: &Row) -> f64 {
    row[LOG_VOLATILITY].exp()
}

/// Log return from one close to the next, the quantity that is forecast.
pub fn log_return(from: &Bar, to: &Bar) -> f64 {
    to.close.ln() - from.close.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An uneven history; nothing in it repeats or stands still.
    pub(crate) fn bars(count: usize) -> Vec<Bar> {
        let first = jiff::civil::date(2020, 1, 1);
        let mut close = 50.0_f64;
        (0..count)
            .map(|index| {
                let step = ((index * 7919 % 101) as f64 - 50.0) / 1500.0;
                let open = close * (1.0 + step / 3.0);
                close *= 1.0 + step;
                Bar {
                    date: first
                        .saturating_add(jiff::Span::new().days(i64::try_from(index).unwrap())),
                    open,
                    high: open.max(close) * 1.01,
                    low: open.min(close) * 0.985,
                    close,
                    volume: 1_000_000 + (index * 104_729 % 900_001) as u64,
                }
            })
            .collect()
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn features_are_what_the_formulas_say() {
        // 20 quiet sessions that rise by 1 % each, then one that falls by 2 % on double volume.
        let flat = |close: f64, volume| Bar {
            date: jiff::civil::date(2020, 1, 1),
            open: close,
            high: close,
            low: close,
            close,
            volume,
        };
        let mut history: Vec<Bar> = (0..20)
            .map(|day| flat((0.01 * f64::from(day)).exp(), 100))
            .collect();
        let previous = history[19].close;
        history.push(Bar {
            date: jiff::civil::date(2020, 1, 2),
            open: previous * 0.01_f64.exp(),
            high: previous * 0.02_f64.exp(),
            low: previous * (-0.03_f64).exp(),
            close: previous * (-0.02_f64).exp(),
            volume: 200,
        });
        let found = rows(&history);
        assert_eq!(found.len(), 1);
        let volatility = ((19.0 * 0.01_f64.powi(2) + 0.02_f64.powi(2)) / 20.0).sqrt();
        let short = ((4.0 * 0.01_f64.powi(2) + 0.02_f64.powi(2)) / 5.0).sqrt();
        let last = history[20];
        let expected = [
            -0.02 / volatility,
            0.01 / volatility,
            0.05 / volatility,
            (2.0 * last.close - last.high - last.low) / (last.high - last.low),
            (200.0_f64 / 105.0).ln(),
            (short / volatility).ln(),
            (0.19 - 0.02) / (volatility * 20.0_f64.sqrt()),
            volatility.ln(),
        ];
        for (found, expected) in found[0].iter().zip(expected) {
            assert_near(*found, expected);
        }
    }

    #[test]
    fn prices_and_volumes_in_other_units_give_the_same_features() {
        let original = bars(60);
        let scaled: Vec<Bar> = original
            .iter()
            .map(|bar| Bar {
                date: bar.date,
                open: bar.open * 40.0,
                high: bar.high * 40.0,
                low: bar.low * 40.0,
                close: bar.close * 40.0,
                volume: bar.volume * 3,
            })
            .collect();
        for (left, right) in rows(&original)
            .iter()
            .flatten()
            .zip(rows(&scaled).iter().flatten())
        {
            assert_near(*left, *right);
        }
    }

    #[test]
    fn a_row_does_not_change_when_later_sessions_do() {
        let original = bars(80);
        let mut changed = original.clone();
        for bar in &mut changed[60..] {
            bar.close *= 3.0;
            bar.volume *= 5;
        }
        let window = |bars: &[Bar]| Window::from_rows(rows(bars)[..40].to_vec());
        assert_eq!(window(&original), window(&changed));
        let next = |bars: &[Bar]| Window::from_rows(rows(bars)[40..41].to_vec());
        assert_ne!(next(&original), next(&changed));
    }

    #[test]
    fn a_window_is_the_last_rows_of_the_whole_history() {
        let history = bars(90);
        let found = window(&history, 20).unwrap();
        assert_eq!(found.rows(), &rows(&history)[50..]);
    }

    #[test]
    fn a_history_one_session_short_is_refused() {
        assert!(window(&bars(40), 20).is_ok());
        assert_eq!(
            window(&bars(39), 20),
            Err(TooFewBars {
                found: 39,
                needed: 40
            })
        );
        assert!(window(&[], 20).is_err());
        assert!(window(&bars(40), 0).is_err());
    }

    #[test]
    fn a_price_that_never_moves_gives_finite_features() {
        let still = Bar {
            open: 5.0,
            high: 5.0,
            low: 5.0,
            close: 5.0,
            volume: 0,
            ..bars(1)[0]
        };
        let found = window(&vec![still; 40], 20).unwrap();
        assert!(found.rows().iter().flatten().all(|value| value.is_finite()));
        assert_near(found.volatility(), MIN_VOLATILITY);
    }

    #[test]
    fn extreme_prices_give_finite_features() {
        let mut history = bars(40);
        history[39].close = f64::MAX;
        history[38].close = f64::MIN_POSITIVE;
        history[39].high = f64::MAX;
        history[39].low = f64::MIN_POSITIVE;
        let found = window(&history, 20).unwrap();
        assert!(found.rows().iter().flatten().all(|value| value.is_finite()));
    }

    #[test]
    fn any_changed_number_changes_the_hash_of_a_window() {
        let history = bars(40);
        let mut changed = history.clone();
        changed[39].volume += 1;
        let hash = |bars: &[Bar]| window(bars, 20).unwrap().sha256();
        assert_eq!(hash(&history), hash(&history));
        assert_ne!(hash(&history), hash(&changed));
    }
}
