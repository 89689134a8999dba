//! Unpacking a tar that may be hostile into an empty directory of ours.
//!
//! In come a stream, plain or gzip, and limits; out come files of mode 644 and directories of mode 755. Links, devices,
//! paths that lead out, and names that appear twice are refused, and memory doesn't depend on what the stream says.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::archive::path::RelativePath;
use crate::atomic::{DIRECTORY_MODE, FILE_MODE};
use crate::descriptor;
use crate::progress::Progress;

/// Bytes that headers of one entry may have, long names among them.
const MAX_HEADER: u64 = 256 * 1024;
/// Bytes that are moved at once.
const CHUNK: usize = 128 * 1024;
/// Entries on the top level that are remembered.
const MAX_TOP_LEVEL: usize = 2;
/// Most bytes that may follow the end of the tar; tar pads to 10 KiB, some tools to more.
const MAX_TRAILING: u64 = 1024 * 1024;

/// How much may be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files and directories.
    pub entries: u64,
}

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first names on the top level, two at most.
    pub top_level: Vec<TopLevel>,
}

/// A name on the top level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopLevel {
    /// The name.
    pub name: Vec<u8>,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// Why the stream is refused.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is no tar, or it is cut off.
    #[error(
        "standard input is no whole tar, plain or gzip ({0}): make it with `tar -C FOLDER -cz .` and pipe it in"
    )]
    Read(io::Error),
    /// There is nothing in it.
    #[error("standard input has no file: make the tar with `tar -C FOLDER -cz .` and pipe it in")]
    Empty,
    /// It asks for something that isn't done.
    #[error("{path} in the tar is refused: {reason}")]
    Refused {
        /// The entry.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// It does not fit.
    #[error(
        "the tar is larger than the room on the volume ({limit} bytes): free space with `predictor storage cleanup` or grow the volume"
    )]
    TooLarge {
        /// Bytes that may be written.
        limit: u64,
    },
    /// It has too many files.
    #[error("the tar has more than {limit} files and directories")]
    TooMany {
        /// How many may be.
        limit: u64,
    },
    /// A file can't be written.
    #[error("{path} can't be written: {source}")]
    Write {
        /// The entry.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A reader with an allowance, so that a header can't ask for memory.
struct Metered<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = usize::try_from(self.allowance.get()).unwrap_or(usize::MAX);
        if allowed == 0 && !buffer.is_empty() {
            return Err(io::Error::other("a header is too long"));
        }
        let length = buffer.len().min(allowed);
        let read = self.inner.read(&mut buffer[..length])?;
        self.allowance.set(self.allowance.get() - read as u64);
        Ok(read)
    }
}

/// Unpacks a stream into `into`, an empty directory.
pub fn unpack(
    input: &mut dyn Read,
    into: &OwnedFd,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Unpacked, UnpackError> {
    let mut input = BufReader::with_capacity(CHUNK, input);
    let start = input.fill_buf().map_err(UnpackError::Read)?;
    let is_gzip = start.starts_with(&[0x1f, 0x8b]);
    let allowance = Rc::new(Cell::new(MAX_HEADER));
    let inner: Box<dyn Read + '_> = if is_gzip {
        Box::new(MultiGzDecoder::new(input))
    } else {
        Box::new(input)
    };
    let metered = Metered {
        inner,
        allowance: Rc::clone(&allowance),
    };
    let mut unpacking = Unpacking {
        into,
        limits,
        progress,
        entries: 0,
        seen: BTreeSet::new(),
        result: Unpacked::default(),
    };
    let mut archive = tar::Archive::new(metered);
    {
        let mut entries = archive.entries().map_err(UnpackError::Read)?;
        loop {
            allowance.set(MAX_HEADER);
            let Some(entry) = entries.next() else {
                break;
            };
            let mut entry = entry.map_err(UnpackError::Read)?;
            // The entry's own bytes and its padding are limited by what may be written.
            allowance.set(u64::MAX);
            unpacking.entry(&mut entry)?;
        }
    }
    if unpacking.result.files == 0 {
        return Err(UnpackError::Empty);
    }
    // To the end, so that gzip's checksum is looked at and the sender isn't cut off.
    allowance.set(MAX_TRAILING);
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(UnpackError::Read)?;
    Ok(unpacking.result)
}

struct Unpacking<'a> {
    into: &'a OwnedFd,
    limits: &'a Limits,
    progress: &'a dyn Progress,
    entries: u64,
    /// Hashes of names without regard to case: some file systems have only one of `a` and `A`.
    seen: BTreeSet<u128>,
    result: Unpacked,
}

impl Unpacking<'_> {
    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let bytes = entry.path_bytes().into_owned();
        let shown = bytes[..bytes.len().min(200)].escape_ascii().to_string();
        let refused = |reason: &str| UnpackError::Refused {
            path: shown.clone(),
            reason: reason.to_owned(),
        };
        let is_directory = match kind {
            EntryType::Regular => false,
            EntryType::Directory => true,
            EntryType::Symlink | EntryType::Link => {
                return Err(refused("links aren't put; make the tar with `tar -h`"));
            }
            _ => return Err(refused("only files and directories are put")),
        };
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::TooMany {
                limit: self.limits.entries,
            });
        }
        let Some(path) = relative(&bytes, is_directory).map_err(|reason| refused(&reason))? else {
            return Ok(());
        };
        if !self.seen.insert(key(&path)) {
            return Err(refused("the name is there twice"));
        }
        if path.components().any(|name| name.starts_with(b".")) {
            return Err(refused("names that begin with a dot are the program's own"));
        }
        self.note_top_level(&path, is_directory);
        let failed = |source| UnpackError::Write {
            path: shown.clone(),
            source,
        };
        let parent = self.directory(path.parent().as_ref()).map_err(failed)?;
        if is_directory {
            return make(&parent, path.name()).map_err(failed);
        }
        let size = entry.size();
        let left = self.limits.bytes.saturating_sub(self.result.bytes);
        if size > left {
            return Err(UnpackError::TooLarge {
                limit: self.limits.bytes,
            });
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        let file = rustix::fs::openat(&parent, path.name(), flags, mode)
            .and_then(|file| rustix::fs::fchmod(&file, mode).map(|()| file))
            .map_err(|error| failed(error.into()))?;
        let written = Self::copy(entry, File::from(file), &shown)?;
        if written != size {
            return Err(UnpackError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        self.result.files += 1;
        self.result.bytes += written;
        self.progress.advance(1, written);
        Ok(())
    }

    fn copy(from: &mut impl Read, mut to: File, shown: &str) -> Result<u64, UnpackError> {
        let mut chunk = vec![0; CHUNK];
        let mut written = 0;
        loop {
            let read = match from.read(&mut chunk) {
                Ok(0) => return Ok(written),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(UnpackError::Read(error)),
            };
            to.write_all(&chunk[..read])
                .map_err(|source| UnpackError::Write {
                    path: shown.to_owned(),
                    source,
                })?;
            written += read as u64;
        }
    }

    /// Opens a directory below ours, making what is missing.
    fn directory(&self, path: Option<&RelativePath>) -> io::Result<OwnedFd> {
        let mut opened = descriptor::open_child(self.into, c".")?;
        for name in path.iter().flat_map(|path| path.components()) {
            make(&opened, name)?;
            opened = descriptor::open_child(&opened, name)?;
        }
        Ok(opened)
    }

    fn note_top_level(&mut self, path: &RelativePath, is_directory: bool) {
        let name = path.top_level();
        let is_directory = is_directory || path.parent().is_some();
        let known = &mut self.result.top_level;
        if known.len() < MAX_TOP_LEVEL && known.iter().all(|one| one.name != name) {
            known.push(TopLevel {
                name: name.to_vec(),
                is_directory,
            });
        }
    }
}

/// Makes a directory that may be there already.
fn make(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let rights = Mode::from_raw_mode(DIRECTORY_MODE);
    match rustix::fs::mkdirat(parent, name, rights) {
        Ok(()) => {
            let made = descriptor::open_child(parent, name)?;
            Ok(rustix::fs::fchmod(&made, rights)?)
        }
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The path as tar writes it, `./a/b/` among others; `None` for `.` itself.
fn relative(bytes: &[u8], is_directory: bool) -> Result<Option<RelativePath>, String> {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"./") {
        rest = after;
    }
    if is_directory {
        rest = rest.strip_suffix(b"/").unwrap_or(rest);
        if rest.is_empty() || rest == b"." {
            return Ok(None);
        }
    }
    RelativePath::new(rest)
        .map(Some)
        .map_err(|error| error.reason.to_owned())
}

/// 128 bits of a hash: a million of them collide with a probability of less than 10^-26.
fn key(path: &RelativePath) -> u128 {
    let folded = match std::str::from_utf8(path.as_bytes()) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => path.as_bytes().to_ascii_lowercase(),
    };
    let digest = Sha256::digest(folded);
    digest
        .iter()
        .take(16)
        .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests;
