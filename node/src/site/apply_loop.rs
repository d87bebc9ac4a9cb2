//! Brings the mirrors up to what the journal holds: a step of each in turn, so that a large one
//! does not hold up the others.

use super::Site;
use crate::engine::{EngineError, MirrorStep};
use protocol::BranchId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// When a mirror that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How often it is looked whether somebody deleted a mirror.
const LOOK: Duration = Duration::from_secs(60);

/// Applies whatever arrives, until the site stops.
pub async fn run(site: Site) {
    // A mirror whose batch can't be applied is left alone until its file is moved away or the
    // node starts anew.
    let mut stuck = BTreeSet::new();
    let all = loop {
        match site.step("mirrors.read", |engine| Ok(engine.mirrored()?)).await {
            Ok(branches) => break branches,
            Err(error) => tracing::error!(%error, "the mirrors could not be looked after"),
        }
        tokio::time::sleep(RETRY).await;
    };
    let mut later = round(&site, all.into_iter().collect(), &mut stuck).await;
    let mut retry = Instant::now() + RETRY;
    let mut look = Instant::now() + LOOK;
    loop {
        let until = if later.is_empty() { look } else { look.min(retry) };
        let arrived = tokio::select! {
            biased;
            () = site.0.hub.arrival() => true,
            () = tokio::time::sleep_until(until) => false,
        };
        let mut due = if arrived { site.0.hub.take_arrived() } else { BTreeSet::new() };
        if Instant::now() >= retry {
            due.append(&mut later);
        }
        if Instant::now() >= look {
            for branch in deleted(&site).await {
                stuck.remove(&branch);
                due.insert(branch);
            }
            look = Instant::now() + LOOK;
        }
        let mut failed = round(&site, due, &mut stuck).await;
        if later.is_empty() {
            retry = Instant::now() + RETRY;
        }
        later.append(&mut failed);
    }
}

/// The mirrors that somebody deleted.
async fn deleted(site: &Site) -> Vec<BranchId> {
    let deleted: Result<_, EngineError> =
        site.step("mirrors.look", |engine| engine.deleted_mirrors()).await;
    deleted.unwrap_or_else(|error| {
        tracing::error!(%error, "the mirrors could not be looked after");
        Vec::new()
    })
}

/// Goes on with mirrors until none has more to do; returns those that are to be tried again.
async fn round(
    site: &Site,
    mut busy: BTreeSet<BranchId>,
    stuck: &mut BTreeSet<BranchId>,
) -> BTreeSet<BranchId> {
    let mut later = BTreeSet::new();
    busy.retain(|branch| !stuck.contains(branch));
    while !busy.is_empty() {
        let mut still = BTreeSet::new();
        for branch in busy {
            let step = site.step("mirror.step", move |engine| engine.step_mirror_of(branch)).await;
            match step.unwrap_or_else(|error| {
                tracing::error!(%error, "a mirror could not be looked after");
                MirrorStep::Later(error.to_string())
            }) {
                MirrorStep::Moved(local) => {
                    site.0.hub.tell_branch(&local);
                    still.insert(branch);
                }
                MirrorStep::Done(local) => site.0.hub.tell_branch(&local),
                MirrorStep::Even => {}
                MirrorStep::Refill(local) => site.0.hub.went_back(&local),
                MirrorStep::Later(reason) => {
                    tracing::debug!(reason, "a mirror is tried again later");
                    later.insert(branch);
                }
                MirrorStep::Stuck => {
                    stuck.insert(branch);
                }
            }
        }
        busy = still;
    }
    later
}
