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
mod tests;
