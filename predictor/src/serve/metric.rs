//! Metrics for Prometheus. No label takes unbounded values.
//!
//! In come events; out comes text. Routes are those of the router, symbols those of
//! the settings, and the model is one at a time.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A request's labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: String,
}

/// A duration's label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

/// A prediction's label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SymbolLabel {
    symbol: String,
}

/// The model's labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    name: String,
    version: String,
    sha256: String,
}

/// A cleanup's label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Numbers that are looked up when someone asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// Cache hits since the start.
    pub hits: u64,
    /// Cache misses since the start.
    pub misses: u64,
    /// Cache evictions since the start.
    pub evictions: u64,
    /// Entries in the cache.
    pub entries: u64,
    /// The volume's size in bytes.
    pub capacity: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that can still be written.
    pub free: u64,
    /// Whether the service is degraded.
    pub degraded: bool,
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabel, Histogram>,
    predictions: Family<SymbolLabel, Counter>,
    inference: Histogram,
    write_errors: Counter,
    cleanup_runs: Family<ResultLabel, Counter>,
    cleanup_freed: Counter,
    model: Family<ModelLabels, Gauge>,
    hits: Counter,
    misses: Counter,
    evictions: Counter,
    entries: Gauge,
    capacity: Gauge<u64, AtomicU64>,
    used: Gauge<u64, AtomicU64>,
    free: Gauge<u64, AtomicU64>,
    degraded: Gauge,
}

impl Metrics {
    #[expect(
        clippy::too_many_lines,
        reason = "one registration after another; splitting them hides none"
    )]
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("stockpredictor");
        let request_buckets = || Histogram::new(exponential_buckets(0.0005, 2.0, 15));
        let durations = Family::<RouteLabel, Histogram>::new_with_constructor(request_buckets);
        let inference = Histogram::new(exponential_buckets(0.00005, 2.0, 14));
        let mut metrics = Self {
            requests: Family::default(),
            durations,
            predictions: Family::default(),
            inference,
            write_errors: Counter::default(),
            cleanup_runs: Family::default(),
            cleanup_freed: Counter::default(),
            model: Family::default(),
            hits: Counter::default(),
            misses: Counter::default(),
            evictions: Counter::default(),
            entries: Gauge::default(),
            capacity: Gauge::default(),
            used: Gauge::default(),
            free: Gauge::default(),
            degraded: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "http_requests",
            "Requests by route and status class",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from request to answer",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "predictions",
            "Predictions that were answered, by symbol",
            metrics.predictions.clone(),
        );
        registry.register_with_unit(
            "inference_duration",
            "Time that the model computed, waiting included",
            Unit::Seconds,
            metrics.inference.clone(),
        );
        registry.register(
            "write_errors",
            "Files that could not be written",
            metrics.write_errors.clone(),
        );
        registry.register(
            "cleanup_runs",
            "Cleanups of the volume, by result: done, incomplete, skipped or failed",
            metrics.cleanup_runs.clone(),
        );
        registry.register_with_unit(
            "cleanup_freed",
            "Bytes of files that cleanups removed",
            Unit::Bytes,
            metrics.cleanup_freed.clone(),
        );
        registry.register("model_info", "The model in use", metrics.model.clone());
        registry.register(
            "cache_hits",
            "Predictions that were not computed",
            metrics.hits.clone(),
        );
        registry.register(
            "cache_misses",
            "Predictions that were computed",
            metrics.misses.clone(),
        );
        registry.register(
            "cache_evictions",
            "Entries that made room for others",
            metrics.evictions.clone(),
        );
        registry.register(
            "cache_entries",
            "Predictions in the cache",
            metrics.entries.clone(),
        );
        registry.register_with_unit(
            "volume_capacity",
            "Size of the volume",
            Unit::Bytes,
            metrics.capacity.clone(),
        );
        registry.register_with_unit(
            "volume_used",
            "Bytes of the volume that are in use",
            Unit::Bytes,
            metrics.used.clone(),
        );
        registry.register_with_unit(
            "volume_free",
            "Bytes of the volume that can be written",
            Unit::Bytes,
            metrics.free.clone(),
        );
        registry.register(
            "degraded",
            "1 while predictions are served, but not stored",
            metrics.degraded.clone(),
        );
        metrics.registry = registry;
        metrics
    }

    /// A request was answered.
    pub fn request(&self, route: &str, status: u16, took: Duration) {
        let status = format!("{}xx", status / 100);
        self.requests
            .get_or_create(&RequestLabels {
                route: route.to_owned(),
                status,
            })
            .inc();
        self.durations
            .get_or_create(&RouteLabel {
                route: route.to_owned(),
            })
            .observe(took.as_secs_f64());
    }

    /// A prediction was answered; `symbol` is one of the settings.
    pub fn prediction(&self, symbol: &str) {
        self.predictions
            .get_or_create(&SymbolLabel {
                symbol: symbol.to_owned(),
            })
            .inc();
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
    pub fn cleanup(&self, result: &'static str, freed: u64) {
        self.cleanup_runs
            .get_or_create(&ResultLabel { result })
            .inc();
        self.cleanup_freed.inc_by(freed);
    }

    /// Another model is in use.
    pub fn model(&self, name: &str, version: &str, sha256: &str) {
        self.model.clear();
        let labels = ModelLabels {
            name: name.to_owned(),
            version: version.to_owned(),
            sha256: sha256.to_owned(),
        };
        self.model.get_or_create(&labels).set(1);
    }

    /// Everything as text.
    pub fn encode(&self, now: &Snapshot) -> Result<String, std::fmt::Error> {
        for (counter, total) in [
            (&self.hits, now.hits),
            (&self.misses, now.misses),
            (&self.evictions, now.evictions),
        ] {
            counter
                .inner()
                .store(total, std::sync::atomic::Ordering::Relaxed);
        }
        self.entries
            .set(i64::try_from(now.entries).unwrap_or(i64::MAX));
        self.capacity.set(now.capacity);
        self.used.set(now.used);
        self.free.set(now.free);
        self.degraded.set(i64::from(now.degraded));
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry)?;
        Ok(encoded)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switched_model_leaves_one_line() {
        let metrics = Metrics::new();
        metrics.model("m", "1", "a");
        metrics.model("m", "2", "b");
        metrics.request("/api/v1/predict/{symbol}", 503, Duration::from_millis(3));
        metrics.cleanup("done", 7);
        let text = metrics
            .encode(&Snapshot {
                hits: 7,
                ..Snapshot::default()
            })
            .unwrap();
        assert_eq!(
            text.matches("stockpredictor_model_info{").count(),
            1,
            "{text}"
        );
        assert!(text.contains("stockpredictor_cache_hits_total 7"), "{text}");
        for line in [
            "stockpredictor_cleanup_runs_total{result=\"done\"} 1",
            "stockpredictor_cleanup_freed_bytes_total 7",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("status=\"5xx\""), "{text}");
        assert!(
            text.contains("stockpredictor_volume_capacity_bytes 0"),
            "{text}"
        );
    }
}
