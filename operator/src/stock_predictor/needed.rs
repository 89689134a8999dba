//! Who still needs a claim whose predictor is deleted with the policy `Delete`, beside pods and other predictors.
//!
//! In: the namespace as the API server has it. Out: a reason why the claim stays, or the finished Jobs that keep a deleted
//! claim from going: Kubernetes waits for the last pod that names it, also for one that ended.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use stockpredictor_api::{StockPredictor, StorageBackup, StorageRestore};

use super::labels;
use crate::job::outcome::is_over;
use crate::storage_backup::archives::{self, HOLDS_ARCHIVES};
use crate::storage_restore::hold::{User, concerns};
use crate::writer::{Child, Error, Writer};

/// Why `claim`, which `predictor` made, stays: archives lie on it, or a restore works on it.
///
/// # Errors
/// When the API server refuses or can't be reached.
pub async fn needed(
    writer: &Writer,
    namespace: &str,
    predictor: &StockPredictor,
    claim: &PersistentVolumeClaim,
) -> Result<Option<String>, Error> {
    let name = &predictor.name_any();
    let restores = all::<StorageRestore>(writer, namespace).await?;
    let working = restores.iter().find(|restore| {
        let phase = restore.status.as_ref().and_then(|status| status.phase);
        let user = User {
            predictor: name,
            claim: name,
        };
        concerns(restore, user) && phase.is_some_and(|phase| !phase.is_end())
    });
    if let Some(restore) = working {
        let restore = restore.name_any();
        return Ok(Some(format!("the StorageRestore {restore} works on it")));
    }
    let backups = all::<StorageBackup>(writer, namespace).await?;
    let stored = backups.iter().find(|backup| holds_archives(backup, name));
    if let Some(backup) = stored {
        let backup = backup.name_any();
        return Ok(Some(format!(
            "archives of the StorageBackup {backup} lie on it"
        )));
    }
    if claim.annotations().contains_key(HOLDS_ARCHIVES) {
        return Ok(Some(format!(
            "archives lie on it, as its annotation {HOLDS_ARCHIVES} says"
        )));
    }
    // Those that somebody made by hand.
    let volume = predictor
        .status
        .as_ref()
        .and_then(|status| status.volume.as_ref());
    let holds = volume.and_then(|volume| volume.holds_archives) == Some(true);
    Ok(holds.then(|| "archives lie on it, in backups/".to_owned()))
}

/// True when the last run of `backup` found archives on the claim that the predictor `name` made.
fn holds_archives(backup: &StorageBackup, name: &str) -> bool {
    let own = (backup.spec.predictor_ref.name == name).then_some(name);
    let status = backup.status.as_ref();
    status.is_some_and(|status| {
        archives::claims(backup, status, own)
            .iter()
            .any(|claim| claim == name)
    })
}

/// Deletes our Jobs that are over and whose pods name the claim. What they reported is in the status of their objects.
///
/// # Errors
/// When the API server refuses or can't be reached.
pub async fn remove_finished_jobs(
    writer: &Writer,
    namespace: &str,
    claim: &str,
) -> Result<(), Error> {
    let label = labels::claim_value(claim);
    for job in all::<Job>(writer, namespace).await? {
        let template = job
            .spec
            .as_ref()
            .and_then(|spec| spec.template.metadata.as_ref());
        let of_claim = template
            .and_then(|metadata| metadata.labels.as_ref()?.get(labels::CLAIM_LABEL))
            .is_some_and(|value| *value == label);
        if of_claim && is_over(&job) && job.metadata.deletion_timestamp.is_none() {
            writer.delete_exact(&job).await?;
        }
    }
    Ok(())
}

/// All objects of one of our kinds; none where the kind isn't installed.
async fn all<K: Child>(writer: &Writer, namespace: &str) -> Result<Vec<K>, Error> {
    match writer.list::<K>(namespace).await {
        Err(error) if error.category() == "not_found" => Ok(Vec::new()),
        found => found,
    }
}
