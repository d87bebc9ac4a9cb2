//! `join`: makes a site and joins a group with an invitation code.

use super::init::Network;
use super::{Context, ground};
use clap::Args;
use node::failure::Failure;
use protocol::Name;
use protocol::invitation::Invitation;
use serde_json::json;
use std::sync::Arc;

#[derive(Debug, Args)]
pub struct Arguments {
    /// What this site is called
    #[arg(long, value_name = "NAME")]
    site: Name,
    #[command(flatten)]
    network: Network,
    /// The code that `invite` printed at another site
    code: String,
}

/// Joins the group.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    let directory = ground::directory(context)?;
    arguments.network.check()?;
    let invitation: Invitation =
        arguments.code.parse().map_err(|error: protocol::invitation::InvitationError| {
            let mut what = error.to_string();
            if let Some(first) = what.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            Failure::usage(format!("{what}."), "Copy the whole code, or ask for a new one.")
        })?;
    let identity = node::site::join(
        Arc::clone(&context.environment),
        &directory,
        arguments.site,
        arguments.network.listen,
        &arguments.network.addresses,
        &invitation,
    )
    .await?;
    let value = json!({
        "site": identity.name.as_str(),
        "site_id": identity.site.to_string(),
        "group_id": identity.group.to_string(),
        "dir": directory.path().display().to_string(),
    });
    context.print(
        &value,
        &format!(
            "The site {} is made in {} and belongs to the group.\nStart it with `run`: the other \
             sites' databases come by themselves.",
            identity.name,
            directory.path().display()
        ),
    )?;
    Ok(0)
}
