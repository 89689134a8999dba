//! What every command does first: a restore that was cut off is finished or undone, and people are told.

use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::restore::{self, Access, AllowSwitched, Ending, JournalError};

/// Looks for a restore that was cut off. A volume that isn't there, or has no marker, has none.
pub fn first(layout: &Layout, allow: AllowSwitched) -> anyhow::Result<()> {
    Ok(settled(layout, allow)?)
}

/// As [`first`], with the error that says what is in the way.
pub fn settled(layout: &Layout, allow: AllowSwitched) -> Result<(), JournalError> {
    if !layout.state().is_dir() {
        return Ok(());
    }
    let may_write = rustix::fs::access(layout.root(), rustix::fs::Access::WRITE_OK).is_ok();
    let access = if may_write {
        Access::Write
    } else {
        Access::ReadOnly
    };
    if let Some((id, ending)) = restore::settle(layout, access, allow)?.ended {
        let how = match ending {
            Ending::Finished => "finished: the backup's state is in place",
            Ending::Undone => "undone: the volume is as it was before",
        };
        eprintln!("Restore {id} had been cut off and was {how}.");
    }
    Ok(())
}
