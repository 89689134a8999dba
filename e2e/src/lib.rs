//! What the tests on a real cluster share: a namespace of their own each,
//! bounded waits, and the few calls that a user would make.
//!
//! The tests see the product from outside: custom resources in, Kubernetes
//! objects and HTTP answers out. They may use `api/`, never the operator's or
//! the predictor's code. They need KUBECONFIG, `kubectl` and `helm` on the
//! PATH, `OPERATOR_IMAGE`, `PREDICTOR_IMAGE`, `TOOLBOX_IMAGE` and `PROMETHEUS_IMAGE`;
//! `make test-e2e` sets all of it.

pub mod chart;
pub mod command;
pub mod disk;
pub mod key;
pub mod objects;
pub mod page;
pub mod prometheus;
pub mod sandbox;
pub mod store;
pub mod toolbox;
pub mod wait;

pub use disk::Disk;
pub use key::Key;
pub use prometheus::Prometheus;
pub use sandbox::{Sandbox, with_namespace};
pub use store::Store;
