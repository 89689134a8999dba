//! One pass over the stored predictions: those whose real price is known by now become outcomes.
//!
//! In come the volume's folders and the histories; out come appended lines and the recent errors. Of several replicas
//! the one that has the lock writes, the others only read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;
use rustix::fs::{Mode, OFlags};
use stockpredictor_storage::history::Bar;
use stockpredictor_storage::lock::{LockError, Mode as LockMode, VolumeLock};
use stockpredictor_storage::symbol::Symbol;

use super::{Errors, Outcome, Recent, close_of, file, recent_since};
use crate::serve::forecast::Forecast;

/// Largest stored prediction.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Most predictions that one pass compares; some megabytes of memory, and decades of sessions.
const MAX_PREDICTIONS: usize = 200_000;

/// Outcomes that are written at once.
const BATCH: usize = 256;

/// What a pass works on.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The file that keeps two writers apart.
    pub lock: PathBuf,
    /// `stock_data/predictions`.
    pub predictions: PathBuf,
    /// The served symbols; a history is absent where it can't be used.
    pub histories: Vec<(Symbol, Option<Arc<Vec<Bar>>>)>,
    /// The day in New York.
    pub today: Date,
}

/// What a pass found and did.
#[derive(Debug, Default)]
pub struct Report {
    /// The recent errors of each symbol.
    pub recent: Recent,
    /// Outcomes that were written.
    pub written: u64,
    /// Whether another replica writes, so that this one only read.
    pub another_at_work: bool,
    /// Stored predictions that are none.
    pub unreadable: u64,
    /// One of them, with the reason.
    pub example: Option<String>,
    /// How each write went.
    pub writes: Vec<(PathBuf, io::Result<()>)>,
    /// Why something could not be read or locked.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether everything that could become an outcome is one now, and known here.
    pub fn is_complete(&self) -> bool {
        let refused = self.writes.iter().any(|(_, result)| result.is_err());
        !self.another_at_work && !refused && self.problems.is_empty()
    }
}

impl Pass {
    /// Blocks on the file system.
    pub fn run(&self) -> Report {
        let mut report = Report::default();
        // Taken before the files are read: what another one wrote until now is in them.
        let lock = match VolumeLock::try_take(&self.lock, LockMode::Exclusive) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => {
                report.another_at_work = true;
                None
            }
            Err(error @ (LockError::Taken { .. } | LockError::Use { .. })) => {
                report.problems.push(error.to_string());
                None
            }
        };
        let mut waiting = if lock.is_some() {
            self.waiting(&mut report)
        } else {
            BTreeMap::new()
        };
        for (symbol, bars) in &self.histories {
            let mut targets = waiting.remove(symbol).unwrap_or_default();
            let path = self.predictions.join(format!("analysis/{symbol}.jsonl"));
            let known = &mut |target: Date| {
                targets.remove(&target);
            };
            let mut recent = match file::read(&path, recent_since(self.today), self.today, known) {
                Ok(recent) => recent,
                Err(error) => {
                    // Without knowing what is in it, a line could be written twice.
                    let message = format!("{} can't be read: {error}", path.display());
                    report.problems.push(message);
                    continue;
                }
            };
            if let Some(bars) = bars
                && !targets.is_empty()
            {
                self.write((symbol, bars), &targets, &path, &mut recent, &mut report);
            }
            report.recent.insert(symbol.clone(), recent);
        }
        report
    }

    /// The stored predictions whose real price is known, by symbol.
    fn waiting(&self, report: &mut Report) -> BTreeMap<Symbol, BTreeSet<Date>> {
        let mut waiting: BTreeMap<Symbol, BTreeSet<Date>> = BTreeMap::new();
        let folder = self.predictions.join("daily");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return waiting,
            Err(error) => {
                let message = format!("{} can't be read: {error}", folder.display());
                report.problems.push(message);
                return waiting;
            }
        };
        let histories: BTreeMap<&Symbol, &Vec<Bar>> = self
            .histories
            .iter()
            .filter_map(|(symbol, bars)| Some((symbol, &**bars.as_ref()?)))
            .collect();
        let mut count = 0;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((symbol, target)) = name.to_str().and_then(prediction_of) else {
                continue;
            };
            let Some(bars) = histories.get(&symbol) else {
                continue;
            };
            // Before its day is over, a bar may be an unfinished one.
            if target >= self.today || close_of(bars, target).is_none() {
                continue;
            }
            count += 1;
            if count > MAX_PREDICTIONS {
                report.problems.push(format!(
                    "{} has more than {MAX_PREDICTIONS} predictions: remove the oldest",
                    folder.display()
                ));
                break;
            }
            waiting.entry(symbol).or_default().insert(target);
        }
        waiting
    }

    /// Writes the outcomes of a symbol's targets, some at a time.
    fn write(
        &self,
        (symbol, bars): (&Symbol, &[Bar]),
        targets: &BTreeSet<Date>,
        path: &Path,
        recent: &mut BTreeMap<Date, Errors>,
        report: &mut Report,
    ) {
        let since = recent_since(self.today);
        let mut targets = targets.iter().peekable();
        while targets.peek().is_some() {
            let (mut lines, mut count, mut found) = (Vec::new(), 0, BTreeMap::new());
            for target in targets.by_ref().take(BATCH) {
                let Some(outcome) = self.outcome(symbol, *target, bars, report) else {
                    continue;
                };
                let Ok(line) = serde_json::to_vec(&outcome) else {
                    continue;
                };
                lines.extend(line);
                lines.push(b'\n');
                count += 1;
                if *target >= since {
                    found.extend(outcome.errors().map(|errors| (*target, errors)));
                }
            }
            if lines.is_empty() {
                continue;
            }
            let written = file::append(path, &lines);
            let failed = written.is_err();
            report.writes.push((path.to_owned(), written));
            if failed {
                return;
            }
            report.written += count;
            recent.extend(found);
        }
    }

    /// The outcome of a stored prediction; `None` where that can't be read.
    fn outcome(
        &self,
        symbol: &Symbol,
        target: Date,
        bars: &[Bar],
        report: &mut Report,
    ) -> Option<Outcome> {
        let stored = self
            .predictions
            .join(format!("daily/{symbol}_{target}.json"));
        match read_forecast(&stored, symbol, target) {
            Ok(forecast) => Outcome::of(forecast, bars),
            // A cleanup took it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                report.unreadable += 1;
                let example = || format!("{}: {error}", stored.display());
                report.example.get_or_insert_with(example);
                None
            }
        }
    }
}

/// Symbol and target of `NVDA_2024-01-02.json`.
fn prediction_of(name: &str) -> Option<(Symbol, Date)> {
    let (symbol, target) = name.strip_suffix(".json")?.rsplit_once('_')?;
    let (symbol, target): (_, Date) = (Symbol::parse(symbol).ok()?, target.parse().ok()?);
    // Only the names that the service writes: others would be looked for in vain.
    (format!("{symbol}_{target}.json") == name).then_some((symbol, target))
}

/// A stored prediction that is what its name says.
fn read_forecast(path: &Path, symbol: &Symbol, target: Date) -> io::Result<Forecast> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("it is no small, regular file"));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut text)?;
    let forecast: Forecast = serde_json::from_slice(&text)?;
    let belongs = forecast.symbol == symbol.as_str() && forecast.target_date == target;
    if belongs && forecast.as_of < target {
        Ok(forecast)
    } else {
        Err(io::Error::other("it is the prediction of another session"))
    }
}

#[cfg(test)]
mod tests;
