//! Who may reach the predictor: its own namespace, the operator, and the namespaces that chart or object name.
//!
//! Only serving pods are selected, and only ingress: what a pod may reach stays open.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use stockpredictor_api::well_known::{NAME_LABEL, OPERATOR_NAME};

use super::metadata;
use crate::stock_predictor::labels;
use crate::stock_predictor::stats::PORT;
use crate::stock_predictor::validate::ValidatedPredictor;

/// The label that Kubernetes puts on every namespace.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The `NetworkPolicy`.
pub fn build_network_policy(predictor: &ValidatedPredictor) -> NetworkPolicy {
    let own = NetworkPolicyPeer {
        pod_selector: Some(LabelSelector::default()),
        ..NetworkPolicyPeer::default()
    };
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(label(NAMESPACE_NAME, &predictor.operator_namespace)),
        pod_selector: Some(label(NAME_LABEL, OPERATOR_NAME)),
        ..NetworkPolicyPeer::default()
    };
    let others = predictor
        .allow_from
        .iter()
        .map(|namespace| NetworkPolicyPeer {
            namespace_selector: Some(label(NAMESPACE_NAME, namespace)),
            ..NetworkPolicyPeer::default()
        });
    let mut serving = labels::selector(&predictor.name);
    serving.insert(labels::COMPONENT_LABEL.into(), labels::SERVING.into());
    NetworkPolicy {
        metadata: metadata(predictor),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(serving),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some([own, operator].into_iter().chain(others).collect()),
                ports: Some(vec![NetworkPolicyPort {
                    port: Some(IntOrString::Int(PORT.into())),
                    protocol: Some("TCP".into()),
                    end_port: None,
                }]),
            }]),
            egress: None,
        }),
    }
}

fn label(key: &str, value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    }
}
