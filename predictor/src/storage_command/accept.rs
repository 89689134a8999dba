//! Taking the guard's doubt off a backup: a person says that the loss was intended.
//!
//! In come ids and destinations; the files beside the archives, and the volume's index, say so from then on.

use anyhow::bail;
use stockpredictor_storage::archive::meta::{MAX_META, Meta};
use stockpredictor_storage::atomic;
use stockpredictor_storage::catalog::Catalog;
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::layout::Layout;
use uuid::Uuid;

/// Accepts the backups with these ids wherever they lie; one that lies nowhere is an error.
pub fn accept(
    layout: &Layout,
    destinations: &[Box<dyn Destination>],
    ids: &[Uuid],
) -> anyhow::Result<Vec<Uuid>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for destination in destinations {
        found.extend(accept_at(destination.as_ref(), ids)?);
    }
    accept_in_index(layout, ids)?;
    for id in ids {
        if !found.contains(id) {
            bail!(
                "no destination has a backup with id {id}: `predictor storage list --output json` shows the ids"
            );
        }
    }
    Ok(ids.to_vec())
}

/// Accepts those that lie at one destination, and tells which these are.
pub fn accept_at(destination: &dyn Destination, ids: &[Uuid]) -> anyhow::Result<Vec<Uuid>> {
    let mut found = Vec::new();
    for record in Catalog::read(destination)?.records {
        let Some(meta) = record.meta.filter(|meta| ids.contains(&meta.id)) else {
            continue;
        };
        let id = meta.id;
        if let Some(text) = accepted(meta)? {
            destination.replace(&record.name.meta(), &text)?;
        }
        found.push(id);
    }
    Ok(found)
}

/// Accepts them in what the volume's next backups are compared with.
pub fn accept_in_index(layout: &Layout, ids: &[Uuid]) -> anyhow::Result<()> {
    for id in ids {
        let path = layout.index().join(format!("{id}.json"));
        let indexed = std::fs::read(&path)
            .ok()
            .filter(|text| text.len() <= MAX_META);
        if let Some(meta) = indexed.and_then(|text| serde_json::from_slice::<Meta>(&text).ok())
            && let Some(text) = accepted(meta)?
        {
            atomic::write_durable(&path, &text)?;
        }
    }
    Ok(())
}

/// The file with the doubt taken off; `None` if there is none.
fn accepted(mut meta: Meta) -> anyhow::Result<Option<Vec<u8>>> {
    match &mut meta.suspect {
        Some(suspect) if !suspect.accepted => {
            suspect.accepted = true;
            Ok(Some(serde_json::to_vec_pretty(&meta)?))
        }
        _ => Ok(None),
    }
}
