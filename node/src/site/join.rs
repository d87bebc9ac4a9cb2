//! Joining a group: what the site with the invitation asks, and how the inviter answers.

use super::Site;
use crate::config::EXAMPLE;
use crate::directory::Directory;
use crate::engine::members;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::store::settings::Identity;
use crate::transport::{CloseCode, Effort, Endpoint, Link, Purpose, Settings};
use protocol::Name;
use protocol::invitation::{Invitation, JoinRefusal, JoinReply, JoinRequest};
use protocol::keys::PublicKey;
use protocol::session::Channel;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long either side waits for the other's word.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers one site that asks to join.
pub async fn welcome(site: Site, link: Link, key: PublicKey) {
    let Ok(Some((Channel::Control, bytes))) = tokio::time::timeout(PATIENCE, link.receive()).await
    else {
        link.close(CloseCode::Malformed, "no request to join came");
        return;
    };
    let request: JoinRequest = match rmp_serde::from_slice(&bytes) {
        Ok(request) => request,
        Err(error) => {
            link.close(CloseCode::Malformed, &format!("the request can't be read: {error}"));
            return;
        }
    };
    let answered = site
        .step("join.admit", move |engine| {
            let welcome = engine.admit(&request, key)?;
            Ok((welcome, engine.membership().clone()))
        })
        .await;
    let reply = match answered {
        Ok((welcome, membership)) => {
            if !welcome.added.is_empty() {
                site.0.hub.set_membership(membership);
                site.0.hub.tell_members(&welcome.added, None);
            }
            welcome.reply
        }
        Err(error) => {
            tracing::error!(%error, "a site could not be admitted");
            JoinReply::Refused(JoinRefusal::Unable)
        }
    };
    match rmp_serde::to_vec_named(&reply) {
        Ok(bytes) => {
            if link.send(Channel::Control, bytes).await.is_ok() {
                // The other side closes once it has read the answer.
                drop(tokio::time::timeout(PATIENCE, link.closed()).await);
            }
        }
        Err(error) => tracing::error!(%error, "an answer could not be encoded"),
    }
    link.close(CloseCode::Done, "answered");
}

/// Makes the directory and key of a new site, and joins the group of an invitation.
///
/// # Errors
/// The directory can't be used, the inviter can't be reached, or it says no.
pub async fn join(
    environment: Arc<dyn Environment>,
    directory: &Directory,
    name: Name,
    listen: SocketAddr,
    addresses: &[String],
    invitation: &Invitation,
) -> Result<Identity, Failure> {
    let mut store = members::new_store(&*environment, directory).map_err(Failure::from)?;
    let key = members::read_or_make_key(&*environment, directory).map_err(Failure::from)?;
    let site = match store.site().map_err(Failure::from)? {
        Some(site) => site,
        None => {
            let site = members::fresh_site(&*environment);
            store.set_site(site).map_err(Failure::from)?;
            site
        }
    };
    let request = JoinRequest { id: invitation.id, secret: invitation.secret.clone(), site, name };
    let reply = ask(&environment, key.seed(), invitation, &request).await?;
    let records = match reply {
        JoinReply::Welcome { records, .. } => records,
        JoinReply::Refused(refusal) => return Err(refused(refusal)),
    };
    let identity = members::joined(&mut store, invitation, &request, records, listen, addresses)
        .map_err(Failure::from)?;
    write_example(&*environment, directory)?;
    Ok(identity)
}

/// Writes the commented settings, unless there are some.
///
/// # Errors
/// They can't be written.
pub fn write_example(environment: &dyn Environment, directory: &Directory) -> Result<(), Failure> {
    let path = directory.config();
    let unable = |error: std::io::Error| {
        Failure::unable(
            format!("{} can't be written: {error}.", path.display()),
            "Look at the permissions of the directory.",
        )
    };
    if environment.read_file(&path).map_err(unable)?.is_none() {
        environment.write_file(&path, EXAMPLE.as_bytes(), false).map_err(unable)?;
    }
    Ok(())
}

fn refused(refusal: JoinRefusal) -> Failure {
    let mut what = refusal.to_string();
    if let Some(first) = what.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    what.push('.');
    match refusal {
        JoinRefusal::NameTaken => Failure::refused(what, "Choose another name with --site."),
        JoinRefusal::Unable => Failure::unable(what, "Look at that site's disk, then try again."),
        _ => Failure::refused(what, "Ask for a new invitation with `invite` at that site."),
    }
}

/// Asks the inviter at each of its addresses.
async fn ask(
    environment: &Arc<dyn Environment>,
    seed: &[u8; 32],
    invitation: &Invitation,
    request: &JoinRequest,
) -> Result<JoinReply, Failure> {
    let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    let endpoint = any
        .into_iter()
        .find_map(|ip| {
            let listen = SocketAddr::new(ip, 0);
            Endpoint::new(Arc::clone(environment), seed, listen, Settings::default()).ok()
        })
        .ok_or_else(|| {
            Failure::unable("No network socket can be opened.", "Look at this computer's network.")
        })?;
    let mut reasons = Vec::new();
    for address in &invitation.addresses {
        match environment.resolve(address).await {
            Ok(found) => {
                for socket in found {
                    match ask_at(&endpoint, socket, invitation, request).await {
                        Ok(reply) => {
                            endpoint.close(CloseCode::Done, "answered").await;
                            return Ok(reply);
                        }
                        Err(reason) => reasons.push(reason),
                    }
                }
            }
            Err(error) => reasons.push(format!("{address}: {error}")),
        }
    }
    Err(Failure::unable(
        format!("The inviting site can't be reached ({}).", reasons.join("; ")),
        "See that its node runs and that this computer can reach it, then try the same code again.",
    ))
}

async fn ask_at(
    endpoint: &Endpoint,
    socket: SocketAddr,
    invitation: &Invitation,
    request: &JoinRequest,
) -> Result<JoinReply, String> {
    let link =
        Link::dial(endpoint, socket, &invitation.inviter.0, Purpose::Join, Effort::Insisting)
            .await
            .map_err(|error| error.to_string())?;
    let bytes = rmp_serde::to_vec_named(request).map_err(|error| error.to_string())?;
    link.send(Channel::Control, bytes).await.map_err(|error| error.to_string())?;
    match tokio::time::timeout(PATIENCE, link.receive()).await {
        Ok(Some((_, bytes))) => {
            let reply = rmp_serde::from_slice(&bytes).map_err(|error| error.to_string());
            link.close(CloseCode::Done, "answered");
            reply
        }
        Ok(None) => Err(link.closed().await.to_string()),
        Err(_) => Err(format!("{socket} did not answer in time")),
    }
}
