//! Where archives lie: a folder, or an object store of which this crate knows nothing.
//!
//! In come names and bytes; out come lists and bytes. Names are claimed exclusively, and an archive appears under its
//! name only when it is whole and the file beside it is in place.

use std::fmt;
use std::io;
use std::path::Path;

use crate::archive::name::ArchiveName;

pub mod folder;
pub mod inside;

/// Why a destination couldn't do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{destination}: {action}: {source}{}", fix(.source))]
pub struct DestinationError {
    /// Which one, without credentials.
    pub destination: String,
    /// What was tried, such as `read NAME`.
    pub action: String,
    /// What the system or the store said.
    pub source: io::Error,
}

/// Whether there is no room left, by whatever limit.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn fix(source: &io::Error) -> &'static str {
    if is_full(source) {
        ": free space there, keep fewer backups (--keep-last), or name another destination"
    } else {
        ""
    }
}

/// A file at a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A place for archives and the small files beside them. Every wait inside is bounded.
pub trait Destination: fmt::Debug + Send + Sync {
    /// How messages and lists call it: the path or URL, without credentials.
    fn label(&self) -> String;

    /// The folder that it is, if it is one.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Everything that lies there, in no particular order.
    fn list(&self) -> Result<Vec<Item>, DestinationError>;

    /// A whole small file, refused above `limit` bytes; `None` if there is none.
    fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, DestinationError>;

    /// A file to be read at any offset; `None` if there is none.
    fn open(&self, name: &str) -> Result<Option<Box<dyn ReadAt>>, DestinationError>;

    /// Reserves a name for a new archive; `None` if it is taken, by an archive, a file beside one, or a writer at work.
    fn claim(&self, name: ArchiveName) -> Result<Option<Box<dyn Upload>>, DestinationError>;

    /// Replaces a small file atomically and durably.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DestinationError>;

    /// Removes a file; one that isn't there is no error.
    fn delete(&self, name: &str) -> Result<(), DestinationError>;
}

/// A file that is read at any offset, from several threads.
pub trait ReadAt: Send + Sync {
    /// Bytes of the file.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`; an error if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// An archive that is being written. Dropped without [`finish`](Upload::finish) it leaves nothing behind.
pub trait Upload: Send {
    /// Appends bytes.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), DestinationError>;

    /// Makes the bytes durable, puts `meta` beside the archive, then gives the archive its name, never over another.
    fn finish(self: Box<Self>, meta: &[u8]) -> Result<(), DestinationError>;
}
