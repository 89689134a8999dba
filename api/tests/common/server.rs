//! A real API server for a test: etcd and kube-apiserver on loopback ports, in a folder that vanishes with them.
//!
//! In: the folder with the binaries. Out: a kubeconfig and a way to call kubectl. Every wait is bounded, and the
//! processes are killed by their handles when the value is dropped, also when the test panics.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long the server may take until it answers.
const START: Duration = Duration::from_secs(90);

/// What can go wrong, as a sentence.
pub type Failure = String;

/// A running API server.
pub struct Server {
    /// Killed in this order; kube-apiserver would take a minute to end on its own.
    processes: Vec<Child>,
    tools: PathBuf,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts both processes and waits until the server is ready.
    pub fn start() -> Result<Self, Failure> {
        let tools = tools()?;
        let directory =
            tempfile::tempdir().map_err(|error| format!("no scratch folder: {error}"))?;
        let mut server = Self {
            processes: Vec::new(),
            tools,
            directory,
        };
        let [etcd, peer, port] = free_ports()?;
        let etcd = format!("http://127.0.0.1:{etcd}");
        let peer = format!("http://127.0.0.1:{peer}");
        server.file("tokens.csv", "test,admin,admin,system:masters\n")?;
        server.file("kubeconfig", &kubeconfig(port))?;
        server.signing_key()?;
        server.spawn(
            "etcd",
            &[
                "--data-dir=etcd",
                "--unsafe-no-fsync",
                "--log-level=error",
                &format!("--listen-client-urls={etcd}"),
                &format!("--advertise-client-urls={etcd}"),
                &format!("--listen-peer-urls={peer}"),
                &format!("--initial-advertise-peer-urls={peer}"),
                &format!("--initial-cluster=default={peer}"),
            ],
        )?;
        server.spawn(
            "kube-apiserver",
            &[
                &format!("--etcd-servers={etcd}"),
                &format!("--secure-port={port}"),
                "--bind-address=127.0.0.1",
                // No pod will ever look for the server, and it refuses to advertise a loopback address.
                "--advertise-address=192.0.2.1",
                "--endpoint-reconciler-type=none",
                "--cert-dir=pki",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-key-file=sa.key",
                "--service-account-signing-key-file=sa.key",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--token-auth-file=tokens.csv",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
            ],
        )?;
        server.wait()?;
        Ok(server)
    }

    /// The same, with what assigns pods to nodes and makes pods of Deployments and Jobs. Nodes are what a test creates:
    /// nobody looks whether they live, and nobody runs their pods.
    pub fn start_with_scheduler() -> Result<Self, Failure> {
        let mut server = Self::start()?;
        server.spawn(
            "kube-scheduler",
            &[
                "--kubeconfig=kubeconfig",
                "--leader-elect=false",
                "--secure-port=0",
            ],
        )?;
        server.spawn(
            "kube-controller-manager",
            &[
                "--kubeconfig=kubeconfig",
                "--leader-elect=false",
                "--secure-port=0",
                "--controllers=deployment-controller,replicaset-controller,job-controller,persistentvolume-binder-controller",
            ],
        )?;
        Ok(server)
    }

    /// Sends a signal, such as `STOP`, to kube-apiserver.
    pub fn signal(&self, name: &str) -> Result<(), Failure> {
        // The first process is etcd, and the newest is in front.
        let server = self.processes.iter().rev().nth(1);
        let pid = server.ok_or("there is no kube-apiserver")?.id();
        let status = Command::new("kill")
            .args([format!("-{name}"), pid.to_string()])
            .status()
            .map_err(|error| format!("can't run kill: {error}"))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("kill -{name} {pid} failed"))
        }
    }

    /// The kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// The folder with kubectl.
    pub fn tools(&self) -> &Path {
        &self.tools
    }

    /// Runs kubectl with `input` on its standard input.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<Output, Failure> {
        let mut child = Command::new(self.tools.join("kubectl"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--request-timeout=30s")
            .args(arguments)
            .current_dir(self.directory.path())
            // Its discovery cache must not outlive the server, nor be an older server's.
            .env("HOME", self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("can't run kubectl: {error}"))?;
        let mut stdin = child.stdin.take().ok_or("kubectl has no standard input")?;
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child
            .wait_with_output()
            .map_err(|error| format!("kubectl did not end: {error}"))?;
        // A kubectl that ends early closes the pipe; its own message says why.
        let _ = writer.join();
        Ok(output)
    }

    fn file(&self, name: &str, content: &str) -> Result<(), Failure> {
        std::fs::write(self.directory.path().join(name), content)
            .map_err(|error| format!("can't write {name}: {error}"))
    }

    fn signing_key(&self) -> Result<(), Failure> {
        let output = Command::new("openssl")
            .args(["genrsa", "-out", "sa.key", "2048"])
            .current_dir(self.directory.path())
            .output()
            .map_err(|error| format!("openssl is needed for a signing key: {error}"))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn spawn(&mut self, name: &str, arguments: &[&str]) -> Result<(), Failure> {
        let log = std::fs::File::create(self.directory.path().join(format!("{name}.log")))
            .map_err(|error| format!("can't write the log of {name}: {error}"))?;
        let copy = log
            .try_clone()
            .map_err(|error| format!("can't share the log of {name}: {error}"))?;
        let child = Command::new(self.tools.join(name))
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy)
            .spawn()
            .map_err(|error| format!("can't start {name} in {}: {error}", self.tools.display()))?;
        self.processes.insert(0, child);
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            if self
                .kubectl(&["get", "--raw", "/readyz"], "")?
                .status
                .success()
            {
                return Ok(());
            }
            let ended = self
                .processes
                .iter_mut()
                .any(|process| !matches!(process.try_wait(), Ok(None)));
            if ended || began.elapsed() > START {
                let log = std::fs::read_to_string(self.directory.path().join("kube-apiserver.log"))
                    .unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                return Err(format!(
                    "the API server did not get ready; the last lines of its log:\n{}",
                    tail.join("\n")
                ));
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The folder with the binaries: `STOCKPREDICTOR_TOOLS`, else where e2e/cluster/tools.sh puts them.
fn tools() -> Result<PathBuf, Failure> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = variable("STOCKPREDICTOR_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|path| path.join("stockpredictor")))
        .or_else(|| variable("HOME").map(|path| path.join(".cache/stockpredictor")));
    let tools = variable("STOCKPREDICTOR_TOOLS")
        .or_else(|| cache.map(|path| path.join("bin")))
        .ok_or("set STOCKPREDICTOR_TOOLS to the folder with etcd, kube-apiserver and kubectl")?;
    for name in ["etcd", "kube-apiserver", "kubectl"] {
        if !tools.join(name).exists() {
            return Err(format!(
                "{name} is not in {}: run e2e/cluster/tools.sh cluster, or set STOCKPREDICTOR_TOOLS",
                tools.display()
            ));
        }
    }
    Ok(tools)
}

/// Ports that were free a moment ago. All are held until all are known, so they differ.
fn free_ports<const N: usize>() -> Result<[u16; N], Failure> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .map_err(|error| format!("no free port: {error}"))?;
        *port = listener
            .local_addr()
            .map_err(|error| format!("no free port: {error}"))?
            .port();
        held.push(listener);
    }
    Ok(ports)
}

fn kubeconfig(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: \"https://127.0.0.1:{port}\", insecure-skip-tls-verify: true}}}}]\n\
         users: [{{name: test, user: {{token: test}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n"
    )
}
