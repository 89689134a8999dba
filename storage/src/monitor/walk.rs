//! Counting: every directory below the root once, by several threads.
//!
//! In comes the root, out come files and bytes of each part of the volume. Links are not followed and a file with
//! several names counts once. Memory doesn't grow with the number of files: a queue of bounded length holds
//! directories, and what doesn't fit is walked at once.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fd::OwnedFd;
use rustix::fs::FileType;

use super::part::{PARTS, Part, part_of};
use crate::descriptor::{self, Facts};
use crate::progress::Progress;

/// Directories that wait; each holds its parent's descriptor, of which a process has 1024 in the worst case.
const MAX_QUEUE: usize = 256;
/// How deep one thread walks by itself; each level holds a descriptor and a buffer.
const MAX_DEPTH: usize = 96;
/// Most directories that wait when some lie too deep to be entered at once: some 10 MB of names.
const MAX_DEEP: usize = 100_000;
/// Most threads.
const MAX_THREADS: usize = 4;
/// Most files with several names that are remembered.
const MAX_LINKED: usize = 500_000;
/// Entries of a directory between two looks at the pace.
const STRIDE: u32 = 512;
/// Logs of this age are recent.
const RECENT: Duration = Duration::from_hours(24);

/// How fast it is counted, and for how long.
pub trait Pace: Sync {
    /// Threads that may count.
    fn threads(&self) -> usize;

    /// Called after some hundred entries, from each thread; it may wait, or end the count.
    fn step(&self) -> ControlFlow<()>;
}

/// As fast as the machine can.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hurried;

impl Pace for Hurried {
    fn threads(&self) -> usize {
        thread::available_parallelism().map_or(1, usize::from)
    }

    fn step(&self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// What lies in one part of the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Regular files.
    pub files: u64,
    /// Their bytes, as readers see them.
    pub bytes: u64,
    /// Files that changed in the last 24 hours.
    pub recent: u64,
    /// Seconds since 1970 of the latest change of a file; `None` without files.
    pub newest: Option<i64>,
}

/// Everything that was counted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// A count a part, in the order of [`PARTS`].
    pub parts: [Count; PARTS.len()],
    /// Directories that could not be read.
    pub unread: u64,
    /// One of them, with the reason.
    pub example: Option<String>,
}

impl Count {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            bytes: self.bytes.saturating_add(other.bytes),
            recent: self.recent + other.recent,
            newest: self.newest.max(other.newest),
        }
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        for (sum, part) in self.parts.iter_mut().zip(other.parts) {
            *sum = sum.plus(part);
        }
        self.unread += other.unread;
        self.example = self.example.take().or(other.example);
    }
}

/// A directory that waits to be counted.
struct Waiting {
    parent: Arc<OwnedFd>,
    name: CString,
    part: Part,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    at_work: usize,
}

struct Shared<'a> {
    queue: Mutex<Queue>,
    changed: Condvar,
    linked: Mutex<HashSet<((u32, u32), u64)>>,
    now: SystemTime,
    progress: &'a dyn Progress,
    pace: &'a dyn Pace,
    ended: AtomicBool,
}

/// Counts everything below `root`; an end by the pace is [`io::ErrorKind::Interrupted`].
pub fn count(
    root: &Path,
    now: SystemTime,
    progress: &dyn Progress,
    pace: &dyn Pace,
) -> io::Result<Counts> {
    let shared = Shared::new(now, progress, pace);
    let opened = Arc::new(descriptor::open_root(root)?);
    let mut first = Worker::new(&shared);
    first.directory(&opened, Part::Other, 0, true);
    let threads = pace.threads();
    let mut counts = first.counts;
    let others = thread::scope(|scope| {
        let workers: Vec<_> = (1..threads.min(MAX_THREADS))
            .map(|_| scope.spawn(|| Worker::new(&shared).work()))
            .collect();
        let mut others = vec![Worker::new(&shared).work()];
        let panicked = |_| io::Error::other("a thread was cut off");
        for worker in workers {
            others.push(worker.join().map_err(panicked)?);
        }
        Ok::<_, io::Error>(others)
    })?;
    for other in others {
        counts.add(other);
    }
    if shared.ended.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(counts)
}

impl<'a> Shared<'a> {
    fn new(now: SystemTime, progress: &'a dyn Progress, pace: &'a dyn Pace) -> Self {
        Self {
            queue: Mutex::default(),
            changed: Condvar::new(),
            linked: Mutex::default(),
            now,
            progress,
            pace,
            ended: AtomicBool::new(false),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a directory into the queue; gives it back when `limit` are there.
    fn push(&self, waiting: Waiting, limit: usize) -> Result<(), Waiting> {
        let mut queue = self.queue();
        if queue.waiting.len() >= limit {
            return Err(waiting);
        }
        queue.waiting.push(waiting);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    /// The next directory; `None` when there is none and nobody is left who could find one.
    fn take(&self) -> Option<Waiting> {
        let mut queue = self.queue();
        loop {
            // The last one first: so the queue stays short.
            if let Some(waiting) = queue.waiting.pop() {
                queue.at_work += 1;
                return Some(waiting);
            }
            if queue.at_work == 0 {
                self.changed.notify_all();
                return None;
            }
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self) {
        let mut queue = self.queue();
        queue.at_work -= 1;
        if queue.at_work == 0 && queue.waiting.is_empty() {
            self.changed.notify_all();
        }
    }

    /// Whether a file with several names was met for the first time.
    fn is_first(&self, facts: &Facts) -> bool {
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        // Beyond the limit each name counts, which is wrong by little and bounded in memory.
        linked.len() >= MAX_LINKED || linked.insert((facts.device, facts.inode))
    }
}

/// One thread's part of the work.
struct Worker<'a> {
    shared: &'a Shared<'a>,
    counts: Counts,
    buffers: Vec<Vec<u8>>,
    /// Entries since the last look at the pace.
    seen: u32,
}

/// Tells the others that a directory is done, however that came about.
struct Done<'a>(&'a Shared<'a>);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.done();
    }
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared<'a>) -> Self {
        Self {
            shared,
            counts: Counts::default(),
            buffers: Vec::new(),
            seen: 0,
        }
    }

    fn work(mut self) -> Counts {
        while let Some(waiting) = self.shared.take() {
            let _done = Done(self.shared);
            self.enter(&waiting, 0);
        }
        self.counts
    }

    /// Whether the count ends here; asks the pace now and then.
    fn is_over(&mut self) -> bool {
        self.seen += 1;
        if self.seen >= STRIDE {
            self.seen = 0;
            if self.shared.pace.step().is_break() {
                self.shared.ended.store(true, Ordering::Relaxed);
            }
        }
        self.shared.ended.load(Ordering::Relaxed)
    }

    fn enter(&mut self, waiting: &Waiting, depth: usize) {
        if self.shared.ended.load(Ordering::Relaxed) {
            return;
        }
        match descriptor::open_child(&*waiting.parent, waiting.name.as_c_str()) {
            Ok(opened) => self.directory(&Arc::new(opened), waiting.part, depth, false),
            Err(error) => self.unread(&waiting.name, &error),
        }
    }

    fn directory(&mut self, opened: &Arc<OwnedFd>, part: Part, depth: usize, is_root: bool) {
        let before = self.counts.parts[part as usize].files;
        let mut buffer = self.buffers.pop().unwrap_or_default();
        let listed = descriptor::each_name(&**opened, &mut buffer, |name, kind| {
            if self.is_over() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.entry(opened, name, kind, part, depth, is_root);
            Ok(())
        });
        self.buffers.push(buffer);
        if let Err(error) = listed {
            self.unread(c"a directory", &error);
        }
        let files = self.counts.parts[part as usize].files - before;
        self.shared.progress.advance(files, 0);
    }

    fn entry(
        &mut self,
        opened: &Arc<OwnedFd>,
        name: &CStr,
        kind: FileType,
        part: Part,
        depth: usize,
        is_root: bool,
    ) {
        if kind == FileType::Directory {
            self.subdirectory(opened, name, part_of(part, name.to_bytes(), is_root), depth);
            return;
        }
        if kind != FileType::RegularFile && kind != FileType::Unknown {
            return;
        }
        // Whatever went meanwhile isn't there to be counted.
        let Ok(facts) = descriptor::facts(&**opened, name) else {
            return;
        };
        match facts.kind {
            FileType::Directory => {
                self.subdirectory(opened, name, part_of(part, name.to_bytes(), is_root), depth);
            }
            FileType::RegularFile if facts.links < 2 || self.shared.is_first(&facts) => {
                let is_recent = facts.age(self.shared.now) <= RECENT;
                let count = &mut self.counts.parts[part as usize];
                count.files += 1;
                count.bytes = count.bytes.saturating_add(facts.size);
                count.recent += u64::from(is_recent);
                count.newest = count.newest.max(Some(facts.modified_second));
            }
            _ => {}
        }
    }

    fn subdirectory(&mut self, opened: &Arc<OwnedFd>, name: &CStr, part: Part, depth: usize) {
        let waiting = Waiting {
            parent: Arc::clone(opened),
            name: name.to_owned(),
            part,
        };
        // Where this thread can't go deeper another one has to, later, however many wait.
        let limit = if depth < MAX_DEPTH {
            MAX_QUEUE
        } else {
            MAX_DEEP
        };
        if let Err(waiting) = self.shared.push(waiting, limit) {
            if depth < MAX_DEPTH {
                self.enter(&waiting, depth + 1);
            } else {
                let error = io::Error::other("too many directories are nested too deeply");
                self.unread(name, &error);
            }
        }
    }

    fn unread(&mut self, name: &CStr, error: &io::Error) {
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        self.counts.unread += 1;
        if self.counts.example.is_none() {
            let shown = name.to_bytes().escape_ascii();
            self.counts.example = Some(format!("{shown}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use std::fs;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn wide_and_deep_trees_are_counted_whole_and_links_once() {
        let folder = tempfile::tempdir().unwrap();
        // More directories than the queue takes, each with a file.
        for index in 0..(MAX_QUEUE * 2) {
            let path = folder.path().join(format!("ml_cache/{index}/inner"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("a"), "1234").unwrap();
        }
        let deep = folder.path().join("logs").join("d/".repeat(300));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("x.log"), "12").unwrap();
        let name = folder.path().join("ml_cache/0/again");
        fs::hard_link(folder.path().join("ml_cache/0/inner/a"), name).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("ml_cache/link")).unwrap();
        let counts = count(folder.path(), SystemTime::now(), &Silent, &Hurried).unwrap();
        let cache = counts.parts[Part::MlCache as usize];
        let expected = MAX_QUEUE as u64 * 2;
        assert_eq!((cache.files, cache.bytes), (expected, expected * 4));
        let logs = counts.parts[Part::Logs as usize];
        assert_eq!((logs.files, logs.bytes, logs.recent), (1, 2, 1));
        assert_eq!(counts.unread, 0, "{:?}", counts.example);
    }

    #[test]
    fn a_deep_tree_is_counted_while_the_queue_is_full() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("empty")).unwrap();
        let deep = folder.path().join("logs").join("d/".repeat(300));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("x.log"), "12").unwrap();
        let shared = Shared::new(SystemTime::now(), &Silent, &Hurried);
        let root = Arc::new(descriptor::open_root(folder.path()).unwrap());
        for _ in 0..MAX_QUEUE {
            let waiting = Waiting {
                parent: Arc::clone(&root),
                name: c"empty".to_owned(),
                part: Part::Other,
            };
            assert!(shared.push(waiting, MAX_QUEUE).is_ok());
        }
        let mut worker = Worker::new(&shared);
        worker.directory(&root, Part::Other, 0, true);
        let counts = worker.work();
        let logs = counts.parts[Part::Logs as usize];
        assert_eq!((logs.files, counts.unread), (1, 0), "{:?}", counts.example);
    }

    /// Ends the count at its third step.
    struct Short(AtomicUsize);

    impl Pace for Short {
        fn threads(&self) -> usize {
            1
        }

        fn step(&self) -> ControlFlow<()> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        }
    }

    #[test]
    fn a_count_ends_when_its_pace_says_so_and_gives_no_half_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for directory in 0..10 {
            let path = folder.path().join(format!("logs/{directory}"));
            fs::create_dir_all(&path).unwrap();
            for file in 0..STRIDE {
                fs::write(path.join(file.to_string()), "").unwrap();
            }
        }
        let pace = Short(AtomicUsize::new(0));
        let error = count(folder.path(), SystemTime::now(), &Silent, &pace).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert_eq!(pace.0.load(Ordering::Relaxed), 3, "it is not asked again");
    }
}
