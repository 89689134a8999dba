//! Step 3, pure: the Jobs of a restore, and the claim that a new one is made of.
//!
//! In: a restore, its source, and the predictor whose image and account the Jobs have. Out: a Job by its kind. Names are
//! made of the restore's name and the kind and nothing else, so that an operator that died between making a Job and
//! knowing of it finds it again.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use stockpredictor_api::{NewClaim, StorageRestore};

use super::facts::{Facts, JobKind, seconds};
use super::observe::MADE_BY;
use super::source::{Choice, Resolved};
use crate::job::build::{JobPlan, build_job};
use crate::job::document::{Document, ROOT, Restore, Task};
use crate::job::place::{Mounts, mount, mount_identity};
use crate::job::pod::{Access, PodPlan, Settings};
use crate::job::{Component, labels};
use crate::stock_predictor::validate::ValidatedPredictor;
use crate::stock_predictor::{self, bootstrap};

/// How often a Job's pod is tried again.
const RETRIES: i32 = 3;

/// What a Job has beyond the time of its phase, in seconds.
const GRACE: i64 = 60;

/// The name of a Job.
pub fn job_name(restore: &str, kind: JobKind) -> String {
    format!("{restore}-{}", kind.as_str())
}

/// The Job of `kind`.
///
/// # Errors
/// When the document doesn't become JSON, which tests rule out.
pub fn build(
    restore: &StorageRestore,
    kind: JobKind,
    facts: &Facts,
    source: Option<&Resolved>,
    runner: &ValidatedPredictor,
    free_bytes: Option<i64>,
) -> serde_json::Result<Job> {
    let spec = &restore.spec;
    let chosen = restore
        .status
        .as_ref()
        .and_then(|status| status.backup.clone())
        .unwrap_or_default();
    // What has to be undone is undone without the source too: it may be what is broken.
    let needs_source = kind != JobKind::Undo || source.is_some();
    let mounted = source
        .filter(|_| needs_source)
        .map(|source| mount(&source.name, &source.place, None, false));
    // The checks of a volume that they can't have, or that isn't there yet, go by what is known of its space.
    let without = kind == JobKind::Preflight && (facts.one_pod || facts.new_claim);
    let volume = match kind {
        _ if without => None,
        JobKind::Preflight => Some(Access::Backups),
        _ => Some(Access::All),
    };
    let mut mounts = Mounts::default();
    let identity = spec.identity_secret.as_ref().map(|secret| {
        let (path, secret) = mount_identity(secret);
        mounts.extend(secret);
        path
    });
    let place = mounted.map(|mounted| {
        mounts.extend(mounted.mounts);
        mounted.place
    });
    // Once a Job has chosen, the others keep to that.
    let choice = match &chosen.name {
        Some(name) => Choice::Name(name),
        None => Choice::of(spec.backup.as_deref(), spec.at.as_ref()),
    };
    let (backup, at) = choice.words();
    let document = Restore {
        restore: restore.uid().unwrap_or_default(),
        root: volume.map(|_| ROOT.to_owned()),
        dry_run: (kind == JobKind::Preflight && spec.dry_run).then_some(true),
        source: place,
        origin: source.map(|source| source.origin.clone()),
        backup,
        at,
        sha256: chosen.sha256.clone().or_else(|| spec.sha256.clone()),
        known: source
            .map(|source| source.known.clone())
            .unwrap_or_default(),
        include: spec
            .include
            .iter()
            .map(|part| part.as_str().to_owned())
            .collect(),
        identity,
        free_bytes: if without { free_bytes } else { None },
    };
    build_job(&JobPlan {
        name: job_name(&restore.name_any(), kind),
        namespace: restore.namespace().unwrap_or_default(),
        labels: labels(&restore.name_any(), Component::Restore),
        annotations: BTreeMap::new(),
        owner: owner(restore),
        backoff_limit: RETRIES,
        deadline: deadline(facts, kind),
        pod: PodPlan {
            predictor: runner,
            volume,
            scratch: None,
            mounts,
            settings: Settings {
                resources: runner.spec.resources.clone(),
                node_selector: runner.spec.node_selector.clone(),
                ..Settings::default()
            },
            document: Document::new(task(kind, document)),
        },
    })
}

fn task(kind: JobKind, restore: Restore) -> Task {
    match kind {
        JobKind::Preflight => Task::Preflight(restore),
        JobKind::Prepare => Task::Prepare(restore),
        JobKind::Switch => Task::Switch(restore),
        JobKind::Commit => Task::Commit(restore),
        JobKind::Undo => Task::Undo(restore),
        JobKind::Fill => Task::Fill(restore),
    }
}

/// A Job has the time of its phase and a little more, so that it ends without the operator too, but not before the operator
/// could say what held it up. What must succeed has none.
fn deadline(facts: &Facts, kind: JobKind) -> Option<i64> {
    let limits = &facts.limits;
    let phase = seconds(match kind {
        JobKind::Preflight => &limits.preflight,
        JobKind::Prepare | JobKind::Fill => &limits.prepare,
        JobKind::Switch => &limits.switch,
        JobKind::Commit | JobKind::Undo => return None,
    });
    Some(phase?.saturating_add(GRACE))
}

fn owner(restore: &StorageRestore) -> OwnerReference {
    OwnerReference {
        api_version: StorageRestore::api_version(&()).into_owned(),
        kind: StorageRestore::kind(&()).into_owned(),
        name: restore.name_any(),
        uid: restore.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// The claim of `target.newClaim`. It has no owner, because data must not go with the object that brought it, and the
/// labels by which a `StockPredictor` of its name takes it up.
pub fn build_claim(restore: &StorageRestore, new: &NewClaim) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(new.name.clone()),
            namespace: restore.namespace(),
            labels: Some(stock_predictor::labels::child(&new.name)),
            // From its first moment on it says that it isn't filled, so that no predictor takes it for an empty one.
            annotations: Some(BTreeMap::from([
                (MADE_BY.to_owned(), restore.uid().unwrap_or_default()),
                (bootstrap::STATE.to_owned(), bootstrap::FILLING.to_owned()),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![new.access_mode.as_str().to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), new.size.clone())])),
                limits: None,
            }),
            storage_class_name: new.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
