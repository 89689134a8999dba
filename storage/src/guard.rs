//! The guard: whether a volume lost data since its last backup.
//!
//! In come the counts of two backups, out come sentences that say what is missing. Nothing is read here.

use std::collections::BTreeSet;

use crate::archive::category::Category;
use crate::archive::digest::Digest;
use crate::archive::meta::{Guarded, Meta, Total};
use crate::archive::path::RelativePath;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Most models whose marks are kept.
const MAX_MODELS: usize = 1000;

/// What lies on a volume, counted while it is walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By part.
    pub totals: BTreeMap<Category, Total>,
    /// What only the guard needs.
    pub guarded: Guarded,
}

impl Tally {
    /// Counts a regular file.
    pub fn add(&mut self, volume: Uuid, path: &RelativePath, size: u64) {
        let Some(category) = Category::of_top_level(path.top_level()) else {
            return;
        };
        count(self.totals.entry(category).or_default(), 1, size);
        match category {
            Category::StockData if path.is_within(b"stock_data/historical") => {
                count(&mut self.guarded.history, 1, size);
            }
            Category::Models => {
                let name = path.components().nth(1).unwrap_or_default();
                let models = &mut self.guarded.models;
                if models.len() < MAX_MODELS {
                    models.insert(mark(volume, name));
                }
            }
            _ => {}
        }
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: Self) {
        for (category, total) in other.totals {
            let own = self.totals.entry(category).or_default();
            count(own, total.files, total.bytes);
        }
        let history = other.guarded.history;
        count(&mut self.guarded.history, history.files, history.bytes);
        self.guarded.models.extend(other.guarded.models);
    }
}

fn count(total: &mut Total, files: u64, bytes: u64) {
    total.files = total.files.saturating_add(files);
    total.bytes = total.bytes.saturating_add(bytes);
}

/// Tells models apart without naming them: what lies beside an archive has no names.
fn mark(volume: Uuid, name: &[u8]) -> String {
    let whole = Digest::of(&[volume.as_bytes(), name].concat()).to_string();
    whole.chars().take(16).collect()
}

/// Why data seems lost, compared with `previous`; empty if nothing does.
pub fn reasons(previous: &Meta, include: &[Category], now: &Tally) -> Vec<String> {
    let is_compared =
        |category: Category| include.contains(&category) && previous.include.contains(&category);
    let of = |totals: &BTreeMap<Category, Total>, category: Category| {
        totals.get(&category).copied().unwrap_or_default()
    };
    let mut reasons = Vec::new();
    for (category, name) in [
        (Category::Models, "models"),
        (Category::Scalers, "scalers"),
        (Category::Config, "config"),
    ] {
        if is_compared(category) {
            let before = of(&previous.totals, category);
            reasons.extend(shrunk(name, before, of(&now.totals, category)));
        }
    }
    if is_compared(Category::StockData) {
        reasons.extend(shrunk("history", previous.guarded.history, now.guarded.history));
    }
    if is_compared(Category::Models) && now.guarded.models.len() < MAX_MODELS {
        let lost: BTreeSet<_> = previous.guarded.models.difference(&now.guarded.models).collect();
        if !lost.is_empty() {
            reasons.push(format!(
                "{} of {} models vanished since {}",
                lost.len(),
                previous.guarded.models.len(),
                previous.name.stem()
            ));
        }
    }
    reasons
}

fn shrunk(name: &str, before: Total, now: Total) -> Option<String> {
    if before.files > 0 && now.files == 0 {
        return Some(format!("{name}: all of {} files are gone", before.files));
    }
    let halved = |before: u64, now: u64| now < before.div_ceil(2);
    if halved(before.files, now.files) {
        Some(format!("{name}: {} files are left of {}", now.files, before.files))
    } else if halved(before.bytes, now.bytes) {
        Some(format!("{name}: {} bytes are left of {}", now.bytes, before.bytes))
    } else {
        None
    }
}
