//! The running node's end of the control socket.

use super::{Answer, Request, SocketPath};
use crate::directory::Directory;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::site::Site;
use serde_json::{Value, json};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// The longest request, in bytes.
const REQUEST: u64 = 64 << 10;

/// Answers commands until the returned task is dropped with its runtime.
///
/// # Errors
/// The socket can't be made.
pub fn serve(
    environment: &Arc<dyn Environment>,
    directory: &Directory,
    site: Site,
) -> Result<(), Failure> {
    let unable = |error: io::Error| {
        Failure::unable(
            format!("The control socket can't be made: {error}."),
            "Put the site's directory on a local file system.",
        )
    };
    let socket = SocketPath::of(directory).map_err(unable)?;
    // One that a killed node left: whoever holds the directory's lock is alone on it.
    environment.remove_file(&socket.path).map_err(unable)?;
    let listener = UnixListener::bind(&socket.path).map_err(unable)?;
    std::fs::set_permissions(&socket.path, std::fs::Permissions::from_mode(0o600))
        .map_err(unable)?;
    let spawner = Arc::clone(environment);
    drop(environment.spawn(Box::pin(async move {
        let _kept = socket;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let site = site.clone();
                    drop(spawner.spawn(Box::pin(async move {
                        if let Err(error) = answer(stream, &site).await {
                            tracing::debug!(%error, "a command went away");
                        }
                    })));
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    })));
    Ok(())
}

async fn answer(stream: UnixStream, site: &Site) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(REQUEST)).read_line(&mut line).await?;
    let result = match serde_json::from_str::<Request>(&line) {
        Ok(request) => perform(site, request).await,
        Err(error) => Err(Failure::usage(
            format!("The running node does not understand this command: {error}."),
            "Use the same version of the program for the node and for its commands.",
        )),
    };
    let answer = match result {
        Ok(value) => Answer::Done(value),
        Err(Failure { kind, what, remedy }) => Answer::Failed { kind, what, remedy },
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

async fn perform(site: &Site, request: Request) -> Result<Value, Failure> {
    let value = match request {
        Request::Status => serde_json::to_value(site.status().await?),
        Request::Doctor { path } => serde_json::to_value(site.doctor(path).await?),
        Request::Invite { lifetime_ms } => {
            let code = site.invite(Duration::from_millis(lifetime_ms)).await?.to_string();
            Ok(json!({ "code": code }))
        }
        Request::Attach(request) => serde_json::to_value(site.attach(request).await?),
        Request::Remove { name } => serde_json::to_value(site.remove(parse(&name)?).await?),
        Request::Detach { name } => serde_json::to_value(site.detach(parse(&name)?).await?),
        Request::Policy { name } => serde_json::to_value(site.policy(parse(&name)?).await?),
        Request::SetPolicy { name, subject, rule } => {
            serde_json::to_value(site.choose_rule(parse(&name)?, subject, rule).await?)
        }
        Request::Conflicts => serde_json::to_value(site.conflicts().await?),
        Request::Conflict { id } => serde_json::to_value(site.conflict(id).await?),
        Request::Keep { id, choose } => serde_json::to_value(site.keep(id, choose).await?),
    };
    value.map_err(|error| {
        Failure::unable(format!("The answer can't be written: {error}."), "This is a bug.")
    })
}

fn parse(name: &str) -> Result<protocol::Name, Failure> {
    name.parse().map_err(|error: protocol::NameError| {
        Failure::usage(format!("{error}."), "See `status` for the names there are.")
    })
}
