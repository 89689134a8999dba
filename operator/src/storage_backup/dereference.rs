//! Step 1: what is there.
//!
//! In: the object, the caches and, for what they can't know, the API server. Out: [`Observed`]. Nothing is written here,
//! and nothing decided. At rest nothing is asked.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use stockpredictor_api::{StockPredictor, StorageBackup, StorageRestore};

use super::build::cron_name;
use super::runs::{Run, concerns};
use super::validate::Identity;
use crate::controller::{Guarded, cached, in_namespace};
use crate::job::Component;
use crate::job::outcome::{Outcome, is_over, pods_of};
use crate::job::stuck::needs_events;
use crate::stock_predictor::claim::claim_of;
use crate::storage_restore::hold;

/// The caches of this kind.
#[derive(Clone)]
pub struct Caches {
    /// `CronJobs` of backups and restore tests.
    pub cron_jobs: Store<CronJob>,
    /// Their Jobs.
    pub jobs: Store<Job>,
    /// The pods of those.
    pub pods: Store<Pod>,
    /// What is backed up.
    pub predictors: Store<Guarded<StockPredictor>>,
    /// What holds backups back.
    pub restores: Store<Guarded<StorageRestore>>,
}

impl Caches {
    /// Waits until each cache has its first list.
    pub async fn ready(&self) {
        let Self {
            cron_jobs,
            jobs,
            pods,
            predictors,
            restores,
        } = self;
        // An error means that the watch is gone, which happens only when the operator ends.
        let _ = tokio::join!(
            cron_jobs.wait_until_ready(),
            jobs.wait_until_ready(),
            pods.wait_until_ready(),
            predictors.wait_until_ready(),
            restores.wait_until_ready(),
        );
    }
}

/// What is there.
#[derive(Debug, Default)]
pub struct Observed {
    /// What is backed up, if it is there and can be read.
    pub predictor: Option<Arc<Guarded<StockPredictor>>>,
    /// The `CronJob` of backups.
    pub cron: Option<Arc<CronJob>>,
    /// The `CronJob` of restore tests.
    pub test_cron: Option<Arc<CronJob>>,
    /// The runs, oldest end first.
    pub runs: Vec<Run>,
    /// The name of the restore because of which no run may begin.
    pub held: Option<String>,
}

impl Observed {
    /// The predictor, if it can be read.
    pub fn predictor(&self) -> Option<&StockPredictor> {
        self.predictor.as_ref()?.0.as_ref().ok()
    }
}

/// Why it is not known what is there.
#[derive(Debug, thiserror::Error)]
#[error("can't read {what}: {}", crate::writer::explain(source))]
pub struct Error {
    /// What was asked for.
    pub what: &'static str,
    /// What came back.
    #[source]
    pub source: Box<kube::Error>,
}

/// Looks.
///
/// # Errors
/// When pods or Events can't be read that matter now.
pub async fn dereference(
    object: &StorageBackup,
    identity: &Identity,
    caches: &Caches,
    client: &Client,
    now: Timestamp,
) -> Result<Observed, Error> {
    let (name, namespace) = (&identity.name, &identity.namespace);
    let cron = cached(
        &caches.cron_jobs,
        namespace,
        &cron_name(name, Component::Backup),
    );
    let test_cron = cached(
        &caches.cron_jobs,
        namespace,
        &cron_name(name, Component::RestoreTest),
    );
    let mut owners = vec![identity.uid.clone()];
    owners.extend(
        [&cron, &test_cron]
            .into_iter()
            .flatten()
            .filter_map(|cron| cron.uid()),
    );
    let mut jobs = caches.jobs.state_filter(|job| {
        job.metadata.namespace.as_deref() == Some(namespace) && concerns(job, name)
    });
    // The Job that was begun last may not have reached the cache; without it another one would begin beside it.
    let active = object
        .status
        .as_ref()
        .and_then(|status| status.active.as_deref());
    if let Some(active) = active.filter(|active| jobs.iter().all(|job| job.name_any() != **active))
    {
        let live = live_job(namespace, active, client).await?;
        jobs.extend(live.filter(|job| concerns(job, name)));
    }
    let pods = caches
        .pods
        .state_filter(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
    let mut runs = Vec::new();
    for job in jobs {
        runs.push(look(object, job, &pods, &owners, client, now).await?);
    }
    runs.sort_by_key(Run::key);
    let predictor = cached(
        &caches.predictors,
        namespace,
        &object.spec.predictor_ref.name,
    );
    let restores = in_namespace(&caches.restores, namespace);
    let saves = &object.spec.predictor_ref.name;
    let uses = predictor
        .as_deref()
        .and_then(|predictor| predictor.0.as_ref().ok())
        .map_or_else(|| saves.clone(), claim_of);
    let held = hold::backups_held(
        restores
            .iter()
            .filter_map(|restore| restore.0.as_ref().ok()),
        hold::User {
            predictor: saves,
            claim: &uses,
        },
    );
    Ok(Observed {
        predictor,
        cron,
        test_cron,
        runs,
        held,
    })
}

/// One run, with what the caches don't tell of it.
async fn look(
    object: &StorageBackup,
    job: Arc<Job>,
    pods: &[Arc<Pod>],
    owners: &[String],
    client: &Client,
    now: Timestamp,
) -> Result<Run, Error> {
    let own = pods_of(&job, pods);
    let events = if is_over(&job) || !needs_events(&job, &own, now) {
        Vec::new()
    } else {
        events(&job, &own, client).await?
    };
    let run = Run::read(job.clone(), &own, &events, owners, now);
    let status = object.status.as_ref();
    let last = status.and_then(|status| {
        if run.tests() {
            status.last_test.as_ref()
        } else {
            status.last_run.as_ref()
        }
    });
    // The cache of pods may lag behind that of Jobs. What a run reports is written down once, so it is asked for again.
    if run.is_news(last) && !reported(&run.outcome) {
        let own = pods_of(&job, &live_pods(&job, client).await?);
        return Ok(Run::read(job, &own, &[], owners, now));
    }
    Ok(run)
}

fn reported(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Succeeded(message) => message.is_some(),
        Outcome::Failed(failed) => failed.report.is_some(),
        _ => true,
    }
}

async fn live_job(namespace: &str, name: &str, client: &Client) -> Result<Option<Arc<Job>>, Error> {
    let api: Api<Job> = Api::namespaced(client.clone(), namespace);
    let job = api.get_opt(name).await.map_err(|source| Error {
        what: "the Job that runs",
        source: Box::new(source),
    })?;
    Ok(job.map(Arc::new))
}

async fn live_pods(job: &Job, client: &Client) -> Result<Vec<Arc<Pod>>, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &job.namespace().unwrap_or_default());
    let selector = format!("batch.kubernetes.io/job-name={}", job.name_any());
    let pods = api.list(&ListParams::default().labels(&selector)).await;
    let pods = pods.map_err(|source| Error {
        what: "the pods of a Job",
        source: Box::new(source),
    })?;
    Ok(pods.items.into_iter().map(Arc::new).collect())
}

/// The Events about a Job and its pods that haven't ended.
async fn events(job: &Job, pods: &[Arc<Pod>], client: &Client) -> Result<Vec<Event>, Error> {
    let api: Api<Event> = Api::namespaced(client.clone(), &job.namespace().unwrap_or_default());
    let uid = pods
        .last()
        .map_or_else(|| job.uid(), |pod| pod.uid())
        .unwrap_or_default();
    let selector = format!("involvedObject.uid={uid}");
    match api
        .list(&ListParams::default().fields(&selector).limit(50))
        .await
    {
        Ok(events) => Ok(events.items),
        // What is known without them is told all the same.
        Err(error) => {
            tracing::debug!(%error, "the Events of a Job can't be read");
            Ok(Vec::new())
        }
    }
}
