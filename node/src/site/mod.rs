//! A running site: who talks to whom, and what waits for what. Its tasks hold no database open
//! and decide nothing about data: every step on data is the engine's, every word to a peer the
//! session's.

mod apply_loop;
mod askings;
mod capture_loop;
mod contact;
mod decide;
mod exchange;
mod hub;
mod join;
mod merge_loop;
mod outlets;
mod peers;
mod sources;

use crate::config::Config;
use crate::directory::Directory;
use crate::engine::{
    self, AttachRequest, Attached, Detached, Diagnosis, Engine, EngineError, EngineWorker,
};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::status::{Connected, Live, Status};
use crate::store::{DatabaseNumber, DatabaseRow, DatabaseState};
use crate::transport::{CloseCode, Endpoint, Settings};
use hub::Hub;
use protocol::invitation::Invitation;
use protocol::{Mode, Name};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use join::{join, write_example};

/// A site that runs. Clones share it.
#[derive(Clone, Debug)]
pub struct Site(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    environment: Arc<dyn Environment>,
    config: Config,
    engine: EngineWorker,
    endpoint: Endpoint,
    hub: Hub,
    /// Held while a database is attached or detached.
    attaching: tokio::sync::Mutex<()>,
    /// Held while a harvest goes on.
    harvesting: tokio::sync::Mutex<()>,
    boot: [u8; 8],
    own: protocol::GroupId,
}

/// How long the end of a run may take.
const DRAIN: Duration = Duration::from_secs(5);
/// How long attaching waits for a shared database's first content while nothing of it comes.
const COMING: Duration = Duration::from_secs(30);

impl Site {
    /// Starts the site of a directory: it listens, dials its peers, captures and applies until
    /// [`Site::stop`].
    ///
    /// # Errors
    /// There is no site, or it can't listen.
    pub async fn start(
        environment: Arc<dyn Environment>,
        directory: Directory,
        config: Config,
    ) -> Result<Self, Failure> {
        let engine = Engine::open(Arc::clone(&environment), directory).map_err(Failure::from)?;
        let listen = engine.store().listen().map_err(Failure::from)?.ok_or_else(|| {
            Failure::unable("The site has no address to listen on.", "Make it anew with `init`.")
        })?;
        let endpoint = Endpoint::new(
            Arc::clone(&environment),
            engine.key().seed(),
            listen,
            Settings::default(),
        )
        .map_err(|error| {
            Failure::unable(
                format!("No socket can be opened on {listen}: {error}."),
                "Stop the program that uses the port, or choose another with `run --listen`.",
            )
        })?;
        let actual = endpoint.local_address().map_err(|error| {
            Failure::unable(format!("{error}."), "Look at the network of this computer.")
        })?;
        let mut boot = [0; 8];
        environment.fill_random(&mut boot);
        let hub = Hub::new(engine.identity().site, engine.membership().clone());
        let own = engine.identity().group;
        let engine = EngineWorker::new(&*environment, engine);
        let site = Self(Arc::new(Shared {
            environment,
            config,
            engine,
            endpoint,
            hub,
            attaching: tokio::sync::Mutex::new(()),
            harvesting: tokio::sync::Mutex::new(()),
            boot,
            own,
        }));
        site.begin(actual).await.map_err(Failure::from)?;
        Ok(site)
    }

    /// Publishes this site's addresses, opens its databases, and sets its tasks going.
    async fn begin(&self, listen: SocketAddr) -> Result<(), EngineError> {
        self.step("site.begin", move |engine| {
            engine.look_for_interrupted_attaches()?;
            engine.keep_listen(listen)
        })
        .await?;
        contact::publish(self, listen).await?;
        let branches = self.step("branches.read", |engine| Ok(engine.local_branches()?)).await?;
        for local in &branches {
            self.0.hub.tell_branch(local);
        }
        let databases = self.step("databases.read", |engine| Ok(engine.databases()?)).await?;
        for database in databases {
            if database.state == DatabaseState::Attached {
                self.look_after(database);
            }
        }
        self.spawn(apply_loop::run(self.clone()));
        self.spawn(peers::accept(self.clone()));
        self.spawn(peers::dial_all(self.clone()));
        self.spawn(peers::tell_links(self.clone()));
        self.spawn(peers::keep_books(self.clone()));
        self.spawn(contact::follow(self.clone(), listen));
        Ok(())
    }

    /// Where the site listens.
    pub fn listen(&self) -> Option<SocketAddr> {
        self.0.endpoint.local_address().ok()
    }

    /// Puts a database under sync.
    ///
    /// # Errors
    /// Why it is refused or could not be done.
    pub async fn attach(&self, request: AttachRequest) -> Result<Attached, Failure> {
        let _alone = self.0.attaching.lock().await;
        let (number, _, attached) = engine::attach(&self.0.engine, request, COMING).await?;
        let (database, branches) = self
            .step("attached.read", move |engine| {
                let branches = engine.store().branches_of(number)?;
                let locals = branches.iter().map(|branch| engine.local_branch(branch));
                Ok((engine.store().database(number)?, locals.collect::<Result<Vec<_>, _>>()?))
            })
            .await?;
        for local in &branches {
            self.0.hub.tell_branch(local);
        }
        self.look_after(database);
        Ok(attached)
    }

    /// Sets the tasks going that an attached database needs.
    fn look_after(&self, database: DatabaseRow) {
        let life = self.0.hub.life(database.number);
        if database.mode == Mode::Shared {
            let wake = self.0.hub.watch_shared(database.number, database.id);
            self.spawn(merge_loop::run(self.clone(), life, database.number, wake));
        }
        self.spawn(capture_loop::run(self.clone(), life, database.number, database.path));
    }

    /// Removes everything that attach put into a database; returns what a person should know.
    ///
    /// # Errors
    /// Why it is refused or could not be done.
    pub async fn detach(&self, name: Name) -> Result<Vec<String>, Failure> {
        let _alone = self.0.attaching.lock().await;
        let Detached { number, branch, warnings } = {
            let _resting = self.0.harvesting.lock().await;
            let detached = engine::detach(&self.0.engine, name).await?;
            // Without a branch it was never looked after, and its number may be given out again.
            if detached.branch.is_some() {
                self.0.hub.detached(detached.number);
            }
            detached
        };
        if branch.is_some() {
            // Of a shared one nothing is applied here any more.
            let branches = self
                .step("branches.read", move |engine| {
                    let branches = engine.store().branches_of(number)?;
                    let locals = branches.iter().map(|branch| engine.local_branch(branch));
                    Ok(locals.collect::<Result<Vec<_>, _>>()?)
                })
                .await?;
            for local in &branches {
                self.0.hub.tell_branch(local);
            }
        }
        Ok(warnings)
    }

    /// Makes an invitation.
    ///
    /// # Errors
    /// Why it could not be done.
    pub async fn invite(&self, lifetime: Duration) -> Result<Invitation, Failure> {
        let ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        Ok(self.step("invite", move |engine| engine.invite(ms)).await?)
    }

    /// Takes a site out of the group.
    ///
    /// # Errors
    /// Why it could not be done.
    pub async fn remove(&self, name: Name) -> Result<(), Failure> {
        let (record, membership) = self
            .step("members.remove", move |engine| {
                let record = engine.remove_member(&name)?;
                Ok((record, engine.membership().clone()))
            })
            .await?;
        self.0.hub.tell_members(&[record], None);
        self.0.hub.set_membership(membership);
        Ok(())
    }

    /// What would go wrong with the database at `path`, or with all that are attached.
    ///
    /// # Errors
    /// The file at `path` can't be looked at, or the store fails.
    pub async fn doctor(&self, path: Option<PathBuf>) -> Result<Diagnosis, Failure> {
        Ok(engine::doctor(&self.0.engine, path).await?)
    }

    /// How safe the data is.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn status(&self) -> Result<Status, Failure> {
        let connected: Vec<_> = self.0.hub.links();
        let live = Live {
            listen: self.listen().map(|listen| listen.to_string()),
            connected: connected
                .into_iter()
                .map(|(site, link)| {
                    let stats = link.stats();
                    let connected = Connected {
                        address: stats.address.to_string(),
                        rtt_ms: stats.round_trip.as_secs_f64() * 1000.0,
                        sent_bytes: stats.sent_bytes,
                        received_bytes: stats.received_bytes,
                    };
                    (site, connected)
                })
                .collect(),
            connecting: self.0.hub.connecting(),
        };
        Ok(self
            .step("status", move |engine| {
                let view = engine.view()?;
                Ok(Status::new(engine.identity(), &view, Some(&live)))
            })
            .await?)
    }

    /// Ends the run: what is noted is harvested and sent as far as that goes within a bounded
    /// time, connections are closed, and so are all databases.
    ///
    /// # Errors
    /// A database could not be closed cleanly; nothing is lost by that.
    pub async fn stop(&self) -> Result<(), Failure> {
        self.0.hub.stop();
        let drained = tokio::time::timeout(DRAIN, self.drain()).await;
        if !matches!(drained, Ok(Ok(()))) {
            tracing::info!("stopping before everything was sent; it is sent at the next run");
        }
        peers::note_links(self).await;
        self.0.hub.close_all("the site stops");
        self.0.endpoint.close(CloseCode::Done, "the site stops").await;
        self.0.engine.close().await.map_err(Failure::from)
    }

    /// Harvests what is noted and waits until a connected peer has made all of it durable.
    async fn drain(&self) -> Result<(), EngineError> {
        let databases = self.step("databases.read", |engine| Ok(engine.databases()?)).await?;
        let attached: Vec<DatabaseNumber> = databases
            .iter()
            .filter(|database| database.state == DatabaseState::Attached)
            .map(|database| database.number)
            .collect();
        for number in &attached {
            // What is committed during a harvest may be left for the next.
            loop {
                match capture_loop::harvest_all(self, *number).await {
                    Ok(capture_loop::Outcome::Something) => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::error!(%error, "a database is not harvested at the end of the run");
                        break;
                    }
                }
            }
        }
        while self.0.hub.any_connected() {
            let waiting = self.0.hub.progress();
            tokio::pin!(waiting);
            waiting.as_mut().enable();
            let numbers = attached.clone();
            let safe = self
                .step("drain.look", move |engine| {
                    let view = engine.view()?;
                    Ok(view
                        .databases
                        .iter()
                        .filter(|database| numbers.contains(&database.row.number))
                        .all(crate::engine::DatabaseView::safe))
                })
                .await?;
            if safe {
                break;
            }
            waiting.await;
        }
        Ok(())
    }

    /// Runs a step of the engine.
    async fn step<R: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut Engine) -> Result<R, EngineError> + Send + 'static,
    ) -> Result<R, EngineError> {
        self.0.engine.step(name, work).await
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.0.environment.spawn(Box::pin(task));
        self.0.hub.adopt(handle);
    }
}
