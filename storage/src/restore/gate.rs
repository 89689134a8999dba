//! A gate before every step that changes the volume: where tests stop a restore.
//!
//! In comes the name of a step; out comes whether it may be done. A test that refuses makes the step fail; one
//! that panics leaves everything as a killed process would.

use std::io;

/// Asked before each change of the volume.
pub trait Gate: Sync {
    /// Lets a step happen, or makes it fail.
    fn pass(&self, _step: &'static str) -> io::Result<()> {
        Ok(())
    }
}

/// Every step may be done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Gate for Open {}
