//! The pod of a job: one container that runs `predictor storage job`.
//!
//! In: a [`PodPlan`]. Out: a pod template that the `restricted` Pod Security Standard admits. Where the volume is for one
//! node, the pod has to run beside the others that have it mounted, and tolerates what they tolerate.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference,
    PersistentVolumeClaimVolumeSource, PodAffinity, PodAffinityTerm, PodSpec, PodTemplateSpec,
    ResourceRequirements, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use stockpredictor_api::AccessMode;

use super::document::{COMMAND, Document, ROOT, SCRATCH, VARIABLE};
use super::place::{BACKUPS, Mounts};
use crate::stock_predictor::build::{PROGRAM, container_security, pod_security};
use crate::stock_predictor::labels;
use crate::stock_predictor::validate::ValidatedPredictor;

/// The container.
pub const CONTAINER: &str = "job";
/// How long a job may take to end when it is told to: it finishes its step and leaves its message.
const GRACE: i64 = 60;

/// How much of the predictor's volume a job may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing but the archives in `backups/`.
    Backups,
    /// Everything.
    All,
}

/// Settings that users may give to the pods of jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// CPU and memory.
    pub resources: Option<ResourceRequirements>,
    /// Labels of the node.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of the node, beside those that the predictor tolerates.
    pub tolerations: Vec<Toleration>,
    /// Where it had better run, or not.
    pub affinity: Option<Affinity>,
    /// Annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// Its priority class.
    pub priority_class: Option<String>,
}

/// What becomes a pod.
#[derive(Clone, Debug)]
pub struct PodPlan<'a> {
    /// Whose image, account and claim it uses.
    pub predictor: &'a ValidatedPredictor,
    /// Whether the predictor's volume is mounted, and how.
    pub volume: Option<Access>,
    /// Scratch space, and how much of it at most.
    pub scratch: Option<Option<Quantity>>,
    /// Places and secrets.
    pub mounts: Mounts,
    /// What users say.
    pub settings: Settings,
    /// What it is told.
    pub document: Document,
}

/// The template. `labels` are those of the job.
///
/// # Errors
/// When the document doesn't become JSON, which tests rule out.
pub fn build_template(
    plan: &PodPlan<'_>,
    labels: &BTreeMap<String, String>,
) -> serde_json::Result<PodTemplateSpec> {
    let settings = &plan.settings;
    let mut own = settings.labels.clone();
    own.extend(labels.clone());
    if plan.volume.is_some() {
        let claim = labels::claim_value(plan.predictor.claim_name());
        own.insert(labels::CLAIM_LABEL.into(), claim);
    }
    let annotations = settings.annotations.clone();
    Ok(PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(own),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(build_pod(plan)?),
    })
}

fn build_pod(plan: &PodPlan<'_>) -> serde_json::Result<PodSpec> {
    let (predictor, settings) = (plan.predictor, &plan.settings);
    let Mounts { volumes, mounts } = all_mounts(plan);
    let mut tolerations = predictor.spec.tolerations.clone();
    for toleration in &settings.tolerations {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    let command = std::iter::once(PROGRAM)
        .chain(COMMAND)
        .map(str::to_owned)
        .collect();
    let pull_secrets = predictor.spec.image_pull_secrets.iter();
    let pull_secrets = pull_secrets.map(|secret| LocalObjectReference {
        name: secret.name.clone(),
    });
    Ok(PodSpec {
        service_account_name: Some(predictor.name.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        termination_grace_period_seconds: Some(GRACE),
        restart_policy: Some("Never".into()),
        containers: vec![Container {
            name: CONTAINER.into(),
            image: Some(predictor.image.clone()),
            image_pull_policy: Some(predictor.pull_policy.as_str().into()),
            command: Some(command),
            env: Some(vec![EnvVar {
                name: VARIABLE.into(),
                value: Some(serde_json::to_string(&plan.document)?),
                value_from: None,
            }]),
            resources: settings.resources.clone(),
            volume_mounts: Some(mounts),
            security_context: Some(container_security()),
            // What a program that can't even start says, such as that of a library that is missing.
            termination_message_policy: Some("FallbackToLogsOnError".into()),
            ..Container::default()
        }],
        volumes: Some(volumes),
        image_pull_secrets: not_empty(pull_secrets.collect()),
        node_selector: (!settings.node_selector.is_empty()).then(|| settings.node_selector.clone()),
        tolerations: not_empty(tolerations),
        affinity: affinity(plan),
        priority_class_name: settings.priority_class.clone(),
        ..PodSpec::default()
    })
}

fn all_mounts(plan: &PodPlan<'_>) -> Mounts {
    let mut all = Mounts::default();
    let mut add = |volume: Volume, mounts: Vec<VolumeMount>| {
        all.extend(Mounts {
            volumes: vec![volume],
            mounts,
        });
    };
    add(
        Volume {
            name: "tmp".into(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
        vec![at("tmp", "/tmp")],
    );
    if let Some(access) = plan.volume {
        let mounts = match access {
            Access::All => vec![at("data", ROOT)],
            Access::Backups => vec![
                VolumeMount {
                    read_only: Some(true),
                    ..at("data", ROOT)
                },
                VolumeMount {
                    sub_path: Some(BACKUPS.into()),
                    ..at("data", &format!("{ROOT}/{BACKUPS}"))
                },
            ],
        };
        add(
            Volume {
                name: "data".into(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: plan.predictor.claim_name().into(),
                    read_only: None,
                }),
                ..Volume::default()
            },
            mounts,
        );
    }
    if let Some(size) = &plan.scratch {
        add(
            Volume {
                name: "scratch".into(),
                empty_dir: Some(EmptyDirVolumeSource {
                    size_limit: size.clone(),
                    medium: None,
                }),
                ..Volume::default()
            },
            vec![at("scratch", SCRATCH)],
        );
    }
    all.extend(plan.mounts.clone());
    all
}

fn at(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        ..VolumeMount::default()
    }
}

/// The user's rules, and the node where the volume is. The pod has the label that it looks for, so the scheduler lets the
/// first one go anywhere.
fn affinity(plan: &PodPlan<'_>) -> Option<Affinity> {
    let mut affinity = plan.settings.affinity.clone();
    if plan.volume.is_none() || plan.predictor.access_mode != AccessMode::ReadWriteOnce {
        return affinity;
    }
    let claim = labels::claim_value(plan.predictor.claim_name());
    affinity
        .get_or_insert_default()
        .pod_affinity
        .get_or_insert_with(PodAffinity::default)
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_default()
        .push(PodAffinityTerm {
            topology_key: "kubernetes.io/hostname".into(),
            label_selector: Some(LabelSelector {
                match_labels: Some(BTreeMap::from([(labels::CLAIM_LABEL.to_owned(), claim)])),
                ..LabelSelector::default()
            }),
            ..PodAffinityTerm::default()
        });
    affinity
}

fn not_empty<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}
