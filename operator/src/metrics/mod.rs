//! The operator's metrics, in the `OpenMetrics` text format.
//!
//! In: what happened, and the caches of objects. Out: counters, gauges and histograms. Labels of what happened take a small
//! fixed set of values: kinds, results, categories, watches; never an error's text. Names of objects are labels of the metrics
//! of [`objects`] only, which end with their object. Names, types, labels and help are those of `contracts/metrics.json`.

mod backup;
mod interval;
pub mod objects;
mod predictor;
mod restore;
mod sample;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kube::runtime::reflector::Store;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use self::objects::{Measured, Objects};
use crate::controller::Guarded;
use crate::watch::Filled;

/// Upper bounds of the duration buckets, in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How a reconcile ended.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    kind: &'static str,
    result: &'static str,
}

/// Of which category an error was.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabels {
    kind: &'static str,
    category: &'static str,
}

/// Which kind of object.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// What a watch said.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WatchLabels {
    watch: &'static str,
    event: &'static str,
}

/// Which release.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// All metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    objects: Arc<Objects>,
    reconciles: Family<ResultLabels, Counter>,
    durations: Family<KindLabels, Histogram, fn() -> Histogram>,
    errors: Family<ErrorLabels, Counter>,
    queue: Family<KindLabels, Gauge<i64>>,
    active: Family<KindLabels, Gauge<i64>>,
    watch_events: Family<WatchLabels, Counter>,
    stats_polls: Family<ResultLabels, Counter<u64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that count from zero.
    pub fn new() -> Self {
        let mut all = Registry::default();
        let objects = Arc::new(Objects::default());
        all.register_collector(Box::new(objects.clone()));
        let registry = all.sub_registry_with_prefix("stockpredictor_operator");
        let reconciles = Family::default();
        let durations: Family<KindLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let errors = Family::default();
        let queue = Family::default();
        let active = Family::default();
        let watch_events = Family::default();
        let stats_polls = Family::default();
        // A gauge, as all the others: the type `info` is lost where metrics are stored.
        let build = Family::<BuildLabels, Gauge<i64>>::default();
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&BuildLabels { version }).set(1);
        registry.register("build_info", "The operator's release", build);
        registry.register(
            "reconciles",
            "Finished reconciles by result",
            reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "How long reconciles took",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Failed reconciles by category",
            errors.clone(),
        );
        registry.register(
            "queue_depth",
            "Objects that wait for a reconcile",
            queue.clone(),
        );
        registry.register(
            "active_reconciles",
            "Objects that are being reconciled",
            active.clone(),
        );
        registry.register(
            "watch_events",
            "Events of the watches, failures among them",
            watch_events.clone(),
        );
        registry.register(
            "stats_polls",
            "Requests for a predictor's stats by result",
            stats_polls.clone(),
        );
        Self {
            registry: Arc::new(all),
            objects,
            reconciles,
            durations,
            errors,
            queue,
            active,
            watch_events,
            stats_polls,
        }
    }

    /// From now on the objects of `store` have metrics.
    pub fn watch<K: Measured>(&self, store: Store<Guarded<K>>, filled: Filled) {
        self.objects.add(store, filled);
    }

    /// A reconcile began.
    pub fn began(&self, kind: &'static str) {
        self.active.get_or_create(&KindLabels { kind }).inc();
    }

    /// A reconcile ended; without a category it was a success.
    pub fn ended(&self, kind: &'static str, took: Duration, category: Option<&'static str>) {
        let result = if category.is_some() {
            "error"
        } else {
            "success"
        };
        self.active.get_or_create(&KindLabels { kind }).dec();
        self.reconciles
            .get_or_create(&ResultLabels { kind, result })
            .inc();
        self.durations
            .get_or_create(&KindLabels { kind })
            .observe(took.as_secs_f64());
        if let Some(category) = category {
            self.errors
                .get_or_create(&ErrorLabels { kind, category })
                .inc();
        }
    }

    /// So many objects wait for a reconcile.
    pub fn waiting(&self, kind: &'static str, change: i64) {
        self.queue
            .get_or_create(&KindLabels { kind })
            .inc_by(change);
    }

    /// A watch said something.
    pub fn watch_event(&self, watch: &'static str, event: &'static str) {
        self.watch_events
            .get_or_create(&WatchLabels { watch, event })
            .inc();
    }

    /// A predictor was asked for its stats.
    pub fn stats_poll(&self, kind: &'static str, success: bool) {
        let result = if success { "success" } else { "error" };
        self.stats_polls
            .get_or_create(&ResultLabels { kind, result })
            .inc();
    }

    /// Everything as text.
    ///
    /// # Errors
    /// When a metric can't be written, which would be a mistake in this module.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_names_are_there() {
        let metrics = Metrics::new();
        metrics.began("StockPredictor");
        metrics.ended(
            "StockPredictor",
            Duration::from_millis(20),
            Some("conflict"),
        );
        metrics.waiting("StockPredictor", 1);
        metrics.watch_event("pods", "apply");
        metrics.stats_poll("StockPredictor", true);
        let text = metrics.encode().unwrap();
        for line in [
            "stockpredictor_operator_build_info{version=\"0.1.0\"} 1",
            "stockpredictor_operator_reconciles_total{kind=\"StockPredictor\",result=\"error\"} 1",
            "stockpredictor_operator_reconcile_duration_seconds_bucket{le=\"0.025\",kind=\"StockPredictor\"} 1",
            "stockpredictor_operator_reconcile_errors_total{kind=\"StockPredictor\",category=\"conflict\"} 1",
            "stockpredictor_operator_queue_depth{kind=\"StockPredictor\"} 1",
            "stockpredictor_operator_active_reconciles{kind=\"StockPredictor\"} 0",
            "stockpredictor_operator_watch_events_total{watch=\"pods\",event=\"apply\"} 1",
            "stockpredictor_operator_stats_polls_total{kind=\"StockPredictor\",result=\"success\"} 1",
        ] {
            assert!(text.contains(line), "no {line} in:\n{text}");
        }
    }
}
