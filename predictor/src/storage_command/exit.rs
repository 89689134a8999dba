//! How a command ended, and the exit code that says so.
//!
//! 0 done, 1 failed, 2 usage, 3 done with warnings, 4 failed and trying again is useless (jobs only). Scripts and the operator rely on these numbers.

use std::process::ExitCode;

/// How a command ended that ran to its end. Usage errors end in the command line's parser, with 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything that was asked for.
    Done,
    /// Done, and something needs a person's eye; the report says what.
    Warnings,
    /// Not done; the report says why.
    Failed,
    /// Not done, and the same again would end the same way.
    Hopeless,
}

impl Outcome {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Warnings => 3,
            Self::Hopeless => 4,
        }
    }

    /// `Done`, or `Warnings` where there are any.
    pub const fn with_warnings(any: bool) -> Self {
        if any { Self::Warnings } else { Self::Done }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_that_scripts_know() {
        use Outcome::{Done, Failed, Hopeless, Warnings};
        let codes = [Done, Failed, Warnings, Hopeless].map(Outcome::code);
        assert_eq!(codes, [0, 1, 3, 4]);
    }
}
