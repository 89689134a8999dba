//! How full the volume is, and whether it can be written to.
//!
//! In comes a path on the volume, out come numbers of its file system.

use std::fs;
use std::io;
use std::path::Path;

use crate::atomic;
use crate::layout::Layout;

/// The volume's size and use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Size in bytes.
    pub capacity: u64,
    /// Bytes that are in use.
    pub used: u64,
    /// Bytes that an ordinary user can still write.
    pub free: u64,
    /// Inodes there are; 0 where the file system doesn't count them.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
}

/// Asks the file system that holds `path`.
pub fn measure(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space {
        capacity: bytes(found.f_blocks),
        used: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
        free: bytes(found.f_bavail),
        inodes: found.f_files,
        inodes_free: found.f_favail,
    })
}

/// Writes a small file and removes it again.
pub fn probe(layout: &Layout) -> io::Result<()> {
    probe_folder(&layout.state())
}

/// As [`probe`], in any folder.
pub fn probe_folder(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!("probe-{}", uuid::Uuid::new_v4()));
    let written = atomic::write_cache(&path, &[b'x'; 4096]);
    let removed = fs::remove_file(&path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_and_free_fit_into_the_capacity() {
        let space = measure(Path::new("/")).unwrap();
        assert!(space.capacity > 0 && space.used + space.free <= space.capacity);
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert!(probe(&layout).is_err(), "there is no state directory yet");
        fs::create_dir(layout.state()).unwrap();
        probe(&layout).unwrap();
        assert_eq!(fs::read_dir(layout.state()).unwrap().count(), 0);
    }
}
