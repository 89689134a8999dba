//! Jobs with an object store, against a real S3 server. `make test-s3` builds it and runs these tests.

use std::fs;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Bench, origin, text, with};
use crate::s3_server::{KEY, SECRET, Server};

/// A mounted Secret.
fn secret(bench: &Bench, name: &str, secret: &str) -> std::path::PathBuf {
    let folder = bench.make(name);
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_REGION", "us-east-1"),
    ] {
        fs::write(folder.join(name), format!("{value}\n")).unwrap();
    }
    folder
}

fn place(server: &Server, bench: &Bench) -> Value {
    json!({
        "name": "offsite", "url": "s3://backups/trading", "endpoint": server.endpoint,
        "credentials": secret(bench, "credentials", SECRET), "retention": {"last": 1},
    })
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn a_backup_goes_to_the_volume_and_a_store_and_is_restored_from_there() {
    let server = Server::start();
    let bench = Bench::new();
    let place = place(&server, &bench);
    let both = json!({"destinations": [{"name": "volume", "path": "backups"}, place]});
    let told = bench.backup(&both).good();
    assert_eq!(told["backup"]["destinations"], json!(["volume", "offsite"]));
    assert_eq!(told["destinations"][1]["verified"], "readable");
    assert_eq!(told["total"], 1);
    let name = text(&told["backup"]["name"]).to_owned();
    let keys = server.files();
    let below = format!("backups/trading/trading/nvda/{name}");
    assert!(keys.iter().any(|key| key.ends_with(&below)), "{keys:?}");

    let known = json!({name.clone(): told["backup"]["sha256"]});
    let test = json!({
        "version": 1, "job": "test", "origin": origin(), "scratch": bench.make("scratch"), "known": known,
        "destinations": [place],
    });
    assert_eq!(bench.job(&test).good()["backup"]["level"], "proven");

    let id = Uuid::new_v4();
    let config = bench.root.join("config/ml_config.json");
    fs::write(&config, "new").unwrap();
    let latest = json!({"source": place, "backup": "latest"});
    let chosen = bench.restore("preflight", id, &latest).good();
    let chosen = json!({
        "source": place, "backup": chosen["restore"]["name"], "sha256": chosen["restore"]["sha256"],
    });
    let pins = || {
        let files = server.files();
        files.iter().filter(|name| name.contains(".pin.")).count()
    };
    assert_eq!(pins(), 1);
    // Retention would keep one only, and lets the pinned one be.
    crate::common::next_second();
    bench.backup(&both).good();
    for step in ["prepare", "switch", "commit"] {
        bench.restore(step, id, &chosen).good();
    }
    assert_eq!(fs::read_to_string(&config).unwrap(), "{}\n");
    assert_eq!(pins(), 0);

    let clone = Bench::empty();
    let told = clone
        .restore(
            "fill",
            Uuid::new_v4(),
            &json!({"source": place, "backup": name, "known": known}),
        )
        .good();
    assert_eq!(told["restore"]["state"], "filled");
    assert_eq!(pins(), 0);
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn wrong_credentials_a_missing_bucket_and_a_silent_server_have_their_words() {
    let mut server = Server::start();
    let bench = Bench::new();
    let good = place(&server, &bench);
    let only = |changes: &Value| json!({"destinations": [with(good.clone(), changes)]});
    let wrong = secret(&bench, "wrong", "another-secret");
    let told = bench
        .backup(&only(&json!({"credentials": wrong})))
        .bad("CredentialsRefused", 1);
    assert!(!told.to_string().contains("another-secret") && !told.to_string().contains(KEY));
    bench
        .backup(&only(&json!({"credentials": bench.make("none")})))
        .bad("CredentialsRefused", 1);
    bench
        .backup(&only(&json!({"url": "s3://no-such-bucket/a"})))
        .bad("DestinationNotFound", 1);
    let both = json!({"destinations": [
        {"name": "volume", "path": "backups"}, with(good.clone(), &json!({"credentials": wrong})),
    ]});
    let told = bench.backup(&both).good();
    assert_eq!(told["reason"], "CompletedWithWarnings");
    assert_eq!(told["backup"]["destinations"], json!(["volume"]));

    server.process.kill().unwrap();
    server.process.wait().unwrap();
    bench.backup(&only(&json!({}))).bad("DestinationsFailed", 1);
    let clone = Bench::empty();
    clone
        .restore(
            "fill",
            Uuid::new_v4(),
            &json!({"source": good, "backup": "latest"}),
        )
        .bad("DestinationsFailed", 1);
}
