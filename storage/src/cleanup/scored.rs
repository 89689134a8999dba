//! Which predictions were scored: the sessions in `stock_data/predictions/analysis/<SYMBOL>.jsonl`.
//!
//! In come symbols and dates, out comes whether an outcome was written. What can't be read counts as not scored,
//! so that its prediction stays. Memory is bounded, however long the files are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use jiff::civil::Date;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::archive::path::RelativePath;
use crate::descriptor;

/// Longest line that is looked at.
const MAX_LINE: u64 = 64 * 1024;
/// Symbols whose outcomes are kept in memory at once.
const MAX_SYMBOLS: usize = 256;
/// Sessions of one symbol, 80 years of them.
const MAX_SESSIONS: usize = 20_000;

/// The outcomes of a volume.
#[derive(Debug)]
pub struct Scored {
    folder: Option<OwnedFd>,
    known: BTreeMap<String, BTreeSet<Date>>,
}

/// The part of an outcome that says which session it is for.
#[derive(Deserialize)]
struct Outcome {
    target_date: Option<Date>,
    prediction: Option<Prediction>,
}

#[derive(Deserialize)]
struct Prediction {
    target_date: Option<Date>,
}

impl Scored {
    /// The outcomes below an open root.
    pub fn new(root: &OwnedFd) -> Self {
        let path = RelativePath::new("stock_data/predictions/analysis").ok();
        Self {
            folder: path.and_then(|path| descriptor::open_below(root, &path).ok()),
            known: BTreeMap::new(),
        }
    }

    /// Whether the outcome of a symbol's session is known.
    pub fn has(&mut self, symbol: &str, target: Date) -> bool {
        if !self.known.contains_key(symbol) {
            if self.known.len() >= MAX_SYMBOLS {
                self.known.clear();
            }
            let read = self.read(symbol);
            self.known.insert(symbol.to_owned(), read);
        }
        let sessions = self.known.get(symbol);
        sessions.is_some_and(|sessions| sessions.contains(&target))
    }

    fn read(&self, symbol: &str) -> BTreeSet<Date> {
        let mut sessions = BTreeSet::new();
        let Some(folder) = &self.folder else {
            return sessions;
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = format!("{symbol}.jsonl");
        let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()) else {
            return sessions;
        };
        let mut lines = BufReader::new(File::from(file));
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return sessions,
            }
            // A part of a line that is too long, or cut off, is no JSON and says nothing.
            let Ok(outcome) = serde_json::from_slice::<Outcome>(&line) else {
                continue;
            };
            let inner = outcome.prediction.and_then(|found| found.target_date);
            sessions.extend(outcome.target_date.or(inner));
            if sessions.len() > MAX_SESSIONS {
                sessions.pop_first();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_session_is_scored_when_a_whole_line_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let analysis = folder.path().join("stock_data/predictions/analysis");
        fs::create_dir_all(&analysis).unwrap();
        fs::write(
            analysis.join("NVDA.jsonl"),
            "{\"target_date\":\"2024-01-02\",\"actual\":1}\nnonsense\n\
             {\"prediction\":{\"target_date\":\"2024-01-03\"},\"actual\":2}\n{\"target_date\":\"2024-01-0",
        )
        .unwrap();
        let mut scored = Scored::new(&descriptor::open_root(folder.path()).unwrap());
        let day = |day| jiff::civil::date(2024, 1, day);
        assert!(scored.has("NVDA", day(2)) && scored.has("NVDA", day(3)));
        assert!(!scored.has("NVDA", day(4)) && !scored.has("TSLA", day(2)));
    }
}
