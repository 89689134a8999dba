//! Starting the binary on scratch volumes, and reading what it says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// The shipped model's folder, relative to the root.
pub const MODEL: &str = "ml_models/nvda_lstm_model";

/// The binary with a clean environment.
pub fn predictor(command: &str, root: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_predictor"));
    program.env_clear();
    if let Some(library) = std::env::var_os("ORT_DYLIB_PATH") {
        program.env("ORT_DYLIB_PATH", library);
    }
    program.args(["storage", command, "--root"]).arg(root);
    program
}

pub fn run(command: &str, root: &Path, arguments: &[&str]) -> Output {
    predictor(command, root).args(arguments).output().unwrap()
}

/// Runs it and demands an exit code; gives what it printed as JSON.
pub fn report(command: &str, root: &Path, arguments: &[&str], code: i32) -> Value {
    let done = predictor(command, root)
        .args(arguments)
        .args(["--output", "json"])
        .output()
        .unwrap();
    assert_eq!(
        done.status.code(),
        Some(code),
        "{command} {arguments:?}: {done:?}"
    );
    json(&done)
}

/// Runs it and demands that it fails; gives what it said.
pub fn refusal(command: &str, root: &Path, arguments: &[&str]) -> String {
    let done = run(command, root, arguments);
    assert_eq!(
        done.status.code(),
        Some(1),
        "{command} {arguments:?}: {done:?}"
    );
    String::from_utf8(done.stderr).unwrap()
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A new volume with model and samples.
pub fn volume() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("volume");
    let done = run("setup", &root, &["--samples"]);
    assert!(done.status.success(), "{done:?}");
    (folder, root)
}

/// Writes a file that was last changed so many hours ago.
pub fn old(path: &Path, hours: u64) {
    fs::write(path, "x").unwrap();
    let file = fs::File::open(path).unwrap();
    let time = SystemTime::now() - Duration::from_hours(hours);
    file.set_modified(time).unwrap();
}

/// Every file of the volume with its content, but not what is never in a backup.
pub fn content(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let is_ours = [".stockpredictor", "backups", "monitoring"];
            if is_ours.iter().any(|own| name == Path::new(own)) {
                continue;
            }
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}
