//! The message that a job leaves: always JSON, never above 4096 bytes.
//!
//! In comes what the job found out, out come bytes. When they would be too many, the oldest backups go first, then texts are
//! cut, then what the operator can do without is left out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::header::Kind;
use stockpredictor_storage::archive::meta::Level;
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::restore::Plan;
use uuid::Uuid;

use super::failure::{Failure, Reason};
use crate::storage_command::Outcome;

/// Kubelet cuts what is longer.
pub const MAX_BYTES: usize = 4096;
/// The version that this release writes.
const VERSION: u32 = 1;
/// Most bytes of the sentence.
const MAX_MESSAGE: usize = 600;
/// Most bytes of any other text.
const MAX_TEXT: usize = 200;
/// Most warnings that are told.
const MAX_WARNINGS: usize = 5;
/// Most backups that are told.
pub const MAX_BACKUPS: usize = 10;

/// The message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    version: u32,
    job: String,
    result: Verdict,
    reason: Reason,
    #[serde(rename = "message")]
    text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    pub seconds: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<Destination>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backups: Option<Vec<Row>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Succeeded,
    Failed,
}

/// The backup that was made or tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    pub name: ArchiveName,
    pub id: Uuid,
    pub kind: Kind,
    pub base: Option<ArchiveName>,
    pub created_at: Timestamp,
    pub bytes: u64,
    pub files: u64,
    pub sha256: Digest,
    pub key_ids: Vec<String>,
    pub level: Option<Level>,
    pub verified_at: Option<Timestamp>,
    pub suspect: Vec<String>,
    pub destinations: Vec<String>,
}

/// How a destination fared, and what lies there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    pub name: String,
    pub stored: bool,
    pub verified: Option<Level>,
    pub archives: Option<usize>,
    pub bytes: Option<u64>,
    pub deleted: usize,
    pub error: Option<String>,
}

/// A backup in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub name: ArchiveName,
    pub id: Uuid,
    pub kind: Kind,
    pub base: Option<ArchiveName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    pub bytes: u64,
    pub files: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_ids: Vec<String>,
    pub level: Option<Level>,
    pub verified_at: Option<Timestamp>,
    pub suspect: bool,
    pub destinations: Vec<String>,
}

/// How far a restore is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    pub state: State,
    #[serde(flatten)]
    pub archive: Option<Archive>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<Category, Changes>,
}

/// What the volume's journal says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No restore is under way.
    #[default]
    None,
    Prepared,
    Switched,
    Committed,
    Undone,
    Filled,
    /// The journal can't be read, or is between two of these.
    Unknown,
}

/// The archive of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    pub name: ArchiveName,
    pub id: Uuid,
    pub sha256: Digest,
    pub attested: bool,
    pub kind: Kind,
    pub base: Option<ArchiveName>,
    pub created_at: Timestamp,
}

/// Files of one part of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
    pub kept: u64,
}

/// The time without its fraction, as messages have it.
pub fn second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

impl Restore {
    /// What a comparison with the volume found.
    pub fn take_plan(&mut self, plan: &Plan) {
        self.files = Some(plan.unpacked.files);
        self.bytes = Some(plan.unpacked.bytes);
        self.needed_bytes = Some(plan.needed_bytes);
        self.parts = plan
            .parts
            .iter()
            .map(|(part, changes)| {
                let changes = Changes {
                    added: changes.added.files,
                    changed: changes.changed.files,
                    removed: changes.removed.files,
                    kept: changes.kept.files,
                };
                (*part, changes)
            })
            .collect();
    }
}

impl Message {
    /// Of a job that has succeeded so far.
    pub fn new(job: &str) -> Self {
        Self {
            version: VERSION,
            job: job.to_owned(),
            result: Verdict::Succeeded,
            reason: Reason::Completed,
            text: String::new(),
            warnings: Vec::new(),
            seconds: 0,
            backup: None,
            destinations: Vec::new(),
            backups: None,
            total: None,
            restore: None,
        }
    }

    /// The sentence of a success.
    pub fn say(&mut self, text: impl Into<String>) {
        self.text = text.into();
    }

    /// Something that a person should know.
    pub fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        eprintln!("warning: {text}");
        if self.result == Verdict::Succeeded {
            self.reason = Reason::CompletedWithWarnings;
        }
        self.warnings.push(text);
    }

    /// Makes it the message of a failure.
    pub fn fail(&mut self, failure: Failure) {
        eprintln!("error: {}", failure.text);
        self.result = Verdict::Failed;
        self.reason = failure.reason;
        self.text = failure.text;
    }

    /// What the restore's part says; made where there is none.
    pub fn restore(&mut self) -> &mut Restore {
        self.restore.get_or_insert_default()
    }

    /// The exit code.
    pub const fn outcome(&self) -> Outcome {
        match self.result {
            Verdict::Succeeded => Outcome::Done,
            Verdict::Failed if self.reason.is_final() => Outcome::Hopeless,
            Verdict::Failed => Outcome::Failed,
        }
    }

    /// Its bytes, at most [`MAX_BYTES`].
    pub fn bytes(&self) -> Vec<u8> {
        let mut small = self.clone();
        small.warnings.truncate(MAX_WARNINGS);
        if let Some(backups) = &mut small.backups {
            backups.truncate(MAX_BACKUPS);
        }
        small.cut(MAX_MESSAGE, MAX_TEXT);
        for step in Step::ALL {
            loop {
                if let Some(bytes) = small.fitting() {
                    return bytes;
                }
                if !small.shrink(step) {
                    break;
                }
            }
        }
        // What is left are words and numbers of our own.
        small.fitting().unwrap_or_else(|| b"{}".to_vec())
    }

    fn fitting(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self)
            .ok()
            .filter(|bytes| bytes.len() <= MAX_BYTES)
    }

    /// One step; whether it changed anything and may be asked again.
    fn shrink(&mut self, step: Step) -> bool {
        match step {
            Step::OldestBackup => self
                .backups
                .as_mut()
                .is_some_and(|backups| backups.pop().is_some()),
            Step::Texts(message, text) => {
                let before = self.clone();
                self.cut(message, text);
                *self != before
            }
            Step::Warnings => self.warnings.pop().is_some(),
            Step::Parts => {
                let Some(restore) = &mut self.restore else {
                    return false;
                };
                !std::mem::take(&mut restore.parts).is_empty()
            }
            Step::Keys => {
                let Some(backup) = &mut self.backup else {
                    return false;
                };
                backup
                    .key_ids
                    .pop()
                    .or_else(|| backup.suspect.pop())
                    .is_some()
            }
            Step::Destinations => self.destinations.pop().is_some(),
            Step::All => {
                let had = self.backup.is_some() || self.restore.is_some();
                (self.backup, self.restore) = (None, None);
                had
            }
        }
    }

    /// Cuts every text, and takes out what JSON would write as six bytes.
    fn cut(&mut self, message: usize, text: usize) {
        let mut texts: Vec<&mut String> = self.warnings.iter_mut().collect();
        if let Some(backup) = &mut self.backup {
            texts.extend(&mut backup.suspect);
            texts.extend(&mut backup.key_ids);
        }
        for row in self.backups.iter_mut().flatten() {
            texts.extend(&mut row.key_ids);
        }
        texts.extend(
            self.destinations
                .iter_mut()
                .filter_map(|one| one.error.as_mut()),
        );
        if let Some(restore) = &mut self.restore {
            texts.extend(restore.model.as_mut());
        }
        for one in texts {
            cut(one, text);
        }
        cut(&mut self.text, message);
    }
}

/// What is done about a message that is too long, one after the other.
#[derive(Clone, Copy)]
enum Step {
    OldestBackup,
    Texts(usize, usize),
    Warnings,
    Parts,
    Keys,
    Destinations,
    All,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::OldestBackup,
        Self::Texts(400, 100),
        Self::Texts(200, 60),
        Self::Warnings,
        Self::Parts,
        Self::Keys,
        Self::Destinations,
        Self::All,
    ];
}

/// Cuts at a character's boundary, with a sign that it was cut.
fn cut(text: &mut String, limit: usize) {
    const SIGN: &str = "…";
    if text.chars().any(char::is_control) {
        *text = text.replace(char::is_control, " ");
    }
    if text.len() > limit {
        let mut end = limit.saturating_sub(SIGN.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(SIGN);
    }
}

#[cfg(test)]
mod tests;
