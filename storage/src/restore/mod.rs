//! Restoring in place: the old state or the new one, never a mixture, whenever the process is killed.
//!
//! In come a [`Snapshot`](crate::snapshot::Snapshot) and a volume. The steps: compare ([`compare`]) and check
//! ([`preflight`]), unpack beside the old state ([`prepare`]), rename name by name under a durable journal
//! ([`switch`]), then drop the old state ([`commit`]) or bring it back ([`undo`]); [`run`] does all of them.
//! Every command begins with [`settle`] or [`enter`], which finish or undo what was cut off.

mod baseline;
mod carry;
mod check;
mod directory;
mod error;
mod gate;
mod journal;
mod lines;
mod merge;
mod owner;
mod plan;
mod preflight;
mod removal;
mod settle;
mod steps;
mod switch;
mod tree;
mod volume;

pub use check::{Checker, NoCheck};
pub use directory::{plan_directory, to_directory, to_directory_gated};
pub use error::{JournalError, Leftover, RestoreError};
pub use gate::{Gate, Open};
pub use journal::{Item, Journal, State};
pub use plan::{Changes, MERGED, Plan, compare};
pub use preflight::{check_space, preflight};
pub use settle::{Access, AllowSwitched, Ending, Settled, enter, settle, settle_volume};
pub use steps::{Ended, Outcome, Report, Request, commit, prepare, run, switch, undo};
pub use volume::{PATIENCE, Volume};
