//! Noting beside an archive how well it was looked at.
//!
//! In comes what a look found, out goes the level into `NAME.meta.json`: the best one stays, unless the archive turned out
//! to be damaged.

use jiff::Timestamp;
use stockpredictor_storage::archive::meta::{MAX_META, Meta, Verification};
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::verify::Report;

/// Notes what was found about an archive, if there is a file beside it.
pub fn note(
    destination: &dyn Destination,
    name: ArchiveName,
    found: &Report,
) -> anyhow::Result<()> {
    let Some(text) = destination.read(&name.meta(), MAX_META)? else {
        return Ok(());
    };
    let Ok(mut meta) = serde_json::from_slice::<Meta>(&text) else {
        return Ok(());
    };
    let best = meta.verification.map(|verification| verification.level);
    let now = Timestamp::now();
    meta.verification = match found.level {
        Some(level) if found.problems.is_empty() && best.is_none_or(|best| level >= best) => {
            Some(Verification { level, at: now })
        }
        Some(_) if found.problems.is_empty() => return Ok(()),
        Some(level) => Some(Verification { level, at: now }),
        None => None,
    };
    destination.replace(&name.meta(), &serde_json::to_vec_pretty(&meta)?)?;
    Ok(())
}
