//! `demo`: three sites on this machine with a sample shop.

use super::Context;
use clap::Args;
use node::failure::Failure;

#[derive(Debug, Args)]
pub struct Arguments {
    /// How long the sales of the first act go on
    #[arg(long, value_name = "N", default_value_t = 8)]
    seconds: u64,
}

/// Tells the story.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    let _ = (context, arguments);
    Err(Failure::unable("The demo is being built.", "Try a later version."))
}
