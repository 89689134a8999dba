//! Put: files and model versions onto a volume, as a tar from a stream.
//!
//! In come a path below the root and a tar, plain or gzip; out comes the whole of it under that path, or nothing. It
//! is unpacked beside its place, checked, made durable, and renamed. Versions of models are never replaced; the same one
//! may be put again, which finishes what was cut off.

mod same;
mod target;
mod unpack;

use std::ffi::CString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode as Bits, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::Serialize;
use uuid::Uuid;

pub use target::{Target, TargetError};
pub use unpack::{Limits, UnpackError, Unpacked};

use crate::archive::path::RelativePath;
use crate::atomic::{self, DIRECTORY_MODE, UNFINISHED_DIRECTORY};
use crate::descriptor;
use crate::layout::Layout;
use crate::progress::Progress;
use crate::restore::{self, Access, AllowSwitched, JournalError};
use crate::space;

/// How long put waits for a restore.
const LOCK_PATIENCE: Duration = Duration::from_mins(1);
/// So much stays free for the service.
const RESERVE: u64 = 16 * 1024 * 1024;
/// Most files and directories of one put.
const MAX_ENTRIES: u64 = 1_000_000;

/// Looks at what was unpacked, before it gets its name; an error's text is told to the user.
pub type Inspect<'a> = &'a dyn Fn(&Path) -> Result<(), String>;

/// What is put where.
pub struct Request<'a> {
    /// Where it goes.
    pub target: Target,
    /// Whether a single file may replace one that is there.
    pub force: bool,
    /// Whether a model version becomes the current one.
    pub activate: bool,
    /// Checks a model version.
    pub inspect: Inspect<'a>,
}

impl Request<'_> {
    /// Whether a file that is there may go; never one of a model.
    fn may_replace(&self) -> bool {
        self.force && !self.target.is_model()
    }
}

/// What was put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where it lies now, relative to the root.
    pub path: RelativePath,
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether it is the model's current version now.
    pub activated: bool,
}

/// Why nothing was put.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// There is something already.
    #[error(
        "{path} is there already and stays as it is: versions are immutable, so choose another name; a single file is replaced with --force"
    )]
    Exists {
        /// The path below the root.
        path: String,
    },
    /// A directory of the volume's tree is missing.
    #[error("{root} has no {path}: run `predictor storage setup --root {root}` first")]
    NoVolume {
        /// The root.
        root: String,
        /// What is missing.
        path: String,
    },
    /// The stream is refused.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The model does not pass its checks.
    #[error("the model is refused and nothing was put: {reason}")]
    Refused {
        /// What the check said.
        reason: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Use {
        /// What it was about.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The version is there, but not in use.
    #[error(
        "{path} was put, but could not be made the current version: {source}: free space or repair the permissions, then put it again"
    )]
    Activate {
        /// The version.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A restore is at work or not done.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A directory of ours beside the target; gone when it is dropped, unless it got its name.
struct Scratch<'a> {
    parent: &'a OwnedFd,
    name: CString,
    opened: OwnedFd,
    path: PathBuf,
}

impl<'a> Scratch<'a> {
    fn make(parent: &'a OwnedFd, parent_path: &Path) -> io::Result<Self> {
        let name = format!(".put-{}{UNFINISHED_DIRECTORY}", Uuid::new_v4());
        let path = parent_path.join(&name);
        let name = CString::new(name)?;
        rustix::fs::mkdirat(parent, &name, Bits::from_raw_mode(DIRECTORY_MODE))?;
        let opened = descriptor::open_child(parent, &name)?;
        rustix::fs::fchmod(&opened, Bits::from_raw_mode(DIRECTORY_MODE))?;
        // Cleanup leaves it alone as long as this is held; without locks, for an hour.
        let _ = rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive);
        Ok(Self {
            parent,
            name,
            opened,
            path,
        })
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // After the rename there is nothing of this name; what can't be removed now, cleanup removes.
        let _ = crate::cleanup::remove_tree(self.parent, &self.name);
    }
}

/// Unpacks `input` and gives it its name.
pub fn run(
    layout: &Layout,
    request: &Request<'_>,
    input: &mut dyn Read,
    progress: &dyn Progress,
) -> Result<Report, PutError> {
    let target = &request.target;
    let shown = layout.join(target.path().as_path()).display().to_string();
    let failed = |source| PutError::Use {
        path: shown.clone(),
        source,
    };
    let missing = |path: &str| PutError::NoVolume {
        root: layout.root().display().to_string(),
        path: path.to_owned(),
    };
    let volume = descriptor::open_root(layout.root()).map_err(failed)?;
    if !layout.marker().is_file() {
        return Err(missing("marker of a volume"));
    }
    // A restore that was cut off would put what it set aside over this.
    let (_lock, _) = restore::enter(layout, Access::Write, AllowSwitched::No, LOCK_PATIENCE)?;
    let parent = target.parent();
    let folder = open_parent(&volume, target).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => missing(&target.base().to_string()),
        _ => failed(source),
    })?;
    let is_taken = is_taken(&folder, request, &shown)?;
    let scratch = Scratch::make(&folder, &layout.join(parent.as_path())).map_err(failed)?;
    let room = space::measure(layout.root()).map_err(failed)?;
    let limits = Limits {
        bytes: room.free.saturating_sub(RESERVE),
        entries: MAX_ENTRIES,
    };
    progress.step("Unpacking");
    let unpacked = unpack::unpack(input, &scratch.opened, &limits, progress)?;
    let content = content_of(target, &unpacked);
    let name = target.path().name();
    if is_taken && !is_there(&folder, &scratch, content.as_deref(), name) {
        return Err(PutError::Exists { path: shown });
    }
    if target.model_version().is_some() {
        let path = content
            .as_ref()
            .map_or_else(|| scratch.path.clone(), |name| scratch.path.join(name));
        (request.inspect)(&path).map_err(|reason| PutError::Refused { reason })?;
    }
    // One call for all files: they and their directories are durable before one of them has its name.
    rustix::fs::syncfs(&scratch.opened)
        .map_err(io::Error::from)
        .map_err(failed)?;
    publish(&folder, &scratch, content.as_deref(), request, &shown)?;
    descriptor::sync(&folder).map_err(failed)?;
    let mut report = Report {
        path: target.path().clone(),
        files: unpacked.files,
        bytes: unpacked.bytes,
        activated: false,
    };
    if let (Some(version), true) = (target.model_version(), request.activate) {
        activate(&folder, version).map_err(|source| PutError::Activate {
            path: shown.clone(),
            source,
        })?;
        report.activated = true;
    }
    Ok(report)
}

/// Opens the directory that the target lies in; those below the volume's own directory are made where they are missing.
fn open_parent(root: &OwnedFd, target: &Target) -> io::Result<OwnedFd> {
    let mut opened = descriptor::open_below(root, target.base())?;
    for name in target.between() {
        match rustix::fs::mkdirat(&opened, name, Bits::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) => {
                let made = descriptor::open_child(&opened, name)?;
                rustix::fs::fchmod(&made, Bits::from_raw_mode(DIRECTORY_MODE))?;
                descriptor::sync(&opened)?;
                opened = made;
            }
            Err(Errno::EXIST) => opened = descriptor::open_child(&opened, name)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(opened)
}

/// Whether a version is there that may be the same, which is seen once this one is unpacked. What else is there is
/// refused.
fn is_taken(parent: &OwnedFd, request: &Request<'_>, shown: &str) -> Result<bool, PutError> {
    match descriptor::facts(parent, request.target.path().name()) {
        Ok(found) if found.kind == FileType::RegularFile && request.may_replace() => Ok(false),
        Ok(found) if found.kind == FileType::Directory && request.target.is_model() => Ok(true),
        Ok(_) => Err(PutError::Exists {
            path: shown.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(PutError::Use {
            path: shown.to_owned(),
            source,
        }),
    }
}

/// What of the unpacked tree gets the target's name: an only entry of that name, or all of it.
///
/// `tar -c 2024-01-02` and `tar -C 2024-01-02 -c .` both put a version, and a single file is put by its name.
fn content_of(target: &Target, unpacked: &Unpacked) -> Option<PathBuf> {
    let [only] = unpacked.top_level.as_slice() else {
        return None;
    };
    let name = target.path().name();
    let is_wanted =
        only.name == name || !only.is_directory && unpacked.files == 1 && !target.is_model();
    is_wanted.then(|| {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(std::ffi::OsStr::from_bytes(&only.name))
    })
}

fn publish(
    parent: &OwnedFd,
    scratch: &Scratch<'_>,
    content: Option<&Path>,
    request: &Request<'_>,
    shown: &str,
) -> Result<(), PutError> {
    let name = request.target.path().name();
    let is_file = content.is_some_and(|content| {
        let found = descriptor::facts(&scratch.opened, content);
        found.is_ok_and(|found| found.kind == FileType::RegularFile)
    });
    let flags = if is_file && request.may_replace() {
        RenameFlags::empty()
    } else {
        RenameFlags::NOREPLACE
    };
    let renamed = match content {
        Some(content) => rename(&scratch.opened, content, parent, name, flags),
        None => rename(parent, scratch.name.as_c_str(), parent, name, flags),
    };
    match renamed {
        Ok(()) => Ok(()),
        Err(Errno::EXIST | Errno::NOTEMPTY | Errno::ISDIR) => {
            if request.target.is_model() && is_there(parent, scratch, content, name) {
                return Ok(());
            }
            Err(PutError::Exists {
                path: shown.to_owned(),
            })
        }
        Err(other) => Err(PutError::Use {
            path: shown.to_owned(),
            source: other.into(),
        }),
    }
}

/// Whether the version that is there is this one. What can't be read isn't known to be.
fn is_there(parent: &OwnedFd, scratch: &Scratch<'_>, content: Option<&Path>, name: &[u8]) -> bool {
    let compare = || -> io::Result<bool> {
        let there = descriptor::open_child(parent, name)?;
        match content {
            Some(content) => {
                same::holds(&there, &descriptor::open_child(&scratch.opened, content)?)
            }
            None => same::holds(&there, &scratch.opened),
        }
    };
    compare().unwrap_or(false)
}

fn rename(
    from: &OwnedFd,
    old: impl rustix::path::Arg + Copy,
    to: &OwnedFd,
    new: &[u8],
    flags: RenameFlags,
) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, old, to, new, flags) {
        // Some network file systems can't refuse to replace; a name that is there was looked for before.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match rustix::fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => rustix::fs::renameat(from, old, to, new),
                Ok(_) => Err(Errno::EXIST),
                Err(error) => Err(error),
            }
        }
        renamed => renamed,
    }
}

/// Writes the name of the version into `current`, which lies beside it.
fn activate(model: &OwnedFd, version: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let partial = format!(".current.{}.partial", Uuid::new_v4());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Bits::from_raw_mode(atomic::FILE_MODE);
    let write = || -> io::Result<()> {
        let mut file = std::fs::File::from(rustix::fs::openat(model, &partial, flags, mode)?);
        rustix::fs::fchmod(&file, mode)?;
        file.write_all(&[version, b"\n"].concat())?;
        file.sync_all()?;
        rustix::fs::renameat(model, &partial, model, "current")?;
        descriptor::sync(model)
    };
    let written = write();
    if written.is_err() {
        // The first error is what the user has to know.
        let _ = rustix::fs::unlinkat(model, &partial, AtFlags::empty());
    }
    written
}
