//! `NAME.meta.json` beside an archive: never encrypted, never with names of files.
//!
//! It makes lists and retention cheap. What it says is a hint only: anyone who can write to the store can
//! forge it, so nothing is restored by its word.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::category::Category;
use super::digest::Digest;
use super::header::{Base, Kind, Origin};
use super::name::ArchiveName;
use crate::text;

/// Largest file that is read, in bytes.
pub const MAX_META: usize = 256 << 10;

/// The content of `NAME.meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Version of the format.
    pub format: u32,
    /// The backup's id.
    pub id: Uuid,
    /// The archive's name.
    pub name: ArchiveName,
    /// Whose it is.
    pub origin: Origin,
    /// Whether it stands alone.
    pub kind: Kind,
    /// What it is based on; only for an incremental one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// When the backup began.
    pub created_at: Timestamp,
    /// What was asked for.
    pub include: Vec<Category>,
    /// Files that the archive stores.
    pub stored_files: u64,
    /// Bytes of these files, uncompressed.
    pub stored_bytes: u64,
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// SHA-256 of the whole archive, encryption included.
    pub sha256: Digest,
    /// Recipients that it was encrypted to; empty when it isn't encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_ids: Vec<String>,
    /// What lay on the volume, by part: the guard compares it with the next backup's.
    pub totals: BTreeMap<Category, Total>,
    /// What the guard compares besides.
    #[serde(default)]
    pub guarded: Guarded,
    /// Why the guard suspects that data was lost before this backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<Suspect>,
    /// The best level that was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

/// Files and bytes of one part of the volume, the base's included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What the guard looks at and no part of the volume shows by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// `stock_data/historical/` alone, so that a growing cache can't hide a loss.
    pub history: Total,
    /// A mark for each model, which tells them apart and doesn't name them.
    #[serde(default)]
    pub models: BTreeSet<String>,
}

/// The guard's verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Sentences without names of files.
    pub reasons: Vec<String>,
    /// Whether a person said that the loss was intended.
    pub accepted: bool,
}

/// How well an archive was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The bytes are those that were written.
    Stored,
    /// Decrypted and unpacked; every file's hash is right.
    Readable,
    /// Restored to a scratch folder, where the model gave its golden predictions.
    Proven,
}

/// The best level that was reached, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The level.
    pub level: Level,
    /// When.
    pub at: Timestamp,
}

impl Meta {
    /// Reads the file beside an archive.
    ///
    /// Whoever can write to a store can put anything there: control characters, which could write on a person's
    /// terminal, are escaped, also in the reason of a refusal.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let read = serde_json::from_slice(bytes);
        let mut meta: Self = read.map_err(|error| text::visible(&error.to_string()))?;
        let origin = &mut meta.origin;
        let reasons = meta
            .suspect
            .iter_mut()
            .flat_map(|suspect| &mut suspect.reasons);
        [
            &mut origin.namespace,
            &mut origin.predictor,
            &mut origin.backup,
        ]
        .into_iter()
        .chain(&mut meta.key_ids)
        .chain(reasons)
        .for_each(|shown| *shown = text::visible(shown));
        Ok(meta)
    }

    /// Whether the guard's doubt still stands.
    pub fn is_suspect(&self) -> bool {
        self.suspect
            .as_ref()
            .is_some_and(|suspect| !suspect.accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::full;

    #[test]
    fn nothing_in_it_can_write_on_a_terminal() {
        let mut forged = full(1_754_000_000);
        forged.origin.predictor = "\u{1b}[2Jnvda".to_owned();
        forged.key_ids = vec!["\u{9b}1m".to_owned()];
        forged.suspect = Some(Suspect {
            reasons: vec!["a\rb\n\u{7}".to_owned()],
            accepted: false,
        });
        let read = Meta::read(&serde_json::to_vec(&forged).unwrap()).unwrap();
        assert_eq!(read.origin.predictor, "\\u{1b}[2Jnvda");
        assert_eq!(read.key_ids, ["\\u{9b}1m"]);
        assert_eq!(read.suspect.unwrap().reasons, ["a\\rb\\n\\u{7}"]);
        let mut value = serde_json::to_value(full(1_754_000_000)).unwrap();
        value["kind"] = "\u{1b}[31m".into();
        let reason = Meta::read(value.to_string().as_bytes()).unwrap_err();
        assert!(!reason.contains('\u{1b}'), "{reason:?}");
        let plain = full(1_754_000_000);
        assert_eq!(Meta::read(&serde_json::to_vec(&plain).unwrap()), Ok(plain));
    }
}
