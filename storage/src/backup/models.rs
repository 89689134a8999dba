//! A model's files belong together: its configuration names the hashes of the files beside it.
//!
//! In comes a version folder that was stored, out goes the same folder again while its files don't match.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;

use serde::Deserialize;

use super::engine::Failed;
use super::plan::Store;
use super::report::Warning;
use super::store::Coordinator;
use super::writer::Note;
use crate::archive::category::Category;
use crate::archive::digest::Digest;
use crate::archive::path::RelativePath;
use crate::walk::{Item, ItemKind};

/// How often a model's folder is read again.
const MODEL_RETRIES: usize = 3;
/// Files of a model whose hashes its configuration has.
const HASHED: [&str; 2] = ["model.onnx", "scaler.json"];
const CONFIG: &str = "model_config.json";

/// A model's version folder whose lines wait until its files are known to belong together.
pub(super) struct Group {
    /// Where it lies.
    pub(super) folder: RelativePath,
    /// Hashes of files that the base has.
    pub(super) kept: BTreeMap<RelativePath, Digest>,
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
            let mut belongs = self.belongs_together(&group)?;
            for _ in 0..MODEL_RETRIES {
                if belongs {
                    break;
                }
                self.store_again(&group)?;
                belongs = self.belongs_together(&group)?;
            }
            if !belongs {
                let message = "model.onnx and scaler.json aren't those that model_config.json names: install the model again, then make another backup";
                self.warn(Warning::new(&group.folder, message));
            }
        }
        self.engine.note(Note::Release)
    }

    /// Whether the archive has, or the base keeps, the files that the folder's configuration names.
    fn belongs_together(&mut self, group: &Group) -> Result<bool, Failed> {
        let (reply, answer) = sync_channel(1);
        self.engine.note(Note::Ask(reply))?;
        let stored = answer.recv().map_err(|_| Failed::Stopped)?;
        let hash = |name: &str| {
            let path = group.folder.child(name.as_bytes()).ok()?;
            stored.get(&path).or_else(|| group.kept.get(&path)).copied()
        };
        let Ok(config) = group.folder.child(CONFIG.as_bytes()) else {
            return Ok(true);
        };
        let mut text = Vec::new();
        if self.shared.reader.small(&config, false, &mut text).is_err() {
            // Without a configuration nothing says what belongs together; one that is in the archive and gone since
            // belongs to another state.
            return Ok(hash(CONFIG).is_none());
        }
        let Ok(Hashes { sha256 }) = serde_json::from_slice::<Hashes>(&text) else {
            return Ok(true);
        };
        let is_named = |name: &&str| {
            let expected = sha256
                .get(*name)
                .and_then(|text| text.parse::<Digest>().ok());
            expected.is_none_or(|expected| hash(name) == Some(expected))
        };
        Ok(hash(CONFIG) == Some(Digest::of(&text)) && HASHED.iter().all(is_named))
    }

    /// Stores the model's files once more, whatever they are by now.
    fn store_again(&mut self, group: &Group) -> Result<(), Failed> {
        // What they count for has been counted.
        let before = std::mem::take(&mut self.outcome);
        for name in HASHED.into_iter().chain([CONFIG]) {
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

/// Whether the configuration of the folder speaks of this file, or is it.
pub(super) fn is_models_own(path: &RelativePath, folder: &RelativePath) -> bool {
    path.parent().as_ref() == Some(folder)
        && HASHED
            .into_iter()
            .chain([CONFIG])
            .any(|name| name.as_bytes() == path.name())
}
