use super::*;

#[test]
fn every_job_of_the_contract_is_understood() {
    let contract = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/jobs.json");
    let contract: serde_json::Value =
        serde_json::from_slice(&std::fs::read(contract).unwrap()).unwrap();
    let mut kinds = BTreeSet::new();
    for (name, job) in contract["jobs"].as_object().unwrap() {
        let document =
            Document::parse(&job.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(document.work.name(), job["job"].as_str().unwrap());
        kinds.insert(document.work.name());
    }
    assert_eq!(kinds.len(), 8, "each kind has an example");
}

#[test]
fn what_makes_no_sense_is_refused_with_the_member_to_put_right() {
    let place = r#"{"name":"volume","path":"backups"}"#;
    let origin = r#"{"namespace":"n","predictor":"p","backup":"b"}"#;
    let id = "5f1d7a56-0f7e-4c1e-8a68-5a3b1f1c7d03";
    let table = [
        ("nonsense".to_owned(), "expected"),
        (r#"{"job":"backup"}"#.to_owned(), "version"),
        (r#"{"version":2,"job":"backup"}"#.to_owned(), "version 2"),
        (
            r#"{"version":1,"job":"bake"}"#.to_owned(),
            "unknown variant `bake`",
        ),
        (
            r#"{"version":1,"job":"backup","root":"/r"}"#.to_owned(),
            "missing field `origin`",
        ),
        (
            format!(
                r#"{{"version":1,"job":"backup","root":"/r","origin":{origin},"mode":"full","destinations":[]}}"#
            ),
            "destinations has 0",
        ),
        (
            format!(
                r#"{{"version":1,"job":"backup","root":"/r","origin":{origin},"mode":"full","destinations":[{place},{place}]}}"#
            ),
            "same name",
        ),
        (
            format!(
                r#"{{"version":1,"job":"backup","root":"/r","origin":{origin},"mode":"full","min_successful":2,"destinations":[{place}]}}"#
            ),
            "min_successful is 2",
        ),
        (
            format!(
                r#"{{"version":1,"job":"backup","root":"/r","origin":{{"namespace":"n","predictor":"p"}},"mode":"full","destinations":[{place}]}}"#
            ),
            "origin.backup",
        ),
        (
            format!(
                r#"{{"version":1,"job":"backup","root":"/r","origin":{origin},"mode":"full","destinations":[{{"name":"x","path":"../y"}}]}}"#
            ),
            "`..`",
        ),
        (
            format!(
                r#"{{"version":1,"job":"backup","root":"/r","origin":{origin},"mode":"full","full_every":"weekly","destinations":[{place}]}}"#
            ),
            "length of time",
        ),
        (
            format!(
                r#"{{"version":1,"job":"test","origin":{origin},"scratch":"/s","destinations":[{place}]}}"#
            ),
            "relative",
        ),
        (
            format!(r#"{{"version":1,"job":"undo","restore":"{id}"}}"#),
            "root is missing",
        ),
        (
            format!(
                r#"{{"version":1,"job":"prepare","restore":"{id}","root":"/r","source":{place},"origin":{origin},"backup":"latest"}}"#
            ),
            "preflight reported",
        ),
        (
            format!(
                r#"{{"version":1,"job":"prepare","restore":"{id}","root":"/r","source":{place},"origin":{origin},"backup":"stock_prediction_backup_20250801_120000.tar.gz"}}"#
            ),
            "sha256 is missing",
        ),
        (
            format!(
                r#"{{"version":1,"job":"fill","restore":"{id}","root":"/r","source":{place},"origin":{origin},"backup":"newest"}}"#
            ),
            "latest-proven",
        ),
        (
            format!(
                r#"{{"version":1,"job":"preflight","restore":"{id}","source":{{"name":"x","url":"s3://b"}},"origin":{origin},"backup":"latest"}}"#
            ),
            "free_bytes",
        ),
    ];
    for (text, part) in table {
        let error = Document::parse(&text).unwrap_err();
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn members_that_nobody_knows_are_ignored() {
    let text = r#"{"version":1,"job":"undo","restore":"5f1d7a56-0f7e-4c1e-8a68-5a3b1f1c7d03","root":"/r","colour":"green"}"#;
    assert!(Document::parse(text).is_ok());
}
