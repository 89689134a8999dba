//! The guide's four scripts at the volume's root, which call `predictor` on the volume that they lie on.
//!
//! In comes the volume, out come the scripts where they are missing or are an earlier release's own. Each ends with the
//! SHA-256 of what is above, so that a script that a person changed is known, and stays.

use std::fmt::Write;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;

use sha2::{Digest, Sha256};

use crate::atomic::{self, DIRECTORY_MODE};
use crate::layout::Layout;

/// How the last line begins.
const SEAL: &str = "# Written by `predictor storage setup`, which leaves changed copies alone: ";
/// Largest file that is compared.
const MAX_BYTES: u64 = 64 * 1024;
/// What all scripts begin with: finding the volume and the program.
const HEAD: &str = include_str!("head.sh");

/// A script: its name, what it is for, and its last command.
const SCRIPTS: [(&str, &str, &str); 4] = [
    (
        "backup_data.sh",
        "Backs up the volume that this script lies on; options of `predictor storage backup` may follow.",
        "exec \"$predictor\" storage backup --root \"$root\" \"$@\"\n",
    ),
    (
        "monitor_data.sh",
        "Reports on the volume that this script lies on; options of `predictor storage monitor` may follow.",
        "exec \"$predictor\" storage monitor --root \"$root\" \"$@\"\n",
    ),
    (
        "cleanup_data.sh",
        "Cleans up the volume that this script lies on; options of `predictor storage cleanup` may follow.",
        "exec \"$predictor\" storage cleanup --root \"$root\" \"$@\"\n",
    ),
    (
        "restore_data.sh",
        "Restores the volume that this script lies on: ./restore_data.sh backups/backup_filename.tar.gz. Without an archive it lists them.",
        "if [ $# -eq 0 ]; then
  exec \"$predictor\" storage list --root \"$root\"
fi
archive=$1
shift
if [ ! -e \"$archive\" ] && [ -e \"$root/$archive\" ]; then
  archive=$root/$archive
fi
exec \"$predictor\" storage restore \"$archive\" --root \"$root\" \"$@\"\n",
    ),
];

/// What became of the scripts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Scripts that were written.
    pub written: Vec<String>,
    /// Those that could not be, with the reason.
    pub failed: Vec<String>,
}

/// Names and texts of the scripts.
pub fn all() -> impl Iterator<Item = (&'static str, String)> {
    SCRIPTS.iter().map(|(name, purpose, command)| {
        let body = format!("#!/bin/sh\n# {purpose}\n{HEAD}{command}");
        (*name, format!("{body}{SEAL}{}\n", hash(body.as_bytes())))
    })
}

/// Writes the scripts that are missing or an earlier release's, and makes ours executable.
///
/// A volume works without them, so what can't be written is told and no error.
pub fn install(layout: &Layout) -> Report {
    let mut report = Report::default();
    for (name, text) in all() {
        match install_one(layout, name, &text) {
            Ok(true) => report.written.push(name.to_owned()),
            Ok(false) => {}
            Err(error) => report.failed.push(format!("{name}: {error}")),
        }
    }
    report
}

fn install_one(layout: &Layout, name: &str, text: &str) -> io::Result<bool> {
    let path = layout.join(name);
    match path.symlink_metadata() {
        Ok(found) if found.is_file() && found.len() <= MAX_BYTES => {
            let mut present = Vec::new();
            File::open(&path)?
                .take(MAX_BYTES)
                .read_to_end(&mut present)?;
            if !is_ours(&present) {
                return Ok(false);
            }
            if present == text.as_bytes() {
                if found.permissions().mode() & 0o7777 != DIRECTORY_MODE {
                    fs::set_permissions(&path, Permissions::from_mode(DIRECTORY_MODE))?;
                }
                return Ok(false);
            }
        }
        // A link, a directory or something long is a person's.
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    atomic::write_script(&path, text.as_bytes())?;
    Ok(true)
}

/// Whether a text is one of ours that nobody changed.
fn is_ours(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let Some(at) = text.rfind(SEAL) else {
        return false;
    };
    let (body, seal) = text.split_at(at);
    seal.strip_prefix(SEAL) == Some(&format!("{}\n", hash(body.as_bytes())))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn volume() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a volume's $(root)");
        fs::create_dir(&root).unwrap();
        (folder, Layout::new(root))
    }

    #[test]
    fn scripts_are_written_once_and_a_changed_one_stays() {
        let (_folder, layout) = volume();
        assert_eq!(install(&layout).written.len(), 4);
        assert_eq!(install(&layout), Report::default());
        let changed = layout.join("backup_data.sh");
        let text = fs::read_to_string(&changed)
            .unwrap()
            .replace("exec", "echo mine; exec");
        fs::write(&changed, &text).unwrap();
        // What an earlier release wrote is known by its own seal.
        let body = "#!/bin/sh\necho earlier\n";
        let earlier = format!("{body}{SEAL}{}\n", hash(body.as_bytes()));
        fs::write(layout.join("monitor_data.sh"), earlier).unwrap();
        fs::set_permissions(
            layout.join("cleanup_data.sh"),
            Permissions::from_mode(0o644),
        )
        .unwrap();
        assert_eq!(install(&layout).written, ["monitor_data.sh"]);
        assert_eq!(fs::read_to_string(&changed).unwrap(), text);
        let mode = fs::metadata(layout.join("cleanup_data.sh"))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o7777, 0o755);
    }

    #[test]
    fn scripts_call_the_program_on_their_own_volume_from_any_directory() {
        let (folder, layout) = volume();
        install(&layout);
        fs::create_dir(layout.join("backups")).unwrap();
        fs::write(layout.join("backups/a b.tar.gz"), "").unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "#!/bin/sh\nfor word; do echo \"$word\"; done\n").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let run = |script: &str, arguments: &[&str]| {
            let done = Command::new(layout.join(script))
                .args(arguments)
                .env("PREDICTOR", &program)
                .current_dir("/")
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
            let text = String::from_utf8(done.stdout).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let root = fs::canonicalize(layout.root()).unwrap();
        let root = root.to_str().unwrap();
        for command in ["backup", "monitor", "cleanup"] {
            let words = run(&format!("{command}_data.sh"), &["--output", "json"]);
            assert_eq!(
                words,
                ["storage", command, "--root", root, "--output", "json"]
            );
        }
        assert_eq!(
            run("restore_data.sh", &[]),
            ["storage", "list", "--root", root]
        );
        let archive = format!("{root}/backups/a b.tar.gz");
        let words = run("restore_data.sh", &["backups/a b.tar.gz", "--yes"]);
        assert_eq!(
            words,
            ["storage", "restore", &archive, "--root", root, "--yes"]
        );
        let words = run("restore_data.sh", &["latest"]);
        assert_eq!(words, ["storage", "restore", "latest", "--root", root]);
    }

    #[test]
    fn without_the_program_a_script_says_how_to_get_it() {
        let (_folder, layout) = volume();
        install(&layout);
        let done = Command::new("/bin/sh")
            .arg(layout.join("backup_data.sh"))
            .env_clear()
            .env("PATH", "/nonexistent:/usr/bin:/bin")
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(1));
        let message = String::from_utf8(done.stderr).unwrap();
        assert!(message.contains("PREDICTOR="), "{message}");
    }
}
