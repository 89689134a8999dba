//! How old the histories are, known in memory.
//!
//! In come histories and the day, out come numbers for each symbol. Looking is the background's work: who asks waits
//! for no file.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::civil::Date;
use stockpredictor_storage::history::Bar;
use stockpredictor_storage::symbol::Symbol;

use crate::calendar;
use crate::sample;

/// Sessions that a history may lack before it is stale; alerts compare with this.
pub const AGE_LIMIT: u32 = 3;

/// A served symbol with its bars; `None` where its history can't be used.
pub type History = (Symbol, Option<Arc<Vec<Bar>>>);

/// One symbol's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolData {
    /// The symbol.
    pub symbol: Symbol,
    /// Its last session.
    pub as_of: Date,
    /// Sessions that ended since then.
    pub age: u32,
    /// Whether it is the sample that came with the program.
    pub is_sample: bool,
}

/// What the last look found.
#[derive(Default)]
pub struct Data {
    found: Mutex<Vec<SymbolData>>,
}

impl Data {
    /// Every symbol with a usable history.
    pub fn symbols(&self) -> Vec<SymbolData> {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes what a look found; `got_samples` says whether samples were put on the volume.
    pub fn set(&self, histories: &[History], today: Date, got_samples: bool) {
        let found = histories.iter().filter_map(|(symbol, bars)| {
            let as_of = bars.as_ref()?.last()?.date;
            let last = sample::last_session(symbol.as_str());
            Some(SymbolData {
                symbol: symbol.clone(),
                as_of,
                age: calendar::sessions_between(as_of, today),
                is_sample: got_samples && last.is_some_and(|last| as_of <= last),
            })
        });
        let found = found.collect();
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::bar;
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_sample_is_one_until_a_newer_session_comes() {
        let data = Data::default();
        let symbol = |text| Symbol::parse(text).unwrap();
        let history = |text, day| (symbol(text), Some(Arc::new(vec![bar(day, 1.0)])));
        let last = date(2023, 12, 29);
        let histories = [
            history("NVDA", last),
            history("TSLA", date(2024, 1, 2)),
            history("MSFT", last),
            (symbol("AAPL"), None),
        ];
        let found = |got_samples| {
            data.set(&histories, date(2024, 1, 4), got_samples);
            let found = data.symbols().into_iter();
            found
                .map(|one| (one.symbol.to_string(), one.age, one.is_sample))
                .collect::<Vec<_>>()
        };
        let expected = |sample| {
            [("NVDA", 2, sample), ("TSLA", 1, false), ("MSFT", 2, false)]
                .map(|(symbol, age, sample)| (symbol.to_owned(), age, sample))
        };
        assert_eq!(found(true), expected(true));
        assert_eq!(found(false), expected(false), "the volume got no samples");
    }
}
