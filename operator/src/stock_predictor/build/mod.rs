//! Step 3, pure: from a validated predictor to the objects that it should have.
//!
//! In: a [`ValidatedPredictor`] and the plan for its claim. Out: [`Resources<Prepared>`]. One file a kind. Forbidden here:
//! clients, clocks, and the raw object.

mod budget;
mod claim;
mod config_map;
mod deployment;
mod network_policy;
mod pod;
mod service;
mod service_account;

use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use stockpredictor_api::StockPredictor;

pub use pod::{PREDICTOR, PROGRAM, SETUP, container_security, pod_security};

use super::bootstrap::Fill;
use super::claim::ClaimPlan;
use super::labels;
use super::validate::ValidatedPredictor;

/// Marks resources that were built and not yet applied.
#[derive(Debug)]
pub struct Prepared;
/// Marks resources that the API server has.
#[derive(Debug)]
pub struct Applied;

/// Everything that belongs to a predictor. Whoever takes it apart names every field, so that a forgotten child does
/// not compile.
#[derive(Clone, Debug)]
pub struct Resources<Stage> {
    /// The identity of the pods; no token is mounted.
    pub service_account: ServiceAccount,
    /// The settings file.
    pub config_map: ConfigMap,
    /// The claim; nothing when it isn't ours to write.
    pub claim: Option<PersistentVolumeClaim>,
    /// The pods; nothing when there is no claim that they may use, and none are to be stopped.
    pub deployment: Option<Deployment>,
    /// The address.
    pub service: Service,
    /// Who may come in.
    pub network_policy: NetworkPolicy,
    /// How many pods may be away at once; only above one replica.
    pub budget: Option<PodDisruptionBudget>,
    /// How far they got.
    pub stage: PhantomData<Stage>,
}

/// What went wrong in a builder.
#[derive(Debug, thiserror::Error)]
#[error("can't write the settings as JSON: {0}")]
pub struct Error(#[from] serde_json::Error);

/// What the builders have to know of the live objects.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// The live claim.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// Whether the Deployment exists and the object owns it.
    pub deployment: bool,
    /// How far the filling of a new volume is.
    pub fill: &'a Fill,
}

/// Builds everything.
///
/// # Errors
/// When the settings don't become JSON, which a test rules out.
pub fn build(
    predictor: &ValidatedPredictor,
    plan: &ClaimPlan,
    present: Present<'_>,
) -> Result<Resources<Prepared>, Error> {
    let config_map = config_map::build_config_map(predictor)?;
    let deployment =
        deployment::build_deployment(predictor, config_map::settings_hash(&config_map));
    Ok(Resources {
        service_account: service_account::build_service_account(predictor),
        // What still runs on the name of the claim is stopped before there is one: it would take it for an empty volume.
        claim: (*present.fill != Fill::StopFirst)
            .then(|| claim::build_claim(predictor, plan, present.claim, present.fill))
            .flatten(),
        // A claim that became unusable doesn't take running pods away, but neither does it get others: what runs is left
        // as it is, or stopped.
        deployment: ((plan.usable() && present.fill.lets_start())
            || (predictor.stopped.is_some() && present.deployment))
            .then_some(deployment),
        service: service::build_service(predictor),
        network_policy: network_policy::build_network_policy(predictor),
        budget: budget::build_budget(predictor),
        config_map,
        stage: PhantomData,
    })
}

/// The metadata of every child but the claim: name, labels and owner.
fn metadata(predictor: &ValidatedPredictor) -> ObjectMeta {
    ObjectMeta {
        name: Some(predictor.name.clone()),
        namespace: Some(predictor.namespace.clone()),
        labels: Some(labels::child(&predictor.name)),
        owner_references: Some(vec![OwnerReference {
            api_version: StockPredictor::api_version(&()).into_owned(),
            kind: StockPredictor::kind(&()).into_owned(),
            name: predictor.name.clone(),
            uid: predictor.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock_predictor::claim::tests::claim;
    use crate::stock_predictor::fixture::validated;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn built(changes: &Value, plan: &ClaimPlan) -> Resources<Prepared> {
        build(
            &validated(changes),
            plan,
            Present {
                claim: None,
                deployment: false,
                fill: &Fill::Unneeded,
            },
        )
        .unwrap()
    }

    fn documents(resources: Resources<Prepared>) -> String {
        let Resources {
            service_account,
            config_map,
            claim,
            deployment,
            service,
            network_policy,
            budget,
            stage: _,
        } = resources;
        let documents = [
            serde_yaml::to_string(&service_account),
            serde_yaml::to_string(&config_map),
            serde_yaml::to_string(&claim),
            serde_yaml::to_string(&deployment),
            serde_yaml::to_string(&service),
            serde_yaml::to_string(&network_policy),
            serde_yaml::to_string(&budget),
        ];
        documents.map(Result::unwrap).join("---\n")
    }

    #[test]
    fn a_small_object_becomes_these_children() {
        insta::assert_snapshot!("small", documents(built(&json!({}), &ClaimPlan::Create)));
    }

    #[test]
    fn an_object_that_says_everything_becomes_these_children() {
        let changes = json!({
            "replicas": 3,
            "image": "mine:2", "imagePullPolicy": "Always", "imagePullSecrets": [{"name": "registry"}],
            "storage": {"size": "20Gi", "storageClassName": "shared", "accessMode": "ReadWriteMany"},
            "model": {"name": "my_model", "version": "7"},
            "cache": {"predictionTtl": "2h"}, "retention": {"logs": "7d"},
            "samples": true,
            "env": [{"name": "ML_PREDICTION_TTL", "value": "3h"}],
            "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "podAnnotations": {"team": "quant"}, "podLabels": {"tier": "ml"},
            "allowFrom": ["web"],
        });
        insta::assert_snapshot!("full", documents(built(&changes, &ClaimPlan::Create)));
    }

    #[rstest]
    #[case::create(ClaimPlan::Create, json!({}), false, Some(1))]
    #[case::users(ClaimPlan::Use, json!({}), false, Some(1))]
    #[case::missing(ClaimPlan::Missing, json!({}), false, None)]
    #[case::not_ours(ClaimPlan::NotOurs, json!({}), false, None)]
    #[case::missing_but_running(ClaimPlan::Missing, json!({}), true, None)]
    #[case::not_ours_but_running(ClaimPlan::NotOurs, json!({}), true, None)]
    #[case::another_mode_but_running(ClaimPlan::WrongAccessMode { has: "ReadOnlyMany".into() }, json!({}), true, None)]
    #[case::running_and_to_be_stopped(ClaimPlan::NotOurs, json!({"suspend": true}), true, Some(0))]
    #[case::stopped_and_never_begun(ClaimPlan::NotOurs, json!({"suspend": true}), false, None)]
    fn pods_are_only_started_on_a_usable_claim(
        #[case] plan: ClaimPlan,
        #[case] changes: Value,
        #[case] running: bool,
        #[case] replicas: Option<i32>,
    ) {
        let resources = build(
            &validated(&changes),
            &plan,
            Present {
                claim: None,
                deployment: running,
                fill: &Fill::Unneeded,
            },
        )
        .unwrap();
        let built = resources
            .deployment
            .map(|deployment| deployment.spec.unwrap().replicas);
        assert_eq!(built, replicas.map(Some));
    }

    #[test]
    fn a_claim_never_has_an_owner_and_everything_else_does() {
        let resources = built(
            &json!({"replicas": 2, "storage": {"accessMode": "ReadWriteMany"}}),
            &ClaimPlan::Create,
        );
        assert_eq!(resources.claim.unwrap().metadata.owner_references, None);
        assert!(
            resources
                .deployment
                .unwrap()
                .metadata
                .owner_references
                .is_some()
        );
        assert!(
            resources
                .budget
                .unwrap()
                .metadata
                .owner_references
                .is_some()
        );
    }

    #[rstest]
    #[case::same(json!({}), true)]
    #[case::deletion_policy(json!({"storage": {"deletionPolicy": "Delete"}}), true)]
    #[case::allow_from(json!({"allowFrom": ["web"]}), true)]
    #[case::more_room(json!({"storage": {"size": "20Gi"}}), true)]
    #[case::symbols(json!({"symbols": ["NVDA"]}), false)]
    #[case::cache(json!({"cache": {"dailyTtl": "1h"}}), false)]
    #[case::samples(json!({"samples": true}), false)]
    #[case::env(json!({"env": [{"name": "A", "value": "b"}]}), false)]
    #[case::image(json!({"image": "mine:2"}), false)]
    fn pods_roll_only_when_a_change_concerns_them(#[case] changes: Value, #[case] same: bool) {
        let template = |changes: &Value| {
            built(changes, &ClaimPlan::Create)
                .deployment
                .unwrap()
                .spec
                .unwrap()
                .template
        };
        assert_eq!(template(&json!({})) == template(&changes), same);
    }

    #[rstest]
    #[case("ReadWriteOnce", "Recreate")]
    #[case("ReadWriteOncePod", "Recreate")]
    #[case("ReadWriteMany", "RollingUpdate")]
    fn the_access_mode_decides_the_rollout(#[case] mode: &str, #[case] strategy: &str) {
        let deployment = built(
            &json!({"storage": {"accessMode": mode}}),
            &ClaimPlan::Create,
        )
        .deployment
        .unwrap();
        assert_eq!(
            deployment.spec.unwrap().strategy.unwrap().type_.as_deref(),
            Some(strategy)
        );
    }

    #[test]
    fn an_adopted_claim_keeps_class_and_provenance() {
        let live =
            claim(&json!({"metadata": {"annotations": null}, "spec": {"storageClassName": "old"}}));
        let predictor = validated(&json!({"storage": {"storageClassName": "new"}}));
        let plan = ClaimPlan::Keep {
            size: "10Gi".into(),
        };
        let desired = build(
            &predictor,
            &plan,
            Present {
                claim: Some(&live),
                deployment: false,
                fill: &Fill::Unneeded,
            },
        )
        .unwrap()
        .claim
        .unwrap();
        assert_eq!(
            desired.spec.unwrap().storage_class_name.as_deref(),
            Some("old")
        );
        assert_eq!(
            desired.metadata.annotations, None,
            "a found claim must not become a created one"
        );
    }

    #[test]
    fn the_pods_run_the_commands_of_the_contract() {
        let contract: Value =
            serde_json::from_str(include_str!("../../../../contracts/commands.json")).unwrap();
        let deployment = built(&json!({}), &ClaimPlan::Create).deployment.unwrap();
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        let command = |container: &k8s_openapi::api::core::v1::Container| {
            let mut words = container.command.clone().unwrap();
            words[0] = words[0].rsplit('/').next().unwrap().to_owned();
            json!(words)
        };
        assert_eq!(command(&pod.init_containers.unwrap()[0]), contract["setup"]);
        assert_eq!(command(&pod.containers[0]), contract["serve"]);
    }
}
