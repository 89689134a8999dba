//! The documentation names every condition and every reason, in the words of the API.

use std::collections::BTreeSet;

use stockpredictor_api::condition::{ConditionType, Reason};

const PAGE: &str = include_str!("../../docs/operator.md");

/// The cells of each row of each table.
fn rows() -> Vec<Vec<&'static str>> {
    let tables = PAGE.lines().filter(|line| line.starts_with("| `"));
    tables
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn every_condition_has_a_row() {
    for kind in ConditionType::ALL {
        let name = format!("`{}`", kind.as_str());
        assert!(
            rows().iter().any(|row| row.len() == 2 && row[0] == name),
            "docs/operator.md has no row for {name}"
        );
    }
}

#[test]
fn every_reason_has_a_row_with_its_meaning_and_what_to_do() {
    for reason in Reason::ALL {
        let name = format!("`{}`", reason.as_str());
        let rows = rows();
        let row = rows.iter().find(|row| row.len() == 3 && row[0] == name);
        let row = row.unwrap_or_else(|| panic!("docs/operator.md has no row for {name}"));
        assert_eq!(
            row[1],
            reason.meaning().trim(),
            "the meaning of {name} in docs/operator.md"
        );
        assert!(!row[2].is_empty(), "{name} does not say what to do");
    }
}

#[test]
fn no_row_names_a_reason_that_does_not_exist() {
    let known: BTreeSet<_> = Reason::ALL
        .iter()
        .map(|reason| format!("`{}`", reason.as_str()))
        .collect();
    for row in rows().into_iter().filter(|row| row.len() == 3) {
        assert!(
            known.contains(row[0]),
            "docs/operator.md names {}, which is no reason",
            row[0]
        );
    }
}

#[test]
fn the_page_on_restores_names_each_phase_and_each_reason_to_act_on() {
    use stockpredictor_api::restore_condition::RestoreReason;

    let page = include_str!("../../docs/restores.md");
    for phase in [
        "Pending",
        "Preflight",
        "Holding",
        "Preparing",
        "Switching",
        "Starting",
        "Committing",
        "Completed",
        "RollingBack",
        "Restarting",
        "RolledBack",
        "Failed",
        "Held",
    ] {
        assert!(page.contains(&format!("`{phase}`")), "no phase {phase}");
    }
    let problems = [
        RestoreReason::ReferenceMissing,
        RestoreReason::ClaimNotUsable,
        RestoreReason::WaitsForRestore,
        RestoreReason::WaitsForPods,
        RestoreReason::NotReady,
        RestoreReason::TimedOut,
        RestoreReason::JobNotStarted,
    ];
    for reason in problems {
        let name = reason.as_str();
        assert!(page.contains(&format!("| `{name}` |")), "no row for {name}");
    }
    for word in [
        "NoBackup",
        "Unattested",
        "Damaged",
        "ChainBroken",
        "HashMismatch",
        "KeyMissing",
        "KeyWrong",
        "NoSpace",
        "NotProven",
    ] {
        assert!(page.contains(&format!("`{word}`")), "no row for {word}");
    }
}
