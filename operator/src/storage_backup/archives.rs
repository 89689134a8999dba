//! Marks the claims that archives lie on, so that no deletion policy takes them with the data.
//!
//! In: an object and its status with the news of runs. Out: an annotation on claims, written once and never taken away: who
//! removes the archives knows what they do, and may remove it too. Looked at only when a run has ended, so that an object at
//! rest asks and writes nothing.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use stockpredictor_api::{StorageBackup, StorageBackupStatus};

use crate::writer::{Error, Writer};

/// The annotation of a claim that archives lie on.
pub const HOLDS_ARCHIVES: &str = "stockpredictor.io/holds-archives";

/// The claims on which the last run found archives. `own` is that of the predictor.
pub fn claims(
    object: &StorageBackup,
    status: &StorageBackupStatus,
    own: Option<&str>,
) -> Vec<String> {
    let found = status
        .destinations
        .iter()
        .filter(|found| found.archives.is_some_and(|count| count > 0));
    let places = found.filter_map(|found| {
        let mut places = object.spec.destinations.iter();
        places.find(|place| place.name == found.name)
    });
    let mut names: Vec<String> = places
        .filter_map(|place| match (&place.volume, &place.claim) {
            (Some(_), _) => own.map(str::to_owned),
            (None, Some(claim)) => Some(claim.name.clone()),
            (None, None) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Marks them.
///
/// # Errors
/// When the API server refuses or can't be reached.
pub async fn mark(writer: &Writer, namespace: &str, claims: &[String]) -> Result<(), Error> {
    for name in claims {
        let claim = writer
            .read::<PersistentVolumeClaim>(namespace, name)
            .await?;
        if let Some(claim) = claim.filter(|claim| !claim.annotations().contains_key(HOLDS_ARCHIVES))
        {
            writer.annotate(&claim, HOLDS_ARCHIVES, "true").await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage_backup::fixture;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::nothing_found(json!([]), &[])]
    #[case::none_there(json!([{"name": "volume", "archives": 0}]), &[])]
    #[case::not_looked_at(json!([{"name": "volume", "error": "away"}]), &[])]
    #[case::on_the_volume(json!([{"name": "volume", "archives": 1}]), &["data"])]
    #[case::on_another_claim(json!([{"name": "nas", "archives": 2}, {"name": "offsite", "archives": 2}]), &["nas-claim"])]
    #[case::at_a_place_that_is_named_no_more(json!([{"name": "gone", "archives": 2}]), &[])]
    fn claims_with_archives_are_found(#[case] found: Value, #[case] marked: &[&str]) {
        let object = fixture::backup(&json!({"destinations": [
            {"name": "volume", "volume": {}}, {"name": "nas", "claim": {"name": "nas-claim"}},
            {"name": "offsite", "objectStore": {"url": "s3://backups/x"}}]}));
        let status = serde_json::from_value(json!({"destinations": found})).unwrap();
        assert_eq!(claims(&object, &status, Some("data")), marked);
    }
}
