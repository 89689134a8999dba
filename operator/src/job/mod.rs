//! Jobs: pods that run `predictor storage job` once, and what became of them. Both backups and restores use them.
//!
//! In: a typed plan. Out: a `Job`, or its template for a `CronJob` ([`build`]); from a Job and its pods back to a typed
//! outcome ([`outcome`]). The documents and messages are those of `contracts/jobs.json`. Everything here is pure.
//! Forbidden here: clients, clocks, and what single kinds of jobs are for.

pub mod build;
pub mod document;
pub mod message;
pub mod outcome;
pub mod place;
pub mod pod;
pub mod stuck;

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};
use stockpredictor_api::well_known::{NAME_LABEL, OPERATOR_NAME};

use crate::stock_predictor::labels::{
    COMPONENT_LABEL, INSTANCE_LABEL, MANAGED_BY_LABEL, PREDICTOR_NAME,
};

/// The value of the name label on jobs and their pods. It isn't that of predictors: their Services select by it.
pub const JOB_NAME: &str = "stockpredictor-job";

/// What a job is for: the component label, by which the controllers of different kinds tell theirs apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// A run of a `StorageBackup`.
    Backup,
    /// A restore test of a `StorageBackup`.
    RestoreTest,
    /// A step of a `StorageRestore`.
    Restore,
}

impl Component {
    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::RestoreTest => "restore-test",
            Self::Restore => "restore",
        }
    }
}

/// The labels of a job of the object `instance`.
pub fn labels(instance: &str, component: Component) -> BTreeMap<String, String> {
    [
        (NAME_LABEL, JOB_NAME),
        (INSTANCE_LABEL, instance),
        (COMPONENT_LABEL, component.as_str()),
        ("app.kubernetes.io/part-of", PREDICTOR_NAME),
        (MANAGED_BY_LABEL, OPERATOR_NAME),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// What the watches of jobs and their pods ask for.
pub fn watched(components: &[Component]) -> String {
    let components: Vec<_> = components.iter().map(|part| part.as_str()).collect();
    format!(
        "{NAME_LABEL}={JOB_NAME},{MANAGED_BY_LABEL}={OPERATOR_NAME},{COMPONENT_LABEL} in ({})",
        components.join(",")
    )
}

/// True when the operator made the job, or its pod, for the object `instance`.
pub fn belongs<K: Resource>(object: &K, instance: &str, component: Component) -> bool {
    let labels = object.labels();
    let is = |key: &str, value: &str| labels.get(key).is_some_and(|have| have == value);
    is(NAME_LABEL, JOB_NAME)
        && is(MANAGED_BY_LABEL, OPERATOR_NAME)
        && is(INSTANCE_LABEL, instance)
        && is(COMPONENT_LABEL, component.as_str())
}
