//! The coordinator: turns plans into jobs, reads large files itself, and looks whether models belong together.
//!
//! In come plans in the order of the manifest, out go jobs and notes to the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::engine::{Engine, Failed};
use super::entry::{EntryHeader, pad};
use super::plan::{Plan, Store};
use super::read::{Large, RETRIES, Unread, settled};
use super::report::{BackupError, Warning};
use super::work::{Job, Member, Outcome, Output, Shared, Step, Worker, deleted};
use super::writer::Note;
use crate::archive::category::Category;
use crate::archive::digest::Digest;
use crate::archive::header::HEADER_PATH;
use crate::archive::manifest::{Content, Entry, MANIFEST_PATH, Place};
use crate::archive::member::TARGET;
use crate::archive::path::RelativePath;
use crate::walk::{Found, Item, ItemKind};

/// Files above this size are read by the coordinator, in blocks.
const MAX_SMALL: u64 = 512 << 10;
/// Bytes of tar headers for one entry, about.
const OVERHEAD: u64 = 1536;
/// Most entries of a batch.
const MAX_STEPS: usize = 2000;
/// How often a model's folder is read again.
const MODEL_RETRIES: usize = 3;
/// Files of a model whose hashes its configuration has.
const HASHED: [&str; 2] = ["model.onnx", "scaler.json"];
const CONFIG: &str = "model_config.json";

/// The state of one run.
pub struct Coordinator<'e, 'scope, 'a> {
    engine: &'e mut Engine<'scope, 'a>,
    shared: &'a Shared<'a>,
    own: Worker<'a>,
    zeros: Option<Arc<[u8]>>,
    batch: Vec<Step>,
    batch_bytes: u64,
    outcome: Outcome,
    skipped: u64,
    category: Option<Category>,
    group: Option<Group>,
}

/// A model's version folder whose lines wait until its files are known to belong together.
struct Group {
    folder: RelativePath,
    /// Hashes of files that the base has.
    kept: BTreeMap<RelativePath, Digest>,
    /// The model's own files that were stored, to be stored again if they don't match.
    stored: Vec<Store>,
}

/// What a model's configuration says of the files beside it.
#[derive(Deserialize)]
struct Hashes {
    sha256: BTreeMap<String, String>,
}

impl<'e, 'scope, 'a: 'scope> Coordinator<'e, 'scope, 'a> {
    pub fn new(
        engine: &'e mut Engine<'scope, 'a>,
        shared: &'a Shared<'a>,
        own: Worker<'a>,
    ) -> Self {
        Self {
            engine,
            shared,
            own,
            zeros: None,
            batch: Vec::new(),
            batch_bytes: 0,
            outcome: Outcome::default(),
            skipped: 0,
            category: None,
            group: None,
        }
    }

    /// The first entry, in a member of its own.
    pub fn header(&mut self, raw: Vec<u8>) -> Result<(), Failed> {
        self.engine.submit(Job::Block {
            raw,
            continues: false,
        })
    }

    /// Does what a plan says.
    pub fn plan(&mut self, plan: Plan) -> Result<(), Failed> {
        match plan {
            Plan::Keep { path, file } => {
                self.arrive(&path)?;
                if let Some((size, digest)) = file {
                    self.keep(&path, size);
                    if let Some(group) = &mut self.group {
                        group.kept.insert(path, digest);
                    }
                }
                Ok(())
            }
            Plan::Delete(path) => {
                self.arrive(&path)?;
                self.push(Step::Delete(path), 0)
            }
            Plan::Store(store) => {
                self.arrive(&store.item.path)?;
                self.store(store)
            }
            Plan::Skip(item) => {
                self.skipped += 1;
                let ItemKind::Special(kind) = item.kind else {
                    return Ok(());
                };
                let message =
                    format!("it is {kind} and not in the backup: no archive can hold what it does");
                self.warn(Warning::new(&item.path, message));
                Ok(())
            }
            Plan::Trouble(found) => {
                self.trouble(found);
                Ok(())
            }
        }
    }

    fn trouble(&mut self, found: Found) {
        let warning = match found {
            Found::Item(_) => return,
            Found::Unreadable { path, source } => Warning::unreadable(&path, &source),
            Found::Unnameable { reason } => Warning {
                path: String::new(),
                message: format!("{reason}: it is not in the backup, give it a shorter path"),
            },
        };
        self.warn(warning);
    }

    fn warn(&mut self, warning: Warning) {
        self.outcome.warnings.push(warning);
    }

    fn keep(&mut self, path: &RelativePath, size: u64) {
        self.outcome.tally.add(self.shared.volume, path, size);
        self.shared.progress.advance(1, size);
    }

    /// Tells people where the backup is, and closes or opens a model's folder.
    fn arrive(&mut self, path: &RelativePath) -> Result<(), Failed> {
        let category = Category::of_top_level(path.top_level());
        if category != self.category {
            self.category = category;
            if let Some(category) = category {
                self.shared.progress.step(step_name(category));
            }
        }
        let folder = version_folder(path);
        if self.group.as_ref().map(|group| &group.folder) != folder.as_ref() {
            self.close_group()?;
            if let Some(folder) = folder {
                self.flush()?;
                self.engine.note(Note::Withhold)?;
                self.group = Some(Group {
                    folder,
                    kept: BTreeMap::new(),
                    stored: Vec::new(),
                });
            }
        }
        Ok(())
    }

    fn store(&mut self, store: Store) -> Result<(), Failed> {
        let item = &store.item;
        let path = item.path.as_bytes();
        if path == HEADER_PATH.as_bytes() || path == MANIFEST_PATH.as_bytes() {
            let message = "the name is the archive's own, so it is not in the backup: rename it";
            let warning = Warning::new(&item.path, message);
            self.warn(warning);
            return Ok(());
        }
        if let Some(group) = &mut self.group
            && item.kind == ItemKind::File
            && is_models_own(&item.path, &group.folder)
        {
            if let Some(digest) = store.unless {
                group.kept.insert(item.path.clone(), digest);
            }
            group.stored.push(store.clone());
        }
        self.submit(store)
    }

    fn submit(&mut self, store: Store) -> Result<(), Failed> {
        if store.item.kind == ItemKind::File && store.item.size > MAX_SMALL {
            self.flush()?;
            return self.large(&store);
        }
        let bytes = store.item.size + OVERHEAD;
        self.push(Step::Store(store), bytes)
    }

    fn push(&mut self, step: Step, bytes: u64) -> Result<(), Failed> {
        self.batch.push(step);
        self.batch_bytes += bytes;
        if self.batch_bytes >= TARGET as u64 || self.batch.len() >= MAX_STEPS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failed> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        let steps = std::mem::take(&mut self.batch);
        self.engine.submit(Job::Batch(steps))
    }

    /// Stores a file in blocks, again as a later entry while it changes.
    fn large(&mut self, store: &Store) -> Result<(), Failed> {
        let path = &store.item.path;
        if let Some(digest) = store.unless {
            match self.shared.reader.hash(path) {
                Ok((found, true)) if found == digest => {
                    self.keep(path, store.item.size);
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => return self.unread(store, error),
            }
        }
        let is_log = store.item.category == Category::Logs;
        let mut best = None;
        let mut is_settled = false;
        for attempt in 0..=RETRIES {
            let mut large = match self.shared.reader.large(path) {
                Ok(large) => large,
                // What was read before is better than nothing.
                Err(_) if best.is_some() => break,
                Err(error) => {
                    self.engine.note(Note::Unstored)?;
                    return self.unread(store, error);
                }
            };
            self.engine.note(Note::Attempt)?;
            let (sha256, fault) = self.stream(path, &mut large)?;
            let has_changed = self.shared.reader.has_changed(path, &large);
            match fault {
                None => {
                    let entry = large_entry(path, &large, sha256);
                    best = Some((entry, attempt, large.status.size));
                    is_settled = is_log || !has_changed;
                }
                Some(Fault::Short) => {}
                Some(Fault::Unread(error)) if best.is_none() => {
                    self.engine.note(Note::Unstored)?;
                    return self.unread(store, error);
                }
                Some(Fault::Unread(_)) => break,
            }
            if is_settled {
                break;
            }
        }
        if !is_settled {
            self.warn(Warning::live(path));
        }
        let Some((entry, attempt, size)) = best else {
            return self.engine.note(Note::Unstored);
        };
        self.outcome.tally.add(self.shared.volume, path, size);
        self.outcome.files += 1;
        self.outcome.bytes += size;
        self.shared.progress.advance(1, 0);
        self.engine.note(Note::Stored(entry, attempt))
    }

    fn unread(&mut self, store: &Store, error: Unread) -> Result<(), Failed> {
        let path = &store.item.path;
        match error {
            Unread::Gone if store.in_base => self.engine.output(Output {
                rest: vec![deleted(path.clone())],
                ..Output::default()
            }),
            Unread::Gone | Unread::Grown => Ok(()),
            Unread::Refused(source) => {
                self.warn(Warning::unreadable(path, &source));
                Ok(())
            }
        }
    }

    /// Hands in a file's header and data. Whatever happens, the entry has the length that its header says.
    fn stream(
        &mut self,
        path: &RelativePath,
        large: &mut Large,
    ) -> Result<(Digest, Option<Fault>), Failed> {
        let size = large.status.size;
        let mut hasher = Sha256::new();
        let mut fault = None;
        let mut raw = self.shared.buffer();
        EntryHeader {
            path: path.as_bytes(),
            kind: EntryType::Regular,
            link: &[],
            size,
            mode: large.status.attributes.mode,
            mtime: large.status.attributes.mtime,
        }
        .write(&mut raw);
        let mut offset = 0;
        let mut continues = false;
        loop {
            let room = (TARGET - raw.len().min(TARGET / 2)) as u64;
            let length = room.min(size - offset);
            let is_whole = continues && length == TARGET as u64;
            let are_zeros = fault.is_some() || large.is_hole(offset, length);
            if is_whole && are_zeros {
                self.shared.zeros(&mut hasher);
                self.zero_member()?;
            } else {
                let start = raw.len();
                raw.resize(start + length as usize, 0);
                if !are_zeros {
                    match large.read(offset, &mut raw[start..]) {
                        Ok(filled) if filled < length as usize => fault = Some(Fault::Short),
                        Ok(_) => {}
                        Err(error) => fault = Some(Fault::Unread(error)),
                    }
                }
                hasher.update(&raw[start..]);
                if offset + length == size {
                    pad(&mut raw, size);
                }
                if !raw.is_empty() {
                    self.engine.submit(Job::Block { raw, continues })?;
                }
                raw = self.shared.buffer();
            }
            self.shared.progress.advance(0, length);
            offset += length;
            continues = true;
            if offset == size {
                return Ok((Digest::finish(hasher), fault));
            }
        }
    }

    /// A member of zeros, packed once for all.
    fn zero_member(&mut self) -> Result<(), Failed> {
        let packed = match &self.zeros {
            Some(packed) => Arc::clone(packed),
            None => {
                let job = Job::Block {
                    raw: vec![0; TARGET],
                    continues: true,
                };
                let packed = self.own.run(job).map_err(|error| error.to_string());
                let member = packed.map(|output| output.members.into_iter().next());
                let Ok(Some(member)) = member else {
                    return Err(BackupError::Internal("zeros can't be packed".to_owned()).into());
                };
                Arc::clone(self.zeros.insert(member.packed))
            }
        };
        self.engine.output(Output {
            members: vec![Member {
                packed,
                entries: Vec::new(),
            }],
            ..Output::default()
        })
    }

    fn close_group(&mut self) -> Result<(), Failed> {
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
            let expected = sha256.get(*name).and_then(|text| text.parse::<Digest>().ok());
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

    /// Hands in what is left; returns how many entries no archive holds.
    pub fn end(mut self) -> Result<u64, Failed> {
        self.close_group()?;
        self.flush()?;
        self.engine.note(Note::Outcome(Box::new(self.outcome)))?;
        Ok(self.skipped)
    }
}

/// Why an attempt to store a large file failed.
enum Fault {
    /// It became shorter.
    Short,
    /// It can't be read.
    Unread(Unread),
}

fn large_entry(path: &RelativePath, large: &Large, sha256: Digest) -> Entry {
    Entry {
        path: path.clone(),
        content: Content::File {
            attributes: settled(large.status.attributes),
            size: large.status.size,
            sha256,
            place: Place { member: 0, skip: 0 },
        },
    }
}

/// `ml_models/NAME/VERSION` for what lies in it.
fn version_folder(path: &RelativePath) -> Option<RelativePath> {
    if !path.is_within(b"ml_models") {
        return None;
    }
    let parts: Vec<_> = path.components().take(4).collect();
    let [root, name, version, _] = parts[..] else {
        return None;
    };
    RelativePath::new([root, name, version].join(&b'/')).ok()
}

fn is_models_own(path: &RelativePath, folder: &RelativePath) -> bool {
    path.parent().as_ref() == Some(folder)
        && HASHED
            .into_iter()
            .chain([CONFIG])
            .any(|name| name.as_bytes() == path.name())
}

const fn step_name(category: Category) -> &'static str {
    match category {
        Category::Models => "Backing up ML models",
        Category::Cache => "Backing up the ML cache",
        Category::Scalers => "Backing up scalers",
        Category::StockData => "Backing up stock data",
        Category::Config => "Backing up configuration",
        Category::Logs => "Backing up recent logs",
        Category::Other => "Backing up other files",
    }
}
