//! A real S3 server in the cluster, with a certificate of its own authority.

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::process::Command;

use crate::Sandbox;
use crate::sandbox::SOON;
use crate::toolbox::{image, pod_security, security};

/// The Secret with the credentials, as users make it.
pub const CREDENTIALS: &str = "store-credentials";
/// The Secret with the authority's certificate, under `ca.crt`.
pub const AUTHORITY: &str = "store-authority";
/// The name of the server's Service and pod.
const NAME: &str = "store";
const KEY: &str = "tester";
const SECRET: &str = "a-secret-of-the-test";

/// The server. Buckets are folders in its pod, under `/data/buckets`.
pub struct Store {
    /// Where it listens.
    pub endpoint: String,
    authority: String,
}

impl Store {
    /// Starts it in the sandbox's namespace, with these buckets, and makes both Secrets there.
    pub async fn start(sandbox: &Sandbox, buckets: &[&str]) -> Result<Self> {
        let host = format!("{NAME}.{}.svc", sandbox.namespace);
        let (authority, certificate, key) = certify(&host).await?;
        let store = Self {
            endpoint: format!("https://{host}:9000"),
            authority,
        };
        store.secrets(sandbox).await?;
        let mut mounts = vec![
            json!({"name": "data", "mountPath": "/data"}),
            json!({"name": "tls", "mountPath": "/tls"}),
            json!({"name": "data", "mountPath": "/made/sidecar", "subPath": "sidecar"}),
        ];
        // kubelet makes a folder for each.
        mounts.extend(buckets.iter().map(|bucket| {
            json!({"name": "data", "mountPath": format!("/made/{bucket}"), "subPath": format!("buckets/{bucket}")})
        }));
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store-tls"}, "stringData": {"tls.crt": certificate, "tls.key": key}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
                "spec": {"selector": {"app": NAME}, "ports": [{"port": 9000}]}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME, "labels": {"app": NAME}}, "spec": {
                "securityContext": pod_security(), "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": NAME, "image": image()?, "imagePullPolicy": "IfNotPresent", "securityContext": security(),
                    "command": ["/bin/versitygw", "--access", KEY, "--secret", SECRET, "--quiet", "--port", ":9000",
                        "--cert", "/tls/tls.crt", "--key", "/tls/tls.key", "posix", "--sidecar", "/data/sidecar", "/data/buckets"],
                    "volumeMounts": mounts,
                    "readinessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1},
                }],
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tls", "secret": {"secretName": "store-tls"}}],
            }},
        ]});
        sandbox.apply(&objects.to_string()).await?;
        sandbox
            .settles(("pod", NAME), "Ready", "True", "", SOON)
            .await?;
        Ok(store)
    }

    /// Makes both Secrets in another namespace too.
    pub async fn secrets(&self, sandbox: &Sandbox) -> Result<()> {
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CREDENTIALS}, "stringData": {
                "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": AUTHORITY}, "stringData": {"ca.crt": self.authority}},
        ]});
        sandbox.apply(&objects.to_string()).await.map(drop)
    }

    /// What a destination of a spec says of a prefix here.
    pub fn place(&self, url: &str) -> serde_json::Value {
        json!({"objectStore": {
            "url": url, "endpoint": self.endpoint,
            "credentialsSecret": {"name": CREDENTIALS}, "caSecret": {"name": AUTHORITY, "key": "ca.crt"},
        }})
    }

    /// Runs a shell script in the server's pod, where the buckets are folders; gives what it printed.
    pub async fn shell(&self, sandbox: &Sandbox, script: &str) -> Result<String> {
        sandbox
            .kubectl(&[
                "exec",
                NAME,
                "--",
                "/bin/sh",
                "-euc",
                &format!("cd /data/buckets; {script}"),
            ])
            .await
    }
}

/// Certificates of an authority and of `host`, and the key of the latter.
async fn certify(host: &str) -> Result<(String, String, String)> {
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("extensions"),
        format!("subjectAltName=DNS:{host}\n"),
    )?;
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for arguments in [
        format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.crt"),
        format!("req {key} -subj /CN=store -keyout tls.key -out tls.csr"),
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out tls.crt".to_owned(),
    ] {
        let made = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder.path())
            .output()
            .await
            .context("openssl is not on the PATH")?;
        if !made.status.success() {
            bail!("openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
        }
    }
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name));
    Ok((read("ca.crt")?, read("tls.crt")?, read("tls.key")?))
}
