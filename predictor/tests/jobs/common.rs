//! A volume with samples and a model, destinations beside it, and the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;

/// Uid of the StorageBackup of these tests.
pub const BACKUP: &str = "0b0f8f6e-55a8-4c55-8a55-7d6f0d6c1a01";
/// Longest that anything here may take.
pub const LIMIT: Duration = Duration::from_mins(2);
const MESSAGE_LIMIT: u64 = 4096;

/// How a job ended.
pub struct Done {
    pub code: Option<i32>,
    pub message: Value,
    pub output: Output,
}

impl Done {
    /// The message of a job that must have succeeded.
    pub fn good(self) -> Value {
        assert_eq!(self.code, Some(0), "{:?}", self.output);
        assert_eq!(self.message["result"], "succeeded");
        self.message
    }

    /// The message of a job that must have failed, with this word and exit code.
    pub fn bad(self, reason: &str, code: i32) -> Value {
        assert_eq!(self.message["reason"], reason, "{:?}", self.output);
        assert_eq!(self.code, Some(code), "{:?}", self.output);
        assert_eq!(self.message["result"], "failed");
        self.message
    }
}

/// A folder with a volume and whatever a test puts beside it.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub root: PathBuf,
}

impl Bench {
    /// A volume that was set up.
    pub fn new() -> Self {
        let bench = Self::empty();
        let done = program()
            .args(["storage", "setup", "--samples", "--tree-only", "--root"])
            .arg(&bench.root)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        bench
    }

    /// An empty folder for a volume.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("volume");
        fs::create_dir(&root).unwrap();
        Self { folder, root }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new folder beside the volume.
    pub fn make(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn job(&self, document: &Value) -> Done {
        Self::wait(self.spawn(document))
    }

    pub fn spawn(&self, document: &Value) -> (Child, PathBuf) {
        let told = self.path(&format!("message-{}", Uuid::new_v4()));
        let child = program()
            .args(["storage", "job", "--termination-message"])
            .arg(&told)
            .env("STOCKPREDICTOR_JOB", document.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        (child, told)
    }

    pub fn wait((child, told): (Child, PathBuf)) -> Done {
        let output = child.wait_with_output().unwrap();
        let text = fs::read(&told).unwrap_or_default();
        assert!(text.len() as u64 <= MESSAGE_LIMIT, "{output:?}");
        if !text.is_empty() {
            assert_eq!(text, output.stdout.trim_ascii_end(), "the log has the same");
        }
        Done {
            code: output.status.code(),
            message: serde_json::from_slice(&text).unwrap_or(Value::Null),
            output,
        }
    }

    /// A backup to the volume's own folder.
    pub fn backup(&self, changes: &Value) -> Done {
        let document = json!({
            "version": 1, "job": "backup", "root": self.root, "origin": origin(), "mode": "full",
            "destinations": [{"name": "volume", "path": "backups"}],
        });
        self.job(&with(document, changes))
    }

    /// A step of a restore from the volume's own folder.
    pub fn restore(&self, job: &str, id: Uuid, changes: &Value) -> Done {
        let document = json!({
            "version": 1, "job": job, "restore": id, "root": self.root, "origin": origin(),
            "source": {"name": "volume", "path": "backups"},
        });
        self.job(&with(document, changes))
    }

    /// Preflight of the newest backup; its name and SHA-256, as the later steps get them.
    pub fn chosen(&self, id: Uuid) -> Value {
        let told = self
            .restore("preflight", id, &json!({"backup": "latest"}))
            .good();
        json!({"backup": told["restore"]["name"], "sha256": told["restore"]["sha256"]})
    }

    /// A key pair: the public key and the private one's file.
    pub fn key(&self, name: &str) -> (String, PathBuf) {
        let identity = age::x25519::Identity::generate();
        let path = self.path(name);
        fs::write(&path, identity.to_string().expose_secret()).unwrap();
        (identity.to_public().to_string(), path)
    }
}

pub fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_predictor"));
    program.env_clear();
    if let Some(library) = std::env::var_os("ORT_DYLIB_PATH") {
        program.env("ORT_DYLIB_PATH", library);
    }
    program
}

pub fn origin() -> Value {
    json!({"namespace": "trading", "predictor": "nvda", "backup": BACKUP})
}

/// The document with some members replaced; `null` takes one away.
pub fn with(mut document: Value, changes: &Value) -> Value {
    let members = document.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    document
}

/// Names in a folder that aren't hidden, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// The archives in a folder, sorted.
pub fn archives(folder: &Path) -> Vec<String> {
    let is_archive = |name: &String| name.contains(".tar.gz") && !name.contains(".pin.");
    names(folder).into_iter().filter(is_archive).collect()
}

pub fn pins(folder: &Path) -> Vec<String> {
    let is_pin = |name: &String| name.contains(".pin.");
    names(folder).into_iter().filter(is_pin).collect()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Changes a byte in the middle.
pub fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(path, bytes).unwrap();
}

/// Names of archives have seconds; the next one needs another.
pub fn next_second() {
    thread::sleep(Duration::from_millis(1100));
}

/// Waits for something that a running program does.
pub fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Many files that don't compress, so that a job takes a while.
pub fn fill(folder: &Path, files: usize, bytes: usize) {
    fs::create_dir_all(folder).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for file in 0..files {
        let content: Vec<u8> = (0..bytes / 8)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect();
        fs::write(folder.join(format!("{file:05}")), content).unwrap();
    }
}

/// Ends a program as Kubernetes does.
pub fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// A small file system; only root can have one.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn mount(path: &Path, bytes: u64) -> Option<Self> {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={bytes}"))
            .arg("tmpfs")
            .arg(path)
            .output();
        done.is_ok_and(|done| done.status.success())
            .then(|| Self(path.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
