//! Starting the binary, talking HTTP to it, and models whose answers are known.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use prost::Message;
use serde_json::{Value, json};
use stockpredictor_predictor::feature::{FEATURES, WINDOW};
use stockpredictor_predictor::model::config::FeatureSet;
use stockpredictor_predictor::model::folder::hex_sha256;
use stockpredictor_predictor::model::onnx::{
    Dimension, FLOAT, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo,
};
use stockpredictor_predictor::serve::clock::Clock;
use stockpredictor_predictor::serve::state::Service as Library;
use stockpredictor_predictor::serve::writer::Disk;
use stockpredictor_predictor::settings::{Flags, Settings, resolve};

use super::exposition::Exposition;

/// The longest that any wait of these tests may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The shipped model's folder, relative to the root.
pub const MODEL: &str = "ml_models/nvda_lstm_model";

/// The binary with a clean environment.
pub fn predictor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_predictor"));
    command.env_clear();
    // The container's and the developer's library is found by the binary itself, or named here.
    if let Some(library) = std::env::var_os("ORT_DYLIB_PATH") {
        command.env("ORT_DYLIB_PATH", library);
    }
    command
}

/// A volume in a scratch folder, or one that is elsewhere.
pub struct Volume {
    root: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Volume {
    /// A new volume with model and samples.
    pub fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    /// As [`Volume::new`], in another folder.
    pub fn new_in(parent: &Path) -> Self {
        let folder = tempfile::tempdir_in(parent).unwrap();
        let volume = Self {
            root: folder.path().join("volume"),
            _folder: Some(folder),
        };
        let done = predictor()
            .args(["storage", "setup", "--samples", "--tree-only", "--root"])
            .arg(volume.root())
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        volume
    }

    /// A volume that was set up by the test.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            _folder: None,
        }
    }

    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    pub fn history(&self, symbol: &str) -> PathBuf {
        self.path(&format!("stock_data/historical/{symbol}/{symbol}.csv"))
    }

    pub fn cache_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("ml_cache/predictions_cache")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .collect()
    }

    /// Puts a version whose quantiles are the volatility times `factors`, and makes it the current one.
    pub fn put_model(&self, version: &str, factors: [f32; 3]) {
        write_model(
            &self.path(MODEL).join(version),
            version,
            &constant_graph(factors),
        );
        self.set_current(version);
    }

    pub fn set_current(&self, version: &str) {
        let (partial, current) = (
            self.path(MODEL).join(".next"),
            self.path(MODEL).join("current"),
        );
        fs::write(&partial, format!("{version}\n")).unwrap();
        fs::rename(partial, current).unwrap();
    }
}

/// A graph that multiplies the volatility by three constants, whatever the window is.
pub fn constant_graph(factors: [f32; 3]) -> Model {
    let axes = |sizes: &[usize]| {
        let batch = Dimension {
            dim_param: Some("batch".to_owned()),
            ..Dimension::default()
        };
        let fixed = sizes.iter().map(|size| Dimension {
            dim_value: i64::try_from(*size).ok(),
            ..Dimension::default()
        });
        Shape {
            dim: std::iter::once(batch).chain(fixed).collect(),
        }
    };
    let value = |name: &str, sizes: &[usize]| ValueInfo {
        name: name.to_owned(),
        r#type: Some(Type {
            tensor_type: Some(TensorType {
                elem_type: FLOAT,
                shape: Some(axes(sizes)),
            }),
        }),
    };
    let graph = Graph {
        name: "constant".to_owned(),
        node: vec![Node {
            op_type: "Mul".to_owned(),
            input: vec!["volatility".to_owned(), "factors".to_owned()],
            output: vec!["quantiles".to_owned()],
            ..Node::default()
        }],
        initializer: vec![Tensor {
            name: "factors".to_owned(),
            data_type: FLOAT,
            dims: vec![1, 3],
            raw_data: factors
                .iter()
                .flat_map(|factor| factor.to_le_bytes())
                .collect(),
            ..Tensor::default()
        }],
        input: vec![
            value("window", &[WINDOW, FEATURES]),
            value("volatility", &[1]),
        ],
        output: vec![value("quantiles", &[3])],
        ..Graph::default()
    };
    Model {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: 17,
        }],
        ..Model::default()
    }
}

/// A scaler that changes nothing.
pub fn plain_scaler() -> Value {
    let (mean, std) = ([0.0; FEATURES], [1.0; FEATURES]);
    json!({"format": 1, "features": FeatureSet::ours(), "mean": mean, "std": std, "clip": 5.0})
}

/// Writes a version folder around a graph.
pub fn write_model(folder: &Path, version: &str, graph: &Model) {
    let (onnx, scaler) = (graph.encode_to_vec(), plain_scaler().to_string());
    let config = json!({
        "format": 1, "name": "nvda_lstm_model", "version": version,
        "sha256": {"model.onnx": hex_sha256(&onnx), "scaler.json": hex_sha256(scaler.as_bytes())},
        "features": FeatureSet::ours(), "window": WINDOW, "quantiles": [0.1, 0.5, 0.9],
        "training_span": {"first": "2013-01-02", "last": "2023-12-29"}, "symbols": ["NVDA"], "seed": 1
    });
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("model.onnx"), onnx).unwrap();
    fs::write(folder.join("scaler.json"), scaler).unwrap();
    fs::write(folder.join("model_config.json"), config.to_string()).unwrap();
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it is a problem of that kind and returns its explanation.
    pub fn problem(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert!(
            self.head.contains("content-type: application/problem+json"),
            "{self:?}"
        );
        let document = self.json();
        assert_eq!(
            document["type"],
            format!("urn:stockpredictor:problem:{kind}"),
            "{self:?}"
        );
        assert_eq!(document["status"], status, "{self:?}");
        document["detail"].as_str().unwrap().to_owned()
    }
}

/// A running service; ended when it is dropped.
pub struct Service {
    child: Child,
    pub address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Service {
    /// Serves the volume and waits until the model is decided on.
    pub fn start(volume: &Volume, arguments: &[&str]) -> Self {
        Self::start_with(volume, arguments, &[])
    }

    pub fn start_with(volume: &Volume, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_as(predictor(), volume, arguments, environment)
    }

    /// As [`Service::start`], by a command that becomes the binary once it is given its arguments.
    pub fn start_as(
        mut command: Command,
        volume: &Volume,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut child = command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--model-check-interval",
                "1s",
                "--root",
            ])
            .arg(volume.root())
            .args(arguments)
            .env("STOCKPREDICTOR_DRAIN", "1s")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stdout) = (Arc::clone(&log), child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let mut service = Self {
            child,
            address: String::new(),
            log,
        };
        let begun = Instant::now();
        loop {
            let lines = service.log();
            let listening = lines
                .iter()
                .find(|line| line.contains("\"message\":\"listening\""));
            let decided = lines
                .iter()
                .any(|line| line.contains("the model is in use") || line.contains("was refused"));
            if let (Some(line), true) = (listening, decided) {
                let event: Value = serde_json::from_str(line).unwrap();
                event["address"]
                    .as_str()
                    .unwrap()
                    .clone_into(&mut service.address);
                return service;
            }
            if let Some(status) = service.child.try_wait().unwrap() {
                panic!("the service ended with {status}: {lines:#?}");
            }
            assert!(begun.elapsed() < PATIENCE, "{lines:#?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "")
    }

    pub fn request(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.try_request(method, path, headers).unwrap()
    }

    pub fn try_request(&self, method: &str, path: &str, headers: &str) -> std::io::Result<Answer> {
        request(&self.address, method, path, headers)
    }

    pub fn predict(&self, symbol: &str) -> Value {
        let answer = self.get(&format!("/api/v1/predict/{symbol}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub fn stats(&self) -> Value {
        self.get("/api/v1/stats").json()
    }

    /// What a scrape finds, checked to be well-formed.
    pub fn metrics(&self) -> Exposition {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(answer.head.contains(kind), "{answer:?}");
        Exposition::parse(&answer.body)
    }

    pub fn signal_term(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the service does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM and the end.
    pub fn stop(mut self) {
        self.signal_term();
        assert!(self.wait().success());
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service without its program, on a disk of the test's choice.
pub fn in_process(volume: &Volume, disk: impl Disk) -> Arc<Library> {
    let mut flags = Flags::default();
    flags.0.insert("root", volume.root().display().to_string());
    let resolved = resolve(&flags, &|_: &str| None, None).unwrap();
    let settings = Settings::from_resolved(&resolved).unwrap();
    Arc::new(Library::new(settings, Clock::system(), disk, 1).unwrap())
}

/// One request over a connection of its own.
pub fn request(address: &str, method: &str, path: &str, headers: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| std::io::Error::other(text.clone()))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.ok_or_else(|| std::io::Error::other(text.clone()))?,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

/// Tries until it holds.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    within(PATIENCE, what, holds);
}

/// As [`eventually`], for what may take longer.
pub fn within(patience: Duration, what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < patience,
            "not within {patience:?}: {what}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}
