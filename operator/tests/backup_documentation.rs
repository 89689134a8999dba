//! The page on backups names every condition and every reason, in the words of the API, and each reason of a failed run.

use std::collections::BTreeSet;

use stockpredictor_api::backup_condition::{BackupCondition, BackupReason};

const PAGE: &str = include_str!("../../docs/backups.md");
const CONTRACT: &str = include_str!("../../contracts/jobs.json");

/// The cells of each row of each table.
fn rows() -> Vec<Vec<&'static str>> {
    let tables = PAGE.lines().filter(|line| line.starts_with("| `"));
    tables
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn every_condition_has_a_row_with_its_meaning() {
    for kind in BackupCondition::ALL {
        let name = format!("`{}`", kind.as_str());
        let found = rows()
            .iter()
            .any(|row| row[..] == [name.as_str(), kind.meaning()]);
        assert!(found, "docs/backups.md has no row for {name}");
    }
}

#[test]
fn every_reason_has_a_row_with_its_meaning_and_what_to_do() {
    for reason in BackupReason::ALL {
        let name = format!("`{}`", reason.as_str());
        let rows = rows();
        let row = rows.iter().find(|row| row.len() == 3 && row[0] == name);
        let row = row.unwrap_or_else(|| panic!("docs/backups.md has no row for {name}"));
        assert_eq!(
            row[1],
            reason.meaning().trim(),
            "the meaning of {name} in docs/backups.md"
        );
        assert!(!row[2].is_empty(), "{name} does not say what to do");
    }
}

#[test]
fn every_word_of_a_failed_backup_has_a_row_and_no_other_row_exists() {
    let contract: serde_json::Value = serde_json::from_str(CONTRACT).unwrap();
    let mut known: BTreeSet<_> = BackupReason::ALL
        .iter()
        .map(|reason| format!("`{}`", reason.as_str()))
        .collect();
    for list in ["retry", "final"] {
        for word in contract["reasons"][list].as_array().unwrap() {
            let word = word.as_str().unwrap();
            // What only a restore can say has its row in docs/restores.md.
            if !["NotPrepared", "VolumeNotEmpty"].contains(&word) {
                known.insert(format!("`{word}`"));
            }
        }
    }
    let rows: BTreeSet<_> = rows()
        .into_iter()
        .filter(|row| row.len() == 3)
        .map(|row| row[0].to_owned())
        .collect();
    assert_eq!(known, rows);
}
