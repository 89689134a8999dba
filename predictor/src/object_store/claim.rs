//! The object that reserves a name: `STEM.claim`, created by one writer only.
//!
//! In come a name and the id of the upload that it is for; out comes a claim that lives as long as its writer refreshes
//! it. A dead writer's claim is recognised by its age, and its upload is ended, so that its parts cost nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use stockpredictor_storage::archive::name::ArchiveName;

use super::{Store, explain};

/// How the name of a claim ends.
const END: &str = ".claim";
/// How often a living writer refreshes its claim.
pub const REFRESH: Duration = Duration::from_mins(10);
/// How old a dead writer's claim is; clocks may differ by the rest.
const EXPIRY_SECONDS: i64 = 60 * 60;
/// Longest claim that is read, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// What is in the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// When it was made or refreshed.
    pub time: Timestamp,
    /// The archive that is written.
    pub name: ArchiveName,
    /// The multipart upload; it also tells two writers apart.
    pub upload: String,
}

impl Claim {
    /// Reserves the name; whether it was free.
    pub async fn create(&self, store: &Store) -> io::Result<bool> {
        store.create(&object(self.name), self.bytes()?).await
    }

    /// Tells others that the writer lives.
    pub async fn refresh(&self, store: &Store) -> io::Result<()> {
        if !self.is_held(store).await? {
            return Err(lost());
        }
        let claim = Self {
            time: Timestamp::now(),
            ..self.clone()
        };
        let key = store.key(&object(self.name))?;
        let put = store.clients.objects.put(&key, claim.bytes()?.into()).await;
        put.map(|_| ()).map_err(explain::error)
    }

    /// Fails if somebody took the writer for dead.
    pub async fn check(&self, store: &Store) -> io::Result<()> {
        if self.is_held(store).await? {
            Ok(())
        } else {
            Err(lost())
        }
    }

    /// Gives the name back, unless another has it by now.
    pub async fn release(&self, store: &Store) -> io::Result<()> {
        if self.is_held(store).await? {
            store.delete(&object(self.name)).await?;
        }
        Ok(())
    }

    async fn is_held(&self, store: &Store) -> io::Result<bool> {
        let found = store.read(&object(self.name), MAX_BYTES).await?;
        let found = found.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        Ok(found.is_some_and(|found| found.upload == self.upload))
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

/// Refreshes a claim until the task is ended. A failure is told when the upload is finished.
pub async fn keep_alive(claim: Claim, store: Arc<Store>) {
    loop {
        tokio::time::sleep(REFRESH).await;
        if claim.refresh(&store).await.is_err() {
            tracing::warn!(name = %claim.name, "the claim of an upload can't be refreshed");
        }
    }
}

/// Ends the uploads of dead writers and removes their claims.
pub async fn remove_expired(store: &Store, now: Timestamp) -> io::Result<()> {
    for entry in store.entries().await? {
        if !entry.item.name.ends_with(END) || now.as_second() - entry.modified < EXPIRY_SECONDS {
            continue;
        }
        let Some(bytes) = store.read(&entry.item.name, MAX_BYTES).await? else {
            continue;
        };
        if let Ok(claim) = serde_json::from_slice::<Claim>(&bytes)
            && object(claim.name) == entry.item.name
        {
            let key = store.key(&claim.name.to_string())?;
            // It may be ended or complete already; what counts is that the claim goes.
            let _ = store
                .clients
                .parts
                .abort_multipart(&key, &claim.upload)
                .await;
            store.delete(&entry.item.name).await?;
        }
    }
    Ok(())
}

/// One for both spellings, because they share their `.meta.json`.
fn object(name: ArchiveName) -> String {
    format!("{}{END}", name.stem())
}

fn lost() -> io::Error {
    io::Error::other(
        "its claim is gone, because no sign of life came for an hour: run the backup again",
    )
}
