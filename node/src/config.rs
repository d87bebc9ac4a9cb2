//! `DIR/node.toml`: settings that people may change; every key is optional. An unknown key is
//! refused with the nearest known one, so that a typing error never passes for a setting.

use crate::directory::Directory;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::units::parse_duration;
use serde::Deserialize;
use std::time::Duration;
use toml::{Table, Value};

/// What `init` and `join` write: every key with its default.
pub const EXAMPLE: &str = include_str!("../../deploy/node.toml");

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `link.batch_interval`: a batch is closed at most this long after its first change.
    pub batch_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { batch_interval: Duration::from_secs(1) }
    }
}

/// All keys, dotted.
const KEYS: [&str; 1] = ["link.batch_interval"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    link: Link,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Link {
    batch_interval: Option<String>,
}

impl Config {
    /// Reads the settings of a site; the defaults where there is no file.
    ///
    /// # Errors
    /// The file can't be read, or something in it is no setting.
    pub fn read(environment: &dyn Environment, directory: &Directory) -> Result<Self, Failure> {
        let path = directory.config();
        let bytes = environment.read_file(&path).map_err(|error| {
            Failure::unable(
                format!("{} can't be read: {error}.", path.display()),
                "Look at its permissions.",
            )
        })?;
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let refuse = |what: String| {
            Failure::usage(
                format!("{}: {what}.", path.display()),
                "Correct the line, or remove it to have the default.",
            )
        };
        let text = String::from_utf8(bytes).map_err(|_| refuse("it is not text".into()))?;
        Self::parse(&text).map_err(refuse)
    }

    /// Reads settings from text.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: Table =
            text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        check_keys("", &table)?;
        let file: File =
            table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        let mut config = Self::default();
        if let Some(word) = file.link.batch_interval {
            config.batch_interval = parse_duration(&word)?;
        }
        Ok(config)
    }
}

fn check_keys(prefix: &str, table: &Table) -> Result<(), String> {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let section = KEYS.iter().any(|known| known.starts_with(&format!("{path}.")));
        match value {
            Value::Table(inner) if section => check_keys(&path, inner)?,
            _ if KEYS.contains(&path.as_str()) => {}
            _ => {
                let nearest = KEYS
                    .iter()
                    .min_by_key(|known| strsim::levenshtein(known, &path))
                    .copied()
                    .unwrap_or_default();
                return Err(format!("there is no setting {path:?}; the nearest is {nearest:?}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_says_the_defaults() {
        assert_eq!(Config::parse(EXAMPLE), Ok(Config::default()));
        // Each commented key, uncommented, is its default too.
        let uncommented: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.contains(" = ") => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        assert_eq!(Config::parse(&uncommented), Ok(Config::default()));
        assert!(uncommented.contains("\nbatch_interval = "), "{uncommented}");
    }

    #[test]
    fn an_unknown_key_is_told_the_nearest() {
        let error = Config::parse("[link]\nbatch_intervall = \"2s\"\n").unwrap_err();
        assert!(error.contains("link.batch_interval\""), "{error}");
        assert!(Config::parse("link = 3\n").is_err());
        assert!(Config::parse("[link]\nbatch_interval = \"soon\"\n").is_err());
        assert!(Config::parse("[link\n").is_err());
    }

    #[test]
    fn an_interval_may_be_zero() {
        let config = Config::parse("link.batch_interval = \"0\"").unwrap();
        assert_eq!(config.batch_interval, Duration::ZERO);
    }
}
