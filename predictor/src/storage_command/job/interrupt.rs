//! Being told to stop: the job ends at its next step to or from a destination, cleans up and says `Interrupted`.
//!
//! In comes SIGTERM or SIGINT, out goes a flag that every destination asks. A job that doesn't end in time is ended; it
//! could as well have been killed, and the next one goes on from there.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::destination::{Destination, DestinationError, Item, ReadAt, Upload};
use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Failure, Reason};
use super::message::Message;

/// How long the job may take to end: less than the 30 s that Kubernetes waits before it kills.
const GRACE: Duration = Duration::from_secs(20);

/// Whether the job was told to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        if self.is_set() {
            // Not `Interrupted`, which callers of the system try again.
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the job was told to stop",
            ));
        }
        Ok(())
    }
}

/// Leaves the message, once.
#[derive(Clone, Debug)]
pub struct Teller {
    path: Option<PathBuf>,
    is_told: Arc<Mutex<bool>>,
}

impl Teller {
    pub fn new(path: Option<PathBuf>) -> Self {
        Self {
            path: path.filter(|path| !path.as_os_str().is_empty()),
            is_told: Arc::default(),
        }
    }

    /// Writes the message, unless another one was left before.
    pub fn tell(&self, message: &Message) {
        let mut is_told = self.is_told.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_told {
            return;
        }
        *is_told = true;
        let text = message.bytes();
        if let Some(path) = &self.path
            && let Err(error) = std::fs::write(path, &text)
        {
            eprintln!(
                "the termination message can't be written to {}: {error}",
                path.display()
            );
        }
        let mut out = io::stdout().lock();
        // Whoever reads the log may be gone.
        let _ = out.write_all(&text).and_then(|()| out.write_all(b"\n"));
    }
}

/// Begins to listen for signals.
pub fn listen(
    stop: &Stop,
    teller: &Teller,
    job: &'static str,
    started: Instant,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("signals can't be heard")?;
    let guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("signals can't be heard")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be heard")?;
    drop(guard);
    let (stop, teller) = (stop.clone(), teller.clone());
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        stop.set();
        eprintln!("told to stop");
        thread::sleep(GRACE);
        let mut message = Message::new(job);
        message.seconds = started.elapsed().as_secs();
        message.fail(Failure::new(
            Reason::Interrupted,
            "the job was told to stop and didn't end in time; run again, it goes on or starts over",
        ));
        teller.tell(&message);
        std::process::exit(i32::from(message.outcome().code()));
    });
    Ok(())
}

/// A destination that fails once the job was told to stop. Small files may still be replaced and removed, to clean up.
#[derive(Debug)]
pub struct Guarded {
    inner: Box<dyn Destination>,
    stop: Stop,
}

impl Guarded {
    pub fn new(inner: Box<dyn Destination>, stop: Stop) -> Self {
        Self { inner, stop }
    }

    fn check(&self, action: &str) -> Result<(), DestinationError> {
        self.stop.check().map_err(|source| DestinationError {
            destination: self.inner.label(),
            action: action.to_owned(),
            source,
        })
    }
}

impl Destination for Guarded {
    fn label(&self) -> String {
        self.inner.label()
    }

    fn folder(&self) -> Option<&Path> {
        self.inner.folder()
    }

    fn list(&self) -> Result<Vec<Item>, DestinationError> {
        self.check("list")?;
        self.inner.list()
    }

    fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, DestinationError> {
        self.check("read")?;
        self.inner.read(name, limit)
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn ReadAt>>, DestinationError> {
        self.check("open")?;
        let stop = self.stop.clone();
        let opened = self.inner.open(name)?;
        Ok(opened.map(|inner| Box::new(GuardedReader { inner, stop }) as Box<dyn ReadAt>))
    }

    fn claim(&self, name: ArchiveName) -> Result<Option<Box<dyn Upload>>, DestinationError> {
        self.check("create")?;
        let claimed = self.inner.claim(name)?;
        Ok(claimed.map(|inner| {
            Box::new(GuardedUpload {
                inner,
                label: self.inner.label(),
                stop: self.stop.clone(),
            }) as Box<dyn Upload>
        }))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DestinationError> {
        self.inner.replace(name, bytes)
    }

    fn delete(&self, name: &str) -> Result<(), DestinationError> {
        self.inner.delete(name)
    }
}

struct GuardedReader {
    inner: Box<dyn ReadAt>,
    stop: Stop,
}

impl ReadAt for GuardedReader {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.stop.check()?;
        self.inner.read_exact_at(buffer, offset)
    }
}

struct GuardedUpload {
    inner: Box<dyn Upload>,
    label: String,
    stop: Stop,
}

impl GuardedUpload {
    fn check(&self) -> Result<(), DestinationError> {
        self.stop.check().map_err(|source| DestinationError {
            destination: self.label.clone(),
            action: "write".to_owned(),
            source,
        })
    }
}

impl Upload for GuardedUpload {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), DestinationError> {
        self.check()?;
        self.inner.write_all(bytes)
    }

    fn finish(self: Box<Self>, meta: &[u8]) -> Result<(), DestinationError> {
        self.check()?;
        self.inner.finish(meta)
    }
}
