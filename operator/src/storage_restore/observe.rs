//! Step 2, pure: from objects to [`Facts`].
//!
//! In: the restore as it is stored, what was seen, and the time. Out: the terms that the next step is decided by, and the
//! source that its Jobs read.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use stockpredictor_api::condition::{ConditionType, Reason};
use stockpredictor_api::restore_condition::{RestoreCondition, RestoreReason};
use stockpredictor_api::{RestorePhase, StockPredictor, StorageRestore};

use super::build::job_name;
use super::dereference::{Observed, one_pod};
use super::facts::{ClaimFact, Facts, JobKind, JobState, Jobs, PredictorFact, Running};
use super::hold;
use super::plan::Note;
use super::source::{Choice, Resolved, resolve};
use crate::job::message::Message;
use crate::job::outcome::{self, Outcome};
use crate::stock_predictor::{bootstrap, labels};

/// The finalizer of a restore that must not vanish half-done.
pub const FINALIZER: &str = "stockpredictor.io/restore";
/// The annotation by which a person decides about a restore that is held.
pub const DECISION: &str = "stockpredictor.io/decision";
/// The annotation of a claim with the uid of the restore that made it.
pub const MADE_BY: &str = "stockpredictor.io/restore";

/// The facts, and the source if it can be resolved.
pub fn facts(
    restore: &StorageRestore,
    observed: &Observed,
    now: Timestamp,
) -> (Facts, Option<Resolved>) {
    let (spec, status) = (&restore.spec, restore.status.clone().unwrap_or_default());
    let restored = hold::predictor_of(restore);
    let source = resolve(
        &spec.source,
        Choice::of(spec.backup.as_deref(), spec.at.as_ref()),
        &restore.namespace().unwrap_or_default(),
        restored,
        observed.backup.as_ref(),
    );
    let single = observed.predictor.as_ref().is_some_and(one_pod);
    let blind = single
        && source
            .as_ref()
            .is_ok_and(|source| source.place.volume.is_some());
    let problem = missing(restore, observed)
        .or_else(|| source.as_ref().err().cloned())
        .or_else(|| {
            (blind && spec.dry_run).then(|| {
                Note::new(
                    "ClaimNotUsable",
                    "a volume for one pod (ReadWriteOncePod) can't be looked at while the predictor has it; there is no dry \
                     run of a backup that lies on it",
                )
            })
        });
    let began = status
        .phases
        .last()
        .map_or(now.as_second(), |phase| phase.started_at.0.as_second());
    let facts = Facts {
        now: now.as_second(),
        phase: status.phase,
        since: began,
        deleted: restore.metadata.deletion_timestamp.is_some(),
        finalizer: restore.finalizers().iter().any(|name| name == FINALIZER),
        dry_run: spec.dry_run,
        new_claim: spec.target.new_claim.is_some(),
        one_pod: single,
        blind,
        on_failure: spec.on_failure,
        limits: spec.time_limits.clone(),
        decision: restore.annotations().get(DECISION).cloned(),
        journal: status.journal.clone(),
        problem,
        ahead: ahead(restore, observed),
        claim: claim(restore, observed),
        filled: observed.claim.as_ref().is_some_and(|claim| {
            claim
                .annotations()
                .get(bootstrap::STATE)
                .map(String::as_str)
                == Some(bootstrap::FILLED)
        }),
        predictor: predictor(restore, observed),
        twins: twins(restore, observed),
        users: users(restore, observed),
        jobs: Jobs::new(
            JobKind::ALL
                .into_iter()
                .map(|kind| (kind, job(restore, observed, kind, now)))
                .collect(),
        ),
    };
    (facts, source.ok())
}

/// What a Job of the restore said, if it is over and said something.
pub fn report(restore: &StorageRestore, observed: &Observed, kind: JobKind) -> Option<Message> {
    let found = find(restore, observed, kind)?;
    let pods = outcome::pods_of(found, &observed.pods);
    match outcome::read(found, &pods, &[], Timestamp::UNIX_EPOCH) {
        Outcome::Succeeded(message) => message.map(|message| *message),
        Outcome::Failed(failed) => failed.report.map(|message| *message),
        _ => None,
    }
}

fn find<'a>(
    restore: &StorageRestore,
    observed: &'a Observed,
    kind: JobKind,
) -> Option<&'a k8s_openapi::api::batch::v1::Job> {
    let name = job_name(&restore.name_any(), kind);
    observed.jobs.iter().find(|job| job.name_any() == name)
}

fn job(restore: &StorageRestore, observed: &Observed, kind: JobKind, now: Timestamp) -> JobState {
    let Some(found) = find(restore, observed, kind) else {
        return JobState::Absent;
    };
    if found.metadata.deletion_timestamp.is_some() {
        return JobState::Ending;
    }
    let pods = outcome::pods_of(found, &observed.pods);
    let since = outcome::started(found).map_or(now.as_second(), |time| time.0.as_second());
    match outcome::read(found, &pods, &[], now) {
        Outcome::Running => JobState::Running {
            trouble: None,
            since,
        },
        Outcome::Stuck(stuck) => JobState::Running {
            trouble: Some(stuck.message),
            since,
        },
        Outcome::Retrying(failed) => JobState::Running {
            trouble: Some(format!("{}; it is tried again", failed.message)),
            since,
        },
        Outcome::Succeeded(message) => JobState::Succeeded {
            chosen: message
                .and_then(|message| message.restore)
                .is_some_and(|restore| restore.name.is_some() && restore.sha256.is_some()),
        },
        Outcome::Failed(failed) => JobState::Failed {
            since: outcome::finished(found).map_or(0, |time| time.0.as_second()),
            note: explained(restore, failed.reason, failed.message),
            journal: failed
                .report
                .and_then(|report| report.restore)
                .map(|restore| restore.state)
                .filter(|state| !state.is_empty()),
        },
    }
}

/// What a Job says of its failure, and where to look for what it doesn't know.
fn explained(restore: &StorageRestore, reason: String, message: String) -> Note {
    let backup = restore.spec.source.storage_backup_ref.as_ref();
    match (reason.as_str(), backup) {
        ("NoBackup" | "Unattested" | "ChainBroken", Some(backup)) => {
            let name = &backup.name;
            let hint = format!("{message}; `kubectl describe sb {name}` lists its backups");
            Note::new(reason, hint)
        }
        ("RestoreWaiting", _) => {
            let hint = "`kubectl get sr` shows restores; one of the command line is ended there";
            Note::new(reason, format!("{message}; {hint}"))
        }
        _ => Note::new(reason, message),
    }
}

/// What the target lacks.
fn missing(restore: &StorageRestore, observed: &Observed) -> Option<Note> {
    let name = hold::predictor_of(restore)?;
    let Some(predictor) = &observed.predictor else {
        return Some(Note::new(
            "ReferenceMissing",
            format!(
                "there is no StockPredictor {name} in this namespace; create it, or restore into target.newClaim"
            ),
        ));
    };
    if predictor.metadata.deletion_timestamp.is_some() {
        return Some(Note::new(
            "ReferenceMissing",
            format!("the StockPredictor {name} is being deleted"),
        ));
    }
    match &observed.claim {
        Some(claim) if claim.metadata.deletion_timestamp.is_none() => None,
        _ => Some(Note::new(
            "ClaimNotUsable",
            format!(
                "the claim of the StockPredictor {name} isn't there, or is being deleted; `kubectl describe sp {name}` tells why"
            ),
        )),
    }
}

/// The restore of the same claim that comes first: the one under way, else the oldest. A dry run changes nothing, so it
/// neither waits nor is waited for; nor is one that can't begin for what it lacks itself.
fn ahead(restore: &StorageRestore, observed: &Observed) -> Option<String> {
    let claim = observed.claim_of(restore)?;
    if restore.spec.dry_run {
        return None;
    }
    let phase = |other: &StorageRestore| {
        other
            .status
            .as_ref()
            .and_then(|status| status.phase)
            .unwrap_or_default()
    };
    let waits = |other: &StorageRestore| phase(other) == RestorePhase::Pending;
    observed
        .others
        .iter()
        .filter(|other| other.uid() != restore.uid() && !other.spec.dry_run)
        .filter(|other| observed.claim_of(other).as_ref() == Some(&claim))
        .filter(|other| !(waits(other) && lacks_something(other)))
        .filter(|other| !phase(other).is_end())
        .filter(|other| !(waits(other) && other.metadata.deletion_timestamp.is_some()))
        .filter(|other| !waits(other) || hold::order(*other) < hold::order(restore))
        .min_by_key(|other| (waits(other), hold::order(*other)))
        .map(ResourceExt::name_any)
}

fn lacks_something(restore: &StorageRestore) -> bool {
    let conditions = restore.status.iter().flat_map(|status| &status.conditions);
    let lacks = [
        RestoreReason::ReferenceMissing,
        RestoreReason::ClaimNotUsable,
    ];
    conditions
        .filter(|condition| condition.type_ == RestoreCondition::Ready.as_str())
        .any(|condition| {
            lacks
                .iter()
                .any(|reason| reason.as_str() == condition.reason)
        })
}

fn claim(restore: &StorageRestore, observed: &Observed) -> ClaimFact {
    let uid = restore.uid();
    if restore.spec.target.new_claim.is_some() {
        return match &observed.claim {
            None => ClaimFact::Missing,
            Some(claim) if claim.annotations().get(MADE_BY) == uid.as_ref() => ClaimFact::Usable,
            Some(_) => ClaimFact::Foreign,
        };
    }
    let target = restore
        .status
        .as_ref()
        .and_then(|status| status.target.clone())
        .unwrap_or_default();
    let Some(pinned) = target.claim_uid else {
        return ClaimFact::Usable;
    };
    let name = target.claim_name.unwrap_or_default();
    match &observed.claim {
        Some(claim) if claim.metadata.deletion_timestamp.is_some() => {
            ClaimFact::Gone(format!("the claim {name} is being deleted"))
        }
        Some(claim) if claim.uid().as_ref() == Some(&pinned) => ClaimFact::Usable,
        Some(_) => ClaimFact::Gone(format!(
            "the claim {name} is another one than at the beginning; the data of the old one is gone with it"
        )),
        None => ClaimFact::Gone(format!("the claim {name} was deleted during the restore")),
    }
}

fn predictor(restore: &StorageRestore, observed: &Observed) -> PredictorFact {
    let pinned = restore
        .status
        .as_ref()
        .and_then(|status| status.target.as_ref()?.predictor_uid.clone());
    let Some(predictor) = observed
        .predictor
        .as_ref()
        .filter(|predictor| predictor.metadata.deletion_timestamp.is_none())
        .filter(|predictor| pinned.is_none() || predictor.uid() == pinned)
    else {
        return PredictorFact::Gone;
    };
    let spec = &predictor.spec;
    PredictorFact::There {
        wanted: !spec.suspend && spec.replicas > 0,
        held: held(restore, predictor, observed),
        running: running(predictor),
    }
}

/// Its Deployment is stopped for this restore, and its status says so. So what the status says after the hold is new.
fn held(restore: &StorageRestore, predictor: &StockPredictor, observed: &Observed) -> bool {
    let told = condition(predictor, ConditionType::Ready)
        .is_some_and(|(_, reason, _)| reason == Reason::RestoreInProgress.as_str());
    let deployment = observed.deployment.as_ref();
    told && deployment.is_some_and(|deployment| stopped(restore, deployment))
}

/// Stopped for this restore, and without pods.
fn stopped(restore: &StorageRestore, deployment: &Deployment) -> bool {
    let pods = deployment
        .status
        .as_ref()
        .and_then(|status| status.replicas);
    deployment.annotations().get(labels::HELD_BY) == restore.uid().as_ref()
        && deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(0)
        && pods.unwrap_or_default() == 0
}

/// Other predictors of the claim that may start pods yet.
fn twins(restore: &StorageRestore, observed: &Observed) -> Vec<String> {
    let mut names: Vec<String> = observed
        .twins
        .iter()
        .filter(|twin| {
            // What its status says doesn't matter: it may be broken, and no restore must wait for that to be mended.
            let deployment = twin.deployment.as_ref();
            deployment.is_some_and(|deployment| !stopped(restore, deployment))
        })
        .map(|twin| twin.predictor.name_any())
        .collect();
    names.sort();
    names
}

fn running(predictor: &StockPredictor) -> Running {
    if let Some((status, reason, message)) = condition(predictor, ConditionType::ModelReady)
        && status == "False"
        && [Reason::ModelMissing, Reason::ModelRefused]
            .iter()
            .any(|refused| refused.as_str() == reason)
    {
        return Running::Refused(message.to_owned());
    }
    match condition(predictor, ConditionType::Ready) {
        Some(("True", ..)) => Running::Ready,
        Some((_, _, message)) => Running::NotYet(message.to_owned()),
        None => Running::NotYet("it has no status yet".into()),
    }
}

fn condition(predictor: &StockPredictor, kind: ConditionType) -> Option<(&str, &str, &str)> {
    let status = predictor.status.as_ref()?;
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind.as_str())?;
    Some((&found.status, &found.reason, &found.message))
}

/// The pods that use the claim and haven't ended, the restore's own too.
fn users(restore: &StorageRestore, observed: &Observed) -> Vec<String> {
    let target = restore
        .status
        .as_ref()
        .and_then(|status| status.target.as_ref()?.claim_name.clone());
    let Some(name) = target else { return vec![] };
    let mut names: Vec<String> = observed
        .pods
        .iter()
        .filter(|pod| uses(pod, &name))
        .map(|pod| pod.name_any())
        .collect();
    names.sort();
    names
}

fn uses(pod: &Arc<Pod>, claim: &str) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return false;
    }
    let mut volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.any(|volume| {
        volume
            .persistent_volume_claim
            .as_ref()
            .is_some_and(|source| source.claim_name == claim)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage_restore::dereference::Twin;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn restore(name: &str, second: u32, predictor: &str, changes: &Value) -> StorageRestore {
        let mut object = json!({
            "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageRestore",
            "metadata": {"name": name, "uid": name, "creationTimestamp": format!("2025-08-01T12:00:0{second}Z")},
            "spec": {"source": {}, "target": {"inPlace": {"predictorRef": {"name": predictor}}}},
            "status": {"phase": "Pending"},
        });
        crate::stock_predictor::fixture::merge(&mut object, changes);
        serde_json::from_value(object).unwrap()
    }

    fn predictor(name: &str, claim: &str) -> StockPredictor {
        serde_json::from_value(json!({
            "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StockPredictor", "metadata": {"name": name},
            "spec": {"symbols": ["NVDA"], "storage": {"existingClaim": claim}},
        }))
        .unwrap()
    }

    #[rstest]
    #[case::without_pods_of_its_own(json!(null), &[])]
    #[case::stopped_for_it(json!({"held": "own", "replicas": 0}), &[])]
    #[case::stopped_for_another(json!({"held": "other", "replicas": 0}), &["twin"])]
    #[case::stopped_by_itself(json!({"held": "", "replicas": 0}), &["twin"])]
    #[case::runs(json!({"held": "", "replicas": 1}), &["twin"])]
    fn another_predictor_of_the_claim_is_waited_for_by_its_deployment_alone(
        #[case] deployment: Value,
        #[case] waited_for: &[&str],
    ) {
        let deployment = (!deployment.is_null()).then(|| {
            serde_json::from_value(json!({
                "metadata": {"name": "twin", "annotations": {labels::HELD_BY: deployment["held"]}},
                "spec": {"replicas": deployment["replicas"], "selector": {}, "template": {}},
            }))
            .unwrap()
        });
        let observed = Observed {
            twins: vec![Twin {
                predictor: predictor("twin", "data"),
                deployment,
            }],
            ..Observed::default()
        };
        let own = restore("own", 5, "nvda", &json!({}));
        assert_eq!(twins(&own, &observed), waited_for);
    }

    #[rstest]
    #[case::alone(vec![], None)]
    #[case::older(vec![restore("a", 1, "nvda", &json!({}))], Some("a"))]
    #[case::younger(vec![restore("a", 9, "nvda", &json!({}))], None)]
    #[case::younger_under_way(vec![restore("a", 9, "nvda", &json!({"status": {"phase": "Switching"}}))], Some("a"))]
    #[case::over(vec![restore("a", 1, "nvda", &json!({"status": {"phase": "Completed"}}))], None)]
    #[case::of_another_volume(vec![restore("a", 1, "other", &json!({}))], None)]
    #[case::of_this_volume_by_another_predictor(vec![restore("a", 1, "twin", &json!({}))], Some("a"))]
    #[case::of_this_volume_as_it_noted(
        vec![restore("a", 9, "gone", &json!({"status": {"phase": "Held", "target": {"claimName": "data"}}}))], Some("a"))]
    #[case::a_dry_run(vec![restore("a", 1, "nvda", &json!({"spec": {"dryRun": true}}))], None)]
    #[case::one_that_lacks_its_backup(
        vec![restore("a", 1, "nvda", &json!({"status": {"conditions": [{
            "type": "Ready", "status": "False", "reason": "ReferenceMissing", "message": "", "lastTransitionTime": "2025-08-01T12:00:00Z"}]}}))],
        None)]
    fn one_restore_of_a_volume_comes_first(
        #[case] others: Vec<StorageRestore>,
        #[case] first: Option<&str>,
    ) {
        let observed = Observed {
            others,
            predictors: vec![
                predictor("nvda", "data"),
                predictor("twin", "data"),
                predictor("other", "its-own"),
            ],
            ..Observed::default()
        };
        let own = restore("own", 5, "nvda", &json!({}));
        assert_eq!(ahead(&own, &observed).as_deref(), first);
        let dry = restore("own", 5, "nvda", &json!({"spec": {"dryRun": true}}));
        assert_eq!(ahead(&dry, &observed), None, "a dry run waits for nobody");
    }
}
