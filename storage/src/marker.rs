//! The marker: which volume this is, and whether its installation was finished.
//!
//! In comes `.stockpredictor/volume.json`, out comes a [`Marker`]. It is written first
//! (`installing`) and set to `ready` last, so that a killed setup is noticed.

use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::archive::digest::Digest;
use crate::archive::name::ArchiveName;
use crate::atomic;
use crate::layout::Layout;

/// The format that this release writes and reads.
pub const FORMAT: u32 = 1;

/// The content of `volume.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Version of the layout.
    pub format: u32,
    /// Names the volume for ever; a restore in place keeps it.
    pub id: Uuid,
    /// When setup began.
    pub created_at: Timestamp,
    /// How far setup came.
    pub state: State,
    /// Whether this volume was empty, so that the default model belongs on it.
    pub install_model: bool,
    /// Whether sample price history was asked for when setup began.
    pub install_samples: bool,
    /// The restore that fills this volume, or filled it when it was new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<Fill>,
}

/// A restore into a new volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Its id.
    pub restore: Uuid,
    /// The backup that was chosen; `None` before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Source>,
}

/// The archive that a volume is filled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: ArchiveName,
    /// The SHA-256 of the whole archive.
    pub sha256: Digest,
}

/// The part of a marker that every release understands.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// How far setup came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Setup was begun; the next one continues it.
    Installing,
    /// A backup is being unpacked onto the new volume; only the same restore may go on.
    Filling,
    /// Complete: from now on nothing is put there that a person did not put there.
    Ready,
}

impl State {
    /// As in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installing => "installing",
            Self::Filling => "filling",
            Self::Ready => "ready",
        }
    }
}

/// Why the marker can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// The file can't be read.
    #[error("{path} can't be read: {source}")]
    Read {
        /// The marker.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no marker.
    #[error(
        "{path} is damaged ({reason}): restore it from a backup of the volume, or remove it to have a new one written beside the data"
    )]
    Parse {
        /// The marker.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A later release made the volume.
    #[error("{path} has format {found}, this release knows {FORMAT}: use a newer release")]
    Newer {
        /// The marker.
        path: String,
        /// Its format.
        found: u32,
    },
}

impl Marker {
    /// Reads the marker; `None` when there is none.
    pub fn read(layout: &Layout) -> Result<Option<Self>, MarkerError> {
        let path = layout.marker();
        let shown = || path.display().to_string();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(MarkerError::Read {
                    path: shown(),
                    source,
                });
            }
        };
        let damaged = |error: serde_json::Error| MarkerError::Parse {
            path: shown(),
            reason: error.to_string(),
        };
        // The format is looked at first: a later one may have other members.
        let Format { format } = serde_json::from_slice(&text).map_err(damaged)?;
        if format > FORMAT {
            return Err(MarkerError::Newer {
                path: shown(),
                found: format,
            });
        }
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    /// Writes the marker durably.
    pub fn write(&self, layout: &Layout) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        text.push(b'\n');
        atomic::write_durable(&layout.marker(), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn volume(text: &str) -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        fs::create_dir(layout.state()).unwrap();
        fs::write(layout.marker(), text).unwrap();
        (folder, layout)
    }

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        let (_folder, layout) = volume("");
        let marker = Marker {
            format: FORMAT,
            id: Uuid::new_v4(),
            created_at: "2024-01-02T14:30:00Z".parse().unwrap(),
            state: State::Installing,
            install_model: true,
            install_samples: false,
            fill: None,
        };
        marker.write(&layout).unwrap();
        assert_eq!(Marker::read(&layout).unwrap(), Some(marker));
    }

    #[test]
    fn a_damaged_marker_is_an_error_and_not_a_new_volume() {
        let (_folder, layout) = volume("{\"format\":1,");
        let error = Marker::read(&layout).unwrap_err();
        assert!(matches!(error, MarkerError::Parse { .. }), "{error}");
    }

    #[test]
    fn a_marker_of_a_later_release_is_refused() {
        let (_folder, layout) = volume("{\"format\":2,\"state\":\"sharded\"}");
        let error = Marker::read(&layout).unwrap_err();
        assert!(
            matches!(error, MarkerError::Newer { found: 2, .. }),
            "{error}"
        );
    }
}
