//! Step 3, pure: from a validated backup and a plan to the objects that it should have.
//!
//! In: a [`ValidatedBackup`] and what to begin. Out: two `CronJobs` and at most one Job. Archives are no objects: nothing
//! here can take one away.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job, JobTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use stockpredictor_api::{JobPodSettings, StorageBackup, VerificationLevel};

use super::plan::Begin;
use super::runs::{RUN, TRIGGER};
use super::schedule::Schedule;
use super::validate::{Identity, ValidatedBackup};
use crate::job::build::{JobPlan, build_job, build_spec};
use crate::job::document::{Backup, Document, Origin, Place, ROOT, SCRATCH, Task, Test};
use crate::job::place::{self, Mounts};
use crate::job::pod::{Access, PodPlan, Settings};
use crate::job::{Component, labels};
use crate::writer;

/// As many SHA-256 are told to a restore test.
const MAX_KNOWN: usize = 20;

/// The name of a `CronJob`: that of the object, and what it repeats. Jobs append 11 characters.
pub fn cron_name(name: &str, component: Component) -> String {
    match component {
        Component::RestoreTest => format!("{name}-test"),
        Component::Backup | Component::Restore => format!("{name}-backup"),
    }
}

/// The name of a Job that is begun by hand. It is the same whenever the same wish is looked at, and another one for an
/// object of the same name that came later.
pub fn job_name(identity: &Identity, begin: &Begin) -> String {
    let hash = writer::digest(&serde_json::Value::from(identity.uid.as_str()));
    let tag: String = hash.chars().take(6).collect();
    match begin {
        Begin::Manual { number, .. } => format!("{}-manual-{tag}-{number}", identity.name),
        Begin::Initial => format!("{}-first-{tag}", identity.name),
    }
}

/// The `CronJob` of backups.
///
/// # Errors
/// When a document doesn't become JSON, which tests rule out.
pub fn build_backup_cron(
    backup: &ValidatedBackup,
    schedule: &Schedule,
    suspend: bool,
) -> serde_json::Result<CronJob> {
    build_cron(
        backup,
        Component::Backup,
        schedule,
        suspend,
        backup_pod(backup),
    )
}

/// The `CronJob` of restore tests. `attested` are the SHA-256 that runs reported.
///
/// # Errors
/// When a document doesn't become JSON, which tests rule out.
pub fn build_test_cron(
    backup: &ValidatedBackup,
    schedule: &Schedule,
    suspend: bool,
    attested: &BTreeMap<String, String>,
) -> serde_json::Result<CronJob> {
    let pod = test_pod(backup, attested);
    build_cron(backup, Component::RestoreTest, schedule, suspend, pod)
}

/// The Job of a run that is begun by hand.
///
/// # Errors
/// When a document doesn't become JSON, which tests rule out.
pub fn build_run(backup: &ValidatedBackup, begin: &Begin) -> serde_json::Result<Job> {
    let mut plan = job_plan(backup, Component::Backup, backup_pod(backup));
    plan.name = job_name(&backup.identity, begin);
    let made_for = match begin {
        Begin::Manual { trigger, .. } => {
            plan.annotations.insert(TRIGGER.into(), trigger.clone());
            "manual"
        }
        Begin::Initial => "initial",
    };
    plan.annotations.insert(RUN.into(), made_for.into());
    build_job(&plan)
}

fn build_cron(
    backup: &ValidatedBackup,
    component: Component,
    schedule: &Schedule,
    suspend: bool,
    pod: PodPlan<'_>,
) -> serde_json::Result<CronJob> {
    let (identity, spec) = (&backup.identity, &backup.spec);
    let plan = job_plan(backup, component, pod);
    // A restore test that still works is never a reason to begin it anew.
    let concurrency = match component {
        Component::Backup => spec.concurrency_policy.as_str(),
        _ => "Forbid",
    };
    Ok(CronJob {
        metadata: ObjectMeta {
            name: Some(cron_name(&identity.name, component)),
            namespace: Some(identity.namespace.clone()),
            labels: Some(plan.labels.clone()),
            owner_references: Some(vec![owner(identity)]),
            ..ObjectMeta::default()
        },
        spec: Some(CronJobSpec {
            schedule: schedule.text.clone(),
            time_zone: spec.time_zone.clone(),
            suspend: Some(suspend),
            concurrency_policy: Some(concurrency.into()),
            starting_deadline_seconds: spec.starting_deadline_seconds,
            successful_jobs_history_limit: Some(spec.successful_jobs_history_limit),
            failed_jobs_history_limit: Some(spec.failed_jobs_history_limit),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(plan.labels.clone()),
                    ..ObjectMeta::default()
                }),
                spec: Some(build_spec(&plan)?),
            },
        }),
        status: None,
    })
}

fn job_plan<'a>(backup: &ValidatedBackup, component: Component, pod: PodPlan<'a>) -> JobPlan<'a> {
    let identity = &backup.identity;
    JobPlan {
        name: String::new(),
        namespace: identity.namespace.clone(),
        labels: labels(&identity.name, component),
        annotations: BTreeMap::new(),
        owner: owner(identity),
        backoff_limit: backup.spec.backoff_limit,
        deadline: Some(backup.spec.active_deadline_seconds),
        pod,
    }
}

fn owner(identity: &Identity) -> OwnerReference {
    OwnerReference {
        api_version: StorageBackup::api_version(&()).into_owned(),
        kind: StorageBackup::kind(&()).into_owned(),
        name: identity.name.clone(),
        uid: identity.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn origin(backup: &ValidatedBackup) -> Origin {
    Origin {
        namespace: backup.identity.namespace.clone(),
        predictor: backup.predictor.name.clone(),
        backup: Some(backup.identity.uid.clone()),
    }
}

/// The destinations for a document, what the pod needs for them, and whether one lies on the volume.
fn destinations(backup: &ValidatedBackup) -> (Vec<Place>, Mounts, bool) {
    let (mut places, mut mounts, mut on_volume) = (Vec::new(), Mounts::default(), false);
    for destination in &backup.spec.destinations {
        let retention = destination
            .retention
            .as_ref()
            .unwrap_or(&backup.spec.retention);
        let mounted = place::mount(
            &destination.name,
            &destination.place(),
            Some(retention),
            false,
        );
        on_volume |= mounted.on_volume;
        places.push(mounted.place);
        mounts.extend(mounted.mounts);
    }
    (places, mounts, on_volume)
}

/// The file with the key that reads the archives.
fn identity_file(backup: &ValidatedBackup, mounts: &mut Mounts) -> Option<String> {
    let verification = backup.spec.verification.as_ref()?;
    let secret = verification.identity_secret.as_ref()?;
    let (file, own) = place::mount_identity(secret);
    mounts.extend(own);
    Some(file)
}

fn backup_pod(backup: &ValidatedBackup) -> PodPlan<'_> {
    let spec = &backup.spec;
    let (places, mut mounts, _) = destinations(backup);
    let identity = identity_file(backup, &mut mounts);
    let level = spec
        .verification
        .as_ref()
        .map_or(VerificationLevel::Readable, |verification| {
            verification.level
        });
    let document = Document::new(Task::Backup(Backup {
        root: ROOT.into(),
        origin: origin(backup),
        mode: spec.mode.as_str(),
        full_every: spec.full_every.clone(),
        include: spec.include.iter().map(|part| part.as_str()).collect(),
        logs_days: Some(spec.logs_days),
        min_successful: Some(spec.min_successful),
        recipients: spec
            .encryption
            .as_ref()
            .map(|encryption| encryption.recipients.clone())
            .unwrap_or_default(),
        accept: backup.accepted.clone(),
        verify: Some(level.as_str()),
        identity,
        destinations: places,
    }));
    PodPlan {
        predictor: &backup.predictor,
        volume: Some(Access::Backups),
        scratch: None,
        mounts,
        settings: settings(spec.pod.as_ref()),
        document,
    }
}

fn test_pod<'a>(backup: &'a ValidatedBackup, attested: &BTreeMap<String, String>) -> PodPlan<'a> {
    let spec = &backup.spec;
    let (places, mut mounts, on_volume) = destinations(backup);
    let identity = identity_file(backup, &mut mounts);
    let known = attested.iter().rev().take(MAX_KNOWN);
    let document = Document::new(Task::Test(Test {
        root: on_volume.then(|| ROOT.to_owned()),
        origin: origin(backup),
        scratch: SCRATCH.into(),
        identity,
        known: known
            .map(|(name, sum)| (name.clone(), sum.clone()))
            .collect(),
        destinations: places,
    }));
    let test = spec
        .verification
        .as_ref()
        .and_then(|verification| verification.restore_test.as_ref());
    PodPlan {
        predictor: &backup.predictor,
        volume: on_volume.then_some(Access::Backups),
        scratch: Some(test.and_then(|test| test.scratch_size.clone())),
        mounts,
        settings: settings(spec.pod.as_ref()),
        document,
    }
}

fn settings(pod: Option<&JobPodSettings>) -> Settings {
    let pod = pod.cloned().unwrap_or_default();
    Settings {
        resources: pod.resources,
        node_selector: pod.node_selector,
        tolerations: pod.tolerations,
        affinity: pod.affinity,
        annotations: pod.annotations,
        labels: pod.labels,
        priority_class: pod.priority_class_name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage_backup::fixture;
    use serde_json::{Value, json};

    fn document(pod: &Value) -> Value {
        let variable = &pod["containers"][0]["env"][0];
        assert_eq!(variable["name"], "STOCKPREDICTOR_JOB");
        serde_json::from_str(variable["value"].as_str().unwrap()).unwrap()
    }

    fn everything() -> Value {
        json!({
            "mode": "Incremental", "fullEvery": "7d", "logsDays": 7, "timeZone": "Europe/Berlin",
            "include": ["models", "scalers", "stock-data", "config", "logs", "cache", "other"],
            "encryption": {"recipients": ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]},
            "verification": {"identitySecret": {"name": "key", "key": "key.txt"}, "restoreTest": {"schedule": "0 5 * * 0", "scratchSize": "5Gi"}},
            "destinations": [
                {"name": "volume", "volume": {}},
                {"name": "nas", "claim": {"name": "nas", "path": "trading"}, "retention": {"last": 10, "daily": 7, "weekly": 4, "monthly": 12}},
                {"name": "offsite", "objectStore": {"url": "s3://backups/trading", "endpoint": "https://minio.storage.svc:9000",
                    "credentialsSecret": {"name": "s3"}, "caSecret": {"name": "s3", "key": "ca.crt"}}},
            ],
        })
    }

    #[test]
    fn a_backup_that_says_everything_is_the_document_of_the_contract() {
        let contract: Value =
            serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap();
        let mut backup = fixture::validated(&everything());
        backup.accepted = vec!["3f2c1d1c-7a11-4a55-9a39-0c9a3d8f6b02".into()];
        let schedule = backup.schedule.clone().unwrap();
        let cron = json!(build_backup_cron(&backup, &schedule, false).unwrap());
        let mut expected = contract["jobs"]["backup"].clone();
        expected["origin"]["namespace"] = json!("default");
        let pod = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        assert_eq!(document(pod), expected);
        assert_eq!(cron["spec"]["timeZone"], "Europe/Berlin");
        assert_eq!(cron["spec"]["concurrencyPolicy"], "Forbid");
        assert_eq!(cron["metadata"]["name"], "daily-backup");
    }

    #[test]
    fn a_restore_test_knows_the_newest_sums_and_has_scratch_space() {
        let backup = fixture::validated(&everything());
        let attested =
            (10..40).map(|n| (format!("stock_prediction_backup_202508{n}"), "s".to_owned()));
        let schedule = backup.test_schedule.clone().unwrap();
        let cron = json!(build_test_cron(&backup, &schedule, true, &attested.collect()).unwrap());
        let pod = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let document = document(pod);
        assert_eq!(document["job"], "test");
        assert_eq!(document["known"].as_object().unwrap().len(), MAX_KNOWN);
        assert!(document["known"]["stock_prediction_backup_20250839"].is_string());
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(volumes.iter().any(|v| v["emptyDir"]["sizeLimit"] == "5Gi"));
        assert_eq!(cron["metadata"]["name"], "daily-test");
        assert_eq!(cron["spec"]["suspend"], true);
    }

    #[test]
    fn a_test_of_archives_elsewhere_needs_no_volume() {
        let store = json!({"name": "offsite", "objectStore": {"url": "s3://bucket-x/a"}});
        let backup = fixture::validated(
            &json!({"destinations": [store], "verification": {"restoreTest": {"schedule": "@weekly"}}}),
        );
        let schedule = backup.test_schedule.clone().unwrap();
        let cron = json!(build_test_cron(&backup, &schedule, false, &BTreeMap::new()).unwrap());
        let template = &cron["spec"]["jobTemplate"]["spec"]["template"];
        assert_eq!(template["spec"]["affinity"], Value::Null);
        assert_eq!(document(&template["spec"])["root"], Value::Null);
        assert!(!template.to_string().contains("persistentVolumeClaim"));
    }

    #[test]
    fn names_fit_and_tell_objects_of_one_name_apart() {
        let identity = |uid: &str| Identity {
            name: "n".repeat(40),
            namespace: "default".into(),
            uid: uid.into(),
            generation: 1,
        };
        let begin = Begin::Manual {
            trigger: "now".into(),
            number: 1_000_000,
        };
        let names = [
            job_name(&identity("a"), &begin),
            job_name(&identity("b"), &begin),
        ];
        assert_ne!(names[0], names[1]);
        assert!(names[0].len() <= 63, "{names:?}");
        assert!(cron_name(&"n".repeat(40), Component::Backup).len() <= 52);
    }

    #[test]
    fn a_manual_run_says_what_it_is_for() {
        let begin = Begin::Manual {
            trigger: "before the upgrade".into(),
            number: 0,
        };
        let job = json!(build_run(&fixture::validated(&json!({})), &begin).unwrap());
        let annotations = &job["metadata"]["annotations"];
        assert_eq!(annotations[TRIGGER], "before the upgrade");
        assert_eq!(annotations[RUN], "manual");
        assert_eq!(
            job["metadata"]["ownerReferences"][0]["kind"],
            "StorageBackup"
        );
    }
}
