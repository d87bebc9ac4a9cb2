//! The world: sites on computers in a network, and what happens to them. Tests and stories tell
//! it in order; between two calls time stands still, unless a call says that it passes.

use crate::world::application::Application;
use crate::world::boot::Boot;
pub mod application;
pub(crate) mod boot;
mod clocks;
mod clones;
pub(crate) mod computer;
pub(crate) mod environment;
mod executor;
mod lines;
pub(crate) mod power;
mod quic;
mod verified;

use crate::clock::Clock;
use crate::content;
use crate::disk::Disk;
use crate::disk::here::Guard;
use crate::network::{self, Access, Network};
use crate::random::Random;
use crate::trace::Trace;
use crate::world::computer::Computer;
use crate::world::environment::SimEnvironment;
use crate::world::verified::Verified;
use node::directory::Directory;
use node::engine::{AttachRequest, Attached, members};
use node::environment::Environment;
use node::failure::Failure;
use node::site::Site;
use node::status::Status;
use protocol::invitation::Invitation;
use protocol::{Mode, Name};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// How long an invitation lasts.
const INVITED: Duration = Duration::from_secs(3600);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// In which time a node answers a question about itself, if it ever does.
const ANSWER: Duration = Duration::from_secs(60);
/// How wrong a computer's clock may be, either way.
const CLOCK_ERROR_MS: u64 = 3000;

/// Worlds come one after another.
static ALONE: Mutex<()> = Mutex::new(());

/// Makes a world, tells its story, and ends it. Waits until no other world is in this process.
///
/// # Panics
/// The story panicked, or a task or step of a node did.
pub fn run<T>(seed: u64, story: impl AsyncFnOnce(&mut World) -> T) -> T {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed);
        let told = story(&mut world).await;
        world.end().await;
        told
    })
}

/// See the module.
#[derive(Debug)]
pub struct World {
    seed: u64,
    clock: Clock,
    trace: Arc<Trace>,
    network: Arc<Network>,
    verified: Arc<Verified>,
    falls: Arc<Notify>,
    clocks: Random,
    sites: BTreeMap<String, Place>,
    panics: u64,
    sqlite: Guard,
}

/// A site's computer, and its node while it runs.
#[derive(Debug)]
struct Place {
    computer: Arc<Computer>,
    boots: u32,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    environment: Arc<SimEnvironment>,
    site: Site,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Packets sent.
    pub packets: u64,
    /// Bytes of their payload.
    pub bytes: u64,
    /// How long it took in the world.
    pub time: Duration,
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = Clock::start();
        let trace = Arc::new(Trace::default());
        let network = Network::new(clock, Arc::clone(&trace), Random::new(seed, "network"));
        Self {
            seed,
            clock,
            trace,
            network: Arc::new(network),
            verified: Arc::default(),
            falls: Arc::default(),
            clocks: Random::new(seed, "clocks"),
            sites: BTreeMap::new(),
            panics: 0,
            sqlite: Guard::enter(clock, Random::new(seed, "sqlite")),
        }
    }

    async fn end(&mut self) {
        let names: Vec<String> = self.sites.keys().cloned().collect();
        for name in names {
            self.end_boot(&name).await;
            self.place(&name).computer.end_programs();
        }
        assert_eq!(self.sqlite.panics(), 0, "the disk panicked; see above");
        assert_eq!(self.panics, 0, "tasks or steps of nodes panicked; see above");
    }

    /// What decides everything here.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A stream of random numbers for the story itself.
    pub fn random(&self, label: &str) -> Random {
        Random::new(self.seed, &format!("story {label}"))
    }

    /// A new site, running: the first founds the group, the others join it by an invitation of
    /// the first that runs and is not behind a NAT.
    pub async fn site(&mut self, name: &str) {
        self.site_with(name, Access::Direct).await;
    }

    /// A new site that is reached in that way.
    pub async fn site_with(&mut self, name: &str, access: Access) {
        assert!(!self.sites.contains_key(name), "there is a site {name} already");
        let number = u8::try_from(self.sites.len() + 1).unwrap();
        let address = network::address_of(number);
        let error = self.clocks.below(2 * CLOCK_ERROR_MS + 1) as i64 - CLOCK_ERROR_MS as i64;
        let disk = Arc::new(Disk::new(name, self.seed));
        let world = (self.clock, Arc::clone(&self.network), disk, Arc::clone(&self.verified));
        let between = Random::new(self.seed, &format!("{name} between steps"));
        let computer =
            Computer::new(name, (address, error), world, (Arc::clone(&self.falls), between));
        self.network.connect(address, name, access);
        let addresses = match access {
            Access::Named => vec![format!("{name}:{}", network::listen().port())],
            Access::Direct | Access::Nat { .. } => Vec::new(),
        };
        let reached = |place: &&Place| self.network.is_direct(place.computer.address);
        let mut inviters = self.sites.values().filter(reached);
        let inviter = inviters.find_map(|place| place.running.as_ref());
        let inviter = inviter.map(|running| running.site.clone());
        let place = Place { computer, boots: 0, running: None };
        self.sites.insert(name.to_owned(), place);

        let environment = self.new_boot(name);
        let directory = directory(&environment.computer);
        let own: Name = name.parse().unwrap();
        match inviter {
            None => {
                let _here = environment.boot.here();
                members::found(&*environment, &directory, &own, network::listen(), &addresses)
                    .unwrap();
                node::site::write_example(&*environment, &directory).unwrap();
            }
            Some(inviter) => {
                // As a code that somebody reads out.
                let code = inviter.invite(INVITED).await.unwrap().to_string();
                let code: Invitation = code.parse().unwrap();
                let world: Arc<dyn Environment> = environment.clone();
                let listen = network::listen();
                let joined = node::site::join(world, &directory, own, listen, &addresses, &code);
                environment.boot.within(joined).await.unwrap();
            }
        }
        self.panics += end(&environment).await;
        drop(environment);
        self.boot(name).await.unwrap();
    }

    /// A program on a site's computer with a database there.
    pub fn application(&self, name: &str, file: &str) -> Application {
        Application::start(&self.place(name).computer, self.file(name, file))
    }

    /// Puts a database under sync, switching it to a write-ahead log; `None` if the power goes
    /// meanwhile ([`World::strike`]).
    pub async fn attach(&self, name: &str, file: &str, database: &str) -> Option<Attached> {
        self.attach_as(name, file, database, true).await
    }

    /// The same, and `wal` says whether the database is switched to a write-ahead log.
    pub async fn attach_as(
        &self,
        name: &str,
        file: &str,
        database: &str,
        wal: bool,
    ) -> Option<Attached> {
        let path = self.file(name, file);
        let request = AttachRequest { wal, ..AttachRequest::new(database.parse().unwrap(), path) };
        tokio::select! {
            biased;
            attached = self.running(name).site.attach(request) => Some(attached.unwrap()),
            () = self.fallen_at(name) => None,
        }
    }

    /// The same, leaving its journal as it is if it has none ahead; `None` if it can't be done now:
    /// somebody is at it, or the power goes.
    pub async fn try_attach(&self, name: &str, file: &str, database: &str) -> Option<Attached> {
        let path = self.file(name, file);
        let request = AttachRequest::new(database.parse().unwrap(), path);
        tokio::select! {
            biased;
            () = self.fallen_at(name) => None,
            attached = self.running(name).site.attach(request) => attached.ok(),
        }
    }

    /// Puts a database under sync that all sites write, which begins here or is joined; `None` if
    /// the power goes meanwhile.
    pub async fn try_share(
        &self,
        name: &str,
        file: &str,
        database: &str,
    ) -> Option<Result<Attached, Failure>> {
        let path = self.file(name, file);
        let mode = Some(Mode::Shared);
        let request = AttachRequest { mode, ..AttachRequest::new(database.parse().unwrap(), path) };
        tokio::select! {
            biased;
            () = self.fallen_at(name) => None,
            attached = self.running(name).site.attach(request) => Some(attached),
        }
    }

    /// Sets a rule of a shared database; whether it could be.
    pub async fn try_rule(&self, name: &str, database: &str, subject: &str, rule: &str) -> bool {
        let (subject, rule) = (subject.to_owned(), rule.to_owned());
        let chosen = self.running(name).site.choose_rule(database.parse().unwrap(), subject, rule);
        tokio::select! {
            biased;
            () = self.fallen_at(name) => false,
            chosen = chosen => chosen.is_ok(),
        }
    }

    /// Where a site's `node.db` lies.
    pub fn node_db(&self, name: &str) -> PathBuf {
        directory(&self.place(name).computer).store()
    }

    /// Where a file on a site's computer lies.
    pub fn file(&self, name: &str, file: &str) -> PathBuf {
        self.place(name).computer.folder.join(file)
    }

    /// The disk of a site's computer.
    pub fn disk(&self, name: &str) -> &Arc<Disk> {
        &self.place(name).computer.disk
    }

    /// Where a site keeps its mirror of another's database.
    pub fn mirror(&self, name: &str, of: &str, database: &str) -> PathBuf {
        let (of, database): (Name, Name) = (of.parse().unwrap(), database.parse().unwrap());
        directory(&self.place(name).computer).mirror(&of, &database)
    }

    /// What a running node says of itself.
    pub async fn status(&self, name: &str) -> Status {
        let running = self.running(name);
        assert!(running.environment.boot.is_alive(), "{name} has lost its power");
        let answer = timeout(ANSWER, running.site.status()).await;
        answer.unwrap_or_else(|_| panic!("{name} does not answer")).unwrap()
    }

    /// The same, if the node runs and can: its disk may be broken or slow, or the power goes.
    pub async fn try_status(&self, name: &str) -> Option<Status> {
        let running = self.place(name).running.as_ref()?;
        let answer = timeout(ANSWER, running.site.status());
        tokio::select! {
            biased;
            () = self.fallen_at(name) => None,
            answer = answer => answer.ok()?.ok(),
        }
    }

    /// Whether everything written at a site is durable elsewhere, and every copy of it shows it.
    pub async fn is_settled(&self, name: &str) -> bool {
        let status = self.status(name).await;
        status.databases.iter().all(|database| {
            let all_shown = |copies: &Vec<_>| {
                copies.iter().all(|copy: &node::status::CopyStatus| {
                    copy.applied_sequence == database.sequence
                })
            };
            database.safe != Some(false)
                && database.pending_changes.is_none_or(|changes| changes == 0)
                && database.copies.as_ref().is_none_or(all_shown)
        })
    }

    /// Lets time pass.
    pub async fn run_for(&self, time: Duration) {
        sleep(time).await;
    }

    /// Lets time pass until a condition holds; returns how long that was.
    ///
    /// # Panics
    /// It took longer than `patience`: then with what all running nodes say of themselves.
    pub async fn run_until(
        &self,
        what: &str,
        patience: Duration,
        condition: impl AsyncFn(&Self) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        while !condition(self).await {
            if begun.elapsed() >= patience {
                let mut all = String::new();
                for (name, place) in &self.sites {
                    let alive = |running: &&Running| running.environment.boot.is_alive();
                    if place.running.as_ref().filter(alive).is_some() {
                        all.push_str(&node::status::render(&self.status(name).await));
                    }
                }
                panic!("seed {}: not within {patience:?}: {what}\n{all}", self.seed);
            }
            sleep(LOOK).await;
        }
        begun.elapsed()
    }

    /// Every packet sent so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The hash of time, source, destination and size of every packet sent so far.
    pub fn trace_hash(&self) -> blake3::Hash {
        self.trace.hash()
    }

    /// The hash of what all databases hold: applications', mirrors, and the nodes' own.
    pub fn content_hash(&self) -> blake3::Hash {
        content::hash(self.sites.values().map(|place| &*place.computer.disk))
    }

    /// What the run cost so far.
    pub fn figures(&self) -> Figures {
        let (packets, bytes) = self.trace.totals();
        Figures { packets, bytes, time: self.clock.elapsed() }
    }

    /// How often a site's node ran a step of that name, and in how much real time.
    pub fn steps(&self, name: &str) -> BTreeMap<&'static str, (u64, Duration)> {
        self.place(name).computer.steps.lock().unwrap().clone()
    }

    /// How often SQLite waited inside a call. The node's waits are its own, between steps, so
    /// that one thread suffices; this counts those that are not.
    pub fn waits_in_sqlite(&self) -> u64 {
        self.sqlite.slept()
    }

    fn new_boot(&mut self, name: &str) -> Arc<SimEnvironment> {
        let seed = self.seed;
        let place = self.place_mut(name);
        place.boots += 1;
        let boot = Boot::new(&place.computer, seed, &format!("{name}.{}", place.boots));
        Arc::new(SimEnvironment::new(Arc::clone(&place.computer), boot))
    }

    fn place(&self, name: &str) -> &Place {
        self.sites.get(name).unwrap_or_else(|| panic!("there is no site {name}"))
    }

    fn place_mut(&mut self, name: &str) -> &mut Place {
        self.sites.get_mut(name).unwrap_or_else(|| panic!("there is no site {name}"))
    }

    fn running(&self, name: &str) -> &Running {
        self.place(name).running.as_ref().unwrap_or_else(|| panic!("{name} does not run"))
    }

    fn address(&self, name: &str) -> IpAddr {
        self.place(name).computer.address
    }
}

fn directory(computer: &Computer) -> Directory {
    Directory::new(computer.folder.join("holdfast"))
}

/// Ends a boot and all that belongs to it; returns how many of its tasks and steps panicked.
async fn end(environment: &Arc<SimEnvironment>) -> u64 {
    environment.boot.kill();
    environment.computer.unplug();
    environment.boot.end_tasks().await;
    // What it had open is closed, as far as it still could.
    environment.computer.disk.kill(&environment.boot.process);
    let left = Arc::strong_count(environment) - 1;
    assert_eq!(left, 0, "{} things of a node outlive its boot and its tasks", left);
    environment.boot.panics()
}
