//! `detach`: removes everything that attach put into a database.

use super::Context;
use super::ground::Ground;
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
    match Ground::find(context).await? {
        Ground::Running(directory) => {
            let name = arguments.name.to_string();
            control::ask(&directory, &Request::Detach { name }).await?;
        }
        Ground::Resting { engine, .. } => {
            let detached = node::engine::detach(&engine, arguments.name.clone()).await;
            engine.close().await.map_err(Failure::from)?;
            detached.map_err(Failure::from)?;
        }
    }
    context.print(
        &json!({ "database": arguments.name.as_str(), "detached": true }),
        &format!(
            "{} is no longer under sync; its file is as the application had it. The other sites \
             keep the copies that they have.",
            arguments.name
        ),
    )?;
    Ok(0)
}
