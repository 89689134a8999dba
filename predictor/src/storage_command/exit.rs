//! How a command ended, and the exit code that says so.
//!
//! 0 done, 1 failed, 2 usage, 3 done with warnings, 4 failed and trying again is useless (jobs only). Scripts and the operator rely on these numbers.

use std::process::ExitCode;

use super::output::visible_lines;

/// How a command ended that ran to its end. Usage errors end in the command line's parser, or as [`Usage`], with 2.
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

/// The command line is wrong in a way that its parser can't see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The exit code of a command that ended with an error.
pub fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        2
    } else {
        Outcome::Failed.code()
    }
}

/// An error with its causes, each once: messages of the storage crate name their cause themselves.
pub fn explain(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    // Names and words of an archive must not write on the terminal.
    visible_lines(&told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_the_message_names_is_told_once() {
        let denied = || std::io::Error::other("Permission denied");
        let message = stockpredictor_storage::restore::RestoreError::Use {
            path: "a\u{1b}[2J".to_owned(),
            source: denied(),
        };
        let error = anyhow::Error::new(message).context("can't restore");
        assert_eq!(
            explain(&error),
            "can't restore: a\\u{1b}[2J: Permission denied"
        );
        let error = anyhow::Error::new(denied()).context("outer");
        assert_eq!(explain(&error), "outer: Permission denied");
        assert_eq!(code_of(&error), 1);
        assert_eq!(code_of(&Usage("wrong".to_owned()).into()), 2);
    }

    #[test]
    fn the_codes_are_those_that_scripts_know() {
        use Outcome::{Done, Failed, Hopeless, Warnings};
        let codes = [Done, Failed, Warnings, Hopeless].map(Outcome::code);
        assert_eq!(codes, [0, 1, 3, 4]);
        assert_eq!(code_of(&anyhow::anyhow!("no")), 1);
        assert_eq!(code_of(&Usage("what".to_owned()).into()), 2);
    }
}
