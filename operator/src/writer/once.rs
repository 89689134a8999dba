//! Deeds that must not be done twice: what is created, deleted or told once, in an order that others rely on.
//!
//! In: objects as they were read. Out: writes that the API server refuses when the object has changed since. Nothing here
//! is an apply: two programs that both believe to be the operator never undo each other's steps.

use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde_json::json;

use super::{Child, Error, FIELD_MANAGER, Outcome, Writer, encode, kind, request};

impl Writer {
    /// Creates an object. One of its name that exists already is left alone (`Unchanged`).
    ///
    /// # Errors
    /// When the API server refuses or can't be reached.
    pub async fn create_once<K: Child>(
        &self,
        namespace: &str,
        object: &K,
    ) -> Result<Outcome, Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let name = object.name_any();
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        match api.create(&parameters, object).await {
            Ok(_) => {
                tracing::info!(child = kind::<K>(), child_name = name, "created");
                Ok(Outcome::Written)
            }
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                Ok(Outcome::Unchanged)
            }
            Err(error) => Err(request::<K>("create", &name, error)),
        }
    }

    /// Deletes the very object that was read, if it is there still.
    ///
    /// # Errors
    /// When the API server refuses or can't be reached.
    pub async fn delete_exact<K: Child>(&self, object: &K) -> Result<Outcome, Error> {
        let namespace = object.namespace().unwrap_or_default();
        self.delete(&namespace, object, None).await
    }

    /// Writes the status of an object that was read a moment ago, if nobody changed the object since.
    ///
    /// # Errors
    /// When it was changed (409), or the API server refuses or can't be reached.
    pub async fn set_status<K: Child>(
        &self,
        object: &K,
        status: &impl Serialize,
    ) -> Result<(), Error> {
        let name = object.name_any();
        let api: Api<K> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let patch = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {"name": name, "uid": object.uid(), "resourceVersion": object.resource_version()},
            "status": encode::<K, _>(status)?,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        api.patch_status(&name, &parameters, &Patch::Apply(&patch))
            .await
            .map(|_| ())
            .map_err(|error| request::<K>("apply the status of", &name, error))
    }

    /// Replaces the finalizers of an object, if it still is the version that was read.
    ///
    /// # Errors
    /// When it was changed in between (409), or the API server can't be reached.
    pub async fn replace_finalizers<K: Child>(
        &self,
        object: &K,
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
