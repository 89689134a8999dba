//! The time, as one function, so that tests can say what time it is.
//!
//! In: nothing. Out: the wall clock in the form that Kubernetes objects use. Only this module asks the system for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// Now, in whole seconds: a finer time would not survive a round trip through the API server.
pub fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
