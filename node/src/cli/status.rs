//! `status`: tells how safe the data is.

use super::Context;
use super::ground::Ground;
use clap::Args;
use node::control::{self, Request};
use node::failure::Failure;
use node::status::{Status, render};
use std::time::Duration;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Tell it anew every second
    #[arg(long)]
    watch: bool,
    /// End with 1 when something written here is not safe or an alarm stands
    #[arg(long)]
    check: bool,
}

/// Asks the running node, or looks into the directory.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    loop {
        let status = look(context).await?;
        let value = serde_json::to_value(&status).map_err(|error| {
            Failure::unable(format!("The answer can't be written: {error}."), "This is a bug.")
        })?;
        let clear = if arguments.watch && !context.json { "\x1b[2J\x1b[H" } else { "" };
        context.print(&value, &format!("{clear}{}", render(&status)))?;
        if !arguments.watch {
            return Ok(u8::from(arguments.check && !status.good()));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn look(context: &Context) -> Result<Status, Failure> {
    match Ground::find(context).await? {
        Ground::Running(directory) => {
            let answer = control::ask(&directory, &Request::Status).await?;
            serde_json::from_value(answer).map_err(|error| {
                Failure::unable(
                    format!("The node's answer can't be read: {error}."),
                    "Use the same version of the program for the node and for its commands.",
                )
            })
        }
        Ground::Resting { engine, .. } => {
            let status = engine
                .step("status", |engine| {
                    let view = engine.view()?;
                    Ok(Status::new(engine.identity(), &view, None))
                })
                .await;
            engine.close().await.map_err(Failure::from)?;
            Ok(status.map_err(Failure::from)?)
        }
    }
}
