//! The model in use: looked for on the volume, checked, and swapped as a whole.
//!
//! In comes the model's folder, out comes a pool of sessions or the reason why there
//! is none. A model that fails its checks never replaces one that works. Calls to
//! [`ModelSlot::refresh`] block on the file system.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::civil::date;
use jiff::{Timestamp, ToSpan};
use stockpredictor_storage::history::Bar;

use super::pool::Pool;
use super::problem::{Kind, Problem};
use super::seen::Seen;
use crate::feature::{self, Window};
use crate::model::folder::{json_beside_pickle, load, load_bare, load_version};
use crate::model::{
    CONFIG_FILE, CURRENT_FILE, GOLDEN_FILE, LoadedModel, MODEL_FILE, ModelError, SCALER_FILE,
};
use crate::settings::ModelSettings;

/// A model that passed its checks.
pub struct ActiveModel {
    /// Sessions to compute with.
    pub pool: Arc<Pool>,
    /// When it was taken into use.
    pub loaded_at: Timestamp,
    /// Where `golden.json` belongs; a bare file has no such place.
    folder: Option<PathBuf>,
}

/// A version that is on the volume, but was refused while another one works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name, as far as it is known.
    pub version: String,
    /// Why it was refused.
    pub message: String,
}

/// Why there is no model, or what waits beside the one in use.
#[derive(Clone, Debug, Default)]
struct Refusals {
    /// Missing or refused, while no model is in use.
    problem: Option<Problem>,
    /// Refused, while another model is in use.
    candidate: Option<Candidate>,
}

impl Refusals {
    /// What was said last.
    fn message(&self) -> Option<&String> {
        let candidate = self.candidate.as_ref().map(|one| &one.message);
        candidate.or(self.problem.as_ref().map(|problem| &problem.detail))
    }
}

/// What a look at the folder changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// A model was taken into use.
    Loaded,
    /// A model was refused, for this reason.
    Refused(String),
}

/// The model's place.
pub struct ModelSlot {
    settings: ModelSettings,
    pool_size: usize,
    active: RwLock<Option<Arc<ActiveModel>>>,
    refusals: Mutex<Refusals>,
    last_seen: Mutex<Option<Fingerprint>>,
}

/// What can be seen of a model without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    target: Target,
    files: Vec<(PathBuf, Option<Seen>)>,
}

/// Where the settings lead.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// A folder that holds one version.
    Version(PathBuf),
    /// A folder of versions whose choice can't be read.
    Unknown(PathBuf),
    /// A bare graph.
    Bare(PathBuf),
}

impl ModelSlot {
    /// An empty place.
    pub fn new(settings: ModelSettings, pool_size: usize) -> Self {
        Self {
            settings,
            pool_size,
            active: RwLock::default(),
            refusals: Mutex::default(),
            last_seen: Mutex::default(),
        }
    }

    /// The model in use, or why there is none.
    pub fn active(&self) -> Result<Arc<ActiveModel>, Problem> {
        let active = self
            .active
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        active.ok_or_else(|| {
            let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let not_yet = || {
                Problem::new(
                    Kind::ModelLoading,
                    "the model is being loaded: try again in some seconds",
                )
            };
            refusals.problem.clone().unwrap_or_else(not_yet)
        })
    }

    /// The version that was refused while another one works.
    pub fn candidate(&self) -> Option<Candidate> {
        self.refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .candidate
            .clone()
    }

    /// Looks at the folder; loads, checks and swaps when something changed since the last look.
    pub fn refresh(&self, now: Timestamp) -> Change {
        self.refresh_with(|target| self.open(target, now))
    }

    /// Takes note of a record of forecasts that this process wrote itself: no reason to load again.
    pub fn golden_written(&self, path: &Path) {
        let mut last_seen = self
            .last_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Only this file: what else changed meanwhile has not been looked at.
        let files = last_seen.iter_mut().flat_map(|seen| &mut seen.files);
        for (_, seen) in files.filter(|(file, _)| file == path) {
            *seen = Seen::of(path);
        }
    }

    fn refresh_with(
        &self,
        open: impl FnOnce(&Target) -> Result<ActiveModel, ModelError>,
    ) -> Change {
        let mut last_seen = self
            .last_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let target = self.target();
        let fingerprint = self.fingerprint(&target);
        if last_seen.as_ref() == Some(&fingerprint) {
            return Change::None;
        }
        let opened = open(&target);
        *last_seen = match &opened {
            Err(error) if is_passing(error) => None,
            _ => Some(fingerprint),
        };
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        match opened {
            Ok(model) => {
                *refusals = Refusals::default();
                *self.active.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(Arc::new(model));
                Change::Loaded
            }
            Err(error) => {
                let message = error.to_string();
                let told = refusals.message() == Some(&message);
                if self
                    .active
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .is_some()
                {
                    let version = name_of(&target);
                    refusals.candidate = Some(Candidate {
                        version,
                        message: message.clone(),
                    });
                } else {
                    let kind = match error {
                        ModelError::Missing { .. } => Kind::ModelMissing,
                        _ => Kind::ModelRefused,
                    };
                    refusals.problem = Some(Problem::new(kind, message.clone()));
                }
                // What is tried again at every look is told once.
                if told {
                    Change::None
                } else {
                    Change::Refused(message)
                }
            }
        }
    }

    /// Things about the settings that a person should know.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if let Some(scaler) = &self.settings.scaler {
            if !is_bare(&self.settings.path) {
                notices.push(format!(
                    "ML_SCALER_PATH ({}) is ignored: the model folder {} has its own scaler",
                    scaler.display(),
                    self.settings.path.display()
                ));
            } else if let Some(json) = json_beside_pickle(scaler) {
                notices.push(format!(
                    "ML_SCALER_PATH names a pickle, which is never opened: {} is read instead",
                    json.display()
                ));
            }
        }
        notices
    }

    fn target(&self) -> Target {
        let path = &self.settings.path;
        if is_bare(path) {
            return Target::Bare(path.clone());
        }
        if path.join(MODEL_FILE).exists() {
            return Target::Version(path.clone());
        }
        let version = match &self.settings.version {
            Some(version) => Some(version.clone()),
            None => crate::model::folder::current_version(path).ok(),
        };
        match version {
            Some(version) => Target::Version(path.join(version)),
            None => Target::Unknown(path.clone()),
        }
    }

    fn open(&self, target: &Target, now: Timestamp) -> Result<ActiveModel, ModelError> {
        let (model, folder) = match target {
            Target::Version(folder) if *folder == self.settings.path => {
                (load(folder)?, Some(folder.clone()))
            }
            Target::Version(folder) => {
                let version = name_of(target);
                let model = load_version(&self.settings.path, Some(&version))?;
                (model, Some(folder.clone()))
            }
            Target::Unknown(folder) => (load_version(folder, None)?, None),
            Target::Bare(graph) => (self.load_bare(graph)?, None),
        };
        let pool = Pool::open(model, self.pool_size)?;
        // Also without recorded forecasts: a graph may load and still compute nothing of use.
        let probe = probe(pool.model().window)?;
        pool.with_session(|session| session.run(std::slice::from_ref(&probe)))?;
        if let Some(golden) = &pool.model().golden {
            pool.with_session(|session| golden.check(session))?;
        }
        Ok(ActiveModel {
            pool: Arc::new(pool),
            loaded_at: now,
            folder,
        })
    }

    fn fingerprint(&self, target: &Target) -> Fingerprint {
        let files = match target {
            Target::Version(folder) => [MODEL_FILE, CONFIG_FILE, SCALER_FILE, GOLDEN_FILE]
                .map(|name| folder.join(name))
                .to_vec(),
            Target::Unknown(folder) => vec![folder.clone(), folder.join(CURRENT_FILE)],
            Target::Bare(graph) => {
                let scaler = self.settings.scaler.as_ref();
                let scaler =
                    scaler.map(|path| json_beside_pickle(path).unwrap_or_else(|| path.clone()));
                std::iter::once(graph.clone()).chain(scaler).collect()
            }
        };
        Fingerprint {
            target: target.clone(),
            files: files
                .into_iter()
                .map(|path| {
                    let seen = Seen::of(&path);
                    (path, seen)
                })
                .collect(),
        }
    }

    fn load_bare(&self, graph: &Path) -> Result<LoadedModel, ModelError> {
        let no_scaler = || ModelError::Missing {
            path: format!("ML_SCALER_PATH, the scaler of {}", graph.display()),
        };
        load_bare(graph, &self.settings.scaler.clone().ok_or_else(no_scaler)?)
    }
}

impl ActiveModel {
    /// Where a first record of forecasts should be written; `None` when there is one, or no place for it.
    pub fn golden_to_write(&self) -> Option<PathBuf> {
        let folder = self
            .folder
            .as_ref()
            .filter(|_| self.pool.model().golden.is_none())?;
        Some(folder.join(GOLDEN_FILE))
    }
}

/// A window of ordinary made-up sessions: a model without a forecast for it can't be served.
fn probe(length: usize) -> Result<Window, ModelError> {
    let days = date(2023, 1, 2).series(1.day());
    let bars: Vec<Bar> = (0_u32..)
        .zip(days)
        .take(feature::bars_needed(length))
        .map(|(index, date)| {
            let step = f64::from(index);
            let close = 100.0 + 0.1 * step + 2.0 * (0.7 * step).sin();
            Bar {
                date,
                open: close * (1.0 + 0.005 * (1.3 * step).cos()),
                high: close * 1.01,
                low: close * 0.99,
                close,
                volume: 1_000_000 + 50_000 * u64::from(index % 7),
            }
        })
        .collect();
    feature::window(&bars, length).map_err(|error| ModelError::Run {
        reason: error.to_string(),
    })
}

/// Whether the path names a file rather than a folder of models.
fn is_bare(path: &Path) -> bool {
    const ENDINGS: [&str; 6] = ["onnx", "h5", "keras", "pkl", "pt", "pth"];
    let ends_so = path
        .extension()
        .is_some_and(|end| ENDINGS.iter().any(|one| end.eq_ignore_ascii_case(one)));
    ends_so && !path.is_dir()
}

/// What a candidate is called.
fn name_of(target: &Target) -> String {
    match target {
        Target::Version(path) | Target::Bare(path) => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        Target::Unknown(_) => CURRENT_FILE.to_owned(),
    }
}

/// Whether the next look may find another answer though no file changed: a disk or memory that failed for a moment.
fn is_passing(error: &ModelError) -> bool {
    matches!(
        error,
        ModelError::Read { .. } | ModelError::Session { .. } | ModelError::Runtime(_)
    )
}

#[cfg(test)]
mod tests;
