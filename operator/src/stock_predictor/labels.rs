//! Labels and annotations: how the operator recognizes what it made.
//!
//! In: the names of objects. Out: label maps, selectors, and answers to "is this ours?".

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};
use stockpredictor_api::well_known::{NAME_LABEL, OPERATOR_NAME};

use crate::writer;

/// The value of the name label on everything of a predictor.
pub const PREDICTOR_NAME: &str = "stockpredictor";
/// The label with the predictor's name.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// The label that says which part of the whole an object is.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// The component of serving pods.
pub const SERVING: &str = "predictor";
/// The label that says which program manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The label that pods of one claim share: others are scheduled beside them by it.
pub const CLAIM_LABEL: &str = "stockpredictor.io/claim";
/// Annotation of a claim that the operator created, and may delete when told to.
pub const CREATED_BY: &str = "stockpredictor.io/created-by";
/// Annotation of the pods with a digest of the settings that they read.
pub const SETTINGS_HASH: &str = "stockpredictor.io/settings-hash";
/// Annotation of a Deployment with the uid of the `StorageRestore` that it is stopped for.
pub const HELD_BY: &str = "stockpredictor.io/held-by";
/// The finalizer of objects whose claim goes with them.
pub const CLAIM_FINALIZER: &str = "stockpredictor.io/claim";

/// The longest value of a label.
const MAX_VALUE: usize = 63;

/// The labels by which a predictor's pods are selected. They can't change later.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    map(&[(NAME_LABEL, PREDICTOR_NAME), (INSTANCE_LABEL, name)])
}

/// The labels of every child.
pub fn child(name: &str) -> BTreeMap<String, String> {
    let mut labels = selector(name);
    labels.extend(map(&[
        (COMPONENT_LABEL, SERVING),
        ("app.kubernetes.io/part-of", PREDICTOR_NAME),
        (MANAGED_BY_LABEL, OPERATOR_NAME),
    ]));
    labels
}

/// The labels of a pod that mounts `claim`.
pub fn pod(name: &str, claim: &str) -> BTreeMap<String, String> {
    let mut labels = child(name);
    labels.insert(CLAIM_LABEL.into(), claim_value(claim));
    labels
}

/// The claim's name as the value of a label: names may be longer than values.
pub fn claim_value(claim: &str) -> String {
    if claim.len() <= MAX_VALUE {
        return claim.to_owned();
    }
    let hash = writer::digest(&serde_json::Value::from(claim));
    let head: String = claim.chars().take(MAX_VALUE - hash.len() - 1).collect();
    format!("{}-{hash}", head.trim_end_matches(['.', '-']))
}

/// A selector as text.
pub fn as_text(labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// What the watches of children ask for.
pub fn watched() -> String {
    as_text(&map(&[
        (NAME_LABEL, PREDICTOR_NAME),
        (MANAGED_BY_LABEL, OPERATOR_NAME),
    ]))
}

/// True when the operator made the object for the predictor `name`.
pub fn ours<K: Resource>(object: &K, name: &str) -> bool {
    let labels = object.labels();
    let is = |key: &str, value: &str| labels.get(key).is_some_and(|have| have == value);
    is(MANAGED_BY_LABEL, OPERATOR_NAME) && is(INSTANCE_LABEL, name)
}

/// True when the operator created the claim, rather than found it.
pub fn created_by_operator<K: Resource>(claim: &K) -> bool {
    claim
        .annotations()
        .get(CREATED_BY)
        .is_some_and(|value| value == OPERATOR_NAME)
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::short("data".into(), "data".into())]
    #[case::longest("a".repeat(63), "a".repeat(63))]
    fn a_claim_whose_name_fits_is_its_own_label(#[case] claim: String, #[case] value: String) {
        assert_eq!(claim_value(&claim), value);
    }

    #[test]
    fn long_claim_names_stay_distinct_and_valid() {
        let (left, right) = (
            claim_value(&format!("{}.x", "a".repeat(80))),
            claim_value(&format!("{}.y", "a".repeat(80))),
        );
        assert_ne!(left, right);
        assert!(left.len() <= MAX_VALUE && left.ends_with(|c: char| c.is_ascii_alphanumeric()));
    }
}
