//! Reading an archive at any offset, in blocks that are kept for a while.
//!
//! In come offsets, out come bytes of the very object that was opened: one that is replaced meanwhile is an error.
//! Members of an archive are read one after the other, so most of what a request brings ahead is used.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use stockpredictor_storage::destination::ReadAt;

use super::{Store, explain};

/// Bytes that one request brings.
const BLOCK: u64 = 2 << 20;
/// Blocks that are kept, for all threads of a reader together.
const BLOCKS: usize = 6;

/// An open object.
pub struct Reader {
    store: Arc<Store>,
    meta: ObjectMeta,
    /// The newest last.
    blocks: Mutex<VecDeque<(u64, Block)>>,
}

type Block = Arc<Vec<u8>>;

impl Reader {
    /// Of the object that `meta` tells of.
    pub fn new(store: Arc<Store>, meta: ObjectMeta) -> Self {
        Self {
            store,
            meta,
            blocks: Mutex::new(VecDeque::new()),
        }
    }

    fn block(&self, index: u64) -> io::Result<Block> {
        if let Some(block) = self.kept(index) {
            return Ok(block);
        }
        // Not under the lock: other threads read other blocks meanwhile.
        let fetched = self
            .store
            .wait(&format!("read {}", self.meta.location), self.fetch(index));
        let block = Arc::new(fetched.map_err(|error| error.source)?);
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if blocks.len() >= BLOCKS {
            blocks.pop_front();
        }
        blocks.push_back((index, Arc::clone(&block)));
        Ok(block)
    }

    fn kept(&self, index: u64) -> Option<Block> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let place = blocks.iter().position(|(kept, _)| *kept == index)?;
        let found = blocks.remove(place)?;
        let block = Arc::clone(&found.1);
        blocks.push_back(found);
        Some(block)
    }

    async fn fetch(&self, index: u64) -> io::Result<Vec<u8>> {
        let start = index * BLOCK;
        let end = (start + BLOCK).min(self.meta.size);
        let options = GetOptions {
            range: Some(GetRange::Bounded(start..end)),
            if_match: self.meta.e_tag.clone(),
            ..GetOptions::default()
        };
        let objects = &self.store.clients.objects;
        let got = objects.get_opts(&self.meta.location, options).await;
        let bytes = got.map_err(explain::error)?.bytes().await;
        let bytes = bytes.map_err(explain::error)?;
        if bytes.len() as u64 != end - start {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the store sent fewer bytes than were asked for",
            ));
        }
        Ok(bytes.to_vec())
    }
}

impl ReadAt for Reader {
    fn size(&self) -> u64 {
        self.meta.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.meta.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let block = self.block(at / BLOCK)?;
            let rest = block
                .get((at % BLOCK) as usize..)
                .filter(|rest| !rest.is_empty())
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let count = rest.len().min(buffer.len() - done);
            if let (Some(to), Some(from)) = (buffer.get_mut(done..done + count), rest.get(..count))
            {
                to.copy_from_slice(from);
            }
            done += count;
        }
        Ok(())
    }
}
