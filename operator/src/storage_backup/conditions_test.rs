//! The truth tables of [`findings`].

use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};
use stockpredictor_api::RunKind;

use super::*;
use crate::job::outcome::Failed;
use crate::job::stuck::{Reason, Stuck};
use crate::storage_backup::fixture;

struct Case {
    spec: Value,
    status: Value,
    runs: Vec<Run>,
    refusal: Option<Refusal>,
    held: Option<&'static str>,
    waits: bool,
    annotation: &'static str,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            spec: json!({}),
            status: json!({}),
            runs: Vec::new(),
            refusal: None,
            held: None,
            waits: false,
            annotation: "",
        }
    }
}

fn found(case: &Case, kind: BackupCondition) -> Finding {
    let mut object = fixture::backup(&case.spec);
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(ACCEPT_SUSPECT.into(), case.annotation.into());
    let status = serde_json::from_value(case.status.clone()).unwrap();
    let seen = Seen {
        object: &object,
        refusal: case.refusal.as_ref(),
        failure: None,
        held: case.held,
        runs: &case.runs,
        waits: case.waits,
        status: &status,
        now: fixture::now(),
    };
    let all = findings(seen);
    assert_eq!(all.len(), BackupCondition::ALL.len());
    all.into_iter()
        .find(|finding| finding.kind == kind)
        .unwrap()
}

fn working(outcome: Outcome) -> Vec<Run> {
    vec![Run {
        job: Arc::new(serde_json::from_value(json!({"metadata": {"name": "daily-1"}})).unwrap()),
        kind: RunKind::Scheduled,
        outcome,
        own: true,
    }]
}

fn last(result: &str, reason: &str) -> Value {
    json!({"lastRun": {"job": "a", "kind": "Scheduled", "result": result, "reason": reason, "message": "so"}})
}

fn newest(change: &Value) -> Value {
    let mut backup = json!({"name": "n.tar.gz", "id": "3f2c1d1c-7a11-4a55-9a39-0c9a3d8f6b02", "level": "Readable"});
    crate::stock_predictor::fixture::merge(&mut backup, change);
    json!({"backups": [backup]})
}

#[test]
fn a_first_run_that_waits_says_for_what() {
    let waits = Case {
        waits: true,
        ..Case::default()
    };
    let told = found(&waits, BackupCondition::LastBackupSucceeded);
    assert_eq!(
        (told.state, told.reason.as_str()),
        (State::Unknown, "NoBackupYet")
    );
    assert!(
        told.message.contains("StockPredictor nvda"),
        "{}",
        told.message
    );
    let other = found(&Case::default(), BackupCondition::LastBackupSucceeded);
    assert!(!other.message.contains("nvda"), "{}", other.message);
}

#[rstest]
#[case::plain(Case::default(), State::True, "Active")]
#[case::suspended(Case { spec: json!({"suspend": true}), ..Case::default() }, State::False, "Suspended")]
#[case::by_hand(Case { spec: json!({"schedule": null}), ..Case::default() }, State::True, "ManualOnly")]
#[case::by_hand_and_held(Case { spec: json!({"schedule": null}), held: Some("back"), ..Case::default() }, State::True, "ManualOnly")]
#[case::held(Case { held: Some("back"), ..Case::default() }, State::False, "HeldByRestore")]
#[case::refused(Case { refusal: Some(Refusal { reason: BackupReason::PredictorMissing, message: "no".into(), stops: true }),
    held: Some("x"), ..Case::default() }, State::False, "PredictorMissing")]
fn a_schedule_is_kept_or_it_is_said_why_not(
    #[case] case: Case,
    #[case] state: State,
    #[case] reason: &str,
) {
    let finding = found(&case, BackupCondition::Scheduled);
    assert_eq!((finding.state, finding.reason.as_str()), (state, reason));
}

#[rstest]
#[case::never(Case::default(), State::Unknown, "NoBackupYet")]
#[case::first(Case { status: json!({"active": "daily-1"}), runs: working(Outcome::Running), ..Case::default() }, State::Unknown, "Running")]
#[case::good(Case { status: last("Succeeded", "Completed"), ..Case::default() }, State::True, "Completed")]
#[case::bad(Case { status: last("Failed", "VolumeFull"), ..Case::default() }, State::False, "VolumeFull")]
#[case::bad_word(Case { status: last("Failed", "no word"), ..Case::default() }, State::False, "Failed")]
#[case::good_and_the_next_works(Case { status: last("Succeeded", "Completed"), runs: working(Outcome::Running), ..Case::default() },
    State::True, "Completed")]
#[case::good_and_the_next_is_stuck(Case { status: last("Succeeded", "Completed"),
    runs: working(Outcome::Stuck(Stuck { reason: Reason::Unschedulable, message: "no node".into(), since: 0 })), ..Case::default() },
    State::False, "Unschedulable")]
#[case::good_and_the_next_fails(Case { status: last("Succeeded", "Completed"),
    runs: working(Outcome::Retrying(Failed { reason: "CredentialsRefused".into(), message: "403".into(), report: None })), ..Case::default() },
    State::False, "CredentialsRefused")]
fn the_last_run_or_the_one_that_cannot_start_counts(
    #[case] case: Case,
    #[case] state: State,
    #[case] reason: &str,
) {
    let finding = found(&case, BackupCondition::LastBackupSucceeded);
    assert_eq!((finding.state, finding.reason.as_str()), (state, reason));
}

#[rstest]
#[case::none(Case::default(), State::Unknown, "NoBackupYet")]
#[case::readable(Case { status: newest(&json!({})), ..Case::default() }, State::True, "Readable")]
#[case::proven(Case { status: newest(&json!({"level": "Proven"})), ..Case::default() }, State::True, "Proven")]
#[case::less_than_asked(Case { status: newest(&json!({"level": "Stored"})), ..Case::default() }, State::False, "NotVerified")]
#[case::not_at_all(Case { status: newest(&json!({"level": null})), ..Case::default() }, State::False, "NotVerified")]
#[case::as_asked(Case { spec: json!({"verification": {"level": "Stored"}}), status: newest(&json!({"level": "Stored"})), ..Case::default() },
    State::True, "Stored")]
#[case::encrypted_without_the_key(Case { spec: json!({"encryption": {"recipients": ["age1"]}}),
    status: newest(&json!({"level": "Stored"})), ..Case::default() }, State::True, "Stored")]
#[case::suspect(Case { status: newest(&json!({"suspect": true})), ..Case::default() }, State::False, "Suspect")]
#[case::accepted(Case { status: newest(&json!({"suspect": true})), annotation: "3f2c1d1c-7a11-4a55-9a39-0c9a3d8f6b02", ..Case::default() },
    State::Unknown, "SuspectAccepted")]
#[case::another_accepted(Case { status: newest(&json!({"suspect": true})), annotation: "3f2c1d1c-7a11-4a55-9a39-0c9a3d8f6b03", ..Case::default() },
    State::False, "Suspect")]
fn the_newest_backup_has_the_level_asked_for(
    #[case] case: Case,
    #[case] state: State,
    #[case] reason: &str,
) {
    let finding = found(&case, BackupCondition::Verified);
    assert_eq!((finding.state, finding.reason.as_str()), (state, reason));
}

#[test]
fn a_failed_restore_test_outweighs_a_level() {
    let mut status = newest(&json!({}));
    status["lastTest"] = json!({"job": "t", "kind": "RestoreTest", "result": "Failed", "reason": "Damaged", "message": "flipped"});
    let case = Case {
        status,
        ..Case::default()
    };
    let finding = found(&case, BackupCondition::Verified);
    assert_eq!(finding.reason, "RestoreTestFailed");
    assert!(finding.message.contains("(Damaged): flipped"));
}

#[test]
fn a_suspect_says_how_it_is_accepted() {
    let case = Case {
        status: newest(&json!({"suspect": true, "suspectBecause": ["models: 1 of 1 are gone"]})),
        ..Case::default()
    };
    let message = found(&case, BackupCondition::Verified).message;
    assert!(message.contains("models: 1 of 1 are gone"), "{message}");
    assert!(
        message.contains(
            "kubectl annotate sb daily --overwrite stockpredictor.io/accept-suspect=3f2c1d1c"
        ),
        "{message}"
    );
}

#[rstest]
#[case::none_set(json!({}), json!({}), State::True, "NoObjectives")]
#[case::none_yet(json!({"objectives": {"rpo": "2h"}}), json!({}), State::Unknown, "NoBackupYet")]
#[case::none_for_too_long(json!({"objectives": {"rpo": "30m"}}), json!({}), State::False, "RpoMissed")]
#[case::new_enough(json!({"objectives": {"rpo": "1h"}}), json!({"lastSuccess": "2025-08-01T11:00:01Z"}), State::True, "WithinObjectives")]
#[case::too_old(json!({"objectives": {"rpo": "1h"}}), json!({"lastSuccess": "2025-08-01T11:00:00Z"}), State::False, "RpoMissed")]
fn the_newest_backup_is_new_enough_or_it_is_said(
    #[case] spec: Value,
    #[case] status: Value,
    #[case] state: State,
    #[case] reason: &str,
) {
    let case = Case {
        spec,
        status,
        ..Case::default()
    };
    let finding = found(&case, BackupCondition::ObjectivesMet);
    assert_eq!((finding.state, finding.reason.as_str()), (state, reason));
}

#[test]
fn a_destination_that_failed_is_named_and_one_that_is_gone_is_not() {
    let case = Case {
        status: json!({"destinations": [{"name": "volume", "archives": 1}, {"name": "old", "error": "gone"}]}),
        ..Case::default()
    };
    let finding = found(&case, BackupCondition::DestinationsReachable);
    assert_eq!(finding.reason, "AllReachable");
    let case = Case {
        status: json!({"destinations": [{"name": "volume", "error": "full"}]}),
        ..Case::default()
    };
    let finding = found(&case, BackupCondition::DestinationsReachable);
    assert_eq!(
        (finding.state, finding.message.as_str()),
        (State::False, "volume: full")
    );
    assert_eq!(found(&case, BackupCondition::Ready).state, State::False);
}

#[test]
fn ready_names_what_is_wrong_before_what_is_stopped_on_purpose() {
    let case = Case {
        spec: json!({"suspend": true}),
        status: last("Failed", "VolumeFull"),
        ..Case::default()
    };
    assert_eq!(found(&case, BackupCondition::Ready).reason, "VolumeFull");
    let case = Case {
        spec: json!({"suspend": true}),
        ..Case::default()
    };
    let ready = found(&case, BackupCondition::Ready);
    assert_eq!(
        (ready.state, ready.reason.as_str()),
        (State::False, "Suspended")
    );
    assert!(!ready.is_problem());
}
