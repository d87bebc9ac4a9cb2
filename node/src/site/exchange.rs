//! One connection with a member: carries the session's words to the link and back, and its
//! events to the engine.

use super::Site;
use super::askings::{Asked, Askings};
use super::hub::{Command, SessionNumber};
use super::outlets::{Outlets, Permit};
use crate::engine::{BaseStep, EngineError, Lines, Receipt};
use crate::store::alarms::Severity;
use crate::store::progress::PeerRow;
use crate::transport::{CloseCode, Link};
use conflict::{SiteId, WallTime};
use protocol::message::{BasePart, Hello, Holding, Message, Report, VERSION, Want};
use protocol::session::{Channel, Event, Session, SessionError};
use protocol::{BranchId, Sequence};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a peer may take to say hello.
const HELLO: Duration = Duration::from_secs(20);

/// How many messages are handed to the link at once, at most.
const MESSAGES_AT_ONCE: usize = 64;

/// Why a connection ended.
enum End {
    /// The link says so.
    Link,
    /// Another connection with this peer is kept, or the site stops.
    Left,
    /// The peer broke the protocol.
    Peer(String),
    /// This site's own databases failed.
    Own(EngineError),
}

impl From<SessionError> for End {
    fn from(error: SessionError) -> Self {
        Self::Peer(error.to_string())
    }
}

impl From<EngineError> for End {
    fn from(error: EngineError) -> Self {
        Self::Own(error)
    }
}

/// Talks with a member until the link ends; returns whether they came to talk at all.
pub async fn run(site: Site, link: Link, peer: SiteId, dialled: bool) -> bool {
    let mut exchange = match Exchange::open(&site, link.clone(), peer, dialled).await {
        Ok(exchange) => exchange,
        Err(error) => {
            tracing::error!(%error, "no session could be opened");
            link.close(CloseCode::Done, "the site has a trouble of its own");
            return false;
        }
    };
    let end = exchange.talk().await;
    let number = exchange.number.take();
    if let Some(number) = number {
        note_link(&site, peer, &link, None).await;
        site.0.hub.leave(peer, number);
    }
    match end {
        End::Link => {}
        End::Left => link.close(CloseCode::Superseded, "another connection is kept"),
        End::Peer(reason) => {
            tracing::warn!(%peer, reason, "the connection is closed: the peer broke the protocol");
            link.close(CloseCode::Malformed, &reason);
        }
        End::Own(error) => {
            tracing::error!(%error, "the connection is closed: this site's databases fail");
            link.close(CloseCode::Done, "the site has a trouble of its own");
        }
    }
    number.is_some()
}

/// Adds what a link carried to what is known of its peer.
pub async fn note_link(site: &Site, peer: SiteId, link: &Link, clock_offset_ms: Option<i64>) {
    let stats = link.stats();
    let ended = clock_offset_ms.is_none();
    let row = PeerRow {
        site: peer,
        last_seen: site.0.environment.wall_clock(),
        address: Some(stats.address.to_string()),
        // Bytes are added up once, when the link is over.
        sent_bytes: if ended { stats.sent_bytes } else { 0 },
        received_bytes: if ended { stats.received_bytes } else { 0 },
        clock_offset_ms,
    };
    let noted = site.step("peer.note", move |engine| Ok(engine.note_peer(&row)?)).await;
    if let Err(error) = noted {
        tracing::error!(%error, "what is known of a peer could not be written");
    }
}

/// What an exchange waited for.
enum Wake {
    Command(Option<Command>),
    Outlet(Option<(Channel, Permit)>),
    Received(Option<(Channel, Vec<u8>)>),
    Due,
}

struct Exchange {
    site: Site,
    link: Link,
    peer: SiteId,
    dialled: bool,
    session: Session,
    began: Instant,
    number: Option<SessionNumber>,
    commands: mpsc::UnboundedReceiver<Command>,
    outlets: Outlets,
    vector: Option<BTreeMap<BranchId, Holding>>,
    /// What the peer asked of bases.
    askings: Askings,
    /// Branches that this site takes from this peer, and whether their base was asked for when
    /// the peer had it.
    wanted: BTreeMap<BranchId, bool>,
    /// What the peer was told of third sites.
    reported: BTreeMap<(SiteId, BranchId), Report>,
}

impl Exchange {
    async fn open(
        site: &Site,
        link: Link,
        peer: SiteId,
        dialled: bool,
    ) -> Result<Self, EngineError> {
        let (boot, group, clock) = (site.0.boot, site.0.own, site.0.environment.wall_clock());
        let (hello, branches) = site
            .step("session.open", move |engine| {
                let hello = Hello {
                    least_version: VERSION,
                    version: VERSION,
                    group,
                    site: engine.identity().site,
                    boot,
                    clock,
                    members: engine.membership().digest(),
                    program: concat!("holdfast ", env!("CARGO_PKG_VERSION")).to_owned(),
                };
                Ok((hello, engine.local_branches()?))
            })
            .await?;
        let session = Session::open(hello, peer, branches)
            .map_err(|error| EngineError::Encoding(error.to_string()))?;
        let outlets = Outlets::open(site, &link);
        // Until the hello nobody gives commands.
        let (_, commands) = mpsc::unbounded_channel();
        Ok(Self {
            site: site.clone(),
            link,
            peer,
            dialled,
            session,
            began: Instant::now(),
            number: None,
            commands,
            outlets,
            vector: Some(BTreeMap::new()),
            askings: Askings::default(),
            wanted: BTreeMap::new(),
            reported: BTreeMap::new(),
        })
    }

    async fn talk(&mut self) -> End {
        loop {
            if let Err(end) = self.settle().await {
                return end;
            }
            let deadline = match (self.number, self.session.poll_timeout()) {
                (None, _) => self.began + HELLO,
                (Some(_), Some(due)) => self.began + due,
                (Some(_), None) => self.began + Duration::from_secs(86_400 * 365),
            };
            let listening = self.number.is_some();
            let ready = self.outlets.ready(&self.session);
            let wake = tokio::select! {
                biased;
                command = self.commands.recv(), if listening => Wake::Command(command),
                outlet = ready => Wake::Outlet(outlet),
                received = self.link.receive() => Wake::Received(received),
                () = tokio::time::sleep_until(deadline) => Wake::Due,
            };
            let outcome = match wake {
                Wake::Command(Some(command)) => self.obey(command).await,
                Wake::Command(None) => Err(End::Left),
                Wake::Outlet(Some((channel, permit))) => {
                    // All that is to be said goes into one packet, if it can; of what is large,
                    // the next is chosen late.
                    let most = if channel == Channel::Control { MESSAGES_AT_ONCE } else { 1 };
                    let next = std::iter::from_fn(|| self.session.poll_transmit(channel));
                    permit.send(next.take(most).collect());
                    Ok(())
                }
                Wake::Outlet(None) | Wake::Received(None) => Err(End::Link),
                Wake::Received(Some((channel, bytes))) => self.hear(channel, &bytes),
                Wake::Due if listening => {
                    self.session.handle_timeout(self.began.elapsed()).map_err(End::from)
                }
                Wake::Due => Err(End::Peer("it said no hello".into())),
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    fn hear(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), End> {
        match channel {
            Channel::Control => self.session.handle_control(bytes)?,
            data => self.session.handle_data(data, bytes)?,
        }
        Ok(())
    }

    /// Works off what the session has to tell.
    async fn settle(&mut self) -> Result<(), End> {
        while let Some(event) = self.session.poll_event() {
            self.handle(event).await?;
        }
        self.give_base().await
    }

    async fn obey(&mut self, command: Command) -> Result<(), End> {
        let now = self.began.elapsed();
        match command {
            Command::Branch(local) => self.session.set_branch(now, local)?,
            Command::Want(branch) => self.want(branch).await?,
            Command::Unwant(branch) => {
                self.wanted.remove(&branch);
                self.session.unwant(branch)?;
            }
            Command::Members(records) => self.session.tell(&Message::Members(records))?,
            Command::Reports => self.tell_reports().await?,
            Command::Links => self.session.set_links(self.site.0.hub.connected())?,
            Command::Time => {
                let now = self.site.0.environment.wall_clock();
                self.session.tell(&Message::Time(now))?;
            }
        }
        Ok(())
    }

    async fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Hello(hello) => self.greet(hello).await?,
            Event::Members(records) => {
                let merged = self
                    .site
                    .step("members.merge", move |engine| {
                        let added = engine.merge_members(records)?;
                        Ok(added.map(|added| (added, engine.membership().clone())))
                    })
                    .await?;
                let (added, membership) = merged.map_err(|error| End::Peer(error.to_string()))?;
                if !added.is_empty() {
                    self.site.0.hub.set_membership(membership);
                    self.site.0.hub.tell_members(&added, Some(self.peer));
                }
            }
            Event::Openings(openings) => {
                for opening in openings {
                    let admitted = self
                        .site
                        .step("branch.admit", move |engine| engine.admit_branch(opening))
                        .await?;
                    if let Some(admitted) = admitted.map_err(End::Peer)? {
                        self.tell_branch(&admitted.local).await?;
                        self.site.0.hub.arrived(&admitted.local);
                    }
                }
            }
            Event::Peer(holding) => self.note_holding(holding).await?,
            Event::Vector => {
                let vector = self.vector.take().unwrap_or_default();
                let (peer, told) = (self.peer, vector.clone());
                self.site
                    .step("vector.note", move |engine| Ok(engine.note_vector(peer, told.values())?))
                    .await?;
                self.site.0.hub.with_sources(|sources| sources.connected(self.peer, vector));
            }
            // Who is connected speaks for itself.
            Event::Report(report) if self.site.0.hub.is_connected(report.site) => {}
            Event::Report(report) => {
                self.site
                    .step("report.note", move |engine| Ok(engine.note_report(&report)?))
                    .await?;
            }
            Event::Flight(flight) => {
                let branch = flight.branch;
                let receipt = self
                    .site
                    .step("flight.receive", move |engine| engine.receive_flight(&flight))
                    .await?;
                self.take_receipt(branch, receipt).await?;
            }
            Event::ReadFlight { branch, after } => {
                let flight = self
                    .site
                    .step("flight.read", move |engine| engine.read_flight(branch, after))
                    .await?;
                self.session.supply_flight(branch, flight)?;
            }
            // What is asked of a branch that is not known here needs no memory.
            Event::ReadManifest(branch) if self.is_known(branch) => {
                self.askings.ask_manifest(branch);
            }
            Event::ReadChunks(wanted) if self.is_known(wanted.branch) => {
                self.askings.ask_chunks(wanted);
            }
            Event::ReadManifest(_) | Event::ReadChunks(_) => {}
            Event::Manifest(manifest) => {
                let step = self
                    .site
                    .step("manifest.receive", move |engine| engine.receive_manifest(&manifest))
                    .await?;
                self.take_base_step(step).await?;
            }
            Event::Chunk(chunk) => {
                let step = self
                    .site
                    .step("chunk.receive", move |engine| engine.receive_chunk(&chunk))
                    .await?;
                self.take_base_step(step).await?;
            }
            Event::Fork(fork) => {
                let peer = self.peer;
                let real = self
                    .site
                    .step("fork.note", move |engine| {
                        let real = engine.is_fork(&fork)?;
                        if real {
                            engine.note_fork(&fork, peer)?;
                        }
                        Ok(real)
                    })
                    .await?;
                if real {
                    self.forget(fork.branch);
                }
            }
            Event::Time(time) => self.note_clock(time).await,
            Event::Links => {
                self.site.0.hub.hear_links(self.peer, self.session.peer_links());
                self.tell_reports().await?;
            }
        }
        Ok(())
    }

    /// The peer said hello: enters the hub, and tells what the peer may lack of the group.
    async fn greet(&mut self, hello: Hello) -> Result<(), End> {
        let hub = &self.site.0.hub;
        let dialler = if self.dialled { hub.me() } else { self.peer };
        let (number, commands) =
            hub.enter(self.peer, dialler, hello.boot, self.link.clone()).ok_or(End::Left)?;
        self.number = Some(number);
        self.commands = commands;
        self.note_clock(hello.clock).await;
        let peer = self.peer;
        let theirs = hello.members;
        let (records, branches) = self
            .site
            .step("peer.greet", move |engine| {
                // As the group is now: it may have changed since the session was opened.
                let records = (engine.membership().digest() != theirs)
                    .then(|| engine.membership().records().cloned().collect());
                Ok((records, engine.local_branches()?))
            })
            .await?;
        if let Some(records) = records {
            self.session.tell(&Message::Members(records))?;
        }
        // What happened between the opening of the session and its entry into the hub.
        let since = self.began.elapsed();
        for local in branches {
            self.session.set_branch(since, local)?;
        }
        tracing::info!(%peer, program = hello.program, "connected");
        Ok(())
    }

    /// Tells the peer what is news to it of sites that it is not connected with: of its own
    /// branches, and of others where this site can't tell their origin itself.
    async fn tell_reports(&mut self) -> Result<(), End> {
        let (hub, peer) = (&self.site.0.hub, self.peer);
        if !hub.is_member_beside(peer, self.session.peer_links()) {
            return Ok(());
        }
        let connected = hub.connected();
        let reports = self.site.step("reports.read", |engine| Ok(engine.reports()?)).await?;
        for (origin, report) in reports {
            let useful = origin == peer || !connected.contains(&origin);
            let own_word = report.site == peer || self.session.peer_links().contains(&report.site);
            if useful
                && !own_word
                && self.reported.insert((report.site, report.branch), report) != Some(report)
            {
                self.session.tell(&Message::Report(report))?;
            }
        }
        Ok(())
    }

    /// The peer said what its clock says: notes by how much it differs from this site's.
    async fn note_clock(&self, theirs: WallTime) {
        let half_trip = self.link.stats().round_trip.as_secs_f64() * 500.0;
        let now = self.site.0.environment.wall_clock();
        let offset = theirs.0.saturating_sub(now.0).saturating_add(half_trip as i64);
        note_link(&self.site, self.peer, &self.link, Some(offset)).await;
    }

    async fn note_holding(&mut self, holding: Holding) -> Result<(), End> {
        let peer = self.peer;
        let lines = self
            .site
            .step("progress.note", move |engine| {
                let lines = engine.compare_lines(&holding)?;
                match lines {
                    Lines::Apart(_) => return Ok(lines),
                    Lines::Alike => engine.clear_fork(holding.branch, peer)?,
                    Lines::Unknown => {}
                }
                engine.note_progress(peer, &holding)?;
                Ok(lines)
            })
            .await?;
        if let Lines::Apart(fork) = lines {
            self.site.step("fork.note", move |engine| Ok(engine.note_fork(&fork, peer)?)).await?;
            self.session.tell(&Message::Fork(fork))?;
            self.forget(fork.branch);
            return Ok(());
        }
        match &mut self.vector {
            Some(vector) => {
                vector.insert(holding.branch, holding);
            }
            None => self.site.0.hub.with_sources(|sources| sources.holding(peer, holding)),
        }
        // The peer has only now got the base that it was asked for.
        if holding.durable > Sequence::ZERO && self.wanted.get(&holding.branch) == Some(&false) {
            self.want(holding.branch).await?;
        }
        self.site.0.hub.progressed();
        Ok(())
    }

    async fn take_receipt(&mut self, branch: BranchId, receipt: Receipt) -> Result<(), End> {
        match receipt {
            Receipt::Stored(local) => {
                self.tell_branch(&local).await?;
                self.site.0.hub.arrived(&local);
            }
            Receipt::Known | Receipt::Unknown => {}
            Receipt::Gap => self.want(branch).await?,
            Receipt::Forged(reason) => {
                let peer = self.peer;
                let told = reason.clone();
                self.site
                    .step("forgery.note", move |engine| {
                        let what = format!("A peer sent batches that are not genuine: {told}.");
                        engine.raise(
                            format!("forged:{peer}"),
                            Severity::Critical,
                            None,
                            what,
                            "Look at that computer: its disk is damaged, or its key is stolen.",
                        )?;
                        Ok(())
                    })
                    .await?;
                return Err(End::Peer(reason));
            }
            Receipt::Forked(fork) => {
                let peer = self.peer;
                self.site
                    .step("fork.note", move |engine| Ok(engine.note_fork(&fork, peer)?))
                    .await?;
                self.session.tell(&Message::Fork(fork))?;
                self.forget(branch);
            }
        }
        Ok(())
    }

    async fn take_base_step(&mut self, step: BaseStep) -> Result<(), End> {
        match step {
            BaseStep::Want(wanted) => self.session.want_chunks(wanted)?,
            BaseStep::Complete(local) => {
                self.tell_branch(&local).await?;
                self.site.0.hub.arrived(&local);
            }
            BaseStep::Nothing => {}
            BaseStep::Forged(reason) => return Err(End::Peer(reason)),
        }
        Ok(())
    }

    /// Tells this peer at once, since it may wait for it, and the others through the hub.
    async fn tell_branch(&mut self, local: &protocol::session::LocalBranch) -> Result<(), End> {
        self.session.set_branch(self.began.elapsed(), local.clone())?;
        self.site.0.hub.tell_branch(local);
        Ok(())
    }

    async fn want(&mut self, branch: BranchId) -> Result<(), End> {
        let local = self
            .site
            .step("branch.read", move |engine| Ok(engine.local_branch_of(branch)?))
            .await?;
        let Some(local) = local else { return Ok(()) };
        let opening = local.opening.opening();
        let base = opening.base && local.holding.durable == Sequence::ZERO;
        let peer_has_base =
            self.session.peer_holding(branch).is_some_and(|peer| peer.durable > Sequence::ZERO);
        self.wanted.insert(branch, !base || peer_has_base);
        self.session.want(Want { branch, after: local.holding.held, base })?;
        Ok(())
    }

    fn forget(&self, branch: BranchId) {
        self.site.0.hub.with_sources(|sources| {
            sources.forget(branch);
            Vec::new()
        });
    }

    fn is_known(&self, branch: BranchId) -> bool {
        self.session.local(branch).is_some()
    }

    /// Reads manifests and chunks that were asked for, one when the last has gone.
    async fn give_base(&mut self) -> Result<(), End> {
        while self.session.queued_chunks() == 0
            && let Some(asked) = self.askings.pop()
        {
            let (branch, part) = match asked {
                Asked::Manifest(branch) => {
                    let read = self.site.step("manifest.read", move |e| e.read_manifest(branch));
                    (branch, read.await?.map(BasePart::Manifest))
                }
                Asked::Chunk(wanted, number) => {
                    let read = self.site.step("chunk.read", move |e| e.read_chunk(&wanted, number));
                    (wanted.branch, read.await?.map(BasePart::Chunk))
                }
            };
            match part {
                Some(part) => self.session.supply_base(&part)?,
                None => self.askings.give_up(branch),
            }
        }
        Ok(())
    }
}
