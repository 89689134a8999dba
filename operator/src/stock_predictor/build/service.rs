//! The address under which the predictor answers: its name, port 8080.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use super::pod::PORT_NAME;
use crate::stock_predictor::labels;
use crate::stock_predictor::stats::PORT;
use crate::stock_predictor::validate::ValidatedPredictor;

/// The `Service`.
pub fn build_service(predictor: &ValidatedPredictor) -> Service {
    Service {
        metadata: metadata(predictor),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(labels::selector(&predictor.name)),
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.into()),
                port: PORT.into(),
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::String(PORT_NAME.into())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
