//! What the predictor says about itself, as conditions.
//!
//! In: what was seen, the stats above all. Out: `ModelReady`, `DataReady` and `Degraded`. States and types of problems
//! are the predictor's own words, from its stats; one that isn't known here is quoted.

use stockpredictor_api::condition::{ConditionType, Reason};

use super::{Finding, Seen, State};
use crate::stock_predictor::validate::Stopped;
use crate::stock_predictor::{pods, status};

/// Symbols that a message names at most.
const NAMED: usize = 10;

/// `ModelReady`.
pub fn model_ready(seen: Seen<'_>) -> Finding {
    let finding = |state, reason, message: String| {
        Finding::new(ConditionType::ModelReady, state, reason, message)
    };
    if let Some(carried) = seen.carried(ConditionType::ModelReady) {
        return carried;
    }
    if let Some(unasked) = unasked(seen) {
        return finding(State::Unknown, unasked.0, unasked.1.into());
    }
    let states = || {
        seen.stats.iter().map(|stats| {
            (
                &stats.model,
                stats.model.state.as_deref().unwrap_or_default(),
            )
        })
    };
    let said = |message: &Option<String>| message.clone().unwrap_or_default();
    if let Some((model, _)) = states().find(|(_, state)| *state == "ModelMissing") {
        let name = model
            .name
            .clone()
            .or_else(|| seen.predictor.spec.model.as_ref()?.name.clone())
            .unwrap_or_default();
        return finding(
            State::False,
            Reason::ModelMissing,
            format!(
                "the volume doesn't have the model {name}: {}; put it under ml_models/, or correct spec.model",
                pods::quote(&said(&model.message)),
            ),
        );
    }
    if let Some((model, _)) = states().find(|(_, state)| *state == "ModelRefused") {
        return finding(
            State::False,
            Reason::ModelRefused,
            format!(
                "the model failed its checks: {}; put a sound version, or pin one with spec.model.version",
                pods::quote(&said(&model.message)),
            ),
        );
    }
    if states().any(|(_, state)| state == "Loading") {
        let message = "the model is being loaded";
        return finding(State::Unknown, Reason::Progressing, message.into());
    }
    if let Some((_, state)) = states().find(|(_, state)| *state != "Loaded") {
        return finding(
            State::Unknown,
            Reason::Progressing,
            format!("the model is in the state {state:?}"),
        );
    }
    let model = seen.stats.first().map(|stats| &stats.model);
    let folder = model
        .and_then(status::folder)
        .unwrap_or_else(|| "the model".into());
    finding(State::True, Reason::Loaded, format!("{folder} answers"))
}

/// `DataReady`.
pub fn data_ready(seen: Seen<'_>) -> Finding {
    let finding = |state, reason, message: String| {
        Finding::new(ConditionType::DataReady, state, reason, message)
    };
    if let Some(carried) = seen.carried(ConditionType::DataReady) {
        return carried;
    }
    if let Some(unasked) = unasked(seen) {
        return finding(State::Unknown, unasked.0, unasked.1.into());
    }
    let symbols = || seen.stats.iter().flat_map(|stats| &stats.symbols);
    for (reason, what, fix) in [
        (
            Reason::HistoryMissing,
            "no price history",
            "put CSVs under stock_data/historical/<SYMBOL>/",
        ),
        (
            Reason::HistoryRefused,
            "price history that can't be used",
            "correct or replace those CSVs",
        ),
    ] {
        let concerned = |state: &str| match reason {
            Reason::HistoryMissing => state == "NoHistory",
            _ => state != "Ready" && state != "NoHistory",
        };
        let mut names: Vec<_> = symbols()
            .filter(|s| concerned(&s.state))
            .map(|s| s.symbol.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        if let Some(first) = symbols().find(|s| concerned(&s.state)) {
            let detail = pods::quote(first.message.as_deref().unwrap_or("no detail"));
            let message = format!(
                "{}: {what} ({}: {detail}); {fix}",
                listed(&names),
                first.symbol
            );
            return finding(State::False, reason, message);
        }
    }
    finding(
        State::True,
        Reason::HistoryPresent,
        "every symbol has price history".into(),
    )
}

/// `Degraded`.
pub fn degraded(seen: Seen<'_>) -> Finding {
    let finding = |state, reason, message: String| {
        Finding::new(ConditionType::Degraded, state, reason, message)
    };
    if let Some(carried) = seen.carried(ConditionType::Degraded) {
        return carried;
    }
    let problems = || seen.stats.iter().flat_map(|stats| &stats.problems);
    let known = [
        (
            "VolumeFull",
            Reason::VolumeFull,
            "free space, or let spec.storage.size grow",
        ),
        (
            "VolumeNotWritable",
            Reason::VolumeNotWritable,
            "check the volume and its file system",
        ),
    ];
    for (kind, reason, fix) in known {
        if let Some(problem) = problems().find(|problem| problem.kind == kind) {
            return finding(
                State::True,
                reason,
                format!("{}; {fix}", pods::quote(&problem.message)),
            );
        }
    }
    if seen
        .stats
        .iter()
        .any(|stats| stats.volume.writable == Some(false))
    {
        let message = "the predictor can't write its volume; check the volume and its file system";
        return finding(State::True, Reason::VolumeNotWritable, message.into());
    }
    if let Some(candidate) = seen
        .stats
        .iter()
        .find_map(|stats| stats.model.candidate.as_ref())
    {
        return finding(
            State::True,
            Reason::CandidateRefused,
            format!(
                "the model version {} failed its checks, and the one before answers: {}",
                candidate.version.as_deref().unwrap_or("that was put last"),
                pods::quote(
                    candidate
                        .message
                        .as_deref()
                        .unwrap_or("no detail; see the predictor's log")
                ),
            ),
        );
    }
    // Models and symbols have conditions of their own.
    let told = |kind: &str| {
        kind.starts_with("Model")
            || kind.starts_with("History")
            || kind.starts_with("Symbol")
            || kind == "NoHistory"
    };
    if let Some(problem) = problems().find(|problem| !told(&problem.kind)) {
        return finding(
            State::True,
            Reason::PredictorProblem,
            format!("{}: {}", problem.kind, pods::quote(&problem.message)),
        );
    }
    finding(
        State::False,
        Reason::NotDegraded,
        "nothing is missing".into(),
    )
}

/// Why the predictor was not asked.
fn unasked(seen: Seen<'_>) -> Option<(Reason, &'static str)> {
    if seen.predictor.hold().is_some() {
        return Some((
            Reason::RestoreInProgress,
            "no pod runs that could be asked: a StorageRestore works on the volume",
        ));
    }
    if seen.predictor.stopped == Some(Stopped::ByBootstrap) {
        return Some((Reason::Progressing, "the predictor doesn't run yet"));
    }
    if seen.predictor.stopped.is_some() {
        return Some((Reason::Suspended, "no pod runs that could be asked"));
    }
    if !seen.stats.is_empty() {
        return None;
    }
    if seen.pods.iter().any(|pod| pods::is_ready(pod)) {
        return Some((
            Reason::Unknown,
            "the predictor doesn't answer the operator; may the operator's pod reach port 8080?",
        ));
    }
    Some((Reason::Progressing, "the predictor doesn't run yet"))
}

fn listed(names: &[&str]) -> String {
    let head = names
        .iter()
        .take(NAMED)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMED {
        format!("{head} and {} more", names.len() - NAMED)
    } else {
        head
    }
}
