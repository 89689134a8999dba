//! The volume: its layout, its marker and lock, durable writes, price history.
//!
//! In come a root directory and files; out go files of the layout that the guide
//! promises. Kubernetes, HTTP and ONNX are unknown here.

pub mod archive;
pub mod atomic;
pub mod backup;
pub mod catalog;
pub mod chain;
pub mod cleanup;
pub mod decrypt;
pub mod descriptor;
pub mod destination;
pub mod encrypt;
pub mod extract;
pub mod fill;
pub mod guard;
pub mod health;
pub mod history;
pub mod known;
pub mod layout;
pub mod list_files;
pub mod lock;
pub mod marker;
pub mod monitor;
pub mod period;
pub mod permission;
pub mod pin;
pub mod progress;
pub mod put;
pub mod restore;
pub mod retention;
pub mod script;
pub mod select;
pub mod setup;
pub mod snapshot;
pub mod space;
pub mod symbol;
pub mod text;
pub mod verify;
pub mod walk;
