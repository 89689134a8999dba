//! The truth table of [`plan`].

use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};
use stockpredictor_api::backup_condition::BackupReason;

use super::*;
use crate::job::outcome::Failed;
use crate::storage_backup::fixture;

const RUNS: Cron = Cron::Apply { suspend: false };
const STOPPED: Cron = Cron::Apply { suspend: true };

fn run(name: &str, kind: RunKind, outcome: Outcome, finished: &str) -> Run {
    let job = json!({"metadata": {"name": name}, "status": {"completionTime": finished}});
    Run {
        job: Arc::new(serde_json::from_value(job).unwrap()),
        kind,
        outcome,
        own: true,
    }
}

fn active(kind: RunKind) -> Vec<Run> {
    vec![run("now", kind, Outcome::Running, "2025-08-01T12:00:00Z")]
}

fn planned(spec: &Value, status: &Value, runs: &[Run], held: Option<&str>) -> Plan {
    let mut object = fixture::backup(spec);
    object.status = serde_json::from_value(status.clone()).unwrap();
    let backup = fixture::validated(spec);
    plan(&object, Ok(&backup), runs, held, true)
}

fn manual(number: i64) -> Begin {
    Begin::Manual {
        trigger: "now".into(),
        number,
    }
}

#[rstest]
#[case::plain(json!({}), json!({}), vec![], None, RUNS, None)]
#[case::suspended(json!({"suspend": true}), json!({}), vec![], None, STOPPED, None)]
#[case::held(json!({}), json!({}), vec![], Some("back"), STOPPED, None)]
#[case::without_schedule(json!({"schedule": null}), json!({}), vec![], None, Cron::Remove, None)]
#[case::without_schedule_and_busy(json!({"schedule": null}), json!({}), active(RunKind::Scheduled), None, Cron::Leave, None)]
#[case::triggered(json!({"trigger": "now"}), json!({}), vec![], None, STOPPED, Some(manual(0)))]
#[case::triggered_again(json!({"trigger": "now"}), json!({"acknowledgedTrigger": "then", "manualRuns": 4}), vec![], None, STOPPED, Some(manual(4)))]
#[case::triggered_while_suspended(json!({"trigger": "now", "suspend": true}), json!({}), vec![], None, STOPPED, Some(manual(0)))]
#[case::acknowledged(json!({"trigger": "now"}), json!({"acknowledgedTrigger": "now"}), vec![], None, RUNS, None)]
#[case::triggered_while_held(json!({"trigger": "now"}), json!({}), vec![], Some("back"), STOPPED, None)]
#[case::triggered_while_busy(json!({"trigger": "now"}), json!({}), active(RunKind::Scheduled), None, RUNS, None)]
#[case::triggered_during_a_test(json!({"trigger": "now"}), json!({}), active(RunKind::RestoreTest), None, STOPPED, Some(manual(0)))]
#[case::during_a_manual_run(json!({}), json!({}), active(RunKind::Manual), None, STOPPED, None)]
#[case::new(json!({"runOnCreate": true}), json!({}), vec![], None, STOPPED, Some(Begin::Initial))]
#[case::not_new(json!({"runOnCreate": true}), json!({"initialRun": "daily-first"}), vec![], None, RUNS, None)]
#[case::new_but_ran(json!({"runOnCreate": true}), json!({}), active(RunKind::Scheduled), None, RUNS, None)]
#[case::new_and_triggered(json!({"runOnCreate": true, "trigger": "now"}), json!({}), vec![], None, STOPPED, Some(manual(0)))]
fn one_run_at_a_time_and_each_wish_once(
    #[case] spec: Value,
    #[case] status: Value,
    #[case] runs: Vec<Run>,
    #[case] held: Option<&str>,
    #[case] cron: Cron,
    #[case] begin: Option<Begin>,
) {
    let plan = planned(&spec, &status, &runs, held);
    assert_eq!((plan.backup, plan.begin), (cron, begin));
    assert_eq!(plan.test, Cron::Remove.unless_busy(&runs));
}

impl Cron {
    /// What becomes of an unwanted one while a backup works.
    fn unless_busy(self, runs: &[Run]) -> Self {
        if runs.iter().any(|run| run.active() && !run.tests()) {
            Self::Leave
        } else {
            self
        }
    }
}

#[rstest]
#[case::no_predictor(None, false)]
#[case::new(Some((json!({}), json!({}))), false)]
#[case::its_claim_is_bound(Some((json!({}), json!({"volume": {"phase": "Bound"}}))), false)]
#[case::it_told_of_its_volume(Some((json!({}), json!({"volume": {"id": "v"}}))), true)]
#[case::suspended(Some((json!({"suspend": true}), json!({}))), true)]
#[case::without_pods(Some((json!({"replicas": 0}), json!({}))), true)]
fn the_first_run_waits_for_a_volume_that_is_set_up(
    #[case] predictor: Option<(Value, Value)>,
    #[case] begins: bool,
) {
    let predictor = predictor.map(|(spec, status)| {
        let mut predictor = crate::stock_predictor::fixture::predictor(&spec);
        predictor.status = serde_json::from_value(status).unwrap();
        predictor
    });
    let is_set_up = is_set_up(predictor.as_ref());
    let spec = json!({"runOnCreate": true});
    let (object, backup) = (fixture::backup(&spec), fixture::validated(&spec));
    let first = plan(&object, Ok(&backup), &[], None, is_set_up);
    assert_eq!(first.begin, begins.then_some(Begin::Initial));
    // Somebody who asks for one now gets it.
    let spec = json!({"trigger": "now"});
    let (object, backup) = (fixture::backup(&spec), fixture::validated(&spec));
    let asked = plan(&object, Ok(&backup), &[], None, is_set_up);
    assert_eq!(asked.begin, Some(manual(0)));
}

#[rstest]
#[case(true, Cron::Remove)]
#[case(false, Cron::Leave)]
fn a_refused_object_begins_nothing(#[case] stops: bool, #[case] cron: Cron) {
    let object = fixture::backup(&json!({"trigger": "now"}));
    let refusal = Refusal {
        reason: BackupReason::PredictorMissing,
        message: String::new(),
        stops,
    };
    let plan = plan(&object, Err(&refusal), &[], None, true);
    assert_eq!((plan.backup, plan.test, plan.begin), (cron, cron, None));
}

#[test]
fn what_the_status_does_not_tell_yet_is_not_taken_away() {
    let done = || Outcome::Succeeded(None);
    let runs: Vec<_> = (0..5)
        .map(|n| {
            run(
                &format!("m{n}"),
                RunKind::Manual,
                done(),
                &format!("2025-08-01T12:00:0{n}Z"),
            )
        })
        .collect();
    let told = |job: &str, finished: &str| json!({"lastRun": {"job": job, "kind": "Manual", "result": "Succeeded", "reason": "Completed", "finished": finished}});
    let spec = json!({"schedule": null});
    let plan = planned(&spec, &told("m3", "2025-08-01T12:00:03Z"), &runs, None);
    assert_eq!((plan.discard.len(), plan.backup), (0, Cron::Leave));
    let plan = planned(&spec, &told("m4", "2025-08-01T12:00:04Z"), &runs, None);
    assert_eq!(
        (plan.discard, plan.backup),
        (vec!["m0".to_owned(), "m1".to_owned()], Cron::Remove)
    );
}

#[test]
fn failures_and_successes_have_limits_of_their_own() {
    let failed = || {
        Outcome::Failed(Failed {
            reason: "Failed".into(),
            message: String::new(),
            report: None,
        })
    };
    let runs = [
        run("f0", RunKind::Manual, failed(), "2025-08-01T12:00:00Z"),
        run("f1", RunKind::Initial, failed(), "2025-08-01T12:00:01Z"),
        run(
            "s0",
            RunKind::Manual,
            Outcome::Succeeded(None),
            "2025-08-01T12:00:02Z",
        ),
        run("c0", RunKind::Scheduled, failed(), "2025-08-01T11:00:00Z"),
    ];
    let status = json!({"lastRun": {"job": "s0", "kind": "Manual", "result": "Succeeded", "reason": "Completed",
        "finished": "2025-08-01T12:00:02Z"}});
    let plan = planned(&json!({"failedJobsHistoryLimit": 1}), &status, &runs, None);
    assert_eq!(plan.discard, ["f0"]);
}
