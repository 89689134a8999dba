//! Retention at one destination after a backup.
//!
//! In come a destination that has the new archive and a policy, out comes what was deleted. What a restore has pinned stays.

use jiff::Timestamp;
use serde::Serialize;
use stockpredictor_storage::archive::header::Origin;
use stockpredictor_storage::catalog::Catalog;
use stockpredictor_storage::destination::{Destination, DestinationError};
use stockpredictor_storage::retention::{self, Policy};
use uuid::Uuid;

/// What retention did at one destination.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    pub destination: String,
    pub kept: usize,
    pub deleted: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Deletes what the policy lets go; `new` is the backup that was just made and stays in any case.
pub fn retain(
    destination: &dyn Destination,
    origin: &Origin,
    policy: &Policy,
    new: Uuid,
    now: Timestamp,
) -> Retention {
    let mut told = Retention {
        destination: destination.label(),
        kept: 0,
        deleted: Vec::new(),
        error: None,
    };
    told.error = apply(destination, origin, policy, new, now, &mut told)
        .err()
        .map(|error| error.to_string());
    told
}

fn apply(
    destination: &dyn Destination,
    origin: &Origin,
    policy: &Policy,
    new: Uuid,
    now: Timestamp,
    told: &mut Retention,
) -> Result<(), DestinationError> {
    let catalog = Catalog::read(destination)?;
    let mut pinned = catalog.pinned(now);
    pinned.insert(new);
    let decision = retention::decide(&catalog.records, origin, policy, now, &pinned);
    let report = retention::apply(&decision, destination);
    told.kept = decision.keep.len();
    told.deleted = report.deleted.iter().map(ToString::to_string).collect();
    match report.failed {
        Some(error) => Err(error),
        None => retention::remove_expired_pins(&catalog, destination, now),
    }
}
