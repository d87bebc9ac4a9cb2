//! Runs again what once showed a bug.

use super::{child, command};
use sim::regressions::REGRESSIONS;

/// Runs them all; whether nothing broke.
pub fn run() -> Result<bool, String> {
    let mut well = true;
    for regression in REGRESSIONS {
        let request = regression.request();
        let outcome = child::run(&request, None).map_err(|error| error.to_string())?;
        match outcome.failure {
            None => println!("well    {}", regression.name),
            Some(failure) => {
                well = false;
                println!(
                    "BROKEN  {}: {}\n{failure}\n  {}",
                    regression.name,
                    regression.story,
                    command(&request, None)
                );
            }
        }
    }
    Ok(well)
}
