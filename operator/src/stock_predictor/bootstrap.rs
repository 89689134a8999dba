//! A new volume that is filled from a backup before its first use.
//!
//! In: a predictor whose spec has `bootstrapFrom`, its claim, and the Job that fills it. Out: a [`Fill`], decided by a pure
//! function, and the Job. It is fail-closed: the claim says from its first moment on that it is not filled, and until it
//! says that it is, no pod is started on it. A claim without that word is never filled: it may have data.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Resource, ResourceExt};
use stockpredictor_api::{Bootstrap, StockPredictor};

use super::claim::ClaimPlan;
use super::validate::ValidatedPredictor;
use crate::job::build::{JobPlan, build_job};
use crate::job::document::{Document, ROOT, Restore, Task};
use crate::job::outcome::{self, Outcome};
use crate::job::place::{mount, mount_identity};
use crate::job::pod::{Access, PodPlan, Settings};
use crate::job::{Component, labels};
use crate::storage_restore::dereference::stored;
use crate::storage_restore::observe::MADE_BY;
use crate::storage_restore::plan::{Note, RETRY};
use crate::storage_restore::source::{Choice, Resolved, resolve};
use crate::writer::{self, Error, Writer, digest};

/// The annotation of a claim that tells whether it is filled.
pub const STATE: &str = "stockpredictor.io/bootstrap";
/// It must be filled.
pub const FILLING: &str = "Filling";
/// It is filled.
pub const FILLED: &str = "Filled";
/// The annotation of the Job with a digest of what it fills the volume from.
const SOURCE_HASH: &str = "stockpredictor.io/source-hash";
/// How long the Job may take, in seconds.
const DEADLINE: i64 = 24 * 3600;
/// How often its pod is tried again.
const RETRIES: i32 = 3;

/// What to do about the filling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Nothing: it isn't asked for, or the claim isn't new.
    #[default]
    Unneeded,
    /// Pods of before still want the claim's name: they are stopped before there is a claim again.
    StopFirst,
    /// The claim is made now.
    First,
    /// The Job is made now.
    Run,
    /// The Job runs.
    Running,
    /// The Job's pod does not start, or fails and is tried again.
    Stuck(String),
    /// The Job failed a moment ago, or can't be made.
    Refused(String),
    /// The Job that failed is taken away.
    Retry,
    /// The Job has filled it; the claim says so next.
    Done,
    /// It is filled.
    Filled,
}

impl Fill {
    /// True when pods may start.
    pub fn lets_start(&self) -> bool {
        matches!(self, Self::Unneeded | Self::Filled)
    }
}

/// What is seen of the filling.
#[derive(Debug, Default)]
pub struct Seen {
    /// The Job.
    pub job: Option<Job>,
    /// Its pods.
    pub pods: Vec<Arc<Pod>>,
    /// Where the backup comes from.
    pub source: Option<Result<Resolved, Note>>,
}

/// Looks, where there is something to fill.
///
/// # Errors
/// When the API server refuses or can't be reached.
pub async fn dereference(
    object: &StockPredictor,
    claim: Option<&PersistentVolumeClaim>,
    client: &Client,
) -> Result<Seen, Error> {
    // One that a StorageRestore makes is that one's to fill.
    if claim.and_then(state) != Some(FILLING) || claim.is_some_and(restores) {
        return Ok(Seen::default());
    }
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let reader = Writer::new(client.clone());
    let job = reader.read::<Job>(&namespace, &job_name(&name)).await?;
    let pods = match &job {
        Some(job) => outcome::pods_of(
            job,
            &reader
                .list::<Pod>(&namespace)
                .await?
                .into_iter()
                .map(Arc::new)
                .collect::<Vec<_>>(),
        ),
        None => vec![],
    };
    let source = match &object.spec.storage.bootstrap_from {
        None => None,
        Some(bootstrap) => {
            let stored = stored(&bootstrap.source, &reader, &namespace).await?;
            let mut source = bootstrap.source.clone();
            // Without an origin it is the same predictor, such as one that is built up again.
            if source.destination.is_some() && source.origin.is_none() {
                source.origin = Some(stockpredictor_api::Origin {
                    namespace: None,
                    predictor: name.clone(),
                });
            }
            let choice = Choice::of(bootstrap.backup.as_deref(), bootstrap.at.as_ref());
            Some(resolve(&source, choice, &namespace, None, stored.as_ref()))
        }
    };
    Ok(Seen { job, pods, source })
}

/// Decides.
pub fn plan(
    predictor: &ValidatedPredictor,
    plan: &ClaimPlan,
    claim: Option<&PersistentVolumeClaim>,
    seen: &Seen,
    running: bool,
    now: Timestamp,
) -> Fill {
    let asked = predictor.spec.storage.bootstrap_from.as_ref();
    if *plan == ClaimPlan::Create {
        return match asked {
            None => Fill::Unneeded,
            Some(_) if running => Fill::StopFirst,
            Some(_) => Fill::First,
        };
    }
    match claim.filter(|_| plan.usable()).and_then(state) {
        Some(FILLED) => return Fill::Filled,
        Some(FILLING) if claim.is_some_and(restores) => {
            return Fill::Refused(
                "a StorageRestore fills this claim and has not completed; `kubectl get sr` tells how far it is. If it failed, \
                 delete the claim and restore anew"
                    .into(),
            );
        }
        Some(FILLING) => {}
        _ => return Fill::Unneeded,
    }
    let Some(asked) = asked else {
        return Fill::Refused(
            "spec.storage.bootstrapFrom was taken away before the volume was filled; put it back, or delete the claim".into(),
        );
    };
    let Some(job) = &seen.job else {
        return match &seen.source {
            Some(Ok(_)) => Fill::Run,
            Some(Err(note)) => Fill::Refused(note.message.clone()),
            None => Fill::Running,
        };
    };
    if job.metadata.deletion_timestamp.is_some() {
        return Fill::Running;
    }
    let outdated = job.annotations().get(SOURCE_HASH) != Some(&hash(asked));
    let outcome = outcome::read(job, &seen.pods, &[], now);
    match outcome {
        Outcome::Succeeded(_) => Fill::Done,
        // A corrected spec counts at once.
        _ if outdated => Fill::Retry,
        Outcome::Running => Fill::Running,
        Outcome::Stuck(stuck) => Fill::Stuck(stuck.message),
        Outcome::Retrying(failed) => Fill::Stuck(failed.message),
        Outcome::Failed(failed) => {
            let since = outcome::finished(job).map_or(0, |time| time.0.as_second());
            if now.as_second() - since >= RETRY {
                Fill::Retry
            } else {
                Fill::Refused(failed.message)
            }
        }
    }
}

/// The word that the claim should carry. That of a claim which a restore makes is the restore's.
pub fn annotation<'a>(fill: &Fill, live: Option<&'a PersistentVolumeClaim>) -> Option<&'a str> {
    if live.is_some_and(restores) {
        return None;
    }
    match (fill, live.and_then(state)) {
        (Fill::First, None) => Some(FILLING),
        (Fill::Done, Some(FILLING)) => Some(FILLED),
        (_, state) => state,
    }
}

/// Makes the Job, or takes one away that is to be made anew.
///
/// # Errors
/// When the API server refuses or can't be reached.
pub async fn apply(
    writer: &Writer,
    predictor: &ValidatedPredictor,
    claim: Option<&PersistentVolumeClaim>,
    fill: &Fill,
    seen: &Seen,
) -> Result<(), Error> {
    match (fill, &seen.job, &seen.source, claim) {
        (Fill::Retry, Some(job), ..) => {
            writer.delete_exact(job).await?;
        }
        (Fill::Run, None, Some(Ok(source)), Some(claim)) => {
            if let Some(job) = build(predictor, source, claim).map_err(|source| Error::Encode {
                kind: "Job".into(),
                source,
            })? {
                writer.create_once(predictor.owner(), &job).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Takes the Job away with its predictor, so that the claim isn't waited for longer than needed.
///
/// # Errors
/// When the API server refuses or can't be reached.
pub async fn end(writer: &Writer, object: &StockPredictor) -> Result<(), Error> {
    if object.spec.storage.bootstrap_from.is_none() {
        return Ok(());
    }
    let namespace = object.namespace().unwrap_or_default();
    let job = writer
        .read::<Job>(&namespace, &job_name(&object.name_any()))
        .await?;
    let uid = object.uid().unwrap_or_default();
    if let Some(job) =
        job.filter(|job| writer::owned_by(job, &uid) && job.metadata.deletion_timestamp.is_none())
    {
        writer.delete_exact(&job).await?;
    }
    Ok(())
}

/// The Job that fills the claim. The restore's id is the claim's uid: another claim is another restore.
fn build(
    predictor: &ValidatedPredictor,
    source: &Resolved,
    claim: &PersistentVolumeClaim,
) -> serde_json::Result<Option<Job>> {
    let (Some(asked), Some(uid)) = (&predictor.spec.storage.bootstrap_from, claim.uid()) else {
        return Ok(None);
    };
    let mounted = mount(&source.name, &source.place, None, false);
    let mut mounts = mounted.mounts;
    let identity = asked.identity_secret.as_ref().map(|secret| {
        let (path, secret) = mount_identity(secret);
        mounts.extend(secret);
        path
    });
    let (backup, at) = Choice::of(asked.backup.as_deref(), asked.at.as_ref()).words();
    let document = Restore {
        restore: uid,
        root: Some(ROOT.into()),
        source: Some(mounted.place),
        origin: Some(source.origin.clone()),
        backup,
        at,
        sha256: asked.sha256.clone(),
        known: source.known.clone(),
        identity,
        ..Restore::default()
    };
    let owner = OwnerReference {
        api_version: StockPredictor::api_version(&()).into_owned(),
        kind: StockPredictor::kind(&()).into_owned(),
        name: predictor.name.clone(),
        uid: predictor.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let job = build_job(&JobPlan {
        name: job_name(&predictor.name),
        namespace: predictor.namespace.clone(),
        labels: labels(&predictor.name, Component::Restore),
        annotations: [(SOURCE_HASH.to_owned(), hash(asked))].into(),
        owner,
        backoff_limit: RETRIES,
        deadline: Some(DEADLINE),
        pod: PodPlan {
            predictor,
            volume: Some(Access::All),
            scratch: None,
            mounts,
            settings: Settings {
                resources: predictor.spec.resources.clone(),
                node_selector: predictor.spec.node_selector.clone(),
                ..Settings::default()
            },
            document: Document::new(Task::Fill(document)),
        },
    })?;
    Ok(Some(job))
}

fn job_name(predictor: &str) -> String {
    format!("{predictor}-bootstrap")
}

fn hash(asked: &Bootstrap) -> String {
    digest(&serde_json::to_value(asked).unwrap_or_default())
}

/// True for a claim that a `StorageRestore` made.
fn restores(claim: &PersistentVolumeClaim) -> bool {
    claim.annotations().contains_key(MADE_BY)
}

fn state(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.annotations().get(STATE).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock_predictor::claim::tests::claim;
    use crate::stock_predictor::fixture::validated;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn asked() -> Value {
        json!({"storage": {"bootstrapFrom": {
            "source": {"destination": {"objectStore": {"url": "s3://backups/trading"}}}, "backup": "latestProven"}}})
    }

    fn word(state: &str) -> PersistentVolumeClaim {
        let uid = "5f1d7a56-0f7e-4c1e-8a68-5a3b1f1c7d03";
        claim(&json!({"metadata": {"uid": uid, "annotations": {STATE: state}}}))
    }

    fn source() -> Resolved {
        Resolved {
            name: "source".into(),
            place: serde_json::from_value(json!({"objectStore": {"url": "s3://backups/trading"}}))
                .unwrap(),
            ..Resolved::default()
        }
    }

    fn job(conditions: &Value, hash: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "nvda-bootstrap", "uid": "j", "annotations": {SOURCE_HASH: hash},
                "creationTimestamp": "2025-08-01T12:00:00Z"},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn failed() -> Value {
        json!([{"type": "Failed", "status": "True", "lastTransitionTime": "2025-08-01T12:00:00Z"}])
    }

    fn decided(
        claim: Option<&PersistentVolumeClaim>,
        job: Option<Job>,
        running: bool,
        seconds: i64,
    ) -> Fill {
        let predictor = validated(&asked());
        let plan = match &claim {
            None => ClaimPlan::Create,
            Some(_) => ClaimPlan::Keep {
                size: "10Gi".into(),
            },
        };
        let seen = Seen {
            job,
            pods: vec![],
            source: Some(Ok(source())),
        };
        let began: Timestamp = "2025-08-01T12:00:00Z".parse().unwrap();
        let now = Timestamp::from_second(began.as_second() + seconds).unwrap();
        super::plan(&predictor, &plan, claim, &seen, running, now)
    }

    fn now_hash() -> String {
        hash(
            validated(&asked())
                .spec
                .storage
                .bootstrap_from
                .as_ref()
                .unwrap(),
        )
    }

    #[test]
    fn a_volume_is_filled_from_its_first_moment_to_its_word() {
        let done = json!([{"type": "Complete", "status": "True"}]);
        assert_eq!(decided(None, None, true, 0), Fill::StopFirst);
        assert_eq!(decided(None, None, false, 0), Fill::First);
        assert_eq!(decided(Some(&word("Filling")), None, false, 0), Fill::Run);
        let running = job(&json!([]), &now_hash());
        assert_eq!(
            decided(Some(&word("Filling")), Some(running), false, 1),
            Fill::Running
        );
        let ended = job(&done, &now_hash());
        assert_eq!(
            decided(Some(&word("Filling")), Some(ended), false, 1),
            Fill::Done
        );
        assert_eq!(decided(Some(&word("Filled")), None, false, 0), Fill::Filled);
        assert_eq!(
            decided(Some(&claim(&json!({}))), None, false, 0),
            Fill::Unneeded
        );
    }

    #[test]
    fn a_failure_never_lets_a_pod_start_and_is_tried_again() {
        let job = || Some(job(&failed(), &now_hash()));
        let refused = decided(Some(&word("Filling")), job(), false, RETRY - 1);
        assert!(matches!(refused, Fill::Refused(_)) && !refused.lets_start());
        assert_eq!(
            decided(Some(&word("Filling")), job(), false, RETRY),
            Fill::Retry
        );
        let outdated = super::tests::job(&failed(), "other");
        assert_eq!(
            decided(Some(&word("Filling")), Some(outdated), false, 1),
            Fill::Retry
        );
    }

    #[test]
    fn a_claim_that_a_restore_fills_is_left_to_it_until_it_says_so() {
        let made = |state: &str| {
            claim(&json!({"metadata": {"annotations": {STATE: state, MADE_BY: "uid"}}}))
        };
        for asked in [json!({}), asked()] {
            let predictor = validated(&asked);
            let decide = |state: &str| {
                let (claim, now) = (made(state), Timestamp::UNIX_EPOCH);
                let kept = ClaimPlan::Keep { size: "1Gi".into() };
                plan(
                    &predictor,
                    &kept,
                    Some(&claim),
                    &Seen::default(),
                    false,
                    now,
                )
            };
            assert!(
                matches!(decide(FILLING), Fill::Refused(why) if why.contains("kubectl get sr"))
            );
            assert!(decide(FILLED).lets_start());
        }
        assert_eq!(annotation(&Fill::Filled, Some(&made(FILLED))), None);
    }

    #[rstest]
    #[case(Fill::First, None, Some("Filling"))]
    #[case(Fill::Unneeded, None, None)]
    #[case(Fill::Running, Some(word("Filling")), Some("Filling"))]
    #[case(Fill::Done, Some(word("Filling")), Some("Filled"))]
    #[case(Fill::Filled, Some(word("Filled")), Some("Filled"))]
    #[case(Fill::Unneeded, Some(claim(&json!({}))), None)]
    fn the_claim_says_whether_it_is_filled(
        #[case] fill: Fill,
        #[case] live: Option<PersistentVolumeClaim>,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(annotation(&fill, live.as_ref()), expected);
    }

    #[test]
    fn the_job_is_that_of_the_contract() {
        let predictor = validated(&asked());
        let built = build(&predictor, &source(), &word("Filling"))
            .unwrap()
            .unwrap();
        let pod = json!(built.spec.unwrap().template.spec);
        let text = pod["containers"][0]["env"][0]["value"].as_str().unwrap();
        let document: Value = serde_json::from_str(text).unwrap();
        let contract: Value =
            serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap();
        for key in ["version", "job", "restore", "root", "backup"] {
            assert_eq!(document[key], contract["jobs"]["fill"][key], "{key}");
        }
    }
}
