//! The status document.
//!
//! In: findings, what was seen, the status before, and the time. Out: the status that should be there now. Pure. What did
//! not change keeps its time, so that an unchanged state is an unchanged document and nothing is written.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use stockpredictor_api::condition::ConditionType;
use stockpredictor_api::{ModelStatus, StockPredictorStatus, VolumeStatus};

use super::claim;
use super::conditions::{Finding, Seen};
use super::labels;
use super::stats::{Model, Volume};
use crate::quantity;

/// `Used` is refreshed at most so often, in seconds.
const USED_INTERVAL: i64 = 600;
/// The longest text of symbols for the printer column.
const MAX_SYMBOLS: usize = 64;
/// The longest message of a condition that the API server takes.
const MAX_MESSAGE: usize = 32_768;

/// The status now.
pub fn status(
    seen: Seen<'_>,
    findings: &[Finding],
    before: Option<&StockPredictorStatus>,
    now: &Time,
) -> StockPredictorStatus {
    let empty = StockPredictorStatus::default();
    let before = before.unwrap_or(&empty);
    let predictor = seen.predictor;
    let replicas = seen
        .deployment
        .and_then(|deployment| deployment.status.as_ref());
    let model = seen
        .stats
        .iter()
        .map(|stats| &stats.model)
        .find(|model| model.state.as_deref() == Some("Loaded"));
    StockPredictorStatus {
        observed_generation: Some(predictor.generation),
        conditions: conditions(findings, &before.conditions, predictor.generation, now),
        replicas: Some(
            replicas
                .and_then(|status| status.replicas)
                .unwrap_or_default(),
        ),
        ready_replicas: Some(
            replicas
                .and_then(|status| status.ready_replicas)
                .unwrap_or_default(),
        ),
        selector: Some(labels::as_text(&labels::selector(&predictor.name))),
        symbols: Some(symbols(&predictor.spec.symbols)),
        model: match model {
            Some(model) => Some(model_status(model)),
            // A predictor that doesn't answer for a moment has not lost its model.
            None if seen.stats.is_empty() && predictor.stopped.is_none() => before.model.clone(),
            None => None,
        },
        volume: Some(volume(seen, before.volume.as_ref(), now)),
    }
}

/// The status of an object that can't be built: conditions only, the rest as it was.
pub fn invalid_status(
    generation: i64,
    findings: &[Finding],
    before: Option<&StockPredictorStatus>,
    now: &Time,
) -> StockPredictorStatus {
    let before = before.cloned().unwrap_or_default();
    StockPredictorStatus {
        observed_generation: Some(generation),
        conditions: conditions(findings, &before.conditions, generation, now),
        ..before
    }
}

/// Conditions with their times: one whose value is the same keeps it.
pub fn conditions(
    findings: &[Finding],
    before: &[Condition],
    generation: i64,
    now: &Time,
) -> Vec<Condition> {
    let conditions = findings.iter().map(|finding| {
        let kind = finding.kind.as_str();
        let since = before
            .iter()
            .find(|old| old.type_ == kind && old.status == finding.state.as_str());
        Condition {
            type_: kind.to_owned(),
            status: finding.state.as_str().to_owned(),
            reason: finding.reason.as_str().to_owned(),
            message: finding.message.chars().take(MAX_MESSAGE / 4).collect(),
            observed_generation: Some(generation),
            last_transition_time: since
                .map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
        }
    });
    conditions.collect()
}

/// The findings whose value or reason is new. `Ready` repeats another one, so it only counts when it becomes true.
pub fn transitions<'a>(findings: &'a [Finding], before: &[Condition]) -> Vec<&'a Finding> {
    let is_new = |finding: &&Finding| {
        let old = before.iter().find(|old| old.type_ == finding.kind.as_str());
        old.is_none_or(|old| {
            old.status != finding.state.as_str() || old.reason != finding.reason.as_str()
        })
    };
    let became_ready = |finding: &Finding| {
        let was = before
            .iter()
            .find(|old| old.type_ == ConditionType::Ready.as_str());
        finding.state.as_str() == "True" && was.is_none_or(|old| old.status != "True")
    };
    let told = |finding: &&Finding| match finding.kind {
        ConditionType::Ready => became_ready(finding),
        _ => finding.is_problem(),
    };
    findings.iter().filter(is_new).filter(told).collect()
}

/// The model's folder below `ml_models/`.
pub fn folder(model: &Model) -> Option<String> {
    match (&model.name, &model.version) {
        (Some(name), Some(version)) => Some(format!("{name}/{version}")),
        (Some(name), None) => Some(name.clone()),
        _ => None,
    }
}

/// A foreign text, cut to what the schema takes: one that is too long would have the whole status refused.
fn short(text: Option<&String>, limit: usize) -> Option<String> {
    Some(text?.chars().take(limit).collect())
}

fn model_status(model: &Model) -> ModelStatus {
    ModelStatus {
        folder: short(folder(model).as_ref(), 256),
        name: short(model.name.as_ref(), 128),
        version: short(model.version.as_ref(), 128),
        sha256: short(model.sha256.as_ref(), 64),
        state: short(model.state.as_ref(), 64),
    }
}

fn volume(seen: Seen<'_>, before: Option<&VolumeStatus>, now: &Time) -> VolumeStatus {
    let empty = VolumeStatus::default();
    let before = before.unwrap_or(&empty);
    let said = seen
        .stats
        .iter()
        .map(|stats| &stats.volume)
        .find(|volume| volume.used_bytes.is_some());
    let (used, usage, used_at) = match said.and_then(|volume| used(volume, before, now)) {
        Some((used, usage)) => (Some(used), Some(usage), Some(now.clone())),
        None => (
            before.used.clone(),
            before.usage.clone(),
            before.used_at.clone(),
        ),
    };
    VolumeStatus {
        claim_name: Some(seen.predictor.claim_name().to_owned()),
        phase: seen.claim.and_then(claim::phase).map(str::to_owned),
        capacity: seen.claim.and_then(claim::capacity),
        used,
        usage,
        used_at,
        id: seen
            .stats
            .iter()
            .find_map(|stats| short(stats.volume.id.as_ref(), 64))
            .or_else(|| before.id.clone()),
        holds_archives: seen
            .stats
            .iter()
            .find_map(|stats| stats.volume.holds_archives)
            .or(before.holds_archives),
    }
}

/// What is used, when it is time to say it anew: it moved by 1 % of the capacity, and the last time is long ago.
fn used(volume: &Volume, before: &VolumeStatus, now: &Time) -> Option<(String, String)> {
    let (used, capacity) = (
        volume.used_bytes?,
        volume.capacity_bytes.filter(|capacity| *capacity > 0)?,
    );
    if let (Some(old), Some(at)) = (
        before.used.as_deref().and_then(quantity::units),
        &before.used_at,
    ) {
        let moved = used.abs_diff(old) >= capacity / 100;
        let rested = now.0.as_second() - at.0.as_second() >= USED_INTERVAL;
        if !moved || !rested {
            return None;
        }
    }
    let percent = u128::from(used) * 100 / u128::from(capacity);
    let text = quantity::bytes(used);
    Some((text.clone(), format!("{text} ({percent}%)")))
}

/// The symbols as one text; many are counted.
fn symbols(symbols: &[String]) -> String {
    let all = symbols.join(",");
    if all.len() <= MAX_SYMBOLS {
        return all;
    }
    let mut text = String::new();
    for symbol in symbols {
        if text.len() + symbol.len() + 1 > MAX_SYMBOLS - 12 {
            break;
        }
        text.push_str(symbol);
        text.push(',');
    }
    format!("{text}… ({})", symbols.len())
}

#[cfg(test)]
#[path = "status_test.rs"]
mod tests;
