//! Step 4: makes it so.
//!
//! In: a plan, what was built for it, and what was observed. Out: the run that has begun, if one was to. A `CronJob` that
//! is refused doesn't keep a run from beginning; every failure is returned.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt;

use super::dereference::Observed;
use super::plan::{Begin, Cron, Plan};
use super::runs::TRIGGER;
use crate::writer::{Error, Owner, Writer};

/// What was built.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// The `CronJob` of backups.
    pub backup: Option<CronJob>,
    /// The `CronJob` of restore tests.
    pub test: Option<CronJob>,
    /// The run to begin.
    pub run: Option<Job>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Applied {
    /// The wish that was granted, and the name of its Job.
    pub begun: Option<(Begin, String)>,
    /// What went wrong, in order.
    pub failures: Vec<Error>,
}

/// Applies the plan.
pub async fn apply(
    writer: &Writer,
    owner: Owner<'_>,
    plan: &Plan,
    prepared: Prepared,
    observed: &Observed,
) -> Applied {
    let mut applied = Applied::default();
    // First, so that no scheduled run begins beside one that is made by hand.
    for (what, desired, cached) in [
        (plan.backup, &prepared.backup, observed.cron.as_deref()),
        (plan.test, &prepared.test, observed.test_cron.as_deref()),
    ] {
        if let Err(error) = cron(writer, owner, what, desired.as_ref(), cached).await {
            applied.failures.push(error);
        }
    }
    let reachable = applied.failures.iter().all(Error::refused);
    if let (Some(begin), Some(job), true) = (&plan.begin, &prepared.run, reachable) {
        match writer.create_once(owner, job).await {
            // A name that an earlier wish has: the cached status is older than that one's note.
            Ok((_, live)) if live.annotations().get(TRIGGER) != job.annotations().get(TRIGGER) => {}
            Ok((_, live)) => applied.begun = Some((begin.clone(), live.name_any())),
            Err(error) => applied.failures.push(error),
        }
    }
    for run in observed
        .runs
        .iter()
        .filter(|run| plan.discard.contains(&run.name()))
    {
        if let Err(error) = writer.delete_owned(owner, run.job.as_ref()).await {
            applied.failures.push(error);
        }
    }
    applied
}

async fn cron(
    writer: &Writer,
    owner: Owner<'_>,
    what: Cron,
    desired: Option<&CronJob>,
    cached: Option<&CronJob>,
) -> Result<(), Error> {
    match (what, desired, cached) {
        (Cron::Apply { .. }, Some(desired), cached) => {
            Box::pin(writer.apply(owner, desired, cached)).await?;
        }
        (Cron::Remove, _, Some(orphan)) => {
            writer.delete_orphan(owner, orphan).await?;
        }
        _ => {}
    }
    Ok(())
}
