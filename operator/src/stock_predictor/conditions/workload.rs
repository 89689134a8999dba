//! The pods, as a condition.
//!
//! In: what was seen, Deployment and pods above all. Out: `WorkloadAvailable`.

use k8s_openapi::api::apps::v1::Deployment;
use stockpredictor_api::condition::{ConditionType, Reason};

use super::{Finding, Seen, State};
use crate::stock_predictor::pods;
use crate::stock_predictor::validate::Stopped;

/// `WorkloadAvailable`.
pub fn workload_available(seen: Seen<'_>) -> Finding {
    let finding = |state, reason, message: String| {
        Finding::new(ConditionType::WorkloadAvailable, state, reason, message)
    };
    match &seen.predictor.stopped {
        Some(Stopped::ByRestore(hold)) => {
            return finding(
                State::False,
                Reason::RestoreInProgress,
                format!(
                    "stopped by the StorageRestore {0} until it has ended; `kubectl describe sr {0}` tells how far it is",
                    hold.restore
                ),
            );
        }
        Some(Stopped::ByBootstrap) => {
            return finding(
                State::Unknown,
                Reason::Progressing,
                "pods wait until the new volume is filled".into(),
            );
        }
        Some(Stopped::BySuspend) => {
            return finding(
                State::False,
                Reason::Suspended,
                "stopped by spec.suspend; set it to false to go on".into(),
            );
        }
        Some(Stopped::ByReplicas) => {
            return finding(
                State::False,
                Reason::Suspended,
                "stopped by spec.replicas: 0; set it to 1 or more to go on".into(),
            );
        }
        None => {}
    }
    let wanted = seen.predictor.replicas;
    if rolled_out(seen.deployment, wanted) {
        return finding(
            State::True,
            Reason::Available,
            format!("{wanted} of {wanted} pods are ready"),
        );
    }
    if let Some(trouble) = pods::trouble(seen.pods, seen.deployment) {
        return finding(State::False, trouble.reason, trouble.message);
    }
    let message = if seen.plan.usable() {
        "pods start"
    } else {
        "pods wait for the claim"
    };
    finding(State::Unknown, Reason::Progressing, message.into())
}

/// True when the Deployment's controller has seen the newest template and every pod of it is ready.
fn rolled_out(deployment: Option<&Deployment>, wanted: i32) -> bool {
    let Some((deployment, status)) =
        deployment.and_then(|deployment| Some((deployment, deployment.status.as_ref()?)))
    else {
        return false;
    };
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or_default() >= wanted
        && status.ready_replicas.unwrap_or_default() >= wanted
        && status.replicas.unwrap_or_default() == wanted
}
