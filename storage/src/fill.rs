//! Filling a new volume from a backup, before its first setup and its first start.
//!
//! In come an empty volume, a restore's id and a snapshot; out comes a `ready` volume with an id of its own. The marker says
//! `filling` before anything is read from a store and until everything is in place, and with it setup, serve and every
//! other command refuse the volume: a backup that can't be read never becomes an empty volume. A fill that was cut
//! off is begun anew by the same restore; another one, and a volume with data, are refused.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::archive::category::Category;
use crate::atomic;
use crate::layout::Layout;
use crate::lock::{LockError, Mode, VolumeLock};
use crate::marker::{FORMAT, Fill, Marker, MarkerError, Source, State};
use crate::progress::Progress;
use crate::restore::{self, Checker, Report, RestoreError, Volume};
use crate::script;
use crate::setup::{self, Found, SetupError};
use crate::snapshot::Snapshot;

/// How long another setup or fill is waited for.
const LOCK_PATIENCE: Duration = Duration::from_mins(1);

/// Why a volume was not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// There is something on it.
    #[error(
        "{root} is not empty: only a new volume is filled; restore in place, or take a new claim"
    )]
    NotEmpty {
        /// The volume.
        root: String,
    },
    /// Another restore began to fill it.
    #[error(
        "restore {other} began to fill {root}: let that one finish, or empty the volume (with .stockpredictor) to begin anew"
    )]
    Another {
        /// The volume.
        root: String,
        /// That restore.
        other: Uuid,
    },
    /// The volume isn't there.
    #[error("{root} is no directory: mount the new volume there")]
    Missing {
        /// The mount point.
        root: String,
    },
    /// The marker can't be used.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// Someone else works on the volume.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The tree can't be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The backup can't be unpacked.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// How a fill begins.
#[derive(Debug)]
pub enum Begun<'a> {
    /// The same restore has filled it already.
    Done(Marker),
    /// It is to be filled.
    Open(Filling<'a>),
}

/// A volume that is being filled. Others are kept away by the setup's lock, and by the marker when the process is gone.
#[derive(Debug)]
pub struct Filling<'a> {
    layout: &'a Layout,
    marker: Marker,
    restore: Uuid,
    _lock: VolumeLock,
}

/// Marks an empty volume as being filled, or goes on with one that the same restore has marked.
pub fn begin(layout: &Layout, restore: Uuid, now: Timestamp) -> Result<Begun<'_>, FillError> {
    let root = || layout.root().display().to_string();
    if !layout.root().is_dir() {
        return Err(FillError::Missing { root: root() });
    }
    let state = layout.state();
    atomic::create_directory(&state).map_err(|source| setup::explain(layout, &state, source))?;
    let lock = VolumeLock::take(&layout.setup_lock(), Mode::Exclusive, LOCK_PATIENCE)?;
    let found = Marker::read(layout)?;
    if let Some(marker) = &found {
        let filled_by = marker.fill.as_ref().map(|fill| fill.restore);
        match (marker.state, filled_by) {
            (State::Ready, Some(id)) if id == restore => return Ok(Begun::Done(marker.clone())),
            (State::Filling, Some(other)) if other != restore => {
                return Err(FillError::Another {
                    root: root(),
                    other,
                });
            }
            (State::Filling, _) => {}
            (State::Ready | State::Installing, _) => {
                return Err(FillError::NotEmpty { root: root() });
            }
        }
    } else if setup::has_data(layout.root())
        .map_err(|source| setup::explain(layout, layout.root(), source))?
    {
        return Err(FillError::NotEmpty { root: root() });
    }
    let marker = found.unwrap_or_else(|| Marker {
        format: FORMAT,
        id: Uuid::new_v4(),
        created_at: now,
        state: State::Filling,
        install_model: false,
        install_samples: false,
        fill: Some(Fill {
            restore,
            backup: None,
        }),
    });
    let filling = Filling {
        layout,
        marker,
        restore,
        _lock: lock,
    };
    filling.write()?;
    Ok(Begun::Open(filling))
}

impl Filling<'_> {
    /// The archive that was chosen before the fill was cut off; it is taken again, so that two backups never mix.
    pub fn chosen(&self) -> Option<Source> {
        self.marker.fill.as_ref()?.backup
    }

    /// Notes the archive durably.
    pub fn choose(&mut self, source: Source) -> Result<(), FillError> {
        self.marker.fill = Some(Fill {
            restore: self.restore,
            backup: Some(source),
        });
        self.write()
    }

    /// Unpacks, checks, makes the tree, and says `ready` last.
    pub fn run(
        mut self,
        snapshot: &dyn Snapshot,
        backup: Uuid,
        only: Option<&[Category]>,
        checker: &dyn Checker,
        progress: &dyn Progress,
    ) -> Result<Report, FillError> {
        let volume = Volume {
            progress,
            ..Volume::new(self.layout)
        };
        let request = restore::Request {
            id: self.restore,
            backup,
            only,
            started_at: self.marker.created_at,
        };
        let report = restore::run(&volume, snapshot, &request, checker)?;
        self.finish()?;
        Ok(report)
    }

    fn finish(&mut self) -> Result<(), FillError> {
        self.marker.state = State::Ready;
        let found = Found {
            marker: Some(self.marker.clone()),
            has_data: true,
        };
        let mut told = setup::Report::of(self.marker.id);
        // Of a volume that is ready the plan is its tree.
        for step in setup::plan(
            &found,
            &setup::Request::default(),
            self.marker.id,
            self.marker.created_at,
        ) {
            setup::execute(self.layout, &step, &mut told)?;
        }
        script::install(self.layout);
        self.write()
    }

    fn write(&self) -> Result<(), FillError> {
        self.marker
            .write(self.layout)
            .map_err(|source| setup::explain(self.layout, &self.layout.marker(), source).into())
    }
}
