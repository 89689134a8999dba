//! Step 5: says what is the case.
//!
//! In: the status document and the findings. Out: a status write when the document changed, and an Event for what happened
//! since. It is never written over one that it wasn't made from: a cache that lags would take back what was noted. An Event
//! that can't be written is logged and not tried again: the status says the same.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, Recorder};
use kube::{Resource, ResourceExt};
use stockpredictor_api::{StorageBackup, StorageBackupStatus};

use super::conditions::Finding;
use super::status::notes;
use crate::stock_predictor::update_status::note;
use crate::writer::{Error, Writer, explain};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The object has that status, or is gone.
    Already,
    /// It was written.
    Now,
    /// The object isn't the one of the cache any more.
    Stale,
}

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
) -> Result<Told, Error> {
    if object.status.as_ref() == Some(status) {
        return Ok(Told::Already);
    }
    match writer.set_status(object, status).await {
        Ok(()) => {}
        // The cache is told of the change, and the next pass makes the status from that.
        Err(error) if error.category() == "conflict" => return Ok(Told::Stale),
        Err(error) if error.category() == "not_found" => return Ok(Told::Already),
        Err(error) => return Err(error),
    }
    let before = object.status.clone().unwrap_or_default();
    // Equal reasons become one Event with the note of the first, so that each run needs something of its own.
    let job = |status: &StorageBackupStatus| {
        let ended = status.last_run.as_ref().map(|run| run.job.clone());
        status.active.clone().or(ended)
    };
    let job = job(status).map(|name| ObjectReference {
        api_version: Some("batch/v1".into()),
        kind: Some("Job".into()),
        namespace: object.namespace(),
        name: Some(name),
        ..ObjectReference::default()
    });
    for told in notes(&before, status, findings) {
        let event = Event {
            type_: told.event_type(),
            note: Some(note(&told.text)),
            reason: told.reason,
            action: "Backup".to_owned(),
            secondary: job.clone(),
        };
        if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(
                error = explain(&error),
                reason = event.reason,
                "the event could not be written"
            );
        }
    }
    Ok(Told::Now)
}
