//! The walk: every directory below the root once, depth first, by descriptors.
//!
//! In come rules and the open root; out come removed files and a report. Links are never followed, depth and memory
//! are bounded, and a directory that can't be read is told and left out.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::remove::{self, Claim, Gone};
use super::rule::{self, Place};
use super::scored::Scored;
use super::{Report, Request, SETTLED};
use crate::descriptor::{self, Facts};
use crate::layout::DIRECTORIES;
use crate::progress::Progress;

/// Directories deeper than this are left alone: each level holds a descriptor and a buffer.
pub(super) const MAX_DEPTH: usize = 128;

/// One cleanup.
pub struct Walk<'a> {
    root: &'a OwnedFd,
    request: &'a Request,
    progress: &'a dyn Progress,
    report: &'a mut Report,
    scored: Scored,
    kept_directories: BTreeSet<&'static [u8]>,
}

/// A directory that is being looked at.
struct Directory<'a> {
    opened: &'a OwnedFd,
    path: &'a [u8],
    place: Place,
    depth: usize,
}

impl Directory<'_> {
    fn child(&self, name: &CStr) -> Vec<u8> {
        if self.path.is_empty() {
            return name.to_bytes().to_vec();
        }
        [self.path, b"/", name.to_bytes()].concat()
    }
}

impl<'a> Walk<'a> {
    pub fn new(
        root: &'a OwnedFd,
        request: &'a Request,
        progress: &'a dyn Progress,
        report: &'a mut Report,
    ) -> Self {
        Self {
            root,
            request,
            progress,
            report,
            scored: Scored::new(root),
            kept_directories: DIRECTORIES.iter().map(|path| path.as_bytes()).collect(),
        }
    }

    pub fn run(mut self) {
        let root = Directory {
            opened: self.root,
            path: b"",
            place: Place::Other,
            depth: 0,
        };
        self.directory(&root);
    }

    /// Cleans up a directory and returns how many entries stay in it.
    fn directory(&mut self, directory: &Directory<'_>) -> u64 {
        let mut stay = 0;
        let listed = descriptor::each_name(directory.opened, &mut Vec::new(), |name, kind| {
            match self.entry(directory, name, kind) {
                Ok(Gone::Removed) => {}
                Ok(Gone::Kept) => stay += 1,
                // What is gone already needs no cleanup.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    stay += 1;
                    self.report.warn(&shown(&directory.child(name)), &error);
                }
            }
            Ok(())
        });
        if let Err(error) = listed {
            stay += 1;
            self.report.warn(&shown(directory.path), &error);
        }
        stay
    }

    fn entry(
        &mut self,
        directory: &Directory<'_>,
        name: &CStr,
        kind: FileType,
    ) -> io::Result<Gone> {
        let ours = remove::is_unfinished(name.to_bytes());
        if kind != FileType::Directory
            && kind != FileType::Unknown
            && directory.place == Place::Other
            && !ours
        {
            return Ok(Gone::Kept);
        }
        let facts = descriptor::facts(directory.opened, name)?;
        if facts.kind == FileType::Directory {
            return self.subdirectory(directory, name, &facts);
        }
        let age = facts.age(self.request.now);
        if let Some(original) = remove::original_of(name.to_bytes()) {
            return self.put_aside(directory, name, &original, &facts, age);
        }
        if ours {
            if facts.kind != FileType::RegularFile || age <= SETTLED {
                return Ok(Gone::Kept);
            }
            let claim = remove::claim(directory.opened, name);
            if matches!(claim, Claim::Taken) {
                return Ok(Gone::Kept);
            }
            return self.remove(directory, name, &facts, Sort::Temporary);
        }
        self.ruled(directory, name, &facts, age)
    }

    /// A file of a place that has a rule.
    fn ruled(
        &mut self,
        directory: &Directory<'_>,
        name: &CStr,
        facts: &Facts,
        age: Duration,
    ) -> io::Result<Gone> {
        let place = directory.place;
        let retention = &self.request.retention;
        if !place.is_old(name.to_bytes(), facts.kind, age, retention) {
            return Ok(Gone::Kept);
        }
        match place {
            Place::Other => Ok(Gone::Kept),
            Place::Cache => self.remove(directory, name, facts, Sort::Cache),
            Place::Predictions => {
                let scored = rule::prediction_of(name.to_bytes())
                    .is_some_and(|(symbol, target)| self.scored.has(symbol, target));
                if !scored && !rule::has_waited(age) {
                    self.report.unscored += 1;
                    return Ok(Gone::Kept);
                }
                self.remove(directory, name, facts, Sort::Predictions)
            }
            Place::Logs => {
                // The service holds a lock on the files that it writes, however long ago the last line was.
                let claim = match facts.kind {
                    FileType::RegularFile => remove::claim(directory.opened, name),
                    _ => Claim::Unknown,
                };
                let is_live_name = is_live_log(name.to_bytes());
                match claim {
                    Claim::Taken => Ok(Gone::Kept),
                    Claim::Unknown if is_live_name => Ok(Gone::Kept),
                    Claim::Ours(_) | Claim::Unknown => {
                        self.remove(directory, name, facts, Sort::Logs)
                    }
                }
            }
        }
    }

    /// A file that a killed cleanup had put aside: it goes if it would under its own name, else it gets that back.
    fn put_aside(
        &mut self,
        directory: &Directory<'_>,
        name: &CStr,
        original: &CString,
        facts: &Facts,
        age: Duration,
    ) -> io::Result<Gone> {
        let place = directory.place;
        let retention = &self.request.retention;
        let is_temporary = remove::is_unfinished(original.to_bytes()) && age > SETTLED;
        if is_temporary || place.is_old(original.to_bytes(), facts.kind, age, retention) {
            return self.remove(directory, name, facts, Sort::Temporary);
        }
        if !self.request.dry_run {
            remove::put_back(directory.opened, name, original)?;
        }
        Ok(Gone::Kept)
    }

    fn subdirectory(
        &mut self,
        directory: &Directory<'_>,
        name: &CStr,
        facts: &Facts,
    ) -> io::Result<Gone> {
        let path = directory.child(name);
        let Some(place) = Place::of(&path) else {
            return Ok(Gone::Kept);
        };
        let is_settled = facts.age(self.request.now) > SETTLED;
        if remove::is_unfinished_directory(name.to_bytes()) {
            return if is_settled {
                self.remove_unfinished_directory(directory, name)
            } else {
                Ok(Gone::Kept)
            };
        }
        if directory.depth >= MAX_DEPTH {
            return Err(io::Error::other("directories are nested too deeply"));
        }
        let opened = descriptor::open_child(directory.opened, name)?;
        let stay = self.directory(&Directory {
            opened: &opened,
            path: &path,
            place,
            depth: directory.depth + 1,
        });
        let may_go = place.loses_empty_directories()
            && is_settled
            && stay == 0
            && !self.kept_directories.contains(path.as_slice());
        if !may_go {
            return Ok(Gone::Kept);
        }
        if !self.request.dry_run {
            match rustix::fs::unlinkat(directory.opened, name, AtFlags::REMOVEDIR) {
                Ok(()) => {}
                // Someone put a file into it meanwhile.
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Gone::Kept),
                Err(error) => return Err(error.into()),
            }
        }
        self.report.directories += 1;
        Ok(Gone::Removed)
    }

    fn remove_unfinished_directory(
        &mut self,
        directory: &Directory<'_>,
        name: &CStr,
    ) -> io::Result<Gone> {
        let Claim::Ours(_lock) = remove::claim(directory.opened, name) else {
            return Ok(Gone::Kept);
        };
        if self.request.dry_run {
            self.report.directories += 1;
            return Ok(Gone::Removed);
        }
        let bytes = remove::remove_tree(directory.opened, name, MAX_DEPTH)?;
        self.report.temporary.bytes += bytes;
        self.report.directories += 1;
        Ok(Gone::Removed)
    }

    fn remove(
        &mut self,
        directory: &Directory<'_>,
        name: &CStr,
        facts: &Facts,
        sort: Sort,
    ) -> io::Result<Gone> {
        let gone = if self.request.dry_run {
            Gone::Removed
        } else {
            remove::remove(directory.opened, name, facts)?
        };
        if gone == Gone::Removed {
            let removed = match sort {
                Sort::Cache => &mut self.report.cache,
                Sort::Logs => &mut self.report.logs,
                Sort::Predictions => &mut self.report.predictions,
                Sort::Temporary => &mut self.report.temporary,
            };
            let freed = if facts.links > 1 { 0 } else { facts.size };
            removed.files += 1;
            removed.bytes += freed;
            self.progress.advance(1, freed);
        }
        Ok(gone)
    }
}

/// Where a removed file is counted.
#[derive(Clone, Copy)]
enum Sort {
    Cache,
    Logs,
    Predictions,
    Temporary,
}

/// The names under which the service writes now.
fn is_live_log(name: &[u8]) -> bool {
    let names: [&[u8]; 4] = [
        b"application.log",
        b"prediction.log",
        b"api.log",
        b"error.log",
    ];
    names.contains(&name)
}

fn shown(path: &[u8]) -> String {
    match crate::archive::path::RelativePath::new(path) {
        Ok(path) => path.to_string(),
        Err(_) => ".".to_owned(),
    }
}
