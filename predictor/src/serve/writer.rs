//! The background writer: what serving leaves on the volume without waiting for it.
//!
//! In come files to write, touch and remove; out goes whether the volume takes them.
//! Nothing here may block or fail a request: when the queue is full or the disk
//! refuses, the file is not written, and that is all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use stockpredictor_storage::atomic;

/// Jobs that may wait.
const QUEUE: usize = 4096;

/// What can be done to a file.
#[derive(Debug)]
pub enum Job {
    /// Replace it atomically.
    Write(PathBuf, Vec<u8>),
    /// Write it unless it is there.
    Keep(PathBuf, Vec<u8>),
    /// Note that it was used.
    Touch(PathBuf),
    /// Remove it.
    Remove(PathBuf),
    /// Say when everything before is done.
    Flush(SyncSender<()>),
}

/// What the writer works on; tests put in one that refuses.
pub trait Disk: Send + 'static {
    /// Replaces a file atomically.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Sets the time of the last change to now.
    fn touch(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real disk.
pub struct RealDisk;

impl Disk for RealDisk {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match (atomic::write_cache(path, bytes), path.parent()) {
            // Somebody removed the folder to empty it: what comes now needs it again.
            (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                atomic::write_cache(path, bytes)
            }
            (written, _) => written,
        }
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        File::options()
            .write(true)
            .open(path)?
            .set_modified(SystemTime::now())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// The way into the queue.
#[derive(Clone)]
pub struct Writer {
    queue: SyncSender<Job>,
}

impl Writer {
    /// Starts the writer's thread; `told` hears the outcome of each write.
    pub fn start(
        disk: impl Disk,
        told: impl Fn(&Path, io::Result<()>) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || work(&jobs, &disk, &told))?;
        Ok(Self { queue })
    }

    /// Puts a job into the queue; false when it is full and the job is dropped.
    pub fn send(&self, job: Job) -> bool {
        !matches!(self.queue.try_send(job), Err(TrySendError::Full(_)))
    }

    /// Waits until all jobs so far are done, for at most `patience`.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        self.send(Job::Flush(done)) && wait.recv_timeout(patience).is_ok()
    }
}

fn work(jobs: &Receiver<Job>, disk: &impl Disk, told: &impl Fn(&Path, io::Result<()>)) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Keep(path, _) if path.exists() => {}
            Job::Write(path, bytes) | Job::Keep(path, bytes) => {
                told(&path, disk.write(&path, &bytes));
            }
            // The file may have gone meanwhile, and a time that is not set changes only the order of eviction.
            Job::Touch(path) => drop(disk.touch(&path)),
            Job::Remove(path) => drop(disk.remove(&path)),
            Job::Flush(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    struct FullDisk;

    impl Disk for FullDisk {
        fn write(&self, _: &Path, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn touch(&self, _: &Path) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn remove(&self, _: &Path) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_full_disk_is_told_and_the_writer_goes_on() {
        let (tell, told) = channel();
        let writer = Writer::start(FullDisk, move |_, result| {
            tell.send(result.map_err(|error| error.kind())).unwrap();
        })
        .unwrap();
        for _ in 0..2 {
            assert!(writer.send(Job::Write("a".into(), vec![1])));
        }
        assert!(writer.flush(Duration::from_secs(5)));
        let told: Vec<_> = told.try_iter().collect();
        assert_eq!(told, [Err(io::ErrorKind::StorageFull); 2]);
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache/predictions/a.json");
        RealDisk.write(&path, b"a").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"a");
    }

    #[test]
    fn a_flush_waits_for_the_files_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::start(RealDisk, |_, _| {}).unwrap();
        for index in 0..50 {
            writer.send(Job::Write(folder.path().join(format!("{index}")), vec![0]));
        }
        assert!(writer.flush(Duration::from_secs(10)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 50);
    }
}
