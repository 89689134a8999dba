//! Step 1: what is there.
//!
//! In: the object, the caches and, for what they can't know, the API server and the predictor's pods. Out: [`Observed`].
//! Nothing is written here, and nothing decided.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt};
use stockpredictor_api::{StockPredictor, StorageRestore};

use super::bootstrap;
use super::claim::{self, claim_of};
use super::labels;
use super::pods;
use super::stats::{self, Poller, Stats};
use crate::controller::{Guarded, cached, in_namespace};
use crate::metrics::Metrics;
use crate::storage_restore::hold::{self, Hold};
use crate::writer::{self, Error};

/// How many predictors of one object are asked at once, and at most.
const PARALLEL: usize = 16;

/// The caches of all children.
#[derive(Clone)]
pub struct Caches {
    /// `ServiceAccounts`.
    pub service_accounts: Store<ServiceAccount>,
    /// `ConfigMaps`.
    pub config_maps: Store<ConfigMap>,
    /// Claims with our labels.
    pub claims: Store<PersistentVolumeClaim>,
    /// Deployments.
    pub deployments: Store<Deployment>,
    /// Services.
    pub services: Store<Service>,
    /// `NetworkPolicies`.
    pub network_policies: Store<NetworkPolicy>,
    /// `PodDisruptionBudgets`.
    pub budgets: Store<PodDisruptionBudget>,
    /// Pods.
    pub pods: Store<Pod>,
    /// Restores, of which one may hold the predictor.
    pub restores: Store<Guarded<StorageRestore>>,
}

impl Caches {
    /// Waits until each cache has its first list.
    pub async fn ready(&self) {
        let Self {
            service_accounts,
            config_maps,
            claims,
            deployments,
            services,
            network_policies,
            budgets,
            pods,
            restores,
        } = self;
        // An error means that the watch is gone, which happens only when the operator ends.
        let _ = tokio::join!(
            service_accounts.wait_until_ready(),
            config_maps.wait_until_ready(),
            claims.wait_until_ready(),
            deployments.wait_until_ready(),
            services.wait_until_ready(),
            network_policies.wait_until_ready(),
            budgets.wait_until_ready(),
            pods.wait_until_ready(),
            restores.wait_until_ready(),
        );
    }
}

/// What one pod said.
#[derive(Debug)]
pub struct Answer {
    /// The pod.
    pub pod: String,
    /// Its stats, or why there are none.
    pub stats: Result<Stats, stats::Error>,
}

/// What is there.
#[derive(Debug, Default)]
pub struct Observed {
    /// The cached child.
    pub service_account: Option<Arc<ServiceAccount>>,
    /// The cached child.
    pub config_map: Option<Arc<ConfigMap>>,
    /// The claim, whoever made it.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// Whether the claim's class can grow volumes; nothing when it wasn't asked, or can't be known.
    pub expandable: Option<bool>,
    /// The cached child.
    pub deployment: Option<Arc<Deployment>>,
    /// The cached child.
    pub service: Option<Arc<Service>>,
    /// The cached child.
    pub network_policy: Option<Arc<NetworkPolicy>>,
    /// The cached child.
    pub budget: Option<Arc<PodDisruptionBudget>>,
    /// The pods that aren't being deleted, by name.
    pub pods: Vec<Arc<Pod>>,
    /// What those said whose predictor runs.
    pub answers: Vec<Answer>,
    /// The restore that the predictor is stopped for.
    pub hold: Option<Hold>,
    /// What is seen of the filling of a new volume.
    pub filling: bootstrap::Seen,
}

/// Looks.
///
/// # Errors
/// When something can't be read.
pub async fn dereference(
    object: &StockPredictor,
    caches: &Caches,
    client: &Client,
    poller: &Poller,
    metrics: &Metrics,
) -> Result<Observed, Error> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let claim = find_claim(object, caches, client).await?;
    let expandable = match (&claim, &object.spec.storage.size) {
        (Some(claim), Some(size)) if claim::wants_growth(&size.0, claim) => {
            expandable(claim, client).await
        }
        _ => None,
    };
    let pods = pods_of(&caches.pods, &namespace, &name);
    let answers = ask(&pods, poller, metrics).await;
    let deployment = cached(&caches.deployments, &namespace, &name);
    let restores = in_namespace(&caches.restores, &namespace);
    let present = deployment
        .as_deref()
        .and_then(|deployment| deployment.annotations().get(labels::HELD_BY));
    let uses = claim_of(object);
    let hold = hold::holder(
        restores
            .iter()
            .filter_map(|restore| restore.0.as_ref().ok()),
        hold::User {
            predictor: &name,
            claim: &uses,
        },
        object.spec.storage.access_mode,
        present.map(String::as_str),
    );
    let filling = bootstrap::dereference(object, claim.as_deref(), client).await?;
    Ok(Observed {
        hold,
        filling,
        service_account: cached(&caches.service_accounts, &namespace, &name),
        config_map: cached(&caches.config_maps, &namespace, &name),
        claim,
        expandable,
        deployment,
        service: cached(&caches.services, &namespace, &name),
        network_policy: cached(&caches.network_policies, &namespace, &name),
        budget: cached(&caches.budgets, &namespace, &name),
        pods,
        answers,
    })
}

/// The claim: our own from the cache, any other (the user's, or one in the way of ours) from the API server.
pub async fn find_claim(
    object: &StockPredictor,
    caches: &Caches,
    client: &Client,
) -> Result<Option<Arc<PersistentVolumeClaim>>, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let name = claim_of(object);
    if let Some(claim) = cached(&caches.claims, &namespace, &name) {
        return Ok(Some(claim));
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    match claims.get_opt(&name).await {
        Ok(claim) => Ok(claim.map(Arc::new)),
        Err(source) => Err(writer::request::<PersistentVolumeClaim>(
            "read", &name, source,
        )),
    }
}

/// The pods of a predictor that aren't being deleted.
pub fn pods_of(store: &Store<Pod>, namespace: &str, name: &str) -> Vec<Arc<Pod>> {
    let mut pods = store.state_filter(|pod| {
        pod.metadata.namespace.as_deref() == Some(namespace)
            && pod.metadata.deletion_timestamp.is_none()
            && labels::ours(pod, name)
    });
    pods.sort_by_key(|pod| pod.name_any());
    pods
}

/// Whether the class of `claim` grows volumes. Classes are of the whole cluster: an operator that may only see some
/// namespaces can't know, and then the API server tells when it is tried.
async fn expandable(claim: &PersistentVolumeClaim, client: &Client) -> Option<bool> {
    let class = claim::class(claim);
    if class.is_empty() {
        return Some(false);
    }
    let classes: Api<StorageClass> = Api::all(client.clone());
    match classes.get_opt(&class).await {
        Ok(Some(class)) => Some(class.allow_volume_expansion.unwrap_or(false)),
        Ok(None) => Some(false),
        Err(error) => {
            tracing::debug!(class, %error, "the storage class can't be read");
            None
        }
    }
}

async fn ask(pods: &[Arc<Pod>], poller: &Poller, metrics: &Metrics) -> Vec<Answer> {
    let running = pods.iter().filter(|pod| pods::serves(pod)).take(PARALLEL);
    let requests =
        running.filter_map(|pod| Some((pod.name_any(), pod.status.as_ref()?.pod_ip.clone()?)));
    let answers = join_all(requests.map(|(pod, ip)| async move {
        let stats = poller.ask(&stats::address(&ip)).await;
        metrics.stats_poll("StockPredictor", stats.is_ok());
        if let Err(error) = &stats {
            tracing::debug!(pod, %error, "no stats");
        }
        Answer { pod, stats }
    }));
    answers.await
}
