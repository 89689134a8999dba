//! The same for `StorageBackup`.
//!
//! In: nothing. Out: cases.

use serde_json::{Value, json};

use super::{Case, merge};

const KEY: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// An object with only what is required, and `change` merged into its spec; a null takes a member away.
pub fn object(name: &str, change: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "stockpredictor.io/v1alpha1",
        "kind": "StorageBackup",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"predictorRef": {"name": "nvda"}, "schedule": "0 3 * * *"},
    });
    merge(&mut object["spec"], change);
    object
}

fn case(
    title: &'static str,
    change: &Value,
    refused: Option<(&'static str, &'static str)>,
) -> Case {
    Case {
        title,
        old: None,
        new: object("case", change),
        refused,
    }
}

fn accepted(title: &'static str, change: &Value) -> Case {
    case(title, change, None)
}

fn refused(title: &'static str, change: &Value, path: &'static str, message: &'static str) -> Case {
    case(title, change, Some((path, message)))
}

/// Every case that CEL decides.
pub fn cases() -> Vec<Case> {
    [
        general(),
        schedules(),
        places(),
        places_named_twice(),
        verification(),
        pod(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn general() -> Vec<Case> {
    let update = |title, old: &Value, new: &Value, refused| Case {
        title,
        old: Some(object("case", old)),
        new: object("case", new),
        refused,
    };
    let named = |title, name: &str, refused: Option<(&'static str, &'static str)>| Case {
        title,
        old: None,
        new: object(name, &json!({})),
        refused,
    };
    vec![
        named("a long name of a backup", &"b".repeat(40), None),
        named(
            "a name of a backup that is too long",
            &"b".repeat(41),
            Some(("", "metadata.name must have at most 40")),
        ),
        update(
            "another predictor",
            &json!({}),
            &json!({"predictorRef": {"name": "tsla"}}),
            Some(("spec", "predictorRef cannot change")),
        ),
        update(
            "another schedule",
            &json!({}),
            &json!({"schedule": "@hourly"}),
            None,
        ),
        update(
            "another trigger",
            &json!({"trigger": "a"}),
            &json!({"trigger": "b"}),
            None,
        ),
        refused(
            "a predictor with capitals",
            &json!({"predictorRef": {"name": "NVDA"}}),
            "spec.predictorRef.name",
            "`kubectl get sp`",
        ),
        refused(
            "more successes than destinations",
            &json!({"minSuccessful": 2}),
            "spec.minSuccessful",
            "number of destinations",
        ),
        refused(
            "full runs that are full now and then",
            &json!({"fullEvery": "7d"}),
            "spec.fullEvery",
            "set mode to Incremental",
        ),
        accepted(
            "incremental runs",
            &json!({"mode": "Incremental", "fullEvery": "7d", "include": ["models", "stock-data"]}),
        ),
        refused(
            "an interval in weeks",
            &json!({"mode": "Incremental", "fullEvery": "1w"}),
            "spec.fullEvery",
            "write a positive whole number and one unit",
        ),
        accepted("an objective", &json!({"objectives": {"rpo": "26h"}})),
        refused(
            "an objective without unit",
            &json!({"objectives": {"rpo": "26"}}),
            "spec.objectives.rpo",
            "write a positive whole number and one unit",
        ),
    ]
}

fn schedules() -> Vec<Case> {
    const FORM: &str = "write five fields";
    const ZONE: &str = "use the name of a time zone";
    let mut cases = vec![
        accepted("no schedule", &json!({"schedule": null})),
        refused(
            "a time zone of nothing",
            &json!({"schedule": null, "timeZone": "Etc/UTC"}),
            "spec.timeZone",
            "set schedule, or remove timeZone",
        ),
        accepted(
            "a time zone of restore tests",
            &json!({"schedule": null, "timeZone": "Etc/UTC", "verification": {"restoreTest": {"schedule": "@weekly"}}}),
        ),
        refused(
            "a time zone that differs by machine",
            &json!({"timeZone": "Local"}),
            "spec.timeZone",
            "another one on each machine",
        ),
        refused(
            "an offset",
            &json!({"timeZone": "+02:00"}),
            "spec.timeZone",
            ZONE,
        ),
        refused(
            "a path as time zone",
            &json!({"timeZone": "../../etc/passwd"}),
            "spec.timeZone",
            ZONE,
        ),
        refused(
            "a restore test at no time",
            &json!({"verification": {"restoreTest": {"schedule": "weekly"}}}),
            "spec.verification.restoreTest.schedule",
            FORM,
        ),
    ];
    for schedule in [
        "*/15 * * * *",
        "0 3 * * mon-fri",
        "30 2 1,15 * ?",
        "@monthly",
        "0  3 * * *",
    ] {
        cases.push(accepted("a schedule", &json!({"schedule": schedule})));
    }
    for schedule in [
        "0 3 * *",
        "0 0 3 * * *",
        "@every 1h",
        "TZ=UTC 0 3 * * *",
        "daily",
        " 0 3 * * *",
    ] {
        cases.push(refused(
            "a schedule in another form",
            &json!({"schedule": schedule}),
            "spec.schedule",
            FORM,
        ));
    }
    cases
}

fn places_named_twice() -> Vec<Case> {
    vec![
        refused(
            "the volume twice",
            &json!({"destinations": [{"name": "a", "volume": {}}, {"name": "b", "volume": {}}]}),
            "spec.destinations",
            "can be a destination once only",
        ),
        accepted(
            "two folders of one claim, and two stores",
            &json!({"destinations": [
                {"name": "a", "claim": {"name": "nas", "path": "a"}}, {"name": "b", "claim": {"name": "nas"}},
                {"name": "c", "objectStore": {"url": "s3://backups/trading", "endpoint": "https://one.example"}},
                {"name": "d", "objectStore": {"url": "s3://backups/trading", "endpoint": "https://two.example"}},
                {"name": "e", "objectStore": {"url": "s3://backups/trading"}},
            ]}),
        ),
        refused(
            "one folder of a claim twice",
            &json!({"destinations": [
                {"name": "a", "claim": {"name": "nas", "path": "x"}}, {"name": "b", "claim": {"name": "nas", "path": "x"}}]}),
            "spec.destinations",
            "the same folder of a claim",
        ),
        refused(
            "one place of a store twice, with other credentials",
            &json!({"destinations": [
                {"name": "a", "objectStore": {"url": "s3://backups/trading", "credentialsSecret": {"name": "one"}}},
                {"name": "b", "objectStore": {"url": "s3://backups/trading", "credentialsSecret": {"name": "two"}}}]}),
            "spec.destinations",
            "the same place in an object store",
        ),
    ]
}

fn places() -> Vec<Case> {
    let with = |place: Value| {
        let mut destination = json!({"name": "here"});
        merge(&mut destination, &place);
        json!({"destinations": [destination]})
    };
    let store = |change: Value| {
        let mut store = json!({"url": "s3://backups/trading"});
        merge(&mut store, &change);
        with(json!({"objectStore": store}))
    };
    let at = "spec.destinations[0]";
    let mut cases = vec![
        accepted(
            "a folder on a claim",
            &with(json!({"claim": {"name": "nas", "path": "a/b"}})),
        ),
        accepted(
            "a store with everything",
            &store(
                json!({"endpoint": "https://minio.storage.svc:9000", "credentialsSecret": {"name": "s3"},
                "caSecret": {"name": "s3", "key": "ca.crt"}}),
            ),
        ),
        accepted(
            "a retention of its own",
            &with(json!({"volume": {}, "retention": {"last": 3, "monthly": 12}})),
        ),
        refused(
            "a place of no kind",
            &with(json!({})),
            at,
            "set exactly one of volume",
        ),
        refused(
            "a place of two kinds",
            &with(json!({"volume": {}, "claim": {"name": "nas"}})),
            at,
            "set exactly one of volume",
        ),
        refused(
            "a name with capitals",
            &json!({"destinations": [{"name": "Here", "volume": {}}]}),
            "spec.destinations[0].name",
            "use at most 32 lower-case letters",
        ),
        refused(
            "a claim with a slash",
            &with(json!({"claim": {"name": "a/b"}})),
            "spec.destinations[0].claim.name",
            "`kubectl get pvc`",
        ),
        refused(
            "an endpoint without scheme",
            &store(json!({"endpoint": "minio:9000"})),
            "spec.destinations[0].objectStore.endpoint",
            "write http://HOST:PORT",
        ),
        refused(
            "an endpoint with a password",
            &store(json!({"endpoint": "https://me:secret@minio"})),
            "spec.destinations[0].objectStore.endpoint",
            "write http://HOST:PORT",
        ),
        refused(
            "a secret with capitals",
            &store(json!({"credentialsSecret": {"name": "Mine"}})),
            "spec.destinations[0].objectStore.credentialsSecret.name",
            "`kubectl get secrets`",
        ),
        refused(
            "a key that leaves its folder",
            &store(json!({"caSecret": {"name": "ca", "key": ".."}})),
            "spec.destinations[0].objectStore.caSecret.key",
            "use a key of the Secret",
        ),
    ];
    cases.extend(texts(&with, &store));
    cases
}

/// Paths and URLs that are none.
fn texts(with: &dyn Fn(Value) -> Value, store: &dyn Fn(Value) -> Value) -> Vec<Case> {
    let mut cases = Vec::new();
    for path in ["/etc", "../x", "a//b", "a/../b", "a/", ".hidden"] {
        cases.push(refused(
            "a path that may leave the claim",
            &with(json!({"claim": {"name": "nas", "path": path}})),
            "spec.destinations[0].claim.path",
            "write a relative path",
        ));
    }
    for url in [
        "https://s3/x",
        "s3://B/x",
        "s3://key:secret@bucket/x",
        "s3://bucket/x?y",
        "s3://bucket:9000/x",
        "bucket",
    ] {
        cases.push(refused(
            "a URL that is no bucket",
            &store(json!({"url": url})),
            "spec.destinations[0].objectStore.url",
            "write s3://BUCKET/PREFIX",
        ));
    }
    cases
}

fn verification() -> Vec<Case> {
    let test = json!({"schedule": "0 5 * * 0"});
    vec![
        accepted(
            "an encrypted one",
            &json!({"encryption": {"recipients": [KEY]}}),
        ),
        refused(
            "a private key",
            &json!({"encryption": {"recipients": ["AGE-SECRET-KEY-1QQQ"]}}),
            "spec.encryption.recipients[0]",
            "write the public key",
        ),
        refused(
            "a restore test that can't read",
            &json!({"encryption": {"recipients": [KEY]}, "verification": {"restoreTest": test}}),
            "spec.verification",
            "set identitySecret",
        ),
        accepted(
            "a restore test with the key",
            &json!({"encryption": {"recipients": [KEY]},
                "verification": {"identitySecret": {"name": "age", "key": "key.txt"}, "restoreTest": test}}),
        ),
        refused(
            "scratch space without its suffix",
            &json!({"verification": {"restoreTest": {"schedule": "@weekly", "scratchSize": "5"}}}),
            "spec.verification.restoreTest.scratchSize",
            "must be at least 1Mi",
        ),
        refused(
            "scratch space in another form",
            &json!({"verification": {"restoreTest": {"schedule": "@weekly", "scratchSize": "much"}}}),
            "spec.verification.restoreTest.scratchSize",
            "write a size such as 10Gi",
        ),
    ]
}

fn pod() -> Vec<Case> {
    const KEYS: &str = "remove the keys that begin with";
    vec![
        accepted(
            "everything that a pod of a job takes",
            &json!({"pod": {
                "resources": {"limits": {"memory": "512Mi"}}, "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "night", "operator": "Exists"}], "annotations": {"team": "quant"},
                "labels": {"team": "quant"}, "priorityClassName": "low",
            }}),
        ),
        refused(
            "an annotation of ours on a job's pod",
            &json!({"pod": {"annotations": {"stockpredictor.io/x": "y"}}}),
            "spec.pod.annotations",
            KEYS,
        ),
        refused(
            "a label of ours on a job's pod",
            &json!({"pod": {"labels": {"stockpredictor.io/claim": "y"}}}),
            "spec.pod.labels",
            KEYS,
        ),
        refused(
            "a priority class with capitals",
            &json!({"pod": {"priorityClassName": "Low"}}),
            "spec.pod.priorityClassName",
            "`kubectl get priorityclasses`",
        ),
    ]
}

/// What the schema alone refuses, with a part of the API server's own sentence.
pub fn schema_cases() -> Vec<Case> {
    vec![
        refused(
            "no destination",
            &json!({"destinations": []}),
            "spec.destinations",
            "should have at least 1 items",
        ),
        refused(
            "a destination twice",
            &json!({"destinations": [{"name": "a", "volume": {}}, {"name": "a", "claim": {"name": "b"}}]}),
            "spec.destinations[1]",
            "Duplicate value",
        ),
        refused(
            "runs side by side",
            &json!({"concurrencyPolicy": "Allow"}),
            "spec.concurrencyPolicy",
            "Unsupported value",
        ),
        refused(
            "nothing kept",
            &json!({"retention": {"last": 0}}),
            "spec.retention.last",
            "greater than or equal to 1",
        ),
        refused(
            "a part that is none",
            &json!({"include": ["everything"]}),
            "spec.include[0]",
            "Unsupported value",
        ),
        refused(
            "no history",
            &json!({"successfulJobsHistoryLimit": 0}),
            "spec.successfulJobsHistoryLimit",
            "greater than or equal to 1",
        ),
    ]
}
