//! The volume's locks: serve, backup and cleanup share it, restore has it alone.
//!
//! In comes a path, out comes a guard; the kernel frees it when the process ends,
//! however it ends. Waits are bounded.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::atomic::FILE_MODE;

/// How often a taken lock is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct VolumeLock {
    _file: File,
}

/// Whether others may hold the lock too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Several holders at once.
    Shared,
    /// One holder.
    Exclusive,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Someone else holds it.
    #[error(
        "{path} is locked by another process of this volume: wait until it is done and try again"
    )]
    Taken {
        /// The lock file.
        path: String,
    },
    /// The lock file can't be opened or the file system has no locks.
    #[error(
        "{path} can't be locked: {source}: the volume must be writable and its file system must support flock"
    )]
    Use {
        /// The lock file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl VolumeLock {
    /// Takes the lock, trying for at most `patience`.
    ///
    /// The file is made when it is absent, its directory is not.
    pub fn take(path: &Path, mode: Mode, patience: Duration) -> Result<Self, LockError> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::try_take(path, mode)? {
                Some(lock) => return Ok(lock),
                None if Instant::now() >= deadline => {
                    return Err(LockError::Taken {
                        path: path.display().to_string(),
                    });
                }
                None => thread::sleep(RETRY),
            }
        }
    }

    /// Takes the lock if nobody is in the way.
    pub fn try_take(path: &Path, mode: Mode) -> Result<Option<Self>, LockError> {
        let failed = |source| LockError::Use {
            path: path.display().to_string(),
            source,
        };
        let writable = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .open(path);
        // On a volume that is read-only for now a lock file that is there will do.
        let file = writable
            .or_else(|error| File::open(path).map_err(|_| error))
            .map_err(failed)?;
        let tried = match mode {
            Mode::Shared => file.try_lock_shared(),
            Mode::Exclusive => file.try_lock(),
        };
        match tried {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_a_restore_waits_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = VolumeLock::try_take(&path, Mode::Shared).unwrap();
        let second = VolumeLock::try_take(&path, Mode::Shared).unwrap();
        assert!(first.is_some() && second.is_some());
        let error =
            VolumeLock::take(&path, Mode::Exclusive, Duration::from_millis(150)).unwrap_err();
        assert!(matches!(error, LockError::Taken { .. }), "{error}");
        drop((first, second));
        assert!(
            VolumeLock::try_take(&path, Mode::Exclusive)
                .unwrap()
                .is_some()
        );
    }
}
