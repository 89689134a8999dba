//! What can be seen of a file without reading it: enough to notice that it changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Size, times and inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
}

impl Seen {
    /// Looks at a file; `None` where there is none, or none that may be seen.
    pub fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self {
            size: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
            inode: data.ino(),
        })
    }
}
