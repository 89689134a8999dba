//! The sample price history that is embedded in the program.
//!
//! In comes nothing but a symbol, out come files and the last session of each. Nothing is read from a disk here.

use include_dir::{Dir, include_dir};
use jiff::civil::Date;

static SAMPLES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../examples/data");

/// Every sample: its symbol and its CSV text.
pub fn files() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    SAMPLES.files().filter_map(|file| {
        let symbol = file.path().file_stem()?.to_str()?;
        Some((symbol, file.contents()))
    })
}

/// The last session of a symbol's sample; `None` where there is no sample.
pub fn last_session(symbol: &str) -> Option<Date> {
    let (_, text) = files().find(|(name, _)| *name == symbol)?;
    let last = text.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
    let day = last.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(day).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_a_last_session() {
        let samples: Vec<_> = files().map(|(symbol, _)| last_session(symbol)).collect();
        assert_eq!(samples.len(), 3);
        let last = jiff::civil::date(2023, 12, 29);
        assert!(samples.iter().all(|day| *day == Some(last)), "{samples:?}");
        assert_eq!(last_session("MSFT"), None);
    }
}
