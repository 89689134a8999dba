//! How far a long command is, for people who watch it.

/// Told by the engine, shown by a program. Calls come from several threads.
pub trait Progress: Sync {
    /// A new step begins, such as `Backing up ML models and cache`.
    fn step(&self, _name: &str) {}

    /// How much the step will be, as far as it is known.
    fn expect(&self, _files: u64, _bytes: u64) {}

    /// So much more is done.
    fn advance(&self, _files: u64, _bytes: u64) {}
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
