//! What goes wrong, as people are told it: one sentence that says what is wrong, one that says
//! what to do, and the exit code of CONTRACT's three kinds.

use std::fmt;

/// A failure that reaches a person.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which kind, and so which exit code.
    pub kind: FailureKind,
    /// What is wrong, in one sentence.
    pub what: String,
    /// What to do about it, in one sentence.
    pub remedy: String,
}

/// The kinds of failure, told apart by exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The answer is no: a rule refuses. Exit code 1.
    Refused,
    /// Wrong usage or bad input. Exit code 2.
    Usage,
    /// It could not be done: unreachable, I/O, locked, in use. Exit code 3.
    Unable,
}

impl FailureKind {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Unable => 3,
        }
    }
}

impl Failure {
    /// A rule refuses.
    pub fn refused(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind: FailureKind::Refused, what: what.into(), remedy: remedy.into() }
    }

    /// Wrong usage or bad input.
    pub fn usage(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind: FailureKind::Usage, what: what.into(), remedy: remedy.into() }
    }

    /// It could not be done.
    pub fn unable(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind: FailureKind::Unable, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.remedy)
    }
}

impl std::error::Error for Failure {}
