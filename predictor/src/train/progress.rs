//! What a person sees while training runs: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows how far several fits are.
pub struct Progress {
    bar: ProgressBar,
    epochs: u64,
    is_terminal: bool,
}

impl Progress {
    /// For `fits` fits of at most `epochs` passes each.
    pub fn new(fits: usize, epochs: usize) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let epochs = epochs as u64;
        let bar = if is_terminal {
            ProgressBar::new(fits as u64 * epochs)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template(
            "{bar:40} {percent:>3}%  {elapsed} of about {duration}  {msg}",
        ) {
            bar.set_style(style);
        }
        bar.set_message("training");
        Self {
            bar,
            epochs,
            is_terminal,
        }
    }

    /// One more pass of any fit.
    pub fn passed(&self) {
        self.bar.inc(1);
    }

    /// A fit ended after `passes`; the passes that it did not need count as done.
    pub fn finished(&self, line: &str, passes: usize) {
        self.bar.inc(self.epochs.saturating_sub(passes as u64));
        if self.is_terminal {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    /// Takes the bar off the screen.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
