//! Whether the operator is alive and ready, judged by its watches.
//!
//! In: what happens to each watch, and the time. Out: what /livez and /readyz say. Forbidden here: clocks and I/O, so
//! that every rule can be tested with a time of one's choice.
//!
//! A watch is re-opened every [`WATCH_TIMEOUT`] at the latest, so a connected operator hears from the API server at least
//! that often for each kind, however quiet the cluster is. A cache whose watch is refused goes stale without a sound, so a
//! watch that keeps failing takes readiness back even when its list was complete once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// How long one watch request may last.
pub const WATCH_TIMEOUT: Duration = Duration::from_mins(2);
/// For how long a watch may be silent before the process counts as dead: three re-openings.
pub const SILENCE_LIMIT: Duration = Duration::from_mins(6);

/// For how long a watch may fail before its cache counts as stale. A re-opened connection takes a second or two.
pub const FAILING_LIMIT: Duration = Duration::from_secs(30);

/// What is known about one watch.
#[derive(Clone, Debug)]
struct Watch {
    heard: Instant,
    /// The last list is complete.
    listed: bool,
    /// A list was complete at some time.
    began: bool,
    failure: Option<Failure>,
}

/// Why a watch does not work, and since when.
#[derive(Clone, Debug)]
struct Failure {
    since: Instant,
    error: String,
}

/// The state of all watches. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    watches: Arc<Mutex<BTreeMap<String, Watch>>>,
}

/// What /livez and /readyz answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// True means 200, false means 503.
    pub ok: bool,
    /// What is waited for, and what to do about it. Empty when `ok`.
    pub waiting_for: Vec<String>,
}

impl Health {
    /// Announces a watch, so that readiness waits for it from the beginning.
    pub fn expect(&self, name: &str, now: Instant) {
        let watch = Watch {
            heard: now,
            listed: false,
            began: false,
            failure: None,
        };
        self.lock().insert(name.to_owned(), watch);
    }

    /// The API server answered a request of this watch with the HTTP status `code`.
    ///
    /// Only a success is a sign of life. Before the first list, so is a refusal that a new start would not change: no
    /// permission (403) or no such kind (404).
    pub fn answered(&self, name: &str, code: u16, now: Instant) {
        self.update(name, |watch| match code {
            200..=299 => {
                watch.heard = now;
                watch.failure = None;
            }
            403 | 404 if !watch.began => watch.heard = now,
            _ => {}
        });
    }

    /// The list of this watch is complete.
    pub fn listed(&self, name: &str) {
        self.update(name, |watch| {
            watch.listed = true;
            watch.began = true;
            watch.failure = None;
        });
    }

    /// Something was received without an error.
    pub fn recovered(&self, name: &str) {
        self.update(name, |watch| watch.failure = None);
    }

    /// The watch failed. A failed list means that the cache may be incomplete; what fails for longer than
    /// [`FAILING_LIMIT`], that it is stale.
    pub fn failed(&self, name: &str, list: bool, error: String, now: Instant) {
        self.update(name, |watch| {
            watch.listed &= !list;
            let since = watch.failure.as_ref().map_or(now, |failure| failure.since);
            watch.failure = Some(Failure { since, error });
        });
    }

    /// Alive: the API server served every watch lately.
    pub fn alive(&self, now: Instant) -> Verdict {
        let silent: Vec<_> = self
            .lock()
            .iter()
            .filter_map(|(name, watch)| {
                let silence = now.saturating_duration_since(watch.heard);
                (silence > SILENCE_LIMIT).then(|| {
                    format!(
                        "{name}: no good answer from the API server for {} s",
                        silence.as_secs()
                    )
                })
            })
            .collect();
        Verdict::from(silent)
    }

    /// Ready: every watch has its list, and none fails for long.
    pub fn ready(&self, now: Instant) -> Verdict {
        let watches = self.lock();
        if watches.is_empty() {
            return Verdict::from(vec![
                "the API server's address: the watches have not begun".to_owned(),
            ]);
        }
        let missing: Vec<_> = watches
            .iter()
            .filter_map(|(name, watch)| match &watch.failure {
                Some(Failure { since, error }) => {
                    let span = now.saturating_duration_since(*since);
                    let stale = !watch.listed || span > FAILING_LIMIT;
                    stale.then(|| format!("{name}: {error} (for {} s)", span.as_secs()))
                }
                None => (!watch.listed).then(|| format!("{name}: the first list")),
            })
            .collect();
        Verdict::from(missing)
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut Watch)) {
        if let Some(watch) = self.lock().get_mut(name) {
            change(watch);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Watch>> {
        // The map is valid after every statement, so a panic elsewhere doesn't spoil it.
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Vec<String>> for Verdict {
    fn from(waiting_for: Vec<String>) -> Self {
        Self {
            ok: waiting_for.is_empty(),
            waiting_for,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_silent_watch_turns_liveness_red_and_an_answer_turns_it_green() {
        let (health, start) = (Health::default(), Instant::now());
        health.expect("pods", start);
        health.expect("services", start);
        assert!(health.alive(start + 6 * MINUTE).ok);
        health.answered("services", 200, start + 6 * MINUTE);
        let red = health.alive(start + 7 * MINUTE);
        assert_eq!(
            red.waiting_for,
            ["pods: no good answer from the API server for 420 s"]
        );
        health.answered("pods", 200, start + 7 * MINUTE);
        assert!(health.alive(start + 8 * MINUTE).ok);
    }

    #[test]
    fn readiness_names_what_it_waits_for() {
        let (health, start) = (Health::default(), Instant::now());
        assert!(!health.ready(start).ok, "nothing is watched yet");
        health.expect("pods", start);
        health.expect("stockpredictors", start);
        health.failed("stockpredictors", true, "install the CRDs".into(), start);
        assert_eq!(
            health.ready(start).waiting_for,
            [
                "pods: the first list",
                "stockpredictors: install the CRDs (for 0 s)"
            ]
        );
        health.listed("pods");
        health.listed("stockpredictors");
        assert_eq!(
            health.ready(start),
            Verdict {
                ok: true,
                waiting_for: vec![]
            }
        );
    }

    #[test]
    fn a_failed_list_takes_readiness_back_at_once_and_a_watch_that_keeps_failing_after_a_while() {
        let (health, start) = (Health::default(), Instant::now());
        health.expect("pods", start);
        health.listed("pods");
        health.failed("pods", false, "connection reset".into(), start);
        assert!(health.ready(start + FAILING_LIMIT).ok, "it may recover");
        let late = start + FAILING_LIMIT + Duration::from_secs(1);
        health.failed("pods", false, "forbidden".into(), late);
        assert_eq!(
            health.ready(late).waiting_for,
            ["pods: forbidden (for 31 s)"]
        );
        health.answered("pods", 200, late);
        assert!(health.ready(late).ok, "a success ends the failure");
        health.failed("pods", true, "forbidden".into(), late);
        assert_eq!(
            health.ready(late).waiting_for,
            ["pods: forbidden (for 0 s)"]
        );
    }

    #[test]
    fn a_refusal_is_a_sign_of_life_only_while_a_new_start_would_not_help() {
        for (code, before, after) in [
            (200, true, true),
            (401, false, false),
            (403, true, false),
            (404, true, false),
            (410, false, false),
            (500, false, false),
        ] {
            let (health, start) = (Health::default(), Instant::now());
            let late = start + SILENCE_LIMIT + MINUTE;
            for (name, listed) in [("new", false), ("old", true)] {
                health.expect(name, start);
                if listed {
                    health.listed(name);
                }
                health.answered(name, code, late);
            }
            let red = health.alive(late).waiting_for.join(" ");
            assert_eq!(
                (!red.contains("new:"), !red.contains("old:")),
                (before, after),
                "{code}"
            );
        }
    }

    #[test]
    fn an_unknown_watch_is_ignored() {
        let (health, now) = (Health::default(), Instant::now());
        health.listed("nobody");
        health.answered("nobody", 200, now);
        assert!(!health.ready(now).ok);
    }
}
