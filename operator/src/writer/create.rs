//! Objects that are made once and never changed, such as Jobs.
//!
//! In: the desired object, whose name is the same for the same deed. Out: the object as the API server has it, made now or
//! before; so a pass that is repeated, or one with a stale cache, never makes a second one.

use kube::ResourceExt;
use kube::api::{Api, PostParams};

use super::{Child, Error, FIELD_MANAGER, Outcome, Owner, Writer, belongs_to, kind, request};

impl Writer {
    /// Creates the object, or gives the one of its name that this owner has already.
    ///
    /// # Errors
    /// When the API server refuses or can't be reached, or when the name is taken by somebody else's.
    pub async fn create_once<K: Child>(
        &self,
        owner: Owner<'_>,
        desired: &K,
    ) -> Result<(Outcome, K), Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), owner.namespace);
        let name = desired.name_any();
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let refused = match api.create(&parameters, desired).await {
            Ok(created) => {
                tracing::info!(child = kind::<K>(), child_name = name, "created");
                return Ok((Outcome::Written, created));
            }
            Err(kube::Error::Api(status)) if status.code == 409 => status,
            Err(error) => return Err(request::<K>("create", &name, error)),
        };
        match self.read::<K>(owner.namespace, &name).await? {
            Some(live) if belongs_to(&live, owner) => Ok((Outcome::Unchanged, live)),
            Some(_) => Err(Error::NotOurs {
                kind: kind::<K>(),
                name,
            }),
            // It went in this moment; the next pass makes it.
            None => Err(request::<K>("create", &name, kube::Error::Api(refused))),
        }
    }
}
