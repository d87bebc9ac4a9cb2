//! Brings the mirrors up to what the journal holds: a step of each in turn, so that a large one
//! does not hold up the others.

use super::Site;
use crate::engine::{EngineError, MirrorStep};
use crate::store::{DatabaseNumber, DatabaseState};
use std::collections::BTreeSet;
use std::time::Duration;

/// When a mirror that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How often it is looked whether somebody deleted a mirror.
const LOOK: Duration = Duration::from_secs(15);

/// Applies whatever arrives, until the site stops.
pub async fn run(site: Site) {
    // A mirror whose batch can't be applied is left alone until the node starts anew.
    let mut stuck = BTreeSet::new();
    loop {
        let later = match round(&site, &mut stuck).await {
            Ok(later) => later,
            Err(error) => {
                tracing::error!(%error, "the mirrors could not be looked after");
                true
            }
        };
        let pause = if later { RETRY } else { LOOK };
        tokio::select! {
            biased;
            () = site.0.arrived.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Goes on with all mirrors until none has more to do; returns whether one is to be tried again.
async fn round(site: &Site, stuck: &mut BTreeSet<DatabaseNumber>) -> Result<bool, EngineError> {
    let databases = site.step("databases.read", |engine| Ok(engine.databases()?)).await?;
    let mut busy: Vec<DatabaseNumber> = databases
        .into_iter()
        .filter(|database| database.state == DatabaseState::Mirrored)
        .map(|database| database.number)
        .filter(|number| !stuck.contains(number))
        .collect();
    let mut later = false;
    while !busy.is_empty() {
        let mut still = Vec::new();
        for number in busy {
            let step = site.step("mirror.step", move |engine| engine.step_mirror(number)).await;
            match step.unwrap_or_else(|error| {
                tracing::error!(%error, "a mirror could not be looked after");
                MirrorStep::Later(error.to_string())
            }) {
                MirrorStep::Moved(local) => {
                    site.0.hub.tell_branch(&local);
                    still.push(number);
                }
                MirrorStep::Even => {}
                MirrorStep::Later(reason) => {
                    tracing::debug!(reason, "a mirror is tried again later");
                    later = true;
                }
                MirrorStep::Stuck => {
                    stuck.insert(number);
                }
            }
        }
        busy = still;
    }
    Ok(later)
}
