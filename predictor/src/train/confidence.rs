//! The confidence table: how often forecasts of a strength had the right sign.
//!
//! In come walk-forward forecasts; out comes the table for `model_config.json`.

use super::metric::Forecast;
use crate::model::config::{Confidence, ConfidenceBin, MINIMUM_CASES};

/// Bins of about equal size, as many as there are enough forecasts for.
const MOST_BINS: usize = 5;

/// Counts right signs by the absolute median, in bins of about equal size.
pub fn table(forecasts: &[Forecast]) -> Option<Confidence> {
    let mut cases: Vec<(f64, bool)> = forecasts
        .iter()
        .filter_map(|one| Some((one.quantiles.median.abs(), one.has_right_sign()?)))
        .collect();
    cases.sort_by(|left, right| left.0.total_cmp(&right.0));
    let strongest = cases.last()?.0;
    let count = (cases.len() / MINIMUM_CASES as usize).clamp(1, MOST_BINS);
    let mut edges: Vec<f64> = (1..count)
        .map(|bin| round_up(cases[bin * cases.len() / count].0))
        .collect();
    edges.insert(0, 0.0);
    edges.push(round_up(strongest));
    edges.dedup();
    let bins = edges.windows(2).map(|edge| {
        let (from, to) = (edge[0], edge[1]);
        let is_last = to >= strongest;
        let inside = cases
            .iter()
            .filter(|case| case.0 >= from && (case.0 < to || is_last));
        let (n, right) = inside.fold((0_u64, 0_u64), |(n, right), case| {
            (n + 1, right + u64::from(case.1))
        });
        let share = (n >= MINIMUM_CASES).then(|| right as f64 / n as f64);
        ConfidenceBin {
            from,
            to,
            share,
            cases: n,
        }
    });
    Some(Confidence {
        method: "share of right signs among walk-forward forecasts whose absolute median log return lies in the bin, from <= strength < to (the last bin includes its end); null below 200 cases and for strengths that no forecast had".to_owned(),
        bins: bins.collect(),
    })
}

/// To a multiple of a millionth, so that the table can be read; up, so that the last edge holds the strongest forecast.
fn round_up(value: f64) -> f64 {
    (value * 1e6).ceil() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Quantiles;
    use stockpredictor_storage::symbol::Symbol;

    fn forecasts(count: usize) -> Vec<Forecast> {
        (0..count)
            .map(|index| Forecast {
                symbol: Symbol::parse("AAA").unwrap(),
                as_of: jiff::civil::date(2020, 1, 1),
                target_date: jiff::civil::date(2020, 1, 2),
                quantiles: Quantiles {
                    low: -1.0,
                    median: 1e-5 * (index + 1) as f64,
                    high: 1.0,
                },
                actual: if index % 4 == 0 { -0.01 } else { 0.01 },
                scale: 1.0,
            })
            .collect()
    }

    #[test]
    fn each_bin_holds_about_the_same_number_and_all_cases_are_in_one() {
        let table = table(&forecasts(1003)).unwrap();
        assert_eq!(table.bins.len(), 5);
        assert_eq!(table.bins.iter().map(|bin| bin.cases).sum::<u64>(), 1003);
        assert!(
            table.bins.iter().all(|bin| bin.cases >= 200),
            "{:?}",
            table.bins
        );
        assert_eq!(table.of(1e-5 * 1003.0), table.bins[4].share);
        assert!((table.of(1e-5).unwrap() - 0.75).abs() < 0.01);
        assert_eq!(table.of(0.02), None);
    }

    #[test]
    fn few_forecasts_say_nothing() {
        let table = table(&forecasts(199)).unwrap();
        assert_eq!(table.bins.len(), 1);
        assert_eq!(table.of(1e-4), None);
    }
}
