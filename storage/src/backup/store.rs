//! The coordinator: turns plans into jobs.
//!
//! In come plans in the order of the manifest, out go jobs and notes to the engine.

use std::sync::Arc;

use super::engine::{Engine, Failed};
use super::models::{Group, Member, own_name, version_folder};
use super::plan::{Plan, Store};
use super::report::Warning;
use super::work::{Job, Outcome, Shared, Step, Worker};
use super::writer::Note;
use crate::archive::category::Category;
use crate::archive::header::HEADER_PATH;
use crate::archive::manifest::{Content, MANIFEST_PATH};
use crate::archive::member::TARGET;
use crate::archive::path::RelativePath;
use crate::walk::{Found, ItemKind};

/// Files above this size are read by the coordinator, in blocks.
const MAX_SMALL: u64 = 512 << 10;
/// Bytes of tar headers for one entry, about.
const OVERHEAD: u64 = 1536;
/// Most entries of a batch.
const MAX_STEPS: usize = 2000;
/// The state of one run.
pub struct Coordinator<'e, 'scope, 'a> {
    pub(super) engine: &'e mut Engine<'scope, 'a>,
    pub(super) shared: &'a Shared<'a>,
    pub(super) own: Worker<'a>,
    pub(super) zeros: Option<Arc<[u8]>>,
    batch: Vec<Step>,
    batch_bytes: u64,
    pub(super) outcome: Outcome,
    skipped: u64,
    category: Option<Category>,
    pub(super) group: Option<Group>,
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
            Plan::Keep { path, content } => {
                self.arrive(&path)?;
                if let Content::File { size, .. } = content {
                    self.keep(&path, size);
                    if let Some(group) = &mut self.group
                        && let Some(name) = own_name(&path, &group.folder)
                    {
                        group
                            .kept
                            .extend(Member::of(&content).map(|kept| (name, kept)));
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
            Plan::Skip(item, in_base) => {
                self.arrive(&item.path)?;
                self.skipped += 1;
                let ItemKind::Special(kind) = item.kind else {
                    return Ok(());
                };
                let message =
                    format!("it is {kind} and not in the backup: no archive can hold what it does");
                self.warn(Warning::new(&item.path, message));
                if in_base {
                    self.push(Step::Delete(item.path), 0)?;
                }
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

    pub(super) fn warn(&mut self, warning: Warning) {
        self.outcome.warnings.push(warning);
    }

    pub(super) fn keep(&mut self, path: &RelativePath, size: u64) {
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
                self.engine.note(Note::Withhold(folder.clone()))?;
                self.group = Some(Group::new(folder));
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
            && let Some(name) = own_name(&item.path, &group.folder)
        {
            if let Some(digest) = store.unless {
                group.kept.insert(name, Member::kept(digest, item));
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

    pub(super) fn flush(&mut self) -> Result<(), Failed> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        let steps = std::mem::take(&mut self.batch);
        self.engine.submit(Job::Batch(steps))
    }

    /// Hands in what is left; returns how many entries no archive holds.
    pub fn end(mut self) -> Result<u64, Failed> {
        self.close_group()?;
        self.flush()?;
        self.engine.note(Note::Outcome(Box::new(self.outcome)))?;
        Ok(self.skipped)
    }
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
