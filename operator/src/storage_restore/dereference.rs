//! Step 1: what is there.
//!
//! In: a restore that is under way. Out: [`Observed`]. Everything is read from the API server and not from a cache: a
//! restore is rare and short, and a step that rests on what was true a moment ago could be one too many. Nothing is written
//! here, and nothing decided.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use stockpredictor_api::{
    RestorePhase, RestoreSource, StockPredictor, StorageBackup, StorageRestore,
};

use super::hold;
use super::source::Stored;
use crate::job::{self, Component};
use crate::stock_predictor::claim::claim_of;
use crate::stock_predictor::{pods, stats};
use crate::writer::{self, Error, Writer};

/// What is there.
#[derive(Debug, Default)]
pub struct Observed {
    /// The predictor that is restored in place.
    pub predictor: Option<StockPredictor>,
    /// Its Deployment.
    pub deployment: Option<Deployment>,
    /// The other predictors that use the claim, and their Deployments.
    pub twins: Vec<Twin>,
    /// The claim that is restored, or that is to be made.
    pub claim: Option<PersistentVolumeClaim>,
    /// The `StorageBackup` that the source names.
    pub backup: Option<Stored>,
    /// The restore's Jobs.
    pub jobs: Vec<Job>,
    /// Every pod of the namespace.
    pub pods: Vec<Arc<Pod>>,
    /// The other restores of the namespace; only those that may come first are of interest, so only before the beginning.
    pub others: Vec<StorageRestore>,
    /// The predictors of the namespace that can be read. Their claims tell who uses one volume.
    pub predictors: Vec<StockPredictor>,
    /// The free space that a running predictor reports; only for a volume that the checks can't mount.
    pub free_bytes: Option<i64>,
}

/// Another predictor that uses the claim.
#[derive(Debug)]
pub struct Twin {
    /// It.
    pub predictor: StockPredictor,
    /// Its Deployment.
    pub deployment: Option<Deployment>,
}

impl Observed {
    /// The claim that another restore of the namespace works on: as it noted it, else that of its predictor.
    pub fn claim_of(&self, restore: &StorageRestore) -> Option<String> {
        let noted = restore
            .status
            .as_ref()
            .and_then(|status| status.target.as_ref()?.claim_name.clone());
        let name = hold::predictor_of(restore)?;
        noted.or_else(|| {
            let found = self
                .predictors
                .iter()
                .find(|predictor| predictor.name_any() == name);
            Some(found.map_or_else(|| name.to_owned(), claim_of))
        })
    }
}

/// Looks.
///
/// # Errors
/// When the API server refuses or can't be reached.
pub async fn dereference(
    restore: &StorageRestore,
    client: &Client,
    writer: &Writer,
    poller: &stats::Poller,
) -> Result<Observed, Error> {
    let namespace = restore.namespace().unwrap_or_default();
    let mut observed = Observed {
        jobs: jobs(restore, client, &namespace).await?,
        backup: stored(&restore.spec.source, writer, &namespace).await?,
        ..Observed::default()
    };
    let pods = writer.list::<Pod>(&namespace).await?;
    observed.pods = pods.into_iter().map(Arc::new).collect();
    let mut claim = restore
        .spec
        .target
        .new_claim
        .as_ref()
        .map(|claim| claim.name.clone());
    if let Some(name) = hold::predictor_of(restore) {
        observed.predictor = writer.read::<StockPredictor>(&namespace, name).await?;
        observed.deployment = writer.read::<Deployment>(&namespace, name).await?;
        let pinned = restore
            .status
            .as_ref()
            .and_then(|status| status.target.as_ref()?.claim_name.clone());
        claim = pinned.or_else(|| observed.predictor.as_ref().map(claim_of));
    }
    if let Some(name) = claim {
        observed.claim = writer
            .read::<PersistentVolumeClaim>(&namespace, &name)
            .await?;
    }
    let phase = restore.status.as_ref().and_then(|status| status.phase);
    if phase.unwrap_or_default() == RestorePhase::Pending {
        observed.others = writer.list::<StorageRestore>(&namespace).await?;
        observed.predictors = readable(client, &namespace).await?;
    } else if restore.spec.target.in_place.is_some() {
        observed.predictors = readable(client, &namespace).await?;
        observed.twins = twins(restore, &observed.predictors, writer).await?;
    }
    if observed.predictor.as_ref().is_some_and(one_pod) && phase == Some(RestorePhase::Preflight) {
        observed.free_bytes = free_bytes(&observed, poller).await;
    }
    Ok(observed)
}

/// The predictors of a namespace. One that can't be read, such as by an older operator, must not keep others from being
/// restored; its pods are seen all the same.
async fn readable(client: &Client, namespace: &str) -> Result<Vec<StockPredictor>, Error> {
    let kind = ApiResource::erase::<StockPredictor>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let all = api
        .list(&ListParams::default())
        .await
        .map_err(|error| writer::request::<StockPredictor>("list", "of the namespace", error))?;
    Ok(all
        .into_iter()
        .filter_map(|object| object.try_parse().ok())
        .collect())
}

async fn twins(
    restore: &StorageRestore,
    predictors: &[StockPredictor],
    writer: &Writer,
) -> Result<Vec<Twin>, Error> {
    let mut twins = Vec::new();
    for predictor in predictors {
        let name = predictor.name_any();
        if hold::predictor_of(restore) == Some(&name)
            || hold::claim_of(restore) != Some(&claim_of(predictor))
            || predictor.metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        let namespace = predictor.namespace().unwrap_or_default();
        twins.push(Twin {
            deployment: writer.read::<Deployment>(&namespace, &name).await?,
            predictor: predictor.clone(),
        });
    }
    Ok(twins)
}

/// True when the predictor's volume is for one pod.
pub fn one_pod(predictor: &StockPredictor) -> bool {
    predictor.spec.storage.access_mode == stockpredictor_api::AccessMode::ReadWriteOncePod
}

async fn jobs(
    restore: &StorageRestore,
    client: &Client,
    namespace: &str,
) -> Result<Vec<Job>, Error> {
    let api: Api<Job> = Api::namespaced(client.clone(), namespace);
    let labels = job::labels(&restore.name_any(), Component::Restore);
    let selector: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let found = api
        .list(&ListParams::default().labels(&selector.join(",")))
        .await
        .map_err(|error| writer::request::<Job>("list", "of the restore", error))?;
    let uid = restore.uid().unwrap_or_default();
    // Those of a former restore of this name go by themselves.
    let own = found
        .items
        .into_iter()
        .filter(|job| writer::owned_by(job, &uid));
    Ok(own.collect())
}

/// The `StorageBackup` that a source names, if it names one that is there.
///
/// # Errors
/// When the API server refuses or can't be reached.
pub async fn stored(
    source: &RestoreSource,
    writer: &Writer,
    namespace: &str,
) -> Result<Option<Stored>, Error> {
    let Some(reference) = &source.storage_backup_ref else {
        return Ok(None);
    };
    let backup = writer
        .read::<StorageBackup>(namespace, &reference.name)
        .await?;
    let Some(backup) = backup else {
        return Ok(None);
    };
    let mut claim = None;
    if backup
        .spec
        .destinations
        .iter()
        .any(|destination| destination.volume.is_some())
    {
        let name = &backup.spec.predictor_ref.name;
        let predictor = writer.read::<StockPredictor>(namespace, name).await?;
        claim = predictor.as_ref().map(claim_of);
    }
    Ok(Some(Stored { backup, claim }))
}

/// What a running predictor says of the space on its volume.
async fn free_bytes(observed: &Observed, poller: &stats::Poller) -> Option<i64> {
    let name = observed.predictor.as_ref()?.name_any();
    let running = observed.pods.iter().filter(|pod| {
        crate::stock_predictor::labels::ours(pod.as_ref(), &name) && pods::serves(pod)
    });
    for pod in running {
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let Some(ip) = ip else { continue };
        if let Ok(stats) = poller.ask(&stats::address(&ip)).await {
            let volume = stats.volume;
            let free = volume.capacity_bytes.zip(volume.used_bytes);
            return free
                .and_then(|(capacity, used)| i64::try_from(capacity.saturating_sub(used)).ok());
        }
    }
    None
}
