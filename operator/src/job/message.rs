//! The message that a job leaves: the operator's side of `contracts/jobs.json`.
//!
//! In: the text of a container's termination message. Out: a [`Message`], or nothing when it isn't one. Texts are cut to
//! what a status takes, because whatever wrote the message may be of another release.

use serde::Deserialize;
use serde_json::Value;

/// The longest text that is taken over, in characters.
const MAX_TEXT: usize = 600;

/// What a job said.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Which job it was.
    pub job: String,
    /// `succeeded` or `failed`.
    pub result: String,
    /// A word of the contract.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// What went wrong and didn't matter enough.
    pub warnings: Vec<String>,
    /// How long it took.
    pub seconds: Option<i64>,
    /// The archive that it wrote or tested.
    pub backup: Option<Backup>,
    /// What became of each destination.
    pub destinations: Vec<Destination>,
    /// The newest archives, newest first; nothing when the job didn't look.
    pub backups: Option<Vec<Entry>>,
    /// How many archives there are.
    pub total: Option<i64>,
    /// What a step of a restore found.
    pub restore: Option<Restore>,
}

/// The archive that a job wrote or tested.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Backup {
    /// Its file's name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `full` or `incremental`.
    pub kind: String,
    /// The archive that it builds on.
    pub base: Option<String>,
    /// When it was made.
    pub created_at: Option<String>,
    /// Its size.
    pub bytes: Option<i64>,
    /// How many files it has.
    pub files: Option<i64>,
    /// Its SHA-256.
    pub sha256: Option<String>,
    /// Whose keys can read it.
    pub key_ids: Vec<String>,
    /// `stored`, `readable` or `proven`.
    pub level: Option<String>,
    /// When that was found.
    pub verified_at: Option<String>,
    /// Why it is suspect; empty when it isn't.
    pub suspect: Vec<String>,
    /// Where it is.
    pub destinations: Vec<String>,
}

/// What became of a destination.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// Whether it has the archive.
    pub stored: bool,
    /// The level that the archive reached there.
    pub verified: Option<String>,
    /// How many archives it has; nothing when it couldn't be looked at.
    pub archives: Option<i64>,
    /// How large they are together.
    pub bytes: Option<i64>,
    /// How many retention took away.
    pub deleted: Option<i64>,
    /// What went wrong.
    pub error: Option<String>,
}

/// One archive of the inventory.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Its file's name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `full` or `incremental`.
    pub kind: String,
    /// The archive that it builds on.
    pub base: Option<String>,
    /// When it was made, where that differs from the name.
    pub created_at: Option<String>,
    /// Its size.
    pub bytes: Option<i64>,
    /// How many files it has.
    pub files: Option<i64>,
    /// Whose keys can read it.
    pub key_ids: Vec<String>,
    /// `stored`, `readable` or `proven`.
    pub level: Option<String>,
    /// When that was found.
    pub verified_at: Option<String>,
    /// Whether it is suspect.
    pub suspect: bool,
    /// Where it is.
    pub destinations: Vec<String>,
}

/// What a step of a restore found.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Restore {
    /// The journal's state when it ended.
    pub state: String,
    /// The archive.
    pub name: Option<String>,
    /// Its id.
    pub id: Option<String>,
    /// Its SHA-256.
    pub sha256: Option<String>,
    /// Whether that is known from the run that wrote it, or pinned.
    pub attested: Option<bool>,
    /// `full` or `incremental`.
    pub kind: Option<String>,
    /// The archive that it builds on.
    pub base: Option<String>,
    /// When it was made.
    pub created_at: Option<String>,
    /// How many files are restored.
    pub files: Option<i64>,
    /// How large they are.
    pub bytes: Option<i64>,
    /// What it needs on the volume.
    pub needed_bytes: Option<i64>,
    /// What the volume has.
    pub free_bytes: Option<i64>,
    /// The model that answers after it.
    pub model: Option<String>,
    /// What changes, by category.
    pub parts: Option<Value>,
}

impl Message {
    /// Reads a termination message. Nothing when it is none of ours: the log's last lines, or nothing at all.
    pub fn read(text: &str) -> Option<Self> {
        let mut message: Self = serde_json::from_str(text.trim()).ok()?;
        if message.result.is_empty() {
            return None;
        }
        for text in [&mut message.reason, &mut message.message] {
            *text = text.chars().take(MAX_TEXT).collect();
        }
        Some(message)
    }

    /// True when the job did what it was told.
    pub fn succeeded(&self) -> bool {
        self.result == "succeeded"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn contract() -> Value {
        serde_json::from_str(include_str!("../../../contracts/jobs.json")).unwrap()
    }

    #[test]
    fn every_message_of_the_contract_is_read() {
        let contract = contract();
        for (name, message) in contract["messages"].as_object().unwrap() {
            let read = Message::read(&message.to_string()).unwrap();
            assert_eq!(read.job, message["job"], "{name}");
            assert_eq!(read.succeeded(), message["result"] == "succeeded", "{name}");
            assert_eq!(read.reason, message["reason"], "{name}");
            assert_eq!(read.restore.is_some(), message["restore"].is_object());
            assert_eq!(
                read.destinations.len(),
                message["destinations"].as_array().map_or(0, Vec::len)
            );
        }
    }

    #[test]
    fn what_a_backup_says_is_understood() {
        let text = contract()["messages"]["backup_with_warnings"].to_string();
        let message = Message::read(&text).unwrap();
        let backup = message.backup.unwrap();
        assert_eq!(backup.suspect, ["models: 1 of 1 are gone"]);
        assert_eq!(backup.sha256.unwrap().len(), 64);
        assert_eq!(message.destinations[1].archives, None);
        assert!(message.destinations[1].error.is_some());
        assert!(message.backups.unwrap()[0].suspect);
        assert_eq!(message.total, Some(2));
    }

    #[rstest]
    #[case("")]
    #[case("error: the library is missing\n")]
    #[case("7")]
    #[case("{}")]
    #[case(r#"{"result": "succeeded""#)]
    fn other_texts_are_no_message(#[case] text: &str) {
        assert_eq!(Message::read(text), None);
    }

    #[test]
    fn a_message_of_a_later_release_is_read_as_far_as_it_goes() {
        let text = r#"{"version": 2, "job": "backup", "result": "succeeded", "novel": [1]}"#;
        assert!(Message::read(text).unwrap().succeeded());
    }
}
