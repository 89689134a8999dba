//! What became of a Job.
//!
//! In: the Job, its pods, the Events about them, and the time. Out: an [`Outcome`]. The job's own message counts first;
//! where there is none, the conditions of the Job and its pods tell.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::message::Message;
use super::pod::CONTAINER;
use super::stuck::{Stuck, stuck};
use crate::stock_predictor::pods::{condition, quote};

/// What became of a Job.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It runs, or starts.
    Running,
    /// It can't start.
    Stuck(Stuck),
    /// A try failed, and another one follows.
    Retrying(Failed),
    /// It did what it was told. The message is gone when its pod is.
    Succeeded(Option<Box<Message>>),
    /// It failed for good.
    Failed(Failed),
}

impl Outcome {
    /// True when nothing will change any more.
    pub fn ended(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Failed(_))
    }
}

/// Why it failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// A word of the contract, or of Kubernetes: `DeadlineExceeded`, `OOMKilled`, `Evicted` …
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// What the job said itself, if it did.
    pub report: Option<Box<Message>>,
}

/// True when the Job is over, whatever its pods do.
pub fn is_over(job: &Job) -> bool {
    terminal(job).is_some()
}

/// When it began: when its first pod could be made.
pub fn started(job: &Job) -> Option<Time> {
    let started = job
        .status
        .as_ref()
        .and_then(|status| status.start_time.clone());
    started.or_else(|| job.metadata.creation_timestamp.clone())
}

/// When it was over.
pub fn finished(job: &Job) -> Option<Time> {
    let done = job
        .status
        .as_ref()
        .and_then(|status| status.completion_time.clone());
    done.or_else(|| terminal(job)?.last_transition_time.clone())
}

/// The pods of a Job, oldest first.
pub fn pods_of(job: &Job, pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let uid = job.uid().unwrap_or_default();
    let mut own: Vec<_> = pods
        .iter()
        .filter(|pod| pod.owner_references().iter().any(|owner| owner.uid == uid))
        .cloned()
        .collect();
    own.sort_by_key(|pod| (pod.metadata.creation_timestamp.clone(), pod.name_any()));
    own
}

/// Reads a Job. `pods` are its own, oldest first.
pub fn read(job: &Job, pods: &[Arc<Pod>], events: &[Event], now: Timestamp) -> Outcome {
    match terminal(job) {
        Some(condition) if condition.type_ == "Complete" => {
            Outcome::Succeeded(messages(pods).find(Message::succeeded).map(Box::new))
        }
        Some(condition) => Outcome::Failed(failed(Some(condition), job, pods)),
        None => {
            if let Some(stuck) = stuck(job, pods, events, now) {
                return Outcome::Stuck(stuck);
            }
            let tried = pods
                .iter()
                .any(|pod| ended(pod).is_some_and(|end| end.exit_code != 0));
            // A new try that runs may well succeed; the last one's failure stays what is known until then.
            if tried {
                Outcome::Retrying(failed(None, job, pods))
            } else {
                Outcome::Running
            }
        }
    }
}

fn terminal(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    })
}

/// The messages of pods that ended, newest first.
fn messages(pods: &[Arc<Pod>]) -> impl Iterator<Item = Message> {
    pods.iter()
        .rev()
        .filter_map(|pod| Message::read(ended(pod)?.message.as_deref()?))
}

/// How a pod's container ended.
fn ended(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == CONTAINER)?;
    status.state.as_ref()?.terminated.as_ref()
}

fn failed(condition: Option<&JobCondition>, job: &Job, pods: &[Arc<Pod>]) -> Failed {
    let why = condition.and_then(|condition| condition.reason.as_deref());
    let report = messages(pods).find(|message| !message.succeeded());
    if why == Some("DeadlineExceeded") {
        let limit = job
            .spec
            .as_ref()
            .and_then(|spec| spec.active_deadline_seconds);
        let limit = limit.map_or_else(String::new, |limit| format!(" of {limit} s"));
        return Failed {
            reason: "DeadlineExceeded".into(),
            message: format!(
                "the job took longer than its activeDeadlineSeconds{limit}; raise it, or see why it was slow"
            ),
            report: report.map(Box::new),
        };
    }
    if let Some(report) = report {
        return Failed {
            reason: report.reason.clone(),
            message: report.message.clone(),
            report: Some(Box::new(report)),
        };
    }
    let (reason, message) = pods
        .iter()
        .rev()
        .find_map(|pod| taken_away(pod).or_else(|| died(pod)))
        .unwrap_or_else(|| {
            let said = condition.and_then(|condition| condition.message.as_deref());
            (
                why.unwrap_or("Failed").to_owned(),
                format!(
                    "the job failed and its pod is gone: {}",
                    quote(said.unwrap_or("no reason given"))
                ),
            )
        });
    Failed {
        reason,
        message,
        report: None,
    }
}

/// A pod that something else ended.
fn taken_away(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    if status.reason.as_deref() == Some("Evicted") {
        let said = status.message.as_deref().unwrap_or_default();
        return Some((
            "Evicted".into(),
            format!("the node evicted the job's pod: {}", quote(said)),
        ));
    }
    let (value, reason, message) = condition(pod, "DisruptionTarget")?;
    (value == "True").then(|| {
        (
            "Disrupted".into(),
            format!(
                "the job's pod was taken away ({reason}): {}",
                quote(message)
            ),
        )
    })
}

/// A container that ended without a message.
fn died(pod: &Pod) -> Option<(String, String)> {
    let end = ended(pod)?;
    if end.exit_code == 0 {
        return None;
    }
    if end.reason.as_deref() == Some("OOMKilled") {
        return Some((
            "OOMKilled".into(),
            "the job needs more memory than its limit; raise spec.pod.resources.limits.memory"
                .into(),
        ));
    }
    let words = end.message.as_deref().map(str::trim).unwrap_or_default();
    let words = if words.is_empty() {
        "no message"
    } else {
        words
    };
    Some((
        "Failed".into(),
        format!(
            "the job ended with status {}: {}; see `kubectl logs {}`",
            end.exit_code,
            quote(words),
            pod.name_any()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    const NOW: &str = "2025-08-01T12:00:10Z";

    fn contract(name: &str) -> String {
        let contract: Value =
            serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap();
        contract["messages"][name].to_string()
    }

    fn job(condition: Option<(&str, &str)>) -> Job {
        let conditions: Vec<_> = condition
            .iter()
            .map(|(kind, reason)| {
                json!({"type": kind, "status": "True", "reason": reason, "message": "it says",
                    "lastTransitionTime": "2025-08-01T12:00:09Z"})
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "nvda-1", "uid": "j", "creationTimestamp": "2025-08-01T12:00:00Z"},
            "spec": {"activeDeadlineSeconds": 60, "template": {}},
            "status": {"startTime": "2025-08-01T12:00:01Z", "conditions": conditions},
        }))
        .unwrap()
    }

    fn pod(status: &Value) -> Arc<Pod> {
        let pod = json!({"metadata": {"name": "nvda-1-x", "creationTimestamp": "2025-08-01T12:00:00Z"}, "status": status});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn end(code: i32, reason: &str, message: &str) -> Arc<Pod> {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        pod(&json!({"phase": phase, "containerStatuses": [{
            "name": "job", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "reason": reason, "message": message}}}]}))
    }

    fn outcome(condition: Option<(&str, &str)>, pods: &[Arc<Pod>]) -> Outcome {
        read(&job(condition), pods, &[], NOW.parse().unwrap())
    }

    #[test]
    fn a_job_that_did_what_it_was_told_gives_its_message() {
        let pods = [
            end(1, "Error", &contract("backup_failed")),
            end(0, "Completed", &contract("backup_succeeded")),
        ];
        let Outcome::Succeeded(Some(message)) = outcome(Some(("Complete", "")), &pods) else {
            panic!("no message");
        };
        assert_eq!(message.reason, "Completed");
        assert_eq!(
            outcome(Some(("Complete", "")), &[]),
            Outcome::Succeeded(None)
        );
    }

    #[test]
    fn a_job_without_an_end_runs() {
        assert_eq!(outcome(None, &[]), Outcome::Running);
        assert_eq!(
            outcome(None, &[pod(&json!({"phase": "Running"}))]),
            Outcome::Running
        );
        assert_eq!(
            outcome(Some(("FailureTarget", "DeadlineExceeded")), &[]),
            Outcome::Running
        );
    }

    #[test]
    fn a_failed_try_is_told_while_the_next_one_is_due() {
        let failed = end(1, "Error", &contract("backup_failed"));
        let Outcome::Retrying(why) = outcome(None, &[failed, pod(&json!({"phase": "Running"}))])
        else {
            panic!("not told");
        };
        assert_eq!(why.reason, "DestinationsFailed");
    }

    #[rstest]
    #[case::said_by_the_job(("Failed", "BackoffLimitExceeded"), vec![end(1, "Error", &contract("backup_failed"))],
        "DestinationsFailed", "the bucket isn't there")]
    #[case::deadline(("Failed", "DeadlineExceeded"), vec![], "DeadlineExceeded", "activeDeadlineSeconds of 60 s")]
    #[case::deadline_with_its_last_words(("Failed", "DeadlineExceeded"), vec![end(1, "Error", &contract("interrupted"))],
        "DeadlineExceeded", "activeDeadlineSeconds")]
    #[case::memory(("Failed", "BackoffLimitExceeded"), vec![end(137, "OOMKilled", "")], "OOMKilled", "limits.memory")]
    #[case::cannot_even_start(("Failed", "BackoffLimitExceeded"), vec![end(127, "Error", "libonnxruntime.so is missing")],
        "Failed", "libonnxruntime.so is missing")]
    #[case::evicted(("Failed", "BackoffLimitExceeded"), vec![pod(&json!({"phase": "Failed", "reason": "Evicted", "message": "disk"}))],
        "Evicted", "disk")]
    #[case::disrupted(("Failed", "PodFailurePolicy"), vec![pod(&json!({"phase": "Failed", "conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "away"}]}))],
        "Disrupted", "DeletionByTaintManager")]
    #[case::nothing_left(("Failed", "BackoffLimitExceeded"), vec![], "BackoffLimitExceeded", "it says")]
    fn a_failure_has_a_reason_that_a_person_can_act_on(
        #[case] condition: (&str, &str),
        #[case] pods: Vec<Arc<Pod>>,
        #[case] reason: &str,
        #[case] part: &str,
    ) {
        let Outcome::Failed(failed) = outcome(Some(condition), &pods) else {
            panic!("not failed");
        };
        assert_eq!(failed.reason, reason);
        assert!(failed.message.contains(part), "{}", failed.message);
    }

    #[test]
    fn times_are_those_of_the_job() {
        let job = job(Some(("Failed", "")));
        let text = |time: Option<Time>| time.unwrap().0.to_string();
        assert_eq!(text(started(&job)), "2025-08-01T12:00:01Z");
        assert_eq!(text(finished(&job)), "2025-08-01T12:00:09Z");
        assert!(is_over(&job));
    }

    #[test]
    fn pods_are_found_by_the_uid_of_their_job() {
        let of = |name: &str, uid: &str| {
            let owner =
                json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "nvda-1", "uid": uid}]);
            let pod = json!({"metadata": {"name": name, "ownerReferences": owner}});
            Arc::new(serde_json::from_value::<Pod>(pod).unwrap())
        };
        let pods = pods_of(&job(None), &[of("b", "j"), of("a", "j"), of("c", "other")]);
        let names: Vec<_> = pods.iter().map(|pod| pod.name_any()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
