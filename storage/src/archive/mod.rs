//! The archive: what a backup looks like on a disk, and nothing about when or why one is made.
//!
//! In come and out go bytes of `stock_prediction_backup_YYYYMMDD_HHMMSS.tar.gz` and of the
//! small JSON file beside it. docs/archive-format.md explains the format for people.

pub mod category;
pub mod digest;
pub mod header;
pub(crate) mod listing;
pub mod manifest;
pub mod member;
pub mod meta;
pub mod name;
pub mod path;
pub mod reader;
pub(crate) mod tar_entry;
