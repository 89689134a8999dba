//! What the metrics say of a `StorageRestore`.
//!
//! In: an object. Out: samples. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use stockpredictor_api::restore_condition::RestoreCondition;
use stockpredictor_api::{RestorePhase, StorageRestore};

use super::interval::Asking;
use super::objects::{Measured, OBJECT};
use super::sample::{Description, Samples};
use crate::storage_restore::controller::KIND;

static DURATION: Description = Description {
    name: "stockpredictor_operator_restore_duration_seconds",
    labels: OBJECT,
    help: "Time from the first check of a StorageRestore to the end of its last finished phase; when it has ended, how long it took",
};
static FINISHED: Description = Description {
    name: "stockpredictor_operator_restore_finished_timestamp_seconds",
    labels: OBJECT,
    help: "When a StorageRestore ended; absent before",
};
static PHASE: Description = Description {
    name: "stockpredictor_operator_restore_phase",
    labels: &["namespace", "name", "phase"],
    help: "1 for the phase that a StorageRestore is in; the other phases are absent",
};

impl Measured for StorageRestore {
    const KIND: &'static str = KIND;

    fn condition_types() -> Vec<&'static str> {
        RestoreCondition::ALL.map(RestoreCondition::as_str).to_vec()
    }

    fn conditions(&self) -> &[Condition] {
        let status = self.status.as_ref();
        status.map_or(&[], |status| &status.conditions)
    }

    fn measure<'a>(&'a self, who: [&'a str; 2], _: &mut Asking<'_>, samples: &mut Samples<'a>) {
        let [namespace, name] = who;
        let status = self.status.as_ref();
        let phase = status.and_then(|status| status.phase).unwrap_or_default();
        samples.push(&PHASE, [namespace, name, phase.as_str()], 1);
        let phases = status.map_or(&[][..], |status| &status.phases);
        let last = phases.iter().filter_map(|phase| phase.finished_at.as_ref());
        let Some(last) = last.map(|time| time.0.as_second()).max() else {
            return;
        };
        // As status.duration has it: waiting for its turn doesn't count.
        let began = |wanted| phases.iter().find(|phase| phase.name == wanted);
        let first = began(RestorePhase::Preflight).or_else(|| began(RestorePhase::Holding));
        let took = first
            .filter(|first| first.finished_at.is_some())
            .map(|first| (last - first.started_at.0.as_second()).max(0));
        samples.push_some(&DURATION, who, took);
        samples.push_some(&FINISHED, who, phase.is_end().then_some(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::interval::Intervals;
    use crate::storage_restore::status::enter;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use rstest::rstest;
    use serde_json::json;
    use stockpredictor_api::StorageRestoreStatus;

    use RestorePhase::{Completed, Failed, Filling, Holding, Pending, Preflight, Preparing};

    #[rstest]
    #[case::new(&[], &["phase{namespace=trading,name=back,phase=Pending} 1"])]
    #[case::waits(&[(Pending, 10)], &["phase{namespace=trading,name=back,phase=Pending} 1"])]
    #[case::first_phase(&[(Pending, 10), (Preflight, 15)], &["phase{namespace=trading,name=back,phase=Preflight} 1"])]
    #[case::on_its_way(&[(Pending, 10), (Preflight, 15), (Holding, 20), (Preparing, 32)], &[
        "duration_seconds{namespace=trading,name=back} 17",
        "phase{namespace=trading,name=back,phase=Preparing} 1",
    ])]
    #[case::ended(&[(Pending, 10), (Preflight, 15), (Holding, 20), (Preparing, 32), (Completed, 3700)], &[
        "duration_seconds{namespace=trading,name=back} 3685",
        "finished_timestamp_seconds{namespace=trading,name=back} 3700",
        "phase{namespace=trading,name=back,phase=Completed} 1",
    ])]
    #[case::a_new_claim(&[(Pending, 10), (Preflight, 15), (Filling, 20), (Completed, 80)], &[
        "duration_seconds{namespace=trading,name=back} 65",
        "finished_timestamp_seconds{namespace=trading,name=back} 80",
        "phase{namespace=trading,name=back,phase=Completed} 1",
    ])]
    #[case::never_began(&[(Pending, 10), (Failed, 12)], &[
        "finished_timestamp_seconds{namespace=trading,name=back} 12",
        "phase{namespace=trading,name=back,phase=Failed} 1",
    ])]
    fn a_restore_has_a_phase_and_what_was_measured(
        #[case] phases: &[(RestorePhase, i64)],
        #[case] expected: &[&str],
    ) {
        let mut status = StorageRestoreStatus::default();
        for (phase, second) in phases {
            let at = Time(Timestamp::from_second(*second).unwrap());
            status = enter(&status, *phase, None, &at);
        }
        let object: StorageRestore = serde_json::from_value(json!({
            "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageRestore", "metadata": {"name": "back"},
            "spec": {"source": {}, "target": {"inPlace": {"predictorRef": {"name": "nvda"}}}}, "status": status,
        }))
        .unwrap();
        let mut samples = Samples::default();
        let mut intervals = Intervals::default();
        let mut asking = intervals.ask(Timestamp::UNIX_EPOCH);
        object.measure(["trading", "back"], &mut asking, &mut samples);
        let prefix = "stockpredictor_operator_restore_";
        let lines: Vec<_> = samples.lines();
        let expected: Vec<_> = expected
            .iter()
            .map(|line| format!("{prefix}{line}"))
            .collect();
        assert_eq!(lines, expected);
    }
}
