//! The checks of `storage test`: can this directory carry the service's data, and will the data stay?
//!
//! In come the volume and what the system says about mounts; out comes a line a check, with the way to put it right.
//! What is written for the test lies in `.stockpredictor` and is removed again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use uuid::Uuid;

use crate::atomic;
use crate::layout::{DIRECTORIES, Layout};
use crate::lock::{Mode, VolumeLock};
use crate::marker::{self, Marker};
use crate::space::{self, Space};

/// From this share of the volume on, in percent, there is a warning.
const WARN_PERCENT: u64 = 80;
/// From this share on the check fails.
const FAIL_PERCENT: u64 = 95;
/// Largest list of mounts that is read.
const MAX_MOUNTS: usize = 4 * 1024 * 1024;
/// Most directories that one line names.
const MAX_NAMED: usize = 5;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Good.
    Ok,
    /// It works, but something needs a person's eye.
    Warning,
    /// It does not work.
    Failed,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A name for programs.
    pub name: &'static str,
    /// How it went.
    pub state: State,
    /// What was found.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    /// A check that is good.
    pub fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            message: message.into(),
            fix: None,
        }
    }

    /// A check that needs a person's eye.
    pub fn warning(name: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Warning,
            message: message.into(),
            fix: Some(fix.into()),
        }
    }

    /// A check that failed.
    pub fn failed(name: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            state: State::Failed,
            ..Self::warning(name, message, fix)
        }
    }
}

/// What the system says about the place where the check runs.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The text of `/proc/self/mountinfo`; empty where there is none.
    pub mounts: String,
    /// Whether this process runs in a container.
    pub in_container: bool,
}

impl Surroundings {
    /// Of this process.
    pub fn look() -> Self {
        let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mounts = &mounts[..mounts.len().min(MAX_MOUNTS)];
        let marks = ["/.dockerenv", "/run/.containerenv"];
        Self {
            mounts: String::from_utf8_lossy(mounts).into_owned(),
            in_container: marks.iter().any(|mark| Path::new(mark).exists())
                || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        }
    }
}

/// Runs all checks. A root that is not there is the only one that is told then.
pub fn run(layout: &Layout, surroundings: &Surroundings) -> Vec<Check> {
    let root = layout.root();
    let shown = root.display();
    match fs::metadata(root) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            let fix = "name the volume's mount point with --root";
            return vec![Check::failed(
                "root",
                format!("{shown} is no directory"),
                fix,
            )];
        }
        Err(error) => {
            let fix =
                format!("mount the volume there, or run `predictor storage setup --root {shown}`");
            return vec![Check::failed("root", format!("{shown}: {error}"), fix)];
        }
    }
    let mut checks = vec![
        marker_check(layout),
        directories(layout),
        permissions(layout),
    ];
    checks.extend(writes(layout));
    checks.push(locks(layout));
    match space::measure(root) {
        Ok(space) => checks.extend(room(&space)),
        Err(error) => checks.push(Check::failed(
            "space",
            format!("the file system's size is unknown: {error}"),
            "check that the volume is mounted",
        )),
    }
    checks.push(mount(root, surroundings));
    checks
}

fn setup_command(layout: &Layout) -> String {
    format!(
        "run `predictor storage setup --root {}`",
        layout.root().display()
    )
}

fn marker_check(layout: &Layout) -> Check {
    let (name, fix) = ("setup", setup_command(layout));
    match Marker::read(layout) {
        Ok(Some(found)) if found.state == marker::State::Ready => {
            Check::ok(name, format!("Set up as volume {}", found.id))
        }
        Ok(Some(_)) => Check::failed(name, "Set up only in part", fix),
        Ok(None) => Check::failed(name, "Not set up yet", fix),
        Err(error) => Check::failed(name, error.to_string(), "see the message"),
    }
}

fn named(paths: &[String]) -> String {
    let mut text = paths[..paths.len().min(MAX_NAMED)].join(", ");
    if paths.len() > MAX_NAMED {
        text.push_str(", …");
    }
    text
}

fn directories(layout: &Layout) -> Check {
    let is_missing = |path: &&&str| {
        let found = layout.join(path).symlink_metadata();
        !found.is_ok_and(|found| found.is_dir())
    };
    let missing: Vec<String> = DIRECTORIES
        .iter()
        .filter(is_missing)
        .map(|path| (*path).to_owned())
        .collect();
    if missing.is_empty() {
        return Check::ok(
            "directories",
            format!("All {} directories exist", DIRECTORIES.len()),
        );
    }
    let message = format!(
        "{} of {} directories are missing: {}",
        missing.len(),
        DIRECTORIES.len(),
        named(&missing)
    );
    Check::failed("directories", message, setup_command(layout))
}

/// Modes and owners of the guide's directories; the walk over all files is setup's.
fn permissions(layout: &Layout) -> Check {
    let mut wrong = Vec::new();
    for path in DIRECTORIES {
        let Ok(found) = layout.join(path).symlink_metadata() else {
            continue;
        };
        let mode = found.permissions().mode() & 0o7777;
        // What kubelet adds for an fsGroup is right as well.
        if mode & 0o755 != 0o755 || mode & 0o002 != 0 {
            wrong.push(format!("{path} has mode {mode:o}"));
        }
    }
    if !wrong.is_empty() {
        let message = format!("Permissions are not 755: {}", named(&wrong));
        return Check::failed("permissions", message, setup_command(layout));
    }
    let user = rustix::process::geteuid().as_raw();
    let foreign = DIRECTORIES.iter().filter(|path| {
        let found = layout.join(path).symlink_metadata();
        found.is_ok_and(|found| found.uid() != user && found.uid() != crate::permission::OWNER)
    });
    let foreign: Vec<String> = foreign.map(|path| (*path).to_owned()).collect();
    if foreign.is_empty() {
        return Check::ok(
            "permissions",
            "Directories have mode 755 and the right owner",
        );
    }
    Check::warning(
        "permissions",
        format!("Other users own {}", named(&foreign)),
        format!("chown -R 1001:1001 {}", layout.root().display()),
    )
}

/// One step of a check, which may be tried.
type Attempt<'a> = &'a dyn Fn() -> io::Result<()>;

/// Writes, reads, syncs and renames a file in the state directory.
fn writes(layout: &Layout) -> Vec<Check> {
    let state = layout.state();
    let first = state.join(format!(".test-{}.partial", Uuid::new_v4()));
    let second = state.join(format!(".test-{}.partial", Uuid::new_v4()));
    let content = [0x5a_u8; 4096];
    let steps: [(&'static str, &str, Attempt<'_>); 4] = [
        ("write", "Files can be written", &|| {
            let mut file = File::create_new(&first)?;
            file.set_permissions(fs::Permissions::from_mode(atomic::FILE_MODE))?;
            file.write_all(&content)
        }),
        ("read", "What was written can be read", &|| {
            if fs::read(&first)? == content {
                Ok(())
            } else {
                Err(io::Error::other("other bytes came back than were written"))
            }
        }),
        ("fsync", "Files can be made durable", &|| {
            File::open(&first)?.sync_all()?;
            File::open(&state)?.sync_all()
        }),
        ("rename", "Files can be replaced atomically", &|| {
            File::create_new(&second)?;
            fs::rename(&first, &second)?;
            if fs::metadata(&second)?.len() == content.len() as u64 {
                Ok(())
            } else {
                Err(io::Error::other("the old file is still there"))
            }
        }),
    ];
    let mut checks = Vec::new();
    for (name, good, step) in steps {
        match step() {
            Ok(()) => checks.push(Check::ok(name, good)),
            Err(error) => {
                let message = format!("{good}: no, {}: {error}", state.display());
                checks.push(Check::failed(name, message, write_fix(layout, &error)));
                // The later ones need what this one would have left.
                break;
            }
        }
    }
    for path in [first, second] {
        // One of them was renamed away, or was never made.
        let _ = fs::remove_file(path);
    }
    checks
}

fn write_fix(layout: &Layout, error: &io::Error) -> String {
    let root = layout.root().display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "chown -R 1001:1001 {root} (in Kubernetes: `fsGroup: 1001` in the pod's security context)"
        ),
        io::ErrorKind::ReadOnlyFilesystem => "mount the volume read-write".to_owned(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("free space with `predictor storage cleanup --root {root}`, or grow the volume")
        }
        io::ErrorKind::NotFound => setup_command(layout),
        _ => "use a file system that supports this, such as ext4, xfs or NFS".to_owned(),
    }
}

/// Whether locks keep two processes apart.
fn locks(layout: &Layout) -> Check {
    let path = layout
        .state()
        .join(format!(".test-{}.partial", Uuid::new_v4()));
    let tried = VolumeLock::try_take(&path, Mode::Exclusive)
        .and_then(|first| Ok((first, VolumeLock::try_take(&path, Mode::Shared)?)));
    let _ = fs::remove_file(&path);
    let fix = "use a file system with flock (an NFS mount must not have the option `nolock`)";
    match tried {
        Ok((Some(_), None)) => Check::ok("locks", "Locks keep processes apart (flock)"),
        Ok(_) => Check::failed("locks", "Locks don't keep processes apart", fix),
        Err(error) => Check::failed("locks", error.to_string(), fix),
    }
}

/// How much room there is, in bytes and in inodes.
pub fn room(space: &Space) -> Vec<Check> {
    let part = |name, what: &str, used: u64, of: u64| {
        // As df: what root alone may use counts as used up.
        let percent = if of == 0 {
            0
        } else {
            u128::from(used) * 100 / u128::from(of)
        };
        let message = format!("{percent} % of the volume's {what} is used");
        let fix =
            "free space with `predictor storage cleanup`, remove old backups, or grow the volume";
        match u64::try_from(percent).unwrap_or(u64::MAX) {
            0..WARN_PERCENT => Check::ok(name, message),
            WARN_PERCENT..FAIL_PERCENT => Check::warning(name, message, fix),
            _ => Check::failed(name, message, fix),
        }
    };
    let bytes = space.used.saturating_add(space.free);
    let inodes_used = space.inodes.saturating_sub(space.inodes_free);
    let mut checks = vec![part("space", "space", space.used, bytes)];
    if space.inodes > 0 {
        checks.push(part(
            "inodes",
            "room for files (inodes)",
            inodes_used,
            space.inodes,
        ));
    }
    checks
}

/// Whether the root is a mount of its own, so that the data outlives the container.
fn mount(root: &Path, surroundings: &Surroundings) -> Check {
    let path = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let is_other_device = path
        .parent()
        .is_some_and(|parent| device(parent) != device(&path));
    let mounted = mount_of(&surroundings.mounts, &path);
    judge_mount(&path, mounted, is_other_device, surroundings.in_container)
}

/// The mount that holds a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mounted {
    point: PathBuf,
    kind: String,
}

fn judge_mount(
    path: &Path,
    mounted: Option<Mounted>,
    is_other_device: bool,
    in_container: bool,
) -> Check {
    let is_mount = mounted
        .as_ref()
        .is_some_and(|mounted| mounted.point == path);
    let kind = mounted.as_ref().map_or("unknown", |mounted| &mounted.kind);
    if is_mount || is_other_device {
        let message = format!("A volume of its own ({kind})");
        if matches!(kind, "tmpfs" | "ramfs") {
            let fix = "mount a volume on a disk; this one is memory";
            return Check::warning("mount", format!("{message}, lost at the next restart"), fix);
        }
        return Check::ok("mount", message);
    }
    match mounted {
        // Below a mounted volume, not on the container's own file system.
        Some(Mounted { point, kind }) if in_container && point != Path::new("/") => Check::ok(
            "mount",
            format!("Below the volume {} ({kind})", point.display()),
        ),
        _ if in_container => Check::warning(
            "mount",
            "Only a folder of the container: its data is lost with it",
            format!(
                "mount a volume at {} (docker run -v, or a PersistentVolumeClaim)",
                path.display()
            ),
        ),
        _ => Check::ok("mount", format!("A folder of this machine's disk ({kind})")),
    }
}

/// Finds the mount that holds `path`: the longest mount point, and of several ones there the last.
fn mount_of(mounts: &str, path: &Path) -> Option<Mounted> {
    let mut found: Option<Mounted> = None;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(point), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else {
            continue;
        };
        let point = PathBuf::from(unescape(point));
        let is_longer = found
            .as_ref()
            .is_none_or(|found| point.as_os_str().len() >= found.point.as_os_str().len());
        if path.starts_with(&point) && is_longer {
            found = Some(Mounted {
                point,
                kind: kind.to_owned(),
            });
        }
    }
    found
}

/// The kernel writes space, tab, newline and backslash as `\040` and the like.
fn unescape(text: &str) -> String {
    let table = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    table
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests;
