//! What bounds a request: time, number, size, and a mistake of the program. What bounds the sessions: the CPU limit.

use std::fs;
use std::future::pending;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use http::{Request, StatusCode};
use stockpredictor_predictor::serve::http::with_limits;
use stockpredictor_predictor::serve::writer::RealDisk;
use tower::ServiceExt;

use super::common::{Volume, in_process, predictor};

/// Routes that no service should have, within the service's limits.
fn router(volume: &Volume) -> Router {
    async fn fails() {
        panic!("on purpose");
    }
    let routes = Router::new()
        .route("/hangs", get(pending::<()>))
        .route("/fails", get(fails))
        .route("/livez", get(|| async { "ok" }));
    with_limits(routes, &in_process(volume, RealDisk))
}

async fn ask(router: &Router, path: &str) -> Response {
    router
        .clone()
        .oneshot(Request::get(path).body(Body::empty()).unwrap())
        .await
        .unwrap()
}

async fn kind(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 16)
        .await
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    document["type"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_a_timeout() {
    let volume = Volume::new();
    let response = ask(&router(&volume), "/hangs").await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(kind(response).await, "timeout");
}

#[tokio::test]
async fn a_mistake_of_the_program_is_one_failed_request() {
    let volume = Volume::new();
    let router = router(&volume);
    let response = ask(&router, "/fails").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(kind(response).await, "internal");
    assert_eq!(ask(&router, "/livez").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn too_many_requests_are_refused_while_probes_are_answered() {
    let volume = Volume::new();
    let router = Arc::new(router(&volume));
    let hanging: Vec<_> = (0..256)
        .map(|_| {
            let router = Arc::clone(&router);
            tokio::spawn(async move { ask(&router, "/hangs").await })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let response = ask(&router, "/hangs").await;
    assert_eq!(response.headers()["retry-after"], "10");
    assert_eq!(kind(response).await, "overloaded");
    assert_eq!(ask(&router, "/livez").await.status(), StatusCode::OK);
    for task in hanging {
        task.abort();
    }
}

/// A control group with the time of one core, where this machine lets tests make one.
struct OneCore(PathBuf);

impl OneCore {
    fn new() -> Option<Self> {
        // Version 1 has a hierarchy for the CPU alone, version 2 one for everything.
        let (parent, limits) = match Path::new("/sys/fs/cgroup/cpu") {
            one if one.is_dir() => (
                one,
                vec![
                    ("cpu.cfs_period_us", "100000"),
                    ("cpu.cfs_quota_us", "100000"),
                ],
            ),
            _ => (
                Path::new("/sys/fs/cgroup"),
                vec![("cpu.max", "100000 100000")],
            ),
        };
        let folder = parent.join(format!("stockpredictor-test-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let group = Self(folder);
        for (name, limit) in limits {
            fs::write(group.0.join(name), limit).ok()?;
        }
        Some(group)
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The sessions that a service opens for its model after it wrote its process id into `group`.
fn sessions_in(group: &Path) -> u64 {
    let (volume, predictor) = (Volume::new(), predictor());
    let environment = predictor.get_envs();
    let mut child = Command::new("/bin/sh")
        .env_clear()
        .envs(environment.filter_map(|(name, value)| Some((name, value?))))
        .args(["-c", "echo $$ >\"$1\" && shift && exec \"$@\"", "sh"])
        .args([group.as_os_str(), predictor.get_program()])
        .args(["serve", "--listen", "127.0.0.1:0", "--root"])
        .arg(volume.root())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let listening = lines.find(|line| line.contains("\"message\":\"listening\""));
    child.kill().unwrap();
    child.wait().unwrap();
    let event: serde_json::Value = serde_json::from_str(&listening.unwrap()).unwrap();
    event["sessions"].as_u64().unwrap()
}

#[test]
fn a_cpu_limit_of_one_core_leaves_one_session() {
    let Some(group) = OneCore::new() else {
        eprintln!(
            "SKIPPED: this user may not make a control group; the unit test of serve/pool.rs covers the arithmetic"
        );
        return;
    };
    assert_eq!(sessions_in(&group.0.join("cgroup.procs")), 1);
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    assert_eq!(sessions_in(Path::new("/dev/null")), cores.min(64));
}
