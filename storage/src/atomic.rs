//! Writing files so that a reader sees the old or the new content, never a part.
//!
//! In come a path and bytes; out goes a file of mode 644. [`write_durable`] survives
//! a power cut, [`write_cache`] need not: it is for what can be computed again.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Mode of every file on the volume.
pub const FILE_MODE: u32 = 0o644;
/// Mode of every directory on the volume, and of scripts.
pub const DIRECTORY_MODE: u32 = 0o755;
/// How names of files that are still being written end.
const UNFINISHED: &str = ".partial";
/// How names of directories end that are still being filled; [`is_unfinished`] holds for them, too.
pub const UNFINISHED_DIRECTORY: &str = ".folder.partial";

/// Temp file, fsync, rename, fsync of the directory.
pub fn write_durable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_through(path, bytes, FILE_MODE, true)?;
    sync_directory(path)
}

/// As [`write_durable`], for a script: mode 755 from the beginning.
pub fn write_script(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_through(path, bytes, DIRECTORY_MODE, true)?;
    sync_directory(path)
}

/// Temp file and rename: atomic for readers, but a power cut may lose it.
pub fn write_cache(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_through(path, bytes, FILE_MODE, false)
}

/// Whether `name` is a file that a killed writer left behind.
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

/// Makes a directory of mode 755, whatever the umask is, and its entry durable.
///
/// One that is there already is left as it is.
pub fn create_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => {
            fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))?;
            sync_directory(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn write_through(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let partial = partial_of(path)?;
    let written =
        write_partial(&partial, bytes, mode, durable).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // The first error is what the caller has to know; on a full disk this frees the space again.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write_partial(partial: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(partial)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    Ok(())
}

/// A name that no other writer uses: the host's name tells pods of a shared volume apart.
fn partial_of(path: &Path) -> io::Result<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let host = rustix::system::uname();
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    partial.push(format!(
        ".{}-{}-{}{UNFINISHED}",
        host.nodename().to_string_lossy().replace('/', "-"),
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    Ok(path.with_file_name(partial))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_durable(&path, b"old").unwrap();
        write_cache(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, FILE_MODE);
    }

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write_durable(&path, b"new").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn partial_files_are_recognised_by_their_names() {
        let name = partial_of(Path::new("a/b.json")).unwrap();
        assert!(is_unfinished(&name.file_name().unwrap().to_string_lossy()));
        assert!(!is_unfinished("b.json"));
    }
}
