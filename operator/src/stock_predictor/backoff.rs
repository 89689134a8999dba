//! What is remembered of an object between passes: failures in a row, and since when its predictor is silent.
//!
//! In: objects, outcomes, times. Out: pauses. Everything here may be lost at a restart without harm, and an object's
//! entries go when it does well again or is gone.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::{Resource, ResourceExt};

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_mins(2);
/// A predictor that is silent for no longer keeps what it said.
const SHORT: Duration = Duration::from_mins(1);

/// Namespace and name.
pub type Key = (String, String);

/// The key of an object.
pub fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<Key, u32>>);

impl Backoff {
    /// So many failures in a row.
    pub fn failures<K: Resource>(&self, object: &K) -> u32 {
        lock(&self.0).get(&key(object)).copied().unwrap_or_default()
    }

    /// One more failure; how long to wait now.
    pub fn failed<K: Resource>(&self, object: &K) -> Duration {
        let mut failures = lock(&self.0);
        let count = failures.entry(key(object)).or_default();
        *count = count.saturating_add(1);
        pause(*count)
    }

    /// A success, or the end of the object.
    pub fn forget(&self, key: &Key) {
        lock(&self.0).remove(key);
    }
}

/// The pause after `failures` in a row, before jitter.
fn pause(failures: u32) -> Duration {
    let doubled = failures.saturating_sub(1).min(16);
    FIRST.saturating_mul(1 << doubled).min(LONGEST)
}

/// Since when predictors are silent, by object.
#[derive(Debug, Default)]
pub struct Silence(Mutex<HashMap<Key, Instant>>);

impl Silence {
    /// Notes whether the predictor is silent, and says whether it has been so for a moment only.
    pub fn is_short<K: Resource>(&self, object: &K, silent: bool, now: Instant) -> bool {
        let mut since = lock(&self.0);
        if !silent {
            since.remove(&key(object));
            return false;
        }
        now.saturating_duration_since(*since.entry(key(object)).or_insert(now)) < SHORT
    }

    /// The end of the object.
    pub fn forget(&self, key: &Key) {
        lock(&self.0).remove(key);
    }
}

/// `pause`, longer or shorter by up to a fifth, so that many objects don't come at once.
pub fn jittered(pause: Duration) -> Duration {
    // Each `RandomState` has new keys, which is randomness enough for this.
    let random = RandomState::new().hash_one(0) % 401;
    pause.mul_f64(0.8 + random as f64 / 1000.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every statement leaves the map whole, so a panic elsewhere doesn't spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock_predictor::fixture::predictor;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(1, 1)]
    #[case(2, 2)]
    #[case(5, 16)]
    #[case(8, 120)]
    #[case(u32::MAX, 120)]
    fn pauses_double_up_to_a_limit(#[case] failures: u32, #[case] seconds: u64) {
        assert_eq!(pause(failures), Duration::from_secs(seconds));
    }

    #[test]
    fn a_success_starts_anew() {
        let (backoff, object) = (Backoff::default(), predictor(&json!({})));
        backoff.failed(&object);
        assert_eq!(backoff.failed(&object), Duration::from_secs(2));
        backoff.forget(&key(&object));
        assert_eq!(
            (backoff.failures(&object), backoff.failed(&object)),
            (0, Duration::from_secs(1))
        );
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(100)).as_secs();
            assert!((80..=120).contains(&pause), "{pause}");
        }
    }

    #[test]
    fn silence_is_short_for_a_minute() {
        let (silence, object, start) = (Silence::default(), predictor(&json!({})), Instant::now());
        assert!(!silence.is_short(&object, false, start));
        assert!(silence.is_short(&object, true, start));
        assert!(silence.is_short(&object, true, start + SHORT / 2));
        assert!(!silence.is_short(&object, true, start + SHORT));
        assert!(!silence.is_short(&object, false, start + SHORT));
        assert!(
            silence.is_short(&object, true, start + SHORT),
            "an answer in between starts anew"
        );
    }
}
