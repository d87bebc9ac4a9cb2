//! What people call sites and databases. A name is also a file name, on any system.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A name of the form `[a-z0-9][a-z0-9-]{0,30}` that no file system reserves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name(String);

/// Why a word is not a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// It has another form.
    #[error("{0:?} is not a possible name: use 1 to 31 of a-z, 0-9 and -, not beginning with -")]
    Form(String),
    /// A device of some system bears it.
    #[error("{0:?} is a reserved file name on some systems: choose another")]
    Reserved(String),
}

/// The greatest length of a name in bytes.
const LENGTH: usize = 31;

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(word: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if word.is_empty()
            || word.len() > LENGTH
            || word.starts_with('-')
            || !word.bytes().all(allowed)
        {
            return Err(NameError::Form(word.chars().take(64).collect()));
        }
        let device = |prefix| {
            word.strip_prefix(prefix)
                .is_some_and(|n: &str| n.len() == 1 && n.bytes().all(|b: u8| b.is_ascii_digit()))
        };
        if matches!(word, "con" | "prn" | "aux" | "nul") || device("com") || device("lpt") {
            return Err(NameError::Reserved(word.to_owned()));
        }
        Ok(Self(word.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(word: String) -> Result<Self, NameError> {
        word.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn takes_what_every_file_system_takes() {
        for good in ["a", "0", "down-town", "pos", "com", "com10", "console", &"x".repeat(31)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in
            ["", "-a", "Shop", "a b", "a/b", "..", "nul", "com1", "lpt9", "ä", &"x".repeat(32)]
        {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
