//! The program itself: its command line, its health server, its logs and its end.
//!
//! What needs an API server is ignored by default; `make test` runs it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

mod common;

use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Cluster, SOON, eventually};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_operator");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn said(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[test]
fn crd_writes_the_files_that_are_committed() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(&["crd", directory.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output.stderr));
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/stockpredictors.yaml");
    let written = directory.path().join("stockpredictors.yaml");
    assert_eq!(
        std::fs::read_to_string(written).unwrap(),
        std::fs::read_to_string(committed).unwrap()
    );
    assert!(said(&run(&["crd"]).stdout).contains("kind: CustomResourceDefinition"));
}

#[test]
fn run_without_an_image_says_which_option_is_missing() {
    let output = run(&["run"]);
    assert!(!output.status.success());
    assert!(
        said(&output.stderr).contains("--predictor-image"),
        "{}",
        said(&output.stderr)
    );
}

#[test]
fn run_with_a_broken_log_filter_says_how_to_write_one() {
    let output = run(&["run", "--predictor-image", "p:1", "--log", "operator=loud"]);
    assert!(!output.status.success());
    assert!(
        said(&output.stderr).contains("use a level such as info"),
        "{}",
        said(&output.stderr)
    );
}

#[test]
fn run_on_a_port_that_is_taken_says_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["run", "--predictor-image", "p:1", "--listen", &address]);
    assert!(!output.status.success());
    assert!(
        said(&output.stderr).contains("choose a free one with --listen"),
        "{}",
        said(&output.stderr)
    );
}

#[test]
fn probe_of_nothing_fails_with_a_hint() {
    let output = run(&["probe", "http://127.0.0.1:1/"]);
    assert!(!output.status.success());
    assert!(
        said(&output.stderr).contains("is the Service there"),
        "{}",
        said(&output.stderr)
    );
}

/// A running operator that is killed at the latest with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn it_is_ready_reconciles_logs_with_the_object_and_ends_soon_after_sigterm() {
    let cluster = Cluster::new("process").await;
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut operator = Running(
        Command::new(PROGRAM)
            .arg("run")
            .env("KUBECONFIG", cluster.kubeconfig())
            .env(
                "STOCKPREDICTOR_PREDICTOR_IMAGE",
                "registry.example.com/predictor:1",
            )
            .env("STOCKPREDICTOR_WATCH_NAMESPACES", "process")
            .env("STOCKPREDICTOR_LISTEN", format!("127.0.0.1:{port}"))
            .env("POD_NAME", "operator-0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    eventually(SOON, "ready", async || {
        let answer = run(&["probe", &url("/readyz")]);
        if answer.status.success() {
            Ok(())
        } else {
            Err(said(&answer.stdout) + &said(&answer.stderr))
        }
    })
    .await;
    assert!(run(&["probe", &url("/livez")]).status.success());
    cluster
        .create("nvda", &json!({"podLabels": {"team": "not a label"}}))
        .await;
    cluster
        .condition("nvda", "Reconciled", "False", "ApplyRefused")
        .await;
    let metrics = said(&run(&["probe", &url("/metrics")]).stdout);
    for part in [
        "reconciles_total{kind=\"StockPredictor\",result=\"error\"}",
        "reconcile_errors_total{kind=\"StockPredictor\",category=\"refused\"}",
        "watch_events_total{watch=\"pods\",event=\"listed\"} 1",
        "queue_depth{kind=\"StockPredictor\"} ",
        "predictor_info{namespace=\"process\",name=\"nvda\",claim=\"nvda\"} 1",
        "predictor_ready{namespace=\"process\",name=\"nvda\"} 0",
        "objects{kind=\"StockPredictor\",condition=\"Reconciled\",status=\"False\"} 1",
        "objects{kind=\"StorageRestore\",condition=\"Ready\",status=\"True\"} 0",
    ] {
        assert!(
            metrics.contains(&format!("stockpredictor_operator_{part}")),
            "no {part} in:\n{metrics}"
        );
    }

    let began = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-TERM", &operator.0.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let status = loop {
        if let Some(status) = operator.0.try_wait().unwrap() {
            break status;
        }
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it did not end within 10 s of SIGTERM"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(status.success(), "{status}");

    let mut log = String::new();
    operator
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let applied = lines
        .iter()
        .find(|line| line["message"] == "applied")
        .unwrap();
    let span = &applied["span"];
    assert_eq!(
        (&span["kind"], &span["namespace"], &span["object"]),
        (&json!("StockPredictor"), &json!("process"), &json!("nvda"))
    );
    assert!(
        lines
            .iter()
            .any(|line| line["level"] == "WARN" && line["category"] == "refused"),
        "{log}"
    );
}

#[tokio::test]
async fn a_dead_api_server_does_not_hold_the_end_up() {
    // A port that accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "a", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let mut operator = Running(
        Command::new(PROGRAM)
            .args(["run", "--predictor-image", "p:1", "--listen", "127.0.0.1:0"])
            .env("KUBECONFIG", &kubeconfig)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-TERM", &operator.0.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    while operator.0.try_wait().unwrap().is_none() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it did not end within 10 s of SIGTERM"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
