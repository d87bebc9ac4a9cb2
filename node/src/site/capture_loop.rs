//! Looks after one attached database: notices commits, waits until a batch is due, harvests, and
//! tidies up when the application rests.

use super::Site;
use super::hub::Life;
use crate::engine::{EngineError, Harvest, Harvested, Moment, Refresh, Trim};
use crate::store::DatabaseNumber;
use protocol::Mode;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// Behind the notices of the file system, which may be missed.
const POLL: Duration = Duration::from_secs(5);
/// Where there are no notices, or the last one was missed.
const BLIND_POLL: Duration = Duration::from_secs(1);
/// After which rest the log is trimmed and the `-wal` moved into the file. It doubles up to the
/// greatest while somebody is at the file.
const REST: Duration = Duration::from_secs(3);
const GREATEST_REST: Duration = Duration::from_secs(60);
/// After which time the log is trimmed though the application does not rest.
const BUSY: Duration = Duration::from_secs(30);
/// When a file that somebody holds is tried again; it doubles up to the greatest.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const GREATEST_RETRY: Duration = Duration::from_millis(500);
/// Trims in a row that may find somebody at the file.
const TRIM_TRIES: u32 = 6;

/// How often a schema that moves is followed within one harvest.
const GREATEST_REFRESHES: u32 = 100;

/// Harvests a database until it is detached or the site stops.
pub async fn run(site: Site, life: Life, number: DatabaseNumber, path: PathBuf) {
    let mut watch = match site.0.environment.watch(&path) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "commits are noticed by polling only");
            None
        }
    };
    // How the file was when the last harvest began; none if that is to be repeated.
    let mut harvested;
    // Whether commits come that no notice tells of.
    let mut blind = watch.is_none();
    let mut again = BLIND_POLL;
    let mut tidy = Tidy::default();
    loop {
        if site.0.hub.is_over(life) {
            return;
        }
        harvested = moment(&site, number).await;
        match harvest_all(&site, number).await {
            Ok(outcome @ (Outcome::Something | Outcome::Nothing)) => {
                again = BLIND_POLL;
                if outcome == Outcome::Something {
                    tidy.harvested(&site, number).await;
                }
            }
            // The next poll tries again, whether or not there is something new.
            Ok(Outcome::Unfinished) => harvested = None,
            Err(error) => {
                tracing::error!(%error, "a harvest failed; it is tried again");
                harvested = None;
            }
        }
        // What is committed from here on is for the next batch.
        loop {
            let poll = if blind { BLIND_POLL } else { POLL };
            let pause = match harvested {
                Some(_) => tidy.due().map_or(poll, |due| due.min(poll)),
                None => {
                    let pause = again;
                    again = (again * 2).min(POLL);
                    pause
                }
            };
            let pause = tokio::time::sleep(pause);
            let noticed = match &mut watch {
                Some(watch) => tokio::select! {
                    biased;
                    () = watch.changed() => true,
                    () = pause => false,
                },
                None => {
                    pause.await;
                    false
                }
            };
            if noticed {
                tokio::time::sleep(site.0.config.batch_interval).await;
            }
            let now = moment(&site, number).await;
            // What was noticed may be our own doing.
            if now.is_none() || now != harvested {
                if harvested.is_some() {
                    blind = !noticed;
                }
                break;
            }
            if tidy.due().is_some_and(|due| due.is_zero()) {
                tidy.now(&site, number).await;
            }
            if site.0.hub.is_over(life) {
                return;
            }
        }
    }
}

/// How the application's file is; `None` if that can't be told.
async fn moment(site: &Site, number: DatabaseNumber) -> Option<Moment> {
    site.step("capture.poll", move |engine| engine.moment(number)).await.unwrap_or_default()
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

/// Harvests what is committed when this begins, at least. One harvest goes on at a time.
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
                if !harvested.more {
                    tell(site, &harvested);
                    return Ok(Outcome::Something);
                }
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
        tell(site, &harvested);
    }
}

fn tell(site: &Site, harvested: &Harvested) {
    if let Some(local) = &harvested.numbered {
        site.0.hub.tell_branch(local);
        if local.opening.opening().mode == Mode::Shared {
            // What settles by it may have to be written.
            site.0.hub.arrived(local);
        }
    }
}

/// When the application's file is tidied up: after a rest, and now and then without one.
struct Tidy {
    /// When something was harvested last, or tidying up was tried.
    last: Instant,
    rest: Duration,
    /// Since when harvested notes may lie in the log; none if all is tidy.
    since: Option<Instant>,
}

impl Default for Tidy {
    fn default() -> Self {
        let now = Instant::now();
        Self { last: now, rest: REST, since: Some(now) }
    }
}

impl Tidy {
    /// How long until the application has rested enough; `None` if all is tidy.
    fn due(&self) -> Option<Duration> {
        self.since.map(|_| self.rest.saturating_sub(self.last.elapsed()))
    }

    /// Something was harvested.
    async fn harvested(&mut self, site: &Site, number: DatabaseNumber) {
        self.last = Instant::now();
        self.rest = REST;
        let since = *self.since.get_or_insert(self.last);
        if since.elapsed() >= BUSY {
            trim(site, number).await;
            self.since = Some(Instant::now());
        }
    }

    /// The application rests: trims the log and lets a copy of the bare file hold everything.
    async fn now(&mut self, site: &Site, number: DatabaseNumber) {
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
        self.last = Instant::now();
        if trimmed {
            self.since = None;
        } else {
            self.rest = (self.rest * 2).min(GREATEST_REST);
        }
    }
}

/// Removes harvested notes at moments without readers; whether none is left.
async fn trim(site: &Site, number: DatabaseNumber) -> bool {
    let mut retry = FIRST_RETRY;
    let mut tries = 0;
    loop {
        match site.step("capture.trim", move |engine| engine.trim_log(number)).await {
            Ok(Trim::Done) => return true,
            Ok(Trim::More) => tokio::time::sleep(FIRST_RETRY).await,
            Ok(Trim::Busy) if tries == TRIM_TRIES => return false,
            Ok(Trim::Busy) => {
                tries += 1;
                tokio::time::sleep(retry).await;
                retry *= 2;
            }
            Err(error) => {
                tracing::error!(%error, "the log of changes could not be trimmed");
                return false;
            }
        }
    }
}
