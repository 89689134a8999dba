//! Which archives this volume's own runs wrote: `backups/.index/known.jsonl`.
//!
//! In come lines `{id, name, sha256}`, one by one and durable; out comes whether an archive at a destination is one of
//! them. Anyone who can write to a store can put a well-formed archive there; what is in this file was never read from
//! a destination.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::archive::digest::Digest;
use crate::archive::meta::Meta;
use crate::archive::name::ArchiveName;
use crate::atomic::{self, FILE_MODE};
use crate::catalog::Record;

/// Longest file that is read, in bytes: some 80,000 archives.
const MAX_BYTES: u64 = 16 << 20;

/// One archive that a run on this volume wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The backup's id.
    pub id: Uuid,
    /// The archive's name.
    pub name: ArchiveName,
    /// SHA-256 of the whole archive, as the run that wrote it computed it.
    pub sha256: Digest,
}

/// What is known about an archive that lies at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attestation {
    /// A run on this volume wrote it, with this SHA-256; the archive's bytes must have it.
    Known(Digest),
    /// Nobody here has seen it.
    Unattested,
    /// A run on this volume wrote an archive of this name or id, and this isn't it.
    Mismatch {
        /// What was written.
        expected: Digest,
    },
}

/// The archives that are known, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    lines: Vec<Line>,
}

/// The file can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}: {source}: it tells which backups are this volume's own; free space or repair the permissions (644, user 1001)"
)]
pub struct KnownError {
    /// The file.
    pub path: String,
    /// What the system said.
    pub source: io::Error,
}

impl Known {
    /// Reads the file; none is the same as an empty one. Lines that a crash or a disk damaged are skipped: their
    /// archives count as unattested.
    pub fn read(path: &Path) -> Result<Self, KnownError> {
        let bytes = read(path).map_err(|source| failed(path, source))?;
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        Ok(Self { lines })
    }

    /// The lines, in the order in which they were written.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Compares what the file beside an archive says with what was written here.
    pub fn attest(&self, meta: &Meta) -> Attestation {
        self.attest_line(&Line {
            id: meta.id,
            name: meta.name,
            sha256: meta.sha256,
        })
    }

    /// As [`attest`](Self::attest), of an archive as a catalog has it. Where the file beside it is missing or doesn't
    /// fit, its name decides: who can remove or damage that file must not get an archive in that was put there instead.
    pub fn attest_record(&self, record: &Record) -> Attestation {
        match &record.meta {
            Some(meta) => self.attest(meta),
            None => self
                .sha256_of(record.name)
                .map_or(Attestation::Unattested, Attestation::Known),
        }
    }

    /// Compares an archive with what was written here. One that took the name or the id of another is told.
    pub fn attest_line(&self, found: &Line) -> Attestation {
        // The last word counts: a name is used again only after its archive was deleted.
        let known = self
            .lines
            .iter()
            .rev()
            .find(|line| line.name == found.name || line.id == found.id);
        match known {
            Some(line) if line == found => Attestation::Known(line.sha256),
            Some(line) => Attestation::Mismatch {
                expected: line.sha256,
            },
            None => Attestation::Unattested,
        }
    }

    /// The SHA-256 that was written under a name.
    pub fn sha256_of(&self, name: ArchiveName) -> Option<Digest> {
        self.lines
            .iter()
            .rev()
            .find(|line| line.name == name)
            .map(|line| line.sha256)
    }
}

/// Adds a line durably. The folder must be there; writers keep apart by the index's lock.
pub fn append(path: &Path, line: &Line) -> Result<(), KnownError> {
    let append = || -> io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(FILE_MODE)
            .custom_flags(no_follow())
            .open(path)?;
        let length = file.metadata()?.len();
        let mut bytes = Vec::with_capacity(256);
        if length > 0 && !ends_with_newline(&file, length)? {
            // The rest of a line that a crash cut off must not swallow this one.
            bytes.push(b'\n');
        }
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
        (&file).write_all(&bytes)?;
        file.sync_all()?;
        if length == 0 {
            file.set_permissions(std::fs::Permissions::from_mode(FILE_MODE))?;
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
        }
        Ok(())
    };
    append().map_err(|source| failed(path, source))
}

/// Keeps only the lines that `keep` wants, durably and in one step; tells how many went.
pub fn prune(path: &Path, keep: impl Fn(&Line) -> bool) -> Result<usize, KnownError> {
    let known = Known::read(path)?;
    let mut bytes = Vec::new();
    let mut kept = 0;
    for line in known.lines.iter().filter(|line| keep(line)) {
        serde_json::to_writer(&mut bytes, line).map_err(|error| failed(path, error.into()))?;
        bytes.push(b'\n');
        kept += 1;
    }
    let gone = known.lines.len() - kept;
    if gone > 0 {
        atomic::write_durable(path, &bytes).map_err(|source| failed(path, source))?;
    }
    Ok(gone)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(no_follow())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {MAX_BYTES} bytes"),
        ));
    }
    Ok(bytes)
}

fn ends_with_newline(file: &File, length: u64) -> io::Result<bool> {
    let mut last = [0];
    file.read_exact_at(&mut last, length - 1)?;
    Ok(last == *b"\n")
}

/// Flags that never follow a link and never wait for a FIFO's other end.
fn no_follow() -> i32 {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    i32::try_from(flags.bits()).unwrap_or(0)
}

fn failed(path: &Path, source: io::Error) -> KnownError {
    KnownError {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;

    use super::*;

    fn line(second: i64) -> Line {
        Line {
            id: Uuid::from_u128(u128::try_from(second).unwrap()),
            name: ArchiveName::at(Timestamp::from_second(second).unwrap(), false),
            sha256: Digest::of(&second.to_le_bytes()),
        }
    }

    #[test]
    fn lines_are_added_read_and_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known.jsonl");
        assert_eq!(Known::read(&path).unwrap(), Known::default());
        for second in 1..=3 {
            append(&path, &line(second)).unwrap();
        }
        assert_eq!(
            Known::read(&path).unwrap().lines(),
            [line(1), line(2), line(3)]
        );
        assert_eq!(prune(&path, |known| known.id != line(2).id).unwrap(), 1);
        assert_eq!(prune(&path, |_| true).unwrap(), 0);
        assert_eq!(Known::read(&path).unwrap().lines(), [line(1), line(3)]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, FILE_MODE);
    }

    #[test]
    fn a_line_cut_at_any_byte_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known.jsonl");
        append(&path, &line(1)).unwrap();
        let first = fs::read(&path).unwrap().len();
        append(&path, &line(2)).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in first..whole.len() - 1 {
            fs::write(&path, &whole[..cut]).unwrap();
            append(&path, &line(3)).unwrap();
            let known = Known::read(&path).unwrap();
            assert_eq!(known.lines().first(), Some(&line(1)), "cut at {cut}");
            assert_eq!(known.lines().last(), Some(&line(3)), "cut at {cut}");
        }
    }

    #[test]
    fn an_archive_is_known_by_name_id_and_sha256_together() {
        let known = Known {
            lines: vec![line(1), line(2)],
        };
        assert_eq!(
            known.attest_line(&line(1)),
            Attestation::Known(line(1).sha256)
        );
        assert_eq!(known.attest_line(&line(9)), Attestation::Unattested);
        let forged = [
            Line {
                sha256: line(9).sha256,
                ..line(1)
            },
            // An old archive under a new name.
            Line {
                name: line(9).name,
                ..line(1)
            },
            Line {
                id: line(9).id,
                ..line(1)
            },
        ];
        for found in forged {
            assert_eq!(
                known.attest_line(&found),
                Attestation::Mismatch {
                    expected: line(1).sha256
                }
            );
        }
        assert_eq!(known.sha256_of(line(2).name), Some(line(2).sha256));
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::write(&outside, "").unwrap();
        let path = folder.path().join("known.jsonl");
        std::os::unix::fs::symlink(&outside, &path).unwrap();
        assert!(Known::read(&path).is_err());
        assert!(append(&path, &line(1)).is_err());
        assert_eq!(fs::read(&outside).unwrap(), b"");
    }
}
