//! The status document: what changes it and what does not.

use k8s_openapi::jiff::Timestamp;
use rstest::rstest;
use serde_json::json;
use stockpredictor_api::condition::Reason;

use super::*;
use crate::stock_predictor::claim::{ClaimPlan, tests::claim as live_claim};
use crate::stock_predictor::conditions::State;
use crate::stock_predictor::fixture::validated;
use crate::stock_predictor::stats::Stats;

const GI: u64 = 1 << 30;

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn finding(kind: ConditionType, state: State, reason: Reason, message: &str) -> Finding {
    Finding {
        kind,
        state,
        reason,
        message: message.into(),
    }
}

#[test]
fn a_condition_keeps_its_time_until_its_value_changes() {
    let ready = |state, reason, message| [finding(ConditionType::Ready, state, reason, message)];
    let first = conditions(
        &ready(State::False, Reason::Progressing, "pods start"),
        &[],
        1,
        &at(10),
    );
    let other_reason = conditions(
        &ready(State::False, Reason::Unschedulable, "no node"),
        &first,
        2,
        &at(20),
    );
    assert_eq!(other_reason[0].last_transition_time, at(10));
    assert_eq!(
        (
            other_reason[0].reason.as_str(),
            other_reason[0].observed_generation
        ),
        ("Unschedulable", Some(2))
    );
    let well = conditions(
        &ready(State::True, Reason::AllGood, "fine"),
        &other_reason,
        2,
        &at(30),
    );
    assert_eq!(well[0].last_transition_time, at(30));
}

#[rstest]
#[case::first_problem(None, (State::False, Reason::ClaimMissing), true)]
#[case::first_and_fine(None, (State::True, Reason::Bound), false)]
#[case::same_problem(Some((State::False, Reason::ClaimMissing)), (State::False, Reason::ClaimMissing), false)]
#[case::another_problem(Some((State::False, Reason::ClaimMissing)), (State::False, Reason::ClaimNotOurs), true)]
#[case::solved(Some((State::False, Reason::ClaimMissing)), (State::True, Reason::Bound), false)]
#[case::pending(Some((State::True, Reason::Bound)), (State::Unknown, Reason::ClaimPending), false)]
#[case::suspended(Some((State::True, Reason::Bound)), (State::False, Reason::Suspended), false)]
fn an_event_tells_of_a_new_problem(
    #[case] before: Option<(State, Reason)>,
    #[case] now: (State, Reason),
    #[case] told: bool,
) {
    let volume = |(state, reason)| vec![finding(ConditionType::VolumeReady, state, reason, "text")];
    let before = before
        .map(|old| conditions(&volume(old), &[], 1, &at(1)))
        .unwrap_or_default();
    assert_eq!(transitions(&volume(now), &before).len(), usize::from(told));
}

#[rstest]
#[case::up(State::False, State::True, 1)]
#[case::down(State::True, State::False, 0)]
#[case::still_up(State::True, State::True, 0)]
fn an_event_tells_that_it_became_ready_and_nothing_else_of_the_summary(
    #[case] before: State,
    #[case] now: State,
    #[case] events: usize,
) {
    let ready = |state, reason| vec![finding(ConditionType::Ready, state, reason, "text")];
    let before = conditions(&ready(before, Reason::Progressing), &[], 1, &at(1));
    assert_eq!(
        transitions(&ready(now, Reason::VolumeFull), &before).len(),
        events
    );
}

#[rstest]
#[case::first_time(None, GI, 0, true)]
#[case::moved_and_rested(Some((GI, 0)), 2 * GI, 600, true)]
#[case::moved_too_early(Some((GI, 0)), 5 * GI, 599, false)]
#[case::hardly_moved(Some((GI, 0)), GI + GI / 20, 6000, false)]
#[case::moved_down(Some((5 * GI, 0)), GI, 600, true)]
fn used_is_told_when_it_moved_and_rested(
    #[case] before: Option<(u64, i64)>,
    #[case] used_bytes: u64,
    #[case] now: i64,
    #[case] told: bool,
) {
    let before = before.map_or_else(VolumeStatus::default, |(used, time)| VolumeStatus {
        used: Some(crate::quantity::bytes(used)),
        used_at: Some(at(time)),
        ..VolumeStatus::default()
    });
    let volume = Volume {
        used_bytes: Some(used_bytes),
        capacity_bytes: Some(10 * GI),
        ..Volume::default()
    };
    assert_eq!(used(&volume, &before, &at(now)).is_some(), told);
}

#[test]
fn used_has_its_share_of_the_capacity_beside_it() {
    let volume = Volume {
        used_bytes: Some(312 << 20),
        capacity_bytes: Some(10 * GI),
        ..Volume::default()
    };
    let told = used(&volume, &VolumeStatus::default(), &at(0));
    assert_eq!(told, Some(("312Mi".to_owned(), "312Mi (3%)".to_owned())));
}

#[test]
fn a_volume_of_no_size_is_not_divided_by() {
    let volume = Volume {
        used_bytes: Some(1),
        capacity_bytes: Some(0),
        ..Volume::default()
    };
    assert_eq!(used(&volume, &VolumeStatus::default(), &at(0)), None);
}

#[rstest]
#[case(&["NVDA", "TSLA"], "NVDA,TSLA")]
#[case(&["ABCDEFGHIJ"; 6], "ABCDEFGHIJ,ABCDEFGHIJ,ABCDEFGHIJ,ABCDEFGHIJ,… (6)")]
fn many_symbols_are_counted(#[case] list: &[&str], #[case] text: &str) {
    let list: Vec<_> = list.iter().map(|symbol| (*symbol).to_owned()).collect();
    assert_eq!(symbols(&list), text);
}

#[test]
fn the_same_state_is_the_same_document_at_any_time() {
    let predictor = validated(&json!({}));
    let live = live_claim(&json!({}));
    let stats: Stats = serde_json::from_str(include_str!("../../../contracts/stats.json")).unwrap();
    let plan = ClaimPlan::Keep {
        size: "10Gi".into(),
    };
    let seen = Seen {
        predictor: &predictor,
        plan: &plan,
        fill: &crate::stock_predictor::bootstrap::Fill::Unneeded,
        claim: Some(&live),
        deployment: None,
        pods: &[],
        stats: &[&stats],
        failure: None,
        carried: None,
    };
    let findings = crate::stock_predictor::conditions::findings(seen);
    let first = status(seen, &findings, None, &at(0));
    assert_eq!(status(seen, &findings, Some(&first), &at(100_000)), first);
    let volume = first.volume.unwrap();
    assert_eq!(
        (volume.usage.as_deref(), volume.phase.as_deref()),
        (Some("10Gi (100%)"), Some("Bound"))
    );
    assert_eq!(
        first.model.unwrap().folder.as_deref(),
        Some("nvda_lstm_model/2023-12-29")
    );
    // While nobody answers, model and use stay as they were.
    let silent = Seen { stats: &[], ..seen };
    let before = status(seen, &findings, None, &at(0));
    let after = status(silent, &findings, Some(&before), &at(100_000));
    assert_eq!((after.model, after.volume), (before.model, before.volume));
}

/// The strings of `value` that are longer than `schema` lets them be, by name.
fn too_long(schema: &serde_json::Value, value: &serde_json::Value, found: &mut Vec<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        let schema = &schema["properties"][name];
        let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX);
        let length = member.as_str().map_or(0, |text| text.chars().count());
        if u64::try_from(length).unwrap() > most {
            found.push(name.clone());
        }
        too_long(schema, member, found);
        for item in member.as_array().into_iter().flatten() {
            too_long(&schema["items"], item, found);
        }
    }
}

#[test]
fn whatever_a_predictor_says_the_schema_takes_the_status() {
    let long = "é".repeat(100_000);
    let answer = json!({
        "model": {"state": "Loaded", "name": long, "version": long, "sha256": long, "message": long},
        "volume": {"id": long, "writable": true, "capacity_bytes": u64::MAX, "used_bytes": u64::MAX},
        "symbols": [{"symbol": long, "state": "NoHistory", "message": long}],
        "problems": [{"type": long, "message": long}],
    });
    let refused = json!({"model": {"state": "ModelRefused", "name": long, "message": long}});
    let unknown = json!({"model": {"state": long}});
    let crd = stockpredictor_api::crd::all().unwrap().remove(0);
    let schema = json!(crd.spec.versions[0].schema);
    let schema = &schema["openAPIV3Schema"]["properties"]["status"];
    assert_eq!(
        schema["properties"]["volume"]["properties"]["id"]["maxLength"],
        64
    );
    for answer in [answer, refused, unknown] {
        let stats: Stats = serde_json::from_value(answer).unwrap();
        let (predictor, claim) = (validated(&json!({})), live_claim(&json!({})));
        let seen = Seen {
            predictor: &predictor,
            plan: &ClaimPlan::Keep {
                size: "10Gi".into(),
            },
            fill: &crate::stock_predictor::bootstrap::Fill::Unneeded,
            claim: Some(&claim),
            deployment: None,
            pods: &[],
            stats: &[&stats],
            failure: None,
            carried: None,
        };
        let findings = crate::stock_predictor::conditions::findings(seen);
        let written = json!(status(seen, &findings, None, &at(0)));
        let mut found = vec![];
        too_long(schema, &written, &mut found);
        assert_eq!(found, [""; 0], "{written}");
    }
}
