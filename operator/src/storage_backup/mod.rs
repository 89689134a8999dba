//! The driver of one `StorageBackup`: five steps, each in its own file.
//!
//! In: an object from the cache. Out: `CronJobs` and Jobs, a status, Events, and when to look again. Only the order of the
//! steps and what follows from their failures is decided here. Forbidden: whatever would take away an archive.

pub mod apply;
pub mod archives;
pub mod build;
pub mod conditions;
pub mod controller;
pub mod dereference;
#[cfg(test)]
pub(crate) mod fixture;
pub mod inventory;
pub mod plan;
pub mod runs;
pub mod schedule;
pub mod status;
pub mod update_status;
pub mod validate;

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::events::Recorder;
use stockpredictor_api::backup_condition::BackupReason;
use stockpredictor_api::{StorageBackup, StorageBackupStatus};

use self::apply::Prepared;
use self::conditions::{Failure, Seen};
use self::dereference::{Caches, Observed};
use self::plan::{Cron, Plan};
use self::update_status::Told;
use self::validate::{Identity, ValidatedBackup, validate};
use crate::clock;
use crate::controller::Fault;
use crate::metrics::Metrics;
use crate::stock_predictor::backoff::Backoff;
use crate::stock_predictor::claim::claim_of;
use crate::stock_predictor::validate::Defaults;
use crate::writer::{self, Writer};

/// The annotation with the ids of suspects that are as they should be.
pub const ACCEPT_SUSPECT: &str = "stockpredictor.io/accept-suspect";

/// How often an object is looked at while a run goes on: what its pod waits for shows only with time.
const BUSY: Duration = Duration::from_secs(10);
/// How often one is looked at that waits for somebody.
const REFUSED: Duration = Duration::from_mins(1);
/// How often one at rest is looked at: what it depends on is watched.
const REST: Duration = Duration::from_mins(10);
/// How soon one is looked at again of which the cache had an old version, if the cache doesn't say so before.
const STALE: Duration = Duration::from_secs(1);
/// From so many transient failures in a row on, this pass's own included, the status tells of them.
const TELL_AFTER: u32 = 3;

/// What every pass needs.
pub struct Context {
    /// For reads.
    pub client: Client,
    /// For writes.
    pub writer: Writer,
    /// For Events.
    pub recorder: Recorder,
    /// The children, and what they are made for.
    pub caches: Caches,
    /// What the operator was started with.
    pub defaults: Defaults,
    /// Counters.
    pub metrics: Metrics,
    /// Failures in a row.
    pub backoff: Backoff,
}

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Step 1.
    #[error(transparent)]
    Dereference(#[from] dereference::Error),
    /// Step 3.
    #[error("can't write a job's document as JSON: {0}")]
    Build(#[from] serde_json::Error),
    /// Steps 4 and 5.
    #[error(transparent)]
    Write(#[from] writer::Error),
    /// The pass as a whole.
    #[error(transparent)]
    Pass(#[from] Fault),
}

impl Error {
    /// A word of a small set, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Dereference(error) => writer::category(&error.source),
            Self::Build(_) => "internal",
            Self::Write(error) => error.category(),
            Self::Pass(fault) => fault.category(),
        }
    }
}

/// One pass over one object. Gives the time after which to look again, whatever happens.
///
/// # Errors
/// When something has to be tried again.
pub async fn reconcile(object: &StorageBackup, context: &Context) -> Result<Duration, Error> {
    let Context {
        client,
        writer,
        recorder,
        caches,
        defaults,
        ..
    } = context;
    // Children go by their owner reference, and archives stay.
    let (None, Some(identity)) = (&object.metadata.deletion_timestamp, Identity::of(object)) else {
        return Ok(REST);
    };
    let now = clock::now().0;

    // 1. What is there.
    let observed = dereference::dereference(object, &identity, caches, client, now).await?;
    let held = observed.held.as_deref();

    // 2. What the user wants.
    let backup = validate(object, &identity, observed.predictor(), defaults, now);

    // 3. What there should be.
    let before = object.status.clone().unwrap_or_default();
    let mut status = status::with_news(&before, &observed.runs);
    // Before it is written down that there are archives, so that it is tried again.
    if status.last_run != before.last_run {
        let own = observed.predictor().map(claim_of);
        let claims = archives::claims(object, &status, own.as_deref());
        archives::mark(writer, &identity.namespace, &claims).await?;
    }
    let is_set_up = plan::is_set_up(observed.predictor());
    let plan = plan::plan(object, backup.as_ref(), &observed.runs, held, is_set_up);
    let prepared = match &backup {
        Ok(backup) => build(backup, &plan, &status)?,
        Err(_) => Prepared::default(),
    };

    // 4. Make it so.
    // On the heap: the future holds whole CronJobs several times over.
    let applied = Box::pin(apply::apply(
        writer,
        identity.owner(),
        &plan,
        prepared,
        &observed,
    ))
    .await;
    if applied.failures.iter().any(writer::Error::namespace_ends) {
        return Ok(REST);
    }
    if let Some((begun, job)) = &applied.begun {
        status::acknowledge(&mut status, begun, job);
    }
    let lasting = context.backoff.failures(object) + 1 >= TELL_AFTER;
    let told = applied
        .failures
        .iter()
        .find(|error| error.refused() || lasting);

    // 5. Say so. What runs reported is written down also when something else failed.
    let failure = told.map(explain);
    status::set_next(
        &mut status,
        backup.as_ref().ok(),
        &plan,
        held.is_some(),
        now,
    );
    let findings = conditions::findings(Seen {
        object,
        refusal: backup.as_ref().err(),
        failure: failure.as_ref(),
        held,
        runs: &observed.runs,
        waits: !is_set_up && plan::wants_first(object, &status, &observed.runs),
        status: &status,
        now,
    });
    status::set_conditions(&mut status, &findings, identity.generation, now);
    let told = update_status::update_status(writer, recorder, object, &status, &findings).await?;
    match applied.failures.into_iter().next() {
        Some(failure) => Err(failure.into()),
        None if told == Told::Stale => Ok(STALE),
        None => Ok(look_again(
            object,
            &status,
            &observed,
            &plan,
            backup.is_err(),
            now,
        )),
    }
}

fn build(
    backup: &ValidatedBackup,
    plan: &Plan,
    status: &StorageBackupStatus,
) -> Result<Prepared, serde_json::Error> {
    let cron = match (plan.backup, &backup.schedule) {
        (Cron::Apply { suspend }, Some(schedule)) => {
            Some(build::build_backup_cron(backup, schedule, suspend)?)
        }
        _ => None,
    };
    let test = match (plan.test, &backup.test_schedule) {
        (Cron::Apply { suspend }, Some(schedule)) => Some(build::build_test_cron(
            backup,
            schedule,
            suspend,
            &status.attested,
        )?),
        _ => None,
    };
    let run = plan
        .begin
        .as_ref()
        .map(|begin| build::build_run(backup, begin));
    Ok(Prepared {
        backup: cron,
        test,
        run: run.transpose()?,
    })
}

/// A failure in words.
fn explain(error: &writer::Error) -> Failure {
    let (reason, way_out) = match error {
        writer::Error::NotOurs { .. } => (BackupReason::ChildNotOurs, ""),
        error if error.refused() => (
            BackupReason::ApplyRefused,
            "; correct the spec, or what refuses it",
        ),
        _ => (BackupReason::ApplyFailed, "; it is tried again"),
    };
    Failure {
        reason,
        message: format!("{error}{way_out}"),
    }
}

/// When to look again without an event: before long while a run goes on, else when a time that the status tells has come.
fn look_again(
    object: &StorageBackup,
    status: &StorageBackupStatus,
    observed: &Observed,
    plan: &Plan,
    refused: bool,
    now: Timestamp,
) -> Duration {
    if plan.begin.is_some() || observed.runs.iter().any(runs::Run::active) {
        return BUSY;
    }
    let most = if refused { REFUSED } else { REST };
    let times = [
        status.next_run.as_ref().map(|time| time.0),
        status.next_test.as_ref().map(|time| time.0),
        conditions::rpo_deadline(object, status),
    ];
    times
        .into_iter()
        .flatten()
        .filter(|time| *time > now)
        .filter_map(|time| u64::try_from(time.as_second() - now.as_second() + 1).ok())
        .map(Duration::from_secs)
        .fold(most, Duration::min)
}

#[cfg(test)]
#[path = "scenario_test.rs"]
mod scenarios;
#[cfg(test)]
#[path = "story_test.rs"]
mod stories;
