//! What the metrics say of a `StockPredictor`.
//!
//! In: an object. Out: samples. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use stockpredictor_api::StockPredictor;
use stockpredictor_api::condition::{ConditionType, Reason};

use super::interval::Asking;
use super::objects::{Measured, OBJECT, flag};
use super::sample::{Description, Samples};
use crate::stock_predictor::conditions::State;
use crate::stock_predictor::controller::KIND;

static INFO: Description = Description {
    name: "stockpredictor_operator_predictor_info",
    labels: &["namespace", "name", "claim"],
    help: "A StockPredictor and the claim of its volume",
};
static READY: Description = Description {
    name: "stockpredictor_operator_predictor_ready",
    labels: OBJECT,
    help: "1 while the StockPredictor is ready",
};
static SUSPENDED: Description = Description {
    name: "stockpredictor_operator_predictor_suspended",
    labels: OBJECT,
    help: "1 while the StockPredictor is suspended, stopped by a restore, or waits for its volume to be filled",
};

impl Measured for StockPredictor {
    const KIND: &'static str = KIND;

    fn condition_types() -> Vec<&'static str> {
        ConditionType::ALL.map(ConditionType::as_str).to_vec()
    }

    fn conditions(&self) -> &[Condition] {
        let status = self.status.as_ref();
        status.map_or(&[], |status| &status.conditions)
    }

    fn measure<'a>(&'a self, who: [&'a str; 2], _: &mut Asking<'_>, samples: &mut Samples<'a>) {
        let [namespace, name] = who;
        let claim = self.spec.storage.existing_claim.as_deref();
        samples.push(&INFO, [namespace, name, claim.unwrap_or(name)], 1);
        let is = |kind: ConditionType, holds: fn(&Condition) -> bool| {
            let mut conditions = self.conditions().iter();
            conditions.any(|condition| condition.type_ == kind.as_str() && holds(condition))
        };
        let ready = is(ConditionType::Ready, |ready| {
            ready.status == State::True.as_str()
        });
        samples.push(&READY, who, flag(ready));
        let held = is(ConditionType::WorkloadAvailable, |available| {
            available.reason == Reason::RestoreInProgress.as_str()
        });
        // One that fails to be filled is down.
        let filled = is(ConditionType::VolumeReady, |volume| {
            volume.reason == Reason::Bootstrapping.as_str()
        });
        let stopped = self.spec.suspend || self.spec.replicas == 0 || held || filled;
        samples.push(&SUSPENDED, who, flag(stopped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::interval::Intervals;
    use crate::stock_predictor::fixture;
    use k8s_openapi::jiff::Timestamp;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn lines(spec: &Value, conditions: &Value) -> Vec<String> {
        let mut object = fixture::predictor(spec);
        let status = json!({"conditions": conditions});
        object.status = Some(serde_json::from_value(status).unwrap());
        let mut samples = Samples::default();
        let mut intervals = Intervals::default();
        let mut asking = intervals.ask(Timestamp::UNIX_EPOCH);
        object.measure(["trading", "nvda"], &mut asking, &mut samples);
        let prefix = "stockpredictor_operator_predictor_";
        let lines = samples.lines().into_iter();
        lines.map(|line| line.replace(prefix, "")).collect()
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2025-08-01T12:00:00Z",
        })
    }

    #[rstest]
    #[case::new(json!({}), json!([]), 0, 0)]
    #[case::ready(json!({}), json!([condition("Ready", "True", "AllGood")]), 1, 0)]
    #[case::not_ready(json!({}), json!([condition("DataReady", "True", "x"), condition("Ready", "False", "x")]), 0, 0)]
    #[case::suspended(json!({"suspend": true}), json!([]), 0, 1)]
    #[case::no_replicas(json!({"replicas": 0}), json!([]), 0, 1)]
    #[case::a_restore(json!({}), json!([condition("WorkloadAvailable", "False", "RestoreInProgress")]), 0, 1)]
    #[case::its_volume_is_filled(json!({}), json!([condition("VolumeReady", "Unknown", "Bootstrapping")]), 0, 1)]
    #[case::its_volume_can_not_be_filled(json!({}), json!([condition("VolumeReady", "False", "BootstrapFailed")]), 0, 0)]
    #[case::starts_after_a_restore(json!({}), json!([condition("WorkloadAvailable", "False", "Progressing")]), 0, 0)]
    fn a_predictor_is_ready_or_stopped_on_purpose_or_neither(
        #[case] spec: Value,
        #[case] conditions: Value,
        #[case] ready: i64,
        #[case] stopped: i64,
    ) {
        assert_eq!(
            lines(&spec, &conditions),
            [
                "info{namespace=trading,name=nvda,claim=nvda} 1".to_owned(),
                format!("ready{{namespace=trading,name=nvda}} {ready}"),
                format!("suspended{{namespace=trading,name=nvda}} {stopped}"),
            ]
        );
    }

    #[test]
    fn the_claim_is_the_one_that_the_spec_names() {
        let spec = json!({"storage": {"size": null, "existingClaim": "shared"}});
        let lines = lines(&spec, &json!([]));
        assert_eq!(lines[0], "info{namespace=trading,name=nvda,claim=shared} 1");
    }
}
