//! Deeds whose order others rely on: what is deleted, or told, on the ground of what was read a moment ago.
//!
//! In: objects as they were read. Out: writes that the API server refuses when the object has changed since. Nothing here
//! is an apply: two programs that both believe to be the operator never undo each other's steps.

use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde::Serialize;
use serde_json::json;

use super::{Child, Error, FIELD_MANAGER, Outcome, Writer, encode, request};

impl Writer {
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
}
