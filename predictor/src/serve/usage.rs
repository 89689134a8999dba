//! What lies in the guide's directories, counted now and then and known in memory.
//!
//! In comes a way to count, out come the latest numbers. Counting is slow, with pauses, on a thread that may block; who
//! asks waits for no file, however many there are.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use stockpredictor_storage::monitor::{DirectoryUse, Pace};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use super::state::blocking;

/// How often is counted, when nothing is known to have changed.
const INTERVAL: Duration = Duration::from_mins(10);
/// Least time between two counts.
const LEAST_PAUSE: Duration = Duration::from_mins(1);
/// A pause is so many times as long as the count before it: a large or slow volume is counted less often.
const PAUSE_FACTOR: u32 = 10;
/// The pause after some hundred files of one count.
const STEP_PAUSE: Duration = Duration::from_millis(10);

/// The latest numbers.
#[derive(Default)]
pub struct Usage {
    counted: Mutex<Vec<DirectoryUse>>,
    changed: Notify,
}

impl Usage {
    /// A line for each of the guide's directories; empty before the first count.
    pub fn directories(&self) -> Vec<DirectoryUse> {
        self.counted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Files were removed: the next count comes sooner.
    pub fn expect_change(&self) {
        self.changed.notify_one();
    }

    /// Counts again and again, until a count is interrupted.
    pub async fn keep(
        &self,
        count: impl Fn() -> io::Result<Vec<DirectoryUse>> + Clone + Send + 'static,
    ) {
        loop {
            let begun = Instant::now();
            match blocking(count.clone()).await {
                Ok(Ok(counted)) => {
                    *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = counted;
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return,
                Ok(Err(error)) => {
                    warn!(reason = %error, "the files of the volume can't be counted");
                }
                // The panic is in the log.
                Err(_) => {}
            }
            let pause = (begun.elapsed() * PAUSE_FACTOR).max(LEAST_PAUSE);
            tokio::time::sleep(pause).await;
            let rest = INTERVAL.saturating_sub(pause);
            let _ = tokio::time::timeout(rest, self.changed.notified()).await;
        }
    }
}

/// Slow enough not to disturb anyone, and over as soon as the process drains.
pub struct Calm<'a>(pub &'a AtomicBool);

impl Pace for Calm<'_> {
    fn threads(&self) -> usize {
        1
    }

    fn step(&self) -> ControlFlow<()> {
        if self.0.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        thread::sleep(STEP_PAUSE);
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    const MOMENT: Duration = Duration::from_secs(1);

    /// A volume that counts how often it was counted.
    fn start() -> (Arc<Usage>, Arc<AtomicU64>) {
        let (usage, counts) = (Arc::new(Usage::default()), Arc::new(AtomicU64::new(0)));
        let (kept, seen) = (Arc::clone(&usage), Arc::clone(&counts));
        let count = move || {
            let number = seen.fetch_add(1, Ordering::SeqCst) + 1;
            if number == 4 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(vec![DirectoryUse {
                name: "logs",
                bytes: 7,
                files: number,
                newest: None,
            }])
        };
        tokio::spawn(async move { kept.keep(count).await });
        (usage, counts)
    }

    #[tokio::test(start_paused = true)]
    async fn asking_counts_nothing_and_time_and_cleanups_do() {
        let (usage, counts) = start();
        assert_eq!(usage.directories(), []);
        tokio::time::sleep(MOMENT).await;
        for _ in 0..1000 {
            assert_eq!(usage.directories()[0].files, 1);
        }
        assert_eq!(counts.load(Ordering::SeqCst), 1);
        // Many cleanups are one count, and not at once.
        for _ in 0..10 {
            usage.expect_change();
        }
        tokio::time::sleep(LEAST_PAUSE / 2).await;
        assert_eq!(counts.load(Ordering::SeqCst), 1);
        tokio::time::sleep(LEAST_PAUSE).await;
        assert_eq!(usage.directories()[0].files, 2);
        tokio::time::sleep(INTERVAL.saturating_sub(LEAST_PAUSE)).await;
        assert_eq!(counts.load(Ordering::SeqCst), 2);
        tokio::time::sleep(LEAST_PAUSE).await;
        assert_eq!(usage.directories()[0].files, 3);
        // The fourth is interrupted: the end.
        tokio::time::sleep(INTERVAL * 5).await;
        assert_eq!(counts.load(Ordering::SeqCst), 4);
        assert_eq!(usage.directories()[0].files, 3);
    }

    #[test]
    fn a_count_is_over_when_the_process_drains() {
        let draining = AtomicBool::new(false);
        assert_eq!(Calm(&draining).step(), ControlFlow::Continue(()));
        draining.store(true, Ordering::Relaxed);
        assert_eq!(Calm(&draining).step(), ControlFlow::Break(()));
    }
}
