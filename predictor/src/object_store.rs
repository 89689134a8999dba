//! An object store as a destination: S3 and what speaks its language; Google's and Azure's stores as they come.
//!
//! In come a URL, credentials and what the storage crate asks for; out go requests, each with time-outs and bounded
//! retries. Calls block; a small runtime of its own works below. A name is claimed by an object that only one writer
//! can create; the archive becomes visible when its multipart upload is completed.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{ObjectStore as Objects, ObjectStoreExt, PutMode, PutPayload};
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::destination::{Destination, DestinationError, Item, ReadAt, Upload};
use tokio::runtime::Runtime;

mod claim;
mod connect;
mod explain;
mod read;
mod upload;

pub use connect::{ConnectError, Options};

/// Most objects that a prefix may hold: its list stays in memory.
const MAX_ITEMS: usize = 100_000;
/// Longest that one call takes, whatever its requests and retries do.
const CALL_LIMIT: Duration = Duration::from_mins(10);

/// A prefix of a bucket that holds archives.
///
/// Its calls block and fail inside an asynchronous task: call them from a thread of their own there.
#[derive(Clone)]
pub struct ObjectStore {
    store: Arc<Store>,
}

/// A connection, shared by readers and uploads.
struct Store {
    /// The URL without credentials.
    label: String,
    /// What all keys begin with, without a slash at its end; may be empty.
    prefix: Key,
    clients: Clients,
    /// An option only so that it can be shut down without waiting.
    runtime: Option<Runtime>,
}

/// One client, seen as the three interfaces that are used.
#[derive(Clone)]
struct Clients {
    objects: Arc<dyn Objects>,
    parts: Arc<dyn MultipartStore>,
    pages: Arc<dyn PaginatedListStore>,
}

impl ObjectStore {
    /// Prepares a connection to `s3://BUCKET/PREFIX` (or `gs://…`, `az://…`); the first call uses it.
    pub fn connect(url: &str, options: &Options) -> Result<Self, ConnectError> {
        let (label, prefix, clients) = connect::clients(url, options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("object-store")
            .enable_all()
            .build()
            .map_err(ConnectError::Runtime)?;
        Ok(Self {
            store: Arc::new(Store {
                label,
                prefix,
                clients,
                runtime: Some(runtime),
            }),
        })
    }
}

impl fmt::Debug for ObjectStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ObjectStore({})", self.store.label)
    }
}

impl Destination for ObjectStore {
    fn label(&self) -> String {
        self.store.label.clone()
    }

    fn list(&self) -> Result<Vec<Item>, DestinationError> {
        self.store.wait("list", self.store.list())
    }

    fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, DestinationError> {
        self.store
            .wait(&format!("read {name}"), self.store.read(name, limit))
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn ReadAt>>, DestinationError> {
        let head = async {
            let key = self.store.key(name)?;
            found(self.store.clients.objects.head(&key).await)
        };
        let Some(meta) = self.store.wait(&format!("open {name}"), head)? else {
            return Ok(None);
        };
        Ok(Some(Box::new(read::Reader::new(
            Arc::clone(&self.store),
            meta,
        ))))
    }

    fn claim(&self, name: ArchiveName) -> Result<Option<Box<dyn Upload>>, DestinationError> {
        let claimed = self
            .store
            .wait(&format!("create {name}"), upload::begin(&self.store, name))?;
        Ok(claimed.map(|upload| Box::new(upload) as Box<dyn Upload>))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DestinationError> {
        let payload = PutPayload::from(bytes.to_vec());
        self.store.wait(&format!("write {name}"), async {
            let key = self.store.key(name)?;
            let put = self.store.clients.objects.put(&key, payload).await;
            put.map(|_| ()).map_err(explain::error)
        })
    }

    fn delete(&self, name: &str) -> Result<(), DestinationError> {
        self.store
            .wait(&format!("delete {name}"), self.store.delete(name))
    }
}

impl Store {
    /// Runs one call to its end, within its limit.
    fn wait<T>(
        &self,
        action: &str,
        call: impl Future<Output = io::Result<T>>,
    ) -> Result<T, DestinationError> {
        let run = || -> io::Result<T> {
            if tokio::runtime::Handle::try_current().is_ok() {
                return Err(io::Error::other(
                    "object stores are used from a thread of their own, not from an asynchronous task",
                ));
            }
            let runtime = self.runtime.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
            let limited = async { tokio::time::timeout(CALL_LIMIT, call).await };
            runtime.block_on(limited).unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "it took longer than 10 minutes: check the network and the store",
                ))
            })
        };
        run().map_err(|source| DestinationError {
            destination: self.label.clone(),
            action: action.to_owned(),
            source,
        })
    }

    fn key(&self, name: &str) -> io::Result<Key> {
        let refused = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "this is no name of an object below the prefix",
            )
        };
        if name.is_empty() || name.contains('/') {
            return Err(refused());
        }
        let text = if self.prefix.as_ref().is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.prefix)
        };
        Key::parse(text).map_err(|_| refused())
    }

    async fn list(&self) -> io::Result<Vec<Item>> {
        Ok(self
            .entries()
            .await?
            .into_iter()
            .map(|entry| entry.item)
            .collect())
    }

    /// Everything directly below the prefix, page by page, so that memory stays bounded.
    async fn entries(&self) -> io::Result<Vec<Entry>> {
        let start = match self.prefix.as_ref() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let mut entries = Vec::new();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                delimiter: Some("/".into()),
                page_token,
                ..PaginatedListOptions::default()
            };
            let prefix = (!start.is_empty()).then_some(start.as_str());
            let page = self.clients.pages.list_paginated(prefix, options).await;
            let page = page.map_err(explain::error)?;
            for object in page.result.objects {
                let name = object.location.as_ref().strip_prefix(&start);
                let Some(name) = name.filter(|name| !name.is_empty() && !name.contains('/')) else {
                    continue;
                };
                entries.push(Entry {
                    modified: object.last_modified.timestamp(),
                    item: Item {
                        name: name.to_owned(),
                        size: object.size,
                    },
                });
            }
            if entries.len() > MAX_ITEMS {
                return Err(io::Error::other(format!(
                    "it holds more than {MAX_ITEMS} objects: give backups a prefix of their own"
                )));
            }
            page_token = page.page_token;
            if page_token.is_none() {
                return Ok(entries);
            }
        }
    }

    async fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let key = self.key(name)?;
        let Some(got) = found(self.clients.objects.get(&key).await)? else {
            return Ok(None);
        };
        if got.meta.size > limit as u64 {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it is longer than {limit} bytes"),
            ));
        }
        Ok(Some(got.bytes().await.map_err(explain::error)?.to_vec()))
    }

    async fn exists(&self, name: &str) -> io::Result<bool> {
        let key = self.key(name)?;
        Ok(found(self.clients.objects.head(&key).await)?.is_some())
    }

    /// Creates an object unless there is one; whether it did.
    async fn create(&self, name: &str, bytes: Vec<u8>) -> io::Result<bool> {
        let key = self.key(name)?;
        let put = self
            .clients
            .objects
            .put_opts(&key, bytes.into(), PutMode::Create.into());
        match put.await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(explain::error(error)),
        }
    }

    async fn delete(&self, name: &str) -> io::Result<()> {
        let key = self.key(name)?;
        found(self.clients.objects.delete(&key).await).map(|_| ())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for idle connections would block, inside an asynchronous task even panic.
            runtime.shutdown_background();
        }
    }
}

/// A listed object.
struct Entry {
    /// Seconds since 1970 by the store's clock.
    modified: i64,
    item: Item,
}

/// `None` for an object that isn't there; a bucket that isn't there is an error.
fn found<T>(result: object_store::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ object_store::Error::NotFound { .. }) if !explain::is_no_bucket(&error) => {
            Ok(None)
        }
        Err(error) => Err(explain::error(error)),
    }
}
