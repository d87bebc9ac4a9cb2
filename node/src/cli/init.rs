//! `init`: makes a site and a new group with it.

use super::{Context, ground};
use clap::Args;
use node::engine::members;
use node::failure::Failure;
use node::site::write_example;
use protocol::Name;
use serde_json::json;
use std::net::SocketAddr;

#[derive(Debug, Args)]
pub struct Arguments {
    /// What this site is called
    #[arg(long, value_name = "NAME")]
    pub site: Name,
    #[command(flatten)]
    pub network: Network,
}

/// Where a site listens and how it is reached: the same for `init` and `join`.
#[derive(Debug, Args)]
pub struct Network {
    /// Where to listen; port 0 takes a free one at the first run and keeps it
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:4433")]
    pub listen: SocketAddr,
    /// How others reach this site; may be given several times
    #[arg(long = "address", value_name = "HOST:PORT")]
    pub addresses: Vec<String>,
}

impl Network {
    /// # Errors
    /// An address has another form than HOST:PORT, or there are too many.
    pub fn check(&self) -> Result<(), Failure> {
        if self.addresses.len() > protocol::limits::ADDRESSES {
            return Err(Failure::usage(
                format!("A site has at most {} addresses.", protocol::limits::ADDRESSES),
                "Leave some out.",
            ));
        }
        for address in &self.addresses {
            let port = address.rsplit_once(':').and_then(|(host, port)| {
                (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten()
            });
            if port.is_none_or(|port| port == 0) || address.len() > protocol::limits::ADDRESS {
                return Err(Failure::usage(
                    format!("{address:?} is not an address."),
                    "Write it as HOST:PORT, for instance shop.example.org:4433.",
                ));
            }
        }
        Ok(())
    }
}

/// Makes the site.
pub fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    let directory = ground::directory(context)?;
    arguments.network.check()?;
    let identity = members::found(
        &*context.environment,
        &directory,
        &arguments.site,
        arguments.network.listen,
        &arguments.network.addresses,
    )
    .map_err(Failure::from)?;
    write_example(&*context.environment, &directory)?;
    let value = json!({
        "site": identity.name.as_str(),
        "site_id": identity.site.to_string(),
        "group_id": identity.group.to_string(),
        "dir": directory.path().display().to_string(),
    });
    context.print(
        &value,
        &format!(
            "The site {} is made in {}.\nPut a database under sync with `attach`, start the site \
             with `run`, and let others join with `invite`.",
            identity.name,
            directory.path().display()
        ),
    )?;
    Ok(0)
}
