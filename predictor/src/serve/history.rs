//! Price histories in memory, read again as soon as their files change.
//!
//! In come symbols, out come bars or a problem. Looking whether files changed costs a
//! few system calls, so it is done at every request: an appended bar counts at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::civil::Date;
use stockpredictor_storage::history::{self, Bar, HistoryError};
use stockpredictor_storage::symbol::Symbol;

use super::problem::{Kind, Problem};
use super::seen::Seen;
use crate::calendar;

/// The first day from which on the calendar is right; older bars are not compared with it.
const CALENDAR_START: Date = jiff::civil::date(2013, 1, 1);

/// What can be seen of a symbol's files without reading them.
type Fingerprint = Vec<(PathBuf, Option<Seen>)>;
type Loaded = Result<Arc<Vec<Bar>>, Problem>;

/// Histories of the served symbols. Calls block on the file system.
pub struct Histories {
    folder: PathBuf,
    trusted_for: Duration,
    symbols: BTreeMap<Symbol, Mutex<Option<Cached>>>,
}

struct Cached {
    fingerprint: Fingerprint,
    read_at: Instant,
    read_on: Date,
    loaded: Loaded,
}

impl Histories {
    /// Histories below `folder`; a parsed one is trusted for `trusted_for` while its files look the same.
    pub fn new(folder: &Path, symbols: &[Symbol], trusted_for: Duration) -> Self {
        let empty = symbols
            .iter()
            .map(|symbol| (symbol.clone(), Mutex::new(None)));
        Self {
            folder: folder.to_owned(),
            trusted_for,
            symbols: empty.collect(),
        }
    }

    /// The bars of a served symbol, ascending and at least one.
    pub fn load(&self, symbol: &Symbol, today: Date) -> Loaded {
        self.load_with(symbol, today, || {
            history::load_symbol(&self.folder, symbol, today)
        })
    }

    fn load_with(
        &self,
        symbol: &Symbol,
        today: Date,
        read: impl FnOnce() -> Result<Vec<Bar>, HistoryError>,
    ) -> Loaded {
        let Some(slot) = self.symbols.get(symbol) else {
            return Err(Problem::new(
                Kind::UnknownSymbol,
                format!(
                    "{symbol} is not served here: add it to the symbols of this service (spec.symbols)"
                ),
            ));
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder.join(symbol.as_str());
        let fingerprint = fingerprint(&folder);
        if let Some(cached) = slot.as_ref() {
            // A refusal may end with the day: a bar of tomorrow is right tomorrow.
            let same_day = cached.loaded.is_ok() || cached.read_on == today;
            let fresh = cached.read_at.elapsed() < self.trusted_for;
            if cached.fingerprint == fingerprint && same_day && fresh {
                return cached.loaded.clone();
            }
        }
        let loaded = match read() {
            Ok(bars) => check_sessions(&folder, &bars).map(|()| Arc::new(bars)),
            Err(error @ HistoryError::Read { .. }) => {
                // A disk that fails heals without any trace on the files: the next look reads again.
                *slot = None;
                return Err(problem(&error));
            }
            Err(error) => Err(problem(&error)),
        };
        *slot = Some(Cached {
            fingerprint,
            read_at: Instant::now(),
            read_on: today,
            loaded: loaded.clone(),
        });
        loaded
    }
}

/// A day without trading is a mistake of the source, and would shift every feature after it.
fn check_sessions(folder: &Path, bars: &[Bar]) -> Result<(), Problem> {
    let days = bars.iter().map(|bar| bar.date);
    let odd = days
        .skip_while(|day| *day < CALENDAR_START)
        .find(|day| !calendar::is_session(*day));
    match odd {
        None => Ok(()),
        Some(day) => Err(Problem::new(
            Kind::BrokenHistory,
            format!(
                "{}: {day} is not a session of the New York Stock Exchange: remove its line or correct its date",
                folder.display()
            ),
        )),
    }
}

fn problem(error: &HistoryError) -> Problem {
    let kind = match error {
        HistoryError::NoFiles { .. } => Kind::NoHistory,
        _ => Kind::BrokenHistory,
    };
    Problem::new(kind, error.to_string())
}

/// An unreadable folder has an empty fingerprint: reading it says why.
fn fingerprint(folder: &Path) -> Fingerprint {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Fingerprint = entries
        .take(history::MAX_CSV_FILES * 2)
        .map(|entry| entry.path())
        .map(|path| (path.clone(), Seen::of(&path)))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use std::io::Write;

    const LONG: Duration = Duration::from_hours(1);

    fn histories() -> (tempfile::TempDir, Histories, Symbol, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let symbol = Symbol::parse("NVDA").unwrap();
        fs::create_dir(folder.path().join("NVDA")).unwrap();
        let file = folder.path().join("NVDA/NVDA.csv");
        fs::write(
            &file,
            "date,open,high,low,close,volume\n2023-12-28,1,1,1,1,1\n",
        )
        .unwrap();
        let histories = Histories::new(folder.path(), std::slice::from_ref(&symbol), LONG);
        (folder, histories, symbol, file)
    }

    #[test]
    fn an_appended_bar_is_seen_at_the_next_look() {
        let (_folder, histories, symbol, file) = histories();
        let today = date(2024, 1, 2);
        let first = histories.load(&symbol, today).unwrap();
        assert!(
            Arc::ptr_eq(&first, &histories.load(&symbol, today).unwrap()),
            "it is not read twice"
        );
        let mut appended = fs::OpenOptions::new().append(true).open(&file).unwrap();
        appended.write_all(b"2023-12-29,2,2,2,2,2\n").unwrap();
        assert_eq!(histories.load(&symbol, today).unwrap().len(), 2);
    }

    #[test]
    fn a_bar_of_tomorrow_is_refused_today_and_right_tomorrow() {
        let (_folder, histories, symbol, _file) = histories();
        let error = histories.load(&symbol, date(2023, 12, 27)).unwrap_err();
        assert_eq!(error.kind, Kind::BrokenHistory);
        assert!(histories.load(&symbol, date(2023, 12, 28)).is_ok());
    }

    #[test]
    fn a_read_that_failed_is_tried_again_though_the_files_look_the_same() {
        let (_folder, histories, symbol, _file) = histories();
        let today = date(2024, 1, 2);
        let failing = || {
            Err(HistoryError::Read {
                name: "NVDA.csv".to_owned(),
                source: std::io::Error::other("stale file handle"),
            })
        };
        let error = histories.load_with(&symbol, today, failing).unwrap_err();
        assert!(error.detail.contains("stale file handle"), "{error:?}");
        assert_eq!(histories.load(&symbol, today).unwrap().len(), 1);
    }

    #[test]
    fn a_day_without_trading_is_refused() {
        let (_folder, histories, symbol, file) = histories();
        let mut appended = fs::OpenOptions::new().append(true).open(&file).unwrap();
        appended.write_all(b"2023-12-30,2,2,2,2,2\n").unwrap();
        let error = histories.load(&symbol, date(2024, 1, 2)).unwrap_err();
        assert_eq!(error.kind, Kind::BrokenHistory);
        assert!(
            error.detail.contains("NVDA: 2023-12-30 is not a session"),
            "{error:?}"
        );
        // Of days before the calendar begins nobody knows.
        let old = "date,open,high,low,close,volume\n2012-10-29,1,1,1,1,1\n2012-12-25,1,1,1,1,1\n2013-01-02,1,1,1,1,1\n";
        fs::write(&file, old).unwrap();
        assert_eq!(histories.load(&symbol, date(2024, 1, 2)).unwrap().len(), 3);
    }

    #[test]
    fn a_symbol_that_is_not_served_is_not_looked_for() {
        let (_folder, histories, _symbol, _file) = histories();
        let other = Symbol::parse("MSFT").unwrap();
        assert_eq!(
            histories.load(&other, date(2024, 1, 2)).unwrap_err().kind,
            Kind::UnknownSymbol
        );
    }
}
