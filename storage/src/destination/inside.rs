//! Folders that lie on the volume which is backed up.
//!
//! In come the volume and a path, out comes where on the volume that is, whatever links or mounts lead there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::layout::Layout;

/// Why archives can't go to a place on the volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{place} lies on the volume {root} itself, outside its backups/, so each backup would hold those before it: name {root}/backups or a folder elsewhere"
)]
pub struct InsideError {
    /// The folder.
    pub place: String,
    /// The volume.
    pub root: String,
}

/// Refuses a folder on the volume outside `backups/`, where the next backup would find the last one.
///
/// # Errors
/// If it lies there. A path that can't be looked at is left to whoever uses it.
pub fn refuse(layout: &Layout, place: &Path) -> Result<(), InsideError> {
    match below(layout.root(), place) {
        Ok(Some(inside)) if !inside.starts_with("backups") => Err(InsideError {
            place: place.display().to_string(),
            root: layout.root().display().to_string(),
        }),
        _ => Ok(()),
    }
}

/// A path without links and `..`. The last component need not be there.
///
/// # Errors
/// If what is above it is missing or can't be looked at.
pub fn resolved(place: &Path) -> io::Result<PathBuf> {
    match place.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = place.parent().filter(|path| !path.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new(".")).canonicalize()?;
            Ok(parent.join(place.file_name().unwrap_or_default()))
        }
        found => found,
    }
}

/// The path below `root`; `None` if it lies elsewhere. The last component need not be there.
fn below(root: &Path, place: &Path) -> io::Result<Option<PathBuf>> {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let root = identity(root)?;
    let whole = resolved(place)?;
    for upper in whole.ancestors() {
        if identity(upper).is_ok_and(|found| found == root) {
            return Ok(whole.strip_prefix(upper).ok().map(Path::to_owned));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn places_on_the_volume_are_refused_by_whatever_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("volume");
        for made in [
            "volume/backups/own",
            "volume/archive",
            "elsewhere",
            "volume2",
        ] {
            fs::create_dir_all(folder.path().join(made)).unwrap();
        }
        symlink(root.join("archive"), folder.path().join("link")).unwrap();
        symlink(&root, folder.path().join("volume3")).unwrap();
        let layout = Layout::new(&root);
        for (place, is_fine) in [
            ("volume/backups", true),
            ("volume/backups/own", true),
            ("volume/backups/new", true),
            ("elsewhere", true),
            ("elsewhere/new", true),
            ("volume2", true),
            ("nothing/at/all", true),
            ("volume", false),
            ("volume/archive", false),
            ("volume/new", false),
            ("volume/backups/../archive", false),
            ("volume3/archive", false),
            ("link", false),
            ("link/new", false),
        ] {
            let found = refuse(&layout, &folder.path().join(place));
            assert_eq!(found.is_ok(), is_fine, "{place}: {found:?}");
        }
    }
}
