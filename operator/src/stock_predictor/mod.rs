//! The driver of one `StockPredictor`: five steps, each in its own file.
//!
//! In: an object from the cache. Out: children, a status, Events, and when to look again. Only the order of the steps and
//! what follows from their failures is decided here.

pub mod apply;
pub mod backoff;
pub mod bootstrap;
pub mod build;
pub mod claim;
pub mod conditions;
pub mod controller;
pub mod dereference;
pub mod finalize;
#[cfg(test)]
pub(crate) mod fixture;
pub mod labels;
mod needed;
pub mod pods;
pub mod stats;
pub mod status;
pub mod update_status;
pub mod validate;

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::runtime::events::Recorder;
use kube::{Client, ResourceExt};
use stockpredictor_api::StockPredictor;
use stockpredictor_api::condition::Reason;

use self::backoff::{Backoff, Silence};
use self::bootstrap::Fill;
use self::claim::ClaimPlan;
use self::conditions::{Failure, Finding, Seen, State};
use self::dereference::{Caches, Observed};
use self::finalize::Progress;
use self::stats::Poller;
use self::validate::{Defaults, Stopped, ValidatedPredictor};
use crate::clock;
use crate::controller::Fault;
use crate::metrics::Metrics;
use crate::writer::{self, Writer};

/// How often a predictor that is fine is asked how it is.
const WELL: Duration = Duration::from_secs(30);
/// How often one that isn't is looked at, beside the events of its children.
const UNWELL: Duration = Duration::from_secs(5);
/// How often a stopped one is looked at: its children are watched.
const STOPPED: Duration = Duration::from_mins(10);
/// How often the pods of a deleted one are looked at.
const ENDING: Duration = Duration::from_secs(2);
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
    /// For stats.
    pub poller: Poller,
    /// The children.
    pub caches: Caches,
    /// What the operator was started with.
    pub defaults: Defaults,
    /// Counters.
    pub metrics: Metrics,
    /// Failures in a row.
    pub backoff: Backoff,
    /// Predictors that don't answer.
    pub silence: Silence,
}

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Step 2.
    #[error("invalid spec: {0}")]
    Validate(#[from] validate::Error),
    /// Step 3.
    #[error(transparent)]
    Build(#[from] build::Error),
    /// Step 4.
    #[error(transparent)]
    Apply(#[from] apply::Failures),
    /// Steps 1 and 5, and the end of an object.
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
            Self::Validate(_) => "invalid",
            Self::Build(_) => "internal",
            Self::Apply(failures) => failures.category(),
            Self::Write(error) => error.category(),
            Self::Pass(fault) => fault.category(),
        }
    }
}

/// One pass over one object. Gives the time after which to look again, whatever happens.
///
/// # Errors
/// When something has to be tried again.
pub async fn reconcile(object: &StockPredictor, context: &Context) -> Result<Duration, Error> {
    let Context {
        client,
        writer,
        poller,
        caches,
        defaults,
        metrics,
        ..
    } = context;
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(match Box::pin(finalize::finalize(context, object)).await? {
            Progress::WaitsForPods => ENDING,
            Progress::Done => STOPPED,
        });
    }
    finalize::sync_finalizer(writer, object).await?;

    // 1. What is there.
    let observed = Box::pin(dereference::dereference(
        object, caches, client, poller, metrics,
    ))
    .await?;

    // 2. What the user wants.
    let predictor = match validate::validate(object, defaults) {
        Ok(predictor) => predictor.held(observed.hold.clone()),
        Err(error) => {
            tell_invalid(object, context, &error).await?;
            return Err(error.into());
        }
    };

    // 3. What there should be.
    let mut plan = claim::plan_claim(&predictor, observed.claim.as_deref(), observed.expandable);
    let fill = filling(&predictor, &plan, &observed);
    let predictor = predictor.unfilled(!fill.lets_start());
    let present = build::Present {
        claim: observed.claim.as_deref(),
        deployment: observed
            .deployment
            .as_deref()
            .is_some_and(|deployment| writer::owned_by(deployment, &predictor.uid)),
        fill: &fill,
    };
    let prepared = build::build(&predictor, &plan, present)?;

    // 4. Make it so.
    let applied = match Box::pin(apply::apply(writer, predictor.owner(), prepared, &observed)).await
    {
        Ok(applied) => Ok(Live {
            claim: applied.claim,
            deployment: applied.deployment,
        }),
        // Nothing is left to do, and nobody to tell.
        Err(failures) if failures.namespace_ends() => return Ok(STOPPED),
        Err(failures) => {
            match failures.without(|error| growth_refused(&mut plan, &observed, error)) {
                None => Ok(Live::cached(&observed)),
                // A failure that passes by itself is not worth a change of the status, until it lasts.
                Some(failures)
                    if !failures.refused() && context.backoff.failures(object) + 1 < TELL_AFTER =>
                {
                    return Err(failures.into());
                }
                Some(failures) => Err(failures),
            }
        }
    };

    if applied.is_ok() {
        let claim = observed.claim.as_deref();
        Box::pin(bootstrap::apply(
            writer,
            &predictor,
            claim,
            &fill,
            &observed.filling,
        ))
        .await?;
    }

    // 5. Say so.
    let failure = applied.as_ref().err().map(explain);
    let cached = Live::cached(&observed);
    let live = applied.as_ref().unwrap_or(&cached);
    let findings = Box::pin(tell(
        object,
        context,
        &predictor,
        (&plan, &fill),
        &observed,
        live,
        failure.as_ref(),
    ))
    .await?;
    applied?;
    Ok(look_again(&predictor, &plan, &findings))
}

/// How far the filling of a new volume is.
fn filling(predictor: &ValidatedPredictor, plan: &ClaimPlan, observed: &Observed) -> Fill {
    let running = observed.deployment.as_deref().is_some_and(|deployment| {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        wanted != Some(0) && writer::owned_by(deployment, &predictor.uid)
    });
    bootstrap::plan(
        predictor,
        plan,
        observed.claim.as_deref(),
        &observed.filling,
        running || !observed.pods.is_empty(),
        clock::now().0,
    )
}

/// The live objects that the status speaks of.
struct Live {
    claim: Option<PersistentVolumeClaim>,
    deployment: Option<Deployment>,
}

impl Live {
    fn cached(observed: &Observed) -> Self {
        Self {
            claim: observed.claim.as_deref().cloned(),
            deployment: observed.deployment.as_deref().cloned(),
        }
    }
}

/// A claim whose class could not be read was tried to grow, and the API server said that it can't: that is a state of the
/// volume and not a failure to reconcile. What is refused for another reason, such as a quota, stays a failure.
fn growth_refused(plan: &mut ClaimPlan, observed: &Observed, error: &writer::Error) -> bool {
    let (ClaimPlan::Grow { from, to }, Some(claim)) = (&*plan, &observed.claim) else {
        return false;
    };
    let class_may_be_why = observed.expandable.is_none() && speaks_of_growth(error, claim);
    if !class_may_be_why || !error.refused() || !error.concerns::<PersistentVolumeClaim>() {
        return false;
    }
    tracing::warn!(%error, "the claim can't grow");
    *plan = ClaimPlan::GrowthRefused {
        from: from.clone(),
        to: to.clone(),
        class: claim::class(claim),
    };
    true
}

/// Whether the words are about resizing; the claim's name, which may be about anything, is left out.
fn speaks_of_growth(error: &writer::Error, claim: &PersistentVolumeClaim) -> bool {
    let writer::Error::Request { source, .. } = error else {
        return false;
    };
    let quoted = format!("{:?}", claim.name_any());
    let words = writer::explain(source).replace(&quoted, "").to_lowercase();
    ["resiz", "expan"].iter().any(|stem| words.contains(stem))
}

/// All failures in words, under the name of the worst.
fn explain(failures: &apply::Failures) -> Failure {
    let all = failures.all();
    let foreign = |error: &writer::Error| matches!(error, writer::Error::NotOurs { .. });
    let (reason, way_out) = if all.iter().all(foreign) {
        (Reason::ChildNotOurs, "")
    } else if failures.refused() {
        (
            Reason::ApplyRefused,
            "; correct the spec, or what refuses it",
        )
    } else {
        (Reason::ApplyFailed, "; it is tried again")
    };
    Failure {
        reason,
        message: format!("{failures}{way_out}"),
    }
}

/// Step 5 for an object that could be built.
async fn tell(
    object: &StockPredictor,
    context: &Context,
    predictor: &ValidatedPredictor,
    (plan, fill): (&ClaimPlan, &Fill),
    observed: &Observed,
    live: &Live,
    failure: Option<&Failure>,
) -> Result<Vec<Finding>, Error> {
    let stats: Vec<_> = observed
        .answers
        .iter()
        .filter_map(|answer| answer.stats.as_ref().ok())
        .collect();
    let silent = stats.is_empty() && observed.pods.iter().any(|pod| pods::is_ready(pod));
    let carry = context.silence.is_short(object, silent, Instant::now());
    let before = object.status.as_ref();
    let seen = Seen {
        predictor,
        plan,
        fill,
        claim: live.claim.as_ref(),
        deployment: live.deployment.as_ref(),
        pods: &observed.pods,
        stats: &stats,
        failure,
        carried: before
            .filter(|_| carry)
            .map(|status| status.conditions.as_slice()),
    };
    let findings = conditions::findings(seen);
    let document = status::status(seen, &findings, before, &clock::now());
    update_status::update_status(
        &context.writer,
        &context.recorder,
        object,
        &document,
        &findings,
    )
    .await?;
    Ok(findings)
}

/// Step 5 for an object that could not.
async fn tell_invalid(
    object: &StockPredictor,
    context: &Context,
    error: &validate::Error,
) -> Result<(), Error> {
    let findings = conditions::invalid(error.to_string());
    let generation = object.metadata.generation.unwrap_or_default();
    let status =
        status::invalid_status(generation, &findings, object.status.as_ref(), &clock::now());
    update_status::update_status(
        &context.writer,
        &context.recorder,
        object,
        &status,
        &findings,
    )
    .await?;
    Ok(())
}

/// When to look again without an event.
fn look_again(predictor: &ValidatedPredictor, plan: &ClaimPlan, findings: &[Finding]) -> Duration {
    let ready = findings
        .first()
        .is_some_and(|ready| ready.state == State::True);
    match &predictor.stopped {
        // The user's claims aren't watched.
        _ if !plan.usable() => UNWELL,
        Some(Stopped::ByBootstrap) => UNWELL,
        Some(_) => STOPPED,
        None if ready => WELL,
        None => UNWELL,
    }
}

#[cfg(test)]
#[path = "scenario_test.rs"]
mod scenarios;
