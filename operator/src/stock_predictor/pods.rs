//! What the state of pods says, in words.
//!
//! In: pods and their Deployment. Out: the first thing that is wrong with them, with what to do. Messages stay the same
//! while a state lasts: back-off times and counts that change all the time would make a write each time.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;
use stockpredictor_api::condition::Reason;

use super::build::{PREDICTOR, SETUP};

/// The longest part of a foreign text in a message, in characters.
const MAX_QUOTE: usize = 400;

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Its name.
    pub reason: Reason,
    /// What it is and what to do.
    pub message: String,
}

/// True when the predictor's container runs, ready or not.
pub fn serves(pod: &Pod) -> bool {
    container(pod, PREDICTOR)
        .and_then(|status| status.state.as_ref())
        .is_some_and(|state| state.running.is_some())
}

/// True when the pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, ..)| status == "True")
}

/// The first thing that is wrong.
pub fn trouble(pods: &[Arc<Pod>], deployment: Option<&Deployment>) -> Option<Trouble> {
    let of_pods = pods.iter().filter(|pod| !is_ready(pod)).find_map(|pod| {
        unschedulable(pod)
            .or_else(|| statuses(pod).find_map(|status| not_created(pod, status)))
            .or_else(|| failed_setup(pod))
            .or_else(|| crashing(pod))
    });
    of_pods.or_else(|| not_made(deployment?))
}

fn unschedulable(pod: &Pod) -> Option<Trouble> {
    let (status, reason, message) = condition(pod, "PodScheduled")?;
    // A claim that is bound in a moment is the volume's matter and not the scheduler's.
    if status != "False"
        || reason != "Unschedulable"
        || message.contains("unbound immediate PersistentVolumeClaims")
    {
        return None;
    }
    Some(Trouble {
        reason: Reason::Unschedulable,
        message: format!(
            "no node can take pod {}: {}; check spec.nodeSelector, spec.tolerations, spec.affinity, spec.resources and where \
             the volume can be mounted",
            pod.name_any(),
            quote(message)
        ),
    })
}

/// Images that can't be pulled, and references that don't resolve.
fn not_created(pod: &Pod, status: &ContainerStatus) -> Option<Trouble> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    match waiting.reason.as_deref()? {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => Some(Trouble {
            reason: Reason::ImagePullFailed,
            message: format!(
                "the image {} can't be pulled; check spec.image, spec.imagePullPolicy and spec.imagePullSecrets; `kubectl \
                 describe pod {}` shows the registry's answer",
                image_of(pod, &status.name).unwrap_or(&status.image),
                pod.name_any()
            ),
        }),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(Trouble {
                reason: Reason::PodsRefused,
                message: format!(
                    "the container {} can't be created: {}; create what spec.env refers to, or correct it",
                    status.name,
                    quote(waiting.message.as_deref().unwrap_or("no reason given"))
                ),
            })
        }
        _ => None,
    }
}

fn failed_setup(pod: &Pod) -> Option<Trouble> {
    let status = container(pod, SETUP)?;
    let ended = ended(status).filter(|(code, _)| *code != 0)?;
    Some(Trouble {
        reason: Reason::SetupFailed,
        message: format!(
            "the volume can't be set up (exit {}): {}; see `kubectl logs {} -c {SETUP}`",
            ended.0,
            quote(&ended.1),
            pod.name_any()
        ),
    })
}

/// The predictor ended and is not ready again. While it is on its next try, this still is what's wrong.
fn crashing(pod: &Pod) -> Option<Trouble> {
    let status = container(pod, PREDICTOR)?;
    let (code, message) = ended(status)?;
    if code == 0 && status.restart_count < 2 {
        return None;
    }
    Some(Trouble {
        reason: Reason::CrashLooping,
        message: format!(
            "the predictor ends again and again (exit {code}): {}; see `kubectl logs {} --previous`",
            quote(&message),
            pod.name_any()
        ),
    })
}

/// Pods that the API server refuses, by a quota or a policy.
fn not_made(deployment: &Deployment) -> Option<Trouble> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|c| c.type_ == "ReplicaFailure" && c.status == "True")?;
    Some(Trouble {
        reason: Reason::PodsRefused,
        message: format!(
            "pods can't be created: {}; change the quota or policy that refuses them, or the spec",
            quote(failure.message.as_deref().unwrap_or("no reason given"))
        ),
    })
}

/// Exit code and cause of the newest end of a container.
fn ended(status: &ContainerStatus) -> Option<(i32, String)> {
    let terminated =
        |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let end = terminated(&status.state).or_else(|| terminated(&status.last_state))?;
    Some((end.exit_code, cause(&end)))
}

/// Why a container ended. What ended it from outside comes first: its last words are of something else then. The text is
/// the same for the same cause, or each crash would be a write of the status.
fn cause(end: &ContainerStateTerminated) -> String {
    let words = end.message.as_deref().map(str::trim).unwrap_or_default();
    match end.reason.as_deref().unwrap_or_default() {
        "OOMKilled" => {
            "OOMKilled, it needs more memory than its limit; raise spec.resources.limits.memory"
                .into()
        }
        "" | "Error" | "Completed" => {
            if let Some(error) = told_error(words) {
                return error;
            }
            match (end.exit_code, words) {
                (137, _) => "it was killed (SIGKILL), as a failing liveness probe or a node without memory does".into(),
                (143, _) => "it was told to end (SIGTERM) from outside".into(),
                (_, "") => "no message".into(),
                _ => last_line(words),
            }
        }
        reason if words.is_empty() => reason.to_owned(),
        reason => format!("{reason}: {}", steady(words)),
    }
}

/// The last `error:` of an output and what follows, which is how our programs end.
fn told_error(output: &str) -> Option<String> {
    let lines: Vec<_> = output
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let first = lines.iter().rposition(|line| line.starts_with("error: "))?;
    let error = lines[first..].join(" ");
    Some(error.trim_start_matches("error: ").to_owned())
}

/// The message of the last line of a log.
fn last_line(output: &str) -> String {
    let line = output.lines().last().unwrap_or_default();
    let log: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let message = log.as_ref().and_then(|log| log.get("message")?.as_str());
    steady(message.unwrap_or(output))
}

/// A text of a log without what is another one each time: times, addresses, numbers.
fn steady(text: &str) -> String {
    let steady = text.split_whitespace().map(|word| {
        if word.contains(|c: char| c.is_ascii_digit()) {
            "…"
        } else {
            word
        }
    });
    steady.collect::<Vec<_>>().join(" ")
}

fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    statuses(pod).find(|status| status.name == name)
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status
        .and_then(|status| status.init_container_statuses.as_deref())
        .unwrap_or_default();
    let main = status
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    init.iter().chain(main)
}

/// The image as the spec has it; a status may have a resolved form.
fn image_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.as_deref().unwrap_or_default();
    init.iter()
        .chain(&spec.containers)
        .find(|container| container.name == name)?
        .image
        .as_deref()
}

/// Value, reason and message of a condition.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let found = pod
        .status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)?;
    Some((
        &found.status,
        found.reason.as_deref().unwrap_or_default(),
        found.message.as_deref().unwrap_or_default(),
    ))
}

/// The end of a text, on one line: last words are where the reason stands.
pub fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let skipped = line.chars().count().saturating_sub(MAX_QUOTE);
    if skipped == 0 {
        line
    } else {
        format!("…{}", line.chars().skip(skipped).collect::<String>())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    /// A pod with this status.
    pub fn pod(status: &Value) -> Arc<Pod> {
        let containers =
            |name: &str| json!([{"name": name, "image": "registry.example.com/predictor:1"}]);
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "nvda-1", "namespace": "default", "labels": crate::stock_predictor::labels::child("nvda")},
                "spec": {"initContainers": containers(SETUP), "containers": containers(PREDICTOR)},
                "status": status,
            }))
            .unwrap(),
        )
    }

    /// The status of a container.
    pub fn status(name: &str, fields: &Value) -> Value {
        let mut status =
            json!({"name": name, "image": "x", "imageID": "", "ready": false, "restartCount": 0});
        for (key, value) in fields.as_object().unwrap() {
            status[key] = value.clone();
        }
        status
    }

    fn waiting(name: &str, reason: &str) -> Value {
        status(
            name,
            &json!({"state": {"waiting": {"reason": reason, "message": "secret \"keys\" not found"}}}),
        )
    }

    #[rstest]
    #[case::starting(json!({"containerStatuses": [waiting(PREDICTOR, "PodInitializing")]}), None)]
    #[case::scheduled(json!({"conditions": [{"type": "PodScheduled", "status": "True"}]}), None)]
    #[case::no_node(
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}),
        Some((Reason::Unschedulable, "0/1 nodes; check spec.nodeSelector")))]
    #[case::the_claim_is_not_bound_yet(
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "pod has unbound immediate PersistentVolumeClaims"}]}), None)]
    #[case::image(json!({"initContainerStatuses": [waiting(SETUP, "ErrImagePull")]}),
        Some((Reason::ImagePullFailed, "registry.example.com/predictor:1 can't be pulled; check spec.image")))]
    #[case::image_again(json!({"initContainerStatuses": [waiting(SETUP, "ImagePullBackOff")]}),
        Some((Reason::ImagePullFailed, "registry.example.com/predictor:1 can't be pulled; check spec.image")))]
    #[case::a_missing_secret(json!({"initContainerStatuses": [waiting(SETUP, "CreateContainerConfigError")]}),
        Some((Reason::PodsRefused, "secret \"keys\" not found; create what spec.env refers to")))]
    #[case::setup(
        json!({"initContainerStatuses": [status(SETUP, &json!({"state": {"terminated": {"exitCode": 2, "message": "read-only\nfile system"}}}))]}),
        Some((Reason::SetupFailed, "(exit 2): read-only file system;")))]
    #[case::setup_between_two_tries(
        json!({"initContainerStatuses": [status(SETUP, &json!({"restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 2, "message": "no room"}}}))]}),
        Some((Reason::SetupFailed, "(exit 2): no room;")))]
    #[case::setup_done(
        json!({"initContainerStatuses": [status(SETUP, &json!({"state": {"terminated": {"exitCode": 0}}}))]}), None)]
    #[case::crash(
        json!({"containerStatuses": [status(PREDICTOR, &json!({"restartCount": 1, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}))]}),
        Some((Reason::CrashLooping, "(exit 137): OOMKilled, it needs more memory than its limit; raise spec.resources.limits.memory;")))]
    #[case::ready_again(
        json!({"conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [status(PREDICTOR, &json!({"restartCount": 1, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 1}}}))]}), None)]
    fn the_state_of_a_pod_is_told_in_words(
        #[case] state: Value,
        #[case] expected: Option<(Reason, &str)>,
    ) {
        let found = trouble(&[pod(&state)], None);
        assert_eq!(
            found.as_ref().map(|trouble| trouble.reason),
            expected.map(|(reason, _)| reason)
        );
        if let (Some(trouble), Some((_, text))) = (found, expected) {
            assert!(
                trouble.message.contains(text),
                "no {text:?} in {:?}",
                trouble.message
            );
        }
    }

    fn end(code: i32, reason: &str, message: &str) -> ContainerStateTerminated {
        let end = json!({"exitCode": code, "reason": reason, "message": message});
        serde_json::from_value(end).unwrap()
    }

    #[rstest]
    #[case::an_error(
        1,
        "Error",
        "{\"timestamp\":\"1\",\"message\":\"starting\"}\nerror: no room on the volume\n",
        "no room on the volume"
    )]
    #[case::the_last_of_two(1, "Error", "error: a\nerror: b: c\nd", "b: c d")]
    #[case::only_a_log(
        1,
        "Error",
        "{\"timestamp\":\"1\",\"message\":\"out of memory\"}\n",
        "out of memory"
    )]
    #[case::a_panic(
        101,
        "Error",
        "thread 'main' (17) panicked at main.rs:3:5:\nindex out of bounds",
        "thread 'main' … panicked at … index out of bounds"
    )]
    #[case::something_else(1, "Error", "Killed", "Killed")]
    #[case::no_words(1, "Error", "", "no message")]
    #[case::too_much_memory(
        137,
        "OOMKilled",
        "{\"message\":\"predicted\"}",
        "OOMKilled, it needs more memory than its limit; raise spec.resources.limits.memory"
    )]
    #[case::killed(
        137,
        "Error",
        "{\"message\":\"predicted\"}",
        "it was killed (SIGKILL), as a failing liveness probe or a node without memory does"
    )]
    #[case::cannot_start(
        128,
        "StartError",
        "exec: no such file",
        "StartError: exec: no such file"
    )]
    #[case::reason_alone(1, "ContainerCannotRun", "", "ContainerCannotRun")]
    fn the_cause_of_an_end_is_what_ended_it(
        #[case] code: i32,
        #[case] reason: &str,
        #[case] message: &str,
        #[case] told: &str,
    ) {
        assert_eq!(cause(&end(code, reason, message)), told);
    }

    #[rstest]
    #[case::times("2024-01-02T03:04:05Z lost 0x7f01", "2024-01-02T03:09:06Z lost 0x7f99")]
    #[case::numbers(
        "{\"timestamp\":\"1\",\"message\":\"took 12 ms\"}",
        "{\"timestamp\":\"2\",\"message\":\"took 13 ms\"}"
    )]
    fn the_next_crash_of_the_same_kind_has_the_same_text(#[case] first: &str, #[case] next: &str) {
        assert_eq!(
            cause(&end(1, "Error", first)),
            cause(&end(1, "Error", next))
        );
    }

    #[test]
    fn a_quota_that_refuses_pods_is_told() {
        let deployment = serde_json::from_value(json!({"metadata": {}, "status": {"conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: cpu"}]}}));
        let trouble = trouble(&[], Some(&deployment.unwrap())).unwrap();
        assert_eq!(trouble.reason, Reason::PodsRefused);
        assert!(
            trouble.message.contains("exceeded quota: cpu"),
            "{}",
            trouble.message
        );
    }

    #[test]
    fn a_long_text_keeps_its_end_on_one_line() {
        let text = format!("{}\nlast words", "x".repeat(1000));
        let quoted = quote(&text);
        assert!(
            quoted.ends_with("x last words") && quoted.chars().count() == MAX_QUOTE + 1,
            "{quoted}"
        );
    }
}
