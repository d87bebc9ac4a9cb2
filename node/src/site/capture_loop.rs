//! Looks after one attached database: notices commits, waits until a batch is due, harvests, and
//! tidies up when the application rests.

use super::Site;
use crate::engine::{EngineError, Harvest, Refresh};
use crate::store::DatabaseNumber;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// Behind the notices of the file system, which may be missed.
const POLL: Duration = Duration::from_secs(1);
/// After which rest the log is trimmed and the `-wal` moved into the file.
const REST: Duration = Duration::from_secs(3);
/// After which time the log is trimmed though the application does not rest.
const BUSY: Duration = Duration::from_secs(30);
/// When a file that somebody holds is tried again; it doubles up to the greatest.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const GREATEST_RETRY: Duration = Duration::from_millis(500);

/// How often a schema that moves is followed within one harvest.
const GREATEST_REFRESHES: u32 = 100;

/// Harvests a database until it is detached or the site stops.
pub async fn run(site: Site, number: DatabaseNumber, path: PathBuf) {
    let mut watch = match site.0.environment.watch(&path) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "commits are noticed by polling only");
            None
        }
    };
    let mut version = None;
    let mut tidied = false;
    let mut last = Instant::now();
    let mut trimmed = Instant::now();
    loop {
        if site.0.hub.is_detached(number) {
            return;
        }
        match harvest_all(&site, number).await {
            Ok(Outcome::Something) => {
                last = Instant::now();
                tidied = false;
                if trimmed.elapsed() >= BUSY {
                    trim(&site, number).await;
                    trimmed = Instant::now();
                }
            }
            Ok(Outcome::Nothing) => {}
            // The next poll tries again, whether or not there is something new.
            Ok(Outcome::Unfinished) => version = None,
            Err(error) => {
                tracing::error!(%error, "a harvest failed; it is tried again");
                version = None;
            }
        }
        // What is committed from here on is for the next batch.
        loop {
            let noticed = match &mut watch {
                Some(watch) => tokio::select! {
                    biased;
                    () = watch.changed() => true,
                    () = tokio::time::sleep(POLL) => false,
                },
                None => {
                    tokio::time::sleep(POLL).await;
                    false
                }
            };
            if noticed {
                tokio::time::sleep(site.0.config.batch_interval).await;
                break;
            }
            let seen = site.step("capture.poll", move |engine| engine.data_version(number)).await;
            let seen = seen.unwrap_or(None);
            if seen != version || seen.is_none() {
                version = seen;
                break;
            }
            if !tidied && last.elapsed() >= REST {
                tidied = tidy(&site, number).await;
                trimmed = Instant::now();
                last = Instant::now();
            }
            if site.0.hub.is_detached(number) {
                return;
            }
        }
    }
}

/// What harvesting came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing.
    Nothing,
    /// There was something, and it is all harvested.
    Something,
    /// Somebody is at the file, or it can't be harvested.
    Unfinished,
}

/// Harvests until nothing is left. One harvest goes on at a time.
pub async fn harvest_all(site: &Site, number: DatabaseNumber) -> Result<Outcome, EngineError> {
    let _alone = site.0.harvesting.lock().await;
    let mut outcome = Outcome::Nothing;
    let mut retry = FIRST_RETRY;
    let mut refreshes = 0;
    loop {
        let read = site.step("harvest.read", move |engine| engine.read_harvest(number)).await?;
        let harvested = match read {
            Harvest::Nothing => return Ok(outcome),
            Harvest::Stopped => return Ok(Outcome::Unfinished),
            Harvest::Busy => None,
            // A file that moves on and on must not keep the others waiting.
            Harvest::Moved if refreshes == GREATEST_REFRESHES => return Ok(Outcome::Unfinished),
            Harvest::Moved => {
                refreshes += 1;
                let refresh = site
                    .step("harvest.refresh", move |engine| engine.refresh_capture(number))
                    .await?;
                match refresh {
                    Refresh::Done(harvested) => Some(harvested),
                    Refresh::Busy => None,
                    Refresh::Stopped => return Ok(Outcome::Unfinished),
                }
            }
            Harvest::Notes(notes) => {
                site.step("harvest.sync", move |engine| engine.sync_application(number)).await?;
                let harvested = site
                    .step("harvest.commit", move |engine| engine.commit_harvest(number, &notes))
                    .await?;
                Some(harvested)
            }
        };
        let Some(harvested) = harvested else {
            // The application is at its file: it goes first.
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(GREATEST_RETRY);
            if retry == GREATEST_RETRY {
                return Ok(Outcome::Unfinished);
            }
            continue;
        };
        outcome = Outcome::Something;
        if let Some(local) = harvested.numbered {
            site.0.hub.tell_branch(&local);
        }
    }
}

/// Removes harvested notes at moments without readers; whether none is left.
async fn trim(site: &Site, number: DatabaseNumber) -> bool {
    for _ in 0..100 {
        match site.step("capture.trim", move |engine| engine.trim_log(number)).await {
            Ok(true) => tokio::time::sleep(FIRST_RETRY).await,
            Ok(false) => return true,
            Err(error) => {
                tracing::error!(%error, "the log of changes could not be trimmed");
                return false;
            }
        }
    }
    false
}

/// Trims the log and lets a copy of the bare file hold everything, while the application rests;
/// whether that is done.
async fn tidy(site: &Site, number: DatabaseNumber) -> bool {
    // In this order: after a full checkpoint the first to write would hinder readers.
    let trimmed = trim(site, number).await;
    let done = site
        .step("capture.checkpoint", move |engine| {
            engine.checkpoint_application(number);
            Ok(())
        })
        .await;
    if let Err(error) = done {
        tracing::debug!(%error, "no checkpoint");
    }
    trimmed
}
