//! Training as a whole, on made-up prices and a tiny network: what comes out is the
//! same every time, knows nothing of the future, and is what the network computed.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::civil::{Date, date};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use stockpredictor_predictor::model::{Quantiles, Session, folder};
use stockpredictor_predictor::train::data::Dataset;
use stockpredictor_predictor::train::fit::{Fitted, fit};
use stockpredictor_predictor::train::metric::Forecast;
use stockpredictor_predictor::train::network::unit;
use stockpredictor_predictor::train::recipe::Recipe;
use stockpredictor_predictor::train::{Task, train, walk_forward};
use stockpredictor_storage::history::Bar;
use stockpredictor_storage::symbol::Symbol;

const TODAY: Date = date(2024, 1, 2);

fn recipe() -> Recipe {
    Recipe {
        window: 6,
        hidden: 3,
        max_epochs: 2,
        batch: 64,
        min_training_sessions: 150,
        evaluation_years: 2,
        ..Recipe::default()
    }
}

/// Daily prices from the start of 2020, weekends included; `seed` tells symbols apart.
fn history(seed: u64, days: usize) -> Vec<Bar> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut day = date(2020, 1, 1);
    let mut close = 100.0_f64;
    let mut bars = Vec::new();
    for _ in 0..days {
        let mut noise = || f64::from(unit(&mut random)) - 0.5;
        let open = close * (1.0 + 0.01 * noise());
        close *= 1.0 + 0.04 * noise();
        bars.push(Bar {
            date: day,
            open,
            high: open.max(close) * 1.005,
            low: open.min(close) * 0.995,
            close,
            volume: (1e6 * (1.5 + noise())) as u64,
        });
        day = day.tomorrow().unwrap();
    }
    bars
}

fn symbol(text: &str) -> Symbol {
    Symbol::parse(text).unwrap()
}

fn write_csv(folder: &Path, name: &str, bars: &[Bar]) {
    let mut text = String::from("date,open,high,low,close,volume\n");
    for bar in bars {
        writeln!(
            text,
            "{},{},{},{},{},{}",
            bar.date, bar.open, bar.high, bar.low, bar.close, bar.volume
        )
        .unwrap();
    }
    fs::write(folder.join(format!("{name}.csv")), text).unwrap();
}

fn task(data: &Path, out: PathBuf, recipe: Recipe, threads: usize) -> Task {
    Task {
        data: data.to_owned(),
        symbols: vec![symbol("AAA"), symbol("BBB")],
        out,
        name: "tiny".to_owned(),
        version: None,
        report: None,
        recipe,
        threads,
        today: TODAY,
    }
}

fn sample_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_csv(folder.path(), "AAA", &history(1, 900));
    write_csv(folder.path(), "BBB", &history(2, 900));
    folder
}

/// All files under a folder by their relative paths.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(
                    path.strip_prefix(folder).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let data = sample_folder();
    let out = tempfile::tempdir().unwrap();
    let run = |name: &str, recipe, threads| {
        let out = out.path().join(name);
        train(&task(data.path(), out.clone(), recipe, threads)).unwrap();
        content(&out)
    };
    let first = run("first", recipe(), 1);
    let expected = [
        "2022-06-18/golden.json",
        "2022-06-18/model.onnx",
        "2022-06-18/model_config.json",
    ];
    assert!(
        expected
            .iter()
            .all(|path| first.contains_key(Path::new(path))),
        "{:?}",
        first.keys()
    );
    assert_eq!(first[Path::new("current")], b"2022-06-18\n");
    assert_eq!(first.len(), 9, "{:?}", first.keys());
    assert!(first == run("second", recipe(), 2));
    let other = run(
        "other",
        Recipe {
            seed: 43,
            ..recipe()
        },
        2,
    );
    let model = Path::new("2022-06-18/model.onnx");
    assert_ne!(first[model], other[model]);
}

fn fitted(dataset: &Dataset) -> Fitted {
    fit(dataset, &dataset.samples, &recipe(), 0, &|_| ()).unwrap()
}

#[test]
fn the_exported_graph_forecasts_what_the_network_does() {
    let data = sample_folder();
    let out = tempfile::tempdir().unwrap();
    let version = train(&task(data.path(), out.path().join("tiny"), recipe(), 2)).unwrap();
    let loaded = folder::load(&version).unwrap();
    let mut session = Session::open(&loaded).unwrap();

    let dataset = Dataset::load(
        data.path(),
        &[symbol("AAA"), symbol("BBB")],
        recipe().window,
        TODAY,
    )
    .unwrap();
    let expected = fitted(&dataset)
        .forecast(&dataset, &dataset.samples)
        .unwrap();
    let windows: Vec<_> = dataset
        .samples
        .iter()
        .map(|sample| dataset.window_of(sample).unwrap())
        .collect();
    let found = session.run(&windows).unwrap();
    assert!(found.len() > 1500);
    let deviation = found
        .iter()
        .zip(&expected)
        .map(|(left, right)| left.distance(right))
        .fold(0.0, f64::max);
    assert!(deviation < 1e-5, "{deviation}");
    assert!(
        found.iter().any(|one| one.distance(&found[0]) > 1e-3),
        "all forecasts are the same"
    );
    assert!(loaded.golden.unwrap().check(&mut session).unwrap() <= 1e-5);
}

fn forecasts(histories: Vec<(Symbol, Vec<Bar>)>) -> Vec<Forecast> {
    let recipe = recipe();
    let dataset = Dataset::new(histories, recipe.window).unwrap();
    let folds = dataset
        .folds(recipe.evaluation_years, recipe.min_training_sessions)
        .unwrap();
    walk_forward::run(&dataset, &folds, &recipe, 2)
        .unwrap()
        .forecasts
}

#[test]
fn bars_after_a_day_change_no_forecast_until_that_day() {
    let split = date(2022, 1, 1);
    let original = vec![
        (symbol("AAA"), history(1, 900)),
        (symbol("BBB"), history(2, 900)),
    ];
    let mut changed = original.clone();
    for (_, bars) in &mut changed {
        for bar in bars.iter_mut().filter(|bar| bar.date >= split) {
            for price in [&mut bar.open, &mut bar.high, &mut bar.low, &mut bar.close] {
                *price *= 2.0 + f64::from(bar.date.day()) / 31.0;
            }
            bar.volume *= 7;
        }
    }
    let (before, after) = (forecasts(original), forecasts(changed));
    let quantiles = |forecasts: &[Forecast], is_early: bool| -> Vec<Quantiles> {
        let chosen = forecasts
            .iter()
            .filter(|one| (one.as_of < split) == is_early);
        chosen.map(|one| one.quantiles).collect()
    };
    // All of 2021 and the forecasts for the first day of 2022, which were made the evening before.
    assert_eq!(quantiles(&before, true).len(), 2 * (365 + 1));
    assert_eq!(quantiles(&before, true), quantiles(&after, true));
    assert_ne!(quantiles(&before, false), quantiles(&after, false));
}

#[test]
fn scaler_and_weights_of_a_year_come_from_the_years_before() {
    let split = date(2021, 1, 1);
    let build = |cut: bool| {
        let bars = |seed| {
            history(seed, 900)
                .into_iter()
                .filter(|bar| !cut || bar.date < split)
                .collect::<Vec<Bar>>()
        };
        Dataset::new(
            vec![(symbol("AAA"), bars(1)), (symbol("BBB"), bars(2))],
            recipe().window,
        )
        .unwrap()
    };
    let (whole, past) = (build(false), build(true));
    let folds = whole.folds(2, recipe().min_training_sessions).unwrap();
    // With only the past on disk, all samples but those of the embargoed last session are the fold's training.
    let last = past.last_day().unwrap();
    let training: Vec<_> = past
        .samples
        .iter()
        .filter(|sample| sample.target_date < last)
        .copied()
        .collect();
    assert_eq!(folds[0].training, training);
    let (from_whole, from_past) = (
        fit(&whole, &folds[0].training, &recipe(), 7, &|_| ()).unwrap(),
        fit(&past, &training, &recipe(), 7, &|_| ()).unwrap(),
    );
    assert_eq!(from_whole.scaler, from_past.scaler);
    assert_eq!(
        from_whole.width_factor.to_bits(),
        from_past.width_factor.to_bits()
    );
}

#[test]
fn an_existing_version_is_refused_and_left_as_it_is() {
    let data = sample_folder();
    let out = tempfile::tempdir().unwrap();
    let version = out.path().join("2022-06-18");
    fs::create_dir(&version).unwrap();
    fs::write(version.join("model.onnx"), "precious").unwrap();
    let error = train(&task(data.path(), out.path().to_owned(), recipe(), 1))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("2022-06-18 exists: versions are never changed"),
        "{error}"
    );
    assert_eq!(content(out.path()).len(), 1);
    assert_eq!(fs::read(version.join("model.onnx")).unwrap(), b"precious");
}

#[test]
fn a_symbol_without_history_is_named_with_the_files_that_would_do() {
    let data = sample_folder();
    let out = tempfile::tempdir().unwrap();
    let mut task = task(data.path(), out.path().to_owned(), recipe(), 1);
    task.symbols.push(symbol("ZZZ"));
    let error = train(&task).unwrap_err().to_string();
    assert!(
        error.starts_with("there is no history of ZZZ: put ") && error.contains("ZZZ.csv"),
        "{error}"
    );
}

#[test]
fn a_broken_line_is_named_and_nothing_is_written() {
    let data = sample_folder();
    let path = data.path().join("BBB.csv");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 30]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let error = train(&task(data.path(), out.path().to_owned(), recipe(), 1))
        .unwrap_err()
        .to_string();
    assert!(error.contains("BBB.csv line 901"), "{error}");
    assert!(content(out.path()).is_empty());
}

#[test]
fn a_name_that_leaves_the_folder_is_refused() {
    let data = sample_folder();
    let out = tempfile::tempdir().unwrap();
    for name in ["../x", ".", ""] {
        let mut task = task(data.path(), out.path().join("m"), recipe(), 1);
        task.version = Some(name.to_owned());
        assert!(
            train(&task)
                .unwrap_err()
                .to_string()
                .contains("is not a model name or version")
        );
    }
}
