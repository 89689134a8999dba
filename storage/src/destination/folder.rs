//! A folder as a destination: the volume's `backups/`, another disk, a mounted share.
//!
//! In come names and bytes, out come files of mode 644. Everything is done relative to the folder's own descriptor,
//! and no symbolic link in it is followed. A name is claimed by `.STEM.partial`, made exclusively and locked while its
//! writer lives; the same file becomes the archive by a rename that never replaces anything.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, fchmod, flock,
    fstat, linkat, openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::{Destination, DestinationError, Item, ReadAt, Upload};
use crate::archive::name::ArchiveName;
use crate::atomic::{self, FILE_MODE};

/// Most files that a folder may hold: its list stays in memory.
const MAX_ITEMS: usize = 100_000;
/// A claim that nobody locks is a dead writer's once nothing was written to it for so long. The age covers the moment
/// between making and locking it, and file systems whose locks other machines don't see.
const ABANDONED: Duration = Duration::from_mins(10);
/// So much stays free on a volume that holds its own backups, but no larger part of it than one of [`RESERVED_PART`].
const RESERVE: u64 = 16 << 20;
const RESERVED_PART: u64 = 16;
/// How unfinished files of ours begin and end.
const UNFINISHED: (&str, &str) = (".stock_prediction_backup_", ".partial");

/// A folder that holds archives.
#[derive(Clone, Debug)]
pub struct Folder {
    place: Arc<Place>,
    /// Bytes that new archives leave free.
    reserve: u64,
}

/// The folder's descriptor and its path for messages.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    descriptor: OwnedFd,
}

impl Folder {
    /// A folder that is there.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DestinationError> {
        let path = path.into();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, &path, flags, Mode::empty()) {
            Ok(descriptor) => Ok(Self {
                place: Arc::new(Place { path, descriptor }),
                reserve: 0,
            }),
            Err(error) => Err(DestinationError {
                destination: path.display().to_string(),
                action: "open this folder (it must exist and be readable)".to_owned(),
                source: error.into(),
            }),
        }
    }

    /// A folder that is made, with mode 755, if there is none; its parent must be there, so that a disk that isn't
    /// mounted is noticed.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, DestinationError> {
        let path = path.into();
        atomic::create_directory(&path).map_err(|source| DestinationError {
            destination: path.display().to_string(),
            action: "make this folder (its parent must exist and be writable)".to_owned(),
            source,
        })?;
        Self::open(path)
    }

    /// The same folder; where it shares the file system with the volume at `root`, new archives leave room there for
    /// the service.
    #[must_use]
    pub fn beside(mut self, root: &Path) -> Self {
        let root = std::fs::metadata(root).map(|found| found.dev());
        let own = fstat(&self.place.descriptor).map(|found| found.st_dev);
        if let (Ok(root), Ok(own)) = (root, own)
            && root == own
        {
            self.reserve = RESERVE;
        }
        self
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.place.path
    }
}

impl Destination for Folder {
    fn label(&self) -> String {
        self.place.path.display().to_string()
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.place.path)
    }

    fn list(&self) -> Result<Vec<Item>, DestinationError> {
        self.place
            .list()
            .map_err(|source| self.place.error("list", source))
    }

    fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, DestinationError> {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let Some((file, size)) = self.place.open_file(name)? else {
                return Ok(None);
            };
            let mut bytes = Vec::with_capacity(limit.min(usize::try_from(size).unwrap_or(limit)));
            // One byte more than allowed tells a file that is too long, even one that grows.
            file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
            if bytes.len() > limit {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("it is longer than {limit} bytes"),
                ));
            }
            Ok(Some(bytes))
        };
        read().map_err(|source| self.place.error(&format!("read {name}"), source))
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn ReadAt>>, DestinationError> {
        let found = self
            .place
            .open_file(name)
            .map_err(|source| self.place.error(&format!("open {name}"), source))?;
        Ok(found.map(|(file, size)| Box::new(Opened { file, size }) as Box<dyn ReadAt>))
    }

    fn claim(&self, name: ArchiveName) -> Result<Option<Box<dyn Upload>>, DestinationError> {
        let claimed = self
            .place
            .remove_abandoned(SystemTime::now())
            .and_then(|()| self.place.claim(name))
            .map_err(|source| self.place.error(&format!("create {name}"), source))?;
        Ok(claimed.map(|file| {
            Box::new(Writer {
                place: Arc::clone(&self.place),
                name,
                file,
                reserve: self.reserve,
                put: Vec::new(),
                is_finished: false,
            }) as Box<dyn Upload>
        }))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DestinationError> {
        self.place
            .write_file(name, bytes, |from, to| {
                Ok(renameat(
                    &self.place.descriptor,
                    from,
                    &self.place.descriptor,
                    to,
                )?)
            })
            .map_err(|source| self.place.error(&format!("write {name}"), source))
    }

    fn delete(&self, name: &str) -> Result<(), DestinationError> {
        let delete = || -> io::Result<()> {
            check_name(name)?;
            match unlinkat(&self.place.descriptor, name, AtFlags::empty()) {
                Ok(()) => self.place.sync(),
                Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        delete().map_err(|source| self.place.error(&format!("delete {name}"), source))
    }
}

impl Place {
    fn error(&self, action: &str, source: io::Error) -> DestinationError {
        DestinationError {
            destination: self.path.display().to_string(),
            action: action.to_owned(),
            source,
        }
    }

    fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        match statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.descriptor)?)
    }

    fn list(&self) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        for entry in Dir::read_from(&self.descriptor)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if !matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown) {
                continue;
            }
            // None: deleted since.
            let Some(stat) = self.stat(name)? else {
                continue;
            };
            if !is_regular(&stat) {
                continue;
            }
            if items.len() == MAX_ITEMS {
                return Err(io::Error::other(format!(
                    "it holds more than {MAX_ITEMS} files: give backups a folder of their own"
                )));
            }
            items.push(Item {
                name: name.to_owned(),
                size: u64::try_from(stat.st_size).unwrap_or(0),
            });
        }
        Ok(items)
    }

    /// A regular file and its size; never the target of a link, never a wait for a FIFO's writer.
    fn open_file(&self, name: &str) -> io::Result<Option<(File, u64)>> {
        check_name(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(not_regular()),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&file)?;
        if !is_regular(&stat) {
            return Err(not_regular());
        }
        Ok(Some((
            File::from(file),
            u64::try_from(stat.st_size).unwrap_or(0),
        )))
    }

    fn create_file(&self, name: &str) -> rustix::io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        let file = openat(&self.descriptor, name, flags, mode)?;
        // Whatever the umask says.
        fchmod(&file, mode)?;
        Ok(File::from(file))
    }

    /// Writes a small file durably beside its place, then `put` moves it there.
    fn write_file(
        &self,
        name: &str,
        bytes: &[u8],
        put: impl FnOnce(&str, &str) -> io::Result<()>,
    ) -> io::Result<()> {
        check_name(name)?;
        let partial = partial_of(name);
        let mut file = self.create_file(&partial)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| put(&partial, name));
        if written.is_err() {
            // The first error is what the caller has to know.
            let _ = unlinkat(&self.descriptor, &partial, AtFlags::empty());
        }
        written.and_then(|()| self.sync())
    }

    /// Makes and locks the claim of a name that is free; `None` if it isn't.
    fn claim(&self, name: ArchiveName) -> io::Result<Option<File>> {
        let claim = claim_of(name);
        let file = match self.create_file(&claim) {
            Ok(file) => file,
            Err(Errno::EXIST) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let checked = lock(&file).and_then(|()| self.is_taken(name));
        if matches!(checked, Ok(false)) {
            return Ok(Some(file));
        }
        let _ = unlinkat(&self.descriptor, &claim, AtFlags::empty());
        checked.map(|_| None)
    }

    /// Whether anything of this second is there, in either spelling. Asked after the claim is made: who finishes in
    /// between has its file under the final name before its claim is gone.
    fn is_taken(&self, name: ArchiveName) -> io::Result<bool> {
        for encrypted in [false, true] {
            let spelling = ArchiveName::at(name.time(), encrypted).to_string();
            if self.stat(&spelling)?.is_some() {
                return Ok(true);
            }
        }
        Ok(self.stat(&name.meta())?.is_some())
    }

    /// Removes what killed writers left, so that it doesn't fill the disk.
    fn remove_abandoned(&self, now: SystemTime) -> io::Result<()> {
        for item in self.list()? {
            let is_ours = item.name.starts_with(UNFINISHED.0) && item.name.ends_with(UNFINISHED.1);
            if is_ours && self.remove_if_abandoned(&item.name, now)? {
                self.sync()?;
            }
        }
        Ok(())
    }

    fn remove_if_abandoned(&self, name: &str, now: SystemTime) -> io::Result<bool> {
        let Some((file, _)) = self.open_file(name)? else {
            return Ok(false);
        };
        let modified = file.metadata()?.modified()?;
        let is_old = now
            .duration_since(modified)
            .is_ok_and(|age| age > ABANDONED);
        if !is_old || lock(&file).is_err() {
            return Ok(false);
        }
        // Only who holds the lock of this very file may remove it: another may have been made under its name.
        if !self.is_same(name, &file)? {
            return Ok(false);
        }
        unlinkat(&self.descriptor, name, AtFlags::empty())?;
        Ok(true)
    }

    /// Whether `name` still is the open file.
    fn is_same(&self, name: &str, file: &File) -> io::Result<bool> {
        let open = fstat(file)?;
        Ok(self
            .stat(name)?
            .is_some_and(|found| found.st_ino == open.st_ino && found.st_dev == open.st_dev))
    }

    /// Moves a file to a name that must be free.
    fn publish(&self, from: &str, to: &str) -> io::Result<()> {
        for way in [Way::Exclusive, Way::Link, Way::Checked] {
            match self.publish_by(way, from, to) {
                // The file system doesn't know this way.
                Err(
                    Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::MLINK,
                ) if way != Way::Checked => {}
                other => return Ok(other?),
            }
        }
        Ok(())
    }

    fn publish_by(&self, way: Way, from: &str, to: &str) -> rustix::io::Result<()> {
        let folder = &self.descriptor;
        match way {
            Way::Exclusive => renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE),
            Way::Link => {
                linkat(folder, from, folder, to, AtFlags::empty())?;
                // It has its name; a first name that stays is removed as abandoned later.
                let _ = unlinkat(folder, from, AtFlags::empty());
                Ok(())
            }
            Way::Checked => match statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => renameat(folder, from, folder, to),
                Err(error) => Err(error),
            },
        }
    }
}

/// How a file gets a free name, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One call that refuses a taken name.
    Exclusive,
    /// A second name, then the first is removed; for NFS.
    Link,
    /// A look, then a rename: for shares that know neither. The claim keeps other writers of ours away.
    Checked,
}

/// A file that is read.
struct Opened {
    file: File,
    size: u64,
}

impl ReadAt for Opened {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

/// An archive that is written; its file is the claim.
struct Writer {
    place: Arc<Place>,
    name: ArchiveName,
    file: File,
    reserve: u64,
    /// Names that it has put in place, to be taken back if it isn't finished.
    put: Vec<String>,
    is_finished: bool,
}

impl Writer {
    /// Refuses what would fill the volume: a service that can't write is worse than a backup less.
    fn leave_reserve(&self, length: u64) -> io::Result<()> {
        if self.reserve == 0 {
            return Ok(());
        }
        let space = rustix::fs::fstatvfs(&self.file)?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        let reserve = reserve_of(self.reserve, bytes(space.f_blocks));
        if bytes(space.f_bavail) >= reserve.saturating_add(length) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!(
                "the archive would leave less than {reserve} bytes free on the volume, which the service needs"
            ),
        ))
    }

    fn publish(&mut self, meta: &[u8]) -> io::Result<()> {
        let claim = claim_of(self.name);
        self.file.sync_all()?;
        if !self.place.is_same(&claim, &self.file)? {
            return Err(io::Error::other(format!(
                "{claim} was removed while it was written: run the backup again"
            )));
        }
        let Self { place, put, .. } = self;
        let mut publish = |from: &str, to: &str| {
            place.publish(from, to)?;
            put.push(to.to_owned());
            Ok(())
        };
        place.write_file(&self.name.meta(), meta, &mut publish)?;
        publish(&claim, &self.name.to_string())?;
        place.sync()?;
        self.is_finished = true;
        Ok(())
    }
}

impl Upload for Writer {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), DestinationError> {
        self.leave_reserve(bytes.len() as u64)
            .and_then(|()| self.file.write_all(bytes))
            .map_err(|source| self.place.error(&format!("write {}", self.name), source))
    }

    fn finish(mut self: Box<Self>, meta: &[u8]) -> Result<(), DestinationError> {
        self.publish(meta)
            .map_err(|source| self.place.error(&format!("finish {}", self.name), source))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // Nobody is left to tell; what can't be removed now is removed as abandoned later.
        // The archive before the file beside it, so that none is ever without.
        for name in self.put.iter().rev() {
            let _ = unlinkat(&self.place.descriptor, name.as_str(), AtFlags::empty());
        }
        let claim = claim_of(self.name);
        if matches!(self.place.is_same(&claim, &self.file), Ok(true)) {
            let _ = unlinkat(&self.place.descriptor, claim, AtFlags::empty());
        }
    }
}

/// What stays free: a small volume would else take no backup at all.
const fn reserve_of(wanted: u64, capacity: u64) -> u64 {
    let part = capacity / RESERVED_PART;
    if wanted < part { wanted } else { part }
}

/// The name under which an archive is written: one for both spellings, because they share their `.meta.json`.
fn claim_of(name: ArchiveName) -> String {
    format!(".{}{}", name.stem(), UNFINISHED.1)
}

/// A name that no other writer uses: the host's name tells pods of a shared folder apart.
fn partial_of(name: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let host = rustix::system::uname();
    format!(
        ".{name}.{}-{}-{}{}",
        host.nodename().to_string_lossy().replace('/', "-"),
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed),
        UNFINISHED.1
    )
}

/// Locks a file that nobody else has locked. A file system without locks counts as locked by us: the age decides.
fn lock(file: &File) -> io::Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) | Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn not_regular() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is a link, a folder or a device, not a file: put the file itself there",
    )
}

/// Names of files of this folder only.
fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this is no name of a file in the folder",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, FileTimes};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use jiff::Timestamp;

    use super::*;

    fn name(encrypted: bool) -> ArchiveName {
        ArchiveName::at(Timestamp::from_second(1_754_049_600).unwrap(), encrypted)
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn claim(folder: &Folder, encrypted: bool) -> Option<Box<dyn Upload>> {
        folder.claim(name(encrypted)).unwrap()
    }

    #[test]
    fn an_archive_on_the_volume_leaves_room_for_the_service() {
        assert_eq!(reserve_of(RESERVE, 10 << 30), 16 << 20);
        assert_eq!(reserve_of(RESERVE, 32 << 20), 2 << 20);
        let folder = tempfile::tempdir().unwrap();
        let place = Folder::create(folder.path()).unwrap();
        assert_eq!(place.reserve, 0);
        let own = place.clone().beside(folder.path());
        assert_eq!(own.reserve, RESERVE);
        assert_eq!(place.beside(Path::new("/proc")).reserve, 0);
        let writer = |reserve| Writer {
            place: Arc::clone(&own.place),
            name: ArchiveName::at(jiff::Timestamp::UNIX_EPOCH, false),
            file: File::create(folder.path().join("file")).unwrap(),
            reserve,
            put: Vec::new(),
            is_finished: false,
        };
        assert!(writer(RESERVE).leave_reserve(1).is_ok());
        assert!(writer(0).leave_reserve(u64::MAX).is_ok());
        let error = writer(RESERVE).leave_reserve(u64::MAX).unwrap_err();
        let told = own.place.error("write", error).to_string();
        assert!(
            told.contains("service") && told.contains("--keep-last"),
            "{told}"
        );
    }

    #[test]
    fn an_archive_appears_whole_with_its_meta_and_is_read_at_any_offset() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::create(scratch.path().join("backups")).unwrap();
        let mode = |name: &str| {
            let found = fs::metadata(folder.path().join(name)).unwrap();
            found.permissions().mode() & 0o7777
        };
        assert_eq!(mode("."), 0o755);
        let mut upload = claim(&folder, false).unwrap();
        upload.write_all(b"one ").unwrap();
        upload.write_all(b"two").unwrap();
        assert!(folder.open(&name(false).to_string()).unwrap().is_none());
        upload.finish(b"{}").unwrap();
        let archive = name(false).to_string();
        assert_eq!(names(folder.path()), [name(false).meta(), archive.clone()]);
        assert_eq!((mode(&archive), mode(&name(false).meta())), (0o644, 0o644));
        let mut items = folder.list().unwrap();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(
            items[1],
            Item {
                name: archive.clone(),
                size: 7
            }
        );
        let opened = folder.open(&archive).unwrap().unwrap();
        assert_eq!(opened.size(), 7);
        let mut part = [0; 3];
        opened.read_exact_at(&mut part, 4).unwrap();
        assert_eq!(&part, b"two");
        assert!(opened.read_exact_at(&mut part, 5).is_err());
    }

    #[test]
    fn a_name_is_claimed_once_in_either_spelling() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let upload = claim(&folder, false).unwrap();
        assert!(claim(&folder, false).is_none());
        assert!(claim(&folder, true).is_none());
        drop(upload);
        assert_eq!(names(scratch.path()), [""; 0]);
        for taken in [
            name(false).to_string(),
            name(true).to_string(),
            name(false).meta(),
        ] {
            fs::write(scratch.path().join(&taken), "x").unwrap();
            assert!(claim(&folder, false).is_none(), "{taken}");
            assert!(claim(&folder, true).is_none(), "{taken}");
            assert_eq!(names(scratch.path()), [taken.as_str()]);
            fs::remove_file(scratch.path().join(&taken)).unwrap();
        }
        assert!(claim(&folder, true).is_some());
    }

    #[test]
    fn of_many_writers_one_gets_the_name() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let won: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|index| {
                    let folder = &folder;
                    scope.spawn(move || {
                        let Some(mut upload) = claim(folder, index % 2 == 0) else {
                            return 0;
                        };
                        upload.write_all(b"x").unwrap();
                        upload.finish(b"{}").unwrap();
                        1
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(won, 1);
        assert_eq!(names(scratch.path()).len(), 2);
    }

    #[test]
    fn an_archive_that_appeared_meanwhile_is_not_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        for foreign in [name(false).to_string(), name(false).meta()] {
            let mut upload = claim(&folder, false).unwrap();
            upload.write_all(b"ours").unwrap();
            fs::write(scratch.path().join(&foreign), "theirs").unwrap();
            let error = upload.finish(b"{}").unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists, "{error}");
            assert_eq!(names(scratch.path()), [foreign.as_str()]);
            assert_eq!(fs::read(scratch.path().join(&foreign)).unwrap(), b"theirs");
            fs::remove_file(scratch.path().join(&foreign)).unwrap();
        }
    }

    #[test]
    fn every_way_of_publishing_refuses_a_taken_name() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        for way in [Way::Exclusive, Way::Link, Way::Checked] {
            fs::write(scratch.path().join("from"), "new").unwrap();
            fs::write(scratch.path().join("to"), "old").unwrap();
            let refused = folder.place.publish_by(way, "from", "to");
            assert_eq!(refused, Err(Errno::EXIST), "{way:?}");
            assert_eq!(fs::read(scratch.path().join("to")).unwrap(), b"old");
            fs::remove_file(scratch.path().join("to")).unwrap();
            folder.place.publish_by(way, "from", "to").unwrap();
            assert_eq!(names(scratch.path()), ["to"], "{way:?}");
        }
    }

    #[test]
    fn what_a_dead_writer_left_is_removed_and_a_living_ones_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        let claim_path = scratch.path().join(claim_of(name(false)));
        let age = |path: &Path| {
            let old = SystemTime::now() - ABANDONED - Duration::from_mins(1);
            let file = File::options().write(true).open(path).unwrap();
            file.set_times(FileTimes::new().set_modified(old)).unwrap();
        };
        // Young: its writer may be between making and locking it.
        fs::write(&claim_path, "left").unwrap();
        assert!(claim(&folder, false).is_none());
        age(&claim_path);
        let meta = scratch.path().join(partial_of(&name(true).meta()));
        fs::write(&meta, "left").unwrap();
        age(&meta);
        let other = scratch.path().join(".somebody.partial");
        fs::write(&other, "not ours").unwrap();
        age(&other);
        let upload = claim(&folder, false).unwrap();
        assert!(!meta.exists() && other.exists());
        // Old, but its writer holds the lock.
        age(&claim_path);
        assert!(claim(&folder, false).is_none());
        assert!(claim_path.exists());
        // Removed by a person: the writer finds out, and a foreign claim is left alone.
        fs::remove_file(&claim_path).unwrap();
        fs::write(&claim_path, "another's").unwrap();
        assert!(upload.finish(b"{}").is_err());
        assert_eq!(fs::read(&claim_path).unwrap(), b"another's");
        assert!(!scratch.path().join(name(false).meta()).exists());
    }

    #[test]
    fn links_folders_and_paths_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        symlink(outside.path(), scratch.path().join("link")).unwrap();
        fs::create_dir(scratch.path().join("folder")).unwrap();
        rustix::fs::mkfifoat(CWD, scratch.path().join("fifo"), Mode::RUSR).unwrap();
        for name in ["link", "folder", "fifo", "../x", "a/b", "..", "", "a\0"] {
            assert!(folder.read(name, 10).is_err(), "{name}");
            assert!(folder.open(name).is_err(), "{name}");
        }
        assert!(folder.delete("../x").is_err());
        assert!(folder.replace("a/b", b"").is_err());
        assert_eq!(folder.list().unwrap(), []);
    }

    #[test]
    fn small_files_are_replaced_bounded_and_deleted() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path()).unwrap();
        assert_eq!(folder.read("a", 3).unwrap(), None);
        folder.replace("a", b"old").unwrap();
        folder.replace("a", b"new").unwrap();
        assert_eq!(folder.read("a", 3).unwrap().unwrap(), b"new");
        let error = folder.read("a", 2).unwrap_err();
        assert!(error.to_string().contains("longer than 2 bytes"), "{error}");
        assert_eq!(names(scratch.path()), ["a"]);
        folder.delete("a").unwrap();
        folder.delete("a").unwrap();
        assert_eq!(names(scratch.path()), [""; 0]);
    }

    #[test]
    fn a_folder_is_made_only_where_its_parent_is() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(Folder::open(scratch.path().join("a")).is_err());
        let error = Folder::create(scratch.path().join("a/b")).unwrap_err();
        assert!(error.to_string().contains("parent"), "{error}");
    }
}
