//! `/metrics` is what `contracts/metrics.json` says: each name, type, label and help, and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{Request, header};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use stockpredictor_api::{StockPredictor, StorageBackup, StorageRestore};
use stockpredictor_operator::health::Health;
use stockpredictor_operator::metrics::Metrics;
use stockpredictor_operator::metrics::objects::Measured;
use stockpredictor_operator::server;
use stockpredictor_operator::watch::Filled;
use tower::ServiceExt;

const CONTRACT: &str = include_str!("../../contracts/metrics.json");

/// What is known of a metric.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// What the contract asks of the operator. The text names a counter without `_total`, and ends help with a full stop.
fn contract() -> BTreeMap<String, Metric> {
    let contract: Value = serde_json::from_str(CONTRACT).unwrap();
    let all = contract["metrics"].as_array().unwrap().iter();
    all.filter(|metric| metric["source"] == "operator")
        .map(|metric| {
            let text = |key: &str| metric[key].as_str().unwrap().to_owned();
            let name = text("name");
            let name = if metric["type"] == "counter" {
                name.strip_suffix("_total").unwrap().to_owned()
            } else {
                name
            };
            let labels = metric["labels"].as_array().unwrap().iter();
            let known = Metric {
                kind: text("type"),
                help: format!("{}.", text("help")),
                labels: labels
                    .map(|label| label.as_str().unwrap().to_owned())
                    .collect(),
            };
            (name, known)
        })
        .collect()
}

/// Reads the text format. A metric without a sample would have no labels.
fn read(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics = BTreeMap::<String, Metric>::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, rest) = (
                words.next().unwrap(),
                words.next().unwrap(),
                words.next().unwrap(),
            );
            name.clone_into(&mut current);
            let metric = metrics.entry(current.clone()).or_default();
            match what {
                "HELP" => {
                    assert_eq!(metric.help, "", "{name} comes twice");
                    rest.clone_into(&mut metric.help);
                }
                "TYPE" => rest.clone_into(&mut metric.kind),
                "UNIT" => assert!(name.ends_with(rest), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let metric = metrics.get_mut(&current).unwrap();
        let end = line.find(['{', ' ']).unwrap();
        let suffixes: &[&str] = match metric.kind.as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let suffix = line[..end].strip_prefix(&current).unwrap();
        assert!(suffixes.contains(&suffix), "{line}");
        let labels = line[end..].split_once('}').map_or("", |(labels, _)| labels);
        for label in labels.trim_start_matches('{').split("\",") {
            let name = label.split_once('=').map_or("", |(name, _)| name);
            if !(name.is_empty() || suffix == "_bucket" && name == "le") {
                metric.labels.insert(name.to_owned());
            }
        }
    }
    metrics
}

/// A cache with one object.
fn add<K: Measured>(metrics: &Metrics, object: &Value) {
    let mut writer = Writer::<DeserializeGuard<K>>::default();
    let filled = Filled::default();
    metrics.watch(writer.as_reader(), filled.clone());
    let object: K = serde_json::from_value(object.clone()).unwrap();
    let object = DeserializeGuard(Ok(object));
    for event in [Event::Init, Event::InitApply(object), Event::InitDone] {
        writer.apply_watcher_event(&event);
    }
    filled.set();
}

/// Metrics of which each has a value.
fn all() -> Metrics {
    let metrics = Metrics::new();
    metrics.waiting("StockPredictor", 1);
    metrics.began("StockPredictor");
    metrics.ended("StockPredictor", Duration::from_secs(1), Some("conflict"));
    metrics.watch_event("pods", "apply");
    metrics.stats_poll("StockPredictor", true);
    let meta = |name: &str| json!({"namespace": "trading", "name": name, "creationTimestamp": "2025-08-01T12:00:00Z"});
    let spec = json!({"symbols": ["NVDA"], "storage": {"size": "1Gi"}});
    add::<StockPredictor>(
        &metrics,
        &json!({"metadata": meta("nvda"), "spec": spec, "status": {}}),
    );
    let run = |kind: &str| {
        json!({
            "job": "j", "kind": kind, "result": "Succeeded", "reason": "x",
            "started": "2025-08-01T12:00:00Z", "finished": "2025-08-01T12:01:00Z",
        })
    };
    let spec = json!({
        "predictorRef": {"name": "nvda"}, "schedule": "@daily", "objectives": {"rpo": "26h"},
        "verification": {"restoreTest": {"schedule": "@weekly"}},
    });
    let status = json!({
        "lastRun": run("Scheduled"), "lastTest": run("RestoreTest"), "nextRun": "2025-08-02T00:00:00Z",
        "backups": [{"name": "a", "bytes": 1, "level": "Proven", "verified": "2025-08-01T12:00:00Z"}],
        "destinations": [{"name": "volume", "archives": 1, "size": "1Ki"}],
    });
    add::<StorageBackup>(
        &metrics,
        &json!({"metadata": meta("daily"), "spec": spec, "status": status}),
    );
    let spec = json!({"source": {}, "target": {"inPlace": {"predictorRef": {"name": "nvda"}}}});
    let phase = json!({"name": "Preflight", "startedAt": "2025-08-01T12:00:00Z", "finishedAt": "2025-08-01T12:01:00Z"});
    let status = json!({"phase": "Planned", "phases": [phase]});
    add::<StorageRestore>(
        &metrics,
        &json!({"metadata": meta("back"), "spec": spec, "status": status}),
    );
    metrics
}

async fn scrape(metrics: Metrics) -> (String, String) {
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let answer = server::router(Health::default(), metrics)
        .oneshot(request)
        .await
        .unwrap();
    let kind = answer.headers()[header::CONTENT_TYPE]
        .to_str()
        .unwrap()
        .to_owned();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (kind, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_text_has_each_metric_of_the_contract_and_no_other() {
    let (_, text) = scrape(all()).await;
    let (expected, found) = (contract(), read(&text));
    for (name, metric) in &expected {
        assert_eq!(found.get(name), Some(metric), "{name} in\n{text}");
    }
    let unknown: Vec<_> = found
        .keys()
        .filter(|name| !expected.contains_key(*name))
        .collect();
    assert!(
        unknown.is_empty(),
        "not in contracts/metrics.json: {unknown:?}"
    );
}

#[tokio::test]
async fn the_answer_is_open_metrics_to_its_last_line() {
    let (kind, text) = scrape(all()).await;
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1);
    let before = text.lines().take_while(|line| *line != "# EOF");
    assert!(before.clone().all(|line| !line.is_empty()), "{text}");
}

/// The rules of Prometheus itself: names, units, helps.
#[tokio::test]
async fn promtool_finds_nothing() {
    let (_, text) = scrape(all()).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/metrics_lint.sh");
    let mut lint = Command::new(script)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = lint.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let done = lint.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}
