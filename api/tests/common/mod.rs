//! The objects that the rules accept and refuse, once for the offline test and once for the real API server.
//!
//! In: nothing. Out: cases. A case is a change to a plain object, or an update from one to another.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

pub mod backups;

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::{Validator, apply_defaults};
use serde_json::{Value, json};

/// One object, or an update of one, and what it gets for an answer.
pub struct Case {
    /// A sentence on what the case shows; part of the assertion's message.
    pub title: &'static str,
    /// The object before an update.
    pub old: Option<Value>,
    /// The object as it is applied.
    pub new: Value,
    /// The field and a part of the sentence with which it is refused; none if it is accepted.
    pub refused: Option<(&'static str, &'static str)>,
}

/// What the rules of a definition say about an object, with schema defaults filled in as the API server does; `old` is
/// the object before an update. Only CEL rules are looked at: types, ranges and lengths are the API server's.
pub fn refusals(crd: &CustomResourceDefinition, new: &Value, old: Option<&Value>) -> Vec<String> {
    let Some(schema) = crd
        .spec
        .versions
        .first()
        .and_then(|version| version.schema.as_ref())
    else {
        return Vec::new();
    };
    let schema = json!(schema.open_api_v3_schema);
    let old = old.map(|old| apply_defaults(&schema, old));
    match Validator::new().validate_with_defaults(&schema, new, old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(errors) => errors
            .iter()
            .map(|error| format!("{}: {}", error.field_path, error.message))
            .collect(),
    }
}

/// The messages of all CEL rules of a definition.
pub fn rules(crd: &CustomResourceDefinition) -> BTreeSet<String> {
    let mut messages = BTreeSet::new();
    collect(&json!(crd.spec.versions[0].schema), &mut messages);
    messages
}

fn collect(schema: &Value, messages: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            let rules = schema["x-kubernetes-validations"].as_array();
            for rule in rules.into_iter().flatten() {
                messages.insert(rule["message"].as_str().unwrap().to_owned());
            }
            members
                .values()
                .for_each(|member| collect(member, messages));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, messages)),
        _ => {}
    }
}

/// An object with only what is required, and `change` merged into it; a null takes a member away.
pub fn object(name: &str, change: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "stockpredictor.io/v1alpha1",
        "kind": "StockPredictor",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"symbols": ["NVDA"], "storage": {"size": "1Gi"}},
    });
    merge(&mut object["spec"], change);
    object
}

/// Applies a JSON merge patch.
pub fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (into, change) => *into = change.clone(),
    }
}

fn accepted(title: &'static str, change: &Value) -> Case {
    Case {
        title,
        old: None,
        new: object("case", change),
        refused: None,
    }
}

fn refused(title: &'static str, change: &Value, path: &'static str, message: &'static str) -> Case {
    Case {
        title,
        old: None,
        new: object("case", change),
        refused: Some((path, message)),
    }
}

fn update(
    title: &'static str,
    old: &Value,
    new: &Value,
    refused: Option<(&'static str, &'static str)>,
) -> Case {
    Case {
        title,
        old: Some(object("case", old)),
        new: object("case", new),
        refused,
    }
}

fn named(title: &'static str, name: &str, refused: bool) -> Case {
    let refused = refused.then_some(("", "metadata.name must have at most 40"));
    Case {
        title,
        old: None,
        new: object(name, &json!({})),
        refused,
    }
}

/// Every case that CEL decides.
pub fn cases() -> Vec<Case> {
    [
        names(),
        symbols_and_replicas(),
        storage(),
        bootstrap(),
        storage_updates(),
        settings(),
        pod(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn names() -> Vec<Case> {
    vec![
        named("a name of one letter", "n", false),
        named("a name of 40 characters", &"n".repeat(40), false),
        named("a name of 41 characters", &"n".repeat(41), true),
        named("a name that begins with a digit", "3m", true),
        named("a name with a dot", "brk.b", true),
    ]
}

fn symbols_and_replicas() -> Vec<Case> {
    const SYMBOL: &str = "write a symbol in upper case";
    const REPLICAS: &str = "set storage.accessMode to ReadWriteMany, or replicas to 1";
    let many: Vec<String> = (0..500).map(|number| format!("S{number:09}")).collect();
    vec![
        accepted(
            "symbols with dot, dash and digits",
            &json!({"symbols": ["BRK.B", "BF-A", "X1"]}),
        ),
        accepted("500 symbols of full length", &json!({"symbols": many})),
        refused(
            "a symbol in lower case",
            &json!({"symbols": ["NVDA", "tsla"]}),
            "spec.symbols[1]",
            SYMBOL,
        ),
        refused(
            "a symbol that climbs out of its folder",
            &json!({"symbols": ["../X"]}),
            "spec.symbols[0]",
            SYMBOL,
        ),
        refused(
            "an empty symbol",
            &json!({"symbols": [""]}),
            "spec.symbols[0]",
            SYMBOL,
        ),
        accepted("no replica", &json!({"replicas": 0})),
        accepted(
            "three replicas on a shared volume",
            &json!({"replicas": 3, "storage": {"accessMode": "ReadWriteMany"}}),
        ),
        refused(
            "two replicas on one node's volume",
            &json!({"replicas": 2}),
            "spec.replicas",
            REPLICAS,
        ),
        update(
            "scaling one node's volume up",
            &json!({}),
            &json!({"replicas": 3}),
            Some(("spec.replicas", REPLICAS)),
        ),
    ]
}

fn storage() -> Vec<Case> {
    const FORM: &str = "write a size such as 10Gi";
    const LEAST: &str = "must be at least 1Mi";
    let claim = json!({"size": null, "existingClaim": "mine"});
    let mut cases = vec![
        accepted("an existing claim", &json!({"storage": claim})),
        accepted(
            "no class at all",
            &json!({"storage": {"storageClassName": ""}}),
        ),
        accepted(
            "a class by name",
            &json!({"storage": {"storageClassName": "fast.ssd"}}),
        ),
        refused(
            "a class with capital letters",
            &json!({"storage": {"storageClassName": "Fast"}}),
            "spec.storage.storageClassName",
            "`kubectl get storageclass`",
        ),
        refused(
            "a claim with a slash",
            &json!({"storage": {"size": null, "existingClaim": "a/b"}}),
            "spec.storage.existingClaim",
            "`kubectl get pvc`",
        ),
        refused(
            "neither size nor claim",
            &json!({"storage": {"size": null}}),
            "spec.storage",
            "set either size",
        ),
        refused(
            "both size and claim",
            &json!({"storage": {"existingClaim": "mine"}}),
            "spec.storage",
            "set either size",
        ),
        refused(
            "a claim with a class",
            &json!({"storage": {"size": null, "existingClaim": "mine", "storageClassName": "fast"}}),
            "spec.storage",
            "remove storageClassName",
        ),
        refused(
            "a claim that would be deleted",
            &json!({"storage": {"size": null, "existingClaim": "mine", "deletionPolicy": "Delete"}}),
            "spec.storage",
            "set deletionPolicy to Retain",
        ),
    ];
    for size in ["1Mi", "10Gi", "1.5Ti", "2048k", "1048576"] {
        cases.push(accepted("a size", &json!({"storage": {"size": size}})));
    }
    for size in ["", "-1Gi", "ten", "10GB", "1e9", "1500m", " 1Gi"] {
        cases.push(refused(
            "a size in another form",
            &json!({"storage": {"size": size}}),
            "spec.storage.size",
            FORM,
        ));
    }
    for size in ["0", "10", "1023Ki"] {
        cases.push(refused(
            "a size without its suffix",
            &json!({"storage": {"size": size}}),
            "spec.storage.size",
            LEAST,
        ));
    }
    cases
}

/// A new volume that is filled from a backup.
#[allow(clippy::too_many_lines, reason = "it is a table")]
fn bootstrap() -> Vec<Case> {
    const BACKUP: &str = "stock_prediction_backup_20250801_120000.tar.gz";
    let store = json!({"objectStore": {"url": "s3://backups/trading"}});
    let place = json!({"destination": store});
    let with = |change: Value| {
        let mut bootstrap = json!({"source": place, "backup": "latest"});
        merge(&mut bootstrap, &change);
        json!({"storage": {"bootstrapFrom": bootstrap}})
    };
    let from = |source: Value| {
        let mut change = with(json!({}));
        change["storage"]["bootstrapFrom"]["source"] = source;
        change
    };
    let named = |change: Value| {
        let mut reference = json!({"name": "daily"});
        merge(&mut reference, &change);
        from(json!({"storageBackupRef": reference}))
    };
    let origin = |origin: Value| from(json!({"destination": store, "origin": origin}));
    let secret = |change: Value| {
        let mut secret = json!({"name": "keys", "key": "key.txt"});
        merge(&mut secret, &change);
        with(json!({"identitySecret": secret}))
    };
    let mut cases = vec![
        accepted("filled from a store", &with(json!({}))),
        accepted(
            "filled from a StorageBackup",
            &named(json!({"destination": "offsite"})),
        ),
        accepted(
            "filled with a time",
            &with(json!({"backup": null, "at": "2025-08-01T12:00:00Z"})),
        ),
        accepted(
            "filled with a pinned one",
            &with(json!({"backup": BACKUP, "sha256": "a".repeat(64)})),
        ),
        accepted(
            "a clone of another namespace's",
            &origin(json!({"namespace": "prod", "predictor": "nvda"})),
        ),
        accepted("filled with a key", &secret(json!({}))),
    ];
    let at = "spec.storage.bootstrapFrom";
    let wrong = [
        (
            "no source",
            from(json!({})),
            ".source",
            "set either storageBackupRef",
        ),
        (
            "two sources",
            from(json!({"storageBackupRef": {"name": "daily"}, "destination": store})),
            ".source",
            "set either storageBackupRef",
        ),
        (
            "whose backups, twice",
            from(json!({"storageBackupRef": {"name": "daily"}, "origin": {"predictor": "nvda"}})),
            ".source",
            "remove origin",
        ),
        (
            "a volume that isn't there yet as the source",
            from(json!({"destination": {"volume": {}}})),
            "",
            "a new volume has no backups of its own",
        ),
        (
            "a folder outside",
            from(json!({"destination": {"claim": {"name": "nas", "path": "../up"}}})),
            ".source.destination.claim.path",
            "write a relative path",
        ),
        (
            "a store that can't be one",
            from(json!({"destination": {"objectStore": {"url": "backups"}}})),
            ".source.destination.objectStore.url",
            "write s3://BUCKET/PREFIX",
        ),
        (
            "an endpoint that can't be one",
            from(
                json!({"destination": {"objectStore": {"url": "s3://backups", "endpoint": "minio"}}}),
            ),
            ".source.destination.objectStore.endpoint",
            "write http://HOST:PORT",
        ),
        (
            "no place",
            from(json!({"destination": {}})),
            ".source.destination",
            "set exactly one of",
        ),
        (
            "no choice",
            with(json!({"backup": null})),
            "",
            "set either backup",
        ),
        (
            "a hash of something unknown",
            with(json!({"sha256": "a".repeat(64)})),
            "",
            "name the backup that sha256 belongs to",
        ),
        (
            "a short hash",
            with(json!({"backup": BACKUP, "sha256": "abc"})),
            ".sha256",
            "64 hexadecimal digits",
        ),
        (
            "a choice that is none",
            with(json!({"backup": "newest"})),
            ".backup",
            "write latest, latestProven",
        ),
        (
            "a StorageBackup that can't be one",
            named(json!({"name": "Daily"})),
            ".source.storageBackupRef.name",
            "use the name of a StorageBackup",
        ),
        (
            "a destination that can't be one",
            named(json!({"destination": "a/b"})),
            ".source.storageBackupRef.destination",
            "use the name of a destination",
        ),
        (
            "a predictor that can't be one",
            origin(json!({"predictor": "A"})),
            ".source.origin.predictor",
            "use the name of the StockPredictor",
        ),
        (
            "a namespace that can't be one",
            origin(json!({"namespace": "A", "predictor": "nvda"})),
            ".source.origin.namespace",
            "use the name of the namespace",
        ),
        (
            "a Secret that can't be one",
            secret(json!({"name": "Keys"})),
            ".identitySecret.name",
            "use the name of a Secret",
        ),
        (
            "a key that can't be one",
            secret(json!({"key": ".."})),
            ".identitySecret.key",
            "use a key of the Secret",
        ),
    ];
    for (title, change, path, message) in wrong {
        cases.push(refused(
            title,
            &change,
            format!("{at}{path}").leak(),
            message,
        ));
    }
    cases.push(refused(
        "the user's claim is never filled",
        &json!({"storage": {
            "size": null, "existingClaim": "mine", "bootstrapFrom": {"source": place, "backup": "latest"},
        }}),
        "spec.storage",
        "remove bootstrapFrom",
    ));
    cases
}

fn storage_updates() -> Vec<Case> {
    let at = |message| Some(("spec.storage", message));
    let storage = |change: Value| json!({"storage": change});
    let claim = |name: &str| json!({"storage": {"size": null, "existingClaim": name}});
    vec![
        update("the same again", &json!({}), &json!({}), None),
        update(
            "a larger size",
            &json!({}),
            &storage(json!({"size": "2Gi"})),
            None,
        ),
        update(
            "the same size in another unit",
            &json!({}),
            &storage(json!({"size": "1024Mi"})),
            None,
        ),
        update(
            "a smaller size",
            &json!({}),
            &storage(json!({"size": "1023Mi"})),
            at("size can only grow"),
        ),
        update(
            "another access mode",
            &json!({}),
            &storage(json!({"accessMode": "ReadWriteMany"})),
            at("accessMode cannot change"),
        ),
        update(
            "the default access mode, written out",
            &json!({}),
            &storage(json!({"accessMode": "ReadWriteOnce"})),
            None,
        ),
        update(
            "another policy",
            &json!({}),
            &storage(json!({"deletionPolicy": "Delete"})),
            None,
        ),
        update(
            "another class",
            &storage(json!({"storageClassName": "a"})),
            &storage(json!({"storageClassName": "b"})),
            at("storageClassName cannot be changed"),
        ),
        update(
            "a class set later",
            &json!({}),
            &storage(json!({"storageClassName": "b"})),
            at("storageClassName cannot be changed"),
        ),
        update(
            "a class taken away",
            &storage(json!({"storageClassName": "a"})),
            &json!({}),
            at("storageClassName cannot be changed"),
        ),
        update(
            "another claim",
            &claim("a"),
            &claim("b"),
            at("existingClaim cannot be changed"),
        ),
        update(
            "a claim set later",
            &json!({}),
            &claim("b"),
            at("existingClaim cannot be changed"),
        ),
        update(
            "a claim taken away",
            &claim("a"),
            &json!({}),
            at("existingClaim cannot be changed"),
        ),
    ]
}

fn settings() -> Vec<Case> {
    const DURATION: &str = "write a positive whole number and one unit";
    const SEGMENT: &str = "use at most 63 letters, digits";
    let mut cases = vec![
        accepted(
            "all settings of the guide",
            &json!({
                "model": {"name": "nvda_lstm_model", "version": "2023-12-29"},
                "cache": {"predictionTtl": "1h", "stockDataTtl": "30m", "dailyTtl": "24h", "cleanupInterval": "6h", "maxEntries": 1000},
                "retention": {"cache": "24h", "predictions": "7d", "logs": "30d"},
            }),
        ),
        accepted(
            "seconds, for tests",
            &json!({"cache": {"predictionTtl": "86400s"}}),
        ),
        refused(
            "a compound duration",
            &json!({"cache": {"stockDataTtl": "1h30m"}}),
            "spec.cache.stockDataTtl",
            DURATION,
        ),
        refused(
            "a duration without unit",
            &json!({"cache": {"dailyTtl": "24"}}),
            "spec.cache.dailyTtl",
            DURATION,
        ),
        refused(
            "a negative duration",
            &json!({"cache": {"cleanupInterval": "-6h"}}),
            "spec.cache.cleanupInterval",
            DURATION,
        ),
        refused(
            "a retention of zero",
            &json!({"retention": {"cache": "0h"}}),
            "spec.retention.cache",
            DURATION,
        ),
        refused(
            "a retention in weeks",
            &json!({"retention": {"predictions": "1w"}}),
            "spec.retention.predictions",
            DURATION,
        ),
        refused(
            "an empty retention",
            &json!({"retention": {"logs": ""}}),
            "spec.retention.logs",
            DURATION,
        ),
    ];
    for ttl in ["0s", "1.5h", "1 h", "1H", "1h\n"] {
        cases.push(refused(
            "a duration in another form",
            &json!({"cache": {"predictionTtl": ttl}}),
            "spec.cache.predictionTtl",
            DURATION,
        ));
    }
    for name in ["..", ".hidden", "a/b", "a b", "-rf"] {
        cases.push(refused(
            "a model that is no folder's name",
            &json!({"model": {"name": name}}),
            "spec.model.name",
            SEGMENT,
        ));
        cases.push(refused(
            "a version that is no folder's name",
            &json!({"model": {"version": name}}),
            "spec.model.version",
            SEGMENT,
        ));
    }
    cases
}

fn pod() -> Vec<Case> {
    const KEYS: &str = "remove the keys that begin with";
    vec![
        accepted("an empty image", &json!({"image": ""})),
        accepted(
            "an image by digest",
            &json!({"image": format!("localhost:5000/predictor@sha256:{}", "0".repeat(64))}),
        ),
        refused(
            "an image with a space",
            &json!({"image": "predictor: 1"}),
            "spec.image",
            "without spaces",
        ),
        refused(
            "a secret with capitals",
            &json!({"imagePullSecrets": [{"name": "Mine"}]}),
            "spec.imagePullSecrets[0].name",
            "`kubectl get secrets`",
        ),
        accepted(
            "a variable of the guide, and one from a secret",
            &json!({"env": [
                {"name": "ML_PREDICTION_TTL", "value": "2h"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "token"}}},
            ]}),
        ),
        refused(
            "a variable with a dash",
            &json!({"env": [{"name": "A-B", "value": "1"}]}),
            "spec.env",
            "name each variable with letters",
        ),
        refused(
            "a variable of the operator's",
            &json!({"env": [{"name": "POD_NAME", "value": "1"}]}),
            "spec.env",
            "remove POD_NAME",
        ),
        accepted(
            "annotations of other projects",
            &json!({"podAnnotations": {"prometheus.io/scrape": "true"}, "podLabels": {"team": "quant"}}),
        ),
        refused(
            "an annotation of the operator's",
            &json!({"podAnnotations": {"stockpredictor.io/settings": "x"}}),
            "spec.podAnnotations",
            KEYS,
        ),
        refused(
            "a label of the selector",
            &json!({"podLabels": {"app.kubernetes.io/name": "x"}}),
            "spec.podLabels",
            KEYS,
        ),
        accepted(
            "namespaces that may call",
            &json!({"allowFrom": ["monitoring", "trading-1"]}),
        ),
        refused(
            "a namespace with capitals",
            &json!({"allowFrom": ["Monitoring"]}),
            "spec.allowFrom[0]",
            "`kubectl get namespaces`",
        ),
        accepted(
            "everything that a pod takes",
            &json!({
                "imagePullPolicy": "Never",
                "imagePullSecrets": [{"name": "registry"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": 2, "memory": "512Mi"}},
                "nodeSelector": {"kubernetes.io/arch": "amd64"},
                "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]},
                ]}}},
                "suspend": true,
                "samples": true,
            }),
        ),
    ]
}

/// What the schema alone refuses, with a part of the API server's own sentence.
pub fn schema_cases() -> Vec<Case> {
    let many: Vec<String> = (0..501).map(|number| format!("S{number}")).collect();
    vec![
        refused(
            "no symbol",
            &json!({"symbols": []}),
            "spec.symbols",
            "should have at least 1 items",
        ),
        refused(
            "501 symbols",
            &json!({"symbols": many}),
            "spec.symbols",
            "Too many",
        ),
        refused(
            "a symbol twice",
            &json!({"symbols": ["NVDA", "NVDA"]}),
            "spec.symbols[1]",
            "Duplicate value",
        ),
        refused(
            "a symbol of 11 characters",
            &json!({"symbols": ["ABCDEFGHIJK"]}),
            "spec.symbols[0]",
            "Too long",
        ),
        refused(
            "a negative number of replicas",
            &json!({"replicas": -1}),
            "spec.replicas",
            "greater than or equal to 0",
        ),
        refused(
            "a cache of no entries",
            &json!({"cache": {"maxEntries": 0}}),
            "spec.cache.maxEntries",
            "greater than or equal to 1",
        ),
        refused(
            "a cache of too many entries",
            &json!({"cache": {"maxEntries": 1_000_001}}),
            "spec.cache.maxEntries",
            "less than or equal to",
        ),
        refused(
            "an unknown access mode",
            &json!({"storage": {"accessMode": "ReadOnlyMany"}}),
            "spec.storage.accessMode",
            "Unsupported value",
        ),
        refused(
            "an unknown policy",
            &json!({"storage": {"deletionPolicy": "Keep"}}),
            "spec.storage.deletionPolicy",
            "Unsupported value",
        ),
        refused(
            "a variable twice",
            &json!({"env": [{"name": "A"}, {"name": "A"}]}),
            "spec.env[1]",
            "Duplicate value",
        ),
        refused(
            "no storage",
            &json!({"storage": null}),
            "spec.storage",
            "Required value",
        ),
        refused(
            "a misspelt field",
            &json!({"symbol": ["NVDA"]}),
            "",
            "unknown field \"spec.symbol\"",
        ),
    ]
}
