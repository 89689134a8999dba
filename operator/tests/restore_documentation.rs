//! docs/restores.md has a row for each word with which a restore can fail or wait, and none for anything else.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use stockpredictor_api::restore_condition::RestoreReason;

const PAGE: &str = include_str!("../../docs/restores.md");
const CONTRACT: &str = include_str!("../../contracts/jobs.json");

/// The words of the table of reasons.
fn rows() -> BTreeSet<String> {
    let (_, table) = PAGE.split_once("| reason |").unwrap();
    let table = table
        .lines()
        .take_while(|line| line.starts_with('|') || line.starts_with(' '));
    table
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split(','))
        .map(|word| word.trim().trim_matches('`').to_owned())
        .filter(|word| word.starts_with(|first: char| first.is_ascii_uppercase()))
        .collect()
}

#[test]
fn every_word_of_a_failed_or_waiting_restore_has_a_row_and_no_other_row_exists() {
    let contract: serde_json::Value = serde_json::from_str(CONTRACT).unwrap();
    let mut known: BTreeSet<String> = ["retry", "final"]
        .iter()
        .flat_map(|list| contract["reasons"][list].as_array().unwrap())
        .map(|word| word.as_str().unwrap().to_owned())
        .collect();
    // The other words are phases, which have a table of their own.
    let phases = [
        "Restored",
        "Planned",
        "InProgress",
        "RollingBack",
        "RolledBack",
        "Held",
    ];
    known.extend(
        RestoreReason::ALL
            .iter()
            .map(|reason| reason.as_str().to_owned())
            .filter(|word| !phases.contains(&word.as_str())),
    );
    assert_eq!(known, rows());
}
