//! Pins: small files beside an archive that keep retention away while a restore uses it.
//!
//! In come an archive's name, a restore's id and the time; out goes `NAME.pin.<id>` with the moment at which it stops to
//! count, so that a restore that died pins nothing for ever. A pin holds the archive and what it is based on.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::archive::name::ArchiveName;
use crate::destination::{Destination, DestinationError, Item};

/// How long a pin counts after it was put or refreshed.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Longest pin that is read, in bytes.
const MAX_PIN: usize = 4 << 10;
/// Most pins that are read; those beyond count as valid.
const MAX_READ: usize = 256;
/// The version that this release writes.
const FORMAT: u32 = 1;
/// What stands between the archive's name and the id.
const MIDDLE: &str = ".pin.";

/// A pin that lies at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The archive that it holds.
    pub archive: ArchiveName,
    /// The restore that put it there.
    pub restore: Uuid,
    /// From then on it doesn't count. `None` if the file can't be understood: then it counts.
    pub expires_at: Option<Timestamp>,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    format: u32,
    restore: Uuid,
    expires_at: Timestamp,
}

impl Pin {
    /// Whether it still counts.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }

    /// Name of its file.
    pub fn name(&self) -> String {
        name(self.archive, self.restore)
    }
}

fn name(archive: ArchiveName, restore: Uuid) -> String {
    format!("{archive}{MIDDLE}{restore}")
}

fn parse(text: &str) -> Option<(ArchiveName, Uuid)> {
    let (archive, restore) = text.split_once(MIDDLE)?;
    let parsed = (archive.parse().ok()?, restore.parse().ok()?);
    // One spelling only, or a pin could not be removed by its name.
    (name(parsed.0, parsed.1) == text).then_some(parsed)
}

/// Puts a pin, or refreshes it.
pub fn put(
    destination: &dyn Destination,
    archive: ArchiveName,
    restore: Uuid,
    now: Timestamp,
) -> Result<(), DestinationError> {
    let failed = |source| DestinationError {
        destination: destination.label(),
        action: format!("pin {archive}"),
        source,
    };
    let content = Content {
        format: FORMAT,
        restore,
        expires_at: now
            .checked_add(LIFETIME)
            .map_err(|error| failed(std::io::Error::other(error)))?,
    };
    let text = serde_json::to_vec(&content).map_err(|error| failed(error.into()))?;
    destination.replace(&name(archive, restore), &text)
}

/// Takes a pin away; one that isn't there is no error.
pub fn remove(
    destination: &dyn Destination,
    archive: ArchiveName,
    restore: Uuid,
) -> Result<(), DestinationError> {
    destination.delete(&name(archive, restore))
}

/// The pins among a destination's files.
pub(crate) fn read(
    destination: &dyn Destination,
    items: &[Item],
) -> Result<Vec<Pin>, DestinationError> {
    let mut found: Vec<_> = items.iter().filter_map(|item| parse(&item.name)).collect();
    found.sort_unstable();
    let mut pins = Vec::with_capacity(found.len());
    for (index, (archive, restore)) in found.into_iter().enumerate() {
        let text = if index < MAX_READ {
            match destination.read(&name(archive, restore), MAX_PIN) {
                Ok(None) => continue,
                Ok(text) => text,
                // What the file is, not that the destination fails.
                Err(error) if error.source.kind() == std::io::ErrorKind::FileTooLarge => None,
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        let content = text.and_then(|text| serde_json::from_slice::<Content>(&text).ok());
        pins.push(Pin {
            archive,
            restore,
            expires_at: content.map(|content| content.expires_at),
        });
    }
    Ok(pins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::destination::folder::Folder;

    #[test]
    fn a_pin_counts_until_it_expires_and_can_be_refreshed_and_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let destination = Folder::open(folder.path()).unwrap();
        let archive: ArchiveName = "stock_prediction_backup_20250801_120000.tar.gz.age"
            .parse()
            .unwrap();
        let now: Timestamp = "2025-08-02T00:00:00Z".parse().unwrap();
        let restore = Uuid::new_v4();
        put(&destination, archive, restore, now).unwrap();
        let pins = || Catalog::read(&destination).unwrap().pins;
        assert_eq!(pins().len(), 1);
        assert!(pins()[0].is_valid(now) && !pins()[0].is_valid(now + LIFETIME));
        let later = now + SignedDuration::from_hours(24);
        put(&destination, archive, restore, later).unwrap();
        assert!(pins()[0].is_valid(now + LIFETIME));
        remove(&destination, archive, restore).unwrap();
        remove(&destination, archive, restore).unwrap();
        assert_eq!(pins(), []);
    }

    #[test]
    fn a_pin_that_cannot_be_understood_counts_and_other_names_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let destination = Folder::open(folder.path()).unwrap();
        let archive = "stock_prediction_backup_20250801_120000.tar.gz";
        let restore = Uuid::new_v4();
        std::fs::write(folder.path().join(format!("{archive}.pin.{restore}")), "x").unwrap();
        for other in [
            format!("{archive}.pin.x"),
            format!("x.pin.{restore}"),
            format!("{archive}.pin.{}", restore.simple()),
        ] {
            std::fs::write(folder.path().join(other), "x").unwrap();
        }
        let catalog = Catalog::read(&destination).unwrap();
        assert_eq!(catalog.pins.len(), 1);
        assert!(catalog.pins[0].is_valid(Timestamp::MAX));
        assert_eq!(catalog.records, []);
    }
}
