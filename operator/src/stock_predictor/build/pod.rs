//! The pod: an init step that creates the volume's tree, and the predictor.
//!
//! In: a validated predictor. Out: a pod that the `restricted` Pod Security Standard admits. The commands are those of
//! `contracts/commands.json`. The operator sets none of the guide's variables, so what users set wins.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource,
    EnvVar, EnvVarSource, HTTPGetAction, LocalObjectReference, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, PodAffinity, PodAffinityTerm, PodSecurityContext, PodSpec,
    Probe, SeccompProfile, SecurityContext, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use stockpredictor_api::AccessMode;

use crate::stock_predictor::labels;
use crate::stock_predictor::stats::PORT;
use crate::stock_predictor::validate::ValidatedPredictor;

/// The serving container.
pub const PREDICTOR: &str = "predictor";
/// The init container.
pub const SETUP: &str = "setup";
/// The name of the port.
pub const PORT_NAME: &str = "http";
/// The user and group of the image and of every file on the volume.
const USER: i64 = 1001;

/// The program in the image.
pub const PROGRAM: &str = "/usr/bin/predictor";
const SETTINGS: &str = "/etc/stockpredictor/settings.json";
const DATA: (&str, &str) = ("data", "/app/persistent_data");
const SETTINGS_DIRECTORY: (&str, &str) = ("settings", "/etc/stockpredictor");
const SCRATCH: (&str, &str) = ("tmp", "/tmp");

/// The pod's specification.
pub fn build_pod(predictor: &ValidatedPredictor) -> PodSpec {
    let spec = &predictor.spec;
    let setup = container(
        predictor,
        SETUP,
        &["storage", "setup", "--tree-only", "--settings", SETTINGS],
    );
    let serve = Container {
        ports: Some(vec![ContainerPort {
            name: Some(PORT_NAME.into()),
            container_port: PORT.into(),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        // Every second, so that a start is seen at once; two minutes for a large model on a slow volume.
        startup_probe: Some(probe("/livez", 1, 2, 120)),
        readiness_probe: Some(probe("/readyz", 5, 3, 2)),
        liveness_probe: Some(probe("/livez", 10, 5, 6)),
        ..container(predictor, PREDICTOR, &["serve", "--settings", SETTINGS])
    };
    PodSpec {
        service_account_name: Some(predictor.name.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        termination_grace_period_seconds: Some(30),
        init_containers: Some(vec![setup]),
        containers: vec![serve],
        volumes: Some(volumes(predictor)),
        image_pull_secrets: not_empty(
            spec.image_pull_secrets
                .iter()
                .map(|secret| LocalObjectReference {
                    name: secret.name.clone(),
                })
                .collect(),
        ),
        node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
        tolerations: not_empty(spec.tolerations.clone()),
        affinity: affinity(predictor),
        ..PodSpec::default()
    }
}

fn container(predictor: &ValidatedPredictor, name: &str, arguments: &[&str]) -> Container {
    let mount = |(name, path): (&str, &str), read_only| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only,
        ..VolumeMount::default()
    };
    let command = std::iter::once(PROGRAM)
        .chain(arguments.iter().copied())
        .map(str::to_owned)
        .collect();
    let own = [
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
    ];
    Container {
        name: name.into(),
        image: Some(predictor.image.clone()),
        image_pull_policy: Some(predictor.pull_policy.as_str().into()),
        command: Some(command),
        env: Some(
            own.into_iter()
                .chain(predictor.spec.env.iter().cloned())
                .collect(),
        ),
        resources: predictor.spec.resources.clone(),
        volume_mounts: Some(vec![
            mount(DATA, None),
            mount(SETTINGS_DIRECTORY, Some(true)),
            mount(SCRATCH, None),
        ]),
        security_context: Some(container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..Container::default()
    }
}

/// What every container of ours may do: nothing special, and no write to its own file system.
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

/// Whom every pod of ours runs as.
pub fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // Otherwise kubelet would change every file at every mount.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

fn volumes(predictor: &ValidatedPredictor) -> Vec<Volume> {
    vec![
        Volume {
            name: DATA.0.into(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: predictor.claim_name().into(),
                read_only: None,
            }),
            ..Volume::default()
        },
        Volume {
            name: SETTINGS_DIRECTORY.0.into(),
            config_map: Some(ConfigMapVolumeSource {
                name: predictor.name.clone(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: SCRATCH.0.into(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
    ]
}

/// The user's rules, and a preference for the node where other pods have the claim mounted already: on another node they
/// would wait for it. A shared volume has no such node, and its replicas had better be spread.
fn affinity(predictor: &ValidatedPredictor) -> Option<Affinity> {
    let mut affinity = predictor.spec.affinity.clone();
    if predictor.access_mode == AccessMode::ReadWriteMany {
        return affinity;
    }
    let beside = WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: PodAffinityTerm {
            topology_key: "kubernetes.io/hostname".into(),
            label_selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([(
                    labels::CLAIM_LABEL.to_owned(),
                    labels::claim_value(predictor.claim_name()),
                )])),
                ..LabelSelector::default()
            }),
            ..PodAffinityTerm::default()
        },
    };
    affinity
        .get_or_insert_default()
        .pod_affinity
        .get_or_insert_with(PodAffinity::default)
        .preferred_during_scheduling_ignored_during_execution
        .get_or_insert_default()
        .push(beside);
    affinity
}

fn probe(path: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(PORT_NAME.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.into(),
                api_version: None,
            }),
            ..EnvVarSource::default()
        }),
        value: None,
    }
}

fn not_empty<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}
