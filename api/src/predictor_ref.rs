//! The predictor that another object is about.
//!
//! In: nothing. Out: a type. References never leave the namespace.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::rule;

/// A predictor of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PredictorRef {
    /// Name of the `StockPredictor`.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rule::matches(rule::NAME, "use the name of a StockPredictor as `kubectl get sp` prints it"))]
    pub name: String,
}
