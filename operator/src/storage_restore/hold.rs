//! The hold: what a restore makes of the predictors whose volume it works on, and of their backups.
//!
//! In: the restores of a namespace. Out: which of them a predictor is stopped for, if any. Each predictor's own reconcile
//! derives its 0 replicas from this, so a human edit of the Deployment is repaired like any other, and nobody has to
//! remember to start the predictor again: the hold is gone when the restore's phase says so. Pure.

use kube::{Resource, ResourceExt};
use stockpredictor_api::{AccessMode, StorageRestore};

use super::plan::{holds, holds_backups};

/// A predictor, and the claim that it uses: another one may use it too.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// Its name.
    pub predictor: &'a str,
    /// The name of its claim.
    pub claim: &'a str,
}

/// A restore that a predictor is stopped for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its name.
    pub restore: String,
    /// Its uid.
    pub uid: String,
}

/// The restore that a predictor is stopped for. `present` is the uid of the one that it is stopped for now: that
/// one keeps it until it lets go, or two restores could believe to have the volume.
pub fn holder<'a>(
    restores: impl IntoIterator<Item = &'a StorageRestore>,
    user: User<'_>,
    mode: AccessMode,
    present: Option<&str>,
) -> Option<Hold> {
    let one_pod = mode == AccessMode::ReadWriteOncePod;
    restores
        .into_iter()
        .filter(|restore| concerns(restore, user))
        .filter(|restore| holds(phase(restore), one_pod))
        .min_by_key(|restore| (restore.uid().as_deref() != present, order(*restore)))
        .map(|restore| Hold {
            restore: restore.name_any(),
            uid: restore.uid().unwrap_or_default(),
        })
}

/// The name of a restore because of which no backup of a predictor may begin.
pub fn backups_held<'a>(
    restores: impl IntoIterator<Item = &'a StorageRestore>,
    user: User<'_>,
) -> Option<String> {
    restores
        .into_iter()
        .filter(|restore| concerns(restore, user) && holds_backups(phase(restore)))
        .min_by_key(|restore| order(*restore))
        .map(ResourceExt::name_any)
}

/// The predictor that is restored in place.
pub fn predictor_of(restore: &StorageRestore) -> Option<&str> {
    let target = restore.spec.target.in_place.as_ref()?;
    Some(&target.predictor_ref.name)
}

/// The claim that is restored in place, once the restore has noted it.
pub fn claim_of(restore: &StorageRestore) -> Option<&str> {
    restore.spec.target.in_place.as_ref()?;
    let target = restore.status.as_ref()?.target.as_ref()?;
    target.claim_name.as_deref()
}

/// True when the restore works, or will work, on what the predictor uses. The claim that was noted at the beginning counts
/// also when the predictor names another one since.
pub fn concerns(restore: &StorageRestore, user: User<'_>) -> bool {
    predictor_of(restore) == Some(user.predictor) || claim_of(restore) == Some(user.claim)
}

/// Oldest first; those of one second by uid.
pub fn order<K: Resource>(object: &K) -> (i64, String) {
    let created = object.meta().creation_timestamp.as_ref();
    (
        created.map_or(i64::MAX, |time| time.0.as_second()),
        object.uid().unwrap_or_default(),
    )
}

fn phase(restore: &StorageRestore) -> stockpredictor_api::RestorePhase {
    let status = restore.status.as_ref();
    status.and_then(|status| status.phase).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn restore(name: &str, second: u32, phase: &str) -> StorageRestore {
        serde_json::from_value(json!({
            "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StorageRestore",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": format!("2025-08-01T12:00:0{second}Z")},
            "spec": {"source": {}, "target": {"inPlace": {"predictorRef": {"name": "nvda"}}}},
            "status": {"phase": phase, "target": {"claimName": "data"}},
        }))
        .unwrap()
    }

    fn user<'a>(predictor: &'a str, claim: &'a str) -> User<'a> {
        User { predictor, claim }
    }

    #[rstest]
    #[case::none(vec![], None)]
    #[case::not_begun(vec![restore("a", 1, "Preflight")], None)]
    #[case::begun(vec![restore("a", 1, "Holding")], Some("a"))]
    #[case::over(vec![restore("a", 1, "Completed"), restore("b", 2, "RolledBack")], None)]
    #[case::starting(vec![restore("a", 1, "Starting")], None)]
    #[case::oldest_of_two(vec![restore("b", 2, "Holding"), restore("a", 1, "Switching")], Some("a"))]
    #[case::of_one_second(vec![restore("b", 1, "Holding"), restore("a", 1, "Holding")], Some("a"))]
    #[case::who_has_it_keeps_it(vec![restore("a", 1, "Holding"), restore("has", 2, "Preparing")], Some("has"))]
    fn a_predictor_is_stopped_for_one_restore(
        #[case] restores: Vec<StorageRestore>,
        #[case] held: Option<&str>,
    ) {
        let found = holder(
            &restores,
            user("nvda", "data"),
            AccessMode::ReadWriteOnce,
            Some("uid-has"),
        );
        assert_eq!(found.as_ref().map(|hold| hold.restore.as_str()), held);
    }

    #[rstest]
    #[case::the_one_that_is_named(user("nvda", "data"), true)]
    #[case::one_that_names_another_claim_since(user("nvda", "new"), true)]
    #[case::another_one_of_its_claim(user("twin", "data"), true)]
    #[case::one_of_another_claim(user("tsla", "tsla"), false)]
    fn whoever_uses_the_claim_is_stopped_and_its_backups_wait(
        #[case] user: User<'_>,
        #[case] held: bool,
    ) {
        let restores = [restore("a", 1, "Holding")];
        let found = holder(&restores, user, AccessMode::ReadWriteMany, None);
        assert_eq!(found.is_some(), held);
        assert_eq!(backups_held(&restores, user).is_some(), held);
    }

    #[rstest]
    #[case(AccessMode::ReadWriteOnce, false)]
    #[case(AccessMode::ReadWriteOncePod, true)]
    fn a_volume_for_one_pod_is_cleaned_up_without_the_predictor(
        #[case] mode: AccessMode,
        #[case] held: bool,
    ) {
        let restores = [restore("a", 1, "Committing")];
        assert_eq!(
            holder(&restores, user("nvda", "data"), mode, None).is_some(),
            held
        );
    }

    #[rstest]
    #[case("Preflight", false)]
    #[case("Holding", true)]
    #[case("Starting", true)]
    #[case("Restarting", true)]
    #[case("Held", true)]
    #[case("Completed", false)]
    fn backups_wait_from_the_hold_to_the_end(#[case] phase: &str, #[case] held: bool) {
        let restores = [restore("a", 1, phase)];
        assert_eq!(
            backups_held(&restores, user("nvda", "data")).is_some(),
            held
        );
    }
}
