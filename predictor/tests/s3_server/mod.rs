//! A real S3 server on a loopback port, for tests. `make test-s3` builds it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use stockpredictor_predictor::object_store::{ObjectStore, Options};

/// The server's root user.
pub const KEY: &str = "tester";
pub const SECRET: &str = "a-secret-of-the-test";
/// Bytes of each part of an upload but the last.
pub const PART: u64 = 8 << 20;
/// How long the server may take to listen, and a part to arrive.
const START_LIMIT: Duration = Duration::from_mins(1);

/// versitygw on a temporary folder; one bucket, `backups`.
pub struct Server {
    pub process: Child,
    pub folder: tempfile::TempDir,
    pub endpoint: String,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with("http", |_| Vec::new())
    }

    /// With further options, which may name files in the server's folder.
    pub fn start_with(scheme: &str, options: impl Fn(&Path) -> Vec<String>) -> Self {
        let tools = std::env::var("STOCKPREDICTOR_TOOLS").unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("data/backups")).unwrap();
        fs::create_dir(folder.path().join("sidecar")).unwrap();
        // Free when it is asked for; nothing else on this machine takes ports of its own choice so quickly.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let process = Command::new(Path::new(&tools).join("versitygw"))
            .args(["--access", KEY, "--secret", SECRET, "--quiet", "--port"])
            .arg(address.to_string())
            .args(options(folder.path()))
            .arg("posix")
            .arg("--sidecar")
            .arg(folder.path().join("sidecar"))
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self {
            process,
            folder,
            endpoint: format!("{scheme}://{address}"),
        };
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the S3 server doesn't listen");
            thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub fn options(&self) -> Options {
        let variables = [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
        ];
        Options {
            variables: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            endpoint: Some(self.endpoint.clone()),
            ..Options::default()
        }
    }

    pub fn connect(&self) -> ObjectStore {
        ObjectStore::connect("s3://backups/here", &self.options()).unwrap()
    }

    /// Waits until so many whole parts have arrived.
    pub fn wait_for_parts(&self, count: usize) {
        let deadline = Instant::now() + START_LIMIT;
        let is_part = |path: &String| {
            let path = Path::new(path);
            let name = path.file_name().unwrap().to_str().unwrap();
            name.bytes().all(|byte| byte.is_ascii_digit())
                && fs::metadata(path).is_ok_and(|found| found.len() == PART)
        };
        while self.files().iter().filter(|path| is_part(path)).count() < count {
            assert!(Instant::now() < deadline, "{:?}", self.files());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Bytes of parts that were sent and never became an object, or were not cleaned up.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut pending = vec![self.folder.path().join("data/backups")];
        while let Some(folder) = pending.pop() {
            // The server may be renaming and removing meanwhile.
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else if fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
                    found.push(path.display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
