//! The job document: what the operator asks for.
//!
//! In comes JSON, out comes a [`Document`] that makes sense, or a sentence that names the member to put right. Members that
//! this release doesn't know are ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::header::Kind;
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::backup::DEFAULT_LOGS_DAYS;
use stockpredictor_storage::period::Period;
use stockpredictor_storage::select::Wanted;
use uuid::Uuid;

use super::place::Place;

/// The version that this release reads.
const VERSION: u32 = 1;
/// Most destinations of a job.
const MAX_DESTINATIONS: usize = 16;

/// A job.
#[derive(Clone, Debug)]
pub struct Document {
    /// What is to be done.
    pub work: Work,
}

/// The part that every release understands.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// The jobs there are.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "job", rename_all = "lowercase")]
pub enum Work {
    Backup(Box<Backup>),
    Test(Box<Test>),
    Preflight(Box<Restore>),
    Prepare(Box<Restore>),
    Switch(Box<Restore>),
    Commit(Box<Restore>),
    Undo(Box<Restore>),
    Fill(Box<Restore>),
}

/// Whose backups a job makes or looks at.
#[derive(Clone, Debug, Deserialize)]
pub struct Owner {
    pub namespace: String,
    pub predictor: String,
    /// Uid of the StorageBackup; without it: of whatever StorageBackup.
    #[serde(default)]
    pub backup: Option<String>,
}

/// A backup and what follows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Backup {
    pub root: PathBuf,
    pub origin: Owner,
    pub mode: Kind,
    #[serde(default)]
    pub full_every: Option<Period>,
    #[serde(default)]
    pub include: Vec<Category>,
    #[serde(default = "default_logs_days")]
    pub logs_days: u32,
    #[serde(default = "one")]
    pub min_successful: usize,
    #[serde(default)]
    pub recipients: Vec<String>,
    #[serde(default)]
    pub accept: Vec<Uuid>,
    #[serde(default)]
    pub verify: Look,
    #[serde(default)]
    pub identity: Option<PathBuf>,
    pub destinations: Vec<Place>,
}

/// How the new archive is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// Its bytes are those that were written.
    Stored,
    /// Every file's hash is right, where the archive can be opened.
    #[default]
    Readable,
}

/// A restore test.
#[derive(Clone, Debug, Deserialize)]
pub struct Test {
    /// Where the volume is mounted; only where a destination lies on it.
    #[serde(default)]
    pub root: Option<PathBuf>,
    pub origin: Owner,
    pub scratch: PathBuf,
    #[serde(default)]
    pub known: BTreeMap<ArchiveName, Digest>,
    #[serde(default)]
    pub identity: Option<PathBuf>,
    pub destinations: Vec<Place>,
}

/// A step of a restore. Which members are needed depends on the step; [`Document::parse`] has looked.
#[derive(Clone, Debug, Deserialize)]
pub struct Restore {
    /// The restore's id.
    #[serde(rename = "restore")]
    pub id: Uuid,
    #[serde(default)]
    pub root: Option<PathBuf>,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub source: Option<Place>,
    #[serde(default)]
    pub origin: Option<Owner>,
    #[serde(default)]
    pub backup: Option<String>,
    #[serde(default)]
    pub at: Option<jiff::Timestamp>,
    #[serde(default)]
    pub sha256: Option<Digest>,
    #[serde(default)]
    pub known: BTreeMap<ArchiveName, Digest>,
    #[serde(default)]
    pub include: Vec<Category>,
    #[serde(default)]
    pub identity: Option<PathBuf>,
    #[serde(default)]
    pub free_bytes: Option<u64>,
}

const fn default_logs_days() -> u32 {
    DEFAULT_LOGS_DAYS
}

const fn one() -> usize {
    1
}

impl Document {
    /// Reads and checks a job.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = |reason: &dyn std::fmt::Display| {
            format!(
                "the job document can't be used: {reason}: contracts/jobs.json has an example of each kind"
            )
        };
        let Head { version } = serde_json::from_str(text).map_err(|error| refused(&error))?;
        if version != VERSION {
            return Err(refused(&format!(
                "it has version {version}, this release reads {VERSION}: run the release that the operator has"
            )));
        }
        let work: Work = serde_json::from_str(text).map_err(|error| refused(&error))?;
        work.check().map_err(|fault| refused(&fault))?;
        Ok(Self { work })
    }
}

impl Work {
    /// As in the document and the message.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Backup(_) => "backup",
            Self::Test(_) => "test",
            Self::Preflight(_) => "preflight",
            Self::Prepare(_) => "prepare",
            Self::Switch(_) => "switch",
            Self::Commit(_) => "commit",
            Self::Undo(_) => "undo",
            Self::Fill(_) => "fill",
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Backup(job) => {
                check_places(&job.destinations, true)?;
                check_origin(&job.origin, true)?;
                if !(1..=job.destinations.len()).contains(&job.min_successful) {
                    return Err(format!(
                        "min_successful is {}: write 1 to {}",
                        job.min_successful,
                        job.destinations.len()
                    ));
                }
                Ok(())
            }
            Self::Test(job) => {
                check_places(&job.destinations, job.root.is_some())?;
                check_origin(&job.origin, false)
            }
            Self::Preflight(job) => {
                if job.root.is_none() && job.free_bytes.is_none() {
                    return Err(
                        "write root, or free_bytes where the volume isn't mounted".to_owned()
                    );
                }
                job.check_source(false)
            }
            Self::Fill(job) => job.check_root().and_then(|()| job.check_source(false)),
            Self::Prepare(job) | Self::Switch(job) => {
                job.check_root().and_then(|()| job.check_source(true))
            }
            Self::Commit(job) | Self::Undo(job) => {
                job.check_root()?;
                match &job.source {
                    Some(source) => source.check(job.root.is_some()),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Restore {
    fn check_root(&self) -> Result<(), String> {
        match self.root {
            Some(_) => Ok(()),
            None => Err("root is missing: write where the volume is mounted".to_owned()),
        }
    }

    fn check_source(&self, is_exact: bool) -> Result<(), String> {
        let source = self.source.as_ref().ok_or("source is missing")?;
        source.check(self.root.is_some())?;
        check_origin(self.origin.as_ref().ok_or("origin is missing")?, false)?;
        match (&self.backup, self.at) {
            (Some(_), Some(_)) => return Err("backup and at exclude each other".to_owned()),
            (None, None) => {
                return Err("write backup (a name, latest or latest-proven) or at".to_owned());
            }
            _ => {}
        }
        match self.wanted() {
            Some(Wanted::File(_)) | None => Err(format!(
                "backup is {:?}: write a name such as stock_prediction_backup_20250801_120000.tar.gz, latest or latest-proven",
                self.backup
                    .as_deref()
                    .unwrap_or_default()
                    .chars()
                    .take(60)
                    .collect::<String>()
            )),
            Some(Wanted::Name(_)) if !is_exact || self.sha256.is_some() => Ok(()),
            Some(Wanted::Name(_)) => {
                Err("sha256 is missing: write what preflight reported".to_owned())
            }
            Some(_) if is_exact => {
                Err("backup must be the name that preflight reported".to_owned())
            }
            Some(_) => Ok(()),
        }
    }

    /// What is to be restored.
    pub fn wanted(&self) -> Option<Wanted> {
        match (&self.backup, self.at) {
            (_, Some(time)) => Some(Wanted::At(time)),
            (Some(text), None) => Some(Wanted::parse(text)),
            (None, None) => None,
        }
    }

    /// The parts; all that the backup has when none is named.
    pub fn only(&self) -> Option<&[Category]> {
        (!self.include.is_empty()).then_some(&self.include)
    }
}

fn check_places(places: &[Place], has_root: bool) -> Result<(), String> {
    if !(1..=MAX_DESTINATIONS).contains(&places.len()) {
        return Err(format!(
            "destinations has {} entries: write 1 to {MAX_DESTINATIONS}",
            places.len()
        ));
    }
    let names: BTreeSet<_> = places.iter().map(|place| &place.name).collect();
    if names.len() < places.len() {
        return Err("two destinations have the same name".to_owned());
    }
    places.iter().try_for_each(|place| place.check(has_root))
}

fn check_origin(origin: &Owner, is_writer: bool) -> Result<(), String> {
    if origin.namespace.is_empty() || origin.predictor.is_empty() {
        return Err("origin needs a namespace and a predictor".to_owned());
    }
    if is_writer && origin.backup.as_deref().unwrap_or_default().is_empty() {
        return Err("origin.backup is missing: write the StorageBackup's uid".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
