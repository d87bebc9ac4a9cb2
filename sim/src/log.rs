//! The nodes' own log, with the world's time and the computer that a line comes from.

use crate::chronicle::clock;
use crate::disk;
use std::fmt;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Prints it from now on, as far as the filter lets it: `node=debug`, for instance.
///
/// # Errors
/// The filter can't be read, or a log is printed already.
pub fn print(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Stamp)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| error.to_string())
}

/// Before each line: the time in the world, and whose line it is.
struct Stamp;

impl FormatTime for Stamp {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        match disk::moment() {
            Some((elapsed, computer)) => {
                write!(writer, "{} {}", clock(elapsed), computer.unwrap_or_default())
            }
            None => Ok(()),
        }
    }
}
