//! Metrics for Prometheus: those of contracts/metrics.json, and no others. No label takes unbounded values.
//!
//! In come events, and numbers that others keep; out comes text. Routes are those of the router, symbols those of
//! the settings, directories those of the guide, and the model is one at a time.

mod label;
mod moment;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};
use stockpredictor_storage::monitor::DirectoryUse;
use stockpredictor_storage::space::Space;
use stockpredictor_storage::symbol::Symbol;

use self::moment::Moment;
use super::data::{self, SymbolData};
use super::outcome::Accuracy;

/// How a cleanup can go.
const CLEANUP_RESULTS: [&str; 4] = ["done", "incomplete", "skipped", "failed"];
/// How a request can be answered.
const STATUS_CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The served symbols.
    pub symbols: Vec<Symbol>,
    /// Most predictions in the cache.
    pub cache_entries_limit: u64,
    /// Time between two cleanups.
    pub cleanup_interval: Duration,
}

/// Numbers that are looked up when someone asks. All of them lie in memory.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Cache hits since the start.
    pub hits: u64,
    /// Cache misses since the start.
    pub misses: u64,
    /// Cache evictions since the start.
    pub evictions: u64,
    /// Entries in the cache.
    pub entries: u64,
    /// The volume's size and use.
    pub space: Space,
    /// The volume's id; `None` where it can't be read.
    pub volume_id: Option<String>,
    /// Whether the service is degraded.
    pub degraded: bool,
    /// What lies in the guide's directories; empty before it was counted.
    pub directories: Vec<DirectoryUse>,
    /// How old the histories are.
    pub data: Vec<SymbolData>,
    /// How right the forecasts were.
    pub accuracy: Vec<Accuracy>,
}

type Number = Gauge<u64, AtomicU64>;
type Real = Gauge<f64, AtomicU64>;

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    /// Held while numbers are set and written, so that no scrape finds a family that is being filled.
    encoding: Mutex<()>,
    requests: Family<label::Request, Counter>,
    durations: Family<label::Route, Histogram>,
    predictions: Family<label::Symbol, Counter>,
    inference: Histogram,
    write_errors: Counter,
    cleanup_runs: Family<label::Outcome, Counter>,
    cleanup_failures: Counter,
    cleanup_freed: Counter,
    cleanup_success: Moment,
    model: Family<label::Model, Gauge>,
    hits: Counter,
    misses: Counter,
    evictions: Counter,
    entries: Number,
    capacity: Number,
    used: Number,
    free: Number,
    inodes: Number,
    inodes_free: Number,
    volume: Family<label::Volume, Gauge>,
    degraded: Gauge,
    sizes: Family<label::Directory, Number>,
    files: Family<label::Directory, Number>,
    data_age: Family<label::Symbol, Gauge>,
    data_as_of: Family<label::Symbol, Gauge>,
    data_sample: Family<label::Symbol, Gauge>,
    outcomes: Family<label::Symbol, Number>,
    errors: Family<label::Forecast, Real>,
}

/// Puts metrics into a registry.
struct Adder<'a>(&'a mut Registry);

impl Adder<'_> {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn add_in<M: Metric + Clone + Default>(&mut self, unit: Unit, name: &str, help: &str) -> M {
        self.put_in(unit, name, help, M::default())
    }

    fn put_in<M: Metric + Clone>(&mut self, unit: Unit, name: &str, help: &str, metric: M) -> M {
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }
}

impl Metrics {
    /// Counters at zero.
    // A metric a line, as in the contract: a list to be read, not code.
    #[rustfmt::skip]
    pub fn new(fixed: &Fixed) -> Self {
        let mut registry = Registry::default();
        let mut guide = Adder(&mut registry);
        let sizes = guide.add_in(Unit::Bytes, "persistent_storage_size", "Bytes of the files below a directory of the volume");
        let files = guide.add("persistent_storage_files_total", "Files below a directory of the volume");
        let mut own = Adder(registry.sub_registry_with_prefix("stockpredictor"));
        let build: Family<label::Release, Gauge> = own.add("build_info", "The predictor's release");
        build.get_or_create(&label::Release { version: env!("CARGO_PKG_VERSION") }).set(1);
        let entries_limit: Number = own.add("cache_entries_limit", "Most predictions that the cache keeps");
        entries_limit.set(fixed.cache_entries_limit);
        let interval: Real = own.add_in(Unit::Seconds, "cleanup_interval", "Time between two cleanups of the volume; 0 where this process does none");
        interval.set(fixed.cleanup_interval.as_secs_f64());
        let age_limit: Number = own.add("data_age_limit_sessions", "Sessions that a symbol's history may lack before it is stale");
        age_limit.set(data::AGE_LIMIT.into());
        let durations = Family::<_, Histogram>::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 2.0, 15)));
        let inference = Histogram::new(exponential_buckets(0.00005, 2.0, 14));
        let metrics = Self {
            requests: own.add("http_requests", "Requests by route and status class"),
            durations: own.put_in(Unit::Seconds, "http_request_duration", "Time from request to answer", durations),
            predictions: own.add("predictions", "Predictions that were answered, by symbol"),
            inference: own.put_in(Unit::Seconds, "inference_duration", "Time that the model computed, waiting included", inference),
            write_errors: own.add("write_errors", "Files that could not be written"),
            cleanup_runs: own.add("cleanup_runs", "Cleanups of the volume, by result: done, incomplete, skipped or failed"),
            cleanup_failures: own.add("cleanup_failures", "Cleanups of the volume that failed"),
            cleanup_freed: own.add_in(Unit::Bytes, "cleanup_freed", "Bytes of files that cleanups removed"),
            cleanup_success: own.add_in(Unit::Seconds, "cleanup_last_success_timestamp", "When the last complete cleanup ended; absent before the first"),
            model: own.add("model_info", "The model in use"),
            hits: own.add("cache_hits", "Predictions that were not computed"),
            misses: own.add("cache_misses", "Predictions that were computed"),
            evictions: own.add("cache_evictions", "Entries that made room for others"),
            entries: own.add("cache_entries", "Predictions in the cache"),
            capacity: own.add_in(Unit::Bytes, "volume_capacity", "Size of the volume"),
            used: own.add_in(Unit::Bytes, "volume_used", "Bytes of the volume that are in use"),
            free: own.add_in(Unit::Bytes, "volume_free", "Bytes of the volume that can be written"),
            inodes: own.add("volume_inodes", "Inodes of the volume; 0 where the file system has no fixed number"),
            inodes_free: own.add("volume_inodes_free", "Inodes of the volume that are free"),
            volume: own.add("volume_info", "The volume; replicas and predictors that share it have the same id"),
            degraded: own.add("degraded", "1 while predictions are served, but not stored"),
            data_age: own.add("data_age_sessions", "Sessions that ended since the last one of a symbol's history"),
            data_as_of: own.add_in(Unit::Seconds, "data_as_of_timestamp", "The last session of a symbol's history, at midnight UTC"),
            data_sample: own.add("data_sample", "1 while a symbol's history is the sample that came with the program"),
            outcomes: own.add("prediction_outcomes", "Forecasts of the last 30 days that could be compared with the real price"),
            errors: own.add(
                "prediction_error_ratio",
                "Mean absolute error of the forecasts of the last 30 days by their target, as a share of the price before: \
                 of the model, and of the random walk on the same days",
            ),
            sizes,
            files,
            encoding: Mutex::default(),
            registry,
        };
        // A counter that appears with its first event hides this event from `increase()`.
        for result in CLEANUP_RESULTS {
            drop(metrics.cleanup_runs.get_or_create(&label::Outcome { result }));
        }
        for symbol in &fixed.symbols {
            drop(metrics.predictions.get_or_create(&symbol_label(symbol.as_str())));
        }
        metrics
    }

    /// A request was answered.
    pub fn request(&self, route: &str, status: u16, took: Duration) {
        let labels = |status: String| label::Request {
            route: route.to_owned(),
            status,
        };
        // A route that has answered well shows its failures from the first one on.
        for class in STATUS_CLASSES {
            drop(self.requests.get_or_create(&labels(class.to_owned())));
        }
        let counted = labels(format!("{}xx", status / 100));
        self.requests.get_or_create(&counted).inc();
        let route = label::Route {
            route: route.to_owned(),
        };
        let durations = self.durations.get_or_create(&route);
        durations.observe(took.as_secs_f64());
    }

    /// A prediction was answered; `symbol` is one of the settings.
    pub fn prediction(&self, symbol: &str) {
        self.predictions.get_or_create(&symbol_label(symbol)).inc();
    }

    /// The model computed.
    pub fn inference(&self, took: Duration) {
        self.inference.observe(took.as_secs_f64());
    }

    /// A file could not be written.
    pub fn write_error(&self) {
        self.write_errors.inc();
    }

    /// The volume was cleaned up, or not: `done`, `incomplete`, `skipped` or `failed`.
    pub fn cleanup(&self, result: &'static str, freed: u64, now: Timestamp) {
        let labels = label::Outcome { result };
        self.cleanup_runs.get_or_create(&labels).inc();
        self.cleanup_freed.inc_by(freed);
        match result {
            "done" => self.cleanup_success.set(now),
            "failed" => {
                self.cleanup_failures.inc();
            }
            _ => {}
        }
    }

    /// Another model is in use.
    pub fn model(&self, name: &str, version: &str, sha256: &str) {
        let _encoding = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        self.model.clear();
        let labels = label::Model {
            name: name.to_owned(),
            version: version.to_owned(),
            sha256: sha256.to_owned(),
        };
        self.model.get_or_create(&labels).set(1);
    }

    /// Everything as text.
    pub fn encode(&self, now: &Snapshot) -> Result<String, std::fmt::Error> {
        let _encoding = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        self.set_process(now);
        self.set_volume(now);
        self.set_data(now);
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry)?;
        Ok(encoded)
    }

    fn set_process(&self, now: &Snapshot) {
        for (counter, total) in [
            (&self.hits, now.hits),
            (&self.misses, now.misses),
            (&self.evictions, now.evictions),
        ] {
            counter.inner().store(total, Ordering::Relaxed);
        }
        self.entries.set(now.entries);
        self.degraded.set(i64::from(now.degraded));
    }

    fn set_volume(&self, now: &Snapshot) {
        self.capacity.set(now.space.capacity);
        self.used.set(now.space.used);
        self.free.set(now.space.free);
        self.inodes.set(now.space.inodes);
        self.inodes_free.set(now.space.inodes_free);
        self.volume.clear();
        if let Some(volume_id) = now.volume_id.clone() {
            let labels = label::Volume { volume_id };
            self.volume.get_or_create(&labels).set(1);
        }
        for DirectoryUse {
            name, bytes, files, ..
        } in &now.directories
        {
            let labels = label::Directory { directory: name };
            self.sizes.get_or_create(&labels).set(*bytes);
            self.files.get_or_create(&labels).set(*files);
        }
    }

    fn set_data(&self, now: &Snapshot) {
        for family in [&self.data_age, &self.data_as_of, &self.data_sample] {
            // A history that can't be read any more has no age.
            family.clear();
        }
        for found in &now.data {
            let labels = symbol_label(found.symbol.as_str());
            self.data_age.get_or_create(&labels).set(found.age.into());
            let sample = i64::from(found.is_sample);
            self.data_sample.get_or_create(&labels).set(sample);
            if let Ok(midnight) = TimeZone::UTC.to_timestamp(found.as_of.at(0, 0, 0, 0)) {
                let second = midnight.as_second();
                self.data_as_of.get_or_create(&labels).set(second);
            }
        }
        self.outcomes.clear();
        self.errors.clear();
        for found in &now.accuracy {
            let labels = symbol_label(found.symbol.as_str());
            self.outcomes.get_or_create(&labels).set(found.outcomes);
            let Some(errors) = found.errors else { continue };
            for (forecast, error) in [("model", errors.model), ("random_walk", errors.random_walk)]
            {
                let symbol = found.symbol.to_string();
                let labels = label::Forecast { symbol, forecast };
                self.errors.get_or_create(&labels).set(error);
            }
        }
    }
}

fn symbol_label(symbol: &str) -> label::Symbol {
    label::Symbol {
        symbol: symbol.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(&Fixed {
            symbols: vec![Symbol::parse("NVDA").unwrap()],
            cache_entries_limit: 1000,
            cleanup_interval: Duration::from_hours(6),
        })
    }

    #[test]
    fn a_switched_model_leaves_one_line() {
        let metrics = metrics();
        metrics.model("m", "1", "a");
        metrics.model("m", "2", "b");
        let text = metrics.encode(&Snapshot::default()).unwrap();
        let lines = text.matches("stockpredictor_model_info{").count();
        assert_eq!(lines, 1, "{text}");
    }

    #[test]
    fn the_first_failure_of_a_route_is_an_increase() {
        let metrics = metrics();
        metrics.request("/api/v1/predict/{symbol}", 200, Duration::from_millis(3));
        let text = metrics.encode(&Snapshot::default()).unwrap();
        for status in [
            "status=\"4xx\"} 0",
            "status=\"5xx\"} 0",
            "status=\"2xx\"} 1",
        ] {
            assert!(text.contains(status), "{status}: {text}");
        }
    }

    #[test]
    fn events_and_numbers_become_lines() {
        let metrics = metrics();
        let text = metrics.encode(&Snapshot::default()).unwrap();
        assert!(!text.contains("last_success"), "{text}");
        metrics.request("/api/v1/predict/{symbol}", 503, Duration::from_millis(3));
        metrics.cleanup("done", 7, Timestamp::from_second(1_700_000_000).unwrap());
        metrics.cleanup("failed", 0, Timestamp::UNIX_EPOCH);
        let snapshot = Snapshot {
            hits: 7,
            ..Snapshot::default()
        };
        let text = metrics.encode(&snapshot).unwrap();
        for line in [
            "stockpredictor_cache_hits_total 7",
            "stockpredictor_cache_entries_limit 1000",
            "stockpredictor_cleanup_interval_seconds 21600.0",
            "stockpredictor_cleanup_runs_total{result=\"done\"} 1",
            "stockpredictor_cleanup_runs_total{result=\"skipped\"} 0",
            "stockpredictor_cleanup_failures_total 1",
            "stockpredictor_cleanup_freed_bytes_total 7",
            "stockpredictor_cleanup_last_success_timestamp_seconds 1700000000",
            "stockpredictor_predictions_total{symbol=\"NVDA\"} 0",
            "stockpredictor_volume_capacity_bytes 0",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}: {text}");
        }
        assert!(text.contains("status=\"5xx\"} 1"), "{text}");
    }

    #[test]
    fn a_history_that_can_not_be_read_any_more_has_no_age() {
        let metrics = metrics();
        let mut snapshot = Snapshot {
            data: vec![SymbolData {
                symbol: Symbol::parse("NVDA").unwrap(),
                as_of: jiff::civil::date(2024, 1, 2),
                age: 4,
                is_sample: true,
            }],
            ..Snapshot::default()
        };
        let text = metrics.encode(&snapshot).unwrap();
        for line in [
            "stockpredictor_data_age_sessions{symbol=\"NVDA\"} 4",
            "stockpredictor_data_as_of_timestamp_seconds{symbol=\"NVDA\"} 1704153600",
            "stockpredictor_data_sample{symbol=\"NVDA\"} 1",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}: {text}");
        }
        snapshot.data.clear();
        let text = metrics.encode(&snapshot).unwrap();
        assert!(!text.contains("data_age_sessions"), "{text}");
    }
}
