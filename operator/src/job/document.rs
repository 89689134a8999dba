//! The document that a job is given: the operator's side of `contracts/jobs.json`.
//!
//! In: typed values. Out: JSON. It holds paths of mounted secrets and never a secret. What is absent is not said, and the
//! job decides.

use std::collections::BTreeMap;

use serde::Serialize;
use stockpredictor_api::ArchiveRetention;

/// The version of the contract.
pub const VERSION: u32 = 1;
/// Where the predictor's volume is mounted.
pub const ROOT: &str = "/app/persistent_data";
/// Where scratch space is mounted.
pub const SCRATCH: &str = "/scratch";
/// The environment variable that holds the document.
pub const VARIABLE: &str = "STOCKPREDICTOR_JOB";
/// The command, without the path of the program.
pub const COMMAND: [&str; 4] = [
    "storage",
    "job",
    "--termination-message",
    "/dev/termination-log",
];

/// What a job is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document {
    /// The version of the contract.
    pub version: u32,
    /// What to do.
    #[serde(flatten)]
    pub task: Task,
}

impl Document {
    /// The document of `task`.
    pub fn new(task: Task) -> Self {
        Self {
            version: VERSION,
            task,
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "job", rename_all = "lowercase")]
pub enum Task {
    /// Write an archive to each destination.
    Backup(Backup),
    /// Restore the newest archive into scratch space.
    Test(Test),
    /// Choose an archive and check everything; change nothing.
    Preflight(Restore),
    /// Extract beside the data.
    Prepare(Restore),
    /// Put the restored data in place.
    Switch(Restore),
    /// Drop the old data.
    Commit(Restore),
    /// Put the old data back.
    Undo(Restore),
    /// Fill a new volume.
    Fill(Restore),
}

/// Whose archives they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Namespace of the predictor.
    pub namespace: String,
    /// Name of the predictor.
    pub predictor: String,
    /// Uid of the `StorageBackup`; absent: whichever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
}

/// Where archives lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// A folder, relative to the volume or absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// An object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The store's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Folder of the mounted Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
    /// File of the mounted certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// How many archives stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// How many archives stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// The newest.
    pub last: i32,
    /// One each day.
    pub daily: i32,
    /// One each week.
    pub weekly: i32,
    /// One each month.
    pub monthly: i32,
}

impl From<&ArchiveRetention> for Retention {
    fn from(spec: &ArchiveRetention) -> Self {
        Self {
            last: spec.last,
            daily: spec.daily,
            weekly: spec.weekly,
            monthly: spec.monthly,
        }
    }
}

/// A backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// The volume.
    pub root: String,
    /// Whose archives they become.
    pub origin: Origin,
    /// `full` or `incremental`.
    pub mode: &'static str,
    /// The age of the newest full archive from which on the next one is full too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_every: Option<String>,
    /// Categories; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<&'static str>,
    /// So many days of logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs_days: Option<i32>,
    /// So many destinations must have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_successful: Option<i32>,
    /// Whose keys can read it; none means that it isn't encrypted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// Ids of suspects that somebody accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<String>,
    /// `stored` or `readable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<&'static str>,
    /// File with the key that reads the archives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Where it goes.
    pub destinations: Vec<Place>,
}

/// A restore test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Test {
    /// The volume, when a destination lies on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Whose archives are tested.
    pub origin: Origin,
    /// Where to restore to.
    pub scratch: String,
    /// File with the key that reads the archives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// SHA-256 by name, as the runs that wrote them reported.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub known: BTreeMap<String, String>,
    /// Where they lie.
    pub destinations: Vec<Place>,
}

/// A step of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Restore {
    /// The restore's id, a UUID.
    pub restore: String,
    /// The volume; absent where it can't be mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Whether nothing will follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Where the archive lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Place>,
    /// Whose archives are chosen from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// A name, `latest` or `latest-proven`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// The newest one of this time or before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Pins the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// SHA-256 by name, as the runs that wrote them reported.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub known: BTreeMap<String, String>,
    /// Categories; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// File with the key that reads the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The free space of a volume that can't be mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn contract() -> Value {
        serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap()
    }

    fn origin() -> Origin {
        Origin {
            namespace: "trading".into(),
            predictor: "nvda".into(),
            backup: Some("0b0f8f6e-55a8-4c55-8a55-7d6f0d6c1a01".into()),
        }
    }

    #[test]
    fn a_small_backup_is_that_of_the_contract() {
        let place = Place {
            name: "volume".into(),
            path: Some("backups".into()),
            ..Place::default()
        };
        let document = Document::new(Task::Backup(Backup {
            root: ROOT.into(),
            origin: origin(),
            mode: "full",
            destinations: vec![place],
            ..Backup::default()
        }));
        assert_eq!(json!(document), contract()["jobs"]["backup_small"]);
    }

    #[test]
    fn a_restore_test_on_the_volume_is_that_of_the_contract() {
        let document = Document::new(Task::Test(Test {
            root: Some(ROOT.into()),
            origin: origin(),
            scratch: SCRATCH.into(),
            destinations: vec![Place {
                name: "volume".into(),
                path: Some("backups".into()),
                ..Place::default()
            }],
            ..Test::default()
        }));
        assert_eq!(json!(document), contract()["jobs"]["test_on_volume"]);
    }

    #[test]
    fn the_steps_of_a_restore_are_those_of_the_contract() {
        let undo = Document::new(Task::Undo(Restore {
            restore: "5f1d7a56-0f7e-4c1e-8a68-5a3b1f1c7d03".into(),
            root: Some(ROOT.into()),
            ..Restore::default()
        }));
        assert_eq!(json!(undo), contract()["jobs"]["undo"]);
        let fill = Document::new(Task::Fill(Restore {
            restore: "5f1d7a56-0f7e-4c1e-8a68-5a3b1f1c7d03".into(),
            root: Some(ROOT.into()),
            source: Some(Place {
                name: "offsite".into(),
                url: Some("s3://backups/trading".into()),
                credentials: Some("/etc/stockpredictor/destinations/offsite/credentials".into()),
                ..Place::default()
            }),
            origin: Some(Origin {
                backup: None,
                ..origin()
            }),
            backup: Some("latest-proven".into()),
            known: [(
                "stock_prediction_backup_20250801_120000.tar.gz".to_owned(),
                "9b74c9897bac770ffc029102a200c5de4d3c9d1a1a1b3f5e7d9c1b2a3f4e5d6c".to_owned(),
            )]
            .into(),
            ..Restore::default()
        }));
        assert_eq!(json!(fill), contract()["jobs"]["fill"]);
    }

    #[test]
    fn command_and_variable_are_those_of_the_contract() {
        let contract = contract();
        let mut words = vec!["predictor"];
        words.extend(COMMAND);
        assert_eq!(contract["command"], json!(words));
        assert_eq!(contract["variable"], VARIABLE);
        assert_eq!(contract["version"], VERSION);
    }
}
