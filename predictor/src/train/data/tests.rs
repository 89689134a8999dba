use super::*;
use jiff::civil::date;

/// Bars of every day from the first of 2018 on, not only of sessions; the splits don't care.
fn history(days: usize) -> Vec<Bar> {
    let mut day = date(2018, 1, 1);
    let mut bars = Vec::new();
    for index in 0..days {
        let close = 50.0 + (index * 7919 % 101) as f64 / 10.0;
        bars.push(Bar {
            date: day,
            open: close,
            high: close + 1.0,
            low: close - 1.0,
            close,
            volume: 1000,
        });
        day = day.tomorrow().unwrap();
    }
    bars
}

fn dataset() -> Dataset {
    let symbol = |text| Symbol::parse(text).unwrap();
    // The second symbol misses some days, as one that was listed later or halted.
    let second = history(1400)
        .into_iter()
        .enumerate()
        .filter(|(index, _)| index % 17 != 0 && *index > 300);
    let histories = vec![
        (symbol("AAA"), history(1400)),
        (symbol("BBB"), second.map(|(_, bar)| bar).collect()),
    ];
    Dataset::new(histories, 10).unwrap()
}

#[test]
fn no_training_target_reaches_the_session_before_the_first_forecast_one() {
    let folds = dataset().folds(3, 100).unwrap();
    assert_eq!(
        folds.iter().map(|fold| fold.year).collect::<Vec<_>>(),
        [2019, 2020, 2021]
    );
    for fold in folds {
        let last_training = fold
            .training
            .iter()
            .map(|sample| sample.target_date)
            .max()
            .unwrap();
        let first_test = fold
            .test
            .iter()
            .map(|sample| sample.target_date)
            .min()
            .unwrap();
        let first_as_of = fold.test.iter().map(|sample| sample.as_of).min().unwrap();
        assert!(first_test.year() == fold.year && first_as_of < first_test);
        // One session, the first forecast's own, lies between.
        assert!(last_training < first_as_of, "{last_training} {first_as_of}");
        assert_eq!(
            last_training,
            date(fold.year, 1, 1)
                .yesterday()
                .unwrap()
                .yesterday()
                .unwrap()
        );
    }
}

#[test]
fn both_symbols_are_split_at_the_same_dates() {
    for fold in dataset().folds(3, 100).unwrap() {
        for series in [0, 1] {
            let own = |samples: &[Sample]| {
                samples
                    .iter()
                    .filter(|sample| sample.series == series)
                    .count()
            };
            assert!(own(&fold.training) > 0 && own(&fold.test) > 0);
        }
        let bound = fold.test.iter().map(|sample| sample.as_of).min().unwrap();
        assert!(
            fold.training
                .iter()
                .all(|sample| sample.target_date < bound)
        );
    }
}

#[test]
fn years_expand_and_every_sample_of_a_year_is_forecast_once() {
    let dataset = dataset();
    let folds = dataset.folds(3, 100).unwrap();
    assert!(
        folds
            .windows(2)
            .all(|pair| pair[0].training.len() < pair[1].training.len())
    );
    for fold in &folds {
        let expected = dataset
            .samples
            .iter()
            .filter(|sample| sample.target_date.year() == fold.year)
            .count();
        assert_eq!(fold.test.len(), expected);
    }
}

#[test]
fn the_tail_lies_after_the_fit_with_a_session_between() {
    let folds = dataset().folds(1, 100).unwrap();
    let cut = cut_tail(&folds[0].training, 0.2);
    let fit_end = cut
        .fit
        .iter()
        .map(|sample| sample.target_date)
        .max()
        .unwrap();
    let tail_start = cut
        .tail
        .iter()
        .map(|sample| sample.target_date)
        .min()
        .unwrap();
    assert_eq!(fit_end.tomorrow().unwrap().tomorrow().unwrap(), tail_start);
    let days = |samples: &[Sample]| {
        let days: BTreeSet<Date> = samples.iter().map(|sample| sample.target_date).collect();
        days.len() as f64
    };
    let share = days(&cut.tail) / days(&folds[0].training);
    assert!((share - 0.2).abs() < 0.001, "{share}");
}

#[test]
fn a_sample_is_the_return_after_its_window() {
    let dataset = dataset();
    let sample = dataset.samples[0];
    let bars = &dataset.series[0].bars;
    assert_eq!(sample.as_of, bars[29].date);
    assert_eq!(sample.target_date, bars[30].date);
    assert!((sample.target - (bars[30].close / bars[29].close).ln()).abs() < 1e-12);
    assert_eq!(
        dataset.window_of(&sample),
        feature::window(&bars[..30], 10).ok()
    );
}

#[test]
fn too_short_a_history_is_refused_by_its_symbol() {
    let symbol = Symbol::parse("AAA").unwrap();
    let error = Dataset::new(vec![(symbol.clone(), history(30))], 10)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "AAA has 30 sessions and training needs 31: put older prices there too, or leave the symbol out"
    );
    let error = Dataset::new(vec![(symbol, history(400))], 10)
        .unwrap()
        .folds(5, 500)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("before 2019 and the evaluation needs 530"),
        "{error}"
    );
}

#[test]
fn a_symbol_given_twice_is_refused() {
    let symbol = Symbol::parse("AAA").unwrap();
    let error = Dataset::new(
        vec![(symbol.clone(), history(400)), (symbol, history(400))],
        10,
    )
    .unwrap_err();
    assert!(matches!(error, DataError::RepeatedSymbol { .. }), "{error}");
}
