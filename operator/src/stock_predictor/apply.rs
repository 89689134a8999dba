//! Step 4: makes it so.
//!
//! In: [`Resources<Prepared>`] and what was observed. Out: [`Resources<Applied>`]. A child that is refused doesn't keep
//! the others from being applied; every failure is returned.

use std::marker::PhantomData;
use std::sync::Arc;

use super::build::{Applied, Prepared, Resources};
use super::dereference::Observed;
use crate::writer::{Child, Error, Outcome, Owner, Writer};

/// Why children could not be applied: one failure or more, in the order of the children.
#[derive(Debug)]
pub struct Failures(Vec<Error>);

impl Failures {
    /// Without the failures that are `known` otherwise; nothing when none is left.
    pub fn without(mut self, mut known: impl FnMut(&Error) -> bool) -> Option<Self> {
        self.0.retain(|failure| !known(failure));
        (!self.0.is_empty()).then_some(self)
    }

    /// The failures; there is at least one.
    pub fn all(&self) -> &[Error] {
        &self.0
    }

    /// True when somebody has to change something, for one of them at least.
    pub fn refused(&self) -> bool {
        self.0.iter().any(Error::refused)
    }

    /// True when the namespace is going.
    pub fn namespace_ends(&self) -> bool {
        self.0.iter().any(Error::namespace_ends)
    }

    /// The category of the first, for metrics.
    pub fn category(&self) -> &'static str {
        self.0.first().map_or("internal", Error::category)
    }
}

impl std::fmt::Display for Failures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, failure) in self.0.iter().enumerate() {
            let between = if number == 0 { "" } else { "; " };
            write!(f, "{between}{failure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failures {}

/// Applies every child.
///
/// # Errors
/// With all failures, after everything that could be applied was.
pub async fn apply(
    writer: &Writer,
    owner: Owner<'_>,
    prepared: Resources<Prepared>,
    observed: &Observed,
) -> Result<Resources<Applied>, Failures> {
    // Without `..`: a child that is added and forgotten here does not compile.
    let Resources {
        service_account,
        config_map,
        claim,
        deployment,
        service,
        network_policy,
        budget,
        stage: _,
    } = prepared;
    let mut run = Run {
        writer,
        owner,
        failures: Vec::new(),
    };
    let applied = Resources {
        service_account: run
            .child(service_account, observed.service_account.as_ref())
            .await,
        config_map: run.child(config_map, observed.config_map.as_ref()).await,
        // Before the pods, so that none is reachable by everyone for a moment.
        network_policy: run
            .child(network_policy, observed.network_policy.as_ref())
            .await,
        service: run.child(service, observed.service.as_ref()).await,
        claim: run.wanted(claim, observed.claim.as_ref()).await,
        budget: run.wanted_or_orphan(budget, observed.budget.as_ref()).await,
        // On the heap: the future holds a whole Deployment several times over.
        deployment: Box::pin(run.wanted(deployment, observed.deployment.as_ref())).await,
        stage: PhantomData,
    };
    if run.failures.is_empty() {
        Ok(applied)
    } else {
        Err(Failures(run.failures))
    }
}

/// One pass over the children.
struct Run<'a> {
    writer: &'a Writer,
    owner: Owner<'a>,
    failures: Vec<Error>,
}

impl Run<'_> {
    /// Applies a child and gives it as the API server has it; as it was built when it failed.
    async fn child<K: Child>(&mut self, desired: K, cached: Option<&Arc<K>>) -> K {
        let reachable = self.failures.iter().all(Error::refused);
        if !reachable {
            return desired;
        }
        match self
            .writer
            .apply(self.owner, &desired, cached.map(AsRef::as_ref))
            .await
        {
            Ok((_, Some(written))) => written,
            Ok((_, None)) => cached.map_or(desired, |cached| cached.as_ref().clone()),
            Err(error) => {
                self.failures.push(error);
                desired
            }
        }
    }

    async fn wanted<K: Child>(&mut self, desired: Option<K>, cached: Option<&Arc<K>>) -> Option<K> {
        match desired {
            Some(desired) => Some(self.child(desired, cached).await),
            None => cached.map(|cached| cached.as_ref().clone()),
        }
    }

    /// A child that may have become superfluous.
    async fn wanted_or_orphan<K: Child>(
        &mut self,
        desired: Option<K>,
        cached: Option<&Arc<K>>,
    ) -> Option<K> {
        if let (None, Some(orphan)) = (&desired, cached) {
            return match self.writer.delete_orphan(self.owner, orphan.as_ref()).await {
                Ok(Outcome::Written) => None,
                Ok(Outcome::Unchanged) => Some(orphan.as_ref().clone()),
                Err(error) => {
                    self.failures.push(error);
                    Some(orphan.as_ref().clone())
                }
            };
        }
        self.wanted(desired, cached).await
    }
}
