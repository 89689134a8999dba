//! Restores that cannot make it worse: the whole story, deaths in the middle, failures, clones, and the page for the night.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stockpredictor_e2e::objects::{backup, condition};
use stockpredictor_e2e::page::{Shell, blocks, prepare};
use stockpredictor_e2e::sandbox::{READY, SOON};
use stockpredictor_e2e::wait::eventually;
use stockpredictor_e2e::{Key, Sandbox, Store, chart, with_namespace};

/// A run of a backup, on a slow, busy machine.
const RUN: Duration = Duration::from_mins(2);
/// A whole restore there.
const RESTORE: Duration = Duration::from_mins(5);

/// A restore of `nvda` in place from the `StorageBackup` `from`.
fn in_place(name: &str, from: &str, spec: &Value) -> String {
    let mut object = json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageRestore",
        "metadata": {"name": name}, "spec": spec,
    });
    let spec = &mut object["spec"];
    if spec["backup"].is_null() && spec["at"].is_null() {
        spec["backup"] = json!("latest");
    }
    spec["source"] = json!({"storageBackupRef": {"name": from}});
    if spec["target"].is_null() {
        spec["target"] = json!({"inPlace": {"predictorRef": {"name": "nvda"}}});
    }
    object.to_string()
}

/// Waits for the phase in which a restore ends; its status.
async fn ends(sandbox: &Sandbox, name: &str, phase: &str) -> Result<Value> {
    let over = |object: &Value| {
        ["Completed", "Planned", "Failed", "RolledBack", "Held"]
            .iter()
            .any(|end| object["status"]["phase"] == *end)
    };
    let ended = sandbox.until("sr", name, "it ends", RESTORE, over).await?;
    let status = ended["status"].clone();
    ensure!(status["phase"] == phase, "{phase} expected: {status:#}");
    Ok(status)
}

/// A predictor that predicts, and its first backup.
async fn backed_up(sandbox: &Sandbox, name: &str, spec: Value) -> Result<(Value, Value)> {
    sandbox.create_predictor("nvda", json!({})).await?;
    sandbox.ready("nvda").await?;
    let first = sandbox.predict("nvda", "NVDA").await?;
    let mut spec = spec;
    spec["runOnCreate"] = json!(true);
    sandbox.apply(&backup(name, &spec)).await?;
    let made = sandbox
        .until("sb", name, "the first backup", RUN, |object| {
            object["status"]["lastRun"]["result"] == "Succeeded"
        })
        .await?;
    Ok((first, made["status"].clone()))
}

const JOB_DIES: [&str; 5] = [
    "delete",
    "pods",
    "-l",
    "batch.kubernetes.io/job-name=back-prepare",
    "--now",
];

/// Makes a backup of a volume that nothing can be predicted from, and puts the volume right again; the backup's name.
async fn unservable(sandbox: &Sandbox) -> Result<String> {
    sandbox
        .shell("nvda", "mv stock_data/historical stock_data/aside")
        .await?;
    let spec = json!({"runOnCreate": true});
    sandbox.apply(&backup("unservable", &spec)).await?;
    let made = sandbox
        .until("sb", "unservable", "a backup", RUN, |object| {
            object["status"]["lastRun"]["result"] == "Succeeded"
        })
        .await?;
    sandbox
        .shell(
            "nvda",
            "rm -rf stock_data/historical; mv stock_data/aside stock_data/historical",
        )
        .await?;
    let name = made["status"]["backups"][0]["name"].as_str();
    Ok(name.context("a name")?.to_owned())
}

/// A restore of it that waits for a person.
fn held(bad: &str) -> Value {
    json!({"backup": bad, "onFailure": "Hold", "timeLimits": {"start": "20s"}})
}

/// The same forecast by the same model.
fn same(first: &Value, now: &Value) -> Result<()> {
    for member in ["predicted_price", "as_of", "interval"] {
        ensure!(first[member] == now[member], "{member}: {first} {now}");
    }
    ensure!(
        first["model"]["sha256"] == now["model"]["sha256"],
        "{first} {now}"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn what_was_destroyed_comes_back_and_predicts_the_same() {
    with_namespace("story", |sandbox| async move {
        let spec = json!({"verification": {"restoreTest": {"schedule": "* * * * *"}}});
        let (first, made) = backed_up(&sandbox, "nvda", spec).await?;
        let name = &made["backups"][0]["name"];

        sandbox
            .shell(
                "nvda",
                "rm -rf ml_models/* stock_data/historical/*; echo rubbish > config/rubbish.txt",
            )
            .await?;
        sandbox
            .kubectl(&[
                "delete",
                "pods",
                "-l",
                "app.kubernetes.io/instance=nvda",
                "--now",
            ])
            .await?;
        sandbox
            .condition("nvda", "Ready", "False", "ModelMissing", SOON)
            .await?;
        // Two at once: the second waits, and finds the same. Of two that were made in the same second either may be the first.
        sandbox
            .apply(&in_place("first", "nvda", &json!({})))
            .await?;
        sandbox
            .until("sr", "first", "it has begun", SOON, |object| {
                let phase = &object["status"]["phase"];
                phase.is_string() && phase != "Pending"
            })
            .await?;
        sandbox
            .apply(&in_place("second", "nvda", &json!({})))
            .await?;
        sandbox
            .until("sr", "second", "it waits for the first", SOON, |object| {
                condition(object, "Ready")["reason"] == "WaitsForRestore"
            })
            .await?;
        let status = ends(&sandbox, "first", "Completed").await?;
        ensure!(status["backup"]["name"] == *name, "{status:#}");
        ensure!(
            status["restored"]["files"].as_i64() > Some(10),
            "{status:#}"
        );
        ensure!(
            status["restored"]["model"]
                .as_str()
                .is_some_and(|model| model.starts_with("nvda_lstm_model/")),
            "{status:#}"
        );
        for member in ["duration", "downtime"] {
            ensure!(status[member].is_string(), "no {member}: {status:#}");
        }
        ends(&sandbox, "second", "Completed").await?;
        sandbox.ready("nvda").await?;
        same(&first, &sandbox.predict("nvda", "NVDA").await?)?;
        let left = sandbox
            .shell("nvda", "ls config; ls -d .restore-* 2>/dev/null || true")
            .await?;
        ensure!(
            !left.contains("rubbish") && !left.contains(".restore-"),
            "{left}"
        );
        for reason in [
            "Preflight",
            "Holding",
            "Preparing",
            "Switching",
            "Starting",
            "Committing",
            "Completed",
        ] {
            sandbox.event("first", reason).await?;
        }
        let table = sandbox.kubectl(&["get", "sr"]).await?;
        for column in [
            "READY",
            "PHASE",
            "TARGET",
            "BACKUP",
            "TOOK",
            "AGE",
            "Completed",
        ] {
            ensure!(table.contains(column), "no {column} in {table}");
        }
        ensure!(!table.contains("<none>"), "{table}");
        sandbox
            .settles(("sb", "nvda"), "Verified", "True", "Proven", RUN)
            .await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn the_operator_and_a_jobs_pod_may_die_in_the_middle_of_a_restore() {
    with_namespace("deaths", |sandbox| async move {
        let (first, _) = backed_up(&sandbox, "nvda", json!({})).await?;
        sandbox.shell("nvda", "rm -rf ml_models/*").await?;
        sandbox.apply(&in_place("back", "nvda", &json!({}))).await?;
        let killed = RefCell::new(Vec::new());
        eventually(RESTORE, "the restore ends", || async {
            let phase = sandbox.object("sr", "back").await?["status"]["phase"].clone();
            let phase = phase.as_str().unwrap_or_default().to_owned();
            let fresh = !killed.borrow().contains(&phase);
            let died = match phase.as_str() {
                "Holding" | "Switching" | "Starting" if fresh => {
                    chart::kill_operator().await?;
                    true
                }
                "Preparing" if fresh => sandbox.kubectl(&JOB_DIES).await?.contains("deleted"),
                _ => false,
            };
            if died {
                killed.borrow_mut().push(phase.clone());
            }
            Ok((phase == "Completed").then_some(()))
        })
        .await?;
        let killed = killed.into_inner();
        ensure!(
            killed.len() >= 3,
            "it was too quick to be killed: {killed:?}"
        );
        println!("killed in {killed:?}");
        let jobs = sandbox.objects("jobs").await?;
        let mut steps: Vec<_> = jobs
            .iter()
            .filter_map(|job| job["metadata"]["name"].as_str()?.strip_prefix("back-"))
            .collect();
        steps.sort_unstable();
        ensure!(
            steps == ["commit", "preflight", "prepare", "switch"],
            "{steps:?}"
        );
        sandbox.ready("nvda").await?;
        same(&first, &sandbox.predict("nvda", "NVDA").await?)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_restore_that_does_not_become_ready_rolls_back_or_waits_for_a_person() {
    with_namespace("rollback", |sandbox| async move {
        let (first, made) = backed_up(&sandbox, "nvda", json!({})).await?;
        let good = &made["backups"][0]["name"];
        let bad = unservable(&sandbox).await?;
        sandbox
            .shell("nvda", "echo new > stock_data/marker")
            .await?;
        let spec = json!({"backup": bad, "timeLimits": {"start": "20s"}});
        sandbox.apply(&in_place("back", "nvda", &spec)).await?;
        let status = ends(&sandbox, "back", "RolledBack").await?;
        ensure!(status["failure"]["reason"] == "NotReady", "{status:#}");
        ensure!(sandbox.shell("nvda", "cat stock_data/marker").await? == "new\n");
        sandbox.ready("nvda").await?;
        same(&first, &sandbox.predict("nvda", "NVDA").await?)?;

        for (name, decision, end) in [
            ("held", "RollBack", "RolledBack"),
            ("kept", "Commit", "Completed"),
        ] {
            sandbox.apply(&in_place(name, "nvda", &held(&bad))).await?;
            ends(&sandbox, name, "Held").await?;
            eventually(SOON, "the predictor is stopped", || async {
                Ok(sandbox.pods("nvda").await?.is_empty().then_some(()))
            })
            .await?;
            sandbox
                .kubectl(&[
                    "annotate",
                    "sr",
                    name,
                    &format!("stockpredictor.io/decision={decision}"),
                ])
                .await?;
            sandbox
                .until("sr", name, end, RESTORE, |object| {
                    object["status"]["phase"] == end
                })
                .await?;
        }
        let marker = sandbox
            .shell("nvda", "cat stock_data/marker || echo gone")
            .await?;
        ensure!(marker.contains("gone"), "{marker}");
        // That is what was decided, and not the end of it.
        sandbox
            .apply(&in_place("good", "nvda", &json!({"backup": good})))
            .await?;
        ends(&sandbox, "good", "Completed").await?;
        sandbox.ready("nvda").await?;
        same(&first, &sandbox.predict("nvda", "NVDA").await?)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn what_cannot_be_restored_is_refused_before_anything_stops() {
    with_namespace("refused", |sandbox| async move {
        let (key, other) = (
            Key::create(&sandbox, "right").await?,
            Key::create(&sandbox, "wrong").await?,
        );
        let spec = json!({"encryption": {"recipients": [key.recipient]}});
        let (_, made) = backed_up(&sandbox, "sealed", spec).await?;
        let sealed = made["backups"][0]["name"].clone();
        sandbox
            .apply(&backup("plain", &json!({"runOnCreate": true})))
            .await?;
        let made = sandbox
            .until("sb", "plain", "a backup", RUN, |object| {
                object["status"]["lastRun"]["result"] == "Succeeded"
            })
            .await?;
        let good = made["status"]["backups"][0]["name"].as_str();
        let good = good.context("name")?.to_owned();
        let before = sandbox.pod_uids("nvda").await?;
        let fails = async |name: &str, from: &str, spec: Value, reason: &str| {
            sandbox.apply(&in_place(name, from, &spec)).await?;
            let status = ends(&sandbox, name, "Failed").await?;
            ensure!(
                status["failure"]["reason"] == reason,
                "{name}: {reason} expected: {:#}",
                status["failure"]
            );
            println!("{name}: {}", status["failure"]["message"]);
            anyhow::Ok(())
        };
        fails("no-key", "sealed", json!({"backup": sealed}), "KeyMissing").await?;
        fails(
            "wrong-key",
            "sealed",
            json!({"backup": sealed, "identitySecret": other.secret()}),
            "KeyWrong",
        )
        .await?;
        let claim = json!({"target": {"newClaim": {"name": "tiny", "size": "1Mi"}}});
        fails("no-room", "plain", claim, "NoSpace").await?;
        let gone = json!({"backup": "stock_prediction_backup_20200101_000000.tar.gz"});
        fails("no-backup", "plain", gone, "NoBackup").await?;

        // Somebody who can write to the folder puts an archive there that looks newer.
        let forged = "stock_prediction_backup_20991231_235959.tar.gz";
        sandbox
            .shell(
                "nvda",
                &format!(
                    "cd backups; for end in tar.gz meta.json; do cp {}.$end {}.$end; done",
                    stem(&good),
                    stem(forged)
                ),
            )
            .await?;
        sandbox
            .apply(&in_place("plan", "plain", &json!({"dryRun": true})))
            .await?;
        let status = ends(&sandbox, "plan", "Planned").await?;
        ensure!(
            status["backup"]["name"] == good,
            "the forged one was chosen: {status:#}"
        );

        // And the newest genuine one rots.
        sandbox
            .shell(
                "nvda",
                &format!("cd backups; printf rot | dd of={good} bs=1 seek=1000 conv=notrunc"),
            )
            .await?;
        fails("rotten", "plain", json!({"backup": good}), "Damaged").await?;
        ensure!(
            before == sandbox.pod_uids("nvda").await?,
            "the predictor was stopped"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_clone_in_another_namespace_is_filled_before_its_first_pod_and_fails_closed() {
    with_namespace("origin", |sandbox| async move {
        let store = Store::start(&sandbox, &["backups"]).await?;
        let place = store.place("s3://backups/clones");
        let mut offsite = place.clone();
        offsite["name"] = json!("offsite");
        let (first, made) = backed_up(&sandbox, "nvda", json!({"destinations": [offsite]})).await?;
        let name = made["backups"][0]["name"].as_str().context("name")?.to_owned();
        let sha256 = made["attested"][&name].clone();

        // A new claim in the same namespace, which a predictor of its name takes up.
        let spec = json!({"target": {"newClaim": {"name": "second", "size": "1Gi"}}});
        sandbox.apply(&in_place("second", "nvda", &spec)).await?;
        ends(&sandbox, "second", "Completed").await?;
        sandbox.create_predictor("second", json!({"samples": false})).await?;
        sandbox.ready("second").await?;
        same(&first, &sandbox.predict("second", "NVDA").await?)?;

        let origin = sandbox.namespace.clone();
        with_namespace("clone", |sandbox| async move {
            store.secrets(&sandbox).await?;
            let bootstrap = |secret: &str| {
                let mut place = place.clone();
                place["objectStore"]["credentialsSecret"]["name"] = json!(secret);
                json!({"samples": false, "storage": {"bootstrapFrom": {
                    "source": {"destination": place, "origin": {"namespace": origin, "predictor": "nvda"}},
                    "backup": name, "sha256": sha256,
                }}})
            };
            sandbox.create_predictor("clone", bootstrap("nobodys")).await?;
            let said = sandbox
                .condition("clone", "VolumeReady", "False", "BootstrapFailed", READY)
                .await?;
            println!("fails closed: {said}");
            ensure!(sandbox.pods("clone").await?.is_empty(), "a pod started on an empty volume");
            sandbox
                .patch_predictor("clone", bootstrap(stockpredictor_e2e::store::CREDENTIALS))
                .await?;
            sandbox.ready("clone").await?;
            same(&first, &sandbox.predict("clone", "NVDA").await?)
        })
        .await;
        Ok(())
    })
    .await;
}

fn stem(archive: &str) -> &str {
    archive.trim_end_matches(".tar.gz")
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn the_commands_of_the_page_lead_through_a_restore() {
    with_namespace("page", |sandbox| async move {
        prepare(&sandbox).await?;
        let shell = Shell::open(&sandbox).await?;
        let shell = async |script: &str| shell.run(script).await;
        let page = blocks(include_str!("../../docs/restores.md"));
        let [
            wrong,
            which,
            prove,
            plan,
            restore,
            good,
            trouble,
            decide,
            ..,
        ] = page[..]
        else {
            anyhow::bail!("the page has {} blocks", page.len());
        };
        shell(wrong).await?;
        let said = shell(which).await?;
        ensure!(said.contains("Readable"), "{said}");
        shell(prove).await?;
        let said = shell(plan).await?;
        ensure!(
            said.contains("stock_prediction_backup_") && said.contains("files"),
            "{said}"
        );
        shell(restore).await?;
        shell(trouble).await?;
        let said = shell(good).await?;
        ensure!(said.contains("nvda_lstm_model/"), "{said}");
        // Those who decide need one that waits for it.
        let bad = unservable(&sandbox).await?;
        sandbox
            .kubectl(&["wait", "--for=delete", "sr/nvda-restore", "--timeout=60s"])
            .await?;
        sandbox
            .apply(&in_place("nvda-restore", "nvda-weekly", &held(&bad)))
            .await?;
        ends(&sandbox, "nvda-restore", "Held").await?;
        shell(decide.lines().next().context("a command")?).await?;
        sandbox
            .until("sr", "nvda-restore", "Completed", RESTORE, |object| {
                object["status"]["phase"] == "Completed"
            })
            .await
            .map(drop)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn a_part_as_it_was_at_a_moment_comes_back_alone_and_a_namespace_goes_in_the_middle() {
    with_namespace("parts", |sandbox| async move {
        let (_, made) = backed_up(&sandbox, "nvda", json!({})).await?;
        let first = &made["backups"][0];
        sandbox
            .shell(
                "nvda",
                "echo rubbish > config/rubbish.txt; echo new > stock_data/note.txt",
            )
            .await?;
        sandbox
            .patch(
                "sb",
                "nvda",
                &json!({"spec": {"trigger": "with the rubbish"}}),
            )
            .await?;
        sandbox
            .until("sb", "nvda", "a second backup", RUN, |object| {
                object["status"]["total"] == 2
            })
            .await?;
        let spec = json!({"at": first["created"], "include": ["config"]});
        sandbox.apply(&in_place("part", "nvda", &spec)).await?;
        let status = ends(&sandbox, "part", "Completed").await?;
        ensure!(status["backup"]["name"] == first["name"], "{status:#}");
        let left = sandbox
            .shell("nvda", "ls config; cat stock_data/note.txt")
            .await?;
        ensure!(
            !left.contains("rubbish") && left.contains("new"),
            "only config was to be restored: {left}"
        );

        // The namespace is deleted now and has to be gone within two minutes: whoever does that means it, and nothing that
        // is half done keeps it.
        sandbox.ready("nvda").await?;
        sandbox.apply(&in_place("late", "nvda", &json!({}))).await?;
        sandbox
            .until("sr", "late", "it has begun", RUN, |object| {
                object["metadata"]["finalizers"].is_array()
            })
            .await
            .map(drop)
    })
    .await;
}
