//! The metrics of contracts/metrics.json: each of them, no others, and no more series for more requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use serde_json::Value;
use stockpredictor_predictor::serve::api;
use stockpredictor_predictor::serve::http::with_limits;
use stockpredictor_predictor::serve::writer::RealDisk;
use tower::ServiceExt;

use super::common::{Service, Volume, eventually, in_process};
use super::exposition::Exposition;
use super::outcomes::Recent;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The predictor's metrics in the contract: by name, what type, labels and help they have.
fn contract() -> BTreeMap<String, (String, BTreeSet<String>, String)> {
    let text = fs::read_to_string(repository().join("contracts/metrics.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let metrics = document["metrics"].as_array().unwrap().iter();
    let own = metrics.filter(|metric| metric["source"] == "predictor");
    own.map(|metric| {
        let text = |member: &str| metric[member].as_str().unwrap().to_owned();
        let labels = metric["labels"].as_array().unwrap().iter();
        let labels = labels.map(|label| label.as_str().unwrap().to_owned());
        (text("name"), (text("type"), labels.collect(), text("help")))
    })
    .collect()
}

/// What was answered, in the contract's terms.
fn answered(metrics: &Exposition) -> BTreeMap<String, (String, BTreeSet<String>, String)> {
    let families = metrics.families.iter().map(|(name, family)| {
        let name = match family.kind.as_str() {
            "counter" => format!("{name}_total"),
            _ => name.clone(),
        };
        // The encoder ends each help with a full stop.
        let help = family.help.strip_suffix('.').unwrap().to_owned();
        (name, (family.kind.clone(), family.label_names(), help))
    });
    families.collect()
}

/// Lints by promtool; prints what it says.
fn lint(text: &str) {
    let mut child = Command::new(repository().join("scripts/metrics_lint.sh"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let done = child.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn after_traffic_every_metric_of_the_contract_is_there_and_no_other() {
    let recent = Recent::new();
    let service = Service::start(recent.volume(), &["--cleanup-interval", "1s"]);
    recent.predict(&service);
    assert_eq!(service.predict("NVDA")["cache"], "hit");
    assert_eq!(service.get("/api/v1/predict/MSFT").status, 404);
    recent.happen();
    let all = contract();
    assert!(all.len() > 30, "{all:?}");
    eventually("every metric is there", || {
        service.metrics().families.len() >= all.len()
    });
    let metrics = service.metrics();
    assert_eq!(answered(&metrics), all);
    lint(&metrics.text);
    let value = |name: &str, labels: &str| metrics.value(name, labels);
    assert_eq!(value("stockpredictor_cache_hits_total", ""), Some(1.0));
    assert_eq!(
        value("stockpredictor_cache_entries_limit", ""),
        Some(1000.0)
    );
    assert_eq!(
        value("stockpredictor_cleanup_interval_seconds", ""),
        Some(1.0)
    );
    assert_eq!(
        value("stockpredictor_data_age_limit_sessions", ""),
        Some(3.0)
    );
    let done = value("stockpredictor_cleanup_runs_total", "result=\"done\"");
    assert!(done >= Some(1.0), "{done:?}");
    let last = value("stockpredictor_cleanup_last_success_timestamp_seconds", "").unwrap();
    let age = jiff::Timestamp::now().as_second() as f64 - last;
    assert!((0.0..60.0).contains(&age), "{age}");
    // NVDA's history is newer than the sample, the others are samples of a time long ago.
    for (symbol, sample) in [("NVDA", 0.0), ("TSLA", 1.0)] {
        let labels = format!("symbol=\"{symbol}\"");
        assert_eq!(value("stockpredictor_data_sample", &labels), Some(sample));
        let age = value("stockpredictor_data_age_sessions", &labels).unwrap();
        assert_eq!(age > 3.0, sample > 0.5, "{symbol} {age}");
    }
    let models = "directory=\"ml_models\"";
    assert!(value("persistent_storage_files_total", models) >= Some(5.0));
    assert!(value("persistent_storage_size_bytes", models) > Some(10_000.0));
    let directories = &metrics.families["persistent_storage_files_total"].samples;
    assert_eq!(directories.len(), 8, "{directories:?}");
    let id = format!("volume_id={}", service.stats()["volume"]["id"]);
    assert_eq!(value("stockpredictor_volume_info", &id), Some(1.0));
    service.stop();
}

#[test]
fn a_failed_cleanup_is_counted_as_one() {
    let volume = Volume::new();
    let service = Service::start(&volume, &["--cleanup-interval", "1s"]);
    let failures = || {
        let metrics = service.metrics();
        metrics
            .value("stockpredictor_cleanup_failures_total", "")
            .unwrap()
    };
    assert!(failures() < 0.5);
    fs::rename(
        volume.path(".stockpredictor/volume.json"),
        volume.path(".stockpredictor/hidden"),
    )
    .unwrap();
    eventually("a cleanup fails", || failures() > 0.5);
}

async fn ask(router: &Router, method: &str, path: &str) -> String {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path)
        .body(Body::empty())
        .unwrap();
    let peer: std::net::SocketAddr = "192.0.2.1:1".parse().unwrap();
    request
        .extensions_mut()
        .insert(axum::extract::ConnectInfo(peer));
    let response = router.clone().oneshot(request).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 1 << 24).await;
    String::from_utf8(body.unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_inventions_leave_the_number_of_series_as_it_was() {
    let volume = Volume::new();
    let service = in_process(&volume, RealDisk);
    let router = with_limits(api::router(service.clone()), &service);
    // One request of each kind, so that each kind has its series.
    let invented = |kind: usize, number: usize| match kind {
        0 => ("GET".to_owned(), format!("/api/v1/predict/X{number}")),
        1 => (
            "GET".to_owned(),
            format!("/api/v1/predict/no-symbol-{number}-at-all"),
        ),
        2 => (
            "GET".to_owned(),
            format!("/api/v1/historical/Y{number}?days={number}"),
        ),
        3 => ("GET".to_owned(), format!("/invented/{number}")),
        4 => (
            format!("INVENTED{number}"),
            "/api/v1/predict/NVDA".to_owned(),
        ),
        5 => (format!("INVENTED{number}"), format!("/invented/{number}")),
        6 => ("POST".to_owned(), format!("/api/v1/cache/clear?{number}")),
        _ => ("GET".to_owned(), format!("/api/v1/stats/{number}")),
    };
    for kind in 0..8 {
        let (method, path) = invented(kind, 0);
        ask(&router, &method, &path).await;
    }
    // A scrape is a request, too.
    ask(&router, "GET", "/metrics").await;
    let before = Exposition::parse(&ask(&router, "GET", "/metrics").await).series();
    for number in 1..=1250 {
        for kind in 0..8 {
            let (method, path) = invented(kind, number);
            ask(&router, &method, &path).await;
        }
    }
    let after = Exposition::parse(&ask(&router, "GET", "/metrics").await);
    assert_eq!(after.series(), before);
    let other = "route=\"other\",status=\"4xx\"";
    let counted = after.value("stockpredictor_http_requests_total", other);
    assert_eq!(counted, Some(3.0 * 1251.0), "they were counted");
}
