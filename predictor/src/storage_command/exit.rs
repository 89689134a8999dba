//! How a command ended, and the exit code that says so.
//!
//! 0 done, 1 failed, 2 usage, 3 done with warnings. Scripts and the operator rely on these numbers.

use std::process::ExitCode;

/// How a command ended that ran to its end. Usage errors end in the command line's parser, or as [`Usage`], with 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything that was asked for.
    Done,
    /// Done, and something needs a person's eye; the report says what.
    Warnings,
    /// Not done; the report says why.
    Failed,
}

impl Outcome {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Warnings => 3,
        }
    }

    /// `Done`, or `Warnings` where there are any.
    pub const fn with_warnings(any: bool) -> Self {
        if any { Self::Warnings } else { Self::Done }
    }
}

/// What was asked for makes no sense, which only the command itself could see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The exit code of a command that failed.
pub fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        2
    } else {
        Outcome::Failed.code()
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
        let codes = [Outcome::Done, Outcome::Failed, Outcome::Warnings].map(Outcome::code);
        assert_eq!(codes, [0, 1, 3]);
        assert_eq!(code_of(&anyhow::anyhow!("no")), 1);
        assert_eq!(code_of(&Usage("what".to_owned()).into()), 2);
    }
}
