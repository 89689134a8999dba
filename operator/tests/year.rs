//! A year of the guide's schedules: the operator's planner says when and what, the predictor's binary does it with its clock
//! set, and after each run the archives that are there are the ones that the policy says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use stockpredictor_api::{ImagePullPolicy, StockPredictor, StorageBackup};
use stockpredictor_operator::stock_predictor::validate::Defaults;
use stockpredictor_operator::storage_backup::build::build_backup_cron;
use stockpredictor_operator::storage_backup::validate::{Identity, ValidatedBackup, validate};

const FROM: &str = "2025-01-01T00:00:00Z";
const TO: &str = "2026-01-01T00:00:00Z";
/// What the example gives its runs and the guide asks for.
const DAILY: usize = 10;
const WEEKLY: usize = 4;
const MONTHS: usize = 12;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The predictor's binary, at a time.
fn predictor(at: Timestamp) -> Command {
    let mut command = Command::new("faketime");
    command
        .env("TZ", "UTC")
        .args(["-f", &at.strftime("@%Y-%m-%d %H:%M:%S").to_string()])
        .arg(repository().join("target/release/predictor"));
    command
}

/// The example's objects as the API server would have them.
fn backups() -> Vec<ValidatedBackup> {
    let text = fs::read_to_string(repository().join("examples/backups/daily-weekly-monthly.yaml"));
    let spec = json!({"symbols": ["NVDA"], "storage": {"size": "1Gi"}});
    let predictor: StockPredictor = serde_json::from_value(json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StockPredictor",
        "metadata": {"name": "nvda", "namespace": "trading", "uid": "5f1d7a56-0f7e-4c1e-8a68-5a3b1f1c7d03"}, "spec": spec,
    }))
    .unwrap();
    let defaults = Defaults {
        image: "registry.example.com/predictor:1".into(),
        pull_policy: ImagePullPolicy::IfNotPresent,
        allow_from: vec![],
        operator_namespace: "stockpredictor".into(),
    };
    text.unwrap()
        .split("\n---\n")
        .enumerate()
        .map(|(number, document)| {
            let mut object: StorageBackup = serde_yaml::from_str(document).unwrap();
            object.metadata.namespace = Some("trading".into());
            object.metadata.uid = Some(format!("0b0f8f6e-55a8-4c55-8a55-7d6f0d6c1a0{number}"));
            object.metadata.generation = Some(1);
            let identity = Identity::of(&object).unwrap();
            validate(
                &object,
                &identity,
                Some(&predictor),
                &defaults,
                FROM.parse().unwrap(),
            )
            .unwrap()
        })
        .collect()
}

/// When each of them runs, in order.
fn times(backups: &[ValidatedBackup]) -> Vec<(Timestamp, usize)> {
    let (from, to): (Timestamp, Timestamp) = (FROM.parse().unwrap(), TO.parse().unwrap());
    let mut all = Vec::new();
    for (number, backup) in backups.iter().enumerate() {
        let schedule = backup.schedule.as_ref().unwrap();
        let mut at = from;
        while let Some(next) = schedule.after(at).filter(|next| *next < to) {
            all.push((next, number));
            at = next;
        }
    }
    all.sort_unstable();
    all
}

/// What the pod of a run is told, with the folders of the test in the place of its mounts.
fn document(backup: &ValidatedBackup, root: &Path, offsite: &Path) -> String {
    let cron = build_backup_cron(backup, backup.schedule.as_ref().unwrap(), false).unwrap();
    let cron = json!(cron);
    let pod = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let told = pod["containers"][0]["env"][0]["value"].as_str().unwrap();
    let mut told: Value = serde_json::from_str(told).unwrap();
    told["root"] = json!(root);
    for place in told["destinations"].as_array_mut().unwrap() {
        if place["url"].is_string() {
            *place =
                json!({"name": place["name"], "path": offsite, "retention": place["retention"]});
        }
    }
    told.to_string()
}

/// An archive as its run reported it.
struct Made {
    name: String,
    base: Option<String>,
}

/// What the policies of the example leave of the archives of one object.
fn kept(number: usize, made: &[Made]) -> BTreeSet<String> {
    let newest = |count: usize| made.iter().rev().take(count);
    let own: BTreeSet<_> = match number {
        0 => newest(DAILY).map(|archive| archive.name.clone()).collect(),
        1 => newest(WEEKLY).map(|archive| archive.name.clone()).collect(),
        _ => {
            let mut months = BTreeMap::new();
            for archive in made {
                // stock_prediction_backup_YYYYMM…: the last of a month stays.
                months.insert(archive.name[24..30].to_owned(), archive.name.clone());
            }
            months.into_values().rev().take(MONTHS).collect()
        }
    };
    let bases = made
        .iter()
        .filter(|archive| own.contains(&archive.name))
        .filter_map(|archive| archive.base.clone());
    own.iter().cloned().chain(bases).collect()
}

fn archives(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.into_string().unwrap())
        .filter(|name| name.ends_with(".tar.gz"))
        .collect()
}

#[test]
#[ignore = "needs faketime and the predictor's binary: make test-year"]
fn after_each_run_of_a_year_the_archives_are_those_of_the_policy() {
    let scratch = tempfile::tempdir().unwrap();
    let (root, offsite) = (
        scratch.path().join("volume"),
        scratch.path().join("offsite"),
    );
    fs::create_dir(&offsite).unwrap();
    let setup = predictor(FROM.parse().unwrap())
        .args(["storage", "setup", "--samples", "--root"])
        .arg(&root)
        .output()
        .unwrap();
    assert!(setup.status.success(), "{setup:?}");
    let backups = backups();
    let documents: Vec<_> = backups
        .iter()
        .map(|backup| document(backup, &root, &offsite))
        .collect();
    let mut made: [Vec<Made>; 3] = Default::default();
    let mut full = 0;
    for (at, number) in times(&backups) {
        // Each day has its log.
        let log = root
            .join("logs")
            .join(at.strftime("day-%Y-%m-%d.log").to_string());
        let mut log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(log)
            .unwrap();
        writeln!(log, "{at}").unwrap();
        let message = scratch.path().join("message");
        let run = predictor(at)
            .args(["storage", "job", "--termination-message"])
            .arg(&message)
            .args(["--job", &documents[number]])
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&fs::read(&message).unwrap()).unwrap();
        assert!(
            run.status.success() && said["result"] == "succeeded",
            "{at}: {said:#}"
        );
        let backup = &said["backup"];
        let name = backup["name"].as_str().unwrap().to_owned();
        assert!(
            name.contains(&at.strftime("_%Y%m%d_%H%M").to_string()),
            "{at}: {name}"
        );
        full += usize::from(number == 0 && backup["kind"] == "full");
        made[number].push(Made {
            name,
            base: backup["base"].as_str().map(str::to_owned),
        });
        let [daily, weekly, monthly] = [0, 1, 2].map(|number| kept(number, &made[number]));
        let on_volume: BTreeSet<_> = daily.union(&weekly).cloned().collect();
        assert_eq!(archives(&root.join("backups")), on_volume, "{at}");
        assert_eq!(archives(&offsite), monthly, "{at}");
    }
    assert_eq!(made.each_ref().map(Vec::len), [365, 52, 12]);
    assert!(
        (45..=54).contains(&full),
        "{full} full archives of the daily object"
    );
}
