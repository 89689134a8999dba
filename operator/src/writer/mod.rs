//! Everything that the operator writes to the API server goes through here.
//!
//! In: desired objects and what the caches say about them. Out: server-side applies, status applies, deletions of our
//! own orphans, and finalizers. Before each write the live object is read and compared once more, because a cache may lag
//! behind our own last write; so a steady state has neither writes nor reads. Forbidden here: deleting a claim
//! other than through [`Writer::delete_created_claim`], and deleting and recreating anything.

mod create;
mod digest;
mod error;
mod exact;
mod replace;

use std::fmt::Debug;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::core::NamespaceResourceScope;
use kube::core::object::HasStatus;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use self::digest::digest;
pub use self::error::{Error, category, explain};
use crate::drift;
use crate::stock_predictor::labels;

/// The one field manager of the operator.
pub const FIELD_MANAGER: &str = "stockpredictor-operator";

/// Annotation with a digest of what was applied last. It tells when a field that we set before is not wanted any more:
/// such a field is absent from the desired object, so no comparison of fields would find it.
pub const APPLIED_HASH: &str = "stockpredictor.io/applied-hash";

/// What became of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The live object is what it should be; nothing was written.
    Unchanged,
    /// It was written.
    Written,
}

/// Who a child belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Namespace of owner and child.
    pub namespace: &'a str,
    /// Name of the owner, which the instance label repeats.
    pub name: &'a str,
    /// Uid of the owner.
    pub uid: &'a str,
}

/// Writes for one client.
#[derive(Clone)]
pub struct Writer {
    client: Client,
}

/// What a child has to be able to do.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
}
impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

impl Writer {
    /// A writer that uses `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes the object what it should be, when it isn't. `cached` is what the cache has.
    ///
    /// # Errors
    /// When the API server refuses it or can't be reached, or when the object belongs to somebody else.
    pub async fn apply<K: Child>(
        &self,
        owner: Owner<'_>,
        desired: &K,
        cached: Option<&K>,
    ) -> Result<(Outcome, Option<K>), Error> {
        let document = document(desired)?;
        if let Some(cached) = cached
            && difference(&document, cached)?.is_none()
        {
            return Ok((Outcome::Unchanged, None));
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), owner.namespace);
        let name = desired.name_any();
        let live = api
            .get_opt(&name)
            .await
            .map_err(|e| request::<K>("read", &name, e))?;
        let why = match &live {
            None => "missing".to_owned(),
            Some(live) => {
                if !belongs_to(live, owner) {
                    return Err(Error::NotOurs {
                        kind: kind::<K>(),
                        name,
                    });
                }
                match difference(&document, live)? {
                    None => return Ok((Outcome::Unchanged, Some(live.clone()))),
                    Some(path) => path,
                }
            }
        };
        let claim = kind::<K>() == kind::<PersistentVolumeClaim>();
        let written = match live {
            // Not an apply, which would take over a claim that somebody else made in this moment.
            None if claim => replace::create(&api, &name, &document).await?,
            live => match replace::apply(&api, &name, &document).await {
                Ok(written) => written,
                Err(refused) => match live {
                    Some(live) if !claim && replace::is_invalid(&refused) => {
                        replace::replace(&api, &name, &document, &live, refused).await?
                    }
                    _ => return Err(request::<K>("apply", &name, refused)),
                },
            },
        };
        tracing::info!(
            child = kind::<K>(),
            child_name = name,
            difference = why,
            "applied"
        );
        Ok((Outcome::Written, Some(written)))
    }

    /// Deletes a child that is not wanted any more, if it carries our label and this owner's uid.
    ///
    /// # Errors
    /// When the API server refuses or can't be reached.
    pub async fn delete_orphan<K: Child>(
        &self,
        owner: Owner<'_>,
        orphan: &K,
    ) -> Result<Outcome, Error> {
        if !labels::ours(orphan, owner.name)
            || !owned_by(orphan, owner.uid)
            || orphan.meta().deletion_timestamp.is_some()
        {
            return Ok(Outcome::Unchanged);
        }
        self.delete(owner.namespace, orphan, None).await
    }

    /// Deletes a child that this owner's uid owns, with or without our labels.
    ///
    /// # Errors
    /// When the API server refuses or can't be reached.
    pub async fn delete_owned<K: Child>(
        &self,
        owner: Owner<'_>,
        child: &K,
    ) -> Result<Outcome, Error> {
        if !owned_by(child, owner.uid) || child.meta().deletion_timestamp.is_some() {
            return Ok(Outcome::Unchanged);
        }
        self.delete(owner.namespace, child, None).await
    }

    /// Deletes a claim that the operator created for an object of this name, if it still is the version that was looked
    /// at. The caller has decided that its data goes.
    ///
    /// # Errors
    /// When the API server refuses or can't be reached.
    pub async fn delete_created_claim(
        &self,
        owner: Owner<'_>,
        claim: &PersistentVolumeClaim,
    ) -> Result<Outcome, Error> {
        let created = labels::ours(claim, owner.name)
            && labels::created_by_operator(claim)
            && claim.name_any() == owner.name;
        if !created || claim.meta().deletion_timestamp.is_some() {
            return Ok(Outcome::Unchanged);
        }
        self.delete(owner.namespace, claim, claim.resource_version())
            .await
    }

    async fn delete<K: Child>(
        &self,
        namespace: &str,
        object: &K,
        version: Option<String>,
    ) -> Result<Outcome, Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let name = object.name_any();
        let parameters = DeleteParams {
            // The very object that was looked at, not a new one of the same name.
            preconditions: Some(Preconditions {
                uid: object.uid(),
                resource_version: version,
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match api.delete(&name, &parameters).await {
            Ok(_) => {
                tracing::info!(child = kind::<K>(), child_name = name, "deleted");
                Ok(Outcome::Written)
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Outcome::Unchanged),
            Err(error) => Err(request::<K>("delete", &name, error)),
        }
    }

    /// The object as the API server has it.
    ///
    /// # Errors
    /// When the API server refuses or can't be reached.
    pub async fn read<K: Child>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name)
            .await
            .map_err(|error| request::<K>("read", name, error))
    }

    /// All objects of a kind in a namespace, as the API server has them.
    ///
    /// # Errors
    /// When the API server refuses or can't be reached.
    pub async fn list<K: Child>(&self, namespace: &str) -> Result<Vec<K>, Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let all = api
            .list(&ListParams::default())
            .await
            .map_err(|error| request::<K>("list", "of the namespace", error))?;
        Ok(all.items)
    }

    /// Writes `status` unless the live object has it. Gives the status before, or nothing when nothing was written.
    ///
    /// # Errors
    /// When the API server refuses it or can't be reached.
    pub async fn apply_status<K>(
        &self,
        object: &K,
        status: &K::Status,
    ) -> Result<Option<K::Status>, Error>
    where
        K: Child + HasStatus,
        K::Status: Clone + Default + PartialEq + Serialize,
    {
        let name = object.name_any();
        let api: Api<K> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let live = api
            .get_opt(&name)
            .await
            .map_err(|error| request::<K>("read", &name, error))?;
        let Some(live) =
            live.filter(|live| live.uid() == object.uid() && live.status() != Some(status))
        else {
            return Ok(None);
        };
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name},
            "status": encode::<K, _>(status)?,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match api
            .patch_status(&name, &parameters, &Patch::Apply(&patch))
            .await
        {
            Ok(_) => Ok(Some(live.status().cloned().unwrap_or_default())),
            Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(None),
            Err(error) => Err(request::<K>("apply the status of", &name, error)),
        }
    }

    /// Sets an annotation of an object, if it still is the version that was looked at.
    ///
    /// # Errors
    /// When it was changed in between (409) or is gone (404), or the API server can't be reached.
    pub async fn annotate<K: Child>(
        &self,
        object: &K,
        key: &str,
        value: &str,
    ) -> Result<(), Error> {
        let name = object.name_any();
        let api: Api<K> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let patch = json!({"metadata": {
            "resourceVersion": object.resource_version(), "uid": object.uid(), "annotations": {key: value},
        }});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        api.patch_metadata(&name, &parameters, &Patch::Merge(&patch))
            .await
            .map(drop)
            .map_err(|error| request::<K>("annotate", &name, error))
    }

    /// Replaces the finalizers of an object of kind `K`, readable or not, if it still is the version that was looked at.
    ///
    /// # Errors
    /// When it was changed in between (409), or the API server can't be reached.
    pub async fn set_finalizers<K: Child>(
        &self,
        object: &impl Resource<DynamicType = ()>,
        finalizers: &[String],
    ) -> Result<Outcome, Error> {
        let name = object.name_any();
        let api: Api<K> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let patch = json!({"metadata": {
            "resourceVersion": object.resource_version(), "uid": object.uid(), "finalizers": finalizers,
        }});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        match api
            .patch_metadata(&name, &parameters, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => Ok(Outcome::Written),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Outcome::Unchanged),
            Err(error) => Err(request::<K>("set the finalizers of", &name, error)),
        }
    }
}

/// The document that is applied: the object and a digest of itself.
fn document<K: Child>(desired: &K) -> Result<Value, Error> {
    let mut document = encode::<K, _>(desired)?;
    let hash = digest(&document);
    let metadata = &mut document["metadata"];
    if metadata["annotations"].is_null() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][APPLIED_HASH] = Value::from(hash);
    Ok(document)
}

/// The first owned field that differs. When only the digest does, a field is gone that was applied before.
fn difference<K: Child>(document: &Value, live: &K) -> Result<Option<String>, Error> {
    let live = encode::<K, _>(live)?;
    let Some(path) = drift::first_difference(document, &live) else {
        return Ok(None);
    };
    if !path.ends_with(APPLIED_HASH) {
        return Ok(Some(path));
    }
    let mut fields = document.clone();
    if let Some(annotations) = fields["metadata"]["annotations"].as_object_mut() {
        annotations.remove(APPLIED_HASH);
    }
    Ok(Some(
        drift::first_difference(&fields, &live)
            .unwrap_or_else(|| "a field that is not wanted any more".to_owned()),
    ))
}

fn encode<K: Resource<DynamicType = ()>, T: Serialize>(value: &T) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|source| Error::Encode {
        kind: kind::<K>(),
        source,
    })
}

/// An object is ours when this owner controls it, or when it carries our labels and a former owner of the same name, such
/// as one from before the cluster was restored, or none controls it. Claims never have an owner.
fn belongs_to<K: Child>(live: &K, owner: Owner<'_>) -> bool {
    owned_by(live, owner.uid) || labels::ours(live, owner.name)
}

/// True when the owner with this uid is named in the object.
pub(crate) fn owned_by<K: Resource>(object: &K, uid: &str) -> bool {
    object
        .owner_references()
        .iter()
        .any(|reference| reference.uid == uid)
}

fn kind<K: Resource<DynamicType = ()>>() -> String {
    K::kind(&()).into_owned()
}

/// What was tried, and what came back.
pub(crate) fn request<K: Resource<DynamicType = ()>>(
    verb: &'static str,
    name: &str,
    source: kube::Error,
) -> Error {
    Error::Request {
        verb,
        kind: kind::<K>(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}
