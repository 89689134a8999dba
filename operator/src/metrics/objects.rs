//! Metrics of single objects, computed from the caches at each scrape.
//!
//! In: the caches of the controllers. Out: samples. A deleted object has none from that moment on, and a cache without its
//! first list has none at all. Forbidden: requests and writes; whoever scrapes changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::interval::{Asking, Intervals};
use super::sample::{Description, Samples};
use crate::clock;
use crate::controller::{Cached, Guarded};
use crate::stock_predictor::conditions::State;
use crate::watch::Filled;

/// The labels of most metrics.
pub const OBJECT: &[&str] = &["namespace", "name"];

static OBJECTS: Description = Description {
    name: "stockpredictor_operator_objects",
    labels: &["kind", "condition", "status"],
    help: "Objects by condition and its status: True, False or Unknown",
};

/// A kind whose objects have metrics of their own.
pub trait Measured: Cached {
    /// Its name.
    const KIND: &'static str;

    /// The types of its conditions.
    fn condition_types() -> Vec<&'static str>;

    /// The conditions that the object has.
    fn conditions(&self) -> &[Condition];

    /// Adds what there is to say of the object. `who` is its namespace and its name.
    fn measure<'a>(
        &'a self,
        who: [&'a str; 2],
        intervals: &mut Asking<'_>,
        samples: &mut Samples<'a>,
    );
}

/// The caches of all kinds and scopes.
#[derive(Default)]
pub struct Objects {
    caches: Mutex<Vec<Box<dyn Cache>>>,
    intervals: Mutex<Intervals>,
}

impl Objects {
    /// From now on the objects of `store` have metrics.
    pub fn add<K: Measured>(&self, store: Store<Guarded<K>>, filled: Filled) {
        lock(&self.caches).push(Box::new(Watched { store, filled }));
    }

    fn encode_at(&self, now: Timestamp, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let caches: Vec<_> = lock(&self.caches)
            .iter()
            .map(|cache| (cache.kind(), cache.objects()))
            .collect();
        let mut intervals = lock(&self.intervals);
        let (mut asking, mut samples) = (intervals.ask(now), Samples::default());
        let (mut counts, mut partial) = (Counts::new(), BTreeSet::new());
        for (kind, objects) in &caches {
            match objects {
                Some(objects) => {
                    objects.count(&mut counts);
                    objects.measure(&mut asking, &mut samples);
                }
                None => {
                    partial.insert(*kind);
                }
            }
        }
        // A count of some of the namespaces would be wrong.
        counts.retain(|[kind, ..], _| !partial.contains(kind));
        for (labels, count) in &counts {
            samples.push(&OBJECTS, *labels, *count);
        }
        asking.done();
        samples.encode(encoder)
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_at(clock::now().0, &mut encoder)
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

/// A panic while something was read leaves nothing half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers of objects by kind, condition and status.
type Counts = BTreeMap<[&'static str; 3], i64>;

/// A cache of any kind.
trait Cache: Send + Sync {
    fn kind(&self) -> &'static str;
    /// What it has now; nothing before its first list is complete.
    fn objects(&self) -> Option<Box<dyn Found>>;
}

/// The objects of a cache at one moment.
trait Found {
    fn count(&self, counts: &mut Counts);
    fn measure<'a>(&'a self, intervals: &mut Asking<'_>, samples: &mut Samples<'a>);
}

struct Watched<K: Measured> {
    store: Store<Guarded<K>>,
    filled: Filled,
}

impl<K: Measured> Cache for Watched<K> {
    fn kind(&self) -> &'static str {
        K::KIND
    }

    fn objects(&self) -> Option<Box<dyn Found>> {
        if !self.filled.get() {
            return None;
        }
        let mut objects = self.store.state();
        objects.sort_unstable_by(|a, b| who(a.as_ref()).cmp(&who(b.as_ref())));
        Some(Box::new(objects))
    }
}

impl<K: Measured> Found for Vec<Arc<Guarded<K>>> {
    fn count(&self, counts: &mut Counts) {
        let states = [State::True, State::False, State::Unknown];
        for kind in K::condition_types() {
            for state in states {
                counts.entry([K::KIND, kind, state.as_str()]).or_default();
            }
            for object in self {
                // What isn't there, or in an object that can't be read, is not known.
                let conditions = object.0.as_ref().map_or(&[][..], K::conditions);
                let found = conditions.iter().find(|found| found.type_ == kind);
                let state = states
                    .into_iter()
                    .find(|state| found.is_some_and(|found| found.status == state.as_str()))
                    .unwrap_or(State::Unknown);
                *counts.entry([K::KIND, kind, state.as_str()]).or_default() += 1;
            }
        }
    }

    fn measure<'a>(&'a self, intervals: &mut Asking<'_>, samples: &mut Samples<'a>) {
        for object in self {
            if let Ok(readable) = &object.0 {
                readable.measure(who(object.as_ref()), intervals, samples);
            }
        }
    }
}

fn who<K: Resource>(object: &K) -> [&str; 2] {
    let meta = object.meta();
    [&meta.namespace, &meta.name].map(|text| text.as_deref().unwrap_or_default())
}

/// `1` for true.
pub fn flag(is: bool) -> i64 {
    i64::from(is)
}

#[cfg(test)]
#[path = "objects_test.rs"]
mod tests;
