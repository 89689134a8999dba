//! The guard: whether a volume lost data since its last backup.
//!
//! In come the counts of backups, out come sentences that say what is missing. Nothing is read here.

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

/// The parts that are compared.
pub const GUARDED: [Category; 4] = [
    Category::Models,
    Category::Scalers,
    Category::Config,
    Category::StockData,
];

/// Why data seems lost, compared with what `before` has for each part; empty if nothing does.
pub fn reasons(before: &BTreeMap<Category, Meta>, now: &Tally) -> Vec<String> {
    let of = |totals: &BTreeMap<Category, Total>, category: Category| {
        totals.get(&category).copied().unwrap_or_default()
    };
    let mut reasons = Vec::new();
    for (category, name) in [
        (Category::Models, "models"),
        (Category::Scalers, "scalers"),
        (Category::Config, "config"),
    ] {
        if let Some(previous) = before.get(&category) {
            let before = of(&previous.totals, category);
            reasons.extend(shrunk(name, before, of(&now.totals, category)));
        }
    }
    if let Some(previous) = before.get(&Category::StockData) {
        reasons.extend(shrunk(
            "history",
            previous.guarded.history,
            now.guarded.history,
        ));
    }
    if let Some(previous) = before.get(&Category::Models)
        && now.guarded.models.len() < MAX_MODELS
    {
        let lost: BTreeSet<_> = previous
            .guarded
            .models
            .difference(&now.guarded.models)
            .collect();
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
        Some(format!(
            "{name}: {} files are left of {}",
            now.files, before.files
        ))
    } else if halved(before.bytes, now.bytes) {
        Some(format!(
            "{name}: {} bytes are left of {}",
            now.bytes, before.bytes
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::header::{FORMAT, Kind, Origin};
    use crate::archive::name::ArchiveName;
    use jiff::Timestamp;
    use rstest::rstest;

    const VOLUME: Uuid = Uuid::nil();

    fn tally(files: &[(&str, u64)]) -> Tally {
        let mut tally = Tally::default();
        for (path, size) in files {
            tally.add(VOLUME, &RelativePath::new(*path).unwrap(), *size);
        }
        tally
    }

    fn meta(tally: &Tally) -> Meta {
        Meta {
            format: FORMAT,
            id: Uuid::nil(),
            name: ArchiveName::at(Timestamp::UNIX_EPOCH, false),
            origin: Origin::manual(VOLUME),
            kind: Kind::Full,
            base: None,
            created_at: Timestamp::UNIX_EPOCH,
            include: Category::ALL.to_vec(),
            stored_files: 0,
            stored_bytes: 0,
            archive_bytes: 0,
            sha256: Digest::of(b""),
            key_ids: Vec::new(),
            totals: tally.totals.clone(),
            guarded: tally.guarded.clone(),
            suspect: None,
            verification: None,
        }
    }

    fn measures(meta: &Meta) -> BTreeMap<Category, Meta> {
        GUARDED.map(|category| (category, meta.clone())).into()
    }

    const BEFORE: [(&str, u64); 8] = [
        ("ml_models/a/1/model.onnx", 100),
        ("ml_models/b/1/model.onnx", 100),
        ("scalers/scaler.json", 10),
        ("config/a", 10),
        ("config/b", 10),
        ("stock_data/historical/NVDA/a.csv", 100),
        ("stock_data/historical/TSLA/a.csv", 100),
        ("logs/x", 1000),
    ];

    /// What lies on the volume: the file at the index gets the size, `None` removes it.
    #[rstest]
    #[case::nothing_changed(&[], &[])]
    #[case::logs_may_go(&[(7, None)], &[])]
    #[case::model_gone(&[(1, None)], &["models vanished"])]
    #[case::models_gone(&[(0, None), (1, None)], &["models: all of", "models vanished"])]
    #[case::models_smaller(&[(0, Some(60)), (1, Some(39))], &["models: 99 bytes"])]
    #[case::models_half(&[(0, Some(60)), (1, Some(40))], &[])]
    #[case::scalers_gone(&[(2, None)], &["scalers: all of"])]
    #[case::config_half(&[(3, None)], &[])]
    #[case::config_smaller(&[(3, None), (4, Some(9))], &["config: 9 bytes"])]
    #[case::history_half(&[(5, None)], &[])]
    #[case::history_smaller(&[(5, None), (6, Some(99))], &["history: 99 bytes"])]
    fn losses_are_told(#[case] changes: &[(usize, Option<u64>)], #[case] expected: &[&str]) {
        let mut files: Vec<_> = BEFORE
            .iter()
            .map(|(path, size)| (*path, Some(*size)))
            .collect();
        for (index, size) in changes {
            files[*index].1 = *size;
        }
        let mut left: Vec<_> = files
            .into_iter()
            .filter_map(|(path, size)| Some((path, size?)))
            .collect();
        // A growing cache hides nothing.
        left.push(("stock_data/cache/x", 1_000_000));
        let found = reasons(&measures(&meta(&tally(&BEFORE))), &tally(&left));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn each_part_is_compared_with_its_own_measure() {
        let previous = meta(&tally(&BEFORE));
        let none = Tally::default();
        let only = |category| BTreeMap::from([(category, previous.clone())]);
        assert_eq!(reasons(&only(Category::Config), &none).len(), 1);
        assert_eq!(reasons(&only(Category::Models), &none).len(), 2);
        assert_eq!(reasons(&BTreeMap::new(), &none), Vec::<String>::new());
    }

    #[test]
    fn a_model_that_another_replaced_is_missed_and_no_name_is_told() {
        let now = tally(&[
            ("ml_models/a/1/model.onnx", 100),
            ("ml_models/c/1/model.onnx", 100),
        ]);
        let before = meta(&tally(&BEFORE[..2]));
        let found = reasons(&measures(&before), &now);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            !serde_json::to_string(&before)
                .unwrap()
                .contains("model.onnx")
        );
    }

    #[test]
    fn tallies_of_several_threads_add_up() {
        let (left, right) = BEFORE.split_at(3);
        let mut sum = tally(left);
        sum.merge(tally(right));
        assert_eq!(sum, tally(&BEFORE));
    }
}
