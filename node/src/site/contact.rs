//! Where this site is reached: published at the start, and again when the computer's addresses
//! change, as they do where a router hands them out. Nobody asks how a site is seen from outside:
//! what is behind a router has a name (`--address`), or dials.

use super::Site;
use crate::engine::EngineError;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How often the computer is asked for its addresses.
const LOOK: Duration = Duration::from_secs(60);

/// Publishes where the site is reached now, if that is news.
pub async fn publish(site: &Site, listen: SocketAddr) -> Result<(), EngineError> {
    let given = site.step("addresses.read", |engine| Ok(engine.store().addresses()?)).await?;
    let addresses = match given.is_empty() {
        true => own(site, listen)?,
        false => given,
    };
    let (news, membership) = site
        .step("members.contact", move |engine| {
            let news = engine.set_contact(addresses)?;
            Ok((news, engine.membership().clone()))
        })
        .await?;
    site.0.hub.tell_members(news.as_slice(), None);
    site.0.hub.set_membership(membership);
    Ok(())
}

/// Publishes them again whenever they change, until the site stops.
pub async fn follow(site: Site, listen: SocketAddr) {
    let mut last = own(&site, listen).ok();
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(now) = own(&site, listen) else { continue };
        // Without a network nobody could be told; what comes next may be what was.
        if now.is_empty() || last.as_ref() == Some(&now) {
            continue;
        }
        match publish(&site, listen).await {
            Ok(()) => last = Some(now),
            Err(error) => tracing::error!(%error, "the site's new addresses are not published"),
        }
    }
}

/// The addresses of this machine's interfaces that the site listens on.
fn own(site: &Site, listen: SocketAddr) -> Result<Vec<String>, EngineError> {
    if !listen.ip().is_unspecified() {
        return Ok(vec![listen.to_string()]);
    }
    let interfaces = site.0.environment.interfaces().map_err(|error| EngineError::File {
        what: "the addresses of this machine".into(),
        error,
    })?;
    let mut addresses: Vec<String> = interfaces
        .into_iter()
        .filter(|ip| !ip.is_loopback() && !is_link_local(ip))
        .map(|ip| SocketAddr::new(ip, listen.port()).to_string())
        .collect();
    addresses.sort();
    addresses.truncate(protocol::limits::ADDRESSES);
    Ok(addresses)
}

/// Addresses that mean nothing beyond one cable.
fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
