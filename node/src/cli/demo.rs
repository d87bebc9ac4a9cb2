//! `demo`: three sites on this machine with a sample shop, told as it happens.

use super::Context;
use clap::Args;
use node::demo::{Demo, Options, Screen};
use node::failure::Failure;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Args)]
pub struct Arguments {
    /// How long the sales of the second act go on
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

/// Tells the story; 1 if a copy differs from its original.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    let unable = |error: std::io::Error| {
        Failure::unable(
            format!("The demo can't start: {error}."),
            "Look at the limits of this system.",
        )
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unable)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unable)?;
    // The story is the result, unless that is to be JSON.
    let (output, terminal): (Box<dyn Write + Send>, bool) = if context.json {
        (Box::new(std::io::stderr()), std::io::stderr().is_terminal())
    } else {
        (Box::new(std::io::stdout()), std::io::stdout().is_terminal())
    };
    let options = Options {
        program: std::env::current_exe().map_err(unable)?,
        dir: context.dir.clone(),
        sales: Duration::from_secs(arguments.seconds),
    };
    let mut demo = Demo::open(&context.environment, options, Screen::new(output, terminal))?;
    let told = tokio::select! {
        told = demo.tell() => Some(told),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let keep = told.as_ref().is_some_and(|told| !told.as_ref().is_ok_and(|told| told.identical));
    let kept = demo.close(keep).await;
    if let Ok(Some(dir)) = &kept {
        context.say(&format!("Databases, copies and logs are in {}.", dir.display()));
    }
    let told = told.ok_or_else(|| {
        Failure::unable(
            "The demo was interrupted; its nodes are ended.",
            "Start it again to see the end.",
        )
    })??;
    kept?;
    if context.json {
        context.print(&told.document, "")?;
    }
    Ok(u8::from(!told.identical))
}
