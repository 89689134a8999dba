//! Bounded waiting: no test hangs, and a time-out says what it last saw.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(250);

/// Calls `probe` until it gives `Ok(Some(value))`, for at most `limit`.
///
/// `Ok(None)` and `Err` both mean "not yet"; the last error is in the message
/// of the time-out.
pub async fn eventually<T, F, Fut>(limit: Duration, what: &str, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let end = Instant::now() + limit;
    loop {
        let seen = match probe().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => String::from("not yet"),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= end {
            bail!("{what}: not within {} s; last: {seen}", limit.as_secs());
        }
        sleep(INTERVAL).await;
    }
}

/// Checks for `span` that `probe` keeps giving the same value, and returns it.
pub async fn unchanged<T, F, Fut>(span: Duration, what: &str, mut probe: F) -> Result<T>
where
    T: PartialEq + Debug,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let end = Instant::now() + span;
    let first = probe().await?;
    while Instant::now() < end {
        sleep(Duration::from_secs(5)).await;
        let now = probe().await?;
        if now != first {
            bail!("{what} changed:\n before {first:?}\n after  {now:?}");
        }
    }
    Ok(first)
}
