//! What runs beside the requests, each at its own interval, until the process ends.
//!
//! In comes the service, out go tasks. None of them holds up a request: what blocks does so on threads of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::civil::Date;
use stockpredictor_storage::monitor;
use tracing::{error, info, warn};

use super::cleanup;
use super::data::History;
use super::outcome::{Pass, Report};
use super::state::{Service, blocking};
use super::usage::Calm;

/// How often the volume is looked at.
const VOLUME_INTERVAL: Duration = Duration::from_secs(10);
/// How soon after the start the volume is cleaned up for the first time, at most.
const FIRST_CLEANUP: Duration = Duration::from_mins(10);
/// How often is looked whether histories changed.
const DATA_INTERVAL: Duration = Duration::from_secs(10);
/// How often outcomes are looked for while no history changes.
const OUTCOME_INTERVAL: Duration = Duration::from_hours(1);
/// How soon when the last look did not see or write everything.
const OUTCOME_RETRY: Duration = Duration::from_mins(1);

/// Looks at the volume once, then starts everything.
pub async fn start(service: &Arc<Service>) {
    look(service).await;
    tokio::spawn(watch_volume(Arc::clone(service)));
    tokio::spawn(watch_model(Arc::clone(service)));
    tokio::spawn(clean(Arc::clone(service)));
    tokio::spawn(count_files(Arc::clone(service)));
    tokio::spawn(watch_data(Arc::clone(service)));
}

async fn look(service: &Arc<Service>) {
    let service = Arc::clone(service);
    let _ = blocking(move || service.volume.look()).await;
}

async fn watch_volume(service: Arc<Service>) {
    let mut known = None;
    loop {
        let failing = service.volume.state().failing;
        match &failing {
            Some(failure) if known.as_ref() != Some(failure) => {
                error!(kind = failure.kind, reason = %failure.message, "the volume does not take all writes");
            }
            None if known.is_some() => info!("the volume takes writes again"),
            _ => {}
        }
        known = failing;
        tokio::time::sleep(VOLUME_INTERVAL).await;
        look(&service).await;
    }
}

async fn watch_model(service: Arc<Service>) {
    loop {
        let refreshing = Arc::clone(&service);
        let _ = blocking(move || refreshing.refresh_model()).await;
        tokio::time::sleep(service.settings.model.check_interval).await;
    }
}

async fn clean(service: Arc<Service>) {
    let interval = service.settings.cache.cleanup_interval.duration();
    // Soon after the start, because it may have been off for long; not at once, because it may be started again and again.
    let mut pause = interval.min(FIRST_CLEANUP);
    loop {
        tokio::time::sleep(pause).await;
        pause = interval;
        let removed = service.cache.clean().await;
        info!(removed, "removed files of expired cache entries");
        cleanup::run(&service).await;
    }
}

async fn count_files(service: Arc<Service>) {
    let counting = Arc::clone(&service);
    let count = move || {
        let pace = Calm(&counting.draining);
        monitor::count(&counting.settings.layout, counting.clock.now(), &pace)
    };
    service.usage.keep(count).await;
}

/// The last look for outcomes.
struct Looked {
    at: Instant,
    again_after: Duration,
    day: Date,
    histories: Vec<History>,
}

async fn watch_data(service: Arc<Service>) {
    let mut looked: Option<Looked> = None;
    while !service.draining.load(Ordering::Relaxed) {
        let today = service.clock.today();
        let loading = Arc::clone(&service);
        if let Ok(histories) = blocking(move || load(&loading, today)).await {
            let is_due = looked.as_ref().is_none_or(|last| {
                last.day != today
                    || last.at.elapsed() >= last.again_after
                    || !same(&last.histories, &histories)
            });
            if is_due {
                let is_complete = find_outcomes(&service, &histories, today).await;
                looked = Some(Looked {
                    at: Instant::now(),
                    again_after: if is_complete {
                        OUTCOME_INTERVAL
                    } else {
                        OUTCOME_RETRY
                    },
                    day: today,
                    histories,
                });
            }
        }
        tokio::time::sleep(DATA_INTERVAL).await;
    }
}

/// Reads what changed of the histories and notes how old they are.
fn load(service: &Service, today: Date) -> Vec<History> {
    let symbols = service.settings.symbols.iter();
    let histories: Vec<History> = symbols
        .map(|symbol| (symbol.clone(), service.histories.load(symbol, today).ok()))
        .collect();
    let marker = service.volume.state().marker;
    let got_samples = marker.is_some_and(|marker| marker.install_samples);
    service.data.set(&histories, today, got_samples);
    histories
}

/// Whether no history was read anew.
fn same(left: &[History], right: &[History]) -> bool {
    let both = left.iter().zip(right);
    both.map(|((_, left), (_, right))| (left, right))
        .all(|bars| match bars {
            (Some(left), Some(right)) => Arc::ptr_eq(left, right),
            (None, None) => true,
            _ => false,
        })
}

/// One pass; whether it saw and wrote everything.
async fn find_outcomes(service: &Arc<Service>, histories: &[History], today: Date) -> bool {
    let pass = Pass {
        lock: service.settings.layout.state().join("outcomes.lock"),
        predictions: service.settings.predictions.clone(),
        histories: histories.to_vec(),
        today,
    };
    let Ok(report) = blocking(move || pass.run()).await else {
        return false;
    };
    tell(service, &report);
    let is_complete = report.is_complete();
    service.outcomes.set(report.recent);
    is_complete
}

fn tell(service: &Service, report: &Report) {
    for (path, result) in &report.writes {
        if result.is_err() {
            service.metrics.write_error();
        }
        service.volume.told(path, result);
    }
    for problem in &report.problems {
        warn!(reason = %problem, "some outcomes of predictions are unknown");
    }
    if let Some(example) = &report.example {
        warn!(
            count = report.unreadable,
            example, "stored predictions can't be compared with real prices: remove them"
        );
    }
    if report.written > 0 {
        info!(
            written = report.written,
            "compared predictions with real prices"
        );
    }
}
