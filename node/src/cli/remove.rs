//! `remove`: takes a site out of the group.

use super::Context;
use super::ground::Ground;
use clap::Args;
use node::control::{self, Request};
use node::failure::Failure;
use protocol::Name;
use serde_json::json;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The site
    site: Name,
}

/// Removes, by the running node or in the directory.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    let name = arguments.site.clone();
    match Ground::find(context).await? {
        Ground::Running(directory) => {
            let name = name.to_string();
            control::ask(&directory, &Request::Remove { name }).await?;
        }
        Ground::Resting { engine, .. } => {
            let removed =
                engine.step("members.remove", move |engine| engine.remove_member(&name)).await;
            engine.close().await.map_err(Failure::from)?;
            removed.map_err(Failure::from)?;
        }
    }
    context.print(
        &json!({ "site": arguments.site.as_str(), "removed": true }),
        &format!(
            "{} is out of the group: its key is refused from now on, here at once and at the \
             other sites as they hear of it. What it had written before stays.",
            arguments.site
        ),
    )?;
    Ok(0)
}
