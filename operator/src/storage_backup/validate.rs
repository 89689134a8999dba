//! Step 2, pure: from what a user wrote to what the builders need.
//!
//! In: the object, its predictor, the operator's own settings and the time. Out: a [`ValidatedBackup`], or a [`Refusal`]
//! whose reason a condition takes. CEL has refused most mistakes at apply time.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use stockpredictor_api::backup_condition::BackupReason;
use stockpredictor_api::{AccessMode, StockPredictor, StorageBackup, StorageBackupSpec};

use super::ACCEPT_SUSPECT;
use super::schedule::{Schedule, time_zone};
use crate::stock_predictor::validate::{self as predictor, Defaults, ValidatedPredictor};
use crate::writer::Owner;

/// As many accepted suspects are taken over.
const MAX_ACCEPTED: usize = 8;

/// An object that can't become runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For the condition.
    pub reason: BackupReason,
    /// What it is and what to do.
    pub message: String,
    /// Whether runs that were planned before must not begin any more. Else the last good ones stay in force.
    pub stops: bool,
}

/// Whose object it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
}

impl Identity {
    /// The identity of a stored object; nothing when the API server never saw it.
    pub fn of(object: &StorageBackup) -> Option<Self> {
        Some(Self {
            name: object.metadata.name.clone()?,
            namespace: object.metadata.namespace.clone()?,
            uid: object.metadata.uid.clone()?,
            generation: object.metadata.generation.unwrap_or_default(),
        })
    }

    /// The owner of all children.
    pub fn owner(&self) -> Owner<'_> {
        Owner {
            namespace: &self.namespace,
            name: &self.name,
            uid: &self.uid,
        }
    }
}

/// A backup that can be built.
#[derive(Clone, Debug)]
pub struct ValidatedBackup {
    /// Whose it is.
    pub identity: Identity,
    /// When it runs.
    pub schedule: Option<Schedule>,
    /// When restore tests run.
    pub test_schedule: Option<Schedule>,
    /// Ids of suspects that somebody accepted.
    pub accepted: Vec<String>,
    /// What is backed up.
    pub predictor: ValidatedPredictor,
    /// Everything else, as the user wrote it.
    pub spec: StorageBackupSpec,
}

/// Checks `object` and fills in what its predictor decides.
///
/// # Errors
/// When it can't become runs; the message names the way out.
pub fn validate(
    object: &StorageBackup,
    identity: &Identity,
    predictor: Option<&StockPredictor>,
    defaults: &Defaults,
    now: Timestamp,
) -> Result<ValidatedBackup, Refusal> {
    let spec = object.spec.clone();
    let name = &spec.predictor_ref.name;
    let predictor = predictor
        .filter(|predictor| predictor.metadata.deletion_timestamp.is_none())
        .ok_or_else(|| Refusal {
            reason: BackupReason::PredictorMissing,
            message: format!(
                "the StockPredictor {name} isn't there; create it, or a StorageBackup that names another one"
            ),
            stops: true,
        })?;
    let predictor = predictor::validate(predictor, defaults).map_err(|error| Refusal {
        reason: BackupReason::PredictorInvalid,
        message: format!("the StockPredictor {name} can't be used: {error}"),
        stops: false,
    })?;
    if predictor.access_mode == AccessMode::ReadWriteOncePod {
        return Err(Refusal {
            reason: BackupReason::VolumeForOnePod,
            message: format!(
                "the volume of {name} is ReadWriteOncePod, so no backup can mount it while the predictor runs; use a \
                 StockPredictor with ReadWriteOnce"
            ),
            stops: true,
        });
    }
    if let Some(destination) = spec.destinations.iter().find(|destination| {
        let claim = destination.claim.as_ref();
        claim.is_some_and(|claim| claim.name == predictor.claim_name())
    }) {
        return Err(Refusal {
            reason: BackupReason::InvalidSpec,
            message: format!(
                "the destination {} names the predictor's own claim; write volume: {{}} for it",
                destination.name
            ),
            stops: false,
        });
    }
    let invalid = |error: super::schedule::Error| Refusal {
        reason: BackupReason::InvalidSchedule,
        message: error.to_string(),
        stops: false,
    };
    let zone = time_zone(spec.time_zone.as_deref()).map_err(invalid)?;
    let schedule = spec
        .schedule
        .as_deref()
        .map(|text| Schedule::parse("spec.schedule", text, &zone, now))
        .transpose()
        .map_err(invalid)?;
    let test = spec
        .verification
        .as_ref()
        .and_then(|verification| verification.restore_test.as_ref());
    let test_schedule = test
        .map(|test| {
            let field = "spec.verification.restoreTest.schedule";
            Schedule::parse(field, &test.schedule, &zone, now)
        })
        .transpose()
        .map_err(invalid)?;
    Ok(ValidatedBackup {
        identity: identity.clone(),
        schedule,
        test_schedule,
        accepted: accepted(object),
        predictor,
        spec,
    })
}

/// The ids that the annotation names, sorted, each once. What is no id is left out: it becomes part of a document.
pub fn accepted(object: &StorageBackup) -> Vec<String> {
    let text = object
        .annotations()
        .get(ACCEPT_SUSPECT)
        .cloned()
        .unwrap_or_default();
    let is_id =
        |word: &str| word.len() == 36 && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let mut ids: Vec<String> = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| is_id(word))
        .map(str::to_ascii_lowercase)
        .collect();
    ids.sort();
    ids.dedup();
    ids.truncate(MAX_ACCEPTED);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock_predictor::fixture as predictors;
    use crate::storage_backup::fixture;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn validated(spec: &Value, predictor: Option<&Value>) -> Result<ValidatedBackup, Refusal> {
        let object = fixture::backup(spec);
        validate(
            &object,
            &Identity::of(&object).unwrap(),
            predictor.map(predictors::predictor).as_ref(),
            &predictors::defaults(),
            fixture::now(),
        )
    }

    #[test]
    fn the_image_and_the_claim_are_the_predictors() {
        let backup = validated(&json!({}), Some(&json!({"image": "mine:2"}))).unwrap();
        assert_eq!(backup.predictor.image, "mine:2");
        assert_eq!(backup.predictor.claim_name(), "nvda");
        assert_eq!(backup.schedule.unwrap().text, "0 3 * * *");
        assert!(backup.test_schedule.is_none());
    }

    #[rstest]
    #[case::no_predictor(json!({}), None, BackupReason::PredictorMissing, true)]
    #[case::bad_predictor(json!({}), Some(json!({"replicas": 2})), BackupReason::PredictorInvalid, false)]
    #[case::one_pod(json!({}), Some(json!({"storage": {"accessMode": "ReadWriteOncePod"}})), BackupReason::VolumeForOnePod, true)]
    #[case::own_claim(json!({"destinations": [{"name": "a", "claim": {"name": "nvda"}}]}), Some(json!({})), BackupReason::InvalidSpec, false)]
    #[case::schedule(json!({"schedule": "0 24 * * *"}), Some(json!({})), BackupReason::InvalidSchedule, false)]
    #[case::zone(json!({"timeZone": "Europe/Bielefeld"}), Some(json!({})), BackupReason::InvalidSchedule, false)]
    #[case::test(json!({"verification": {"restoreTest": {"schedule": "0 0 30 2 *"}}}), Some(json!({})), BackupReason::InvalidSchedule, false)]
    fn what_can_not_become_runs_is_refused_with_a_reason(
        #[case] spec: Value,
        #[case] predictor: Option<Value>,
        #[case] reason: BackupReason,
        #[case] stops: bool,
    ) {
        let refusal = validated(&spec, predictor.as_ref()).unwrap_err();
        assert_eq!(
            (refusal.reason, refusal.stops),
            (reason, stops),
            "{refusal}"
        );
    }

    #[test]
    fn only_ids_are_accepted_and_each_once() {
        let mut object = fixture::backup(&json!({}));
        let id = "3f2c1d1c-7a11-4a55-9a39-0c9a3d8f6b02";
        let text = format!("{id}, \"; rm -rf\" {}", id.to_uppercase());
        object.annotations_mut().insert(ACCEPT_SUSPECT.into(), text);
        assert_eq!(accepted(&object), [id]);
    }
}
