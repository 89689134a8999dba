//! Why a job's pod does not start.
//!
//! In: a Job that hasn't ended, its pods, the Events about them, and the time. Out: a reason and a sentence that says what
//! to do, or nothing while it is too early to tell. Sentences stay the same while a state lasts.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::stock_predictor::pods::{condition, quote};

/// A state that lasts no longer, in seconds, is that of any start. What it says is told within two minutes.
pub const EARLY: i64 = 30;

/// What keeps a pod from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No node can take it.
    Unschedulable,
    /// Its image can't be pulled.
    ImagePullFailed,
    /// It can't be created.
    PodsRefused,
    /// A volume or Secret can't be mounted.
    MountFailed,
}

impl Reason {
    /// As a condition or an Event says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unschedulable => "Unschedulable",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::PodsRefused => "PodsRefused",
            Self::MountFailed => "MountFailed",
        }
    }
}

/// Why it does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Its name.
    pub reason: Reason,
    /// What it is and what to do.
    pub message: String,
    /// Since when, in seconds since 1970.
    pub since: i64,
}

/// Whether the Job is in a state of which Events would tell more than the pods do: there is no pod, or one whose
/// volumes aren't mounted.
pub fn needs_events(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> bool {
    if old(created(job), now).is_none() {
        return false;
    }
    match live(pods).next() {
        None => pods.is_empty(),
        Some(pod) => starts(pod) && old(created(pod.as_ref()), now).is_some(),
    }
}

/// The first thing that keeps it from starting.
pub fn stuck(job: &Job, pods: &[Arc<Pod>], events: &[Event], now: Timestamp) -> Option<Stuck> {
    let Some(pod) = live(pods).next() else {
        return pods.is_empty().then(|| no_pod(job, events, now)).flatten();
    };
    let since = created(pod.as_ref())?;
    let (reason, message) = unschedulable(pod)
        .filter(|_| old(Some(since), now).is_some())
        .or_else(|| statuses(pod).find_map(|status| not_created(pod, status)))
        .or_else(|| {
            old(Some(since), now)?;
            starts(pod).then(|| not_mounted(pod, events))
        })?;
    Some(Stuck {
        reason,
        message,
        since: since.as_second(),
    })
}

/// The pods that haven't ended.
fn live(pods: &[Arc<Pod>]) -> impl Iterator<Item = &Arc<Pod>> {
    pods.iter().filter(|pod| {
        pod.metadata.deletion_timestamp.is_none()
            && !matches!(phase(pod), Some("Succeeded" | "Failed"))
    })
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// True when it has a node and its container doesn't run yet.
fn starts(pod: &Pod) -> bool {
    let scheduled = condition(pod, "PodScheduled").is_some_and(|(status, ..)| status == "True");
    phase(pod) == Some("Pending") && scheduled
}

fn created<K: kube::Resource>(object: &K) -> Option<Timestamp> {
    object.meta().creation_timestamp.as_ref().map(|time| time.0)
}

/// `since`, if that is longer ago than any start takes.
fn old(since: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    since.filter(|since| now.as_second() - since.as_second() >= EARLY)
}

fn unschedulable(pod: &Pod) -> Option<(Reason, String)> {
    let (status, reason, message) = condition(pod, "PodScheduled")?;
    (status == "False" && reason == "Unschedulable").then(|| {
        let message = format!(
            "no node can take the job's pod: {}; check the claims that it mounts, spec.pod and where the volume is",
            quote(message)
        );
        (Reason::Unschedulable, message)
    })
}

fn not_created(pod: &Pod, status: &ContainerStatus) -> Option<(Reason, String)> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    match waiting.reason.as_deref()? {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => {
            let image = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.containers.first())
                .and_then(|container| container.image.as_deref());
            Some((
                Reason::ImagePullFailed,
                format!(
                    "the image {} can't be pulled; check image, imagePullPolicy and imagePullSecrets of the StockPredictor",
                    image.unwrap_or(&status.image)
                ),
            ))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some((
            Reason::PodsRefused,
            format!(
                "the job's container can't be created: {}",
                quote(waiting.message.as_deref().unwrap_or("no reason given"))
            ),
        )),
        _ => None,
    }
}

/// A node has it, and its container isn't created: volumes are mounted in that time.
fn not_mounted(pod: &Pod, events: &[Event]) -> (Reason, String) {
    let told = told(
        events,
        &[
            "FailedMount",
            "FailedAttachVolume",
            "FailedCreatePodSandBox",
        ],
    );
    let message = match told {
        Some(note) => format!(
            "the job's pod can't start: {}; check the claims and Secrets that it mounts",
            quote(note)
        ),
        None => format!(
            "the job's pod doesn't start; `kubectl describe pod {}` has its Events",
            pod.name_any()
        ),
    };
    (Reason::MountFailed, message)
}

/// The Job is there and has no pod.
fn no_pod(job: &Job, events: &[Event], now: Timestamp) -> Option<Stuck> {
    let since = old(created(job), now)?;
    let message = match told(events, &["FailedCreate"]) {
        Some(note) => format!(
            "the job's pod can't be created: {}; change the quota or policy that refuses it, or spec.pod",
            quote(note)
        ),
        None => format!(
            "the job has no pod; `kubectl describe job {}` has its Events",
            job.name_any()
        ),
    };
    Some(Stuck {
        reason: Reason::PodsRefused,
        message,
        since: since.as_second(),
    })
}

/// The note of the newest Event with one of these reasons.
fn told<'a>(events: &'a [Event], reasons: &[&str]) -> Option<&'a str> {
    events
        .iter()
        .filter(|event| {
            let reason = event.reason.as_deref().unwrap_or_default();
            reasons.contains(&reason)
        })
        .max_by_key(|event| (last_seen(event), event.name_any()))
        .and_then(|event| event.message.as_deref())
}

fn last_seen(event: &Event) -> Option<i64> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    let micro = series.or(event.event_time.as_ref()).map(|time| time.0);
    let plain = event.last_timestamp.as_ref().map(|time| time.0);
    plain.or(micro).map(Timestamp::as_second)
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default()
        .iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    const CREATED: &str = "2025-08-01T12:00:00Z";

    fn after(seconds: i64) -> Timestamp {
        let created: Timestamp = CREATED.parse().unwrap();
        Timestamp::from_second(created.as_second() + seconds).unwrap()
    }

    fn job() -> Job {
        serde_json::from_value(json!({"metadata": {"name": "nvda", "creationTimestamp": CREATED}}))
            .unwrap()
    }

    fn pod(status: &Value) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": "nvda-x", "creationTimestamp": CREATED},
            "spec": {"containers": [{"name": "job", "image": "mine:2"}]}, "status": status,
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn event(reason: &str, note: &str, last: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": "e"}, "involvedObject": {}, "reason": reason, "message": note, "lastTimestamp": last,
        }))
        .unwrap()
    }

    fn scheduled(status: &str, reason: &str) -> Value {
        json!([{"type": "PodScheduled", "status": status, "reason": reason,
            "message": "0/1 nodes are available: persistentvolumeclaim \"nas\" not found"}])
    }

    fn waiting(reason: &str) -> Value {
        json!({"phase": "Pending", "conditions": scheduled("True", ""), "containerStatuses": [{
            "name": "job", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": "no"}}}]})
    }

    #[rstest]
    #[case::no_node_for_a_moment(json!({"phase": "Pending", "conditions": scheduled("False", "Unschedulable")}), 29, None)]
    #[case::no_node(json!({"phase": "Pending", "conditions": scheduled("False", "Unschedulable")}), 30,
        Some((Reason::Unschedulable, "\"nas\" not found")))]
    #[case::image_at_once(waiting("ErrImagePull"), 1, Some((Reason::ImagePullFailed, "mine:2 can't be pulled")))]
    #[case::container(waiting("CreateContainerConfigError"), 1, Some((Reason::PodsRefused, "can't be created: no")))]
    #[case::mounting_for_a_moment(waiting("ContainerCreating"), 29, None)]
    #[case::mounting(waiting("ContainerCreating"), 30, Some((Reason::MountFailed, "kubectl describe pod nvda-x")))]
    #[case::running(json!({"phase": "Running"}), 900, None)]
    #[case::ended(json!({"phase": "Failed"}), 900, None)]
    fn a_pod_that_does_not_start_is_explained(
        #[case] status: Value,
        #[case] seconds: i64,
        #[case] expected: Option<(Reason, &str)>,
    ) {
        let found = stuck(&job(), &[pod(&status)], &[], after(seconds));
        match expected {
            None => assert_eq!(found, None),
            Some((reason, part)) => {
                let found = found.unwrap();
                assert_eq!(found.reason, reason);
                assert!(found.message.contains(part), "{}", found.message);
            }
        }
    }

    #[test]
    fn events_tell_what_the_pod_does_not() {
        let events = [
            event("FailedMount", "an old one", "2025-08-01T12:00:10Z"),
            event(
                "FailedMount",
                "secret \"keys\" not found",
                "2025-08-01T12:00:20Z",
            ),
            event("Pulled", "fine", "2025-08-01T12:00:30Z"),
        ];
        let pods = [pod(&waiting("ContainerCreating"))];
        assert!(!needs_events(&job(), &pods, after(29)));
        assert!(needs_events(&job(), &pods, after(30)));
        let found = stuck(&job(), &pods, &events, after(40)).unwrap();
        assert!(found.message.contains("\"keys\" not found"), "{found:?}");
    }

    #[test]
    fn a_job_without_a_pod_is_explained() {
        assert_eq!(stuck(&job(), &[], &[], after(29)), None);
        assert!(needs_events(&job(), &[], after(30)));
        let events = [event("FailedCreate", "exceeded quota", CREATED)];
        let found = stuck(&job(), &[], &events, after(30)).unwrap();
        assert_eq!(found.reason, Reason::PodsRefused);
        assert!(found.message.contains("exceeded quota"));
        let between_tries = [pod(&json!({"phase": "Failed"}))];
        assert_eq!(stuck(&job(), &between_tries, &[], after(900)), None);
    }
}
