//! The runs of a `StorageBackup`: its Jobs, what each was made for, and what became of it.
//!
//! In: Jobs and pods of the cache. Out: [`Run`]s, oldest end first. Pure. Jobs of an object of the same name that is gone
//! count as work that goes on, and say nothing about this one.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use stockpredictor_api::{RunKind, RunStatus};

use crate::job::outcome::{self, Outcome};
use crate::job::{self, Component};

/// Annotation of a Job that wasn't made by a `CronJob`: `manual` or `initial`.
pub const RUN: &str = "stockpredictor.io/run";
/// Annotation of a manual run's Job with the trigger that it is for.
pub const TRIGGER: &str = "stockpredictor.io/trigger";

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its Job.
    pub job: Arc<Job>,
    /// Why it was made.
    pub kind: RunKind,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether it belongs to this very object.
    pub own: bool,
}

impl Run {
    /// Reads a Job. `owners` are the uids of the object and its `CronJobs`.
    pub fn read(
        job: Arc<Job>,
        pods: &[Arc<Pod>],
        events: &[Event],
        owners: &[String],
        now: Timestamp,
    ) -> Self {
        let made_for = job.annotations().get(RUN).map(String::as_str);
        let kind = match made_for {
            _ if is_test(&job) => RunKind::RestoreTest,
            Some("manual") => RunKind::Manual,
            Some("initial") => RunKind::Initial,
            _ => RunKind::Scheduled,
        };
        let own = job
            .owner_references()
            .iter()
            .any(|owner| owners.contains(&owner.uid));
        Self {
            outcome: outcome::read(&job, pods, events, now),
            kind,
            own,
            job,
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.job.name_any()
    }

    /// The value of `spec.trigger` that it was made for, and how many runs were made by hand before.
    pub fn wish(&self) -> Option<(String, i64)> {
        let trigger = self.job.annotations().get(TRIGGER)?;
        let name = self.name();
        let (_, number) = name.rsplit_once('-')?;
        let number = number.parse().ok().filter(|number| *number >= 0)?;
        (self.kind == RunKind::Manual).then(|| (trigger.clone(), number))
    }

    /// When it began.
    pub fn started(&self) -> Option<Time> {
        outcome::started(&self.job)
    }

    /// When it was over.
    pub fn finished(&self) -> Option<Time> {
        outcome::finished(&self.job)
    }

    /// True for a restore test.
    pub fn tests(&self) -> bool {
        self.kind == RunKind::RestoreTest
    }

    /// True while it goes on.
    pub fn active(&self) -> bool {
        !self.outcome.ended()
    }

    /// The order of ends.
    pub fn key(&self) -> (Option<Time>, String) {
        (self.finished(), self.name())
    }

    /// True when it ended after the one that the status tells of.
    pub fn is_news(&self, last: Option<&RunStatus>) -> bool {
        self.own
            && self.outcome.ended()
            && last.is_none_or(|last| self.key() > (last.finished.clone(), last.job.clone()))
    }
}

/// True for the Job of a restore test.
pub fn is_test(job: &Job) -> bool {
    job.labels()
        .get(crate::stock_predictor::labels::COMPONENT_LABEL)
        .is_some_and(|part| part == Component::RestoreTest.as_str())
}

/// True for a Job of the object `name`, this one or a former one.
pub fn concerns(job: &Job, name: &str) -> bool {
    [Component::Backup, Component::RestoreTest]
        .into_iter()
        .any(|component| job::belongs(job, name, component))
}
