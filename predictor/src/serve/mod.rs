//! `predictor serve`: from settings to a running service, and to its end.
//!
//! In come settings and the volume, out goes HTTP until SIGTERM. This module orders
//! the start and the stop; the work is in the modules below it.

pub mod api;
pub mod cache;
mod cleanup;
pub mod clock;
mod connection;
pub mod data;
pub mod forecast;
pub mod history;
pub mod http;
pub mod log;
pub mod metric;
pub mod model_slot;
pub mod outcome;
pub mod pool;
pub mod problem;
mod scrape;
mod seen;
pub mod state;
pub mod stats;
mod task;
pub mod token;
pub mod usage;
pub mod volume;
pub mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use stockpredictor_storage::lock::VolumeLock;
use stockpredictor_storage::marker::{Marker, State};
use stockpredictor_storage::restore::{self, Access, AllowSwitched, Settled};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use self::clock::Clock;
use self::state::{Service, blocking};
use crate::runtime;
use crate::settings::{self, ServeFlags, Settings};

/// How long a restore may hold the volume before serve gives up.
const LOCK_PATIENCE: Duration = Duration::from_mins(1);
/// How long connections may take to end after the drain.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(4);
/// How long the last files may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// Options of `predictor serve`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor serve --root ./persistent_data --symbols NVDA,TSLA --listen 127.0.0.1:8080
  predictor serve --settings /etc/stockpredictor/settings.json
  ML_PREDICTION_TTL=10m predictor serve --root ./persistent_data

A flag wins over the environment, that over the settings file, that over the volume's config/ files, and those over the built-in value. GET /api/v1/stats shows each value with its source.")]
pub struct Args {
    #[command(flatten)]
    flags: ServeFlags,
    /// The settings file that the operator writes.
    #[arg(long, env = "STOCKPREDICTOR_SETTINGS", value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Which events are logged, as in `info` or `warn,stockpredictor_predictor=debug`.
    #[arg(long, env = "STOCKPREDICTOR_LOG", value_name = "FILTER", value_parser = log::parse_filter)]
    log: Option<String>,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let environment = |name: &str| std::env::var(name).ok();
    let resolve = || settings::resolve(&args.flags.0, &environment, args.settings.as_deref());
    let mut resolved = resolve()?;
    let mut settings = Settings::from_resolved(&resolved)?;
    let (_lock, settled) = open_volume(&settings)?;
    if let Some((id, ending)) = settled.ended {
        eprintln!(
            "warning: restore {id} had been cut off; now it is {}",
            ending.as_str()
        );
        // The volume's own settings may be others now.
        resolved = resolve()?;
        settings = Settings::from_resolved(&resolved)?;
    }
    for leftover in &settled.leftovers {
        eprintln!("warning: {leftover}");
    }
    runtime::init()?;
    prepare_folders(&settings);
    let _logs = log::start(&settings.logs, args.log.as_deref());
    log::report_panics();
    if !resolved.unknown.is_empty() {
        warn!(
            keys = resolved.unknown.join(","),
            "config/persistent.env has keys that no setting has: correct them or take them out"
        );
    }
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(64)
        .build()
        .context("threads can't be started")?;
    let result = tokio.block_on(serve(settings));
    // A computation or file system that hangs must not keep the process from ending.
    tokio.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Checks that setup has finished, ends a restore that was cut off and takes the volume's lock.
fn open_volume(settings: &Settings) -> anyhow::Result<(VolumeLock, Settled)> {
    let layout = &settings.layout;
    let root = layout.root().display();
    match Marker::read(layout)? {
        Some(marker) if marker.state == State::Ready => {}
        Some(_) => anyhow::bail!(
            "the volume {root} was set up only in part: run `predictor storage setup --root {root}` again"
        ),
        None => anyhow::bail!(
            "{root} is no volume of this program yet: run `predictor storage setup --root {root}` first"
        ),
    }
    Ok(restore::enter(
        layout,
        Access::Write,
        AllowSwitched::Yes,
        LOCK_PATIENCE,
    )?)
}

/// Folders that settings name outside the tree; where they can't be made, the writes that need them say so.
fn prepare_folders(settings: &Settings) {
    for folder in [
        settings.cache.path.join("predictions_cache"),
        settings.predictions.join("daily"),
        settings.logs.clone(),
    ] {
        if let Err(error) = std::fs::create_dir_all(&folder) {
            eprintln!("warning: {} can't be made: {error}", folder.display());
        }
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("signals can't be heard")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be heard")?;
    let sessions = pool::size();
    let service = Arc::new(Service::new(
        settings,
        Clock::system(),
        writer::RealDisk,
        sessions,
    )?);
    for notice in service.model.notices() {
        warn!("{notice}");
    }
    let listener = TcpListener::bind(service.settings.listen)
        .await
        .with_context(|| {
            format!(
                "{} can't be listened on: choose another --listen",
                service.settings.listen
            )
        })?;
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    task::start(&service).await;
    let cached = service.cache.load().await;
    info!(
        %address, sessions, cached, root = %service.volume.root().display(),
        release = env!("CARGO_PKG_VERSION"), "listening"
    );
    let router = http::with_limits(api::router(Arc::clone(&service)), &service);
    let stopping = Arc::clone(&service);
    let stop = async move {
        either(&mut terminate, &mut interrupt).await;
        stopping.draining.store(true, Ordering::Relaxed);
        info!(
            seconds = stopping.settings.drain.as_secs(),
            "not ready any more, answering what still comes"
        );
        // A second signal ends the drain.
        let _ = tokio::time::timeout(
            stopping.settings.drain,
            either(&mut terminate, &mut interrupt),
        )
        .await;
    };
    http::serve(listener, router, stop, CONNECTION_PATIENCE).await;
    let last = Arc::clone(&service);
    let flushed = blocking(move || last.writer.flush(FLUSH_PATIENCE))
        .await
        .unwrap_or(false);
    info!(flushed, "stopped");
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
