//! An archive that goes up in parts and appears when the last of them is there.
//!
//! In come bytes, out go parts of 8 MiB, two at once: with the one that is being filled they are all the memory that
//! an upload takes. Whatever goes wrong, the parts are given up and the name is given back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use object_store::multipart::PartId;
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::destination::{DestinationError, Upload};
use tokio::task::{JoinHandle, JoinSet};

use super::claim::{self, Claim};
use super::{Store, explain, found};

/// Bytes of each part but the last.
const PART: usize = 8 << 20;
/// Parts on their way at once.
const IN_FLIGHT: usize = 2;
/// How long parts on their way are waited for when an upload is given up.
const LAST_PARTS: Duration = Duration::from_secs(20);
/// Most parts of an upload, by the S3 protocol.
const MAX_PARTS: usize = 10_000;

/// An upload at work.
pub struct Multipart {
    store: Arc<Store>,
    claim: Claim,
    key: Key,
    buffer: Vec<u8>,
    size: u64,
    sent: usize,
    in_flight: JoinSet<io::Result<(usize, PartId)>>,
    done: Vec<(usize, PartId)>,
    heartbeat: JoinHandle<()>,
    wrote_meta: bool,
    is_finished: bool,
}

/// Reserves a name and begins an upload for it; `None` if the name is taken.
pub async fn begin(store: &Arc<Store>, name: ArchiveName) -> io::Result<Option<Multipart>> {
    claim::remove_expired(store, Timestamp::now()).await?;
    if is_taken(store, name).await? {
        return Ok(None);
    }
    let key = store.key(&name.to_string())?;
    let upload = store.clients.parts.create_multipart(&key).await;
    let claim = Claim {
        time: Timestamp::now(),
        name,
        upload: upload.map_err(explain::error)?,
    };
    let claimed = async {
        if !claim.create(store).await? {
            return Ok(false);
        }
        // Whoever finished since the first look has its archive in place before its claim goes.
        if is_taken(store, name).await? {
            claim.release(store).await?;
            return Ok(false);
        }
        Ok(true)
    };
    let claimed = claimed.await;
    if !matches!(claimed, Ok(true)) {
        let _ = store
            .clients
            .parts
            .abort_multipart(&key, &claim.upload)
            .await;
        return claimed.map(|_| None);
    }
    Ok(Some(Multipart {
        heartbeat: tokio::spawn(claim::keep_alive(claim.clone(), Arc::clone(store))),
        store: Arc::clone(store),
        claim,
        key,
        buffer: Vec::new(),
        size: 0,
        sent: 0,
        in_flight: JoinSet::new(),
        done: Vec::new(),
        wrote_meta: false,
        is_finished: false,
    }))
}

async fn is_taken(store: &Store, name: ArchiveName) -> io::Result<bool> {
    for encrypted in [false, true] {
        let spelling = ArchiveName::at(name.time(), encrypted).to_string();
        if store.exists(&spelling).await? {
            return Ok(true);
        }
    }
    store.exists(&name.meta()).await
}

impl Multipart {
    async fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.buffer.capacity() == 0 {
                self.buffer.reserve_exact(PART);
            }
            let room = bytes.len().min(PART - self.buffer.len());
            let (now, later) = bytes.split_at(room);
            self.buffer.extend_from_slice(now);
            self.size += room as u64;
            bytes = later;
            if self.buffer.len() == PART {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Sends what is buffered, once there is room for it on the way.
    async fn send(&mut self) -> io::Result<()> {
        if self.sent == MAX_PARTS {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "an object store takes archives of at most 80 GB: back up in parts with --include",
            ));
        }
        while self.in_flight.len() >= IN_FLIGHT {
            self.join().await?;
        }
        let payload = PutPayload::from(std::mem::take(&mut self.buffer));
        let parts = Arc::clone(&self.store.clients.parts);
        let (key, id, index) = (self.key.clone(), self.claim.upload.clone(), self.sent);
        self.sent += 1;
        self.in_flight.spawn(async move {
            let part = parts.put_part(&key, &id, index, payload).await;
            part.map(|part| (index, part)).map_err(explain::error)
        });
        Ok(())
    }

    async fn join(&mut self) -> io::Result<()> {
        if let Some(part) = self.in_flight.join_next().await {
            self.done.push(part.map_err(io::Error::other)??);
        }
        Ok(())
    }

    async fn complete(&mut self, meta: &[u8]) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.send().await?;
        }
        while !self.in_flight.is_empty() {
            self.join().await?;
        }
        self.claim.check(&self.store).await?;
        let name = self.claim.name;
        if is_taken(&self.store, name).await?
            || !self.store.create(&name.meta(), meta.into()).await?
        {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something of this name appeared meanwhile: run the backup again",
            ));
        }
        self.wrote_meta = true;
        self.done.sort_unstable_by_key(|(index, _)| *index);
        let parts = self.done.drain(..).map(|(_, part)| part).collect();
        let store = &self.store.clients;
        let completed = store
            .parts
            .complete_multipart(&self.key, &self.claim.upload, parts)
            .await;
        if let Err(error) = completed
            && !self.is_complete().await
        {
            return Err(explain::error(error));
        }
        self.is_finished = true;
        // The archive is there; a claim that stays expires.
        let _ = self.claim.release(&self.store).await;
        Ok(())
    }

    /// Whether the archive is there: an answer may be lost after the work was done.
    async fn is_complete(&self) -> bool {
        let there = found(self.store.clients.objects.head(&self.key).await);
        matches!(there, Ok(Some(meta)) if meta.size == self.size)
    }

    async fn give_up(&mut self) -> io::Result<()> {
        // A part that is on its way would be stored after the upload was ended, and stay.
        let rest = async { while self.in_flight.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_PARTS, rest).await.is_err() {
            self.in_flight.shutdown().await;
        }
        if self.wrote_meta && self.is_complete().await {
            return self.claim.release(&self.store).await;
        }
        let parts = &self.store.clients.parts;
        let aborted = parts.abort_multipart(&self.key, &self.claim.upload).await;
        if self.wrote_meta {
            self.store.delete(&self.claim.name.meta()).await?;
        }
        // A claim that stays tells the next writer which upload to end.
        aborted.map_err(explain::error)?;
        self.claim.release(&self.store).await
    }
}

impl Upload for Multipart {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), DestinationError> {
        let store = Arc::clone(&self.store);
        store.wait(&format!("write {}", self.claim.name), self.append(bytes))
    }

    fn finish(mut self: Box<Self>, meta: &[u8]) -> Result<(), DestinationError> {
        let store = Arc::clone(&self.store);
        store.wait(&format!("finish {}", self.claim.name), self.complete(meta))
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        self.heartbeat.abort();
        if self.is_finished {
            return;
        }
        let store = Arc::clone(&self.store);
        if let Err(error) = store.wait("give up", self.give_up()) {
            tracing::warn!(%error, name = %self.claim.name, "an upload's parts stay until its claim expires");
        }
    }
}
