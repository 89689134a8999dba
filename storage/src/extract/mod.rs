//! Unpacking a backup into an empty directory.
//!
//! In come a chain of archives and what is wanted; out comes a tree with the archive's modes and times, every hash
//! checked. First the manifests are read and directories made, then files are written by several threads, then links
//! are made and directories get their modes and times, deepest first.

pub(crate) mod pass;
pub(crate) mod places;
pub(crate) mod queue;
pub(crate) mod tree;
pub(crate) mod work;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use self::pass::{Pass, Purpose};
use self::places::Order;
use self::tree::{Cursor, Tree};
use self::work::Faults;
use crate::archive::digest::Digest;
use crate::archive::manifest::{Attributes, Content, Entry, Place};
use crate::archive::path::RelativePath;
use crate::chain::Chain;
use crate::progress::Progress;
use crate::snapshot::{Extracted, SnapshotError};

/// What the manifests of a chain say, found before anything is unpacked.
pub(crate) struct Survey {
    /// For each link the places of entries out of order.
    pub late: Vec<BTreeSet<Place>>,
    /// For each link its manifest's SHA-256.
    pub digests: Vec<Digest>,
    /// Files that are wanted.
    pub wanted: Extracted,
    /// Whether all of the state is wanted.
    pub is_everything: bool,
}

/// Reads all manifests once; `each` is called for every entry of the state that is wanted, and told whether it is.
pub(crate) fn survey(
    chain: &Chain,
    wanted: &dyn Fn(&RelativePath) -> bool,
    each: &mut dyn FnMut(&Entry, bool) -> Result<(), SnapshotError>,
) -> Result<Survey, SnapshotError> {
    let mut merge = chain.merge()?;
    let mut orders: Vec<Order> = chain.links().map(|_| Order::default()).collect();
    let mut files = Extracted::default();
    let mut is_everything = true;
    while let Some(step) = merge.next_step()? {
        let entry = &step.entry;
        let order = orders.get_mut(step.link);
        if let (Some(order), Some(link)) = (order, chain.links().nth(step.link)) {
            order
                .push(entry)
                .map_err(|reason| link.archive.hostile(format!("{}: {reason}", entry.path)))?;
        }
        if !step.is_current {
            continue;
        }
        let is_wanted = wanted(&entry.path);
        is_everything &= is_wanted;
        if is_wanted && let Content::File { size, .. } = entry.content {
            files.files += 1;
            files.bytes = files.bytes.saturating_add(size);
        }
        each(entry, is_wanted)?;
    }
    Ok(Survey {
        late: orders.into_iter().map(Order::finish).collect(),
        digests: merge.digests(),
        wanted: files,
        is_everything,
    })
}

/// Unpacks what is wanted into `target`.
pub(crate) fn extract(
    chain: &Chain,
    wanted: &(dyn Fn(&RelativePath) -> bool + Sync),
    target: &Path,
    progress: &dyn Progress,
) -> Result<Extracted, SnapshotError> {
    let at = |path: &Path, source: io::Error| SnapshotError::Use {
        path: target.join(path).display().to_string(),
        source,
    };
    let tree = Tree::open(target).map_err(|error| at(Path::new(""), error))?;
    let mut cursor = Cursor::new(&tree);
    let mut directories = Directories::default();
    let survey = survey(chain, wanted, &mut |entry, is_wanted| {
        directories.enter(entry, is_wanted, &mut |step| match step {
            Walk::In(path) => cursor
                .make_directory(path)
                .map_err(|error| at(path.as_path(), error)),
            Walk::Out(..) => Ok(()),
        })
    })?;
    progress.expect(survey.wanted.files, survey.wanted.bytes);
    let is_whole = survey.is_everything || chain.is_pinned();
    let faults = Faults::new(false);
    let mut done = Extracted::default();
    let parts = survey.late.into_iter().zip(&survey.digests);
    for (index, (link, (late, manifest))) in chain.links().zip(parts).enumerate() {
        let pass = Pass {
            chain,
            link: index,
            archive: &link.archive,
            expected: link.expected,
            late,
            manifest: *manifest,
            purpose: Purpose::Extract {
                tree: &tree,
                wanted,
                is_everything: survey.is_everything,
            },
            is_whole,
            threads: chain.threads(),
            faults: &faults,
            progress,
        };
        let files = pass.run().files;
        done.files += files.files;
        done.bytes += files.bytes;
        if faults.is_stopped() {
            break;
        }
    }
    if let Some(fault) = faults.into_found().into_iter().next() {
        return Err(match fault {
            SnapshotError::Use { path, source } => at(Path::new(&path), source),
            other => other,
        });
    }
    finish(chain, wanted, &mut cursor, &at)?;
    tree.sync().map_err(|error| at(Path::new(""), error))?;
    Ok(done)
}

/// Makes links and gives directories their modes and times.
fn finish(
    chain: &Chain,
    wanted: &dyn Fn(&RelativePath) -> bool,
    cursor: &mut Cursor<'_>,
    at: &dyn Fn(&Path, io::Error) -> SnapshotError,
) -> Result<(), SnapshotError> {
    let mut directories = Directories::default();
    let mut merge = chain.merge()?;
    while let Some(step) = merge.next_step()? {
        let entry = &step.entry;
        if !step.is_current {
            continue;
        }
        let is_wanted = wanted(&entry.path);
        directories.enter(entry, is_wanted, &mut |walk| leave(cursor, &walk, at))?;
        if let (
            true,
            Content::Symlink {
                attributes, target, ..
            },
        ) = (is_wanted, &entry.content)
        {
            cursor
                .link(&entry.path, &target.0, attributes)
                .map_err(|error| at(entry.path.as_path(), error))?;
        }
    }
    directories.leave_all(&mut |walk| leave(cursor, &walk, at))
}

fn leave(
    cursor: &mut Cursor<'_>,
    walk: &Walk<'_>,
    at: &dyn Fn(&Path, io::Error) -> SnapshotError,
) -> Result<(), SnapshotError> {
    match walk {
        Walk::In(_) => Ok(()),
        Walk::Out(path, attributes) => cursor
            .finish_directory(path, attributes)
            .map_err(|error| at(path.as_path(), error)),
    }
}

/// A step of a walk over directories that are wanted or have something wanted in them.
enum Walk<'walk> {
    In(&'walk RelativePath),
    Out(&'walk RelativePath, &'walk Attributes),
}

/// The directories around the last entry of a sorted list.
#[derive(Default)]
struct Directories(Vec<Around>);

struct Around {
    path: RelativePath,
    attributes: Attributes,
    is_entered: bool,
}

impl Directories {
    /// Takes the next entry: leaves directories that it isn't in, enters those that are needed for it.
    fn enter(
        &mut self,
        entry: &Entry,
        is_wanted: bool,
        walk: &mut dyn FnMut(Walk<'_>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        while let Some(last) = self
            .0
            .pop_if(|last| !entry.path.is_within(last.path.as_bytes()))
        {
            if last.is_entered {
                walk(Walk::Out(&last.path, &last.attributes))?;
            }
        }
        if let Content::Directory { attributes, .. } = entry.content {
            self.0.push(Around {
                path: entry.path.clone(),
                attributes,
                is_entered: false,
            });
        }
        if is_wanted {
            for around in self.0.iter_mut().filter(|around| !around.is_entered) {
                walk(Walk::In(&around.path))?;
                around.is_entered = true;
            }
        }
        Ok(())
    }

    fn leave_all(
        &mut self,
        walk: &mut dyn FnMut(Walk<'_>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        while let Some(last) = self.0.pop() {
            if last.is_entered {
                walk(Walk::Out(&last.path, &last.attributes))?;
            }
        }
        Ok(())
    }
}
