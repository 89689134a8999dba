//! The committed default model and its report: they load, agree with each other, and
//! the report's numbers follow from its own forecasts.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use stockpredictor_predictor::model::{LoadedModel, Quantiles, Session, folder};
use stockpredictor_predictor::train::confidence;
use stockpredictor_predictor::train::metric::{Forecast, Measures};
use stockpredictor_predictor::train::report::{Report, SOUND_COVERAGE};
use stockpredictor_storage::symbol::Symbol;

fn model_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("default_model/nvda_lstm_model")
}

fn load() -> LoadedModel {
    folder::load_version(&model_folder(), None).unwrap()
}

fn report_folder() -> PathBuf {
    model_folder()
        .join(folder::current_version(&model_folder()).unwrap())
        .join("report")
}

fn report() -> Report {
    serde_json::from_slice(&fs::read(report_folder().join("report.json")).unwrap()).unwrap()
}

/// The stored forecasts; the scale of each is in its year's fold.
fn forecasts(report: &Report) -> Vec<Forecast> {
    let scale = |symbol: &str, year: i16| {
        let fold = report.folds.iter().find(|fold| fold.year == year).unwrap();
        fold.mean_absolute_return[symbol]
    };
    let text = fs::read_to_string(report_folder().join("forecasts.csv")).unwrap();
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |index: usize| fields[index].parse::<f64>().unwrap();
        let target_date: Date = fields[2].parse().unwrap();
        Forecast {
            symbol: Symbol::parse(fields[0]).unwrap(),
            as_of: fields[1].parse().unwrap(),
            target_date,
            quantiles: Quantiles {
                low: number(3),
                median: number(4),
                high: number(5),
            },
            actual: number(6),
            scale: scale(fields[0], target_date.year()),
        }
    };
    text.lines().skip(1).map(parse).collect()
}

#[test]
fn it_loads_and_reproduces_its_recorded_forecasts() {
    let model = load();
    let mut session = Session::open(&model).unwrap();
    let deviation = model.golden.unwrap().check(&mut session).unwrap();
    assert!(deviation <= 1e-5, "{deviation}");
    let config = model.config.unwrap();
    assert_eq!(
        (config.name.as_str(), config.version.as_str(), config.seed),
        ("nvda_lstm_model", "2023-12-29", 42)
    );
    assert_eq!(config.symbols, ["NVDA", "TSLA", "AAPL"]);
}

#[test]
fn model_and_report_together_are_at_most_one_mebibyte() {
    let mut total = 0;
    let mut folders = vec![model_folder()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                total += fs::metadata(&path).unwrap().len();
            }
        }
    }
    assert!(total <= 1024 * 1024, "{total}");
}

#[test]
fn the_interval_holds_between_77_and_83_percent_of_2019_to_2023() {
    let report = report();
    let coverage = report.pooled.interval.coverage;
    assert!(
        SOUND_COVERAGE.contains(&coverage) && SOUND_COVERAGE == (0.77..=0.83),
        "{coverage}"
    );
    assert_eq!(
        report.by_year.keys().copied().collect::<Vec<_>>(),
        [2019, 2020, 2021, 2022, 2023]
    );
    assert_eq!(
        report.by_year.values().map(|of| of.n).sum::<u64>(),
        report.pooled.n
    );
    assert_eq!(
        report.by_symbol.values().map(|of| of.n).sum::<u64>(),
        report.pooled.n
    );
    assert!(report.pooled.n > 3700, "{}", report.pooled.n);
}

/// Compares every number of two JSON values; the stored forecasts have nine decimals.
fn assert_close(found: &serde_json::Value, expected: &serde_json::Value, path: &str) {
    if let (Some(found), Some(expected)) = (found.as_object(), expected.as_object()) {
        assert_eq!(found.len(), expected.len(), "{path}");
        for (key, value) in found {
            assert_close(value, &expected[key], &format!("{path}.{key}"));
        }
    } else {
        let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
        assert!(
            (found - expected).abs() < 1e-6,
            "{path}: {found} is not {expected}"
        );
    }
}

#[test]
fn the_reports_numbers_follow_from_its_forecasts() {
    let report = report();
    let forecasts = forecasts(&report);
    let measures = |chosen: &dyn Fn(&Forecast) -> bool| {
        let chosen: Vec<&Forecast> = forecasts.iter().filter(|one| chosen(one)).collect();
        serde_json::to_value(Measures::of(&chosen).unwrap()).unwrap()
    };
    let value = |of: &Measures| serde_json::to_value(of).unwrap();
    assert_close(&measures(&|_| true), &value(&report.pooled), "pooled");
    for (symbol, of) in &report.by_symbol {
        assert_close(
            &measures(&|one| one.symbol.as_str() == symbol),
            &value(of),
            symbol,
        );
    }
    for (year, of) in &report.by_year {
        assert_close(
            &measures(&|one| one.target_date.year() == *year),
            &value(of),
            &year.to_string(),
        );
    }
}

#[test]
fn the_confidence_table_follows_from_the_forecasts() {
    let forecasts = forecasts(&report());
    let config = load().config.unwrap();
    let (found, stored) = (
        confidence::table(&forecasts).unwrap(),
        config.confidence.unwrap(),
    );
    assert_eq!(found, stored);
    assert!(stored.bins.len() == 5 && stored.bins.iter().all(|bin| bin.cases >= 200));
}

#[test]
fn every_forecast_was_made_the_session_before_by_a_model_of_earlier_years() {
    let report = report();
    let mut last: BTreeMap<String, Date> = BTreeMap::new();
    for one in forecasts(&report) {
        let fold = report
            .folds
            .iter()
            .find(|fold| fold.year == one.target_date.year())
            .unwrap();
        assert!(fold.training.last < one.as_of && one.as_of < one.target_date);
        // Successive forecasts of a symbol touch: no session is skipped or forecast twice.
        let before = last.insert(one.symbol.to_string(), one.target_date);
        assert!(before.is_none_or(|before| before == one.as_of), "{one:?}");
    }
}

#[test]
fn outcomes_are_those_of_the_sample_data() {
    let forecasts = forecasts(&report());
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
    for symbol in ["NVDA", "TSLA", "AAPL"] {
        let today = jiff::civil::date(2024, 1, 2);
        let bars =
            stockpredictor_storage::history::load_file(&data.join(format!("{symbol}.csv")), today)
                .unwrap();
        let close: BTreeMap<Date, f64> = bars.iter().map(|bar| (bar.date, bar.close)).collect();
        for one in forecasts.iter().filter(|one| one.symbol.as_str() == symbol) {
            let actual = (close[&one.target_date] / close[&one.as_of]).ln();
            assert!((actual - one.actual).abs() < 1e-8, "{one:?}");
        }
    }
}
