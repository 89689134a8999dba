//! What can be wrong with a price history: file, line, and what to do about it.

use std::io;

use jiff::civil::Date;

use super::{CSV_HEADER, MAX_CSV_BYTES, MAX_CSV_FILES};

/// Why a history can't be used. Lines count from 1, the header included.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what the fields are")]
pub enum HistoryError {
    #[error("no CSV file in {folder}: put one there with the header {CSV_HEADER}")]
    NoFiles { folder: String },
    #[error("{name}: can't be read: {source}")]
    Read { name: String, source: io::Error },
    #[error("{name} is not a plain file: put the CSV itself there")]
    NotAFile { name: String },
    #[error("{folder} has more than {MAX_CSV_FILES} CSV files: join them into fewer")]
    TooManyFiles { folder: String },
    #[error(
        "{name} is larger than {MAX_CSV_BYTES} bytes: daily bars need far less; put only the history of one symbol there"
    )]
    TooLarge { name: String },
    #[error("{name}: the header has no column {column:?}: it must name {CSV_HEADER}")]
    MissingColumn { name: String, column: &'static str },
    #[error("{name}: the header names the column {column:?} twice: remove one of them")]
    RepeatedColumn { name: String, column: &'static str },
    #[error("{name}: has a header, but no bars: put the price history there again")]
    NoBars { name: String },
    #[error("{name} line {line}: is not valid CSV text ({reason}): write the file again as UTF-8")]
    Malformed {
        name: String,
        line: u64,
        reason: String,
    },
    #[error(
        "{name} line {line}: has {found} of {expected} fields, so it was cut off or mixed up: copy the file again"
    )]
    WrongLength {
        name: String,
        line: u64,
        expected: usize,
        found: usize,
    },
    #[error("{name} line {line}: {value:?} is not a day: write dates as YYYY-MM-DD")]
    ParseDate {
        name: String,
        line: u64,
        value: String,
    },
    #[error(
        "{name} line {line}: {column} {value:?} is not a positive number: correct the line or leave the day out"
    )]
    ParsePrice {
        name: String,
        line: u64,
        column: &'static str,
        value: String,
    },
    #[error(
        "{name} line {line}: volume {value:?} is not a count of shares: write a number of at least 0"
    )]
    ParseVolume {
        name: String,
        line: u64,
        value: String,
    },
    #[error(
        "{name} line {line}: high {high} is below low {low}: correct the line, the columns may be swapped"
    )]
    HighBelowLow {
        name: String,
        line: u64,
        high: f64,
        low: f64,
    },
    #[error(
        "{name} line {line}: {column} {price} is outside of low {low} to high {high}: correct the line, the columns may be swapped"
    )]
    OutsideOfRange {
        name: String,
        line: u64,
        column: &'static str,
        price: f64,
        low: f64,
        high: f64,
    },
    #[error("{name} line {line}: has no line end: end the file with a newline; it may be cut off")]
    NoLineEnd { name: String, line: u64 },
    #[error(
        "{name} line {line}: {date} comes after {previous}: sort the file by date, oldest first"
    )]
    Unsorted {
        name: String,
        line: u64,
        date: Date,
        previous: Date,
    },
    #[error("{name} line {line}: {date} is there twice: keep one line a day")]
    DuplicateDay { name: String, line: u64, date: Date },
    #[error(
        "{name} line {line}: {date} is in the future (today is {today}): remove the line or set the clock right"
    )]
    FutureDay {
        name: String,
        line: u64,
        date: Date,
        today: Date,
    },
    #[error(
        "{name} begins on {date}, but {other} already reaches {until}: let each day be in one file only"
    )]
    Overlap {
        name: String,
        date: Date,
        other: String,
        until: Date,
    },
}
