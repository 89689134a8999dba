//! How far a long command is: bars on a terminal, plain lines elsewhere, nothing beside JSON.
//!
//! In comes what the engine tells, out goes standard error, so that reports stay clean.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stockpredictor_storage::progress::{Progress, Silent};

use super::output::{Output, human_bytes};

/// How often a bar is drawn anew while nothing is told.
const TICK: Duration = Duration::from_millis(200);
/// Redraws a second.
const RATE: u8 = 10;

/// The right progress for this command's output.
pub fn watch(output: Output) -> Box<dyn Progress + Send + Sync> {
    match output {
        Output::Json => Box::new(Silent),
        Output::Text if io::stderr().is_terminal() => Box::new(Bar::new()),
        Output::Text => Box::new(Lines::default()),
    }
}

/// One bar a step.
struct Bar(Mutex<ProgressBar>);

impl Bar {
    fn new() -> Self {
        Self(Mutex::new(ProgressBar::hidden()))
    }

    fn with(&self, act: impl FnOnce(&mut ProgressBar)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {binary_bytes}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Progress for Bar {
    fn step(&self, name: &str) {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(RATE))
            .with_style(spinner_style())
            .with_message(name.to_owned());
        bar.enable_steady_tick(TICK);
        self.with(|current| {
            current.finish_and_clear();
            *current = bar;
        });
    }

    fn expect(&self, _files: u64, bytes: u64) {
        self.with(|bar| {
            bar.set_style(bar_style());
            bar.set_length(bytes);
        });
    }

    fn advance(&self, _files: u64, bytes: u64) {
        self.with(|bar| bar.inc(bytes));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.with(|bar| bar.finish_and_clear());
    }
}

/// A line when a step begins, and one at each tenth of what it expects.
#[derive(Default)]
struct Lines {
    expected: AtomicU64,
    done: AtomicU64,
}

/// Tenths of `expected` that are passed between `before` and `after`; the last one passed, if any.
fn tenth_passed(before: u64, after: u64, expected: u64) -> Option<u64> {
    if expected == 0 {
        return None;
    }
    let tenth = |bytes: u64| u128::from(bytes.min(expected)) * 10 / u128::from(expected);
    let (before, after) = (tenth(before), tenth(after));
    (after > before)
        .then(|| u64::try_from(after).ok())
        .flatten()
}

impl Progress for Lines {
    fn step(&self, name: &str) {
        self.expected.store(0, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        eprintln!("{name}...");
    }

    fn expect(&self, _files: u64, bytes: u64) {
        self.expected.store(bytes, Ordering::Relaxed);
    }

    fn advance(&self, _files: u64, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let expected = self.expected.load(Ordering::Relaxed);
        if let Some(tenth) = tenth_passed(before, before.saturating_add(bytes), expected) {
            eprintln!("   {}0 % of {}", tenth, human_bytes(expected));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenth_is_told_once() {
        let table = [
            (0, 9, 100, None),
            (0, 10, 100, Some(1)),
            (10, 19, 100, None),
            (19, 45, 100, Some(4)),
            (90, 200, 100, Some(10)),
            (100, 200, 100, None),
            (0, 5, 0, None),
        ];
        for (before, after, expected, told) in table {
            assert_eq!(tenth_passed(before, after, expected), told);
        }
    }
}
