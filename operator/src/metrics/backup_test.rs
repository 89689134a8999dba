use super::*;
use crate::metrics::interval::Intervals;
use crate::storage_backup::{ACCEPT_SUSPECT, fixture};
use kube::ResourceExt;
use rstest::rstest;
use serde_json::{Value, json};

const ID: &str = "3f2c1d1c-7a11-4a55-9a39-0c9a3d8f6b02";

/// A backup with a status.
fn object(spec: &Value, status: &Value) -> StorageBackup {
    let mut object = fixture::backup(spec);
    object.status = Some(serde_json::from_value(status.clone()).unwrap());
    object
}

/// The samples without the object's labels, and without the prefix.
fn lines(object: &StorageBackup) -> Vec<String> {
    let mut samples = Samples::default();
    let mut intervals = Intervals::default();
    let mut asking = intervals.ask(fixture::now());
    object.measure(["trading", "daily"], &mut asking, &mut samples);
    let lines = samples.lines().into_iter();
    let short = |line: String| {
        line.replace("stockpredictor_operator_", "")
            .replace("namespace=trading,name=daily", "")
            .replace("{,", "{")
            .replace("{}", "")
    };
    lines.map(short).collect()
}

/// The value of the one sample that begins with `name`.
fn value(object: &StorageBackup, name: &str) -> Option<i64> {
    let lines = lines(object);
    let found = lines.iter().find_map(|line| {
        let (metric, value) = line.rsplit_once(' ')?;
        (metric == name).then_some(value)
    });
    found.map(|value| value.parse().unwrap())
}

#[test]
fn a_new_one_has_what_alerts_compare_with() {
    assert_eq!(
        lines(&fixture::backup(&json!({}))),
        [
            "backup_last_success_timestamp 0",
            "backup_created_timestamp_seconds 1754046000",
            "backup_expected_interval_seconds 86400",
            "backup_info{predictor=nvda} 1",
            "backup_level 0",
            "backup_suspect 0",
            "backup_suspended 0",
        ]
    );
}

#[test]
fn all_that_a_status_tells_is_measured() {
    let spec = json!({
        "schedule": "0 3 * * 1-5", "timeZone": "Etc/UTC", "objectives": {"rpo": "26h"},
        "verification": {"restoreTest": {"schedule": "0 6 * * 0"}},
        "destinations": [{"name": "volume", "volume": {}}, {"name": "nas", "claim": {"name": "nas"}}],
    });
    let run = |kind, result, started, finished| {
        json!({
            "job": "j", "kind": kind, "result": result, "reason": "x",
            "started": format!("1970-01-01T{started}Z"), "finished": format!("1970-01-01T{finished}Z"),
        })
    };
    let status = json!({
        "lastSuccess": "1970-01-01T00:01:00Z", "nextRun": "1970-01-02T00:00:00Z",
        "lastRun": run("Scheduled", "Failed", "00:02:00", "00:03:30"),
        "lastTest": run("RestoreTest", "Succeeded", "00:10:00", "00:20:00"),
        "backups": [
            {"name": "c", "bytes": 300, "level": "Readable", "verified": "1970-01-01T00:00:30Z"},
            {"name": "b", "bytes": 200, "level": "Proven", "verified": "1970-01-01T00:00:20Z"},
            {"name": "a", "bytes": 100, "level": "Stored", "verified": "1970-01-01T00:00:50Z"},
        ],
        "destinations": [
            {"name": "volume", "archives": 3, "size": "1.5Ki"},
            {"name": "nas", "error": "no room"},
            {"name": "former", "archives": 9, "size": "9Gi"},
        ],
    });
    assert_eq!(
        lines(&object(&spec, &status)),
        [
            "backup_last_success_timestamp 60",
            "backup_archives{destination=volume} 3",
            "backup_created_timestamp_seconds 1754046000",
            "backup_destination_reachable{destination=volume} 1",
            "backup_destination_reachable{destination=nas} 0",
            "backup_destination_size_bytes{destination=volume} 1536",
            "backup_expected_interval_seconds 259200",
            "backup_info{predictor=nvda} 1",
            "backup_last_run_duration_seconds 90",
            "backup_last_run_success 0",
            "backup_last_run_timestamp_seconds 210",
            "backup_level 2",
            "backup_newest_size_bytes 300",
            "backup_next_run_timestamp_seconds 86400",
            "backup_rpo_seconds 93600",
            "backup_suspect 0",
            "backup_suspended 0",
            "backup_verified_timestamp_seconds{level=Stored} 50",
            "backup_verified_timestamp_seconds{level=Readable} 30",
            "backup_verified_timestamp_seconds{level=Proven} 20",
            "restore_test_expected_interval_seconds 604800",
            "restore_test_last_run_success 1",
            "restore_test_last_run_timestamp_seconds 1200",
        ]
    );
}

#[test]
fn without_a_schedule_there_is_no_interval() {
    let object = fixture::backup(&json!({"schedule": null}));
    for name in [
        "backup_expected_interval_seconds",
        "restore_test_expected_interval_seconds",
        "backup_next_run_timestamp_seconds",
    ] {
        assert_eq!(value(&object, name), None, "{name}");
    }
}

/// The rules need both: a schedule that is stopped on purpose is no schedule that is wrong.
#[rstest]
#[case::runs(json!({}), "Active", 0)]
#[case::suspended(json!({"suspend": true}), "Suspended", 1)]
#[case::held(json!({}), "HeldByRestore", 1)]
#[case::wrong(json!({}), "InvalidSchedule", 0)]
fn one_that_is_stopped_on_purpose_keeps_its_interval(
    #[case] spec: Value,
    #[case] reason: &str,
    #[case] suspended: i64,
) {
    let mut object = fixture::backup(&spec);
    object.status = serde_json::from_value(json!({"conditions": [{
        "type": "Scheduled", "status": "False", "reason": reason, "message": "",
        "lastTransitionTime": "2025-08-01T12:00:00Z"}]}))
    .unwrap();
    assert_eq!(value(&object, "backup_suspended"), Some(suspended));
    assert_eq!(
        value(&object, "backup_expected_interval_seconds"),
        Some(86400)
    );
}

#[rstest]
#[case::nothing(json!([]), None, 0)]
#[case::sound(json!([{"name": "b", "id": ID}, {"name": "a", "suspect": true}]), None, 0)]
#[case::suspect(json!([{"name": "b", "id": ID, "suspect": true}]), None, 1)]
#[case::accepted(json!([{"name": "b", "id": ID, "suspect": true}]), Some(ID), 0)]
#[case::another_one_is_accepted(json!([{"name": "b", "id": ID, "suspect": true}]), Some("4f2c1d1c-7a11-4a55-9a39-0c9a3d8f6b02"), 1)]
fn the_newest_is_suspect_until_it_is_accepted(
    #[case] backups: Value,
    #[case] annotation: Option<&str>,
    #[case] suspect: i64,
) {
    let mut object = object(&json!({}), &json!({"backups": backups}));
    if let Some(id) = annotation {
        object
            .annotations_mut()
            .insert(ACCEPT_SUSPECT.into(), id.into());
    }
    assert_eq!(value(&object, "backup_suspect"), Some(suspect));
}

#[rstest]
#[case::never_verified(json!({"name": "a"}), 0, [None; 3])]
#[case::stored(json!({"level": "Stored"}), 1, [Some(9), None, None])]
#[case::readable(json!({"level": "Readable"}), 2, [Some(9), Some(9), None])]
#[case::proven(json!({"level": "Proven"}), 3, [Some(9); 3])]
fn a_higher_level_counts_for_those_below(
    #[case] mut backup: Value,
    #[case] level: i64,
    #[case] verified: [Option<i64>; 3],
) {
    backup["name"] = json!("a");
    backup["verified"] = json!("1970-01-01T00:00:09Z");
    let object = object(&json!({}), &json!({"backups": [backup]}));
    assert_eq!(value(&object, "backup_level"), Some(level));
    for (name, verified) in std::iter::zip(LEVELS, verified) {
        let metric = format!("backup_verified_timestamp_seconds{{level={name}}}");
        assert_eq!(value(&object, &metric), verified, "{name}");
    }
}
