//! Where a restore's backup comes from, resolved.
//!
//! In: a source of a spec and, where it names a `StorageBackup`, that object as it is stored. Out: one place with a name,
//! whose archives to choose from, and the SHA-256 that are known of them: those that the runs reported which wrote them,
//! never one that was read from the place. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use stockpredictor_api::{ClaimPlace, Destination, Place, RestoreSource, VolumePlace};

use super::plan::Note;
use crate::job::document::Origin;
use crate::job::place::BACKUPS;

/// The name of a place that the spec gives without one.
const UNNAMED: &str = "source";

/// A source that a job can read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// The place's name.
    pub name: String,
    /// The place.
    pub place: Place,
    /// Whose archives.
    pub origin: Origin,
    /// SHA-256 by name.
    pub known: BTreeMap<String, String>,
}

/// Resolves.
///
/// `restored` is the predictor whose volume is restored, if it is one. `stored` is the `StorageBackup` that the source
/// names.
///
/// # Errors
/// With what is missing.
pub fn resolve(
    source: &RestoreSource,
    backup: Option<&str>,
    namespace: &str,
    restored: Option<&str>,
    stored: Option<&Value>,
) -> Result<Resolved, Note> {
    let missing = |message: String| Note::new("ReferenceMissing", message);
    let mut resolved = match (&source.storage_backup_ref, &source.destination) {
        (Some(reference), _) => {
            let stored = stored.ok_or_else(|| {
                missing(format!(
                    "there is no StorageBackup {} in this namespace; create it, or give source.destination",
                    reference.name
                ))
            })?;
            of_storage_backup(stored, reference.destination.as_deref(), backup, namespace)
                .ok_or_else(|| {
                    missing(format!(
                        "the StorageBackup {} has no such destination; `kubectl describe sb {0}` names them",
                        reference.name
                    ))
                })?
        }
        (None, Some(place)) => {
            let origin = source.origin.as_ref();
            Resolved {
                name: UNNAMED.into(),
                place: place.clone(),
                origin: Origin {
                    namespace: origin
                        .and_then(|origin| origin.namespace.clone())
                        .unwrap_or_else(|| namespace.to_owned()),
                    predictor: origin
                        .map(|origin| origin.predictor.clone())
                        .or_else(|| restored.map(str::to_owned))
                        .unwrap_or_default(),
                    backup: None,
                },
                known: BTreeMap::new(),
            }
        }
        (None, None) => return Err(missing("the spec names no source".into())),
    };
    // `backups/` lies on the volume of the predictor that was backed up: for anybody else it is a claim like others.
    let owner = &resolved.origin.predictor;
    if resolved.place.volume.is_some() && Some(owner.as_str()) != restored {
        let claim = stored
            .and_then(|stored| stored["status"]["claimName"].as_str())
            .unwrap_or(owner);
        resolved.place = Place {
            claim: Some(ClaimPlace {
                name: claim.to_owned(),
                path: Some(BACKUPS.into()),
            }),
            ..Place::default()
        };
    }
    Ok(resolved)
}

fn of_storage_backup(
    stored: &Value,
    wanted: Option<&str>,
    backup: Option<&str>,
    namespace: &str,
) -> Option<Resolved> {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut destinations: Vec<Destination> = items(&stored["spec"]["destinations"])
        .into_iter()
        .filter_map(|destination| serde_json::from_value(destination).ok())
        .collect();
    if destinations.is_empty() {
        // Without any, backups go to the volume itself.
        destinations.push(Destination {
            name: "volume".into(),
            volume: Some(VolumePlace {}),
            ..Destination::default()
        });
    }
    let backups = items(&stored["status"]["backups"]);
    let holds = |destination: &Destination| {
        let entry = match backup {
            Some("latest" | "latestProven") | None => backups.first(),
            Some(name) => backups.iter().find(|entry| entry["name"] == name),
        };
        entry.is_some_and(|entry| {
            items(&entry["destinations"])
                .iter()
                .any(|name| *name == destination.name.as_str())
        })
    };
    let chosen = match wanted {
        Some(name) => destinations.iter().find(|found| found.name == name)?,
        None => destinations
            .iter()
            .find(|found| holds(found))
            .or_else(|| destinations.first())?,
    };
    // What the runs reported that wrote the archives.
    let attested = stored["status"]["attested"].as_object();
    let known = attested
        .into_iter()
        .flatten()
        .filter_map(|(name, sha256)| Some((name.clone(), sha256.as_str()?.to_owned())));
    Some(Resolved {
        name: chosen.name.clone(),
        place: chosen.place(),
        origin: Origin {
            namespace: namespace.to_owned(),
            predictor: stored["spec"]["predictorRef"]["name"].as_str()?.to_owned(),
            backup: None,
        },
        known: known.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    const OLD: &str = "stock_prediction_backup_20250801_120000.tar.gz";
    const NEW: &str = "stock_prediction_backup_20250802_120000.tar.gz";

    fn stored() -> Value {
        json!({
            "spec": {"predictorRef": {"name": "nvda"}, "destinations": [
                {"name": "volume", "volume": {}},
                {"name": "nas", "claim": {"name": "nas"}},
                {"name": "offsite", "objectStore": {"url": "s3://bucket"}},
            ]},
            "status": {"backups": [
                {"name": NEW, "destinations": ["nas"]},
                {"name": OLD, "destinations": ["offsite", "nas"]},
            ], "attested": {NEW: "aa"}},
        })
    }

    fn resolved(source: &Value, backup: &str, restored: Option<&str>) -> Result<Resolved, Note> {
        let source = serde_json::from_value(source.clone()).unwrap();
        resolve(&source, Some(backup), "trading", restored, Some(&stored()))
    }

    #[rstest]
    #[case::the_newest(json!({"name": "daily"}), "latest", "nas")]
    #[case::a_name(json!({"name": "daily"}), OLD, "nas")]
    #[case::one_that_is_not_listed(json!({"name": "daily"}), "stock_prediction_backup_20240101_000000.tar.gz", "volume")]
    #[case::as_the_user_says(json!({"name": "daily", "destination": "offsite"}), "latest", "offsite")]
    fn the_destination_is_the_first_that_has_the_backup(
        #[case] reference: Value,
        #[case] backup: &str,
        #[case] destination: &str,
    ) {
        let found = resolved(
            &json!({"storageBackupRef": reference}),
            backup,
            Some("nvda"),
        )
        .unwrap();
        assert_eq!(found.name, destination);
        assert_eq!(found.origin.predictor, "nvda");
        assert_eq!(found.known, BTreeMap::from([(NEW.into(), "aa".into())]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let unknown = json!({"storageBackupRef": {"name": "daily", "destination": "tape"}});
        let note = resolved(&unknown, "latest", None).unwrap_err();
        assert!(note.message.contains("no such destination"), "{note:?}");
        let source =
            serde_json::from_value(json!({"storageBackupRef": {"name": "weekly"}})).unwrap();
        let note = resolve(&source, None, "trading", None, None).unwrap_err();
        assert!(note.message.contains("no StorageBackup weekly"), "{note:?}");
    }

    #[test]
    fn backups_on_the_volume_of_another_are_read_from_its_claim() {
        let volume = json!({"storageBackupRef": {"name": "daily", "destination": "volume"}});
        let own = resolved(&volume, "latest", Some("nvda")).unwrap();
        assert!(own.place.volume.is_some());
        let others = resolved(&volume, "latest", None).unwrap();
        assert_eq!(
            json!(others.place),
            json!({"claim": {"name": "nvda", "path": "backups"}})
        );
    }

    #[test]
    fn a_place_without_an_owner_is_that_of_the_predictor_that_is_restored() {
        let place = json!({"destination": {"claim": {"name": "nas"}}});
        let found = resolved(&place, "latest", Some("tsla")).unwrap();
        assert_eq!(
            (
                found.origin.namespace.as_str(),
                found.origin.predictor.as_str()
            ),
            ("trading", "tsla")
        );
        let foreign = json!({"destination": {"claim": {"name": "nas"}}, "origin": {"namespace": "prod", "predictor": "nvda"}});
        let found = resolved(&foreign, "latest", Some("tsla")).unwrap();
        assert_eq!(
            (
                found.origin.namespace.as_str(),
                found.origin.predictor.as_str()
            ),
            ("prod", "nvda")
        );
    }
}
