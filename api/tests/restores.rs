//! The rules of a `StorageRestore` and of `bootstrapFrom`: once offline, and once on a real API server.
//!
//! What needs an API server is ignored by default; `make test` runs it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

mod common;
#[path = "common/server.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod server;

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use server::Server;
use stockpredictor_api::{StorageRestore, crd};

const BACKUP: &str = "stock_prediction_backup_20250801_120000.tar.gz";

fn definition(plural: &str) -> CustomResourceDefinition {
    let all = crd::all().unwrap();
    all.into_iter()
        .find(|crd| crd.spec.names.plural == plural)
        .unwrap()
}

/// A small restore in place, changed by a merge.
fn restore(name: &str, change: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageRestore",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "source": {"storageBackupRef": {"name": "nvda-daily"}}, "backup": "latest",
            "target": {"inPlace": {"predictorRef": {"name": "nvda"}}},
        },
    });
    common::merge(&mut object["spec"], change);
    object
}

/// A change, and the field and a part of the sentence with which it is refused.
type Case = (&'static str, Value, Option<(&'static str, &'static str)>);

#[allow(clippy::too_many_lines, reason = "it is a table")]
fn cases() -> Vec<Case> {
    let store = json!({"objectStore": {"url": "s3://backups/trading"}});
    let fresh = json!({"inPlace": null, "newClaim": {"name": "fresh", "size": "1Gi"}});
    let without = json!({"storageBackupRef": null, "destination": store});
    let origin = json!({"storageBackupRef": null, "destination": store, "origin": {"namespace": "prod", "predictor": "nvda"}});
    vec![
        ("the newest of a StorageBackup", json!({}), None),
        (
            "the newest proven one",
            json!({"backup": "latestProven"}),
            None,
        ),
        ("an exact name", json!({"backup": BACKUP}), None),
        (
            "an encrypted one",
            json!({"backup": format!("{BACKUP}.age"), "identitySecret": {"name": "keys", "key": "key.txt"}}),
            None,
        ),
        (
            "a pinned one",
            json!({"backup": BACKUP, "sha256": "a".repeat(64)}),
            None,
        ),
        (
            "a time",
            json!({"backup": null, "at": "2025-08-01T12:00:00Z"}),
            None,
        ),
        ("a part", json!({"include": ["models", "config"]}), None),
        (
            "a destination of the StorageBackup",
            json!({"source": {"storageBackupRef": {"destination": "offsite"}}}),
            None,
        ),
        (
            "a store without a StorageBackup",
            json!({"source": without}),
            None,
        ),
        (
            "its own volume without a StorageBackup",
            json!({"source": {"storageBackupRef": null, "destination": {"volume": {}}}}),
            None,
        ),
        ("a new claim", json!({"target": fresh}), None),
        (
            "a clone from another namespace",
            json!({"target": fresh, "source": origin}),
            None,
        ),
        (
            "held on failure",
            json!({"onFailure": "Hold", "timeLimits": {"start": "90s"}, "dryRun": true}),
            None,
        ),
        (
            "no source",
            json!({"source": {"storageBackupRef": null}}),
            Some(("spec.source", "set either storageBackupRef")),
        ),
        (
            "two sources",
            json!({"source": {"destination": store}}),
            Some(("spec.source", "set either storageBackupRef")),
        ),
        (
            "whose backups, twice",
            json!({"source": {"origin": {"predictor": "nvda"}}}),
            Some(("spec.source", "remove origin")),
        ),
        (
            "no choice",
            json!({"backup": null}),
            Some(("spec", "set either backup")),
        ),
        (
            "two choices",
            json!({"at": "2025-08-01T12:00:00Z"}),
            Some(("spec", "set either backup")),
        ),
        (
            "a choice that is none",
            json!({"backup": "newest"}),
            Some(("spec.backup", "write latest, latestProven")),
        ),
        (
            "a path for a name",
            json!({"backup": format!("../{BACKUP}")}),
            Some(("spec.backup", "write latest")),
        ),
        (
            "a hash of something unknown",
            json!({"sha256": "a".repeat(64)}),
            Some(("spec", "name the backup that sha256 belongs to")),
        ),
        (
            "a short hash",
            json!({"backup": BACKUP, "sha256": "abc"}),
            Some(("spec.sha256", "64 hexadecimal digits")),
        ),
        (
            "no target",
            json!({"target": {"inPlace": null}}),
            Some(("spec.target", "set either inPlace")),
        ),
        (
            "two targets",
            json!({"target": {"newClaim": {"name": "fresh", "size": "1Gi"}}}),
            Some(("spec.target", "set either inPlace")),
        ),
        (
            "a part for a new claim",
            json!({"target": fresh, "include": ["models"]}),
            Some(("spec.include", "remove include")),
        ),
        (
            "nobody's backups",
            json!({"target": fresh, "source": without}),
            Some(("spec.source", "set source.origin")),
        ),
        (
            "a volume that isn't there yet as the source",
            json!({"target": fresh, "source": {"storageBackupRef": null, "destination": {"volume": {}}, "origin": {"predictor": "nvda"}}}),
            Some((
                "spec.source.destination",
                "a new claim has no backups of its own",
            )),
        ),
        (
            "a tiny claim",
            json!({"target": {"inPlace": null, "newClaim": {"name": "fresh", "size": "10"}}}),
            Some(("spec.target.newClaim.size", "must be at least 1Mi")),
        ),
        (
            "a size that is none",
            json!({"target": {"inPlace": null, "newClaim": {"name": "fresh", "size": "big"}}}),
            Some(("spec.target.newClaim.size", "write a size such as")),
        ),
        (
            "a claim that no predictor can be named by",
            json!({"target": {"inPlace": null, "newClaim": {"name": "3m", "size": "1Gi"}}}),
            Some((
                "spec.target.newClaim.name",
                "use at most 40 lower-case letters",
            )),
        ),
        (
            "a class that can't be one",
            json!({"target": {"inPlace": null, "newClaim": {"name": "fresh", "size": "1Gi", "storageClassName": "Fast!"}}}),
            Some((
                "spec.target.newClaim.storageClassName",
                "use the name of a StorageClass",
            )),
        ),
        (
            "a limit without a unit",
            json!({"timeLimits": {"hold": "10"}}),
            Some((
                "spec.timeLimits.hold",
                "write a positive whole number and one unit",
            )),
        ),
        (
            "a predictor that can't be one",
            json!({"target": {"inPlace": {"predictorRef": {"name": "NVDA"}}}}),
            Some((
                "spec.target.inPlace.predictorRef.name",
                "use the name of a StockPredictor",
            )),
        ),
        (
            "a StorageBackup that can't be one",
            json!({"source": {"storageBackupRef": {"name": "Daily"}}}),
            Some((
                "spec.source.storageBackupRef.name",
                "use the name of a StorageBackup",
            )),
        ),
        (
            "a destination that can't be one",
            json!({"source": {"storageBackupRef": {"destination": "a/b"}}}),
            Some((
                "spec.source.storageBackupRef.destination",
                "use the name of a destination",
            )),
        ),
        (
            "an origin that can't be one",
            json!({"source": {"storageBackupRef": null, "destination": store, "origin": {"predictor": "A"}}}),
            Some((
                "spec.source.origin.predictor",
                "use the name of the StockPredictor",
            )),
        ),
        (
            "a namespace that can't be one",
            json!({"source": {"storageBackupRef": null, "destination": store, "origin": {"namespace": "A", "predictor": "nvda"}}}),
            Some((
                "spec.source.origin.namespace",
                "use the name of the namespace",
            )),
        ),
    ]
}

#[test]
fn each_case_gets_its_answer() {
    let definition = definition("storagerestores");
    for (title, change, refused) in cases() {
        let found = common::refusals(&definition, &restore("case", &change), None);
        match refused {
            None => assert!(found.is_empty(), "{title}: {found:?}"),
            Some((path, message)) => assert!(
                found.len() == 1
                    && found[0].starts_with(&format!("{path}: "))
                    && found[0].contains(message),
                "{title}: expected only '{path}: …{message}…', got {found:?}"
            ),
        }
    }
}

#[test]
fn a_restore_never_changes() {
    let definition = definition("storagerestores");
    let old = restore("case", &json!({}));
    for change in [
        json!({"backup": BACKUP}),
        json!({"dryRun": true}),
        json!({"onFailure": "Hold"}),
        json!({"timeLimits": {"hold": "1m"}}),
    ] {
        let found = common::refusals(&definition, &restore("case", &change), Some(&old));
        assert!(
            found.len() == 1 && found[0].contains("cannot change"),
            "{found:?}"
        );
    }
    assert_eq!(
        common::refusals(&definition, &old, Some(&old)),
        Vec::<String>::new()
    );
}

#[test]
fn every_rule_of_its_own_is_broken_by_some_case() {
    let definition = definition("storagerestores");
    let mut rules = common::rules(&definition);
    let mut refusals: Vec<_> = cases()
        .iter()
        .flat_map(|(_, change, _)| common::refusals(&definition, &restore("case", change), None))
        .collect();
    refusals.extend(common::refusals(
        &definition,
        &restore("3m", &json!({})),
        None,
    ));
    let old = restore("case", &json!({}));
    refusals.extend(common::refusals(
        &definition,
        &restore("case", &json!({"dryRun": true})),
        Some(&old),
    ));
    rules.retain(|message| !refusals.iter().any(|refusal| refusal.ends_with(message)));
    // Places and secrets are tested where they are declared for all kinds.
    let shared = [
        "set exactly one",
        "s3://",
        "https://",
        "relative path",
        "Secret",
        "secret",
        "claim as `kubectl get pvc`",
    ];
    rules.retain(|message| !shared.iter().any(|part| message.contains(part)));
    assert!(rules.is_empty(), "add a case for: {rules:#?}");
}

#[test]
fn what_is_left_out_gets_the_documented_defaults() {
    let object: StorageRestore = serde_json::from_value(restore("case", &json!({}))).unwrap();
    assert_eq!(
        json!(object.spec),
        json!({
            "source": {"storageBackupRef": {"name": "nvda-daily"}}, "backup": "latest", "include": [],
            "target": {"inPlace": {"predictorRef": {"name": "nvda"}}}, "onFailure": "RollBack", "dryRun": false,
            "timeLimits": {"preflight": "30m", "hold": "10m", "prepare": "2h", "switch": "30m", "start": "10m"},
        })
    );
}

/// Whether kubectl succeeded, and everything it said.
fn run(server: &Server, arguments: &[&str], input: &str) -> (bool, String) {
    let output = server.kubectl(arguments, input).unwrap();
    let text = [output.stdout, output.stderr]
        .map(|part| String::from_utf8(part).unwrap())
        .concat();
    (output.status.success(), text)
}

#[test]
#[ignore = "needs a Kubernetes API server: e2e/cluster/tools.sh cluster"]
fn the_api_server_answers_as_the_offline_rules_do_and_prints_the_columns() {
    let server = Server::start().unwrap();
    for (name, yaml) in crd::files().unwrap() {
        let (success, text) = run(&server, &["create", "-f", "-"], &yaml);
        assert!(success, "{name}: {text}");
    }
    for attempt in 0.. {
        if run(&server, &["get", "storagerestores,stockpredictors"], "").0 {
            break;
        }
        assert!(attempt < 300, "the definitions are not served");
        std::thread::sleep(Duration::from_millis(200));
    }
    for (number, (title, change, refused)) in cases().into_iter().enumerate() {
        let object = restore(&format!("case-{number}"), &change);
        let (success, text) = run(
            &server,
            &["create", "--dry-run=server", "-f", "-"],
            &object.to_string(),
        );
        match refused {
            None => assert!(success, "{title}: {text}"),
            Some((path, message)) => assert!(
                !success && text.contains(message) && text.contains(path),
                "{title}: expected '{path}: …{message}…', got {text}"
            ),
        }
    }
    let (success, text) = run(
        &server,
        &["create", "-f", "-"],
        &restore("back", &json!({})).to_string(),
    );
    assert!(success, "{text}");
    let (success, text) = run(
        &server,
        &[
            "patch",
            "sr/back",
            "--type=merge",
            "-p",
            r#"{"spec":{"dryRun":true}}"#,
        ],
        "",
    );
    assert!(
        !success && text.contains("a StorageRestore is one restore and cannot change"),
        "{text}"
    );
    let status = json!({"status": {
        "phase": "Completed", "duration": "1m 5s", "downtime": "50s", "target": {"claimName": "nvda"},
        "backup": {"name": BACKUP}, "restored": {"model": "nvda_lstm_model/2023-12-29"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Restored", "message": "in place and proven",
            "lastTransitionTime": "2024-01-02T14:30:00Z"}],
    }});
    let patch = status.to_string();
    let (success, text) = run(
        &server,
        &[
            "patch",
            "sr/back",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ],
        "",
    );
    assert!(success, "{text}");
    let (_, table) = run(&server, &["get", "sr", "back", "-o", "wide"], "");
    for part in [
        "READY",
        "PHASE",
        "TARGET",
        "BACKUP",
        "TOOK",
        "REASON",
        "MODEL",
        "DOWNTIME",
        "MESSAGE",
        "AGE",
        "True",
        "Completed",
        BACKUP,
        "1m 5s",
        "50s",
        "in place and proven",
    ] {
        assert!(table.contains(part), "no {part} in:\n{table}");
    }
}
