//! Reading an archive's bytes, decrypted where it is encrypted with age.
//!
//! In come a file and identities; out come the archive's plain bytes, at any offset and from several threads, or once
//! from the beginning to the end while the file's own bytes are hashed.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use age::DecryptError;
use age::stream::StreamReader;
use sha2::{Digest as _, Sha256};

use crate::archive::digest::Digest;
use crate::destination::ReadAt;
use crate::snapshot::SnapshotError;

/// How an age file begins.
const MAGIC: &[u8] = b"age-encryption.org/";
/// Longest age header that is read, in bytes: age's parser would read a forged one for ever.
const MAX_AGE_HEADER: u64 = 32 << 10;
/// Largest file of identities that is read, in bytes.
const MAX_IDENTITIES: u64 = 1 << 20;
/// Bytes that are read ahead of a sequential reader.
const BLOCK: usize = 256 << 10;

/// A private key that opens encrypted archives.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

/// Why there are no identities.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The text is no identity.
    #[error("a line is no age identity: write AGE-SECRET-KEY-1…, as `age-keygen` prints it")]
    Form,
    /// The file can't be used.
    #[error(
        "{path}: {reason}: give a file with a line AGE-SECRET-KEY-1…, as `age-keygen -o FILE` writes it"
    )]
    File {
        /// Which file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key belongs in no log.
        formatter.write_str("Identity")
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim()
            .parse()
            .map(Self)
            .map_err(|_| IdentityError::Form)
    }
}

impl Identity {
    /// All identities of a file; empty lines and those that begin with `#` are comments.
    pub fn read_file(path: &Path) -> Result<Vec<Self>, IdentityError> {
        let refused = |reason: String| IdentityError::File {
            path: path.display().to_string(),
            reason,
        };
        let file = fs::File::open(path).map_err(|error| refused(error.to_string()))?;
        let mut text = String::new();
        file.take(MAX_IDENTITIES)
            .read_to_string(&mut text)
            .map_err(|error| refused(error.to_string()))?;
        let identities: Vec<Self> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|error: IdentityError| refused(error.to_string()))?;
        if identities.is_empty() {
            return Err(refused("it has no identity".to_owned()));
        }
        Ok(identities)
    }
}

/// The archive's plain bytes.
pub(crate) struct Bytes {
    file: Arc<dyn ReadAt>,
    key: Option<Key>,
    size: u64,
}

/// What opens an encrypted file.
struct Key {
    identities: Vec<Identity>,
    /// Readers that no thread uses now; each has the header parsed and the key unwrapped.
    idle: Mutex<Vec<StreamReader<Source>>>,
}

impl Bytes {
    /// Looks whether the file is encrypted and opens it.
    pub fn open(
        name: &str,
        file: Arc<dyn ReadAt>,
        identities: &[Identity],
    ) -> Result<Self, SnapshotError> {
        let failed = |source| SnapshotError::Use {
            path: name.to_owned(),
            source,
        };
        let mut start = [0; MAGIC.len()];
        if file.size() < start.len() as u64 {
            return Err(SnapshotError::Damaged {
                archive: name.to_owned(),
                reason: "it is too short for an archive".to_owned(),
            });
        }
        file.read_exact_at(&mut start, 0).map_err(failed)?;
        if start != MAGIC {
            let size = file.size();
            return Ok(Self {
                file,
                key: None,
                size,
            });
        }
        let locked = |reason: String| SnapshotError::Locked {
            archive: name.to_owned(),
            reason,
        };
        if identities.is_empty() {
            return Err(locked("no identity was given".to_owned()));
        }
        let source = Source::new(Arc::clone(&file), None);
        let mut reader = unlock(source, identities).map_err(|error| match error {
            DecryptError::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                failed(source)
            }
            DecryptError::NoMatchingKeys
            | DecryptError::KeyDecryptionFailed
            | DecryptError::DecryptionFailed => locked("no identity fits".to_owned()),
            other => SnapshotError::Damaged {
                archive: name.to_owned(),
                reason: format!("its encryption's header: {other}"),
            },
        })?;
        let size = reader
            .seek(SeekFrom::End(0))
            .map_err(|error| unreadable(name, error))?;
        Ok(Self {
            file,
            key: Some(Key {
                identities: identities.to_vec(),
                idle: Mutex::new(vec![reader]),
            }),
            size,
        })
    }

    /// Whether the file is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.key.is_some()
    }

    /// Plain bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` from the plain offset.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let Some(key) = &self.key else {
            return self.file.read_exact_at(buffer, offset);
        };
        let idle = lock(&key.idle).pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => unlock(Source::new(Arc::clone(&self.file), None), &key.identities)
                .map_err(io::Error::other)?,
        };
        reader.seek(SeekFrom::Start(offset))?;
        reader.read_exact(buffer)?;
        // One that failed is in an unknown state and isn't used again.
        lock(&key.idle).push(reader);
        Ok(())
    }

    /// A reader from the beginning to the end.
    pub fn sequential(&self) -> io::Result<Sequential> {
        let Some(key) = &self.key else {
            let source = Source::new(Arc::clone(&self.file), None);
            source.limit.store(u64::MAX, Ordering::Relaxed);
            return Ok(Sequential::Plain(source));
        };
        let hasher = Arc::new(Mutex::new(Sha256::new()));
        let source = Source::new(Arc::clone(&self.file), Some(Arc::clone(&hasher)));
        let reader = unlock(source, &key.identities).map_err(io::Error::other)?;
        Ok(Sequential::Encrypted {
            reader: Box::new(reader),
            hasher,
        })
    }
}

/// What an error while reading means: age reports damage as an input error.
pub(crate) fn unreadable(name: &str, error: io::Error) -> SnapshotError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => SnapshotError::Damaged {
            archive: name.to_owned(),
            reason: format!("its bytes can't be read: {error}"),
        },
        _ => SnapshotError::Use {
            path: name.to_owned(),
            source: error,
        },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unlock(source: Source, identities: &[Identity]) -> Result<StreamReader<Source>, DecryptError> {
    let limit = Arc::clone(&source.limit);
    let decryptor = age::Decryptor::new_buffered(source)?;
    let reader = decryptor.decrypt(
        identities
            .iter()
            .map(|identity| &identity.0 as &dyn age::Identity),
    )?;
    limit.store(u64::MAX, Ordering::Relaxed);
    Ok(reader)
}

/// A reader from the archive's first plain byte to its last one.
pub(crate) enum Sequential {
    /// The file itself.
    Plain(Source),
    /// Decrypted, and hashed as it lies there.
    Encrypted {
        /// The plain bytes.
        reader: Box<StreamReader<Source>>,
        /// Of the encrypted ones.
        hasher: Arc<Mutex<Sha256>>,
    },
}

impl Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Encrypted { reader, .. } => reader.read(buffer),
        }
    }
}

impl Sequential {
    /// The SHA-256 of an encrypted file, once all was read; `None` of a plain one, whose bytes the caller saw.
    pub fn finish(mut self) -> io::Result<Option<Digest>> {
        let mut rest = [0; 1];
        if self.read(&mut rest)? != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "there are bytes after the archive's end",
            ));
        }
        match self {
            Self::Plain(_) => Ok(None),
            Self::Encrypted { hasher, .. } => Ok(Some(Digest::finish(lock(&hasher).clone()))),
        }
    }
}

/// A file as a reader with a position.
pub(crate) struct Source {
    file: Arc<dyn ReadAt>,
    at: u64,
    buffer: Vec<u8>,
    /// Where the buffer's first byte lies in the file.
    buffered: u64,
    limit: Arc<AtomicU64>,
    hasher: Option<Arc<Mutex<Sha256>>>,
}

impl Source {
    fn new(file: Arc<dyn ReadAt>, hasher: Option<Arc<Mutex<Sha256>>>) -> Self {
        Self {
            file,
            at: 0,
            buffer: Vec::new(),
            buffered: 0,
            limit: Arc::new(AtomicU64::new(MAX_AGE_HEADER)),
            hasher,
        }
    }

    fn available(&self) -> &[u8] {
        let skip = self.at.checked_sub(self.buffered);
        skip.and_then(|skip| self.buffer.get(usize::try_from(skip).ok()?..))
            .unwrap_or_default()
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let limit = self.limit.load(Ordering::Relaxed);
        if self.at >= limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the header of the encryption has no end",
            ));
        }
        let left = self.file.size().saturating_sub(self.at);
        if self.available().is_empty() && left > 0 {
            self.buffer.resize(left.min(BLOCK as u64) as usize, 0);
            self.buffered = self.at;
            let read = self.file.read_exact_at(&mut self.buffer, self.at);
            if let Err(error) = read {
                self.buffer.clear();
                return Err(error);
            }
            if let Some(hasher) = &self.hasher {
                lock(hasher).update(&self.buffer);
            }
        }
        let allowed = usize::try_from(limit - self.at).unwrap_or(usize::MAX);
        let available = self.available();
        Ok(&available[..available.len().min(allowed)])
    }

    fn consume(&mut self, length: usize) {
        self.at += length as u64;
    }
}

impl Seek for Source {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let target = match position {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
            SeekFrom::End(offset) => self.file.size().checked_add_signed(offset),
        };
        self.at = target.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the start")
        })?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests;
