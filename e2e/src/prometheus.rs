//! The chart's own Prometheus, as one would ask it: queries in, series and alerts out.
//!
//! It reads metrics each 5 seconds. Its rules are the chart's, but for the waits of the alerts that a test makes fire.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::wait::eventually;
use crate::{chart, command};

/// Name of its Deployment, Service, claim and `ConfigMap`.
const NAME: &str = "stockpredictor-prometheus";
/// From a rollout to an answer, on a slow, busy machine.
const STARTED: Duration = Duration::from_mins(2);

/// A running Prometheus.
#[derive(Clone)]
pub struct Prometheus {
    client: Client,
}

impl Prometheus {
    /// Installs the release anew with it. The alerts of `hasty` don't wait before they fire.
    pub async fn install(client: &Client, hasty: &[&str]) -> Result<Self> {
        let (repository, tag) = chart::image("PROMETHEUS_IMAGE")?;
        let (repository, tag) = (
            format!("monitoring.prometheus.image.repository={repository}"),
            format!("monitoring.prometheus.image.tag={tag}"),
        );
        let values = [
            "monitoring.prometheus.enabled=true",
            "monitoring.interval=5s",
            "monitoring.prometheus.storage.size=1Gi",
            &repository,
            &tag,
        ];
        chart::install(&values, &[]).await?;
        let prometheus = Self {
            client: client.clone(),
        };
        let map = kubectl(&["get", "configmap", NAME, "-o", "json"]).await?;
        let map: Value = serde_json::from_str(&map)?;
        let rules = map["data"]["rules.yaml"].as_str().context("the rules")?;
        let patch = json!({"data": {"rules.yaml": hastened(rules, hasty)?}}).to_string();
        kubectl(&["patch", "configmap", NAME, "--type=merge", "-p", &patch]).await?;
        let deployment = format!("deployment/{NAME}");
        kubectl(&["rollout", "restart", &deployment]).await?;
        kubectl(&["rollout", "status", &deployment, "--timeout=120s"]).await?;
        eventually(STARTED, "Prometheus has the rules", || async {
            let rules = prometheus.ask("rules?type=alert").await?;
            let groups = rules["groups"].as_array().cloned().unwrap_or_default();
            Ok((!groups.is_empty()).then_some(()))
        })
        .await?;
        Ok(prometheus)
    }

    /// Takes it out of the release, with its volume, which an uninstall would leave.
    pub async fn remove() -> Result<()> {
        chart::install(&[], &[]).await?;
        kubectl(&["delete", "pvc", NAME, "--ignore-not-found", "--timeout=60s"])
            .await
            .map(drop)
    }

    /// The answer to a query of now: `resultType` and `result`.
    pub async fn query(&self, expr: &str) -> Result<Value> {
        self.ask(&format!("query?query={}", encoded(expr))).await
    }

    /// The answer to a query of the last minutes, a value each 15 seconds.
    pub async fn query_range(&self, expr: &str, span: Duration) -> Result<Value> {
        let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let start = end - span.as_secs();
        let expr = encoded(expr);
        self.ask(&format!(
            "query_range?query={expr}&start={start}&end={end}&step=15"
        ))
        .await
    }

    /// The alerts about a namespace that fire.
    pub async fn firing(&self, namespace: &str) -> Result<Vec<Value>> {
        let answer = self.ask("alerts").await?;
        let mut alerts = answer["alerts"].as_array().cloned().context("alerts")?;
        alerts.retain(|alert| {
            alert["state"] == "firing" && alert["labels"]["namespace"] == namespace
        });
        Ok(alerts)
    }

    /// GET of its API; `data` of the answer.
    async fn ask(&self, path: &str) -> Result<Value> {
        let uri = format!(
            "/api/v1/namespaces/{}/services/{NAME}:http/proxy/api/v1/{path}",
            chart::NAMESPACE
        );
        let request = http::Request::get(uri).body(Body::empty())?;
        let response = self.client.send(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let answer: Value = serde_json::from_slice(&body)
            .with_context(|| format!("{status}: {}", String::from_utf8_lossy(&body)))?;
        if answer["status"] != "success" {
            bail!("{status}: {}", answer["error"]);
        }
        Ok(answer["data"].clone())
    }
}

async fn kubectl(arguments: &[&str]) -> Result<String> {
    let all = [&["--namespace", chart::NAMESPACE], arguments].concat();
    command::run("kubectl", &all).await
}

/// The rules, in which the alerts of these names fire at once, and allow work that goes on 10 seconds instead of minutes.
fn hastened(rules: &str, names: &[&str]) -> Result<String> {
    let mut rules: Value = serde_yaml::from_str(rules)?;
    let groups = rules["groups"].as_array_mut().context("groups")?;
    let mut found = Vec::new();
    for group in groups {
        for rule in group["rules"].as_array_mut().context("rules")? {
            let Some(name) = names.iter().find(|name| rule["alert"] == **name) else {
                continue;
            };
            found.push(*name);
            rule["for"] = json!("0s");
            let expr = rule["expr"].as_str().context("expr")?;
            rule["expr"] = json!(expr.replace("+ 600", "+ 10"));
        }
    }
    let missing = names.iter().find(|name| !found.contains(name));
    ensure!(missing.is_none(), "no alert {missing:?} in the rules");
    // JSON is YAML.
    Ok(rules.to_string())
}

/// For a query string.
fn encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() {
            all.push(char::from(byte));
        } else {
            let _ = write!(all, "%{byte:02X}");
        }
        all
    })
}

/// Whether a vector, a matrix or a scalar has a number in it.
pub fn has_numbers(data: &Value) -> Result<bool> {
    let number = |pair: &Value| {
        let text = pair[1].as_str().unwrap_or_default();
        text.parse::<f64>().is_ok_and(f64::is_finite)
    };
    let result = &data["result"];
    if data["resultType"] == "scalar" {
        return Ok(number(result));
    }
    let series = result.as_array().ok_or_else(|| anyhow!("{data}"))?;
    Ok(series.iter().any(|one| {
        number(&one["value"])
            || one["values"]
                .as_array()
                .is_some_and(|v| v.iter().any(number))
    }))
}
