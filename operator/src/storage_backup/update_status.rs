//! Step 5: says what is the case.
//!
//! In: the status document and the findings. Out: a status write when the document changed, and an Event for what happened
//! since the live one. An Event that can't be written is logged and not tried again: the status says the same.

use kube::Resource;
use kube::runtime::events::{Event, Recorder};
use stockpredictor_api::{StorageBackup, StorageBackupStatus};

use super::conditions::Finding;
use super::status::notes;
use crate::stock_predictor::update_status::note;
use crate::writer::{Error, Outcome, Writer, explain};

/// Writes `status` if it isn't what the object has.
///
/// # Errors
/// When the API server refuses it or can't be reached.
pub async fn update_status(
    writer: &Writer,
    recorder: &Recorder,
    object: &StorageBackup,
    status: &StorageBackupStatus,
    findings: &[Finding],
) -> Result<Outcome, Error> {
    if object.status.as_ref() == Some(status) {
        return Ok(Outcome::Unchanged);
    }
    // The cached object may be older than our last write: whether there is something to say is decided by the live one.
    let Some(before) = writer.apply_status(object, status).await? else {
        return Ok(Outcome::Unchanged);
    };
    for told in notes(&before, status, findings) {
        let event = Event {
            type_: told.event_type(),
            note: Some(note(&told.text)),
            reason: told.reason,
            action: "Backup".to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(
                error = explain(&error),
                reason = event.reason,
                "the event could not be written"
            );
        }
    }
    Ok(Outcome::Written)
}
