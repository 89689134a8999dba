//! The definitions on a real API server: it takes them (CEL's cost included), answers each case as the offline rules
//! do, scales, and prints the columns.
//!
//! Ignored by default, because they need the binaries that e2e/cluster/tools.sh builds; `make test` runs them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

mod common;
#[path = "common/server.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod server;

use std::fmt::Write as _;

use common::{Case, object};
use serde_json::{Value, json};
use server::Server;
use stockpredictor_api::crd;

/// A server that knows our definitions.
fn server() -> Server {
    let server = Server::start().unwrap();
    for (name, yaml) in crd::files().unwrap() {
        let output = run(&server, &["create", "-f", "-"], &yaml);
        assert!(
            output.1.contains("created"),
            "{name} is refused:\n{}",
            output.1
        );
    }
    for definition in crd::all().unwrap() {
        wait_for(&server, &definition.spec.names.plural);
    }
    server
}

/// Waits until the server serves a definition, and checks that its schema is structural.
fn wait_for(server: &Server, plural: &str) {
    let crd = format!("crd/{plural}.stockpredictor.io");
    run_ok(
        server,
        &["wait", "--for=condition=Established", "--timeout=60s", &crd],
    );
    let violations = r#"{.status.conditions[?(@.type=="NonStructuralSchema")].message}"#;
    assert_eq!(
        run_ok(
            server,
            &["get", &crd, "-o", &format!("jsonpath={violations}")]
        ),
        ""
    );
    // Established comes a moment before the first request is served.
    for _ in 0..100 {
        if run(server, &["get", plural], "").0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("the API server does not serve {plural}");
}

/// Whether kubectl succeeded, and everything it said.
fn run(server: &Server, arguments: &[&str], input: &str) -> (bool, String) {
    let output = server.kubectl(arguments, input).unwrap();
    let text = [output.stdout, output.stderr]
        .map(|part| String::from_utf8(part).unwrap())
        .concat();
    (output.status.success(), text)
}

fn run_ok(server: &Server, arguments: &[&str]) -> String {
    let (success, text) = run(server, arguments, "");
    assert!(success, "kubectl {arguments:?}: {text}");
    text
}

fn create(server: &Server, object: &Value) {
    let (success, text) = run(server, &["create", "-f", "-"], &object.to_string());
    assert!(success, "{text}");
}

/// The line of kubectl's answer that is about the object `name`.
fn answer<'a>(answers: &'a str, name: &str) -> &'a str {
    let signs = [
        format!("\"{name}\" is invalid"),
        format!("stockpredictor.stockpredictor.io/{name} "),
        format!("storagebackup.stockpredictor.io/{name} "),
    ];
    answers
        .lines()
        .find(|line| signs.iter().any(|sign| line.contains(sign)))
        .unwrap_or_default()
}

/// Sends all cases in one go with `verb`, as a dry run, and compares each answer.
fn assert_answers(server: &Server, verb: &str, cases: &[(String, Case)]) {
    let mut stream = String::new();
    for (_, case) in cases {
        let _ = writeln!(stream, "{}", case.new);
    }
    let (_, answers) = run(server, &[verb, "--dry-run=server", "-f", "-"], &stream);
    for (name, case) in cases {
        let answer = answer(&answers, name);
        let title = case.title;
        match case.refused {
            None => assert!(
                answer.contains("(server dry run)"),
                "{title}: {answer}\n{answers}"
            ),
            Some((path, message)) => {
                assert!(
                    answer.contains("is invalid") && answer.contains(message),
                    "{title}: {answer}\n{answers}"
                );
                assert!(
                    answer.contains(&format!("{path}: ")) || path.is_empty(),
                    "{title}: no {path} in {answer}"
                );
            }
        }
    }
}

/// Gives each case an object of its own, so that the answers can be told apart.
fn numbered(cases: Vec<Case>) -> Vec<(String, Case)> {
    let rename = |object: &mut Value, name: &str| {
        if object["metadata"]["name"] == "case" {
            object["metadata"]["name"] = json!(name);
        }
    };
    let name_each = |(number, mut case): (usize, Case)| {
        let name = format!("case-{number}");
        rename(&mut case.new, &name);
        if let Some(old) = &mut case.old {
            rename(old, &name);
        }
        (
            case.new["metadata"]["name"].as_str().unwrap().to_owned(),
            case,
        )
    };
    cases.into_iter().enumerate().map(name_each).collect()
}

#[test]
#[ignore = "needs a Kubernetes API server: e2e/cluster/tools.sh cluster"]
fn the_api_server_answers_each_case_as_the_offline_rules_do() {
    let server = server();
    let backups = numbered(common::backups::cases()).into_iter();
    let backups = backups.map(|(name, mut case)| {
        // Both kinds are answered by their names.
        for object in [Some(&mut case.new), case.old.as_mut()]
            .into_iter()
            .flatten()
        {
            if object["metadata"]["name"] == name.as_str() && name.starts_with("case-") {
                object["metadata"]["name"] = json!(format!("backup-{name}"));
            }
        }
        (
            case.new["metadata"]["name"].as_str().unwrap().to_owned(),
            case,
        )
    });
    let (mut updates, mut creations): (Vec<_>, Vec<_>) = numbered(common::cases())
        .into_iter()
        .chain(backups)
        .partition(|(_, case)| case.old.is_some());
    let misspelt = |case: &Case| {
        case.refused
            .is_some_and(|(_, message)| message.contains("unknown field"))
    };
    creations.extend(
        numbered(
            common::schema_cases()
                .into_iter()
                .chain(common::backups::schema_cases())
                .filter(|case| !misspelt(case))
                .collect(),
        )
        .into_iter()
        .map(|(name, mut case)| {
            let name = format!("schema-{name}");
            case.new["metadata"]["name"] = json!(name);
            (name, case)
        }),
    );
    assert_answers(&server, "create", &creations);

    for (_, case) in &mut updates {
        create(&server, &case.old.take().unwrap());
    }
    assert_answers(&server, "replace", &updates);

    // The decoder refuses these before an object's name is known.
    for case in common::schema_cases().into_iter().filter(misspelt) {
        let (success, text) = run(
            &server,
            &["create", "--dry-run=server", "-f", "-"],
            &case.new.to_string(),
        );
        assert!(
            !success && text.contains(case.refused.unwrap().1),
            "{}: {text}",
            case.title
        );
    }
}

#[test]
#[ignore = "needs a Kubernetes API server: e2e/cluster/tools.sh cluster"]
fn defaults_are_filled_in_and_a_null_means_absent() {
    let server = server();
    create(
        &server,
        &json!({
            "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StockPredictor", "metadata": {"name": "nulls", "namespace": "default"},
            "spec": {"symbols": ["NVDA"], "storage": {"size": "1Gi", "storageClassName": null}, "model": null, "cache": {"dailyTtl": null}},
        }),
    );
    let stored: Value =
        serde_json::from_str(&run_ok(&server, &["get", "sp", "nulls", "-o", "json"])).unwrap();
    assert_eq!(
        stored["spec"],
        json!({
            "symbols": ["NVDA"], "replicas": 1, "samples": false, "suspend": false, "cache": {},
            "storage": {"size": "1Gi", "accessMode": "ReadWriteOnce", "deletionPolicy": "Retain"},
        })
    );
}

#[test]
#[ignore = "needs a Kubernetes API server: e2e/cluster/tools.sh cluster"]
fn kubectl_scales_prints_the_columns_and_explains_the_fields() {
    let server = server();
    create(&server, &object("alone", &json!({})));
    create(
        &server,
        &object(
            "shared",
            &json!({"storage": {"accessMode": "ReadWriteMany"}}),
        ),
    );

    let (success, text) = run(&server, &["scale", "sp/alone", "--replicas=3"], "");
    assert!(
        !success && text.contains("set storage.accessMode to ReadWriteMany"),
        "{text}"
    );
    run_ok(&server, &["scale", "sp/shared", "--replicas=3"]);
    run_ok(&server, &["scale", "sp/alone", "--replicas=0"]);

    let status = json!({"status": {
        "observedGeneration": 2, "replicas": 3, "readyReplicas": 2, "selector": "app=x", "symbols": "NVDA,TSLA",
        "model": {"folder": "nvda_lstm_model/2023-12-29"},
        "volume": {"phase": "Bound", "usage": "12Mi (1%)", "capacity": "1Gi"},
        "conditions": [{"type": "Ready", "status": "False", "reason": "Unschedulable", "observedGeneration": 2,
            "message": "no node can take the pod", "lastTransitionTime": "2024-01-02T14:30:00Z"}],
    }});
    run_ok(
        &server,
        &[
            "patch",
            "sp/shared",
            "--subresource=status",
            "--type=merge",
            "-p",
            &status.to_string(),
        ],
    );

    let raw = "/apis/stockpredictor.io/v1alpha1/namespaces/default/stockpredictors/shared/scale";
    let scale: Value = serde_json::from_str(&run_ok(&server, &["get", "--raw", raw])).unwrap();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]),
        (&json!(3), &json!({"replicas": 3, "selector": "app=x"}))
    );

    let cells = |text: &str| -> Vec<Vec<String>> {
        text.lines()
            .map(|line| {
                line.split("   ")
                    .map(|cell| cell.trim().to_owned())
                    .filter(|cell| !cell.is_empty())
                    .collect()
            })
            .collect()
    };
    let table = cells(&run_ok(&server, &["get", "sp", "shared"]));
    assert_eq!(
        table[0],
        [
            "NAME", "READY", "REASON", "SYMBOLS", "MODEL", "VOLUME", "USED", "AGE"
        ]
    );
    assert_eq!(
        table[1][..7],
        [
            "shared",
            "False",
            "Unschedulable",
            "NVDA,TSLA",
            "nvda_lstm_model/2023-12-29",
            "Bound",
            "12Mi (1%)"
        ]
    );
    let wide = run_ok(&server, &["get", "sp", "shared", "-o", "wide"]);
    for text in [
        "SINCE",
        "REPLICAS",
        "CAPACITY",
        "MESSAGE",
        "no node can take the pod",
        "1Gi",
    ] {
        assert!(wide.contains(text), "no {text} in:\n{wide}");
    }
    let category = run_ok(&server, &["get", "stockpredictor", "-A"]);
    assert!(
        category.contains("alone") && category.contains("shared"),
        "{category}"
    );
    let explained = run_ok(
        &server,
        &["explain", "stockpredictor.spec.storage.deletionPolicy"],
    );
    assert!(
        explained.contains("What becomes of the claim") && explained.contains("Retain"),
        "{explained}"
    );
}

#[test]
#[ignore = "needs a Kubernetes API server: e2e/cluster/tools.sh cluster"]
fn every_example_is_accepted() {
    let server = server();
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            run_ok(
                &server,
                &[
                    "apply",
                    "--dry-run=server",
                    "--validate=strict",
                    "-f",
                    path.to_str().unwrap(),
                ],
            );
        }
    }
}
