//! What every command does first: a restore that was cut off is finished or undone, and people are told.

use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::restore::{self, Access, AllowSwitched, Ending, JournalError};

/// Looks for a restore that was cut off. A volume that isn't there, or has no marker, has none.
pub fn first(layout: &Layout, allow: AllowSwitched) -> anyhow::Result<()> {
    first_within(layout, Access::Write, allow)
}

/// As [`first`], for a command that writes at most as `most` says.
pub fn first_within(layout: &Layout, most: Access, allow: AllowSwitched) -> anyhow::Result<()> {
    Ok(settled(layout, most, allow)?)
}

/// As [`first_within`], with the error that says what is in the way.
pub fn settled(layout: &Layout, most: Access, allow: AllowSwitched) -> Result<(), JournalError> {
    if !layout.state().is_dir() {
        return Ok(());
    }
    let access = match Access::of(layout) {
        Access::Write => most,
        Access::ReadOnly => Access::ReadOnly,
    };
    let settled = restore::settle(layout, access, allow)?;
    if let Some((id, ending)) = settled.ended {
        let how = match ending {
            Ending::Finished => "finished: the backup's state is in place",
            Ending::Undone => "undone: the volume is as it was before",
        };
        eprintln!("Restore {id} had been cut off and was {how}.");
    }
    for leftover in &settled.leftovers {
        eprintln!("notice: {leftover}");
    }
    Ok(())
}
