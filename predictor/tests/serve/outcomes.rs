//! Predictions beside what really happened, in the program as it ships.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use serde_json::Value;
use stockpredictor_predictor::calendar;

use super::common::{Service, Volume, eventually, predictor};
use super::exposition::Exposition;

/// A history that ends shortly before now, and the session after its end.
pub struct Recent {
    volume: Volume,
    pub as_of: Date,
    pub target: Date,
}

/// The last close of a history.
const CLOSE: f64 = 100.0;
/// The close of the session after it.
const NEXT: f64 = 103.0;

impl Recent {
    /// NVDA's history of some hundred sessions; the one after it is over, but not in it.
    pub fn new() -> Self {
        let volume = Volume::new();
        let today = calendar::new_york_day(Timestamp::now());
        let first = today.checked_sub(500.days()).unwrap();
        let mut sessions: Vec<Date> = first
            .series(1.day())
            .take_while(|day| *day < today)
            .filter(|day| calendar::is_session(*day))
            .collect();
        let target = sessions.pop().unwrap();
        let as_of = *sessions.last().unwrap();
        let mut text = "date,open,high,low,close,volume\n".to_owned();
        for (index, day) in sessions
            .iter()
            .rev()
            .enumerate()
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            // It ends with the close that is known.
            let close = CLOSE + f64::from(u32::try_from(index % 7).unwrap());
            writeln!(text, "{day},{close},{close},{close},{close},1000").unwrap();
        }
        fs::write(volume.history("NVDA"), text).unwrap();
        Self {
            volume,
            as_of,
            target,
        }
    }

    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The price becomes known.
    pub fn happen(&self) {
        let path = self.volume.history("NVDA");
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "{},{NEXT},{NEXT},{NEXT},{NEXT},1000", self.target).unwrap();
    }

    /// Predicts and waits until the prediction is stored.
    pub fn predict(&self, service: &Service) -> Value {
        let found = service.predict("NVDA");
        assert_eq!(found["target_date"], self.target.to_string());
        let stored = format!("stock_data/predictions/daily/NVDA_{}.json", self.target);
        eventually("the prediction is stored", || {
            self.volume.path(&stored).exists()
        });
        found
    }

    pub fn outcomes(&self) -> Vec<Value> {
        let path = self
            .volume
            .path("stock_data/predictions/analysis/NVDA.jsonl");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn count(metrics: &Exposition) -> Option<f64> {
    metrics.value("stockpredictor_prediction_outcomes", "symbol=\"NVDA\"")
}

fn error(metrics: &Exposition, forecast: &str) -> f64 {
    let labels = format!("symbol=\"NVDA\",forecast=\"{forecast}\"");
    metrics
        .value("stockpredictor_prediction_error_ratio", &labels)
        .unwrap()
}

#[test]
fn a_prediction_is_compared_once_with_what_happened() {
    let recent = Recent::new();
    let service = Service::start(recent.volume(), &[]);
    let predicted = recent.predict(&service);
    eventually("the first look is over", || {
        count(&service.metrics()) == Some(0.0)
    });
    let metrics = service.metrics();
    assert!(!metrics.text.contains("error_ratio{"), "{}", metrics.text);
    assert!(recent.outcomes().is_empty());
    recent.happen();
    eventually("the outcome is known", || {
        count(&service.metrics()) == Some(1.0)
    });
    let metrics = service.metrics();
    let price = predicted["predicted_price"].as_f64().unwrap();
    assert!((error(&metrics, "model") - (price - NEXT).abs() / CLOSE).abs() < 1e-9);
    assert!((error(&metrics, "random_walk") - (NEXT - CLOSE) / CLOSE).abs() < 1e-9);
    let outcomes = recent.outcomes();
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    for member in [
        "symbol",
        "as_of",
        "target_date",
        "predicted_price",
        "interval",
        "model",
    ] {
        assert_eq!(outcomes[0][member], predicted[member], "{member}");
    }
    assert_eq!(outcomes[0]["as_of"], recent.as_of.to_string());
    assert_eq!(outcomes[0]["actual"].as_f64(), Some(NEXT));
    assert_eq!(outcomes[0]["random_walk"].as_f64(), Some(CLOSE));
    // The next process finds it, whatever a crash left behind it.
    service.kill();
    let path = recent
        .volume()
        .path("stock_data/predictions/analysis/NVDA.jsonl");
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"{\"symbol\":\"NVDA\",\"target_date\":\"20")
        .unwrap();
    let service = Service::start(recent.volume(), &[]);
    eventually("the outcome is found", || {
        count(&service.metrics()) == Some(1.0)
    });
    service.stop();
}

#[test]
fn cleanup_takes_old_predictions_with_an_outcome_and_leaves_the_others_and_the_outcomes() {
    let recent = Recent::new();
    let service = Service::start(recent.volume(), &[]);
    recent.predict(&service);
    service.predict("TSLA");
    recent.happen();
    eventually("the outcome is known", || {
        count(&service.metrics()) == Some(1.0)
    });
    service.stop();
    let daily = recent.volume().path("stock_data/predictions/daily");
    let stored = || {
        let entries = fs::read_dir(&daily).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let old = SystemTime::now() - Duration::from_hours(24 * 8);
    for name in stored() {
        let file = fs::File::options().write(true).open(daily.join(name));
        file.unwrap().set_modified(old).unwrap();
    }
    assert_eq!(stored().len(), 2);
    let done = predictor()
        .args(["storage", "cleanup", "--root"])
        .arg(recent.volume().root())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let left = stored();
    assert!(
        left.len() == 1 && left.first().unwrap().starts_with("TSLA_"),
        "{left:?}"
    );
    assert_eq!(recent.outcomes().len(), 1);
}

#[test]
fn an_outcome_of_a_killed_process_is_written_by_the_next_one() {
    let recent = Recent::new();
    let service = Service::start(recent.volume(), &[]);
    recent.predict(&service);
    service.kill();
    recent.happen();
    let services = [(); 2].map(|()| Service::start(recent.volume(), &[]));
    // Of two replicas one writes; within a minute the other one knows it, too.
    eventually("one of them knows it", || {
        services
            .iter()
            .any(|service| count(&service.metrics()) == Some(1.0))
    });
    assert_eq!(recent.outcomes().len(), 1);
}
