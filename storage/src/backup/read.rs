//! Reading live files: whole, and the same before and after.
//!
//! In comes a path, out come its bytes with the attributes that belong to them, or why there are none.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, OFlags, SeekFrom};
use sha2::{Digest as _, Sha256};

use crate::archive::digest::Digest;
use crate::archive::manifest::{Attributes, Time};
use crate::archive::member::TARGET;
use crate::archive::path::RelativePath;
use crate::walk::{self, Status};

/// How often a file that changes meanwhile is read again.
pub const RETRIES: usize = 3;
/// A small file may have grown to this size since it was planned: it still fits into a member beside others.
pub const MAX_GROWN: u64 = 2 << 20;
/// Kernels count changes in steps of up to 10 ms: two within one step look like one.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// Called after the bytes of a file were read and before it is looked at again: tests change it there.
pub type Hook<'h> = dyn Fn(&RelativePath) + Sync + 'h;

/// Opens files of one volume.
pub struct Reader<'a> {
    root: OwnedFd,
    hook: Option<&'a Hook<'a>>,
}

/// What was read of a small file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Small {
    /// Attributes that belong to the bytes.
    pub attributes: Attributes,
    /// Whether it still changed at the last try.
    pub is_live: bool,
}

/// Why a file could not be read.
#[derive(Debug)]
pub enum Unread {
    /// It is gone, or something else lies there now.
    Gone,
    /// It has become too large for a small file.
    Grown,
    /// The system refuses.
    Refused(io::Error),
}

/// A file that is read in blocks.
pub struct Large {
    file: File,
    /// As it was when it was opened.
    pub status: Status,
    hole: Hole,
}

/// What is known of the next hole.
#[derive(Clone, Copy)]
enum Hole {
    /// The file system doesn't say, or there are no more.
    Unknown,
    /// No hole begins before this offset.
    DataUntil(u64),
    /// Only zeros until this offset.
    ZerosUntil(u64),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Gone,
            _ => match error
                .raw_os_error()
                .map(rustix::io::Errno::from_raw_os_error)
            {
                // A link took its place.
                Some(rustix::io::Errno::LOOP) => Self::Gone,
                _ => Self::Refused(error),
            },
        }
    }
}

impl<'a> Reader<'a> {
    pub fn new(root: OwnedFd, hook: Option<&'a Hook<'a>>) -> Self {
        Self { root, hook }
    }

    /// What lies at a path now.
    pub fn status(&self, path: &RelativePath) -> io::Result<Status> {
        Status::beneath(self.root.as_fd(), path)
    }

    fn open(&self, path: &RelativePath) -> Result<(File, Status), Unread> {
        // Not blocking: a FIFO that took the file's place would hang.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(walk::open_beneath(self.root.as_fd(), path, flags)?);
        let status = Status::of_file(&file)?;
        if status.file_type == FileType::RegularFile {
            Ok((file, status))
        } else {
            Err(Unread::Gone)
        }
    }

    fn was_read(&self, path: &RelativePath) {
        if let Some(hook) = self.hook {
            hook(path);
        }
    }

    /// Appends a file of at most [`MAX_GROWN`] bytes to `out`. One that changes is read again, a log is read once, to
    /// its size at opening.
    pub fn small(
        &self,
        path: &RelativePath,
        is_log: bool,
        out: &mut Vec<u8>,
    ) -> Result<Small, Unread> {
        let start = out.len();
        let mut attempt = 0;
        loop {
            out.truncate(start);
            let read = self.small_once(path, is_log, out);
            match read {
                Ok(small) if small.is_live && !is_log && attempt < RETRIES => attempt += 1,
                Ok(_) => return read,
                Err(error) => {
                    out.truncate(start);
                    return Err(error);
                }
            }
        }
    }

    fn small_once(
        &self,
        path: &RelativePath,
        is_log: bool,
        out: &mut Vec<u8>,
    ) -> Result<Small, Unread> {
        let (file, before) = self.open(path)?;
        if before.size > MAX_GROWN && !is_log {
            return Err(Unread::Grown);
        }
        // A log that outgrew a small file is taken to there: it is cut at some line in any case.
        let wanted = before.size.min(MAX_GROWN) as usize;
        let start = out.len();
        out.resize(start + wanted, 0);
        let mut filled = start;
        while filled < out.len() {
            match (&file).read(&mut out[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let is_short = filled < start + wanted;
        out.truncate(filled);
        self.was_read(path);
        let after = Status::of_file(&file)?;
        Ok(Small {
            attributes: settled(before.attributes),
            is_live: is_short || before != after,
        })
    }

    /// Opens a file that is read in blocks.
    pub fn large(&self, path: &RelativePath) -> Result<Large, Unread> {
        let (file, status) = self.open(path)?;
        Ok(Large {
            file,
            status,
            hole: Hole::DataUntil(0),
        })
    }

    /// Whether a file that was read in blocks is another one now.
    pub fn has_changed(&self, path: &RelativePath, large: &Large) -> bool {
        self.was_read(path);
        Status::of_file(&large.file).map_or(true, |after| after != large.status)
    }

    /// SHA-256 of a large file, and whether it stayed as it was.
    pub fn hash(&self, path: &RelativePath) -> Result<(Digest, bool), Unread> {
        let mut large = self.large(path)?;
        let mut buffer = vec![0; TARGET];
        let mut hasher = Sha256::new();
        let mut offset = 0;
        while offset < large.status.size {
            let wanted = (large.status.size - offset).min(TARGET as u64) as usize;
            let filled = large.read(offset, &mut buffer[..wanted])?;
            hasher.update(&buffer[..wanted]);
            if filled < wanted {
                return Ok((Digest::finish(hasher), false));
            }
            offset += wanted as u64;
        }
        let is_same = !self.has_changed(path, &large);
        Ok((Digest::finish(hasher), is_same))
    }
}

impl Large {
    /// Fills `buffer` from `offset`, with zeros after the file's end; returns the bytes that were there.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Unread> {
        let mut filled = 0;
        while filled < buffer.len() {
            let found = self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64);
            match found {
                Ok(0) => {
                    buffer[filled..].fill(0);
                    break;
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }

    /// Whether the next `length` bytes from `offset` are a hole. Offsets must ascend.
    pub fn is_hole(&mut self, offset: u64, length: u64) -> bool {
        loop {
            match self.hole {
                Hole::Unknown => return false,
                Hole::DataUntil(end) if offset < end => return false,
                Hole::DataUntil(_) => self.hole = self.next_data(offset),
                Hole::ZerosUntil(end) if offset + length <= end => return true,
                Hole::ZerosUntil(end) if offset < end => return false,
                Hole::ZerosUntil(_) => self.hole = self.next_hole(offset),
            }
        }
    }

    fn next_data(&self, offset: u64) -> Hole {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Hole::ZerosUntil(data),
            Ok(_) => self.next_hole(offset),
            // Zeros to the end.
            Err(rustix::io::Errno::NXIO) => Hole::ZerosUntil(self.status.size),
            Err(_) => Hole::Unknown,
        }
    }

    fn next_hole(&self, offset: u64) -> Hole {
        match rustix::fs::seek(&self.file, SeekFrom::Hole(offset)) {
            Ok(hole) if hole > offset && hole < self.status.size => Hole::DataUntil(hole),
            Ok(hole) if hole == offset => self.next_data_only(offset),
            _ => Hole::Unknown,
        }
    }

    fn next_data_only(&self, offset: u64) -> Hole {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Hole::ZerosUntil(data),
            Err(rustix::io::Errno::NXIO) => Hole::ZerosUntil(self.status.size),
            _ => Hole::Unknown,
        }
    }
}

/// The attributes for the manifest. A file that changed just now could change again without a new time: without its
/// ctime the next incremental backup looks into it.
pub fn settled(mut attributes: Attributes) -> Attributes {
    // The kernel's clock is compared with the kernel's own stamps, so it can't be an argument.
    let recent = SystemTime::now()
        .checked_sub(CLOCK_STEP)
        .and_then(|moment| moment.duration_since(SystemTime::UNIX_EPOCH).ok());
    let is_recent = recent.is_some_and(|recent| {
        let recent = (recent.as_secs().cast_signed(), recent.subsec_nanos());
        (attributes.ctime.seconds, attributes.ctime.nanoseconds) >= recent
    });
    if is_recent {
        attributes.ctime = Time::default();
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::open_root;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::thread;

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    #[test]
    fn a_file_that_changed_just_now_has_no_ctime_to_trust() {
        let folder = tempfile::tempdir().unwrap();
        let reader = Reader::new(open_root(folder.path()).unwrap(), None);
        // A slow machine may need more than one try to look soon enough.
        let soon = (0..50).any(|_| {
            fs::write(folder.path().join("a"), "x").unwrap();
            let small = reader.small(&path("a"), false, &mut Vec::new()).unwrap();
            small.attributes.ctime == Time::default()
        });
        assert!(soon);
        thread::sleep(2 * CLOCK_STEP);
        let small = reader.small(&path("a"), false, &mut Vec::new()).unwrap();
        let status = reader.status(&path("a")).unwrap();
        assert_eq!(small.attributes, status.attributes);
    }

    #[test]
    fn what_took_a_files_place_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("large"), vec![0; MAX_GROWN as usize + 1]).unwrap();
        fs::create_dir(root.join("directory")).unwrap();
        symlink("large", root.join("link")).unwrap();
        let reader = Reader::new(open_root(root).unwrap(), None);
        let mut out = b"before".to_vec();
        for name in ["directory", "link", "gone", "large/below"] {
            let read = reader.small(&path(name), false, &mut out);
            assert!(matches!(read, Err(Unread::Gone)), "{name}: {read:?}");
        }
        let read = reader.small(&path("large"), false, &mut out);
        assert!(matches!(read, Err(Unread::Grown)), "{read:?}");
        assert_eq!(out, b"before");
        // A log is cut instead.
        reader.small(&path("large"), true, &mut out).unwrap();
        assert_eq!(out.len(), 6 + MAX_GROWN as usize);
    }

    #[test]
    fn holes_are_found_and_nothing_else_is_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("sparse")).unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(b"data", 3 << 20).unwrap();
        let reader = Reader::new(open_root(folder.path()).unwrap(), None);
        let mut large = reader.large(&path("sparse")).unwrap();
        let mebibyte = TARGET as u64;
        let holes: Vec<_> = (0..8)
            .map(|index| large.is_hole(index * mebibyte, mebibyte))
            .collect();
        // A file system without holes says that all of it is data.
        let all = [true, true, true, false, true, true, true, true];
        assert!(holes == all || holes == [false; 8], "{holes:?}");
    }
}
