//! Owners and modes of what was unpacked: 1001:1001 where allowed, readable for its owner, scripts 755.
//!
//! In comes the folder of the new state, out comes the same with rights that the service can work with.
//! Everything else about modes is the backup's.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Uid};
use rustix::io::Errno;

use super::gate::Gate;
use super::tree::{self, Node, Walk};
use crate::archive::path::RelativePath;
use crate::atomic::DIRECTORY_MODE;
use crate::permission::OWNER;

/// Repairs everything below `new`.
pub(super) fn repair(new: OwnedFd, gate: &dyn Gate) -> io::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let mut walk = Walk::new(new, &|_| true)?;
    while let Some((path, node)) = walk.next()? {
        let Some(directory) = walk.directory() else {
            break;
        };
        if is_root && (node.uid != OWNER || node.gid != OWNER) {
            gate.pass("give an entry its owner")?;
            give(directory, path.name(), OWNER, OWNER)?;
        }
        if let Some(mode) = wanted_mode(&path, &node) {
            gate.pass("give an entry its mode")?;
            tree::change_mode(directory, path.name(), mode)?;
        }
    }
    Ok(())
}

/// Changes the owner where the system lets us; an export that squashes root doesn't.
pub(super) fn give(directory: BorrowedFd<'_>, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::chownat(directory, tree::os(name), Some(uid), Some(gid), flags) {
        Err(error) if !matches!(error, Errno::PERM | Errno::INVAL) => Err(error.into()),
        _ => Ok(()),
    }
}

/// The mode that an entry must get; `None` where it is right.
fn wanted_mode(path: &RelativePath, node: &Node) -> Option<u32> {
    let is_script = path.parent().is_none() && path.name().ends_with(b".sh");
    let wanted = match node.kind {
        FileType::Directory => node.mode | 0o700,
        FileType::RegularFile if is_script => DIRECTORY_MODE,
        // What others may run its owner may run too.
        FileType::RegularFile if node.mode & 0o111 != 0 => node.mode | 0o700,
        FileType::RegularFile => node.mode | 0o600,
        _ => return None,
    } & !0o6000;
    // On a directory the group's bit is kubelet's, for an fsGroup.
    let wanted = match node.kind {
        FileType::Directory => wanted | (node.mode & 0o2000),
        _ => wanted,
    };
    (wanted != node.mode).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::manifest::Time;

    #[test]
    fn owners_get_their_rights_and_nothing_else_changes() {
        use FileType::{Directory, RegularFile, Symlink};
        let table = [
            ("a", Directory, 0o755, None),
            ("a", Directory, 0o2775, None),
            ("a", Directory, 0o055, Some(0o755)),
            ("a/b", RegularFile, 0o644, None),
            ("a/b", RegularFile, 0o004, Some(0o604)),
            ("a/b", RegularFile, 0o011, Some(0o711)),
            ("a/b", RegularFile, 0o4755, Some(0o755)),
            ("a/b.sh", RegularFile, 0o644, None),
            ("b.sh", RegularFile, 0o644, Some(0o755)),
            ("b.sh", RegularFile, 0o755, None),
            ("b.sh", Symlink, 0o777, None),
        ];
        for (path, kind, mode, expected) in table {
            let node = Node {
                kind,
                size: 0,
                mtime: Time::default(),
                mode,
                uid: 0,
                gid: 0,
                device: 0,
                inode: 0,
            };
            let path = RelativePath::new(path).unwrap();
            assert_eq!(wanted_mode(&path, &node), expected, "{path} {mode:o}");
        }
    }
}
