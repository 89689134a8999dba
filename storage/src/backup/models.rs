//! A model's files belong together: its configuration names the hashes of the files beside it.
//!
//! In comes a version folder that was stored, out go its own files again while they don't match and change.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;

use rustix::fs::FileType;
use serde::Deserialize;

use super::engine::Failed;
use super::plan::Store;
use super::report::Warning;
use super::store::Coordinator;
use super::writer::{Note, Told};
use crate::archive::category::Category;
use crate::archive::digest::Digest;
use crate::archive::manifest::{Attributes, Content};
use crate::archive::path::RelativePath;
use crate::walk::{Item, ItemKind};

/// How often a model's folder is read again.
const MODEL_RETRIES: usize = 3;
/// Files of a model whose hashes its configuration has.
const HASHED: [&str; 2] = [FIRST_OWN, "scaler.json"];
const CONFIG: &str = "model_config.json";
/// The one of them that comes first in a manifest.
pub(super) const FIRST_OWN: &str = "model.onnx";

/// A model's version folder whose lines wait until its files are known to belong together.
pub(super) struct Group {
    /// Where it lies.
    pub(super) folder: RelativePath,
    /// Those of the model's own files that the base has.
    pub(super) kept: BTreeMap<&'static str, Member>,
    /// The model's own files that were stored, to be stored again if they don't match.
    pub(super) stored: Vec<Store>,
}

impl Group {
    /// A folder of which nothing is known yet.
    pub(super) fn new(folder: RelativePath) -> Self {
        Self {
            folder,
            kept: BTreeMap::new(),
            stored: Vec::new(),
        }
    }
}

/// One of a model's own files, as the archive or its base has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    sha256: Digest,
    size: u64,
    attributes: Attributes,
}

impl Member {
    /// What an entry tells of a file; `None` if it is none.
    pub(super) fn of(content: &Content) -> Option<Self> {
        match *content {
            Content::File {
                attributes,
                size,
                sha256,
                ..
            } => Some(Self {
                sha256,
                size,
                attributes,
            }),
            _ => None,
        }
    }

    /// A file that the base has with this hash.
    pub(super) const fn kept(sha256: Digest, item: &Item) -> Self {
        Self {
            sha256,
            size: item.size,
            attributes: item.attributes,
        }
    }
}

/// What a model's configuration says of the files beside it.
#[derive(Deserialize)]
struct Hashes {
    sha256: BTreeMap<String, String>,
}

impl<'scope, 'a: 'scope> Coordinator<'_, 'scope, 'a> {
    /// Ends the folder that the coordinator is in.
    pub(super) fn close_group(&mut self) -> Result<(), Failed> {
        let Some(group) = self.group.take() else {
            return Ok(());
        };
        self.flush()?;
        if !group.stored.is_empty() {
            let mut told = self.ask()?;
            for _ in 0..MODEL_RETRIES {
                if self.belongs_together(&group, &told)
                    || !told.may_replace
                    || !self.has_changed(&group, &told)
                {
                    break;
                }
                self.store_again(&group)?;
                told = self.ask()?;
            }
            if !self.belongs_together(&group, &told) {
                let message = "model.onnx and scaler.json aren't those that model_config.json names: install the model again, then make another backup";
                self.warn(Warning::new(&group.folder, message));
            }
        }
        self.engine.note(Note::Release)
    }

    /// What the archive has of the model's own files; what comes before is written by then.
    fn ask(&mut self) -> Result<Told, Failed> {
        let (reply, answer) = sync_channel(1);
        self.engine.note(Note::Ask(reply))?;
        answer.recv().map_err(|_| Failed::Stopped)
    }

    /// Whether the volume has something else by now than was read. A model that doesn't match and rests would be the
    /// same again.
    fn has_changed(&self, group: &Group, told: &Told) -> bool {
        let is_same = |name: &str| {
            let Ok(path) = group.folder.child(name.as_bytes()) else {
                return true;
            };
            let now = self.shared.reader.status(&path).ok();
            let now = now.filter(|now| now.file_type == FileType::RegularFile);
            match (now, told.members.get(name).or_else(|| group.kept.get(name))) {
                (None, None) => true,
                // A file that had just changed when it was read has no ctime here, so it counts as another one.
                (Some(now), Some(then)) => {
                    let (new, old) = (now.attributes, then.attributes);
                    now.size == then.size
                        && (new.mtime, new.ctime, new.inode) == (old.mtime, old.ctime, old.inode)
                }
                _ => false,
            }
        };
        !own_names().all(is_same)
    }

    /// Whether the archive has, or the base keeps, the files that the folder's configuration names.
    fn belongs_together(&self, group: &Group, told: &Told) -> bool {
        let hash = |name: &str| {
            let member = told.members.get(name).or_else(|| group.kept.get(name));
            member.map(|member| member.sha256)
        };
        let Ok(config) = group.folder.child(CONFIG.as_bytes()) else {
            return true;
        };
        let mut text = Vec::new();
        if self.shared.reader.small(&config, false, &mut text).is_err() {
            // Without a configuration nothing says what belongs together; one that is in the archive and gone since
            // belongs to another state.
            return hash(CONFIG).is_none();
        }
        let Ok(Hashes { sha256 }) = serde_json::from_slice::<Hashes>(&text) else {
            return true;
        };
        let is_named = |name: &&str| {
            let expected = sha256
                .get(*name)
                .and_then(|text| text.parse::<Digest>().ok());
            expected.is_none_or(|expected| hash(name) == Some(expected))
        };
        hash(CONFIG) == Some(Digest::of(&text)) && HASHED.iter().all(is_named)
    }

    /// Stores the model's files once more, whatever they are by now.
    fn store_again(&mut self, group: &Group) -> Result<(), Failed> {
        // What they count for has been counted.
        let before = std::mem::take(&mut self.outcome);
        for name in own_names() {
            let Ok(path) = group.folder.child(name.as_bytes()) else {
                continue;
            };
            let Ok(status) = self.shared.reader.status(&path) else {
                continue;
            };
            let known = group.stored.iter().find(|store| store.item.path == path);
            let in_base = known.is_some_and(|store| store.in_base);
            self.large(&Store {
                item: Item {
                    path,
                    category: Category::Models,
                    kind: ItemKind::File,
                    attributes: status.attributes,
                    size: status.size,
                    content: None,
                },
                in_base,
                unless: None,
            })?;
        }
        let again = std::mem::replace(&mut self.outcome, before);
        self.outcome.warnings.extend(again.warnings);
        Ok(())
    }
}

/// `ml_models/NAME/VERSION` for what lies in it.
pub(super) fn version_folder(path: &RelativePath) -> Option<RelativePath> {
    if !path.is_within(b"ml_models") {
        return None;
    }
    let parts: Vec<_> = path.components().take(4).collect();
    let [root, name, version, _] = parts[..] else {
        return None;
    };
    RelativePath::new([root, name, version].join(&b'/')).ok()
}

fn own_names() -> impl Iterator<Item = &'static str> {
    HASHED.into_iter().chain([CONFIG])
}

/// The name of a file of which the configuration of the folder speaks, or which is it.
pub(super) fn own_name(path: &RelativePath, folder: &RelativePath) -> Option<&'static str> {
    let name = own_names().find(|name| name.as_bytes() == path.name());
    name.filter(|_| path.parent().as_ref() == Some(folder))
}
