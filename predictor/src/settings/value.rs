//! The forms that a setting's value may have.
//!
//! In comes text, out comes a typed value, or a sentence that says which form is right.

use std::net::SocketAddr;

use stockpredictor_storage::period::{PERIOD_FORM, Period};
use stockpredictor_storage::symbol::Symbol;

use crate::model::config::check_name;

/// Most symbols that one process serves.
pub const MAX_SYMBOLS: usize = 100;
/// Most entries of the prediction cache.
const MAX_ENTRIES: u64 = 1_000_000;
/// Longest path.
const MAX_PATH: usize = 4096;

/// What the accepted form is, in words.
pub type Expected = String;

pub fn symbols(text: &str) -> Result<Vec<Symbol>, Expected> {
    let mut symbols: Vec<Symbol> = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let symbol = Symbol::parse(part).map_err(|error| error.to_string())?;
        if !symbols.contains(&symbol) {
            symbols.push(symbol);
        }
    }
    if symbols.is_empty() || symbols.len() > MAX_SYMBOLS {
        return Err(format!(
            "give 1 to {MAX_SYMBOLS} symbols with commas between them, such as NVDA,TSLA"
        ));
    }
    Ok(symbols)
}

pub fn address(text: &str) -> Result<SocketAddr, Expected> {
    text.parse()
        .map_err(|_| "give an address and a port, such as 0.0.0.0:8080 or [::1]:8080".to_owned())
}

pub fn switch(text: &str) -> Result<bool, Expected> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("give true or false".to_owned()),
    }
}

pub fn period(text: &str) -> Result<Period, Expected> {
    text.parse().map_err(|_| format!("give {PERIOD_FORM}"))
}

pub fn entries(text: &str) -> Result<u64, Expected> {
    match text.parse() {
        Ok(count @ 1..=MAX_ENTRIES) => Ok(count),
        _ => Err(format!("give a whole number from 1 to {MAX_ENTRIES}")),
    }
}

/// A path, or nothing.
pub fn path(text: &str) -> Result<(), Expected> {
    if text.len() > MAX_PATH || text.contains('\0') {
        return Err(format!("give a path of at most {MAX_PATH} bytes"));
    }
    Ok(())
}

/// A name that is one folder, or nothing.
pub fn name(text: &str) -> Result<(), Expected> {
    if text.is_empty() {
        return Ok(());
    }
    check_name(text).map_err(|error| error.to_string())
}
