//! What a real Prometheus makes of a running predictor, its backups and a restore: every panel of the dashboards and every rule
//! gets an answer, and three alerts fire when there is reason and only then.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stockpredictor_e2e::disk::{self, Disk};
use stockpredictor_e2e::objects::backup;
use stockpredictor_e2e::prometheus::has_numbers;
use stockpredictor_e2e::sandbox::SOON;
use stockpredictor_e2e::wait::eventually;
use stockpredictor_e2e::{Prometheus, Sandbox, command, with_namespace};

/// A run of a backup, on a slow, busy machine.
const RUN: Duration = Duration::from_mins(2);
/// A backup and the next minute's restore test.
const PROVEN: Duration = Duration::from_mins(4);
/// A whole restore.
const RESTORE: Duration = Duration::from_mins(5);
/// From a cause to what Prometheus says of it: three cleanups of 10 seconds, scrapes, and a pod that makes the cause.
const NOTICED: Duration = Duration::from_mins(3);
/// What panels look at: the whole test.
const SPAN: Duration = Duration::from_mins(10);

const ALMOST_FULL: &str = "StockPredictorVolumeAlmostFull";
const CLEANUP_FAILED: &str = "StockPredictorCleanupFailed";
const BACKUP_FAILED: &str = "StorageBackupFailed";

/// Series that a rule asks for and that only a failure has which is not made here, each with one that is like it but for that.
const NOT_MADE: [(&str, &str); 4] = [
    // The restore was completed.
    (
        r#"stockpredictor_operator_restore_phase{phase=~"Failed|RolledBack"}"#,
        r#"stockpredictor_operator_restore_phase{phase="Completed"}"#,
    ),
    (
        r#"stockpredictor_operator_restore_phase{phase="Held"}"#,
        r#"stockpredictor_operator_restore_phase{phase="Completed"}"#,
    ),
    // Its phases were over before long.
    (
        r#"stockpredictor_operator_restore_phase{phase=~"Holding|Switching|Starting|Committing|RollingBack|Restarting"}"#,
        r#"stockpredictor_operator_restore_phase{phase="Completed"}"#,
    ),
    // Everything could be reconciled.
    (
        r#"stockpredictor_operator_reconcile_errors_total{category!="conflict"}"#,
        r#"stockpredictor_operator_reconciles_total{result="success"}"#,
    ),
];

/// A line of `scripts/expressions.py`.
#[derive(Deserialize)]
struct Expression {
    source: String,
    expr: String,
    r#type: String,
    may_be_empty: bool,
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn every_panel_and_rule_has_data_and_three_alerts_fire_and_resolve() {
    with_namespace("monitoring", |sandbox| async move {
        let hasty = [ALMOST_FULL, CLEANUP_FAILED, BACKUP_FAILED];
        let prometheus = Prometheus::install(&sandbox.client, &hasty).await?;
        let outcome = watched(&sandbox, &prometheus).await;
        let removed = Prometheus::remove().await;
        outcome.and(removed)
    })
    .await;
}

async fn watched(sandbox: &Sandbox, prometheus: &Prometheus) -> Result<()> {
    let (story, alerts) = tokio::join!(story(sandbox), alerts(sandbox, prometheus));
    story.context("the story")?;
    alerts.context("the alerts")?;
    eventually(NOTICED, "every expression has an answer", || async {
        // What is counted by the minute shows nothing without it.
        traffic(sandbox).await?;
        let wrong = unanswered(prometheus).await?;
        ensure!(
            wrong.is_empty(),
            "{} of them:\n{wrong}",
            wrong.lines().count()
        );
        Ok(Some(()))
    })
    .await
}

/// Predictions, an outcome, a backup that is proven, a restore in place, and cleanups beside all that.
async fn story(sandbox: &Sandbox) -> Result<()> {
    sandbox
        .create_predictor("nvda", json!({"cache": {"cleanupInterval": "20s"}}))
        .await?;
    sandbox.ready("nvda").await?;
    outcome(sandbox).await?;
    traffic(sandbox).await?;
    let spec = json!({
        "schedule": "@daily", "runOnCreate": true, "objectives": {"rpo": "1h"},
        "verification": {"restoreTest": {"schedule": "* * * * *"}},
    });
    sandbox.apply(&backup("nvda", &spec)).await?;
    sandbox
        .settles(("sb", "nvda"), "Verified", "True", "Proven", PROVEN)
        .await?;
    let restore = json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageRestore", "metadata": {"name": "nvda"},
        "spec": {"source": {"storageBackupRef": {"name": "nvda"}}, "backup": "latest", "target": {"inPlace": {"predictorRef": {"name": "nvda"}}}},
    });
    sandbox.apply(&restore.to_string()).await?;
    sandbox
        .until("sr", "nvda", "Completed", RESTORE, |object| {
            object["status"]["phase"] == "Completed"
        })
        .await?;
    sandbox.ready("nvda").await
}

/// A forecast and the price that it was about. The samples end long ago, and only outcomes of the last month count.
async fn outcome(sandbox: &Sandbox) -> Result<()> {
    let weekdays = "
        for ago in 14 13 12 11 10 9 8; do
          at=$(($(date +%s) - ago * 86400))
          [ $(date -u -d @$at +%u) -gt 5 ] || echo $(date -u -d @$at +%F),496,499,495,498,1000000
        done >>$(echo stock_data/historical/NVDA/*.csv)";
    let first = sandbox.predict("nvda", "NVDA").await?;
    sandbox.shell("nvda", weekdays).await?;
    let recent = eventually(SOON, "a forecast of the new prices", || async {
        let answer = sandbox.predict("nvda", "NVDA").await?;
        Ok((answer["as_of"] != first["as_of"]).then_some(answer))
    })
    .await?;
    let target = recent["target_date"].as_str().context("target_date")?;
    let happened =
        format!("echo {target},498,503,497,502,1000000 >>$(echo stock_data/historical/NVDA/*.csv)");
    sandbox.shell("nvda", &happened).await?;
    eventually(SOON, "an outcome", || async {
        let (_, metrics) = sandbox.get("nvda", "/metrics").await?;
        Ok(metrics
            .contains("stockpredictor_prediction_outcomes{symbol=\"NVDA\"} 1")
            .then_some(()))
    })
    .await
}

/// Each symbol twice, so that the second answer is a cached one, and one that nobody serves.
async fn traffic(sandbox: &Sandbox) -> Result<()> {
    for symbol in ["NVDA", "TSLA", "AAPL", "NVDA", "TSLA", "AAPL"] {
        sandbox.predict("nvda", symbol).await?;
    }
    let (status, body) = sandbox.get("nvda", "/api/v1/predict/NONE").await?;
    ensure!(status == StatusCode::NOT_FOUND, "{status}: {body}");
    Ok(())
}

/// Full, not cleaned up, not backed up; and all of it put right.
async fn alerts(sandbox: &Sandbox, prometheus: &Prometheus) -> Result<()> {
    if !disk::is_possible() {
        println!("this cluster's nodes are not ours: no disk is filled");
        return failing(sandbox, prometheus, None).await;
    }
    let disk = Disk::create(sandbox, "tiny", "64Mi").await?;
    let outcome = failing(sandbox, prometheus, Some(&disk)).await;
    outcome.and(disk.remove().await)
}

async fn failing(sandbox: &Sandbox, prometheus: &Prometheus, disk: Option<&Disk>) -> Result<()> {
    let mut spec = json!({"cache": {"cleanupInterval": "10s"}});
    let mut expected = vec![CLEANUP_FAILED, BACKUP_FAILED];
    // A folder of the volume that its owner can't write, with an old file in it.
    let mut spoil = "mkdir ml_cache/stuck; touch -d '2020-01-01 00:00' ml_cache/stuck/old; chmod 0500 ml_cache/stuck".to_owned();
    if let Some(disk) = disk {
        spec["storage"] = json!({"size": "64Mi", "storageClassName": disk.class()});
        expected.push(ALMOST_FULL);
        spoil += "; dd if=/dev/zero of=stock_data/filler bs=1M count=56 2>/dev/null";
    }
    expected.sort_unstable();
    sandbox.create_predictor("tiny", spec).await?;
    sandbox.ready("tiny").await?;
    ensure!(
        prometheus.firing(&sandbox.namespace).await?.is_empty(),
        "alerts without a reason"
    );
    sandbox.shell("tiny", &spoil).await?;
    let nobody = json!({"name": "place", "objectStore": {
        "url": "s3://backups/x", "endpoint": "http://nobody.invalid:9000", "credentialsSecret": {"name": "missing"}}});
    let mut object: Value = serde_json::from_str(&backup(
        "failing",
        &json!({"runOnCreate": true, "backoffLimit": 0, "destinations": [nobody]}),
    ))?;
    object["spec"]["predictorRef"]["name"] = json!("tiny");
    sandbox.apply(&object.to_string()).await?;

    let fire = eventually(NOTICED, &format!("{expected:?} fire"), || async {
        let alerts = prometheus.firing(&sandbox.namespace).await?;
        let mut names: Vec<_> = alerts
            .iter()
            .filter_map(|alert| alert["labels"]["alertname"].as_str())
            .collect();
        names.sort_unstable();
        ensure!(names == expected, "{names:?}");
        Ok(Some(alerts))
    })
    .await?;
    for alert in &fire {
        let told = alert["annotations"]["description"]
            .as_str()
            .unwrap_or_default();
        println!("{}: {told}", alert["labels"]["alertname"]);
        let about = if alert["labels"]["alertname"] == BACKUP_FAILED {
            "failing"
        } else {
            "tiny"
        };
        ensure!(told.contains(about), "{alert:#}");
    }
    let all = expressions().await?;
    let panel = all
        .iter()
        .find(|one| one.source.contains("Alerts that fire"));
    let panel = panel.context("the panel of alerts")?;
    ensure!(
        has_numbers(&prometheus.query(&panel.expr).await?)?,
        "the panel of alerts shows none: {}",
        panel.expr
    );

    sandbox
        .shell("tiny", "chmod 0700 ml_cache/stuck; rm -f stock_data/filler")
        .await?;
    let spec = json!({"spec": {"destinations": [{"name": "place", "volume": {}}], "trigger": "put right"}});
    sandbox.patch("sb", "failing", &spec).await?;
    sandbox
        .settles(("sb", "failing"), "LastBackupSucceeded", "True", "", RUN)
        .await?;
    eventually(NOTICED, "all alerts resolve", || async {
        let left = prometheus.firing(&sandbox.namespace).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(Some(()))
    })
    .await
}

async fn expressions() -> Result<Vec<Expression>> {
    let script = format!("{}/../scripts/expressions.py", env!("CARGO_MANIFEST_DIR"));
    let lines = command::run(
        "python3",
        &[&script, "predictor=nvda", "name=nvda", "__rate_interval=2m"],
    )
    .await?;
    let all = lines.lines().map(serde_json::from_str);
    Ok(all.collect::<Result<_, _>>()?)
}

/// Each expression that has no answer of its type, or none with a number, a line each.
async fn unanswered(prometheus: &Prometheus) -> Result<String> {
    let mut wrong = String::new();
    let all = expressions().await?;
    ensure!(all.len() > 100, "only {} expressions", all.len());
    let metrics = metrics(&all)?;
    for one in &all {
        if let Err(reason) = check(prometheus, one).await {
            writeln!(wrong, "{}: {reason:#}: {}", one.source, one.expr)?;
        }
        if !one.source.starts_with("rules.yaml") {
            continue;
        }
        for selector in selectors(&one.expr, &metrics) {
            let like = NOT_MADE.iter().find(|(known, _)| *known == selector);
            let wanted = like.map_or(selector.as_str(), |(_, like)| like);
            if !has_numbers(&prometheus.query(wanted).await?)? {
                writeln!(wrong, "{}: no series: {wanted}", one.source)?;
            }
        }
    }
    let down = prometheus.query("up == 0").await?;
    if has_numbers(&down)? {
        writeln!(wrong, "can't be read: {down}")?;
    }
    Ok(wrong)
}

async fn check(prometheus: &Prometheus, one: &Expression) -> Result<()> {
    let (data, fits) = match one.r#type.as_str() {
        "range" => (
            prometheus.query_range(&one.expr, SPAN).await?,
            ["matrix", "matrix"],
        ),
        _ => (prometheus.query(&one.expr).await?, ["vector", "scalar"]),
    };
    ensure!(
        fits.iter().any(|kind| data["resultType"] == *kind),
        "it is a {}",
        data["resultType"]
    );
    ensure!(one.may_be_empty || has_numbers(&data)?, "no data");
    Ok(())
}

/// Names of series: those of the contract, those that rules record, and Prometheus' own.
fn metrics(all: &[Expression]) -> Result<Vec<String>> {
    let contract: Value = serde_json::from_str(include_str!("../../contracts/metrics.json"))?;
    let mut names = vec!["up".to_owned()];
    for metric in contract["metrics"].as_array().context("metrics")? {
        let name = metric["name"].as_str().context("name")?;
        match metric["type"].as_str() {
            Some("histogram") => {
                names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
            }
            _ => names.push(name.to_owned()),
        }
    }
    let rules = all
        .iter()
        .filter_map(|one| one.source.strip_prefix("rules.yaml: "));
    names.extend(rules.filter(|name| name.contains(':')).map(str::to_owned));
    Ok(names)
}

/// The selectors of series in an expression, without their spans of time.
fn selectors(expr: &str, metrics: &[String]) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(start) = rest.find(is_part) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        // What has labels or a span is a series, known or not.
        if !after.starts_with(['{', '[']) && !metrics.iter().any(|name| name == word) {
            continue;
        }
        let labels = match (after.starts_with('{'), after.find('}')) {
            (true, Some(end)) => &after[..=end],
            _ => "",
        };
        found.push(format!("{word}{labels}"));
        rest = &after[labels.len()..];
    }
    found
}

#[test]
fn selectors_are_found_where_they_stand() {
    let metrics = ["up", "a_total", "volume:b:max"].map(str::to_owned);
    let expr = r#"max by (up_to) (rate(a_total{result!="x"}[5m])) > 0 unless on (name) up or volume:b:max == 1 + unknown[5m]"#;
    assert_eq!(
        selectors(expr, &metrics),
        [r#"a_total{result!="x"}"#, "up", "volume:b:max", "unknown"]
    );
}
