//! Price history: daily bars out of CSV files.
//!
//! In come CSV files with the header `date,open,high,low,close,volume` (columns in
//! any order, further ones ignored) and a line end after each row; out come bars, ascending by day, or an error
//! that names the file, the line and what to do. A file with a single bad line is
//! refused whole: a gap that nobody notices would change every prediction after it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::symbol::Symbol;

mod error;

pub use error::HistoryError;

/// Largest CSV file in bytes; a century of daily bars is about 2 MiB.
pub const MAX_CSV_BYTES: u64 = 16 * 1024 * 1024;
/// Most CSV files of one symbol.
pub const MAX_CSV_FILES: usize = 256;
/// The header that every history file has to carry.
pub const CSV_HEADER: &str = "date,open,high,low,close,volume";

/// One session of one symbol; prices are split-adjusted and positive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// The session's day in New York.
    pub date: Date,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// Shares traded; 0 where the source knows none.
    pub volume: u64,
}

/// Reads the CSV files of `symbol` under `historical/<SYMBOL>/` and joins them.
///
/// `historical` is the volume's `stock_data/historical`. Each file is ascending in
/// itself; several files are put in the order of their first days and must not
/// overlap. Files that don't end in `.csv` and hidden ones are ignored. `today` is
/// the current day in New York.
pub fn load_symbol(
    historical: &Path,
    symbol: &Symbol,
    today: Date,
) -> Result<Vec<Bar>, HistoryError> {
    load_folder(&historical.join(symbol.as_str()), today)
}

/// Reads all CSV files of one folder as the history of one symbol.
pub fn load_folder(folder: &Path, today: Date) -> Result<Vec<Bar>, HistoryError> {
    let mut parts = Vec::new();
    for path in csv_files(folder)? {
        parts.push((path.display().to_string(), load_file(&path, today)?));
    }
    parts.sort_by_key(|(_, bars)| bars.first().map(|bar| bar.date));
    let mut joined: Vec<Bar> = Vec::new();
    let mut joined_until = String::new();
    for (name, bars) in parts {
        if let (Some(last), Some(first)) = (joined.last(), bars.first())
            && first.date <= last.date
        {
            return Err(HistoryError::Overlap {
                name,
                date: first.date,
                other: joined_until,
                until: last.date,
            });
        }
        joined.extend(bars);
        joined_until = name;
    }
    Ok(joined)
}

/// Reads one CSV file; it must be a plain file of at most [`MAX_CSV_BYTES`].
pub fn load_file(path: &Path, today: Date) -> Result<Vec<Bar>, HistoryError> {
    let name = path.display().to_string();
    let failed = |source| HistoryError::Read {
        name: name.clone(),
        source,
    };
    // Looked at before it is opened: opening a pipe would wait for a writer for ever.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(HistoryError::NotAFile { name });
    }
    parse_csv(fs::File::open(path).map_err(failed)?, &name, today)
}

fn csv_files(folder: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let shown = || folder.display().to_string();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(HistoryError::NoFiles { folder: shown() });
        }
        Err(source) => {
            return Err(HistoryError::Read {
                name: shown(),
                source,
            });
        }
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| HistoryError::Read {
            name: shown(),
            source,
        })?;
        let name = entry.file_name();
        let is_csv = Path::new(&name)
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        if is_csv && !name.as_encoded_bytes().starts_with(b".") {
            files.push(entry.path());
        }
        if files.len() > MAX_CSV_FILES {
            return Err(HistoryError::TooManyFiles { folder: shown() });
        }
    }
    if files.is_empty() {
        return Err(HistoryError::NoFiles { folder: shown() });
    }
    files.sort();
    Ok(files)
}

/// Parses one CSV text; `name` is what errors call it, `today` the last day allowed.
///
/// The result has at least one bar and ascends strictly by day.
pub fn parse_csv(reader: impl Read, name: &str, today: Date) -> Result<Vec<Bar>, HistoryError> {
    let mut text = Vec::new();
    let taken = reader.take(MAX_CSV_BYTES + 1).read_to_end(&mut text);
    taken.map_err(|source| HistoryError::Read {
        name: name.to_owned(),
        source,
    })?;
    if text.len() as u64 > MAX_CSV_BYTES {
        return Err(HistoryError::TooLarge {
            name: name.to_owned(),
        });
    }
    let mut rows = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_slice());
    let malformed = |error: &csv::Error, line: u64| HistoryError::Malformed {
        name: name.to_owned(),
        line: error.position().map_or(line, csv::Position::line),
        reason: short(&error.to_string()),
    };
    let header = rows
        .headers()
        .map_err(|error| malformed(&error, 1))?
        .clone();
    let columns = Columns::find(&header, name)?;
    let mut bars: Vec<Bar> = Vec::new();
    let mut row = csv::StringRecord::new();
    let mut line = 1;
    while rows
        .read_record(&mut row)
        .map_err(|error| malformed(&error, line + 1))?
    {
        line = row.position().map_or(line + 1, csv::Position::line);
        if row.len() != header.len() {
            return Err(HistoryError::WrongLength {
                name: name.to_owned(),
                line,
                expected: header.len(),
                found: row.len(),
            });
        }
        let bar = columns.bar(&row, &Place { name, line })?;
        check_order(bars.last(), &bar, today, &Place { name, line })?;
        bars.push(bar);
    }
    if bars.is_empty() {
        return Err(HistoryError::NoBars {
            name: name.to_owned(),
        });
    }
    // Without its end nobody knows whether the last number is whole: 481.68 may have been cut to 48.
    if !text.ends_with(b"\n") && !text.ends_with(b"\r") {
        return Err(HistoryError::NoLineEnd {
            name: name.to_owned(),
            line,
        });
    }
    Ok(bars)
}

/// Where a value stands, for its error.
struct Place<'a> {
    name: &'a str,
    line: u64,
}

/// Positions of the columns that are used.
struct Columns {
    date: usize,
    open: usize,
    high: usize,
    low: usize,
    close: usize,
    volume: usize,
}

impl Columns {
    fn find(header: &csv::StringRecord, name: &str) -> Result<Self, HistoryError> {
        let position = |column: &'static str| {
            let mut found = header
                .iter()
                .enumerate()
                .filter(|(_, title)| title.eq_ignore_ascii_case(column));
            match (found.next(), found.next()) {
                (Some((index, _)), None) => Ok(index),
                (None, _) => Err(HistoryError::MissingColumn {
                    name: name.to_owned(),
                    column,
                }),
                (Some(_), Some(_)) => Err(HistoryError::RepeatedColumn {
                    name: name.to_owned(),
                    column,
                }),
            }
        };
        Ok(Self {
            date: position("date")?,
            open: position("open")?,
            high: position("high")?,
            low: position("low")?,
            close: position("close")?,
            volume: position("volume")?,
        })
    }

    fn bar(&self, row: &csv::StringRecord, place: &Place) -> Result<Bar, HistoryError> {
        let bar = Bar {
            date: parse_date(&row[self.date], place)?,
            open: parse_price(&row[self.open], "open", place)?,
            high: parse_price(&row[self.high], "high", place)?,
            low: parse_price(&row[self.low], "low", place)?,
            close: parse_price(&row[self.close], "close", place)?,
            volume: parse_volume(&row[self.volume], place)?,
        };
        if bar.high < bar.low {
            let Bar { high, low, .. } = bar;
            return Err(HistoryError::HighBelowLow {
                name: place.name.to_owned(),
                line: place.line,
                high,
                low,
            });
        }
        check_range(&bar, place)?;
        Ok(bar)
    }
}

/// Opens and closes lie between low and high, but for what rounding of adjusted prices leaves.
fn check_range(bar: &Bar, place: &Place) -> Result<(), HistoryError> {
    const ROUNDING: f64 = 1e-6;
    let range = bar.low * (1.0 - ROUNDING)..=bar.high * (1.0 + ROUNDING);
    for (column, price) in [("open", bar.open), ("close", bar.close)] {
        if !range.contains(&price) {
            return Err(HistoryError::OutsideOfRange {
                name: place.name.to_owned(),
                line: place.line,
                column,
                price,
                low: bar.low,
                high: bar.high,
            });
        }
    }
    Ok(())
}

fn check_order(
    previous: Option<&Bar>,
    bar: &Bar,
    today: Date,
    place: &Place,
) -> Result<(), HistoryError> {
    let (name, line, date) = (place.name.to_owned(), place.line, bar.date);
    if date > today {
        return Err(HistoryError::FutureDay {
            name,
            line,
            date,
            today,
        });
    }
    match previous {
        Some(previous) if previous.date == date => {
            Err(HistoryError::DuplicateDay { name, line, date })
        }
        Some(previous) if previous.date > date => Err(HistoryError::Unsorted {
            name,
            line,
            date,
            previous: previous.date,
        }),
        _ => Ok(()),
    }
}

fn parse_date(value: &str, place: &Place) -> Result<Date, HistoryError> {
    // The length keeps out the other forms of ISO 8601, which spreadsheets and people misread.
    let parsed = if value.len() == 10 {
        value.parse().ok()
    } else {
        None
    };
    parsed.ok_or_else(|| HistoryError::ParseDate {
        name: place.name.to_owned(),
        line: place.line,
        value: short(value),
    })
}

fn parse_price(value: &str, column: &'static str, place: &Place) -> Result<f64, HistoryError> {
    match value.parse::<f64>() {
        Ok(price) if price.is_normal() && price > 0.0 => Ok(price),
        _ => Err(HistoryError::ParsePrice {
            name: place.name.to_owned(),
            line: place.line,
            column,
            value: short(value),
        }),
    }
}

/// Some sources write volumes as `40668800.0`; fractions of a share are rounded off.
fn parse_volume(value: &str, place: &Place) -> Result<u64, HistoryError> {
    const LARGEST: f64 = 9.0e15;
    if let Ok(volume) = value.parse::<u64>()
        && volume as f64 <= LARGEST
    {
        return Ok(volume);
    }
    match value.parse::<f64>() {
        Ok(volume) if (0.0..=LARGEST).contains(&volume) => Ok(volume.round() as u64),
        _ => Err(HistoryError::ParseVolume {
            name: place.name.to_owned(),
            line: place.line,
            value: short(value),
        }),
    }
}

/// Bounds what a broken file can put into a message.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TODAY: Date = jiff::civil::date(2024, 1, 2);
    const GOOD: &str = "2023-12-28,496.43,498.84,494.12,495.22,24658700\n";

    fn parse(rows: &str) -> Result<Vec<Bar>, HistoryError> {
        parse_csv(
            format!("{CSV_HEADER}\n{rows}").as_bytes(),
            "NVDA.csv",
            TODAY,
        )
    }

    fn refusal(rows: &str) -> String {
        parse(&format!("{GOOD}{rows}")).unwrap_err().to_string()
    }

    #[test]
    fn columns_are_found_by_name_and_further_ones_are_ignored() {
        let text = "Volume,Close,adjusted,Low,High,Open,Date\n5,3,x,1,4,2,2023-12-29\n";
        let bars = parse_csv(text.as_bytes(), "a.csv", TODAY).unwrap();
        let expected = Bar {
            date: jiff::civil::date(2023, 12, 29),
            open: 2.0,
            high: 4.0,
            low: 1.0,
            close: 3.0,
            volume: 5,
        };
        assert_eq!(bars, [expected]);
    }

    #[test]
    fn byte_order_mark_and_windows_line_ends_are_understood() {
        let text = format!("\u{feff}{CSV_HEADER}\r\n{}\r\n", GOOD.trim());
        assert_eq!(parse_csv(text.as_bytes(), "a.csv", TODAY).unwrap().len(), 1);
    }

    #[test]
    fn a_volume_with_a_decimal_point_is_a_count() {
        assert_eq!(
            parse("2023-12-28,1,1,1,1,24658700.0\n").unwrap()[0].volume,
            24_658_700
        );
    }

    #[rstest::rstest]
    #[case("2023-12-29,498.13,499.97,487", "line 3: has 4 of 6 fields")]
    #[case("2023-12-29,NaN,499,487,495,1", "line 3: open \"NaN\"")]
    #[case("2023-12-29,498,inf,487,495,1", "line 3: high \"inf\"")]
    #[case("2023-12-29,498,499,0,495,1", "line 3: low \"0\"")]
    #[case("2023-12-29,498,499,487,-495,1", "line 3: close \"-495\"")]
    #[case("2023-12-29,498,499,487,,1", "line 3: close \"\"")]
    #[case("2023-12-29,498,487,499,495,1", "line 3: high 487 is below low 499")]
    #[case(
        "2023-12-29,499.1,499,487,495,1",
        "line 3: open 499.1 is outside of low 487 to high 499"
    )]
    #[case("2023-12-29,486.9,499,487,495,1", "line 3: open 486.9 is outside")]
    #[case("2023-12-29,498,499,487,49,1", "line 3: close 49 is outside")]
    #[case("2023-12-29,498,499,487,499.001,1", "line 3: close 499.001 is outside")]
    #[case("2023-12-29,498,499,487,495,-1", "line 3: volume \"-1\"")]
    #[case("2023-12-29,498,499,487,495,1e300", "line 3: volume \"1e300\"")]
    #[case("29.12.2023,498,499,487,495,1", "line 3: \"29.12.2023\" is not a day")]
    #[case("2023-02-30,498,499,487,495,1", "line 3: \"2023-02-30\" is not a day")]
    #[case(
        "2023-12-27,498,499,487,495,1",
        "line 3: 2023-12-27 comes after 2023-12-28: sort"
    )]
    #[case("2023-12-28,498,499,487,495,1", "line 3: 2023-12-28 is there twice")]
    #[case(
        "2024-01-03,498,499,487,495,1",
        "line 3: 2024-01-03 is in the future (today is 2024-01-02)"
    )]
    fn a_bad_line_is_refused_by_file_and_line(#[case] row: &str, #[case] message: &str) {
        let shown = refusal(row);
        assert!(
            shown.starts_with("NVDA.csv ") && shown.contains(message),
            "{shown}"
        );
    }

    #[test]
    fn what_rounding_leaves_is_inside_of_the_range() {
        parse("2023-12-29,499.00000000000006,499,487,486.99999999999994,1\n").unwrap();
    }

    #[test]
    fn a_last_row_that_may_be_cut_off_is_refused() {
        let shown = refusal("2023-12-29,498.13,499.97,487.51,495.22,388");
        assert!(
            shown.contains("NVDA.csv line 3: has no line end: end the file with a newline"),
            "{shown}"
        );
        parse("2023-12-29,498.13,499.97,487.51,495.22,388\r\n").unwrap();
    }

    #[test]
    fn headers_without_a_needed_column_are_refused() {
        let error = parse_csv("date,open,high,low,close\n".as_bytes(), "a.csv", TODAY).unwrap_err();
        assert!(
            matches!(
                error,
                HistoryError::MissingColumn {
                    column: "volume",
                    ..
                }
            ),
            "{error}"
        );
        let error = parse_csv("".as_bytes(), "a.csv", TODAY).unwrap_err();
        assert!(
            matches!(error, HistoryError::MissingColumn { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_file_over_the_limit_is_refused_without_being_read_whole() {
        let error = parse_csv(io::repeat(b'x'), "a.csv", TODAY).unwrap_err();
        assert!(matches!(error, HistoryError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn several_files_are_joined_by_their_days() {
        let folder = tempfile::tempdir().unwrap();
        let nvda = folder.path().join("NVDA");
        fs::create_dir(&nvda).unwrap();
        fs::write(
            nvda.join("a.csv"),
            format!("{CSV_HEADER}\n2023-12-29,1,1,1,1,1\n"),
        )
        .unwrap();
        fs::write(nvda.join("b.csv"), format!("{CSV_HEADER}\n{GOOD}")).unwrap();
        fs::write(nvda.join(".hidden.csv"), "x").unwrap();
        fs::write(nvda.join("notes.txt"), "x").unwrap();
        let symbol = Symbol::parse("NVDA").unwrap();
        let bars = load_symbol(folder.path(), &symbol, TODAY).unwrap();
        assert_eq!(
            bars.iter().map(|bar| bar.date.day()).collect::<Vec<_>>(),
            [28, 29]
        );

        fs::write(
            nvda.join("c.csv"),
            format!("{CSV_HEADER}\n2023-12-29,1,1,1,1,1\n"),
        )
        .unwrap();
        let error = load_symbol(folder.path(), &symbol, TODAY).unwrap_err();
        assert!(matches!(error, HistoryError::Overlap { .. }), "{error}");
    }

    #[test]
    fn a_symbol_without_files_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let error = load_symbol(folder.path(), &Symbol::parse("TSLA").unwrap(), TODAY).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("TSLA: put one there with the header date,open"),
            "{error}"
        );
    }

    #[test]
    fn the_sample_data_is_accepted() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
        for symbol in ["NVDA", "TSLA", "AAPL"] {
            let bars = load_file(&data.join(format!("{symbol}.csv")), TODAY).unwrap();
            assert_eq!(bars.len(), 2768, "{symbol}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut text = format!("{CSV_HEADER}\n").into_bytes();
            text.extend(bytes);
            let _ = parse_csv(text.as_slice(), "a.csv", TODAY);
        }

        #[test]
        fn any_tail_cut_off_leaves_a_shorter_history_or_an_error(cut in 0_usize..100) {
            let text = format!("{CSV_HEADER}\n{GOOD}2023-12-29,498.13,499.97,487.51,495.22,38869000\n");
            let whole = parse_csv(text.as_bytes(), "a.csv", TODAY).unwrap();
            let end = text.len().saturating_sub(cut);
            if let Ok(bars) = parse_csv(&text.as_bytes()[..end], "a.csv", TODAY) {
                prop_assert_eq!(&bars[..], &whole[..bars.len()]);
            }
        }
    }
}
