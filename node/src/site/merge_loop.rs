//! Looks after what all sites say of one shared database that is attached here: merges what
//! arrives, and has it written into the application's file. The application's own changes are
//! `capture_loop`'s.

use super::Site;
use super::hub::Life;
use crate::engine::SharedStep;
use crate::store::DatabaseNumber;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// When a file that somebody holds is tried again; it doubles up to the greatest.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const GREATEST_RETRY: Duration = Duration::from_millis(500);
/// When a database is tidied up after the site began with it, and from then on. A site that is on
/// for minutes a day has its turn as well.
const FIRST_TIDYING: Duration = Duration::from_secs(60);
const TIDYING: Duration = Duration::from_secs(30 * 60);
/// When a database is tried again after this site's own store failed.
const RETRY: Duration = Duration::from_secs(5);
/// After so many failures in a row a person is told.
const TOLD: u32 = 3;

/// Goes on with a database until it is detached or the site stops. `wake` is notified when
/// something came of it.
pub async fn run(site: Site, life: Life, number: DatabaseNumber, wake: Arc<Notify>) {
    let mut retry = FIRST_RETRY;
    let mut tidying = Instant::now() + FIRST_TIDYING;
    let mut failures: u32 = 0;
    // What an earlier run told may be so no more.
    let mut told = true;
    loop {
        let due = Instant::now() >= tidying;
        let step = {
            // Between the reading of a harvest and its numbering the file must not change by us.
            let _alone = site.0.harvesting.lock().await;
            if site.0.hub.is_over(life) {
                return;
            }
            let step = site.step("shared.step", move |engine| engine.step_shared(number)).await;
            match step {
                Ok(SharedStep::Even) if due => {
                    site.step("shared.tidy", move |engine| engine.tidy_shared(number)).await
                }
                step => step,
            }
        };
        match &step {
            Ok(_) => {
                failures = 0;
                told = told && !tell(&site, number, None).await;
            }
            Err(error) => {
                tracing::error!(%error, "a shared database could not be looked after");
                failures = failures.saturating_add(1);
                if failures >= TOLD {
                    told |= tell(&site, number, Some(error.to_string())).await;
                }
            }
        }
        match step {
            Ok(SharedStep::Moved(moved)) => {
                retry = FIRST_RETRY;
                for local in &moved {
                    site.0.hub.tell_branch(local);
                }
            }
            Ok(SharedStep::Refill(local)) => site.0.hub.went_back(&local),
            // Stuck: until something changes.
            Ok(SharedStep::Even | SharedStep::Stuck) => {
                retry = FIRST_RETRY;
                if due {
                    tidying = Instant::now() + TIDYING;
                }
                tokio::select! {
                    biased;
                    () = wake.notified() => {}
                    () = tokio::time::sleep_until(tidying) => {}
                }
            }
            // The application is at its file: it goes first.
            Ok(SharedStep::Busy) => {
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(GREATEST_RETRY);
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Tells that a database can't be looked after, or that it can; whether that is told now.
async fn tell(site: &Site, number: DatabaseNumber, error: Option<String>) -> bool {
    let told =
        site.step("shared.tell", move |engine| engine.tell_failing(number, error.as_deref()));
    match told.await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "how it goes with a shared database could not be told");
            false
        }
    }
}
