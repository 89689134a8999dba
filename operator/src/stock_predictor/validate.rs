//! Step 2, pure: from what a user wrote to what the builders need.
//!
//! In: the object and the operator's own settings. Out: a [`ValidatedPredictor`], in which every name is present, the
//! image is resolved and the number of pods is the one that should run. CEL has refused most mistakes at apply time;
//! what gets here in spite of it is an error that names the field.

use kube::ResourceExt;
use stockpredictor_api::{
    AccessMode, DeletionPolicy, ImagePullPolicy, StockPredictor, StockPredictorSpec,
};

use crate::quantity;
use crate::storage_restore::hold::Hold;
use crate::writer::Owner;

/// What the operator was started with and every object shares.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Image of predictors that name none.
    pub image: String,
    /// When nodes pull it; an image that an object names is no matter of the operator's.
    pub pull_policy: ImagePullPolicy,
    /// Namespaces whose pods may reach every predictor.
    pub allow_from: Vec<String>,
    /// The operator's own namespace.
    pub operator_namespace: String,
}

/// An object that can't become anything.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The API server gives these to every stored object.
    #[error("metadata.{0} is missing; apply the object through the API server")]
    MissingMetadata(&'static str),
    /// No size that can be read.
    #[error("spec.storage.size {0:?} is no size; write one such as 10Gi")]
    ParseSize(String),
    /// Neither size nor claim.
    #[error("spec.storage names neither size nor existingClaim; set one of them")]
    MissingVolume,
    /// Several pods would write a volume for one.
    #[error(
        "spec.replicas is {0}, but the volume is for one node or pod; set storage.accessMode to ReadWriteMany, or replicas to 1"
    )]
    TooManyReplicas(i32),
}

/// Whose claim it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The operator makes it, under the predictor's name.
    Own {
        /// The size asked for, as written.
        size: String,
        /// The size asked for in bytes.
        bytes: u64,
        /// The storage class; nothing means the cluster's default.
        class: Option<String>,
        /// What becomes of it at the end.
        policy: DeletionPolicy,
    },
    /// The user made it.
    Existing {
        /// Its name.
        name: String,
    },
}

/// A predictor that can be built.
#[derive(Clone, Debug)]
pub struct ValidatedPredictor {
    /// Its name, which its children share.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// How many pods run: 0 when suspended.
    pub replicas: i32,
    /// Why there are none, when that is on purpose.
    pub stopped: Option<Stopped>,
    /// The image that runs.
    pub image: String,
    /// When nodes pull it.
    pub pull_policy: ImagePullPolicy,
    /// The claim.
    pub claim: Claim,
    /// How the volume is mounted.
    pub access_mode: AccessMode,
    /// Namespaces whose pods may reach it, beside its own; sorted, each once.
    pub allow_from: Vec<String>,
    /// The operator's namespace.
    pub operator_namespace: String,
    /// Everything else, as the user wrote it.
    pub spec: StockPredictorSpec,
}

/// Why no pod should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// By `spec.suspend`.
    BySuspend,
    /// By `spec.replicas: 0`.
    ByReplicas,
    /// By a restore that works on the volume.
    ByRestore(Hold),
    /// Until the new volume is filled.
    ByBootstrap,
}

impl ValidatedPredictor {
    /// The claim's name.
    pub fn claim_name(&self) -> &str {
        match &self.claim {
            Claim::Own { .. } => &self.name,
            Claim::Existing { name } => name,
        }
    }

    /// The same, stopped for `hold` whatever its spec says.
    #[must_use]
    pub fn held(self, hold: Option<Hold>) -> Self {
        match hold {
            None => self,
            Some(hold) => Self {
                replicas: 0,
                stopped: Some(Stopped::ByRestore(hold)),
                ..self
            },
        }
    }

    /// The same, stopped until its new volume is filled.
    #[must_use]
    pub fn unfilled(self, unfilled: bool) -> Self {
        if !unfilled {
            return self;
        }
        Self {
            replicas: 0,
            stopped: Some(Stopped::ByBootstrap),
            ..self
        }
    }

    /// The restore that stops it.
    pub fn hold(&self) -> Option<&Hold> {
        match &self.stopped {
            Some(Stopped::ByRestore(hold)) => Some(hold),
            _ => None,
        }
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

/// Checks `object` and fills in what it leaves to the operator.
///
/// # Errors
/// When the object can't become anything; the message names the field.
pub fn validate(object: &StockPredictor, defaults: &Defaults) -> Result<ValidatedPredictor, Error> {
    let spec = object.spec.clone();
    let name = object
        .metadata
        .name
        .clone()
        .ok_or(Error::MissingMetadata("name"))?;
    let namespace = object
        .namespace()
        .ok_or(Error::MissingMetadata("namespace"))?;
    let uid = object.uid().ok_or(Error::MissingMetadata("uid"))?;
    if spec.replicas > 1 && spec.storage.access_mode != AccessMode::ReadWriteMany {
        return Err(Error::TooManyReplicas(spec.replicas));
    }
    let claim = match (&spec.storage.existing_claim, &spec.storage.size) {
        (Some(name), _) => Claim::Existing { name: name.clone() },
        (None, Some(size)) => Claim::Own {
            bytes: quantity::units(&size.0).ok_or_else(|| Error::ParseSize(size.0.clone()))?,
            size: size.0.clone(),
            class: spec.storage.storage_class_name.clone(),
            policy: spec.storage.deletion_policy,
        },
        (None, None) => return Err(Error::MissingVolume),
    };
    let stopped = match (spec.suspend, spec.replicas) {
        (true, _) => Some(Stopped::BySuspend),
        (false, ..=0) => Some(Stopped::ByReplicas),
        _ => None,
    };
    let image = spec.image.clone().filter(|image| !image.is_empty());
    // A new setting of the operator's must not roll a predictor that is pinned.
    let pull_policy = match &image {
        Some(_) => ImagePullPolicy::IfNotPresent,
        None => defaults.pull_policy,
    };
    let mut allow_from: Vec<String> = defaults
        .allow_from
        .iter()
        .chain(&spec.allow_from)
        .cloned()
        .collect();
    allow_from.retain(|other| !other.is_empty() && *other != namespace);
    allow_from.sort();
    allow_from.dedup();
    Ok(ValidatedPredictor {
        name,
        namespace,
        uid,
        generation: object.metadata.generation.unwrap_or_default(),
        replicas: if stopped.is_some() { 0 } else { spec.replicas },
        stopped,
        pull_policy: spec.image_pull_policy.unwrap_or(pull_policy),
        image: image.unwrap_or_else(|| defaults.image.clone()),
        claim,
        access_mode: spec.storage.access_mode,
        allow_from,
        operator_namespace: defaults.operator_namespace.clone(),
        spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock_predictor::fixture;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn validated(spec: &Value) -> Result<ValidatedPredictor, Error> {
        validate(&fixture::predictor(spec), &fixture::defaults())
    }

    #[rstest]
    #[case::default_image(json!({}), "registry.example.com/predictor:1")]
    #[case::empty_image(json!({"image": ""}), "registry.example.com/predictor:1")]
    #[case::pinned_image(json!({"image": "mine:2"}), "mine:2")]
    fn the_image_is_the_pinned_one_or_the_operators(#[case] spec: Value, #[case] image: &str) {
        assert_eq!(validated(&spec).unwrap().image, image);
    }

    #[rstest]
    #[case::default_image(json!({}), ImagePullPolicy::Always)]
    #[case::empty_image(json!({"image": ""}), ImagePullPolicy::Always)]
    #[case::pinned_image(json!({"image": "mine:2"}), ImagePullPolicy::IfNotPresent)]
    #[case::pinned_image_and_policy(json!({"image": "mine:2", "imagePullPolicy": "Never"}), ImagePullPolicy::Never)]
    #[case::policy_alone(json!({"imagePullPolicy": "Never"}), ImagePullPolicy::Never)]
    fn the_operators_pull_policy_is_for_the_operators_image(
        #[case] spec: Value,
        #[case] policy: ImagePullPolicy,
    ) {
        let defaults = Defaults {
            pull_policy: ImagePullPolicy::Always,
            ..fixture::defaults()
        };
        let predictor = validate(&fixture::predictor(&spec), &defaults).unwrap();
        assert_eq!(predictor.pull_policy, policy);
    }

    #[rstest]
    #[case(json!({}), 1, None)]
    #[case(json!({"suspend": true}), 0, Some(Stopped::BySuspend))]
    #[case(json!({"replicas": 0}), 0, Some(Stopped::ByReplicas))]
    #[case(json!({"replicas": 0, "suspend": true}), 0, Some(Stopped::BySuspend))]
    #[case(json!({"replicas": 3, "storage": {"size": "1Gi", "accessMode": "ReadWriteMany"}}), 3, None)]
    fn so_many_pods_run(
        #[case] spec: Value,
        #[case] replicas: i32,
        #[case] stopped: Option<Stopped>,
    ) {
        let predictor = validated(&spec).unwrap();
        assert_eq!(
            (predictor.replicas, predictor.stopped.clone()),
            (replicas, stopped)
        );
        let hold = Hold {
            restore: "back".into(),
            uid: "1".into(),
        };
        let held = predictor.held(Some(hold.clone()));
        assert_eq!((held.replicas, held.hold()), (0, Some(&hold)));
    }

    #[rstest]
    #[case(json!({"storage": {"size": "ten"}}), Error::ParseSize("ten".into()))]
    #[case(json!({"storage": {"size": "-1Gi"}}), Error::ParseSize("-1Gi".into()))]
    #[case(json!({"storage": {"size": null}}), Error::MissingVolume)]
    #[case(json!({"replicas": 2}), Error::TooManyReplicas(2))]
    fn what_the_schema_let_through_is_an_error(#[case] spec: Value, #[case] error: Error) {
        assert_eq!(validated(&spec).unwrap_err(), error);
    }

    #[test]
    fn the_claim_is_named_like_the_predictor_or_as_the_user_says() {
        assert_eq!(validated(&json!({})).unwrap().claim_name(), "nvda");
        let existing =
            validated(&json!({"storage": {"size": null, "existingClaim": "mine"}})).unwrap();
        assert_eq!(existing.claim_name(), "mine");
    }

    #[test]
    fn namespaces_are_let_in_once_and_the_own_one_not_by_name() {
        let predictor = validated(&json!({"allowFrom": ["web", "default", "monitoring"]})).unwrap();
        assert_eq!(predictor.allow_from, ["monitoring", "web"]);
    }
}
