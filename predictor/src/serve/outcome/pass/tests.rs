use super::super::tests::{bar, forecast};
use super::*;
use jiff::civil::date;

struct Bench {
    folder: tempfile::TempDir,
    pass: Pass,
}

impl Bench {
    /// Predictions of NVDA on the second to the fifth, prices until the fourth, today the fifth.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("predictions/daily")).unwrap();
        let bars = (1..=4).map(|day| bar(date(2024, 1, day), 100.0 + f64::from(day)));
        let nvda = Symbol::parse("NVDA").unwrap();
        let bench = Self {
            pass: Pass {
                lock: folder.path().join("lock"),
                predictions: folder.path().join("predictions"),
                histories: vec![(nvda, Some(Arc::new(bars.collect())))],
                today: date(2024, 1, 5),
            },
            folder,
        };
        for day in 2..=5 {
            bench.predict(day);
        }
        bench
    }

    fn predict(&self, day: i8) {
        let target = date(2024, 1, day);
        let forecast = forecast(target.yesterday().unwrap(), target, 100.0, 101.0);
        let text = serde_json::to_vec(&forecast).unwrap();
        fs::write(self.daily(&format!("NVDA_{target}.json")), text).unwrap();
    }

    fn daily(&self, name: &str) -> PathBuf {
        self.folder.path().join("predictions/daily").join(name)
    }

    fn analysis(&self) -> PathBuf {
        self.folder.path().join("predictions/analysis/NVDA.jsonl")
    }

    fn targets(&self) -> Vec<String> {
        let text = fs::read_to_string(self.analysis()).unwrap_or_default();
        let lines = text.lines().map(|line| {
            let outcome: Outcome = serde_json::from_str(line).unwrap();
            outcome.forecast.target_date.to_string()
        });
        lines.collect()
    }

    fn recent(report: &Report) -> usize {
        report.recent.values().map(BTreeMap::len).sum()
    }
}

#[test]
fn a_prediction_becomes_one_outcome_once_its_day_is_over() {
    let mut bench = Bench::new();
    let report = bench.pass.run();
    assert_eq!(bench.targets(), ["2024-01-02", "2024-01-03", "2024-01-04"]);
    assert_eq!(
        (report.written, Bench::recent(&report)),
        (3, 3),
        "{report:?}"
    );
    let report = bench.pass.run();
    assert_eq!(
        (report.written, Bench::recent(&report)),
        (0, 3),
        "{report:?}"
    );
    // A bar of today may be unfinished.
    let mut bars = bench.pass.histories[0].1.as_deref().unwrap().clone();
    bars.push(bar(date(2024, 1, 5), 105.0));
    bench.pass.histories[0].1 = Some(Arc::new(bars));
    assert_eq!(bench.pass.run().written, 0);
    bench.pass.today = date(2024, 1, 6);
    assert_eq!(bench.pass.run().written, 1);
    assert_eq!(bench.targets().len(), 4);
    let text = fs::read_to_string(bench.analysis()).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (first["actual"].as_f64(), first["random_walk"].as_f64()),
        (Some(102.0), Some(101.0))
    );
    assert_eq!(first["predicted_price"].as_f64(), Some(101.0));
    assert!(first["interval"]["low"].is_number() && first["model"]["version"].is_string());
}

#[test]
fn of_two_replicas_one_writes_and_both_know_the_errors() {
    let bench = Bench::new();
    bench.pass.run();
    bench.predict(2);
    fs::remove_file(bench.analysis()).unwrap();
    let other = VolumeLock::try_take(&bench.pass.lock, LockMode::Exclusive).unwrap();
    let report = bench.pass.run();
    assert!(report.another_at_work && report.written == 0, "{report:?}");
    assert!(!bench.analysis().exists());
    drop(other);
    bench.pass.run();
    let other = VolumeLock::try_take(&bench.pass.lock, LockMode::Exclusive).unwrap();
    let report = bench.pass.run();
    assert!(
        report.another_at_work && Bench::recent(&report) == 3,
        "{report:?}"
    );
    drop(other);
}

#[test]
fn what_is_no_prediction_of_its_name_is_told_and_left_alone() {
    let bench = Bench::new();
    fs::write(bench.daily("NVDA_2024-01-02.json"), "{").unwrap();
    fs::copy(
        bench.daily("NVDA_2024-01-04.json"),
        bench.daily("NVDA_2024-01-03.json"),
    )
    .unwrap();
    for name in [
        "notes.txt",
        "MSFT_2024-01-02.json",
        "nvda_2024-01-02.json",
        "NVDA_20240102.json",
    ] {
        fs::write(bench.daily(name), "{").unwrap();
    }
    let report = bench.pass.run();
    assert_eq!((report.unreadable, report.written), (2, 1), "{report:?}");
    assert!(report.example.unwrap().contains("NVDA_2024-01-0"));
    assert_eq!(bench.targets(), ["2024-01-04"]);
}

#[test]
fn a_refused_write_is_told_and_done_the_next_time() {
    let bench = Bench::new();
    // A directory is in the file's place.
    fs::create_dir_all(bench.analysis()).unwrap();
    let report = bench.pass.run();
    assert!(
        report.written == 0 && !report.problems.is_empty(),
        "{report:?}"
    );
    fs::remove_dir(bench.analysis()).unwrap();
    // A file is in the folder's place.
    let folder = bench.analysis().parent().unwrap().to_owned();
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let report = bench.pass.run();
    assert!(report.written == 0, "{report:?}");
    fs::remove_file(&folder).unwrap();
    assert_eq!(bench.pass.run().written, 3);
}

#[test]
fn a_symbol_without_a_usable_history_keeps_its_errors() {
    let mut bench = Bench::new();
    bench.pass.run();
    bench.pass.histories[0].1 = None;
    let report = bench.pass.run();
    assert_eq!(
        (report.written, Bench::recent(&report)),
        (0, 3),
        "{report:?}"
    );
}

#[test]
fn many_outcomes_are_written_in_batches() {
    let mut bench = Bench::new();
    let first = date(2020, 1, 1);
    let days: Vec<Date> = first
        .series(jiff::ToSpan::days(1))
        .take(BATCH + 10)
        .collect();
    let bars = days.iter().map(|day| bar(*day, 100.0)).collect();
    bench.pass.histories[0].1 = Some(Arc::new(bars));
    for pair in days.windows(2) {
        let forecast = forecast(pair[0], pair[1], 100.0, 101.0);
        let name = format!("NVDA_{}.json", pair[1]);
        fs::write(bench.daily(&name), serde_json::to_vec(&forecast).unwrap()).unwrap();
    }
    let report = bench.pass.run();
    assert_eq!(report.written, (BATCH + 9) as u64);
    assert_eq!(report.writes.len(), 2);
    assert_eq!(bench.pass.run().written, 0);
}
