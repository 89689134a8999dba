//! What the handlers share, and how a prediction comes about.
//!
//! In come symbols, out come predictions or problems. HTTP is unknown here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;
use stockpredictor_storage::atomic;
use stockpredictor_storage::history::Bar;
use stockpredictor_storage::symbol::Symbol;
use tracing::{error, info, warn};

use super::cache::{Entry, Key, KeyParts, PredictionCache};
use super::clock::Clock;
use super::data::Data;
use super::forecast::{self, Forecast, ModelName};
use super::history::Histories;
use super::log::PREDICTION;
use super::metric::{Fixed, Metrics};
use super::model_slot::{ActiveModel, Change, ModelSlot};
use super::outcome::Outcomes;
use super::problem::{Kind, Problem};
use super::usage::Usage;
use super::volume::Volume;
use super::writer::{Disk, Job, Writer};
use crate::calendar;
use crate::feature::{self, Window};
use crate::model::{Golden, ModelError};
use crate::settings::Settings;

/// The same complaint about the same thing is logged at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_mins(1);

/// The service.
pub struct Service {
    /// How it was set up.
    pub settings: Settings,
    /// The clock.
    pub clock: Clock,
    /// When it started.
    pub started_at: Timestamp,
    /// Price histories.
    pub histories: Histories,
    /// The model.
    pub model: ModelSlot,
    /// The prediction cache.
    pub cache: PredictionCache,
    /// The volume's state.
    pub volume: Arc<Volume>,
    /// What lies on the volume.
    pub usage: Usage,
    /// How old the histories are.
    pub data: Data,
    /// How right the forecasts were.
    pub outcomes: Outcomes,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// The background writer.
    pub writer: Writer,
    /// Set at SIGTERM: not ready any more, but still answering.
    pub draining: AtomicBool,
    complaints: Mutex<BTreeMap<String, (Instant, String)>>,
}

/// A history that is fit for a forecast.
struct Input {
    last: Bar,
    window: Window,
}

impl Service {
    /// Puts the parts together; nothing is loaded yet.
    pub fn new(
        settings: Settings,
        clock: Clock,
        disk: impl Disk,
        pool_size: usize,
    ) -> std::io::Result<Self> {
        let volume = Arc::new(Volume::new(settings.layout.clone()));
        let metrics = Arc::new(Metrics::new(&Fixed {
            symbols: settings.symbols.clone(),
            cache_entries_limit: settings.cache.max_entries,
            cleanup_interval: settings.cache.cleanup_interval.duration(),
        }));
        let (told_volume, told_metrics) = (Arc::clone(&volume), Arc::clone(&metrics));
        let writer = Writer::start(disk, move |path, result| {
            if result.is_err() {
                told_metrics.write_error();
            }
            told_volume.told(path, &result);
        })?;
        let cache = &settings.cache;
        let (ttl, max_entries) = (cache.prediction_ttl.duration(), cache.max_entries);
        let folder = cache.path.join("predictions_cache");
        Ok(Self {
            histories: Histories::new(
                &settings.historical,
                &settings.symbols,
                cache.stock_data_ttl.duration(),
            ),
            model: ModelSlot::new(settings.model.clone(), pool_size),
            cache: PredictionCache::new(folder, ttl, max_entries, writer.clone(), clock.clone()),
            started_at: clock.now(),
            volume,
            usage: Usage::default(),
            data: Data::default(),
            outcomes: Outcomes::default(),
            metrics,
            writer,
            draining: AtomicBool::new(false),
            complaints: Mutex::default(),
            settings,
            clock,
        })
    }

    /// Whether requests should come here; else what is waited for.
    pub fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("this process is shutting down".to_owned());
        }
        self.model.active().map_err(|problem| problem.detail)?;
        // A full volume only degrades, also at the start.
        match self.volume.state().never_writable() {
            Some(failure) => Err(failure.message.clone()),
            None => Ok(()),
        }
    }

    /// The prediction for a symbol; true when nothing had to be computed for it.
    pub async fn predict(self: &Arc<Self>, symbol: &Symbol) -> Result<(Arc<Entry>, bool), Problem> {
        let result = self.try_predict(symbol).await;
        match &result {
            Ok(_) => self.metrics.prediction(symbol.as_str()),
            Err(problem) if problem.status().is_server_error() => {
                self.complain(symbol.as_str(), &problem.detail);
            }
            Err(_) => {}
        }
        result
    }

    async fn try_predict(self: &Arc<Self>, symbol: &Symbol) -> Result<(Arc<Entry>, bool), Problem> {
        let active = self.model.active()?;
        let model = active.pool.model();
        let input = self.input(symbol, model.window).await?;
        let key = Key::new(&KeyParts {
            symbol: symbol.as_str(),
            as_of: input.last.date,
            window: input.window.sha256(),
            close: input.last.close,
            name: &model.name,
            version: &model.version,
            model: &model.sha256,
            scaler: &model.scaler_sha256,
            config: &model.config_sha256,
        });
        self.cache
            .get(key, self.compute(symbol, &active, input))
            .await
    }

    /// Runs the model and leaves the result on the volume.
    async fn compute(
        &self,
        symbol: &Symbol,
        active: &ActiveModel,
        input: Input,
    ) -> Result<Forecast, Problem> {
        let begun = Instant::now();
        let Input { last, window } = input;
        let quantiles = active
            .pool
            .run(window)
            .await
            .map_err(|error| Problem::new(Kind::ForecastFailed, error.to_string()))?;
        self.metrics.inference(begun.elapsed());
        let prices = forecast::prices(last.close, &quantiles)?;
        let model = active.pool.model();
        let forecast = Forecast {
            symbol: symbol.to_string(),
            current_price: last.close,
            predicted_price: prices.predicted,
            predicted_return: prices.predicted_return,
            interval: prices.interval,
            trading_signal: prices.signal,
            confidence: model.confidence(quantiles.median),
            as_of: last.date,
            target_date: calendar::next_session(last.date),
            prediction_time: self.clock.now(),
            model: ModelName {
                name: model.name.clone(),
                version: model.version.clone(),
                sha256: model.sha256.clone(),
            },
        };
        info!(
            target: PREDICTION,
            symbol = %symbol, as_of = %forecast.as_of, target_date = %forecast.target_date,
            current_price = forecast.current_price, predicted_price = forecast.predicted_price,
            signal = forecast.trading_signal.as_str(), model = %forecast.model.version,
            "computed a prediction"
        );
        if let Ok(bytes) = serde_json::to_vec_pretty(&forecast) {
            self.writer.send(Job::Write(
                self.daily_file(symbol, forecast.target_date),
                bytes,
            ));
        }
        Ok(forecast)
    }

    /// Where the prediction of a session is stored; the latest one stays.
    fn daily_file(&self, symbol: &Symbol, target: Date) -> PathBuf {
        self.settings
            .predictions
            .join("daily")
            .join(format!("{symbol}_{target}.json"))
    }

    async fn input(self: &Arc<Self>, symbol: &Symbol, length: usize) -> Result<Input, Problem> {
        let (service, wanted) = (Arc::clone(self), symbol.clone());
        blocking(move || {
            let bars = service.histories.load(&wanted, service.clock.today())?;
            let window = window_of(&wanted, &bars, length)?;
            let last = *bars
                .last()
                .ok_or_else(|| Problem::new(Kind::ShortHistory, "the history is empty"))?;
            Ok(Input { last, window })
        })
        .await?
    }

    /// The stored sessions of a symbol.
    pub async fn bars(self: &Arc<Self>, symbol: &Symbol) -> Result<Arc<Vec<Bar>>, Problem> {
        let (service, wanted) = (Arc::clone(self), symbol.clone());
        let loaded =
            blocking(move || service.histories.load(&wanted, service.clock.today())).await?;
        if let Err(problem) = &loaded
            && problem.status().is_server_error()
        {
            self.complain(symbol.as_str(), &problem.detail);
        }
        loaded
    }

    /// Whether a symbol could be predicted with a model of that window, and its last session.
    pub fn check_symbol(&self, symbol: &Symbol, length: usize) -> (Option<Date>, Option<Problem>) {
        match self.histories.load(symbol, self.clock.today()) {
            Ok(bars) => (
                bars.last().map(|bar| bar.date),
                window_of(symbol, &bars, length).err(),
            ),
            Err(problem) => (None, Some(problem)),
        }
    }

    /// Looks for another model and takes it into use when it passes. Blocks.
    pub fn refresh_model(&self) {
        match self.model.refresh(self.clock.now()) {
            Change::None => {}
            Change::Refused(message) => {
                error!(reason = %message, "the model on the volume was refused");
            }
            Change::Loaded => {
                if let Ok(active) = self.model.active() {
                    let model = active.pool.model();
                    self.metrics
                        .model(&model.name, &model.version, &model.sha256);
                    info!(name = %model.name, version = %model.version, sha256 = %model.sha256, "the model is in use");
                    self.write_golden(&active);
                }
            }
        }
    }

    /// Records what a model without `golden.json` forecasts now, so that later loads can compare.
    fn write_golden(&self, active: &ActiveModel) {
        let Some(path) = active.golden_to_write() else {
            return;
        };
        let length = active.pool.model().window;
        let today = self.clock.today();
        let input = |symbol: &Symbol| {
            let bars = self.histories.load(symbol, today).ok()?;
            Some((
                symbol.to_string(),
                bars.last()?.date,
                feature::window(&bars, length).ok()?,
            ))
        };
        let inputs: Vec<_> = self.settings.symbols.iter().filter_map(input).collect();
        if inputs.is_empty() {
            return;
        }
        let written = active
            .pool
            .with_session(|session| Golden::record(session, &inputs))
            .and_then(|golden| {
                let failed = |reason: String| ModelError::Read {
                    path: path.display().to_string(),
                    reason,
                };
                let text = serde_json::to_vec_pretty(&golden)
                    .map_err(|error| failed(error.to_string()))?;
                atomic::write_durable(&path, &text).map_err(|error| failed(error.to_string()))
            });
        match written {
            Ok(()) => {
                self.model.golden_written(&path);
                info!(path = %path.display(), "recorded forecasts of the new model");
            }
            Err(error) => {
                warn!(reason = %error, "forecasts of the new model could not be recorded");
            }
        }
    }

    /// Logs an error, unless the same was logged a moment ago.
    pub fn complain(&self, about: &str, message: &str) {
        let mut complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let repeated = complaints
            .get(about)
            .is_some_and(|(at, said)| said == message && at.elapsed() < COMPLAIN_EVERY);
        if !repeated {
            complaints.insert(about.to_owned(), (Instant::now(), message.to_owned()));
            error!(about, reason = message, "a request can't be answered");
        }
    }
}

fn window_of(symbol: &Symbol, bars: &[Bar], length: usize) -> Result<Window, Problem> {
    feature::window(bars, length)
        .map_err(|error| Problem::new(Kind::ShortHistory, format!("{symbol}: {error}")))
}

/// Runs what blocks where it may; a panic there is one failed request.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Problem::new(
            Kind::Internal,
            "the request failed inside; the log says where",
        )
    })
}
