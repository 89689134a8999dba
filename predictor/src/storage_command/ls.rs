//! `predictor storage ls`: what lies on a volume whose image has no shell.
//!
//! In comes a path below the root, out goes a list like that of `ls -l`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt;

use anyhow::Context;
use jiff::tz::TimeZone;
use stockpredictor_storage::archive::path::RelativePath;
use stockpredictor_storage::list_files::{self, Listing};
use stockpredictor_storage::restore::AllowSwitched;

use super::exit::Outcome;
use super::output::grouped;
use super::{Common, settle};

/// Options of `predictor storage ls`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor storage ls --root ./persistent_data
  predictor storage ls ml_models/nvda_lstm_model
  kubectl exec nvda-0 -- predictor storage ls backups --output json

Links are shown, never followed. Times are UTC.")]
pub struct Args {
    /// What to list, relative to the root.
    #[arg(value_name = "PATH")]
    path: Option<OsString>,
    /// Most entries that are listed.
    #[arg(long, value_name = "COUNT", default_value_t = list_files::DEFAULT_LIMIT)]
    limit: usize,
    #[command(flatten)]
    common: Common,
}

/// Lists a directory.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let path = args.path.clone().map(relative).transpose()?.flatten();
    let layout = args.common.layout();
    settle::first(&layout, AllowSwitched::Yes)?;
    let listing = list_files::list(layout.root(), path.as_ref(), args.limit)?;
    args.common.output.print(&listing, || text(&listing))?;
    Ok(Outcome::Done)
}

/// A path as people write it: `./a/b/` is `a/b`, and `.` is the root.
pub fn relative(text: OsString) -> anyhow::Result<Option<RelativePath>> {
    let shown = text.to_string_lossy().into_owned();
    let bytes = text.into_vec();
    let names: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'/')
        .filter(|name| *name != b".")
        .collect();
    let mut bytes = names.join(&b"/"[..]);
    while bytes.ends_with(b"/") && bytes.len() > 1 {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let path = RelativePath::new(bytes);
    let path = path.with_context(|| format!("{shown:?} is not a path below the root"))?;
    Ok(Some(path))
}

fn text(listing: &Listing) -> String {
    let width = listing.entries.iter().map(|entry| entry.size).max();
    let width = width.unwrap_or_default().to_string().len();
    let mut lines = String::new();
    for entry in &listing.entries {
        let time = entry.modified.map_or_else(
            || "(no date)       ".to_owned(),
            |time| {
                let time = TimeZone::UTC.to_datetime(time);
                time.strftime("%Y-%m-%d %H:%M").to_string()
            },
        );
        let _ = writeln!(
            lines,
            "{}{} {:>5} {:>5} {:>width$} {time} {}",
            entry.kind.letter(),
            permissions(entry.mode),
            entry.user,
            entry.group,
            entry.size,
            entry.name
        );
    }
    let listed = listing.entries.len() as u64;
    if listing.total > listed {
        let _ = writeln!(
            lines,
            "({} of {} entries; --limit shows more)",
            grouped(listed),
            grouped(listing.total)
        );
    }
    lines
}

/// `rwxr-xr-x`; setuid, setgid and sticky as in `ls -l`.
fn permissions(mode: u32) -> String {
    let special = [
        (0o4000, 2, 's', 'S'),
        (0o2000, 5, 's', 'S'),
        (0o1000, 8, 't', 'T'),
    ];
    let mut letters: Vec<char> = "rwxrwxrwx"
        .chars()
        .enumerate()
        .map(|(index, letter)| {
            if mode & (0o400 >> index) == 0 {
                '-'
            } else {
                letter
            }
        })
        .collect();
    for (bit, index, with, without) in special {
        if mode & bit != 0 {
            letters[index] = if letters[index] == 'x' { with } else { without };
        }
    }
    letters.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_shown_as_ls_does() {
        let table = [
            (0o644, "rw-r--r--"),
            (0o755, "rwxr-xr-x"),
            (0o2775, "rwxrwsr-x"),
            (0o4644, "rwSr--r--"),
            (0o1777, "rwxrwxrwt"),
        ];
        for (mode, expected) in table {
            assert_eq!(permissions(mode), expected);
        }
    }

    #[test]
    fn paths_are_taken_as_people_write_them() {
        for text in ["", ".", "./"] {
            assert_eq!(relative(text.into()).unwrap(), None, "{text}");
        }
        for text in ["a/b", "./a/b", "a/b/", "./a/./b//"] {
            let path = relative(text.into()).unwrap().unwrap();
            assert_eq!(path.as_bytes(), b"a/b", "{text}");
        }
        for text in ["..", "a/../b", "/etc", "a//b", "/"] {
            assert!(relative(text.into()).is_err(), "{text}");
        }
    }
}
