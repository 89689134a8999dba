//! Logs: JSON on stdout and the guide's four files, rotated daily and at 50 MiB.
//!
//! In come tracing events, out come lines. A log that can't be written is dropped line
//! by line: neither a full disk nor a slow one may stop or slow the service.

mod file;

use std::path::Path;

use tracing::{Level, Metadata, error};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use file::RotatingFile;

/// Target of events about predictions.
pub const PREDICTION: &str = "prediction";
/// Target of events about requests.
pub const API: &str = "api";

/// Which events a log gets.
type Wanted = fn(&Metadata<'_>) -> bool;

/// Keeps the writers alive; dropping it writes what is left.
pub struct Guards {
    _workers: Vec<WorkerGuard>,
}

/// Starts logging. `folder` gets application.log, prediction.log, api.log and error.log.
///
/// The levels come from `filter`, which [`parse_filter`] accepted, by default info and above.
pub fn start(folder: &Path, filter: Option<&str>) -> Guards {
    let mut workers = Vec::new();
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::new();
    let mut add = |writer: NonBlocking, filter: FilterFn| {
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(writer)
            .with_filter(filter);
        layers.push(Box::new(layer));
    };
    let (stdout, worker) = lossy(std::io::stdout());
    workers.push(worker);
    add(stdout, filter_fn(|_| true));
    let files: [(&str, Wanted); 4] = [
        ("application", |event| {
            ![PREDICTION, API].contains(&event.target())
        }),
        ("prediction", |event| event.target() == PREDICTION),
        ("api", |event| event.target() == API),
        ("error", |event| *event.level() == Level::ERROR),
    ];
    for (name, wanted) in files {
        let (writer, worker) = lossy(RotatingFile::open(folder, name, &pod_name()));
        workers.push(worker);
        add(writer, filter_fn(wanted));
    }
    let levels = filter
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| EnvFilter::new("info"));
    // A second start in one process (tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry()
        .with(layers.with_filter(levels))
        .try_init();
    Guards { _workers: workers }
}

/// Checks a filter as the command line takes it: levels, or `module=level`, between commas.
///
/// The library takes more than that, and what it does not understand it may leave out in silence.
pub fn parse_filter(text: &str) -> Result<String, String> {
    let is_level = |level: &str| level.parse::<LevelFilter>().is_ok() && !level.is_empty();
    let is_module = |module: &str| {
        let fits = |character: char| character.is_ascii_alphanumeric() || "_:-".contains(character);
        !module.is_empty() && module.chars().all(fits)
    };
    for part in text.split(',') {
        let fits = match part.split_once('=') {
            Some((module, level)) => is_module(module) && is_level(level),
            None => is_level(part),
        };
        if !fits {
            return Err(format!(
                "`{part}` is no level: write off, error, warn, info, debug or trace, or a module with one of these, such as `warn,stockpredictor_predictor=debug`"
            ));
        }
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Sends panics to the logs as well: they are mistakes of the program, and somebody has to see them.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("unknown");
        error!(place, reason, "a mistake of the program: please report it");
    }));
}

/// A writer with a queue that drops lines rather than wait.
fn lossy(writer: impl std::io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(16_384)
        .finish(writer)
}

/// Tells replicas apart in file names.
fn pod_name() -> String {
    let named = ["POD_NAME", "HOSTNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let fits = |character: &char| {
        character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_')
    };
    let name: String = named
        .unwrap_or_default()
        .chars()
        .filter(fits)
        .take(64)
        .collect();
    if name.trim_matches('.').is_empty() {
        "replica".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_says_nothing_is_refused() {
        for text in [
            "info",
            "warn,stockpredictor_predictor=debug",
            "WARN,api=off",
        ] {
            assert!(parse_filter(text).is_ok(), "{text}");
        }
        for text in [
            "%%%=bad",
            "api=",
            "=info",
            "verbose",
            "",
            "info,,warn",
            "api=7",
        ] {
            let message = parse_filter(text).unwrap_err();
            assert!(message.contains("write off, error"), "{text}: {message}");
        }
    }
}
