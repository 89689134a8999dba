use super::*;
use crate::metrics::Metrics;
use crate::storage_backup::fixture;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::json;
use std::time::{Duration, Instant};
use stockpredictor_api::{StockPredictor, StorageBackup};

/// A cache of backups and how it is filled.
struct Fake {
    writer: Writer<Guarded<StorageBackup>>,
    filled: Filled,
}

impl Fake {
    fn new(metrics: &Metrics) -> Self {
        let (writer, filled) = (Writer::default(), Filled::default());
        metrics.watch(writer.as_reader(), filled.clone());
        Self { writer, filled }
    }

    fn list(&mut self, objects: Vec<Guarded<StorageBackup>>) {
        self.begin(objects);
        self.end();
    }

    fn begin(&mut self, objects: Vec<Guarded<StorageBackup>>) {
        self.writer.apply_watcher_event(&Event::Init);
        for object in objects {
            self.writer.apply_watcher_event(&Event::InitApply(object));
        }
    }

    fn end(&mut self) {
        self.writer.apply_watcher_event(&Event::InitDone);
        self.filled.set();
    }
}

fn backup(namespace: &str, name: &str) -> Guarded<StorageBackup> {
    let mut object = fixture::backup(&json!({}));
    object.metadata.namespace = Some(namespace.into());
    object.metadata.name = Some(name.into());
    kube::core::DeserializeGuard(Ok(object))
}

/// The lines of the metrics of backups, and their numbers by `Ready`.
fn found(metrics: &Metrics) -> (usize, Option<String>) {
    let text = metrics.encode().unwrap();
    let lines = text.lines().filter(|line| line.contains("namespace=\""));
    let ready = "objects{kind=\"StorageBackup\",condition=\"Ready\",status=\"Unknown\"} ";
    let count = text.lines().find_map(|line| line.split_once(ready));
    (lines.count(), count.map(|(_, count)| count.to_owned()))
}

#[test]
fn an_object_has_series_from_the_first_whole_list_to_its_deletion() {
    let metrics = Metrics::new();
    let mut cache = Fake::new(&metrics);
    assert_eq!(found(&metrics), (0, None));
    cache.begin(vec![backup("trading", "daily")]);
    assert_eq!(found(&metrics), (0, None), "the list is not complete");
    cache.end();
    assert_eq!(found(&metrics), (7, Some("1".into())));
    let gone = Event::Delete(backup("trading", "daily"));
    cache.writer.apply_watcher_event(&gone);
    assert_eq!(found(&metrics), (0, Some("0".into())));
}

#[test]
fn objects_are_counted_when_each_namespace_is_known() {
    let metrics = Metrics::new();
    let (mut one, mut other) = (Fake::new(&metrics), Fake::new(&metrics));
    one.list(vec![backup("a", "daily")]);
    assert_eq!(found(&metrics), (7, None));
    other.list(vec![backup("b", "daily"), backup("b", "weekly")]);
    assert_eq!(found(&metrics), (21, Some("3".into())));
}

#[test]
fn one_that_can_not_be_read_is_counted_and_hides_no_other() {
    let metrics = Metrics::new();
    let broken = json!({"metadata": {"namespace": "a", "name": "broken"}, "spec": {"schedule": 7}});
    let broken: Guarded<StorageBackup> = serde_json::from_value(broken).unwrap();
    assert!(broken.0.is_err());
    Fake::new(&metrics).list(vec![broken, backup("a", "daily")]);
    assert_eq!(found(&metrics), (7, Some("2".into())));
}

#[test]
fn conditions_are_counted_by_their_status() {
    let states = ["True", "False", "False", "Odd"].map(|state| {
        let mut object = crate::stock_predictor::fixture::predictor(&json!({}));
        object.metadata.name = Some(format!("p{}", state.len()));
        let condition = json!({
            "type": "Ready", "status": state, "reason": "x", "message": "", "lastTransitionTime": "2025-08-01T12:00:00Z",
        });
        let status = json!({"conditions": [condition]});
        object.status = Some(serde_json::from_value(status).unwrap());
        Arc::new(kube::core::DeserializeGuard(Ok(object)))
    });
    let mut counts = Counts::new();
    Vec::from(states).count(&mut counts);
    let of = |condition| {
        ["True", "False", "Unknown"]
            .map(|state| counts[&[<StockPredictor as Measured>::KIND, condition, state]])
    };
    assert_eq!(of("Ready"), [1, 2, 1]);
    assert_eq!(of("DataReady"), [0, 0, 4]);
}

/// Not a benchmark: the limits are far above what it takes, and far below a scrape's ten seconds.
#[test]
fn five_hundred_backups_are_scraped_soon_and_in_proportion() {
    let metrics = Metrics::new();
    let mut cache = Fake::new(&metrics);
    let size = |count: usize, cache: &mut Fake| {
        cache.list(
            (0..count)
                .map(|number| backup("trading", &format!("b{number:03}")))
                .collect(),
        );
        let began = Instant::now();
        let text = metrics.encode().unwrap();
        assert!(began.elapsed() < Duration::from_secs(5));
        text.lines()
            .filter(|line| line.contains("namespace=\""))
            .count()
    };
    assert_eq!(size(50, &mut cache) * 10, size(500, &mut cache));
}
