//! What lies at the destinations, merged: the same backup at several of them is one.
//!
//! In come catalogs and an owner, out go the counts of each destination and the newest backups.

use std::collections::BTreeMap;

use stockpredictor_storage::archive::header::Origin;
use stockpredictor_storage::archive::meta::Meta;
use stockpredictor_storage::catalog::{Catalog, Record};
use uuid::Uuid;

use super::document::Owner;
use super::message::{MAX_BACKUPS, Message, Row, second};

/// Backups of one owner.
#[derive(Debug, Default)]
pub struct Inventory {
    rows: BTreeMap<Uuid, Row>,
}

/// Whether a backup is of this owner, on whatever volume it was made.
pub fn is_of(owner: &Owner, origin: &Origin) -> bool {
    origin.namespace == owner.namespace
        && origin.predictor == owner.predictor
        && owner
            .backup
            .as_ref()
            .is_none_or(|backup| backup.is_empty() || *backup == origin.backup)
}

impl Inventory {
    /// Adds what lies at a destination and returns how many archives of the owner these are, and their bytes.
    pub fn add(&mut self, name: &str, catalog: &Catalog, owner: &Owner) -> (usize, u64) {
        let (mut archives, mut bytes) = (0, 0_u64);
        for record in &catalog.records {
            let (Some(size), Some(meta)) = (record.size, &record.meta) else {
                continue;
            };
            if !is_of(owner, &meta.origin) || record.is_unfinished() {
                continue;
            }
            archives += 1;
            bytes = bytes.saturating_add(size);
            self.take(name, record, meta);
        }
        (archives, bytes)
    }

    fn take(&mut self, name: &str, record: &Record, meta: &Meta) {
        let verification = meta.verification;
        let level = verification.map(|verification| verification.level);
        let row = self.rows.entry(meta.id).or_insert_with(|| Row {
            name: meta.name,
            id: meta.id,
            kind: meta.kind,
            base: record.base(),
            created_at: (meta.created_at.as_second() != meta.name.time().as_second())
                .then_some(meta.created_at),
            bytes: meta.archive_bytes,
            files: meta.stored_files,
            key_ids: meta.key_ids.clone(),
            level: None,
            verified_at: None,
            suspect: false,
            destinations: Vec::new(),
        });
        if level > row.level {
            row.level = level;
            row.verified_at = verification.map(|verification| second(verification.at));
        }
        row.suspect |= meta.is_suspect();
        row.destinations.push(name.to_owned());
    }

    /// Puts the newest into the message.
    pub fn tell(self, message: &mut Message) {
        let mut rows: Vec<Row> = self.rows.into_values().collect();
        message.total = Some(rows.len());
        rows.sort_by_key(|row| std::cmp::Reverse((row.name, row.id)));
        rows.truncate(MAX_BACKUPS);
        message.backups = Some(rows);
    }
}
