//! Names on which the operator, the chart and the tests agree.
//!
//! In: nothing. Out: constants. A name that only one program uses stays in that program.

/// The API group of every custom resource.
pub const GROUP: &str = "stockpredictor.io";

/// The version in which they are served and stored.
pub const VERSION: &str = "v1alpha1";

/// The label that says which program a pod runs, on the operator's pod and on everything that the operator makes.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";

/// The value of [`NAME_LABEL`] on the operator's own pod. The chart sets it, the predictors' `NetworkPolicy` admits it.
pub const OPERATOR_NAME: &str = "stockpredictor-operator";

/// Prefixes of label and annotation keys that users may not set on pods, because selectors and the operator's own
/// bookkeeping rely on them.
pub const RESERVED_PREFIXES: [&str; 2] = ["app.kubernetes.io/", "stockpredictor.io/"];

/// Environment variables that the operator sets in every predictor container, and that `spec.env` may not name.
pub const RESERVED_ENV: [&str; 2] = ["POD_NAME", "POD_NAMESPACE"];
