//! The volume: its layout, its marker and lock, durable writes, price history.
//!
//! In come a root directory and files; out go files of the layout that the guide
//! promises. Kubernetes, HTTP and ONNX are unknown here.

pub mod archive;
pub mod atomic;
pub mod catalog;
pub mod destination;
pub mod history;
pub mod known;
pub mod layout;
pub mod lock;
pub mod marker;
pub mod period;
pub mod permission;
pub mod progress;
pub mod retention;
pub mod select;
pub mod setup;
pub mod snapshot;
pub mod space;
pub mod symbol;
