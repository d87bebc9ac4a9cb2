//! Finding the other sites: who comes is admitted if the group knows its key, and every member
//! is dialled until it is connected.

use super::hub::Command;
use super::{Site, exchange, join};
use crate::transport::{Effort, Link, LinkError, Purpose};
use conflict::SiteId;
use protocol::keys::PublicKey;
use protocol::membership::Member;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// The first wait after a failed dial; it doubles up to the greatest, each with jitter, so that
/// sites that all come on at eight o'clock don't dial in step.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const GREATEST_WAIT: Duration = Duration::from_secs(120);
/// The greatest where other sites are connected and none of them has the member either: it is off,
/// and dials when it comes on, or they tell of it.
const GREATEST_WAIT_IF_OFF: Duration = Duration::from_secs(600);
/// From this wait on a dial asks once: a packet is 1,200 bytes, and most of these are for a site
/// that is switched off all night.
const ASKING: Duration = Duration::from_secs(8);
/// A connection that lasted this long was a good one: the next dial does not wait longer.
const LASTING: Duration = Duration::from_secs(10);
/// The site with the greater id lets the other dial first.
const POLITE_WAIT: Duration = Duration::from_millis(400);
/// How often what only memory knows of links is written down.
const BOOKS: Duration = Duration::from_secs(60);
/// Who is connected changes often at once, and a line that is back soon is not worth a word.
const SETTLED: Duration = Duration::from_secs(2);
/// In how many of these rounds peers compare their clocks once.
const ROUNDS_A_TIME: u64 = 15;

/// Takes whoever comes, until the site stops.
pub async fn accept(site: Site) {
    while let Some(arriving) = site.0.endpoint.accept().await {
        let guest_site = site.clone();
        drop(site.0.environment.spawn(Box::pin(async move {
            let site = guest_site;
            let guest = match arriving.handshake().await {
                Ok(guest) => guest,
                Err(error) => {
                    tracing::debug!(%error, "a handshake failed");
                    return;
                }
            };
            if guest.purpose() == Purpose::Join {
                let key = PublicKey(*guest.peer_key());
                join::welcome(site, guest.admit(), key).await;
                return;
            }
            let key = PublicKey(*guest.peer_key());
            let member = site.0.hub.membership().by_key(&key).map(|member| member.site);
            match member {
                Some(peer) if peer != site.0.hub.me() => {
                    exchange::run(site, guest.admit(), peer, false).await;
                }
                _ => {
                    tracing::warn!(address = %guest.address(), %key, "a stranger was refused");
                    guest.refuse("this key is not a member of the group");
                }
            }
        })));
    }
}

/// Keeps one dialling task for every member.
pub async fn dial_all(site: Site) {
    let mut dialled: BTreeSet<SiteId> = BTreeSet::new();
    loop {
        let changed = site.0.hub.topology();
        tokio::pin!(changed);
        changed.as_mut().enable();
        for member in site.0.hub.membership().members() {
            if member.site != site.0.hub.me() && dialled.insert(member.site) {
                site.spawn(dial(site.clone(), member.site));
            }
        }
        changed.await;
    }
}

/// Dials one member whenever it is not connected, until it is removed or the site stops.
async fn dial(site: Site, peer: SiteId) {
    let mut wait = FIRST_WAIT;
    if peer < site.0.hub.me() {
        tokio::time::sleep(POLITE_WAIT).await;
    }
    loop {
        let changed = site.0.hub.topology();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let member = site.0.hub.membership().member(peer).cloned();
        let Some(member) = member.filter(|member| !member.removed) else { return };
        if site.0.hub.is_stopping() {
            return;
        }
        let lasted = if site.0.hub.is_connected(peer) {
            let begun = Instant::now();
            while site.0.hub.is_connected(peer) {
                changed.as_mut().await;
                changed.set(site.0.hub.topology());
                changed.as_mut().enable();
            }
            begun.elapsed() >= LASTING
        } else if member.addresses.is_empty() {
            changed.await;
            continue;
        } else {
            let effort = if wait < ASKING { Effort::Insisting } else { Effort::Asking };
            connect(&site, &member, effort).await
        };
        // Whoever dialled: a connection that always ends at once, since something is wrong with
        // it, costs the line each time.
        if lasted {
            wait = FIRST_WAIT;
        }
        let off = site.0.hub.any_connected() && !site.0.hub.is_seen(peer);
        wait = wait.min(if off { GREATEST_WAIT_IF_OFF } else { GREATEST_WAIT });
        if wait_before_dialling(&site, &member, wait).await {
            wait = FIRST_WAIT;
        } else {
            wait *= 2;
        }
    }
}

/// Dials a member and talks with it until the link ends; returns whether that was a good one.
async fn connect(site: &Site, member: &Member, effort: Effort) -> bool {
    let peer = member.site;
    site.0.hub.set_dialling(peer, true);
    let link = reach(site, member, effort).await;
    site.0.hub.set_dialling(peer, false);
    match link {
        Ok(link) if !site.0.hub.is_connected(peer) => {
            let begun = Instant::now();
            exchange::run(site.clone(), link, peer, true).await && begun.elapsed() >= LASTING
        }
        Ok(_) => false,
        Err(reason) => {
            tracing::debug!(site = %member.name, reason, "not reached");
            false
        }
    }
}

/// Waits, unless the member is connected already, or there is news that makes it worth while to
/// dial at once: that is returned.
async fn wait_before_dialling(site: &Site, member: &Member, wait: Duration) -> bool {
    let was_cut_off = site.0.hub.connected().is_empty();
    let was_seen = site.0.hub.is_seen(member.site);
    let until = Instant::now() + jitter(site, wait);
    loop {
        let changed = site.0.hub.topology();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let now = site.0.hub.membership().member(member.site).cloned();
        if now.is_none_or(|now| now.addresses != member.addresses) {
            return true;
        }
        let connected = site.0.hub.connected();
        if connected.contains(&member.site) {
            return false;
        }
        if !was_seen && site.0.hub.is_seen(member.site) {
            return true;
        }
        // The line is back, if another link that is there now lasts.
        let line_is_back = was_cut_off && !connected.is_empty();
        let look_again = if line_is_back { until.min(Instant::now() + LASTING) } else { until };
        if tokio::time::timeout_at(look_again, changed).await.is_err() {
            return line_is_back && look_again < until;
        }
    }
}

/// Tries a member's addresses one after another, each looked up afresh.
async fn reach(site: &Site, member: &Member, effort: Effort) -> Result<Link, String> {
    let mut reasons = Vec::new();
    for address in &member.addresses {
        match dial_address(site, address, &member.key, effort).await {
            Ok(link) => return Ok(link),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join("; "))
}

/// Dials `HOST:PORT`.
async fn dial_address(
    site: &Site,
    address: &str,
    key: &PublicKey,
    effort: Effort,
) -> Result<Link, String> {
    let found =
        site.0.environment.resolve(address).await.map_err(|error| format!("{address}: {error}"))?;
    let mut last = format!("{address}: no such name");
    for socket in found {
        match Link::dial(&site.0.endpoint, socket, &key.0, Purpose::Member, effort).await {
            Ok(link) => return Ok(link),
            Err(LinkError::Refused { reason }) => return Err(reason),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Between half and the whole of `wait`.
fn jitter(site: &Site, wait: Duration) -> Duration {
    let mut random = [0; 2];
    site.0.environment.fill_random(&mut random);
    let share = 0.5 + f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX) / 2.0;
    wait.mul_f64(share)
}

/// Tells all peers with whom this site is connected, whenever that changed and a moment has passed.
pub async fn tell_links(site: Site) {
    loop {
        let changed = site.0.hub.topology();
        tokio::pin!(changed);
        changed.as_mut().enable();
        site.0.hub.tell_all(&Command::Links);
        changed.await;
        tokio::time::sleep(SETTLED).await;
    }
}

/// Writes down now and then what only memory knows, and has peers told what has changed elsewhere.
pub async fn keep_books(site: Site) {
    for round in 1_u64.. {
        tokio::time::sleep(BOOKS).await;
        if round.is_multiple_of(ROUNDS_A_TIME) {
            site.0.hub.tell_all(&Command::Time);
        }
        let kept = site.step("books.keep", |engine| {
            engine.keep_books()?;
            let handed = engine.share_residues()?;
            Ok((!handed.is_empty()).then(|| (handed, engine.membership().clone())))
        });
        match kept.await {
            Ok(None) => {}
            Ok(Some((handed, membership))) => {
                site.0.hub.tell_members(&handed, None);
                site.0.hub.set_membership(membership);
            }
            Err(error) => tracing::error!(%error, "the site's books could not be kept"),
        }
        site.0.hub.tell_all(&Command::Reports);
    }
}

/// Writes down what all links carried, at the end of a run.
pub async fn note_links(site: &Site) {
    for (peer, link) in site.0.hub.links() {
        exchange::note_link(site, peer, &link, None).await;
    }
}
