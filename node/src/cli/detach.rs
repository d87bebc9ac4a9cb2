//! `detach`: removes everything that attach put into a database.

use super::Context;
use super::ground::{Ground, answered};
use clap::Args;
use node::control::{self, Request};
use node::failure::Failure;
use protocol::Name;
use serde_json::json;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The database
    name: Name,
}

/// Detaches, at the running node or in the directory.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    let warnings: Vec<String> = match Ground::find(context).await? {
        Ground::Running(directory) => {
            let name = arguments.name.to_string();
            answered(control::ask(&directory, &Request::Detach { name }).await?)?
        }
        Ground::Resting { engine, .. } => {
            let detached = node::engine::detach(&engine, arguments.name.clone()).await;
            engine.close().await.map_err(Failure::from)?;
            detached.map_err(Failure::from)?.warnings
        }
    };
    let mut text = format!(
        "{} is no longer under sync; its file is as the application had it. The other sites keep \
         the copies that they have.",
        arguments.name
    );
    for warning in &warnings {
        text = format!("{text}\n{warning}");
    }
    context.print(
        &json!({ "database": arguments.name.as_str(), "detached": true, "warnings": warnings }),
        &text,
    )?;
    Ok(0)
}
