//! The pods' identity. It needs no access to the API server, so no token is mounted.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::stock_predictor::validate::ValidatedPredictor;

/// The `ServiceAccount`.
pub fn build_service_account(predictor: &ValidatedPredictor) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(predictor),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
