//! `run`: runs the site in the foreground.

use super::{Context, ground};
use clap::Args;
use node::config::Config;
use node::control;
use node::engine::Engine;
use node::failure::Failure;
use node::site::Site;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Listen here from now on, instead of where `init` or `join` said
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

/// Runs until SIGTERM or Ctrl-C.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    let directory = ground::directory(context)?;
    ground::require_site(context, &directory)?;
    let _lock = ground::take_for_long(&directory).await?;
    let config = Config::read(&*context.environment, &directory)?;
    if let Some(listen) = arguments.listen {
        let mut engine = Engine::open(Arc::clone(&context.environment), directory.clone())
            .map_err(Failure::from)?;
        engine.keep_listen(listen).map_err(Failure::from)?;
        engine.close().map_err(Failure::from)?;
    }
    let unable = |error: std::io::Error| {
        Failure::unable(
            format!("Signals can't be received: {error}."),
            "Look at the limits of this system.",
        )
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(unable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unable)?;
    let site = Site::start(Arc::clone(&context.environment), directory.clone(), config).await?;
    control::serve(&context.environment, &directory, site.clone())?;
    let listen = site.listen().map(|listen| listen.to_string()).unwrap_or_default();
    context.print(&json!({ "ready": listen }), &format!("ready {listen}"))?;
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    context.say("stopping");
    site.stop().await?;
    Ok(0)
}
