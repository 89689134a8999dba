//! The HTTP API: routes, handlers, and the OpenAPI document that describes them.
//!
//! In come requests, out come JSON documents or problems. Handlers hold no logic
//! beyond reading a request and shaping an answer.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use stockpredictor_storage::symbol::Symbol;
use tracing::info;
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::forecast::{Forecast, Interval, ModelName, Signal};
use super::problem::{Kind, Problem, ProblemDocument};
use super::scrape;
use super::state::{Service, blocking};
use super::stats::{self, Stats, StatsProblem, Status};
use super::token;
use crate::calendar;

/// Days of history that are given without `days`.
const DEFAULT_DAYS: usize = 30;
/// Most days of history in one answer.
const MAX_DAYS: usize = 730;

type Shared = State<Arc<Service>>;

/// A prediction as it is answered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Prediction {
    /// What was computed.
    #[serde(flatten)]
    pub forecast: Forecast,
    /// `hit` when it was computed before, `miss` when it was computed for this request.
    pub cache: CacheState,
    /// Sessions that ended after `as_of`; 0 when the history is up to date.
    pub data_age: u32,
}

/// Where a prediction came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheState {
    /// From the cache.
    Hit,
    /// Computed for this request.
    Miss,
}

/// Stored sessions.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Historical {
    /// The symbol.
    pub symbol: String,
    /// How many sessions were asked for.
    pub days: usize,
    /// The last sessions, oldest first; fewer where fewer are stored.
    pub data: Vec<Session>,
}

/// One session.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Its day.
    #[schema(value_type = String, format = Date)]
    pub date: Date,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// Shares traded.
    pub volume: u64,
}

/// How the service is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// In one word.
    pub status: Status,
    /// What is wrong.
    pub problems: Vec<StatsProblem>,
}

/// What a cleared cache held.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Cleared {
    /// Predictions that were forgotten.
    pub cleared: u64,
}

/// How much history is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct HistoricalQuery {
    /// Sessions, from 1 to 730.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 730, default = 30)]
    days: Option<String>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "StockPredictor",
        description = "Predictions of the next session's close. HOLD is the usual answer: few forecasts exceed one percent."
    ),
    paths(
        predict,
        historical,
        stats_document,
        health,
        clear_cache,
        live,
        ready,
        metrics
    ),
    components(schemas(Prediction, Interval, ModelName, Signal, Stats, ProblemDocument))
)]
struct Document;

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// All routes, without limits.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/api/v1/predict/{symbol}", get(predict))
        .route("/api/v1/historical/{symbol}", get(historical))
        .route("/api/v1/stats", get(stats_document))
        .route("/api/v1/health", get(health))
        .route("/api/v1/cache/clear", post(clear_cache))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(|| async { Json(document()) }))
        .fallback(|| async {
            Problem::new(
                Kind::NotFound,
                "there is no such path: /openapi.json lists them",
            )
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                Kind::MethodNotAllowed,
                "the path does not take this method: /openapi.json lists what it takes",
            )
        })
        .with_state(service)
}

/// A symbol as it stands in a path; what is no text is no symbol either.
type PathSymbol = Result<Path<String>, PathRejection>;

/// Checks the symbol of a path, and that it is served here.
fn served_symbol(service: &Service, path: PathSymbol) -> Result<Symbol, Problem> {
    let Path(text) = path.map_err(|error| Problem::new(Kind::InvalidSymbol, error.body_text()))?;
    let symbol = Symbol::parse(&text)
        .map_err(|error| Problem::new(Kind::InvalidSymbol, error.to_string()))?;
    if service.settings.symbols.contains(&symbol) {
        return Ok(symbol);
    }
    let served: Vec<&str> = service.settings.symbols.iter().map(AsRef::as_ref).collect();
    Err(Problem::new(
        Kind::UnknownSymbol,
        format!(
            "{symbol} is not served here: add it to spec.symbols; served are {}",
            served.join(", ")
        ),
    ))
}

/// Predict the next session's close
#[utoipa::path(get, path = "/api/v1/predict/{symbol}",
    params(("symbol" = String, Path, description = "A served symbol; lower case is understood", example = "NVDA")),
    responses(
        (status = 200, body = Prediction),
        (status = 400, body = ProblemDocument, content_type = "application/problem+json", description = "Not a symbol"),
        (status = 404, body = ProblemDocument, content_type = "application/problem+json", description = "Not served here"),
        (status = 503, body = ProblemDocument, content_type = "application/problem+json", description = "No model, or no usable history")))]
async fn predict(State(service): Shared, symbol: PathSymbol) -> Result<Json<Prediction>, Problem> {
    let symbol = served_symbol(&service, symbol)?;
    let (entry, hit) = service.predict(&symbol).await?;
    let forecast = entry.forecast.clone();
    Ok(Json(Prediction {
        data_age: calendar::sessions_between(forecast.as_of, service.clock.today()),
        cache: if hit {
            CacheState::Hit
        } else {
            CacheState::Miss
        },
        forecast,
    }))
}

/// The last stored sessions of a symbol
#[utoipa::path(get, path = "/api/v1/historical/{symbol}",
    params(("symbol" = String, Path, description = "A served symbol", example = "NVDA"), HistoricalQuery),
    responses(
        (status = 200, body = Historical),
        (status = 400, body = ProblemDocument, content_type = "application/problem+json", description = "Not a symbol, or days out of range"),
        (status = 404, body = ProblemDocument, content_type = "application/problem+json", description = "Not served here"),
        (status = 503, body = ProblemDocument, content_type = "application/problem+json", description = "No usable history")))]
async fn historical(
    State(service): Shared,
    symbol: PathSymbol,
    query: Result<Query<HistoricalQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Historical>, Problem> {
    let symbol = served_symbol(&service, symbol)?;
    let refused = || {
        Problem::new(
            Kind::InvalidQuery,
            format!("days must be a whole number from 1 to {MAX_DAYS}"),
        )
    };
    let Query(query) = query.map_err(|_| refused())?;
    let days = match query.days {
        None => DEFAULT_DAYS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|days| (1..=MAX_DAYS).contains(days))
            .ok_or_else(refused)?,
    };
    let bars = service.bars(&symbol).await?;
    let recent = &bars[bars.len().saturating_sub(days)..];
    let data = recent.iter().map(|bar| Session {
        date: bar.date,
        open: bar.open,
        high: bar.high,
        low: bar.low,
        close: bar.close,
        volume: bar.volume,
    });
    Ok(Json(Historical {
        symbol: symbol.to_string(),
        days,
        data: data.collect(),
    }))
}

/// State of model, volume, symbols, cache and settings
#[utoipa::path(get, path = "/api/v1/stats", responses((status = 200, body = Stats)))]
async fn stats_document(State(service): Shared) -> Result<Json<Stats>, Problem> {
    service.cache.count().await;
    Ok(Json(blocking(move || stats::collect(&service)).await?))
}

/// Whether predictions are served
#[utoipa::path(get, path = "/api/v1/health",
    responses((status = 200, body = Health), (status = 503, body = Health, description = "No predictions")))]
async fn health(State(service): Shared) -> Response {
    let (status, problems) = stats::status(&service);
    let code = match status {
        Status::Ok | Status::Degraded => StatusCode::OK,
        Status::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(Health { status, problems })).into_response()
}

/// Forget all cached predictions; for loopback, or with a token
#[utoipa::path(post, path = "/api/v1/cache/clear",
    responses(
        (status = 200, body = Cleared),
        (status = 403, body = ProblemDocument, content_type = "application/problem+json", description = "Neither loopback nor the right token")))]
async fn clear_cache(
    State(service): Shared,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Json<Cleared>, Problem> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    // Behind a proxy on the same host every caller looks like loopback, so a forwarded request needs the token.
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let is_loopback = peer.ip().to_canonical().is_loopback() && !forwarded;
    let file = service.settings.token_file.clone();
    let allowed =
        is_loopback || blocking(move || token::matches(file.as_deref(), given.as_deref())).await?;
    if !allowed {
        return Err(Problem::new(
            Kind::Forbidden,
            "only from loopback, or with the bearer token of the file that STOCKPREDICTOR_TOKEN_FILE names",
        ));
    }
    let cleared = service.cache.clear().await;
    info!(cleared, "the prediction cache was cleared");
    Ok(Json(Cleared { cleared }))
}

/// Whether the process lives
#[utoipa::path(get, path = "/livez", responses((status = 200, body = String)))]
async fn live() -> &'static str {
    "ok\n"
}

/// Whether requests should come here
#[utoipa::path(get, path = "/readyz",
    responses((status = 200, body = String), (status = 503, body = String, description = "Says what is waited for")))]
async fn ready(State(service): Shared) -> Response {
    match service.ready() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        )
            .into_response(),
    }
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
async fn metrics(State(service): Shared) -> Result<Response, Problem> {
    let failed = |_| Problem::new(Kind::Internal, "metrics could not be written");
    let text = scrape::text(&service).await.map_err(failed)?;
    Ok(([(header::CONTENT_TYPE, scrape::CONTENT_TYPE)], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_route_with_its_problems() {
        let document = serde_json::to_value(document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let expected = [
            "/api/v1/predict/{symbol}",
            "/api/v1/historical/{symbol}",
            "/api/v1/stats",
            "/api/v1/health",
            "/api/v1/cache/clear",
            "/livez",
            "/readyz",
            "/metrics",
        ];
        for path in expected {
            assert!(paths.contains_key(path), "{path}");
        }
        assert_eq!(paths.len(), expected.len());
        let refused = &paths["/api/v1/predict/{symbol}"]["get"]["responses"]["503"];
        assert!(
            refused["content"]["application/problem+json"].is_object(),
            "{refused}"
        );
    }
}
