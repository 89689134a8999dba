//! `GET /metrics`: what a scrape finds.
//!
//! In comes the service, out comes text. Only memory is read: a scrape opens no file, lists no directory and parses
//! no history, whatever lies on the volume.

use std::sync::atomic::Ordering;

use super::metric::Snapshot;
use super::state::Service;

/// How the text is encoded.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics, as of now.
pub async fn text(service: &Service) -> Result<String, std::fmt::Error> {
    let state = service.volume.state();
    let counts = service.cache.counts();
    let snapshot = Snapshot {
        hits: counts.hits.load(Ordering::Relaxed),
        misses: counts.misses.load(Ordering::Relaxed),
        evictions: counts.evictions.load(Ordering::Relaxed),
        entries: service.cache.count().await,
        space: state.space,
        volume_id: state.marker.map(|marker| marker.id.to_string()),
        degraded: state.failing.is_some(),
        directories: service.usage.directories(),
        data: service.data.symbols(),
        accuracy: service.outcomes.accuracy(service.clock.today()),
    };
    service.metrics.encode(&snapshot)
}
