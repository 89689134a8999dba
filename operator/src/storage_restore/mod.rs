//! The driver of one `StorageRestore`: looks, decides on one step, and takes it.
//!
//! In: an object from the cache. Out: one write at most beside its report, and when to look again. A pass never does two
//! things: what it did is in the API server before the next one decides, so a death between two writes is nothing special.

pub mod build;
pub mod controller;
pub mod dereference;
pub mod facts;
pub mod hold;
pub mod observe;
pub mod phase;
pub mod plan;
pub mod source;
pub mod status;

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::Store;
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use stockpredictor_api::{
    RestorePhase, StockPredictor, StorageRestore, StorageRestoreStatus, TargetStatus,
};

use self::dereference::Observed;
use self::facts::{Facts, JobKind};
use self::observe::FINALIZER;
use self::plan::{Note, Step};
use self::source::Resolved;
use crate::clock;
use crate::controller::Fault;
use crate::metrics::Metrics;
use crate::quantity;
use crate::stock_predictor::backoff::Backoff;
use crate::stock_predictor::bootstrap;
use crate::stock_predictor::claim::claim_of;
use crate::stock_predictor::stats::Poller;
use crate::stock_predictor::update_status::note;
use crate::stock_predictor::validate::{self, Defaults, ValidatedPredictor, validate};
use crate::writer::{self, Owner, Writer, explain};

/// After a write the next pass follows at once.
const NEXT: Duration = Duration::from_millis(200);
/// How often one that waits is looked at, beside the events of its Jobs.
const WAITING: Duration = Duration::from_secs(2);
/// How often one that waits for its turn or a person is looked at.
const PATIENT: Duration = Duration::from_secs(10);
/// One that is over.
const OVER: Duration = Duration::from_hours(1);

/// What every pass needs.
pub struct Context {
    /// For reads.
    pub client: Client,
    /// For writes.
    pub writer: Writer,
    /// For Events.
    pub recorder: Recorder,
    /// For stats.
    pub poller: Poller,
    /// What the operator was started with.
    pub defaults: Defaults,
    /// Counters.
    pub metrics: Metrics,
    /// Failures in a row.
    pub backoff: Backoff,
    /// The Jobs of restores. They are watched to be told of their ends; what counts is read anew.
    pub jobs: Store<Job>,
}

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something can't be read or written.
    #[error(transparent)]
    Write(#[from] writer::Error),
    /// A document that doesn't become JSON.
    #[error("can't write a job as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// A predictor that can't become anything.
    #[error("the predictor's spec is invalid: {0}")]
    Validate(#[from] validate::Error),
    /// The pass as a whole.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Error {
    /// A word of a small set, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Write(error) => error.category(),
            Self::Encode(_) => "internal",
            Self::Validate(_) => "invalid",
            Self::Fault(fault) => fault.category(),
        }
    }
}

/// One pass. Gives the time after which to look again.
///
/// # Errors
/// When something has to be tried again.
pub async fn reconcile(object: &StorageRestore, context: &Context) -> Result<Duration, Error> {
    if is_over(object) {
        return Ok(OVER);
    }
    // The cache may be older than our last write, and a step is taken once.
    let namespace = object.namespace().unwrap_or_default();
    let live = context
        .writer
        .read::<StorageRestore>(&namespace, &object.name_any())
        .await?;
    let Some(live) = live.filter(|live| live.uid() == object.uid()) else {
        return Ok(OVER);
    };
    let observed =
        dereference::dereference(&live, &context.client, &context.writer, &context.poller).await?;
    let now = clock::now();
    let (facts, source) = observe::facts(&live, &observed, now.0);
    let step = plan::plan(&facts);
    tracing::debug!(?step, "decided");
    let pass = Pass {
        context,
        restore: &live,
        observed: &observed,
        facts: &facts,
        source: source.as_ref(),
        now: &now,
    };
    pass.take(step).await
}

/// True when nothing is left to do. Jobs that still run keep it from being over, so the finalizer goes after them.
fn is_over(object: &StorageRestore) -> bool {
    let phase = object.status.as_ref().and_then(|status| status.phase);
    let finalizer = object.finalizers().iter().any(|name| name == FINALIZER);
    phase.is_some_and(|phase| phase.is_end() && phase != RestorePhase::Failed) && !finalizer
}

/// One pass over one restore.
struct Pass<'a> {
    context: &'a Context,
    restore: &'a StorageRestore,
    observed: &'a Observed,
    facts: &'a Facts,
    source: Option<&'a Resolved>,
    now: &'a Time,
}

impl Pass<'_> {
    async fn take(&self, step: Step) -> Result<Duration, Error> {
        let writer = &self.context.writer;
        match step {
            Step::Nothing => return Ok(OVER),
            Step::Wait(note) => return self.wait(&note).await,
            Step::Enter(phase, failure) => self.enter(phase, failure).await?,
            Step::SetFinalizer => {
                let mut names = self.restore.finalizers().to_vec();
                names.push(FINALIZER.to_owned());
                writer
                    .set_finalizers::<StorageRestore>(self.restore, &names)
                    .await?;
            }
            Step::ReleaseFinalizer => {
                let names = self.restore.finalizers().iter();
                let others: Vec<_> = names.filter(|name| *name != FINALIZER).cloned().collect();
                writer
                    .set_finalizers::<StorageRestore>(self.restore, &others)
                    .await?;
            }
            Step::Create(kind) => self.create(kind).await?,
            Step::CreateClaim => {
                if let Some(new) = &self.restore.spec.target.new_claim {
                    let claim = build::build_claim(self.restore, new);
                    // One that somebody else made in this moment is not taken over: the next pass sees whose it is.
                    let owner = Owner {
                        namespace: &self.namespace(),
                        name: &new.name,
                        uid: "",
                    };
                    match writer.create_once(owner, &claim).await {
                        Ok(_) | Err(writer::Error::NotOurs { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Step::MarkFilled => {
                if let Some(claim) = &self.observed.claim {
                    writer
                        .annotate(claim, bootstrap::STATE, bootstrap::FILLED)
                        .await?;
                }
            }
            Step::Delete(kind) => {
                let name = build::job_name(&self.restore.name_any(), kind);
                let job = self.observed.jobs.iter().find(|job| job.name_any() == name);
                if let Some(job) = job {
                    writer.delete_exact(job).await?;
                }
            }
        }
        Ok(NEXT)
    }

    fn namespace(&self) -> String {
        self.restore.namespace().unwrap_or_default()
    }

    fn status(&self) -> StorageRestoreStatus {
        self.restore.status.clone().unwrap_or_default()
    }

    /// Says what is waited for.
    async fn wait(&self, note: &Note) -> Result<Duration, Error> {
        let before = self.status();
        let status = self.conclude(before.clone(), Some(note));
        if status != before {
            self.context
                .writer
                .set_status(self.restore, &status)
                .await?;
        }
        Ok(match self.facts.phase() {
            RestorePhase::Pending | RestorePhase::Held => PATIENT,
            _ => WAITING,
        })
    }

    fn conclude(&self, status: StorageRestoreStatus, note: Option<&Note>) -> StorageRestoreStatus {
        let generation = self.restore.metadata.generation.unwrap_or_default();
        status::conclude(status, note, self.facts.one_pod, generation, self.now)
    }

    /// Persists the next phase, with everything that is learnt by then: a Job's message goes with its pod.
    async fn enter(&self, phase: RestorePhase, failure: Option<Note>) -> Result<(), Error> {
        let mut status = status::enter(&self.status(), phase, failure.as_ref(), self.now);
        if let Some(kind) = job_of(self.facts.phase())
            && let Some(message) = observe::report(self.restore, self.observed, kind)
            && let Some(found) = &message.restore
        {
            let destination = self.source.map(|source| source.name.as_str());
            status::absorb(&mut status, found, destination);
        }
        if status.target.is_none()
            && matches!(phase, RestorePhase::Preflight | RestorePhase::Holding)
        {
            status.target = Some(self.target());
        }
        let status = self.conclude(status, None);
        self.context
            .writer
            .set_status(self.restore, &status)
            .await?;
        tracing::info!(phase = phase.as_str(), "entered");
        self.tell(phase, failure.as_ref(), &status).await;
        Ok(())
    }

    fn target(&self) -> TargetStatus {
        let predictor = self.observed.predictor.as_ref();
        let new = self.restore.spec.target.new_claim.as_ref();
        let claim = self.observed.claim.as_ref().filter(|_| predictor.is_some());
        TargetStatus {
            claim_name: predictor
                .map(claim_of)
                .or_else(|| new.map(|new| new.name.clone())),
            claim_uid: claim.and_then(ResourceExt::uid),
            predictor_uid: predictor.and_then(ResourceExt::uid),
        }
    }

    async fn create(&self, kind: JobKind) -> Result<(), Error> {
        let runner = self.runner()?;
        let size =
            self.restore.spec.target.new_claim.as_ref().and_then(|new| {
                quantity::units(&new.size.0).and_then(|size| i64::try_from(size).ok())
            });
        let free = size.or(self.observed.free_bytes);
        let job = build::build(self.restore, kind, self.facts, self.source, &runner, free)?;
        let uid = self.restore.uid().unwrap_or_default();
        let (namespace, name) = (self.namespace(), self.restore.name_any());
        let owner = Owner {
            namespace: &namespace,
            name: &name,
            uid: &uid,
        };
        self.context.writer.create_once(owner, &job).await?;
        Ok(())
    }

    /// Whose image, account and placement the Jobs have: the predictor's; where there is none, the operator's image and the
    /// namespace's own account.
    fn runner(&self) -> Result<ValidatedPredictor, Error> {
        if let Some(predictor) = &self.observed.predictor {
            return Ok(validate(predictor, &self.context.defaults)?);
        }
        let status = self.status();
        let new = self.restore.spec.target.new_claim.as_ref();
        let claim = new
            .map(|new| new.name.clone())
            .or_else(|| status.target.and_then(|target| target.claim_name))
            .unwrap_or_default();
        let mode = new.map_or("ReadWriteOnce", |new| new.access_mode.as_str());
        let stand_in: StockPredictor = serde_json::from_value(json!({
            "apiVersion": StockPredictor::api_version(&()), "kind": StockPredictor::kind(&()),
            "metadata": {"name": "default", "namespace": self.namespace(), "uid": ""},
            "spec": {"symbols": [], "storage": {"existingClaim": claim, "accessMode": mode}},
        }))?;
        Ok(validate(&stand_in, &self.context.defaults)?)
    }

    /// One Event a phase, and one for what went wrong.
    async fn tell(
        &self,
        phase: RestorePhase,
        failure: Option<&Note>,
        status: &StorageRestoreStatus,
    ) {
        let problem = failure.is_some()
            || matches!(
                phase,
                RestorePhase::Failed | RestorePhase::RolledBack | RestorePhase::Held
            );
        let text = match (failure, phase.is_end()) {
            (Some(failure), _) => format!("{}: {}", phase.as_str(), failure.message),
            (None, true) => status
                .conditions
                .first()
                .map(|ready| ready.message.clone())
                .unwrap_or_default(),
            (None, false) => status::doing(phase).to_owned(),
        };
        let event = Event {
            type_: if problem {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: failure.map_or_else(|| phase.as_str().to_owned(), |note| note.reason.clone()),
            note: Some(note(&text)),
            action: "Restore".into(),
            secondary: None,
        };
        let object = self.restore.object_ref(&());
        if let Err(error) = self.context.recorder.publish(&event, &object).await {
            tracing::warn!(error = explain(&error), "the event could not be written");
        }
    }
}

/// The Job whose end leads out of a phase.
fn job_of(phase: RestorePhase) -> Option<JobKind> {
    Some(match phase {
        RestorePhase::Preflight => JobKind::Preflight,
        RestorePhase::Preparing => JobKind::Prepare,
        RestorePhase::Switching => JobKind::Switch,
        RestorePhase::Committing => JobKind::Commit,
        RestorePhase::RollingBack => JobKind::Undo,
        RestorePhase::Filling => JobKind::Fill,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "scenario_test.rs"]
mod scenarios;
