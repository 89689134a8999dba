//! A pool of ONNX Runtime sessions, one a core.
//!
//! In come windows, out come quantiles. A session computes on one thread of its own
//! and is used by one request at a time; who finds none free waits.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::Semaphore;

use crate::feature::Window;
use crate::model::{LoadedModel, ModelError, Quantiles, Session};

/// The most sessions, however many cores there are.
const MAX_SESSIONS: usize = 64;

/// Sessions of one model.
pub struct Pool {
    model: LoadedModel,
    sessions: Mutex<Vec<Session>>,
    permits: Semaphore,
}

/// How many sessions this process may use at once: the cores of its CPU limit (cgroups included).
pub fn size() -> usize {
    sessions(thread::available_parallelism())
}

fn sessions(cores: io::Result<NonZeroUsize>) -> usize {
    cores.map_or(1, usize::from).min(MAX_SESSIONS)
}

impl Pool {
    /// Opens `size` sessions.
    pub fn open(model: LoadedModel, size: usize) -> Result<Self, ModelError> {
        let sessions = (0..size.max(1))
            .map(|_| Session::open(&model))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            permits: Semaphore::new(sessions.len()),
            sessions: Mutex::new(sessions),
            model,
        })
    }

    /// The model that the sessions compute.
    pub fn model(&self) -> &LoadedModel {
        &self.model
    }

    /// Forecasts for one window, on a thread that may block.
    pub async fn run(self: &Arc<Self>, window: Window) -> Result<Quantiles, ModelError> {
        let interrupted = |reason: &str| ModelError::Run {
            reason: reason.to_owned(),
        };
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| interrupted("the pool was closed"))?;
        let pool = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            pool.with_session(|session| session.run(std::slice::from_ref(&window)))
        });
        let forecasts = task
            .await
            .map_err(|_| interrupted("the computation was cut off"))??;
        forecasts
            .into_iter()
            .next()
            .ok_or_else(|| interrupted("there was no result"))
    }

    /// Lends a session. One that is lost by a panic is replaced by a new one at the next use.
    pub fn with_session<T>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        let taken = self
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut session = match taken {
            Some(session) => session,
            None => Session::open(&self.model)?,
        };
        let result = work(&mut session);
        self.sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(session);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_session_for_each_core_at_least_one_and_not_too_many() {
        let of = |cores| sessions(Ok(NonZeroUsize::new(cores).unwrap()));
        assert_eq!([1, 2, 64, 200].map(of), [1, 2, 64, 64]);
        assert_eq!(sessions(Err(io::ErrorKind::Unsupported.into())), 1);
    }
}
