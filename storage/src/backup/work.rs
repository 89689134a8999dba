//! What one thread does: reads small files into a tar stream and packs it; packs blocks of large files.
//!
//! In comes a [`Job`], out comes an [`Output`] whose entries lack only where their member will lie.

use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};
use tar::EntryType;
use uuid::Uuid;

use super::entry::{self, EntryHeader};
use super::plan::Store;
use super::read::{Reader, Small, Unread, settled};
use super::report::Warning;
use crate::archive::category::Category;
use crate::archive::digest::Digest;
use crate::archive::manifest::{Attributes, Content, Entry, Place, Time};
use crate::archive::member::{MemberError, Packer, TARGET};
use crate::archive::path::RelativePath;
use crate::guard::Tally;
use crate::progress::Progress;
use crate::walk::ItemKind;

/// Something to be done by whichever thread is free.
pub enum Job {
    /// Directories, links and small files, in their order.
    Batch(Vec<Step>),
    /// A piece of a large file, or of the manifest.
    Block {
        /// Uncompressed.
        raw: Vec<u8>,
        /// Whether it continues what the member before it began.
        continues: bool,
    },
}

/// One entry of a batch.
pub enum Step {
    /// Read and store it.
    Store(Store),
    /// It is gone.
    Delete(RelativePath),
}

/// What became of a job.
#[derive(Default)]
pub struct Output {
    /// In their order.
    pub members: Vec<Member>,
    /// Deletions after the last member's entries.
    pub rest: Vec<Entry>,
    /// What was stored or kept.
    pub outcome: Outcome,
}

/// A packed member.
pub struct Member {
    /// The gzip member.
    pub packed: Arc<[u8]>,
    /// Entries that begin in it, and deletions among them.
    pub entries: Vec<Entry>,
}

/// Counts and complaints, added up over the whole run.
#[derive(Default)]
pub struct Outcome {
    /// What lies on the volume.
    pub tally: Tally,
    /// Files that the manifest names as stored; the writer counts them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What people have to know.
    pub warnings: Vec<Warning>,
}

impl Outcome {
    pub fn merge(&mut self, other: Self) {
        self.tally.merge(other.tally);
        self.warnings.extend(other.warnings);
    }
}

/// What all threads share.
pub struct Shared<'a> {
    /// Opens files.
    pub reader: Reader<'a>,
    /// The volume, for the guard's marks.
    pub volume: Uuid,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// Buffers of about [`TARGET`] bytes to be used again.
    pub buffers: Mutex<Vec<Vec<u8>>>,
    /// [`TARGET`] zeros.
    pub zeros: Vec<u8>,
}

impl Shared<'_> {
    /// An empty buffer.
    pub fn buffer(&self) -> Vec<u8> {
        let buffers = self.buffers.lock();
        buffers
            .ok()
            .and_then(|mut buffers| buffers.pop())
            .unwrap_or_default()
    }

    /// Adds [`TARGET`] zeros to a hash.
    pub fn zeros(&self, hasher: &mut Sha256) {
        hasher.update(&self.zeros);
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if let Ok(mut buffers) = self.buffers.lock()
            && buffers.len() < 16
        {
            buffers.push(buffer);
        }
    }
}

/// One thread's tools.
pub struct Worker<'a> {
    shared: &'a Shared<'a>,
    packer: Packer,
    raw: Vec<u8>,
    packed: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub fn new(shared: &'a Shared<'a>, packer: Packer) -> Self {
        Self {
            shared,
            packer,
            raw: Vec::new(),
            packed: Vec::new(),
        }
    }

    pub fn run(&mut self, job: Job) -> Result<Output, MemberError> {
        match job {
            Job::Batch(steps) => self.batch(steps),
            Job::Block { raw, continues } => {
                let packed = self.pack(&raw, continues)?;
                self.shared.give_back(raw);
                Ok(Output {
                    members: vec![Member {
                        packed,
                        entries: Vec::new(),
                    }],
                    ..Output::default()
                })
            }
        }
    }

    fn pack(&mut self, raw: &[u8], continues: bool) -> Result<Arc<[u8]>, MemberError> {
        self.packed.clear();
        self.packer.pack(raw, continues, &mut self.packed)?;
        Ok(Arc::from(&self.packed[..]))
    }

    fn batch(&mut self, steps: Vec<Step>) -> Result<Output, MemberError> {
        let mut output = Output::default();
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        let mut file = self.shared.buffer();
        for step in steps {
            match step {
                Step::Delete(path) => output.rest.push(deleted(path)),
                Step::Store(store) => self.store(store, &mut file, &mut raw, &mut output),
            }
            if raw.len() >= TARGET {
                self.close(&mut raw, &mut output)?;
            }
        }
        if !raw.is_empty() {
            self.close(&mut raw, &mut output)?;
        }
        self.shared.give_back(file);
        self.raw = raw;
        Ok(output)
    }

    fn close(&mut self, raw: &mut Vec<u8>, output: &mut Output) -> Result<(), MemberError> {
        let packed = self.pack(raw, false)?;
        raw.clear();
        output.members.push(Member {
            packed,
            entries: std::mem::take(&mut output.rest),
        });
        Ok(())
    }

    fn store(&self, store: Store, file: &mut Vec<u8>, raw: &mut Vec<u8>, output: &mut Output) {
        let place = Place {
            member: 0,
            skip: u32::try_from(raw.len()).unwrap_or(u32::MAX),
        };
        let path = &store.item.path;
        let attributes = store.item.attributes;
        let header = |kind, link, size, mode, mtime| EntryHeader {
            path: path.as_bytes(),
            kind,
            link,
            size,
            mode,
            mtime,
        };
        let (mode, mtime) = (attributes.mode, attributes.mtime);
        let content = match &store.item.kind {
            ItemKind::Directory => {
                header(EntryType::Directory, &[], 0, mode, mtime).write(raw);
                let attributes = settled(attributes);
                Content::Directory { attributes, place }
            }
            ItemKind::Symlink(target) => {
                header(EntryType::Symlink, &target.0, 0, mode, mtime).write(raw);
                Content::Symlink {
                    attributes: settled(attributes),
                    target: target.clone(),
                    place,
                }
            }
            // The plan leaves these out.
            ItemKind::Special(_) => return,
            ItemKind::File => {
                file.clear();
                let is_log = store.item.category == Category::Logs;
                let read = match &store.item.content {
                    Some(content) => {
                        file.extend(content);
                        // Without its ctime the next incremental backup looks into it, as after any reading long ago.
                        let ctime = Time::default();
                        Ok(Small {
                            attributes: Attributes {
                                ctime,
                                ..attributes
                            },
                            is_live: false,
                        })
                    }
                    None => self.shared.reader.small(path, is_log, file),
                };
                let small = match read {
                    Ok(small) => small,
                    Err(error) => {
                        unread(store, error, output);
                        return;
                    }
                };
                if small.is_live && !is_log {
                    output.outcome.warnings.push(Warning::live(path));
                }
                let size = file.len() as u64;
                let sha256 = Digest::of(file);
                output.outcome.tally.add(self.shared.volume, path, size);
                self.shared.progress.advance(1, size);
                if store.unless == Some(sha256) {
                    return;
                }
                let attributes = small.attributes;
                header(
                    EntryType::Regular,
                    &[],
                    size,
                    attributes.mode,
                    attributes.mtime,
                )
                .write(raw);
                raw.extend(&*file);
                entry::pad(raw, size);
                Content::File {
                    attributes,
                    size,
                    allocated: size,
                    sha256,
                    place,
                }
            }
        };
        output.rest.push(Entry {
            path: store.item.path,
            content,
        });
    }
}

fn unread(store: Store, error: Unread, output: &mut Output) {
    match error {
        Unread::Gone if store.in_base => output.rest.push(deleted(store.item.path)),
        Unread::Gone => {}
        Unread::Grown => {
            let warning = Warning::new(
                &store.item.path,
                "it was replaced by a much larger file during the backup and is not in it: make another backup",
            );
            output.outcome.warnings.push(warning);
        }
        Unread::Refused(source) => {
            let warning = Warning::unreadable(&store.item.path, &source);
            output.outcome.warnings.push(warning);
        }
    }
}

/// The line for what is gone.
pub const fn deleted(path: RelativePath) -> Entry {
    Entry {
        path,
        content: Content::Deleted,
    }
}
