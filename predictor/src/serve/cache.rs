//! The prediction cache: LRU and TTL in memory, one small file an entry on the volume.
//!
//! In come keys and a way to compute what is missing; out come predictions and where
//! each came from. Equal requests at the same time are one computation. An entry older
//! than its TTL is never given out, neither from memory nor from a file.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use moka::Expiry;
use moka::future::Cache;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use serde::{Deserialize, Serialize};
use stockpredictor_storage::atomic;

use super::clock::Clock;
use super::forecast::{Forecast, ModelName};
use super::problem::Problem;
use super::writer::{Job, Writer};
use crate::feature::FEATURE_VERSION;
use crate::model::folder::hex_sha256;

/// Format of a cache file; files of another one are removed.
const FORMAT: u32 = 2;
/// Largest cache file.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// A file's time is set at most this often, in seconds.
const TOUCH_EVERY: i64 = 60;
/// How long clearing waits for files that are being written.
const CLEAR_PATIENCE: Duration = Duration::from_secs(5);
/// The longest that an entry stays in memory.
const MAX_TTL: Duration = Duration::from_hours(24 * 3650);

/// What a prediction depends on.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    /// The symbol.
    pub symbol: &'a str,
    /// Last session of the history.
    pub as_of: jiff::civil::Date,
    /// Hash of the input window.
    pub window: [u8; 32],
    /// The last close: features are free of scale, prices are not.
    pub close: f64,
    /// Name of the model.
    pub name: &'a str,
    /// Version of the model.
    pub version: &'a str,
    /// Hash of the graph.
    pub model: &'a str,
    /// Hash of the scaler.
    pub scaler: &'a str,
    /// Hash of `model_config.json`, which has the confidence table; empty where there is none.
    pub config: &'a str,
}

/// Names an entry: equal only when everything that a prediction depends on is equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Arc<Parts>);

/// What a key is made of, as it is stored beside the prediction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Parts {
    symbol: String,
    as_of: jiff::civil::Date,
    window: [u8; 32],
    /// Bits of the last close, which text would round.
    close: u64,
    name: String,
    version: String,
    model: String,
    scaler: String,
    config: String,
    features: u32,
}

impl Key {
    /// The key of what it depends on.
    pub fn new(parts: &KeyParts<'_>) -> Self {
        Self(Arc::new(Parts {
            symbol: parts.symbol.to_owned(),
            as_of: parts.as_of,
            window: parts.window,
            close: parts.close.to_bits(),
            name: parts.name.to_owned(),
            version: parts.version.to_owned(),
            model: parts.model.to_owned(),
            scaler: parts.scaler.to_owned(),
            config: parts.config.to_owned(),
            features: FEATURE_VERSION,
        }))
    }

    /// Its file's name without the ending.
    fn file_stem(&self) -> String {
        let parts = &*self.0;
        let mut text = Vec::new();
        for part in [
            &parts.symbol,
            &parts.name,
            &parts.version,
            &parts.model,
            &parts.scaler,
            &parts.config,
        ] {
            text.extend((part.len() as u64).to_le_bytes());
            text.extend(part.as_bytes());
        }
        text.extend(parts.as_of.to_string().as_bytes());
        text.extend(parts.window);
        text.extend(parts.close.to_le_bytes());
        text.extend(parts.features.to_le_bytes());
        format!("{}_{}_{}", parts.symbol, parts.as_of, hex_sha256(&text))
    }

    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.json", self.file_stem()))
    }

    /// Whether a forecast is one that this key may stand for.
    fn fits(&self, forecast: &Forecast) -> bool {
        let Parts {
            symbol,
            as_of,
            name,
            version,
            model,
            ..
        } = &*self.0;
        let ModelName {
            name: found_name,
            version: found_version,
            sha256,
        } = &forecast.model;
        *symbol == forecast.symbol
            && *as_of == forecast.as_of
            && name == found_name
            && version == found_version
            && model == sha256
    }
}

/// A cache file's content.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    key: Parts,
    forecast: Forecast,
}

/// An entry in memory.
pub struct Entry {
    /// What was computed.
    pub forecast: Forecast,
    expires_at: Timestamp,
    touched: AtomicI64,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answers without a computation.
    pub hits: AtomicU64,
    /// Answers with one.
    pub misses: AtomicU64,
    /// Entries that made room for others.
    pub evictions: AtomicU64,
}

/// The cache.
pub struct PredictionCache {
    folder: PathBuf,
    files: Files,
    max_entries: u64,
    entries: Cache<Key, Arc<Entry>>,
    counts: Arc<Counts>,
    writer: Writer,
    clock: Clock,
}

/// Reads cache files; blocks on the file system.
#[derive(Clone)]
struct Files {
    ttl: Duration,
    clock: Clock,
}

/// Tells moka when an entry ends; one that was loaded has only the rest of its time.
struct UntilExpiry(Clock);

impl Expiry<Key, Arc<Entry>> for UntilExpiry {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        let rest = entry.expires_at.duration_since(self.0.now());
        Some(Duration::try_from(rest).unwrap_or_default().min(MAX_TTL))
    }
}

impl PredictionCache {
    /// An empty cache over `folder`, the directory of its files.
    pub fn new(
        folder: PathBuf,
        ttl: Duration,
        max_entries: u64,
        writer: Writer,
        clock: Clock,
    ) -> Self {
        let counts = Arc::new(Counts::default());
        let (evicted_counts, evicted_writer, evicted_folder) =
            (Arc::clone(&counts), writer.clone(), folder.clone());
        let entries = Cache::builder()
            .max_capacity(max_entries)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(UntilExpiry(clock.clone()))
            .eviction_listener(move |key: Arc<Key>, _: Arc<Entry>, cause| {
                // Files of expired entries are left to `clean`, which looks into them: the same
                // key may have been computed and written again before this is called.
                match cause {
                    RemovalCause::Size => {
                        evicted_counts.evictions.fetch_add(1, Ordering::Relaxed);
                        evicted_writer.send(Job::Remove(key.file(&evicted_folder)));
                    }
                    RemovalCause::Explicit => {
                        evicted_writer.send(Job::Remove(key.file(&evicted_folder)));
                    }
                    RemovalCause::Expired | RemovalCause::Replaced => {}
                }
            })
            .build();
        let files = Files {
            ttl: ttl.min(MAX_TTL),
            clock: clock.clone(),
        };
        Self {
            folder,
            files,
            max_entries,
            entries,
            counts,
            writer,
            clock,
        }
    }

    /// Takes up what earlier processes left: the most recently used entries that have not expired.
    ///
    /// Blocks on the file system; files that are expired, damaged or too many are removed.
    pub async fn load(&self) -> usize {
        let (folder, files) = (self.folder.clone(), self.files.clone());
        let room = usize::try_from(self.max_entries).unwrap_or(usize::MAX);
        let read = move || {
            let listed = list(&folder);
            let surplus = listed.len().saturating_sub(room);
            let read = listed.into_iter().enumerate().map(|(index, (path, _))| {
                let entry = if index < surplus {
                    None
                } else {
                    files.read(&path, None)
                };
                (path, entry)
            });
            read.collect::<Vec<_>>()
        };
        let mut loaded = 0;
        for (path, entry) in tokio::task::spawn_blocking(read).await.unwrap_or_default() {
            match entry {
                Some((key, entry)) => {
                    self.entries.insert(key, Arc::new(entry)).await;
                    loaded += 1;
                }
                None => {
                    self.writer.send(Job::Remove(path));
                }
            }
        }
        loaded
    }

    /// The entry of `key`: from memory, from its file, or computed and stored. True means that nothing was computed for it.
    pub async fn get(
        &self,
        key: Key,
        compute: impl Future<Output = Result<Forecast, Problem>>,
    ) -> Result<(Arc<Entry>, bool), Problem> {
        if let Some(entry) = self.entries.get(&key).await {
            if entry.expires_at > self.clock.now() {
                self.touch(&key, &entry);
                self.counts.hits.fetch_add(1, Ordering::Relaxed);
                return Ok((entry, true));
            }
            self.entries.invalidate(&key).await;
        }
        let (mut computed, mut from_file) = (false, false);
        let found = self
            .entries
            .entry(key.clone())
            .or_try_insert_with(async {
                // Another replica, or this one before its entry was evicted, may have left a file.
                let (files, wanted, path) =
                    (self.files.clone(), key.clone(), key.file(&self.folder));
                let read = tokio::task::spawn_blocking(move || files.read(&path, Some(&wanted)));
                if let Ok(Some((_, entry))) = read.await {
                    from_file = true;
                    return Ok(Arc::new(entry));
                }
                let forecast = compute.await?;
                computed = true;
                self.store(&key, &forecast, Job::Write);
                Ok(Arc::new(self.files.entry(forecast)))
            })
            .await
            .map_err(|problem: Arc<Problem>| (*problem).clone())?;
        let counter = if computed {
            &self.counts.misses
        } else {
            &self.counts.hits
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let entry = found.into_value();
        if from_file {
            // If it was evicted a moment ago, its file is still to go, and what is in memory should outlive a restart. The
            // entry is in memory by now, so that its removal comes before this in the writer's queue.
            self.store(&key, &entry.forecast, Job::Keep);
        }
        Ok((entry, !computed))
    }

    /// Forgets everything, files included; returns how many entries there were.
    pub async fn clear(&self) -> u64 {
        let count = self.count().await;
        self.entries.invalidate_all();
        self.entries.run_pending_tasks().await;
        let (folder, writer) = (self.folder.clone(), self.writer.clone());
        // Not through the queue: the next request must not find a file that is only about to go.
        let removed = tokio::task::spawn_blocking(move || {
            writer.flush(CLEAR_PATIENCE);
            for (path, _) in list(&folder) {
                // Another replica may have removed it first.
                let _ = fs::remove_file(path);
            }
        });
        let _ = removed.await;
        count
    }

    /// Removes files of expired entries and what killed writers left; returns how many.
    pub async fn clean(&self) -> usize {
        self.entries.run_pending_tasks().await;
        let (folder, files) = (self.folder.clone(), self.files.clone());
        let useless = move || {
            let listed = list(&folder).into_iter().map(|(path, _)| path);
            listed
                .filter(|path| files.read(path, None).is_none())
                .collect::<Vec<_>>()
        };
        let useless = tokio::task::spawn_blocking(useless)
            .await
            .unwrap_or_default();
        let count = useless.len();
        for path in useless {
            self.writer.send(Job::Remove(path));
        }
        count
    }

    /// Entries in memory.
    pub async fn count(&self) -> u64 {
        self.entries.run_pending_tasks().await;
        self.entries.entry_count()
    }

    /// Entries in memory, roughly, without any work.
    pub fn approximate_count(&self) -> u64 {
        self.entries.entry_count()
    }

    /// Most entries in memory.
    pub fn max_entries(&self) -> u64 {
        self.max_entries
    }

    /// Counts since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn store(&self, key: &Key, forecast: &Forecast, job: impl FnOnce(PathBuf, Vec<u8>) -> Job) {
        let stored = Stored {
            format: FORMAT,
            key: Parts::clone(&key.0),
            forecast: forecast.clone(),
        };
        if let Ok(bytes) = serde_json::to_vec(&stored) {
            self.writer.send(job(key.file(&self.folder), bytes));
        }
    }

    /// Keeps the order of use for the next start.
    fn touch(&self, key: &Key, entry: &Entry) {
        let now = self.clock.now().as_second();
        if now - entry.touched.load(Ordering::Relaxed) >= TOUCH_EVERY {
            entry.touched.store(now, Ordering::Relaxed);
            self.writer.send(Job::Touch(key.file(&self.folder)));
        }
    }
}

impl Files {
    fn entry(&self, forecast: Forecast) -> Entry {
        let ttl = jiff::SignedDuration::try_from(self.ttl).unwrap_or(jiff::SignedDuration::ZERO);
        Entry {
            expires_at: forecast
                .prediction_time
                .saturating_add(ttl)
                .unwrap_or(forecast.prediction_time),
            forecast,
            touched: AtomicI64::new(0),
        }
    }

    /// An entry of a file that is whole, of the right name and not expired.
    fn read(&self, path: &Path, expected: Option<&Key>) -> Option<(Key, Entry)> {
        let size = fs::symlink_metadata(path)
            .ok()
            .filter(fs::Metadata::is_file)?
            .len();
        if size > MAX_FILE_BYTES {
            return None;
        }
        let stored: Stored = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let key = Key(Arc::new(stored.key));
        let belongs = path.file_stem()?.to_str()? == key.file_stem() && key.fits(&stored.forecast);
        let now = self.clock.now();
        let entry = self.entry(stored.forecast);
        // A prediction of the future was made under a wrong clock; how old it is nobody knows.
        let fresh = entry.expires_at > now && entry.forecast.prediction_time <= now;
        let wanted = expected.is_none_or(|expected| *expected == key);
        (stored.format == FORMAT && belongs && wanted && fresh).then_some((key, entry))
    }
}

/// The cache's files, the least recently used first; unfinished ones only when they are old.
fn list(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    const ABANDONED: Duration = Duration::from_hours(1);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            let modified = entry
                .metadata()
                .ok()
                .filter(fs::Metadata::is_file)?
                .modified()
                .ok()?;
            let abandoned =
                atomic::is_unfinished(name) && modified.elapsed().is_ok_and(|age| age > ABANDONED);
            let ours = !name.starts_with('.')
                && Path::new(name).extension().is_some_and(|end| end == "json");
            (abandoned || ours).then(|| (entry.path(), modified))
        })
        .collect();
    found.sort_by(|left, right| (left.1, &left.0).cmp(&(right.1, &right.0)));
    found
}

#[cfg(test)]
mod tests {
    use super::super::forecast::{Interval, Signal};
    use super::super::writer::{Disk, RealDisk};
    use super::*;
    use std::collections::HashSet;
    use std::io;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, channel};
    use tokio::sync::Semaphore;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn key(symbol: &str) -> Key {
        Key::new(&KeyParts {
            symbol,
            as_of: jiff::civil::date(2023, 12, 29),
            window: [1; 32],
            close: 495.22,
            name: "model",
            version: "1",
            model: "aa",
            scaler: "bb",
            config: "cc",
        })
    }

    fn forecast(symbol: &str) -> Forecast {
        Forecast {
            symbol: symbol.to_owned(),
            current_price: 495.22,
            predicted_price: 495.5,
            predicted_return: 0.0006,
            interval: Interval {
                level: 0.8,
                low: 485.0,
                high: 506.0,
            },
            trading_signal: Signal::Hold,
            confidence: None,
            as_of: jiff::civil::date(2023, 12, 29),
            target_date: jiff::civil::date(2024, 1, 2),
            prediction_time: Timestamp::now(),
            model: ModelName {
                name: "model".to_owned(),
                version: "1".to_owned(),
                sha256: "aa".to_owned(),
            },
        }
    }

    fn cache(folder: &Path, max_entries: u64, disk: impl Disk) -> PredictionCache {
        let writer = Writer::start(disk, |_, _| {}).unwrap();
        let ttl = Duration::from_hours(1);
        PredictionCache::new(folder.to_owned(), ttl, max_entries, writer, Clock::system())
    }

    #[tokio::test]
    async fn equal_requests_at_the_same_time_are_one_computation() {
        const CALLERS: u32 = 20;
        let folder = tempfile::tempdir().unwrap();
        let cache = Arc::new(cache(folder.path(), 10, RealDisk));
        let (computations, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (cache, computations, asked) =
                    (cache.clone(), computations.clone(), asked.clone());
                tokio::spawn(async move {
                    let computed = async {
                        computations.fetch_add(1, Ordering::Relaxed);
                        // Nothing is computed before everybody has asked.
                        let everybody = asked.acquire_many(CALLERS).await;
                        everybody.unwrap().forget();
                        asked.add_permits(CALLERS as usize);
                        Ok(forecast("NVDA"))
                    };
                    asked.add_permits(1);
                    cache.get(key("NVDA"), computed).await.unwrap().1
                })
            })
            .collect();
        let mut without_computing = 0;
        for caller in callers {
            let hit = tokio::time::timeout(PATIENCE, caller).await.unwrap();
            without_computing += u32::from(hit.unwrap());
        }
        assert_eq!(computations.load(Ordering::Relaxed), 1);
        assert_eq!(without_computing, CALLERS - 1);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (hits, misses) = (count(&cache.counts().hits), count(&cache.counts().misses));
        assert_eq!((hits, misses), (u64::from(CALLERS) - 1, 1));
    }

    /// A disk whose removals wait until the test lets each one go.
    struct SlowRemoval(Receiver<()>);

    impl Disk for SlowRemoval {
        fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            RealDisk.write(path, bytes)
        }

        fn touch(&self, path: &Path) -> io::Result<()> {
            RealDisk.touch(path)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            let _ = self.0.recv_timeout(PATIENCE);
            RealDisk.remove(path)
        }
    }

    #[tokio::test]
    async fn an_entry_that_comes_back_before_its_file_is_removed_keeps_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (let_go, removals) = channel();
        let cache = cache(folder.path(), 1, SlowRemoval(removals));
        let computed = async |symbol: &'static str| {
            let found = cache.get(key(symbol), async { Ok(forecast(symbol)) }).await;
            let (_, hit) = found.unwrap();
            cache.entries.run_pending_tasks().await;
            !hit
        };
        assert!(computed("NVDA").await);
        let file = key("NVDA").file(folder.path());
        assert!(cache.writer.flush(PATIENCE) && file.exists());
        assert!(computed("TSLA").await);
        assert!(cache.entries.get(&key("NVDA")).await.is_none(), "evicted");
        assert!(!computed("NVDA").await, "its file is still there");
        for _ in 0..2 {
            let_go.send(()).unwrap();
        }
        assert!(cache.writer.flush(PATIENCE));
        assert!(file.exists(), "a restart would have to compute it again");
        assert!(!key("TSLA").file(folder.path()).exists());
    }

    #[test]
    fn everything_that_a_prediction_depends_on_makes_another_key() {
        let parts = KeyParts {
            symbol: "NVDA",
            as_of: jiff::civil::date(2023, 12, 29),
            window: [1; 32],
            close: 495.22,
            name: "nvda_lstm_model",
            version: "1",
            model: "aa",
            scaler: "bb",
            config: "cc",
        };
        let others = [
            parts,
            KeyParts {
                symbol: "TSLA",
                ..parts
            },
            KeyParts {
                as_of: jiff::civil::date(2024, 1, 2),
                ..parts
            },
            KeyParts {
                window: [2; 32],
                ..parts
            },
            KeyParts {
                close: 247.61,
                ..parts
            },
            KeyParts {
                name: "other",
                ..parts
            },
            KeyParts {
                version: "2",
                ..parts
            },
            KeyParts {
                config: "dd",
                ..parts
            },
            KeyParts {
                model: "ab",
                ..parts
            },
            KeyParts {
                scaler: "ba",
                ..parts
            },
            KeyParts {
                model: "aab",
                scaler: "b",
                ..parts
            },
        ];
        let keys: HashSet<Key> = others.iter().map(Key::new).collect();
        assert_eq!(keys.len(), others.len());
        assert!(keys.contains(&Key::new(&parts)));
        let files: HashSet<String> = keys.iter().map(Key::file_stem).collect();
        assert_eq!(files.len(), others.len());
    }
}
