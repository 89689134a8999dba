//! Step 5: says what is the case.
//!
//! In: the findings and the status document. Out: a status write when the document changed, and an Event for each
//! transition that somebody should know of. An Event that can't be written is logged and not tried again: the condition
//! says the same.

use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use stockpredictor_api::condition::ConditionType;
use stockpredictor_api::{StockPredictor, StockPredictorStatus};

use super::conditions::Finding;
use super::status::transitions;
use crate::writer::{Error, Outcome, Writer, explain};

/// The longest note of an Event, in bytes.
const MAX_NOTE: usize = 1000;

/// Writes `status` if it isn't what the object has.
///
/// # Errors
/// When the API server refuses it or can't be reached.
pub async fn update_status(
    writer: &Writer,
    recorder: &Recorder,
    object: &StockPredictor,
    status: &StockPredictorStatus,
    findings: &[Finding],
) -> Result<Outcome, Error> {
    if object.status.as_ref() == Some(status) {
        return Ok(Outcome::Unchanged);
    }
    // The cached object may be older than our last write: whether there is something to say is decided by the live one.
    let Some(before) = writer.apply_status(object, status).await? else {
        return Ok(Outcome::Unchanged);
    };
    for finding in transitions(findings, &before.conditions) {
        publish(recorder, object, &event(finding)).await;
    }
    Ok(Outcome::Written)
}

fn event(finding: &Finding) -> Event {
    Event {
        type_: if finding.is_problem() {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: finding.reason.as_str().to_owned(),
        note: Some(note(&finding.message)),
        action: match finding.kind {
            ConditionType::Reconciled => "Apply",
            ConditionType::VolumeReady => "CheckVolume",
            ConditionType::WorkloadAvailable => "CheckPods",
            ConditionType::Ready
            | ConditionType::ModelReady
            | ConditionType::DataReady
            | ConditionType::Degraded => "CheckPredictor",
        }
        .to_owned(),
        secondary: None,
    }
}

/// Writes an Event about `object`; a failure is only logged.
pub async fn publish(recorder: &Recorder, object: &StockPredictor, event: &Event) {
    if let Err(error) = recorder.publish(event, &object.object_ref(&())).await {
        tracing::warn!(
            error = explain(&error),
            reason = event.reason,
            "the event could not be written"
        );
    }
}

/// A note of at most [`MAX_NOTE`] bytes.
pub fn note(message: &str) -> String {
    let mut end = message.len().min(MAX_NOTE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::note;

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(note(&"é".repeat(600)).len(), 1000);
        assert_eq!(note(&format!("a{}", "é".repeat(600))).len(), 999);
        assert_eq!(note("short"), "short");
    }
}
