//! Where a restore's backup comes from, resolved.
//!
//! In: a source of a spec and, where it names a `StorageBackup`, that object as it is stored. Out: one place with a name,
//! whose archives to choose from, and the SHA-256 that are known of them: those that the runs reported which wrote them,
//! never one that was read from the place. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use stockpredictor_api::{ClaimPlace, Destination, Place, RestoreSource, StorageBackup};

use super::plan::Note;
use crate::job::document::Origin;
use crate::job::place::BACKUPS;

/// The name of a place that the spec gives without one.
const UNNAMED: &str = "source";

/// A `StorageBackup` that a source names.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The object.
    pub backup: StorageBackup,
    /// The claim of the predictor that it backs up, if that predictor is there.
    pub claim: Option<String>,
}

/// Which backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// The newest.
    Latest,
    /// The newest that was restored in a test.
    LatestProven,
    /// The newest that was made until then.
    At(Timestamp),
    /// This one.
    Name(&'a str),
}

impl<'a> Choice<'a> {
    /// From a spec, which has one of the two.
    pub fn of(backup: Option<&'a str>, at: Option<&Time>) -> Self {
        match (backup, at) {
            (_, Some(at)) => Self::At(at.0),
            (Some("latest") | None, None) => Self::Latest,
            (Some("latestProven"), None) => Self::LatestProven,
            (Some(name), None) => Self::Name(name),
        }
    }

    /// As in job documents: the word or name of a backup, or else a time.
    pub fn words(self) -> (Option<String>, Option<String>) {
        match self {
            Self::Latest => (Some("latest".into()), None),
            Self::LatestProven => (Some("latest-proven".into()), None),
            Self::Name(name) => (Some(name.into()), None),
            Self::At(time) => (None, Some(time.to_string())),
        }
    }
}

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
/// `restored` is the predictor whose volume is restored, if it is one. `stored` is what the source names.
///
/// # Errors
/// With what is missing.
pub fn resolve(
    source: &RestoreSource,
    choice: Choice<'_>,
    namespace: &str,
    restored: Option<&str>,
    stored: Option<&Stored>,
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
            let wanted = reference.destination.as_deref();
            of_storage_backup(&stored.backup, wanted, choice, namespace).ok_or_else(|| {
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
        // Where the predictor is gone, its claim has stayed, and mostly has its name.
        let claim = stored
            .and_then(|stored| stored.claim.as_deref())
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
    stored: &StorageBackup,
    wanted: Option<&str>,
    choice: Choice<'_>,
    namespace: &str,
) -> Option<Resolved> {
    let (spec, status) = (&stored.spec, stored.status.clone().unwrap_or_default());
    // The list begins with the newest.
    let entry = status.backups.iter().find(|entry| match choice {
        Choice::Name(name) => entry.name == name,
        Choice::Latest => !entry.suspect,
        Choice::LatestProven => !entry.suspect && entry.level.as_deref() == Some("Proven"),
        Choice::At(at) => {
            !entry.suspect
                && entry
                    .created
                    .as_ref()
                    .is_some_and(|created| created.0 <= at)
        }
    });
    let holds = |destination: &&Destination| {
        entry.is_some_and(|entry| entry.destinations.contains(&destination.name))
    };
    let chosen = match wanted {
        Some(name) => spec.destinations.iter().find(|found| found.name == name)?,
        None => spec
            .destinations
            .iter()
            .find(holds)
            .or_else(|| spec.destinations.first())?,
    };
    Some(Resolved {
        name: chosen.name.clone(),
        place: chosen.place(),
        origin: Origin {
            namespace: namespace.to_owned(),
            predictor: spec.predictor_ref.name.clone(),
            backup: None,
        },
        // What the runs reported that wrote the archives.
        known: status.attested,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    const OLD: &str = "stock_prediction_backup_20250801_120000.tar.gz";
    const NEW: &str = "stock_prediction_backup_20250802_120000.tar.gz";

    fn stored() -> Stored {
        let backup = json!({
            "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageBackup",
            "metadata": {"name": "daily", "namespace": "trading"},
            "spec": {"predictorRef": {"name": "nvda"}, "destinations": [
                {"name": "volume", "volume": {}},
                {"name": "nas", "claim": {"name": "nas"}},
                {"name": "offsite", "objectStore": {"url": "s3://bucket"}},
            ]},
            "status": {"backups": [
                {"name": "stock_prediction_backup_20250803_120000.tar.gz", "created": "2025-08-03T12:00:00Z", "level": "Stored",
                    "destinations": ["volume"], "suspect": true},
                {"name": NEW, "created": "2025-08-02T12:00:00Z", "level": "Stored", "destinations": ["nas"]},
                {"name": OLD, "created": "2025-08-01T12:00:00Z", "level": "Proven", "destinations": ["offsite"]},
            ], "attested": {NEW: "aa"}},
        });
        Stored {
            backup: serde_json::from_value(backup).unwrap(),
            claim: Some("nvda-data".into()),
        }
    }

    fn resolved(source: &Value, backup: &str, restored: Option<&str>) -> Result<Resolved, Note> {
        let source = serde_json::from_value(source.clone()).unwrap();
        let choice = Choice::of(Some(backup), None);
        resolve(&source, choice, "trading", restored, Some(&stored()))
    }

    #[rstest]
    #[case::the_newest(json!({"name": "daily"}), "latest", "nas")]
    #[case::a_name(json!({"name": "daily"}), OLD, "offsite")]
    #[case::the_newest_proven(json!({"name": "daily"}), "latestProven", "offsite")]
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

    #[rstest]
    #[case("2025-08-02T18:00:00Z", "nas")]
    #[case("2025-08-01T18:00:00Z", "offsite")]
    #[case("2025-07-01T00:00:00Z", "volume")]
    fn the_destination_has_the_backup_of_that_time(#[case] at: &str, #[case] destination: &str) {
        let source =
            serde_json::from_value(json!({"storageBackupRef": {"name": "daily"}})).unwrap();
        let at = Choice::At(at.parse().unwrap());
        let found = resolve(&source, at, "trading", Some("nvda"), Some(&stored())).unwrap();
        assert_eq!(found.name, destination);
    }

    #[test]
    fn what_is_missing_is_named() {
        let unknown = json!({"storageBackupRef": {"name": "daily", "destination": "tape"}});
        let note = resolved(&unknown, "latest", None).unwrap_err();
        assert!(note.message.contains("no such destination"), "{note:?}");
        let source =
            serde_json::from_value(json!({"storageBackupRef": {"name": "weekly"}})).unwrap();
        let note = resolve(&source, Choice::Latest, "trading", None, None).unwrap_err();
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
            json!({"claim": {"name": "nvda-data", "path": "backups"}})
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
