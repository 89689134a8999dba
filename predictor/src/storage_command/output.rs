//! Reports: text for people, JSON for programs, and numbers as people read them.
//!
//! In come reports, out goes standard output. A reader that closes the pipe early is no failure of the command.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;
use stockpredictor_storage::text::visible;

/// How a command reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines for people.
    Text,
    /// One JSON document.
    Json,
}

impl Output {
    /// Writes the report in the wanted form; `text` is called for the first form only.
    pub fn print(self, report: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        let text = match self {
            Self::Text => visible_lines(&text()),
            Self::Json => serde_json::to_string_pretty(report)? + "\n",
        };
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }
}

/// Lines that can't write on a terminal beyond themselves, whatever an archive has in its names and words.
pub fn visible_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(visible).collect();
    lines.join("\n")
}

/// Bytes as `du -h` shows them: `450M`, `5.2M`, `2.1G`; rounded up.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut divisor = 1024_u128;
    for unit in UNITS {
        let tenths = (u128::from(bytes) * 10).div_ceil(divisor);
        if tenths < 100 {
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
        let whole = u128::from(bytes).div_ceil(divisor);
        if whole < 1024 {
            return format!("{whole}{unit}");
        }
        divisor *= 1024;
    }
    // 2^64 bytes are 16E, so the last unit always fits.
    format!("{bytes}B")
}

/// A count with commas between thousands, as in `1,234`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_du_does() {
        let table = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10 * 1024, "10K"),
            (10 * 1024 + 1, "11K"),
            (5 * 1024 * 1024 + 200_000, "5.2M"),
            (1024 * 1024 - 1, "1.0M"),
            (u64::MAX, "16E"),
        ];
        for (bytes, expected) in table {
            assert_eq!(human_bytes(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn thousands_are_grouped() {
        let table = [
            (0, "0"),
            (999, "999"),
            (1234, "1,234"),
            (1_000_000, "1,000,000"),
        ];
        for (count, expected) in table {
            assert_eq!(grouped(count), expected);
        }
    }
}
