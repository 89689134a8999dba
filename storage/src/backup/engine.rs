//! The pipeline: jobs to several threads, what they make to one writer in the order of the jobs. With one thread,
//! everything happens in the caller's.
//!
//! In come jobs and notes, bounded queues lie between; memory is that of the queues.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{Scope, ScopedJoinHandle};

use super::report::BackupError;
use super::work::{Job, Output, Shared, Worker};
use super::writer::{Note, Writer, Written};
use crate::archive::member::{MemberError, Packer};

/// Most threads that pack; more would take more memory than a backup may.
pub const MAX_THREADS: usize = 8;

type Answer = Result<Output, MemberError>;
type Order = (Job, SyncSender<Answer>);

/// What the writer gets, in order.
pub enum Slot {
    /// Of a job that may not be done yet.
    Job(Receiver<Answer>),
    /// At hand.
    Output(Output),
    /// From the coordinator.
    Note(Note),
}

/// How jobs are done.
pub enum Engine<'scope, 'a> {
    /// At once, by the caller.
    Inline(Box<(Worker<'a>, Writer<'a>)>),
    /// By other threads.
    Threads {
        /// To the workers.
        jobs: SyncSender<Order>,
        /// To the writer.
        slots: SyncSender<Slot>,
        /// The writer.
        writer: ScopedJoinHandle<'scope, Result<Writer<'a>, BackupError>>,
    },
}

impl<'scope, 'a: 'scope> Engine<'scope, 'a> {
    /// Starts the threads. `make_writer` gets what packs the manifest.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        shared: &'a Shared<'a>,
        threads: usize,
        packer: &dyn Fn() -> Result<Packer, BackupError>,
        make_writer: impl FnOnce(Packing<'a>) -> Writer<'a>,
    ) -> Result<Self, BackupError> {
        if threads <= 1 {
            let worker = Worker::new(shared, packer()?);
            let manifest = Packing::inline(Worker::new(shared, packer()?));
            return Ok(Self::Inline(Box::new((worker, make_writer(manifest)))));
        }
        let threads = threads.min(MAX_THREADS);
        let (jobs, orders) = sync_channel::<Order>(threads);
        let (slots, results) = sync_channel::<Slot>(2 * threads);
        let orders = Arc::new(Mutex::new(orders));
        for _ in 0..threads {
            let orders = Arc::clone(&orders);
            let mut worker = Worker::new(shared, packer()?);
            scope.spawn(move || {
                while let Some((job, answer)) = next(&orders) {
                    // One who doesn't wait any more needs no answer.
                    let _ = answer.try_send(worker.run(job));
                }
            });
        }
        let own = Worker::new(shared, packer()?);
        let mut writer = make_writer(Packing::threads(own, jobs.clone()));
        let writer = scope.spawn(move || {
            for slot in results {
                match slot {
                    Slot::Job(answer) => writer.output(received(&answer)?)?,
                    Slot::Output(output) => writer.output(output)?,
                    Slot::Note(note) => writer.note(note)?,
                }
            }
            Ok(writer)
        });
        Ok(Self::Threads {
            jobs,
            slots,
            writer,
        })
    }

    /// Hands in a job; waits while the queues are full.
    pub fn submit(&mut self, job: Job) -> Result<(), Failed> {
        match self {
            Self::Inline(both) => {
                let (worker, writer) = &mut **both;
                let output = worker.run(job).map_err(internal)?;
                Ok(writer.output(output)?)
            }
            Self::Threads { jobs, slots, .. } => {
                let (answer, waiting) = sync_channel(1);
                slots
                    .send(Slot::Job(waiting))
                    .map_err(|_| Failed::Stopped)?;
                jobs.send((job, answer)).map_err(|_| Failed::Stopped)
            }
        }
    }

    /// Hands in what is packed already.
    pub fn output(&mut self, output: Output) -> Result<(), Failed> {
        match self {
            Self::Inline(both) => Ok(both.1.output(output)?),
            Self::Threads { slots, .. } => slots
                .send(Slot::Output(output))
                .map_err(|_| Failed::Stopped),
        }
    }

    /// Tells the writer something in its place between the jobs.
    pub fn note(&mut self, note: Note) -> Result<(), Failed> {
        match self {
            Self::Inline(both) => Ok(both.1.note(note)?),
            Self::Threads { slots, .. } => {
                slots.send(Slot::Note(note)).map_err(|_| Failed::Stopped)
            }
        }
    }

    /// Waits for all jobs and writes the archive's end; after a failure, tells its reason.
    pub fn finish(self, failed: Option<Failed>) -> Result<Written, BackupError> {
        let writer = match self {
            Self::Inline(both) => match failed {
                Some(Failed::Because(error)) => return Err(error),
                Some(Failed::Stopped) => return Err(died()),
                None => both.1,
            },
            Self::Threads {
                jobs,
                slots,
                writer,
            } => {
                drop((jobs, slots));
                let writer = writer.join().map_err(|_| died())??;
                match failed {
                    Some(Failed::Because(error)) => return Err(error),
                    Some(Failed::Stopped) => return Err(died()),
                    None => writer,
                }
            }
        };
        writer.finish()
    }
}

/// Why the coordinator stops.
#[derive(Debug)]
pub enum Failed {
    /// The writer knows.
    Stopped,
    /// For this reason.
    Because(BackupError),
}

impl From<BackupError> for Failed {
    fn from(error: BackupError) -> Self {
        Self::Because(error)
    }
}

fn next(orders: &Mutex<Receiver<Order>>) -> Option<Order> {
    orders.lock().ok()?.recv().ok()
}

fn received(answer: &Receiver<Answer>) -> Result<Output, BackupError> {
    answer.recv().map_err(|_| died())?.map_err(internal)
}

fn internal(error: MemberError) -> BackupError {
    BackupError::Internal(error.to_string())
}

fn died() -> BackupError {
    BackupError::Internal("a thread ended early".to_owned())
}

/// Packs the manifest's lines, by the workers where there are some.
pub struct Packing<'a> {
    own: Worker<'a>,
    jobs: Option<SyncSender<Order>>,
    parts: Vec<Arc<[u8]>>,
    waiting: Vec<Receiver<Answer>>,
}

impl<'a> Packing<'a> {
    fn inline(own: Worker<'a>) -> Self {
        Self {
            own,
            jobs: None,
            parts: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn threads(own: Worker<'a>, jobs: SyncSender<Order>) -> Self {
        Self {
            jobs: Some(jobs),
            ..Self::inline(own)
        }
    }

    /// Adds a piece, uncompressed.
    pub fn push(&mut self, raw: Vec<u8>) -> Result<(), BackupError> {
        let Some(jobs) = &self.jobs else {
            let packed = self.one(raw, true)?;
            self.parts.push(packed);
            return Ok(());
        };
        let (answer, waiting) = sync_channel(1);
        let job = Job::Block {
            raw,
            continues: true,
        };
        jobs.send((job, answer)).map_err(|_| died())?;
        self.waiting.push(waiting);
        // What is done is taken in at once, so that a broken thread is noticed early.
        while let Some(first) = self.waiting.first() {
            match first.try_recv() {
                Ok(output) => self.take(output.map_err(internal)?),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(died()),
            }
            self.waiting.remove(0);
        }
        Ok(())
    }

    fn take(&mut self, output: Output) {
        let packed = output.members.into_iter().map(|member| member.packed);
        self.parts.extend(packed);
    }

    /// Packs one piece at once.
    pub fn one(&mut self, raw: Vec<u8>, continues: bool) -> Result<Arc<[u8]>, BackupError> {
        let output = self
            .own
            .run(Job::Block { raw, continues })
            .map_err(internal)?;
        let member = output.members.into_iter().next().ok_or_else(died)?;
        Ok(member.packed)
    }

    /// All pieces in their order.
    pub fn finish(&mut self) -> Result<Vec<Arc<[u8]>>, BackupError> {
        for answer in std::mem::take(&mut self.waiting) {
            let output = received(&answer)?;
            self.take(output);
        }
        self.jobs = None;
        Ok(std::mem::take(&mut self.parts))
    }
}
