//! The service's own cleanup of the volume, every `CACHE_CLEANUP_INTERVAL`.
//!
//! In come settings, out go removed files, a line in the log and metrics. Of several replicas the one that has the
//! lock does the work; the others skip it.

use std::sync::Arc;
use std::time::SystemTime;

use stockpredictor_storage::cleanup::{self, Report, Request};
use stockpredictor_storage::progress::Silent;
use tracing::{error, info, warn};

use super::state::{Service, blocking};

/// Cleans up on a thread that may block; a failure is logged and changes nothing for requests.
pub async fn run(service: &Arc<Service>) {
    let layout = service.settings.layout.clone();
    let request = Request {
        retention: service.settings.retention,
        dry_run: false,
        now: SystemTime::now(),
    };
    let work = move || cleanup::run(&layout, &request, &Silent);
    let done = blocking(work).await;
    let count = |result, freed| service.metrics.cleanup(result, freed, service.clock.now());
    match done {
        Ok(Ok(report)) => {
            count(result_of(&report), report.total().bytes);
            service.usage.expect_change();
            tell(&report);
        }
        Ok(Err(reason)) => {
            count("failed", 0);
            error!(%reason, "the volume was not cleaned up");
        }
        Err(_) => count("failed", 0),
    }
}

fn result_of(report: &Report) -> &'static str {
    match (report.another_at_work, report.problems) {
        (true, _) => "skipped",
        (false, 0) => "done",
        (false, _) => "incomplete",
    }
}

fn tell(report: &Report) {
    if report.another_at_work {
        info!("another replica cleans up the volume");
        return;
    }
    let total = report.total();
    info!(
        cache = report.cache.files,
        logs = report.logs.files,
        predictions = report.predictions.files,
        temporary = report.temporary.files,
        directories = report.directories,
        unscored = report.unscored,
        bytes = total.bytes,
        "cleaned up the volume"
    );
    if report.problems > 0 {
        warn!(
            problems = report.problems,
            examples = report.warnings.join("; "),
            "not everything could be cleaned up"
        );
    }
}
