//! The program in the cluster: custom resources in, Kubernetes objects out.
//!
//! Each kind has a driver of five steps, one file each: `dereference` (reads), `validate` and `build` (pure), `apply`
//! and `update_status` (write). Everything that writes to the API server goes through [`writer`]. Forbidden here: the
//! volume's content, which is the predictor's, and knowledge of its inner settings beyond the files in `contracts/`.

pub mod cli;
pub mod clock;
pub mod controller;
pub mod drift;
pub mod health;
pub mod http_client;
pub mod job;
pub mod logging;
pub mod metrics;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod mock_cluster;
pub mod probe;
pub mod quantity;
pub mod run;
pub mod server;
pub mod stock_predictor;
pub mod storage_backup;
pub mod storage_restore;
pub mod watch;
pub mod writer;
