//! The end of an object: what becomes of its claim.
//!
//! In: an object that is being deleted, or whose deletion policy changed. Out: a finalizer where the claim goes with the
//! object, and at the end that claim deleted, and only that. Everything else is garbage-collected by its owner
//! reference. Caches may lag, so whatever leads to a deletion is read from the API server first. A claim is deleted only
//! when the operator created it, the object still says so, and nobody else uses it; in doubt it stays.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::runtime::events::{Event, EventType};
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use stockpredictor_api::condition::{ConditionType, Reason};
use stockpredictor_api::{DeletionPolicy, StockPredictor};

use super::conditions::{Finding, State};
use super::needed::{needed, remove_finished_jobs};
use super::{Context, bootstrap, claim, labels, status, update_status};
use crate::clock;
use crate::writer::{self, Child, Error, Outcome, Owner, Writer};

/// The finalizer of Kubernetes on an object whose children are to outlive it.
const ORPHAN: &str = "orphan";
/// As many names are told; of more, only how many.
const NAMES: usize = 5;

/// What is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing; the API server does the rest.
    Done,
    /// Pods still hold the volume.
    WaitsForPods,
}

/// What follows from what was found.
enum Verdict {
    /// The object may go.
    Release,
    /// The object may go, and its claim stays although the policy is `Delete`, because of this.
    Keep(String),
    /// These pods have to end first.
    Wait(Vec<String>),
}

/// The finalizers that the object should have, when they aren't what it has.
pub fn wanted_finalizers(object: &StockPredictor) -> Option<Vec<String>> {
    let wants = claim_goes(object);
    if held(object) == wants {
        return None;
    }
    let mut names = others(object);
    if wants {
        names.push(labels::CLAIM_FINALIZER.to_owned());
    }
    Some(names)
}

/// Brings the finalizer in line with the deletion policy of an object that lives.
///
/// # Errors
/// When it can't be written, such as because the object changed in between.
pub async fn sync_finalizer(writer: &Writer, object: &StockPredictor) -> Result<(), Error> {
    if let Some(finalizers) = wanted_finalizers(object) {
        writer
            .set_finalizers::<StockPredictor>(object, &finalizers)
            .await?;
    }
    Ok(())
}

/// Lets go of an object that can't be read and is being deleted: what it says about its claim is not known, so the claim
/// stays. Unchanged when there is nothing to let go.
///
/// # Errors
/// When it can't be written.
pub async fn release_unreadable<K>(writer: &Writer, object: &K) -> Result<Outcome, Error>
where
    K: Resource<DynamicType = ()>,
{
    if object.meta().deletion_timestamp.is_none() || !held(object) {
        return Ok(Outcome::Unchanged);
    }
    tracing::warn!("the object can't be read and is being deleted: its claim stays");
    writer
        .set_finalizers::<StockPredictor>(object, &others(object))
        .await
}

/// Ends an object that is being deleted.
///
/// # Errors
/// When something can't be read or written; it is tried again.
pub async fn finalize(context: &Context, object: &StockPredictor) -> Result<Progress, Error> {
    if !held(object) {
        return Ok(Progress::Done);
    }
    let Some(mut live) = still(&context.writer, object).await? else {
        return Ok(Progress::Done);
    };
    let verdict = end(context, &mut live).await?;
    if let Verdict::Wait(pods) = verdict {
        tell_waiting(&context.writer, &live, &pods).await?;
        return Ok(Progress::WaitsForPods);
    }
    context
        .writer
        .set_finalizers::<StockPredictor>(&live, &others(&live))
        .await?;
    if let Verdict::Keep(why) = verdict {
        tell_kept(context, &live, &why).await;
    }
    Ok(Progress::Done)
}

/// Does what may be done now. `live` becomes newer when it is read once more.
async fn end(context: &Context, live: &mut StockPredictor) -> Result<Verdict, Error> {
    let (writer, caches) = (&context.writer, &context.caches);
    if !takes_claim(live) {
        return Ok(Verdict::Release);
    }
    let (name, namespace, uid) = (
        live.name_any(),
        live.namespace().unwrap_or_default(),
        live.uid().unwrap_or_default(),
    );
    let owner = Owner {
        namespace: &namespace,
        name: &name,
        uid: &uid,
    };
    // The owner references go before the finalizer `orphan` does, so that one who comes late still sees it.
    let deployment = writer.read::<Deployment>(&namespace, &name).await?;
    let settings = writer.read::<ConfigMap>(&namespace, &name).await?;
    if abandoned(deployment.as_ref(), owner) || abandoned(settings.as_ref(), owner) {
        return Ok(Verdict::Keep(
            "its children have no owner any more, as after `kubectl delete --cascade=orphan`"
                .into(),
        ));
    }
    // While a finalizer holds the object, nobody else takes its pods away.
    if let Some(deployment) = deployment {
        writer.delete_owned(owner, &deployment).await?;
    }
    Box::pin(bootstrap::end(writer, live)).await?;
    let left = own_pods(&caches.pods, &namespace, &name);
    if !left.is_empty() {
        return Ok(Verdict::Wait(left));
    }
    let pods = writer.list::<Pod>(&namespace).await?;
    let left = names(pods.iter().filter(|pod| labels::ours(*pod, &name)));
    if !left.is_empty() {
        return Ok(Verdict::Wait(left));
    }
    let users = names(pods.iter().filter(|pod| uses(pod, &name)));
    if !users.is_empty() {
        return Ok(Verdict::Keep(format!("used by pods: {}", some(&users))));
    }
    let users = users_of(context, owner).await?;
    if !users.is_empty() {
        return Ok(Verdict::Keep(format!(
            "named in spec.storage.existingClaim of: {}",
            some(&users)
        )));
    }
    let Some(found) = writer
        .read::<PersistentVolumeClaim>(&namespace, &name)
        .await?
    else {
        return Ok(Verdict::Release);
    };
    if let Some(why) = needed(writer, &namespace, live, &found).await? {
        return Ok(Verdict::Keep(why));
    }
    if !claim::deletable(&found, &name) {
        return Ok(Verdict::Keep("the operator did not create it".into()));
    }
    // Last, because its owner may have changed his mind meanwhile.
    let Some(newest) = still(writer, live).await? else {
        return Ok(Verdict::Release);
    };
    *live = newest;
    if takes_claim(live) {
        writer.delete_created_claim(owner, &found).await?;
        remove_finished_jobs(writer, &namespace, &name).await?;
    }
    Ok(Verdict::Release)
}

/// The object as the API server has it, if it is the same one and still waits for us.
async fn still(writer: &Writer, object: &StockPredictor) -> Result<Option<StockPredictor>, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let live = writer
        .read::<StockPredictor>(&namespace, &object.name_any())
        .await?;
    Ok(live.filter(|live| {
        live.uid() == object.uid() && live.metadata.deletion_timestamp.is_some() && held(live)
    }))
}

/// The other objects of the namespace that use the claim of `owner`, also those that can't be read.
async fn users_of(context: &Context, owner: Owner<'_>) -> Result<Vec<String>, Error> {
    let kind = ApiResource::erase::<StockPredictor>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), owner.namespace, &kind);
    let all = api
        .list(&ListParams::default())
        .await
        .map_err(|error| writer::request::<StockPredictor>("list", "of the namespace", error))?;
    Ok(names(all.iter().filter(|object| {
        object.uid().as_deref() != Some(owner.uid)
            && object.data["spec"]["storage"]["existingClaim"] == owner.name
    })))
}

/// Says once that the object waits, and for whom.
async fn tell_waiting(
    writer: &Writer,
    live: &StockPredictor,
    pods: &[String],
) -> Result<(), Error> {
    let ready = Finding {
        kind: ConditionType::Ready,
        state: State::False,
        reason: Reason::Progressing,
        message: format!(
            "being deleted; its claim goes once these pods have ended: {}",
            some(pods)
        ),
    };
    let mut document = live.status.clone().unwrap_or_default();
    let generation = live.metadata.generation.unwrap_or_default();
    let ready = status::conditions(&[ready], &document.conditions, generation, &clock::now());
    document
        .conditions
        .retain(|condition| condition.type_ != ConditionType::Ready.as_str());
    document.conditions.splice(0..0, ready);
    if live.status.as_ref() != Some(&document) {
        writer.apply_status(live, &document).await?;
    }
    Ok(())
}

async fn tell_kept(context: &Context, live: &StockPredictor, why: &str) {
    let name = live.name_any();
    tracing::warn!(claim = name, why, "the claim stays");
    let event = Event {
        type_: EventType::Warning,
        reason: "ClaimKept".into(),
        note: Some(update_status::note(&format!(
            "PersistentVolumeClaim {name} stays: {why}; delete it yourself once nobody needs its data"
        ))),
        action: "Finalize".into(),
        secondary: None,
    };
    update_status::publish(&context.recorder, live, &event).await;
}

/// True while our finalizer holds the object.
fn held<K: Resource>(object: &K) -> bool {
    object
        .finalizers()
        .iter()
        .any(|name| name == labels::CLAIM_FINALIZER)
}

/// The finalizers of the object but ours.
fn others<K: Resource>(object: &K) -> Vec<String> {
    let names = object.finalizers().iter();
    names
        .filter(|name| *name != labels::CLAIM_FINALIZER)
        .cloned()
        .collect()
}

/// True when the claim should go with the object.
fn claim_goes(object: &StockPredictor) -> bool {
    let storage = &object.spec.storage;
    storage.deletion_policy == DeletionPolicy::Delete && storage.existing_claim.is_none()
}

/// True when the claim of an object that is being deleted goes: not when its children are to outlive it.
fn takes_claim(object: &StockPredictor) -> bool {
    claim_goes(object) && !object.finalizers().iter().any(|name| name == ORPHAN)
}

/// True when the child is of our making, but the object isn't its owner any more.
fn abandoned<K: Child>(child: Option<&K>, owner: Owner<'_>) -> bool {
    child
        .is_some_and(|child| labels::ours(child, owner.name) && !writer::owned_by(child, owner.uid))
}

/// The pods of the predictor that exist, even those that are ending.
fn own_pods(store: &Store<Pod>, namespace: &str, name: &str) -> Vec<String> {
    let pods = store.state_filter(|pod| {
        pod.metadata.namespace.as_deref() == Some(namespace) && labels::ours(pod, name)
    });
    names(pods.iter().map(AsRef::as_ref))
}

/// True when the pod is marked as one of the claim or mounts it, and hasn't ended.
fn uses(pod: &Pod, claim: &str) -> bool {
    let marked = pod
        .labels()
        .get(labels::CLAIM_LABEL)
        .is_some_and(|value| *value == labels::claim_value(claim));
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let ended = matches!(phase, Some("Succeeded" | "Failed"));
    let mut volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let mounted = volumes.any(|volume| {
        volume
            .persistent_volume_claim
            .as_ref()
            .is_some_and(|source| source.claim_name == claim)
    });
    (marked || mounted) && !ended
}

fn names<'a, K: Resource + 'a>(objects: impl Iterator<Item = &'a K>) -> Vec<String> {
    let mut names: Vec<String> = objects.map(ResourceExt::name_any).collect();
    names.sort();
    names
}

/// The first names, and how many more there are.
fn some(names: &[String]) -> String {
    let told = names[..names.len().min(NAMES)].join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock_predictor::fixture;
    use rstest::rstest;
    use serde_json::{Value, json};

    const OURS: &str = labels::CLAIM_FINALIZER;

    #[rstest]
    #[case::retain(json!({}), &[], None)]
    #[case::delete(json!({"storage": {"deletionPolicy": "Delete"}}), &[], Some(vec![OURS]))]
    #[case::delete_beside_others(json!({"storage": {"deletionPolicy": "Delete"}}), &["other/one"], Some(vec!["other/one", OURS]))]
    #[case::delete_again(json!({"storage": {"deletionPolicy": "Delete"}}), &[OURS], None)]
    #[case::back_to_retain(json!({}), &["other/one", OURS], Some(vec!["other/one"]))]
    #[case::never_for_the_users_claim(
        json!({"storage": {"deletionPolicy": "Delete", "size": null, "existingClaim": "mine"}}), &[OURS], Some(vec![]))]
    fn the_finalizer_follows_the_policy(
        #[case] spec: Value,
        #[case] has: &[&str],
        #[case] wanted: Option<Vec<&str>>,
    ) {
        let mut object = fixture::predictor(&spec);
        object.metadata.finalizers = Some(has.iter().map(|name| (*name).to_owned()).collect());
        let wanted = wanted.map(|names| names.into_iter().map(str::to_owned).collect());
        assert_eq!(wanted_finalizers(&object), wanted);
    }
}
