//! Whether a restore can succeed: asked before anything is written.
//!
//! In come a plan and a volume, out comes nothing or the reason against it.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Access, AtFlags};
use rustix::io::Errno;

use super::error::{RestoreError, shown, used};
use super::journal::Item;
use super::plan::Plan;
use super::tree;
use crate::descriptor;
use crate::layout::Layout;
use crate::space::{self, Space};

/// Checks space, inodes, permissions and mounts.
pub fn preflight(layout: &Layout, plan: &Plan) -> Result<(), RestoreError> {
    let root = descriptor::open_root(layout.root()).map_err(used(layout.root()))?;
    check_items(layout, root.as_fd(), &plan.items)?;
    if let Some(locked) = plan.locked.first() {
        return Err(denied(layout, &layout.root().join(locked.as_path())));
    }
    let space = space::measure(layout.root()).map_err(used(layout.root()))?;
    check_space(&shown(layout.root()), plan, &space)
}

/// Compares what is needed with what is there.
pub fn check_space(path: &str, plan: &Plan, space: &Space) -> Result<(), RestoreError> {
    if space.free < plan.needed_bytes {
        return Err(RestoreError::Space {
            path: path.to_owned(),
            free: space.free,
            needed: plan.needed_bytes,
        });
    }
    // Where the file system counts no inodes, they can't run out.
    if space.inodes > 0 && space.inodes_free < plan.needed_inodes {
        return Err(RestoreError::Inodes {
            path: path.to_owned(),
            free: space.inodes_free,
            needed: plan.needed_inodes,
        });
    }
    Ok(())
}

/// Checks that everything that is replaced can be renamed.
pub(super) fn check_items(
    layout: &Layout,
    root: BorrowedFd<'_>,
    items: &[Item],
) -> Result<(), RestoreError> {
    let failed = || used(layout.root());
    // Renaming needs both the directory that holds the name and, for directories, the directory itself.
    check_access(layout, root, b".")?;
    let own = tree::look_at(root).map_err(failed())?.device;
    for item in items {
        let name = item.name.as_bytes();
        let Some(node) = tree::look(root, name).map_err(failed())? else {
            continue;
        };
        let is_mount = is_mount(own, node.device)
            || (node.is_directory()
                && matches!(tree::open_child(root, name), Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices));
        if is_mount {
            return Err(RestoreError::Mount {
                path: shown(&layout.root().join(item.name.as_path())),
            });
        }
        if node.is_directory() {
            check_access(layout, root, name)?;
        }
    }
    Ok(())
}

/// Whether something on `device` is mounted on a file system on `root`.
const fn is_mount(root: u64, device: u64) -> bool {
    root != device
}

fn check_access(layout: &Layout, root: BorrowedFd<'_>, name: &[u8]) -> Result<(), RestoreError> {
    let path = || layout.root().join(tree::os(name));
    let rights = Access::WRITE_OK | Access::EXEC_OK;
    match rustix::fs::accessat(root, tree::os(name), rights, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Err(denied(layout, &path())),
        Err(error) => Err(used(path())(error.into())),
    }
}

fn denied(layout: &Layout, path: &Path) -> RestoreError {
    RestoreError::Denied {
        path: shown(path),
        root: shown(layout.root()),
        uid: rustix::process::geteuid().as_raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_device_is_a_mount() {
        assert!(is_mount(1, 2) && !is_mount(7, 7));
    }

    #[test]
    fn too_little_space_and_too_few_inodes_are_told() {
        let plan = Plan {
            needed_bytes: 100,
            needed_inodes: 10,
            ..Plan::default()
        };
        let space = |free, inodes, inodes_free| Space {
            free,
            inodes,
            inodes_free,
            ..Space::default()
        };
        assert!(check_space("v", &plan, &space(100, 20, 10)).is_ok());
        assert!(check_space("v", &plan, &space(100, 0, 0)).is_ok());
        let error = check_space("v", &plan, &space(99, 20, 10)).unwrap_err();
        assert!(
            matches!(error, RestoreError::Space { free: 99, .. }),
            "{error}"
        );
        let error = check_space("v", &plan, &space(100, 20, 9)).unwrap_err();
        assert!(
            matches!(error, RestoreError::Inodes { free: 9, .. }),
            "{error}"
        );
    }
}
