//! Tests of whole backups.
