//! Truth tables of the conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::stock_predictor::claim::tests::claim;
use crate::stock_predictor::fixture::{merge, validated};
use crate::stock_predictor::pods::tests::{pod, status};
use crate::stock_predictor::status::{conditions, transitions};

/// Everything that is seen of a predictor that serves.
struct World {
    predictor: ValidatedPredictor,
    plan: ClaimPlan,
    claim: Option<PersistentVolumeClaim>,
    deployment: Option<Deployment>,
    pods: Vec<Arc<Pod>>,
    stats: Vec<Stats>,
    failure: Option<Failure>,
    carried: Option<Vec<Condition>>,
}

impl World {
    fn new(spec: &Value) -> Self {
        Self {
            predictor: validated(spec),
            plan: ClaimPlan::Keep {
                size: "10Gi".into(),
            },
            claim: Some(claim(&json!({}))),
            deployment: Some(deployment(&json!({}))),
            pods: vec![ready_pod()],
            stats: vec![stats(&json!({}))],
            failure: None,
            carried: None,
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let stats: Vec<_> = self.stats.iter().collect();
        findings(Seen {
            predictor: &self.predictor,
            plan: &self.plan,
            fill: &crate::stock_predictor::bootstrap::Fill::Unneeded,
            claim: self.claim.as_ref(),
            deployment: self.deployment.as_ref(),
            pods: &self.pods,
            stats: &stats,
            failure: self.failure.as_ref(),
            carried: self.carried.as_deref(),
        })
    }

    fn finding(&self, kind: ConditionType) -> Finding {
        self.findings()
            .into_iter()
            .find(|finding| finding.kind == kind)
            .unwrap()
    }

    fn is(&self, kind: ConditionType) -> (State, Reason) {
        let finding = self.finding(kind);
        (finding.state, finding.reason)
    }
}

fn deployment(changes: &Value) -> Deployment {
    let mut object = json!({
        "metadata": {"name": "nvda", "generation": 2},
        "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1},
    });
    merge(&mut object, changes);
    serde_json::from_value(object).unwrap()
}

fn ready_pod() -> Arc<Pod> {
    pod(&json!({"conditions": [{"type": "Ready", "status": "True"}]}))
}

fn stats(changes: &Value) -> Stats {
    let mut document = json!({
        "model": {"state": "Loaded", "name": "nvda_lstm_model", "version": "2023-12-29"},
        "volume": {"writable": true, "used_bytes": 1, "capacity_bytes": 100},
        "symbols": [{"symbol": "NVDA", "state": "Ready"}, {"symbol": "TSLA", "state": "Ready"}],
    });
    merge(&mut document, changes);
    serde_json::from_value(document).unwrap()
}

#[test]
fn when_all_is_well_every_condition_is_good() {
    let states: Vec<_> = World::new(&json!({}))
        .findings()
        .iter()
        .map(|f| (f.kind, f.state, f.reason))
        .collect();
    assert_eq!(
        states,
        [
            (ConditionType::Ready, State::True, Reason::AllGood),
            (ConditionType::Reconciled, State::True, Reason::Applied),
            (ConditionType::VolumeReady, State::True, Reason::Bound),
            (
                ConditionType::WorkloadAvailable,
                State::True,
                Reason::Available
            ),
            (ConditionType::ModelReady, State::True, Reason::Loaded),
            (
                ConditionType::DataReady,
                State::True,
                Reason::HistoryPresent
            ),
            (ConditionType::Degraded, State::False, Reason::NotDegraded),
        ]
    );
}

#[rstest]
#[case::missing(ClaimPlan::Missing, State::False, Reason::ClaimMissing, "create it")]
#[case::not_ours(
    ClaimPlan::NotOurs,
    State::False,
    Reason::ClaimNotOurs,
    "existingClaim"
)]
#[case::terminating(
    ClaimPlan::Terminating,
    State::False,
    Reason::ClaimTerminating,
    "is being deleted"
)]
#[case::mode(ClaimPlan::WrongAccessMode { has: "ReadWriteMany".into() }, State::False, Reason::AccessModeMismatch, "ReadWriteMany and not as ReadWriteOnce")]
#[case::no_growth(
    ClaimPlan::GrowthRefused { from: "5Gi".into(), to: "10Gi".into(), class: "standard".into() },
    State::False, Reason::ExpansionNotSupported, "allowVolumeExpansion")]
#[case::no_shrinking(ClaimPlan::ShrinkRefused { from: "20Gi".into(), to: "10Gi".into() }, State::False, Reason::ShrinkRefused, "set spec.storage.size to 20Gi or more")]
fn a_plan_for_the_claim_becomes_a_condition(
    #[case] plan: ClaimPlan,
    #[case] state: State,
    #[case] reason: Reason,
    #[case] text: &str,
) {
    let world = World {
        plan,
        ..World::new(&json!({}))
    };
    let finding = world.finding(ConditionType::VolumeReady);
    assert_eq!((finding.state, finding.reason), (state, reason));
    assert!(
        finding.message.contains(text),
        "no {text:?} in {:?}",
        finding.message
    );
}

#[rstest]
#[case::no_claim_yet(None, State::Unknown, Reason::ClaimPending)]
#[case::pending(Some(json!({"status": {"phase": "Pending"}})), State::Unknown, Reason::ClaimPending)]
#[case::lost(Some(json!({"status": {"phase": "Lost"}})), State::False, Reason::ClaimLost)]
#[case::resizing(Some(json!({"spec": {"resources": {"requests": {"storage": "20Gi"}}}})), State::Unknown, Reason::Resizing)]
#[case::larger_than_asked(Some(json!({"status": {"capacity": {"storage": "20Gi"}}})), State::True, Reason::Bound)]
fn the_phase_of_the_claim_becomes_a_condition(
    #[case] changes: Option<Value>,
    #[case] state: State,
    #[case] reason: Reason,
) {
    let world = World {
        claim: changes.map(|changes| claim(&changes)),
        ..World::new(&json!({}))
    };
    assert_eq!(world.is(ConditionType::VolumeReady), (state, reason));
}

#[rstest]
#[case::old_template(json!({"metadata": {"generation": 3}}), State::Unknown, Reason::Progressing)]
#[case::not_ready(json!({"status": {"readyReplicas": null}}), State::Unknown, Reason::Progressing)]
#[case::old_pods(json!({"status": {"updatedReplicas": 0}}), State::Unknown, Reason::Progressing)]
#[case::one_too_many(json!({"status": {"replicas": 2, "readyReplicas": 2}}), State::Unknown, Reason::Progressing)]
#[case::quota(
    json!({"status": {"readyReplicas": 0, "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "quota"}]}}),
    State::False, Reason::PodsRefused)]
fn the_deployment_becomes_a_condition(
    #[case] changes: Value,
    #[case] state: State,
    #[case] reason: Reason,
) {
    let world = World {
        deployment: Some(deployment(&changes)),
        ..World::new(&json!({}))
    };
    assert_eq!(world.is(ConditionType::WorkloadAvailable), (state, reason));
    assert_eq!(world.is(ConditionType::Ready), (State::False, reason));
}

#[rstest]
#[case::suspended(json!({"suspend": true}), "spec.suspend")]
#[case::scaled_to_zero(json!({"replicas": 0}), "spec.replicas")]
fn a_stopped_predictor_says_what_stopped_it(#[case] spec: Value, #[case] text: &str) {
    let world = World {
        pods: vec![],
        stats: vec![],
        ..World::new(&spec)
    };
    let ready = world.finding(ConditionType::Ready);
    assert_eq!(
        (ready.state, ready.reason),
        (State::False, Reason::Suspended)
    );
    assert!(ready.message.contains(text), "{}", ready.message);
    assert!(
        !world.findings().iter().any(Finding::is_problem),
        "to be stopped is no problem"
    );
}

#[rstest]
#[case::missing(json!({"model": {"state": "ModelMissing", "message": "no folder"}}), State::False, Reason::ModelMissing)]
#[case::refused(json!({"model": {"state": "ModelRefused", "message": "hash"}}), State::False, Reason::ModelRefused)]
#[case::loading(json!({"model": {"state": "Loading"}}), State::Unknown, Reason::Progressing)]
#[case::of_another_release(json!({"model": {"state": "Resting"}}), State::Unknown, Reason::Progressing)]
fn the_model_becomes_a_condition(
    #[case] changes: Value,
    #[case] state: State,
    #[case] reason: Reason,
) {
    let world = World {
        stats: vec![stats(&json!({})), stats(&changes)],
        ..World::new(&json!({}))
    };
    assert_eq!(world.is(ConditionType::ModelReady), (state, reason));
    assert_eq!(world.is(ConditionType::Ready), (State::False, reason));
}

/// What a predictor says of itself before its first look at the model.
#[test]
fn a_model_that_is_being_loaded_is_no_problem() {
    let world = World {
        deployment: Some(deployment(&json!({"status": {"readyReplicas": 0}}))),
        stats: vec![stats(&json!({
            "model": {"state": "Loading", "name": null, "version": null, "message": "try again"},
            "problems": [{"type": "ModelLoading", "message": "try again"}],
        }))],
        ..World::new(&json!({}))
    };
    assert_eq!(
        world.finding(ConditionType::ModelReady).message,
        "the model is being loaded"
    );
    let findings = world.findings();
    assert_eq!(transitions(&findings, &[]), [] as [&Finding; 0], "no Event");
}

#[test]
fn a_missing_model_is_named_even_when_the_predictor_does_not() {
    let spec = json!({"model": {"name": "my_model"}});
    let missing = stats(&json!({"model": {"state": "ModelMissing", "name": null}}));
    let world = World {
        stats: vec![missing],
        ..World::new(&spec)
    };
    assert!(
        world
            .finding(ConditionType::ModelReady)
            .message
            .contains("my_model")
    );
}

#[rstest]
#[case::none(json!({"symbols": [{"symbol": "TSLA", "state": "NoHistory"}]}), State::False, Reason::HistoryMissing, "TSLA: no price history")]
#[case::broken(json!({"symbols": [{"symbol": "AAPL", "state": "BrokenHistory", "message": "line 7"}]}), State::False, Reason::HistoryRefused, "line 7")]
#[case::short(json!({"symbols": [{"symbol": "AAPL", "state": "ShortHistory"}]}), State::False, Reason::HistoryRefused, "AAPL")]
#[case::missing_before_broken(
    json!({"symbols": [{"symbol": "A", "state": "BrokenHistory"}, {"symbol": "B", "state": "NoHistory"}]}),
    State::False, Reason::HistoryMissing, "B: no")]
fn symbols_become_a_condition(
    #[case] changes: Value,
    #[case] state: State,
    #[case] reason: Reason,
    #[case] text: &str,
) {
    let world = World {
        stats: vec![stats(&changes)],
        ..World::new(&json!({}))
    };
    let finding = world.finding(ConditionType::DataReady);
    assert_eq!((finding.state, finding.reason), (state, reason));
    assert!(finding.message.contains(text), "{}", finding.message);
}

#[test]
fn many_symbols_without_history_are_counted() {
    let symbols: Vec<_> = (10..30)
        .map(|n| json!({"symbol": format!("S{n}"), "state": "NoHistory"}))
        .collect();
    let world = World {
        stats: vec![stats(&json!({"symbols": symbols}))],
        ..World::new(&json!({}))
    };
    let message = world.finding(ConditionType::DataReady).message;
    assert!(
        message.starts_with("S10, S11, S12, S13, S14, S15, S16, S17, S18, S19 and 10 more:"),
        "{message}"
    );
}

#[rstest]
#[case::full(json!({"problems": [{"type": "VolumeFull", "message": "full"}], "volume": {"writable": false}}), Reason::VolumeFull)]
#[case::read_only(json!({"problems": [{"type": "VolumeNotWritable", "message": "ro"}]}), Reason::VolumeNotWritable)]
#[case::unwritable_without_a_word(json!({"volume": {"writable": false}}), Reason::VolumeNotWritable)]
#[case::candidate(json!({"model": {"candidate": {"version": "2", "message": "hash"}}}), Reason::CandidateRefused)]
#[case::of_a_newer_release(json!({"problems": [{"type": "TooHot", "message": "fan"}]}), Reason::PredictorProblem)]
fn what_the_service_lives_with_degrades_it_and_ready_stays_true(
    #[case] changes: Value,
    #[case] reason: Reason,
) {
    let world = World {
        stats: vec![stats(&changes)],
        ..World::new(&json!({}))
    };
    assert_eq!(world.is(ConditionType::Degraded), (State::True, reason));
    assert_eq!(world.is(ConditionType::Ready), (State::True, reason));
    assert_eq!(
        world.is(ConditionType::ModelReady),
        (State::True, Reason::Loaded)
    );
}

#[test]
fn a_refused_growth_leaves_the_service_ready_and_is_its_reason() {
    let plan = ClaimPlan::GrowthRefused {
        from: "5Gi".into(),
        to: "10Gi".into(),
        class: "standard".into(),
    };
    let world = World {
        plan,
        ..World::new(&json!({}))
    };
    assert_eq!(
        world.is(ConditionType::Ready),
        (State::True, Reason::ExpansionNotSupported)
    );
}

#[test]
fn ready_names_what_is_wrong_before_what_is_only_pending() {
    let unschedulable = pod(&json!({"conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}]}));
    let world = World {
        claim: Some(claim(&json!({"status": {"phase": "Pending"}}))),
        deployment: Some(deployment(&json!({"status": {"readyReplicas": 0}}))),
        pods: vec![unschedulable],
        stats: vec![],
        ..World::new(&json!({}))
    };
    assert_eq!(
        world.is(ConditionType::VolumeReady),
        (State::Unknown, Reason::ClaimPending)
    );
    assert_eq!(
        world.is(ConditionType::Ready),
        (State::False, Reason::Unschedulable)
    );
}

#[rstest]
#[case(Reason::ApplyRefused)]
#[case(Reason::ApplyFailed)]
#[case(Reason::ChildNotOurs)]
fn what_could_not_be_applied_is_the_first_thing_that_ready_names(#[case] reason: Reason) {
    let failure = Some(Failure {
        reason,
        message: "no".into(),
    });
    let world = World {
        failure,
        ..World::new(&json!({}))
    };
    assert_eq!(world.is(ConditionType::Reconciled), (State::False, reason));
    assert_eq!(world.is(ConditionType::Ready), (State::False, reason));
}

#[test]
fn ready_pods_vouch_for_a_predictor_that_does_not_answer_the_operator() {
    let world = World {
        stats: vec![],
        ..World::new(&json!({}))
    };
    assert_eq!(
        world.is(ConditionType::ModelReady),
        (State::Unknown, Reason::Unknown)
    );
    assert_eq!(
        world.is(ConditionType::Ready),
        (State::True, Reason::AllGood)
    );
}

#[test]
fn pods_that_are_not_ready_vouch_for_nothing() {
    let starting = pod(
        &json!({"containerStatuses": [status("predictor", &json!({"state": {"running": {}}}))]}),
    );
    let world = World {
        deployment: Some(deployment(&json!({"status": {"readyReplicas": 0}}))),
        pods: vec![starting],
        stats: vec![],
        ..World::new(&json!({}))
    };
    assert_eq!(
        world.is(ConditionType::ModelReady),
        (State::Unknown, Reason::Progressing)
    );
    assert_eq!(
        world.is(ConditionType::Ready),
        (State::False, Reason::Progressing)
    );
}

#[test]
fn a_short_silence_changes_nothing_that_was_known() {
    let full = stats(&json!({"problems": [{"type": "VolumeFull", "message": "full"}]}));
    let before = World {
        stats: vec![full],
        ..World::new(&json!({}))
    };
    let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
    let known = conditions(&before.findings(), &[], 3, &now);
    let silent = World {
        stats: vec![],
        carried: Some(known),
        ..World::new(&json!({}))
    };
    assert_eq!(silent.findings(), before.findings());
}

#[test]
fn every_message_that_is_not_good_says_what_to_do_or_that_nothing_is() {
    let invalid =
        invalid("spec.storage names neither size nor existingClaim; set one of them".into());
    assert_eq!(
        invalid
            .iter()
            .map(|f| (f.kind, f.state))
            .collect::<Vec<_>>(),
        [
            (ConditionType::Ready, State::False),
            (ConditionType::Reconciled, State::False),
        ]
    );
    assert!(invalid[0].message.contains("set one of them"));
}
