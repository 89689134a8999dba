//! Backups that run themselves: by the clock, to several places, verified, explained when they can't run, and never lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stockpredictor_e2e::objects::backup;
use stockpredictor_e2e::sandbox::SOON;
use stockpredictor_e2e::wait::eventually;
use stockpredictor_e2e::{Key, Sandbox, Store, chart, command, with_namespace};

/// From a trigger to the end of its run, on a slow, busy machine.
const RUN: Duration = Duration::from_mins(2);
/// Two times of a schedule of each minute, and their runs.
const TWO_RUNS: Duration = Duration::from_mins(5);

/// Asks for a run and waits for its end; the status.
async fn run(sandbox: &Sandbox, name: &str, trigger: &str) -> Result<Value> {
    sandbox
        .patch("sb", name, &json!({"spec": {"trigger": trigger}}))
        .await?;
    let ended = sandbox
        .until("sb", name, &format!("run {trigger} ended"), RUN, |object| {
            let status = &object["status"];
            status["acknowledgedTrigger"] == trigger && status["active"].is_null()
        })
        .await?;
    Ok(ended["status"].clone())
}

/// Kills the operator once the run `2` has begun.
async fn operator_dies(sandbox: &Sandbox) -> Result<()> {
    sandbox
        .until("sb", "nvda", "the run has begun", RUN, |object| {
            object["status"]["acknowledgedTrigger"] == "2"
        })
        .await?;
    chart::kill_operator().await
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn backups_by_the_clock_are_encrypted_in_two_places_verified_and_proven() {
    with_namespace("clock", |sandbox| async move {
        let store = Store::start(&sandbox, &["backups"]).await?;
        let key = Key::create(&sandbox, "backup-key").await?;
        let mut offsite = store.place("s3://backups/clock");
        offsite["name"] = json!("offsite");
        offsite["retention"] = json!({"last": 1});
        sandbox.create_predictor("nvda", json!({})).await?;
        sandbox.ready("nvda").await?;
        let spec = json!({
            "schedule": "* * * * *", "mode": "Incremental", "minSuccessful": 2,
            "destinations": [{"name": "volume", "volume": {}}, offsite],
            "encryption": {"recipients": [key.recipient]},
            "verification": {"identitySecret": key.secret(), "restoreTest": {"schedule": "* * * * *"}},
            "objectives": {"rpo": "1h"},
        });
        sandbox.apply(&backup("nvda", &spec)).await?;

        let done = sandbox
            .until("sb", "nvda", "an incremental one after a full one, proven", TWO_RUNS, |object| {
                let status = &object["status"];
                let backups = status["backups"].as_array().cloned().unwrap_or_default();
                backups.len() >= 2
                    && backups
                        .iter()
                        .any(|backup| backup["kind"] == "Incremental" && backup["level"] == "Proven")
            })
            .await?;
        let status = &done["status"];
        ensure!(status["lastRun"]["kind"] == "Scheduled", "{status:#}");
        for backup in status["backups"].as_array().context("backups")? {
            let name = backup["name"].as_str().context("name")?;
            ensure!(name.ends_with(".tar.gz.age"), "{backup:#}");
            ensure!(backup["keyIds"] == json!([key.recipient]), "{backup:#}");
            ensure!(backup["sha256"] == status["attested"][name], "{status:#}");
        }
        let newest = &status["backups"][0];
        ensure!(
            newest["base"] == status["backups"].as_array().context("list")?.last().context("full")?["name"],
            "{status:#}"
        );
        sandbox
            .settles(("sb", "nvda"), "Ready", "True", "AllGood", RUN)
            .await?;
        for reason in ["BackupStarted", "BackupSucceeded", "BackupVerified", "RestoreTestSucceeded"] {
            sandbox.event("nvda", reason).await?;
        }
        // One chain of two archives at the place that keeps one: the full one stays because the incremental needs it.
        let there = store.shell(&sandbox, "find backups -name '*.age'").await?;
        ensure!((2..=3).contains(&there.lines().count()), "{there}");
        let table = sandbox.kubectl(&["get", "sb"]).await?;
        for column in ["SCHEDULE", "LAST SUCCESS", "LEVEL", "BACKUPS", "SIZE", "SUSPENDED", "AGE"] {
            ensure!(table.contains(column), "no {column} in {table}");
        }
        ensure!(!table.contains("<none>"), "{table}");

        // Suspended: the clock makes no more runs, and a person still can.
        sandbox.patch("sb", "nvda", &json!({"spec": {"suspend": true}})).await?;
        sandbox
            .settles(("sb", "nvda"), "Scheduled", "False", "Suspended", SOON)
            .await?;
        let status = run(&sandbox, "nvda", "by-hand").await?;
        ensure!(
            status["lastRun"]["kind"] == "Manual" && status["lastRun"]["result"] == "Succeeded",
            "{status:#}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn the_guides_three_schedules_apply_as_they_are_and_never_touch_each_others_archives() {
    with_namespace("schedules", |sandbox| async move {
        let store = Store::start(&sandbox, &["nvda-backups"]).await?;
        // Nothing in the file names a server: the Secret's variables do, as for any store that isn't AWS.
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nvda-offsite"}, "stringData": {
            "AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "wrong", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": store.endpoint,
        }});
        sandbox.apply(&secret.to_string()).await?;
        let example = include_str!("../../examples/backups/daily-weekly-monthly.yaml");
        sandbox.apply(example).await?;
        sandbox.apply(include_str!("../../examples/stockpredictor.yaml")).await?;
        sandbox.ready("nvda").await?;
        for name in ["nvda-daily", "nvda-weekly", "nvda-monthly"] {
            sandbox.settles(("sb", name), "Scheduled", "True", "Active", SOON).await?;
        }

        let weekly = run(&sandbox, "nvda-weekly", "1").await?;
        let kept = weekly["backups"][0]["name"].as_str().context("weekly")?.to_owned();
        sandbox
            .patch("sb", "nvda-daily", &json!({"spec": {"mode": "Full", "fullEvery": null, "retention": {"last": 1}}}))
            .await?;
        let mut last = Value::Null;
        for trigger in ["1", "2", "3"] {
            last = run(&sandbox, "nvda-daily", trigger).await?;
        }
        ensure!(last["total"] == 1, "retention of one leaves one: {last:#}");
        let lies = sandbox.shell("nvda", "ls backups").await?;
        let archives: Vec<_> = lies.lines().filter(|name| name.ends_with(".tar.gz")).collect();
        ensure!(
            archives.len() == 2 && archives.contains(&kept.as_str()),
            "the daily's retention touched the weekly's archive: {lies}"
        );

        // Off-site: the Secret's credentials are wrong, and the certificate is nobody's. It says so, and recovers.
        let message = sandbox
            .patch("sb", "nvda-monthly", &json!({"spec": {"trigger": "1", "backoffLimit": 0}}))
            .await
            .map(|()| "patched")?;
        ensure!(message == "patched");
        let said = sandbox
            .settles(("sb", "nvda-monthly"), "LastBackupSucceeded", "False", "", RUN)
            .await?;
        ensure!(said.contains("certificate"), "{said}");
        let places = json!([{"name": "offsite", "retention": {"last": 1, "monthly": 12}}]);
        let mut places = places;
        places[0]["objectStore"] = store.place("s3://nvda-backups/monthly")["objectStore"].clone();
        sandbox
            .patch("sb", "nvda-monthly", &json!({"spec": {"destinations": places}}))
            .await?;
        let status = run(&sandbox, "nvda-monthly", "2").await?;
        ensure!(status["lastRun"]["result"] == "Succeeded", "{status:#}");
        sandbox.event("nvda-monthly", "BackupRecovered").await?;
        let there = store.shell(&sandbox, "find nvda-backups/monthly -name '*.tar.gz'").await?;
        let prefix = format!("nvda-backups/monthly/{}/nvda/", sandbox.namespace);
        ensure!(there.lines().count() == 1 && there.starts_with(&prefix), "{there}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_run_that_cannot_start_is_explained_within_two_minutes_and_does_not_stop_others() {
    with_namespace("stuck", |sandbox| async move {
        sandbox.create_predictor("nvda", json!({})).await?;
        sandbox.ready("nvda").await?;
        let key = Key::create(&sandbox, "unused").await?;
        let began = Instant::now();
        let nowhere = json!({"name": "away", "objectStore": {
            "url": "s3://backups/x", "endpoint": "http://nobody.invalid:9000", "credentialsSecret": {"name": "missing"}}});
        let volume = json!({"name": "volume", "volume": {}});
        for (name, spec) in [
            ("no-node", json!({"pod": {"nodeSelector": {"no": "such-node"}}})),
            ("no-claim", json!({"destinations": [{"name": "nas", "claim": {"name": "missing"}}]})),
            ("no-secret", json!({"destinations": [nowhere], "backoffLimit": 0})),
("no-identity", json!({"encryption": {"recipients": [key.recipient]}, "verification": {"level": "Readable", "identitySecret": {"name": "missing", "key": "x"}}})),
            ("one-of-two", json!({"destinations": [nowhere, volume]})),
        ] {
            let mut spec = spec;
            spec["runOnCreate"] = json!(true);
            sandbox.apply(&backup(name, &spec)).await?;
        }
        let told = async |name: &str, part: &str| {
            let said = sandbox
                .settles(("sb", name), "LastBackupSucceeded", "False", "", RUN)
                .await?;
            ensure!(said.contains(part), "{name} should tell of '{part}': {said}");
            println!("{name} after {:.0} s: {said}", began.elapsed().as_secs_f64());
            anyhow::Ok(())
        };
        let (node, claim, secret, identity) = tokio::join!(
            told("no-node", "node"),
            told("no-claim", "missing"),
            told("no-secret", "away"),
            sandbox.settles(("sb", "no-identity"), "Verified", "False", "NotVerified", RUN),
        );
        node?;
        claim?;
        secret?;
        identity?;
        let message = sandbox.object("sb", "no-identity").await?["status"]["lastRun"]["message"].clone();
        ensure!(message.to_string().contains("identity"), "{message}");
        ensure!(began.elapsed() < Duration::from_mins(2), "{:?}", began.elapsed());
        let said = sandbox
            .settles(("sb", "one-of-two"), "LastBackupSucceeded", "True", "CompletedWithWarnings", RUN)
            .await?;
        ensure!(said.contains("away"), "{said}");
        sandbox
            .settles(("sb", "one-of-two"), "DestinationsReachable", "False", "DestinationFailed", SOON)
            .await?;
        // What can't start doesn't pile up: one Job each.
        let jobs = sandbox.objects("jobs").await?;
        ensure!(jobs.len() == 5, "{} Jobs", jobs.len());
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_loss_is_suspect_until_accepted_and_no_deletion_takes_an_archive() {
    with_namespace("guard", |sandbox| async move {
        // The first run waits for the volume: it has no second try.
        sandbox
            .apply(&backup(
                "nvda",
                &json!({"runOnCreate": true, "backoffLimit": 0, "retention": {"last": 1}}),
            ))
            .await?;
        sandbox
            .create_predictor("nvda", json!({"storage": {"deletionPolicy": "Delete"}}))
            .await?;
        sandbox.ready("nvda").await?;
        let first = sandbox
            .until("sb", "nvda", "the first backup", RUN, |object| {
                object["status"]["backups"][0]["name"].is_string()
            })
            .await?;
        let good = first["status"]["backups"][0]["name"]
            .as_str()
            .context("name")?
            .to_owned();

        sandbox
            .shell("nvda", "rm -r stock_data/historical/*")
            .await?;
        let status = run(&sandbox, "nvda", "1").await?;
        let newest = &status["backups"][0];
        ensure!(newest["suspect"] == true, "{status:#}");
        let said = sandbox
            .settles(("sb", "nvda"), "Verified", "False", "Suspect", SOON)
            .await?;
        let id = newest["id"].as_str().context("id")?;
        ensure!(
            said.contains(id),
            "the message has what to annotate: {said}"
        );
        sandbox.event("nvda", "Suspect").await?;
        let lies = sandbox.shell("nvda", "ls backups").await?;
        ensure!(
            lies.contains(&good),
            "a suspect pushed out a good one: {lies}"
        );

        sandbox
            .kubectl(&[
                "annotate",
                "sb",
                "nvda",
                &format!("stockpredictor.io/accept-suspect={id}"),
            ])
            .await?;
        sandbox
            .settles(("sb", "nvda"), "Verified", "", "SuspectAccepted", SOON)
            .await?;
        // The operator dies when the run has just begun: it is not begun again, and its report is not lost.
        let (status, died) = tokio::join!(run(&sandbox, "nvda", "2"), operator_dies(&sandbox));
        let (status, ()) = (status?, died?);
        let job = status["lastRun"]["job"].as_str().context("a Job")?;
        ensure!(
            job.contains("-manual-") && job.ends_with("-1"),
            "{status:#}"
        );
        ensure!(status["manualRuns"] == 2, "{status:#}");
        ensure!(status["backups"][0]["suspect"] != true, "{status:#}");
        sandbox
            .settles(("sb", "nvda"), "Verified", "True", "Readable", SOON)
            .await?;

        let before = sandbox.shell("nvda", "ls backups").await?;
        sandbox.kubectl(&["delete", "sb", "nvda"]).await?;
        // Its policy is Delete, and the object that knew of the archives is gone.
        sandbox.kubectl(&["delete", "sp", "nvda"]).await?;
        sandbox.event("nvda", "ClaimKept").await?;
        let after = sandbox.shell("nvda", "ls backups").await?;
        ensure!(
            before == after && after.contains(".tar.gz"),
            "{before} {after}"
        );
        // Nobody's CronJob is left behind.
        let left = command::output(
            "kubectl",
            &[
                "wait",
                "--namespace",
                &sandbox.namespace,
                "--for=delete",
                "cronjobs,jobs",
                "--all",
                "--timeout=60s",
            ],
            "",
        )
        .await?;
        ensure!(left.success, "{}", left.stderr);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_run_that_hangs_gives_way_to_the_next_one_where_that_is_asked_for() {
    with_namespace("replace", |sandbox| async move {
        sandbox.create_predictor("nvda", json!({})).await?;
        sandbox.ready("nvda").await?;
        let hangs = json!({"nodeSelector": {"no": "such-node"}});
        for (name, policy) in [("replaces", "Replace"), ("waits", "Forbid")] {
            let spec = json!({"schedule": "* * * * *", "concurrencyPolicy": policy, "pod": hangs});
            sandbox.apply(&backup(name, &spec)).await?;
        }
        let active = async |name: &str, not: &str| {
            let object = sandbox
                .until("sb", name, "a run goes on", TWO_RUNS, |object| {
                    object["status"]["active"]
                        .as_str()
                        .is_some_and(|active| active != not)
                })
                .await?;
            let active = object["status"]["active"].as_str().context("active")?;
            anyhow::Ok(active.to_owned())
        };
        let (first, kept) = (active("replaces", "").await?, active("waits", "").await?);
        active("replaces", &first).await?;
        ensure!(active("waits", "").await? == kept, "it was replaced");
        // What gives way is gone.
        eventually(SOON, "the first one is gone", || async {
            let jobs = sandbox.objects("jobs").await?;
            let there = jobs
                .iter()
                .any(|job| job["metadata"]["name"] == first.as_str());
            Ok((!there).then_some(()))
        })
        .await?;
        // The one that hangs is no obstacle once its cause is gone.
        sandbox
            .patch("sb", "replaces", &json!({"spec": {"pod": null}}))
            .await?;
        let done = sandbox
            .until("sb", "replaces", "a run succeeds", TWO_RUNS, |object| {
                object["status"]["lastRun"]["result"] == "Succeeded"
            })
            .await?;
        ensure!(done["status"]["lastRun"]["kind"] == "Scheduled", "{done:#}");
        Ok(())
    })
    .await;
}
