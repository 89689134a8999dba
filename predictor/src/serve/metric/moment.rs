//! A gauge of a time that has no sample before it was first set.
//!
//! In come times, out goes a metric that is left out while nothing happened: 0 would read as the year 1970.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// Seconds since 1970; 0 stands for never.
#[derive(Clone, Debug, Default)]
pub struct Moment(Arc<AtomicI64>);

impl Moment {
    /// It happened then.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.as_second(), Ordering::Relaxed);
    }
}

impl EncodeMetric for Moment {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}
