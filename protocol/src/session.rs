//! One connection with a peer, as a state machine without I/O: what arrives goes in, what is to
//! be sent and what happened come out. It knows how far both sides are and what was asked for;
//! it holds no journal, checks no batch and chooses no source: its owner does.

#[cfg(test)]
mod tests;
mod words;

pub use words::{Channel, Event, LocalBranch, SessionError};

use crate::branch::SignedOpening;
use crate::flight::Flight;
use crate::limits::HOLDINGS;
use crate::message::{BasePart, Hello, Holding, Message, VERSION, Want, WantChunks};
use crate::{BranchId, GroupId, Sequence};
use conflict::SiteId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Where the sending of one branch to the peer stands.
#[derive(Debug, Default)]
enum Sending {
    /// Nothing under way.
    #[default]
    Idle,
    /// The owner was asked for the next flight.
    Reading,
    /// A flight waits to be transmitted.
    Queued,
}

#[derive(Debug, Default)]
struct Branch {
    local: Option<LocalBranch>,
    peer: Option<Holding>,
    /// The highest sequence sent, once the peer wants the branch.
    sent: Option<Sequence>,
    channel: Option<Channel>,
    sending: Sending,
    opening_sent: bool,
    /// Progress that the peer was told last.
    told: Option<Holding>,
    /// When it is to be told more.
    tell_at: Option<Duration>,
    /// Whether this site asked the peer for the branch: then it is told at once.
    wanted: bool,
}

/// Progress that the peer does not wait for is told at most this often.
const TELL_SLOWLY: Duration = Duration::from_secs(2);
/// To the site that sent the batches: what is held and not applied yet. Mostly it is applied
/// sooner, and both are told at once.
const TELL_HELD: Duration = Duration::from_millis(50);
/// To the same, what is applied of what it knows to be held.
const TELL_APPLIED: Duration = Duration::from_millis(100);

/// One connection with a peer.
///
/// - Inputs: [`handle_control`](Self::handle_control), [`handle_data`](Self::handle_data),
///   [`handle_timeout`](Self::handle_timeout).
/// - Commands: [`set_branch`](Self::set_branch), [`set_links`](Self::set_links), [`want`](Self::want), [`unwant`](Self::unwant),
///   [`want_chunks`](Self::want_chunks), [`tell`](Self::tell), and the answers `supply_*`.
/// - Polls, after each of these: [`poll_event`](Self::poll_event) until `None`, then
///   [`poll_transmit`](Self::poll_transmit) of each channel that can take more, then
///   [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Session {
    group: GroupId,
    peer_site: SiteId,
    greeted: bool,
    vector_known: bool,
    branches: BTreeMap<BranchId, Branch>,
    /// With whom this site is connected, and with whom the peer.
    links: BTreeSet<SiteId>,
    peer_links: BTreeSet<SiteId>,
    control: VecDeque<Vec<u8>>,
    live: VecDeque<(BranchId, Vec<u8>)>,
    catch_up: VecDeque<(BranchId, Vec<u8>)>,
    snapshot: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Session {
    /// Opens a session with the site whose key the connection has proved: greets it and tells
    /// this site's vector.
    ///
    /// # Errors
    /// The hello or the vector is too large for a message.
    pub fn open(
        hello: Hello,
        peer: SiteId,
        branches: Vec<LocalBranch>,
    ) -> Result<Self, SessionError> {
        let mut session = Self {
            group: hello.group,
            peer_site: peer,
            greeted: false,
            vector_known: false,
            branches: BTreeMap::new(),
            links: BTreeSet::new(),
            peer_links: BTreeSet::new(),
            control: VecDeque::new(),
            live: VecDeque::new(),
            catch_up: VecDeque::new(),
            snapshot: VecDeque::new(),
            events: VecDeque::new(),
        };
        session.tell(&Message::Hello(hello))?;
        let vector = branches.iter().map(|branch| branch.holding).collect();
        session.tell(&Message::Holdings(vector))?;
        for local in branches {
            let told = Some(local.holding);
            let branch = session.branches.entry(local.holding.branch).or_default();
            branch.local = Some(local);
            branch.told = told;
        }
        Ok(session)
    }

    /// The site at the other end.
    pub fn peer(&self) -> SiteId {
        self.peer_site
    }

    /// Takes a message from the control stream.
    ///
    /// # Errors
    /// The peer broke the protocol; the connection is to be closed.
    pub fn handle_control(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let Some(message) = Message::decode(bytes)? else { return Ok(()) };
        match message {
            Message::Hello(hello) => self.greet(hello)?,
            _ if !self.greeted => return Err(SessionError::OutOfTurn),
            Message::Members(records) => self.events.push_back(Event::Members(records)),
            Message::Openings(openings) => self.events.push_back(Event::Openings(openings)),
            Message::Holdings(holdings) => self.handle_holdings(holdings)?,
            Message::Progress(holding) => self.handle_progress(holding)?,
            Message::Report(report) => self.events.push_back(Event::Report(report)),
            Message::Want(want) => self.handle_want(want)?,
            Message::Unwant(branch) => {
                if let Some(branch) = self.branches.get_mut(&branch) {
                    branch.sent = None;
                }
            }
            Message::WantChunks(want) => self.events.push_back(Event::ReadChunks(want)),
            Message::Fork(fork) => self.events.push_back(Event::Fork(fork)),
            Message::Time(time) => self.events.push_back(Event::Time(time)),
            Message::Links(sites) => {
                self.peer_links = sites.into_iter().collect();
                self.links_changed();
                self.events.push_back(Event::Links);
            }
        }
        Ok(())
    }

    /// Takes a flight or a chunk from its stream.
    ///
    /// # Errors
    /// The peer broke the protocol; the connection is to be closed.
    pub fn handle_data(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), SessionError> {
        if !self.greeted {
            return Err(SessionError::OutOfTurn);
        }
        match channel {
            Channel::Control => return Err(SessionError::OutOfTurn),
            Channel::Live | Channel::CatchUp => {
                let flight = Flight::decode(bytes)
                    .map_err(|error| SessionError::Unreadable(error.to_string()))?;
                self.events.push_back(Event::Flight(flight));
            }
            Channel::Snapshot => self.events.push_back(match BasePart::decode(bytes)? {
                BasePart::Manifest(manifest) => Event::Manifest(manifest),
                BasePart::Chunk(chunk) => Event::Chunk(chunk),
            }),
        }
        Ok(())
    }

    /// Does what is due at `now`.
    ///
    /// # Errors
    /// A message can't be encoded.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), SessionError> {
        let due: Vec<Holding> = self
            .branches
            .values_mut()
            .filter(|branch| branch.tell_at.is_some_and(|at| at <= now))
            .filter_map(|branch| {
                branch.tell_at = None;
                let holding = branch.local.as_ref()?.holding;
                branch.told = Some(holding);
                Some(holding)
            })
            .collect();
        due.iter().try_for_each(|holding| self.tell(&Message::Progress(*holding)))
    }

    /// When [`Session::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.branches.values().filter_map(|branch| branch.tell_at).min()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next bytes for a channel that can take more.
    pub fn poll_transmit(&mut self, channel: Channel) -> Option<Vec<u8>> {
        let (branch, bytes) = match channel {
            Channel::Control => return self.control.pop_front(),
            Channel::Snapshot => return self.snapshot.pop_front(),
            Channel::Live => self.live.pop_front()?,
            Channel::CatchUp => self.catch_up.pop_front()?,
        };
        if let Some(state) = self.branches.get_mut(&branch) {
            state.sending = Sending::Idle;
        }
        self.advance(branch);
        Some(bytes)
    }

    /// Whether a channel has something to send.
    pub fn wants_transmit(&self, channel: Channel) -> bool {
        match channel {
            Channel::Control => !self.control.is_empty(),
            Channel::Live => !self.live.is_empty(),
            Channel::CatchUp => !self.catch_up.is_empty(),
            Channel::Snapshot => !self.snapshot.is_empty(),
        }
    }

    /// Tells how far this site is in a branch now: to the peer, and to this session, which sends
    /// on what the peer wants.
    ///
    /// # Errors
    /// A message can't be encoded.
    pub fn set_branch(&mut self, now: Duration, local: LocalBranch) -> Result<(), SessionError> {
        let holding = local.holding;
        let opening = local.opening.clone();
        let vector_known = self.vector_known;
        let branch = self.branches.entry(holding.branch).or_default();
        let is_new = branch.local.is_none();
        branch.local = Some(local);
        let open = is_new && vector_known && branch.peer.is_none() && !branch.opening_sent;
        if open {
            branch.opening_sent = true;
            self.tell(&Message::Openings(vec![SignedOpening::clone(&opening)]))?;
        }
        self.schedule_progress(now, holding);
        self.handle_timeout(now)?;
        self.advance(holding.branch);
        Ok(())
    }

    /// Tells with whom this site is connected, if that changed.
    ///
    /// # Errors
    /// The message can't be encoded.
    pub fn set_links(&mut self, links: BTreeSet<SiteId>) -> Result<(), SessionError> {
        if self.links == links {
            return Ok(());
        }
        self.tell(&Message::Links(links.iter().copied().collect()))?;
        self.links = links;
        self.links_changed();
        Ok(())
    }

    /// With whom the peer is connected, as it said last.
    pub fn peer_links(&self) -> &BTreeSet<SiteId> {
        &self.peer_links
    }

    /// Asks the peer for a branch from a place on.
    ///
    /// # Errors
    /// The message can't be encoded.
    pub fn want(&mut self, want: Want) -> Result<(), SessionError> {
        self.branches.entry(want.branch).or_default().wanted = true;
        self.tell(&Message::Want(want))
    }

    /// Asks the peer for no more of a branch.
    ///
    /// # Errors
    /// The message can't be encoded.
    pub fn unwant(&mut self, branch: BranchId) -> Result<(), SessionError> {
        self.branches.entry(branch).or_default().wanted = false;
        self.tell(&Message::Unwant(branch))
    }

    /// Asks the peer for chunks.
    ///
    /// # Errors
    /// The message can't be encoded.
    pub fn want_chunks(&mut self, want: WantChunks) -> Result<(), SessionError> {
        self.tell(&Message::WantChunks(want))
    }

    /// Sends a message as it is.
    ///
    /// # Errors
    /// The message can't be encoded.
    pub fn tell(&mut self, message: &Message) -> Result<(), SessionError> {
        self.control.push_back(message.encode()?);
        Ok(())
    }

    /// Answers [`Event::ReadFlight`]; `None`: there is nothing to send now.
    ///
    /// # Errors
    /// The flight can't be encoded.
    pub fn supply_flight(
        &mut self,
        branch: BranchId,
        flight: Option<Flight>,
    ) -> Result<(), SessionError> {
        let Some(state) = self.branches.get_mut(&branch) else { return Ok(()) };
        state.sending = Sending::Idle;
        let (Some(flight), Some(sent)) = (flight, state.sent) else { return Ok(()) };
        // The peer may have asked anew from another place meanwhile.
        if flight.first != sent.next() {
            self.advance(branch);
            return Ok(());
        }
        let last = flight.last();
        let tip = state.local.as_ref().is_some_and(|local| last >= local.servable);
        let all_held = state.peer.is_some_and(|peer| peer.held >= sent);
        // Flights of one branch never go on two streams at once, so they arrive in order.
        let channel = match state.channel {
            Some(channel) if !all_held => channel,
            _ if tip => Channel::Live,
            _ => Channel::CatchUp,
        };
        state.channel = Some(channel);
        state.sent = Some(last);
        state.sending = Sending::Queued;
        let bytes = flight.encode().map_err(|error| SessionError::Unreadable(error.to_string()))?;
        match channel {
            Channel::Live => self.live.push_back((branch, bytes)),
            _ => self.catch_up.push_back((branch, bytes)),
        }
        Ok(())
    }

    /// Answers [`Event::ReadManifest`], and each chunk of [`Event::ReadChunks`].
    ///
    /// # Errors
    /// It can't be encoded.
    pub fn supply_base(&mut self, part: &BasePart) -> Result<(), SessionError> {
        self.snapshot.push_back(part.encode()?);
        Ok(())
    }

    /// How many chunks wait to be transmitted: the owner reads no more while there are some.
    pub fn queued_chunks(&self) -> usize {
        self.snapshot.len()
    }

    /// How far this site is in a branch, as it was told last; `None`: it does not know it.
    pub fn local(&self, branch: BranchId) -> Option<&LocalBranch> {
        self.branches.get(&branch)?.local.as_ref()
    }

    /// Where the peer stands in a branch, as it said last.
    pub fn peer_holding(&self, branch: BranchId) -> Option<&Holding> {
        self.branches.get(&branch)?.peer.as_ref()
    }

    fn greet(&mut self, hello: Hello) -> Result<(), SessionError> {
        if self.greeted {
            return Err(SessionError::OutOfTurn);
        }
        if hello.least_version > VERSION || hello.version < 1 {
            return Err(SessionError::Version {
                least: hello.least_version,
                greatest: hello.version,
            });
        }
        if hello.group != self.group {
            return Err(SessionError::OtherGroup);
        }
        if hello.site != self.peer_site {
            return Err(SessionError::OtherSite);
        }
        self.greeted = true;
        self.events.push_back(Event::Hello(hello));
        Ok(())
    }

    fn handle_holdings(&mut self, holdings: Vec<Holding>) -> Result<(), SessionError> {
        if self.vector_known {
            return Err(SessionError::OutOfTurn);
        }
        self.vector_known = true;
        for holding in holdings {
            self.handle_progress(holding)?;
        }
        self.events.push_back(Event::Vector);
        let lacking: Vec<SignedOpening> = self
            .branches
            .values_mut()
            .filter(|branch| branch.peer.is_none())
            .filter_map(|branch| {
                branch.opening_sent = true;
                branch.local.as_ref().map(|local| SignedOpening::clone(&local.opening))
            })
            .collect();
        for openings in lacking.chunks(crate::limits::OPENINGS) {
            self.tell(&Message::Openings(openings.to_vec()))?;
        }
        Ok(())
    }

    fn handle_progress(&mut self, holding: Holding) -> Result<(), SessionError> {
        self.spoken_of(holding.branch)?.peer = Some(holding);
        self.events.push_back(Event::Peer(holding));
        self.advance(holding.branch);
        Ok(())
    }

    fn handle_want(&mut self, want: Want) -> Result<(), SessionError> {
        let branch = self.spoken_of(want.branch)?;
        branch.sent = Some(want.after);
        branch.channel = None;
        if want.base {
            self.events.push_back(Event::ReadManifest(want.branch));
        }
        self.advance(want.branch);
        Ok(())
    }

    /// A branch that the peer speaks of; as many as two vectors may hold are remembered.
    fn spoken_of(&mut self, branch: BranchId) -> Result<&mut Branch, SessionError> {
        if self.branches.len() >= 2 * HOLDINGS && !self.branches.contains_key(&branch) {
            return Err(SessionError::TooManyBranches);
        }
        Ok(self.branches.entry(branch).or_default())
    }

    /// Whether the peer has no use for this site's word on a branch: it hears of it from the origin,
    /// and so does the origin from this site.
    fn is_idle_talk(&self, branch: &Branch) -> bool {
        let origin = branch.local.as_ref().map(|local| local.opening.opening().origin);
        !branch.wanted
            && branch.sent.is_none()
            && origin.is_some_and(|o| self.links.contains(&o) && self.peer_links.contains(&o))
    }

    /// What was idle talk may be news now: then it is due.
    fn links_changed(&mut self) {
        let mut branches = std::mem::take(&mut self.branches);
        for branch in branches.values_mut() {
            let holding = branch.local.as_ref().map(|local| local.holding);
            if self.is_idle_talk(branch) {
                branch.tell_at = None;
            } else if branch.told != holding && branch.tell_at.is_none() {
                branch.tell_at = Some(Duration::ZERO);
            }
        }
        self.branches = branches;
    }

    /// Progress goes quickly to the site that waits for it, slowly to others.
    fn schedule_progress(&mut self, now: Duration, holding: Holding) {
        let idle = self.branches.get(&holding.branch).is_some_and(|b| self.is_idle_talk(b));
        let Some(branch) = self.branches.get_mut(&holding.branch) else { return };
        // Who is sent the batches themselves need not be told of them; but that the base has come,
        // which the peer may have asked for in vain, shows in nothing else.
        let base_came = branch.told.is_none_or(|told| told.durable == Sequence::ZERO)
            && holding.durable > Sequence::ZERO;
        if branch.told == Some(holding) || (branch.sent.is_some() && !base_came) {
            branch.told = Some(holding);
            branch.tell_at = None;
            return;
        }
        if idle {
            return;
        }
        let durable_moved = branch
            .told
            .is_none_or(|told| told.durable != holding.durable || told.held != holding.held);
        let at = match (branch.wanted, durable_moved) {
            (true, true) if holding.applied == holding.held => now,
            (true, true) => now + TELL_HELD,
            (true, false) if holding.applied == holding.held => now,
            (true, false) => now + TELL_APPLIED,
            (false, _) => now + TELL_SLOWLY,
        };
        branch.tell_at = Some(branch.tell_at.map_or(at, |before| before.min(at)));
    }

    /// Asks the owner for the next flight of a branch, if the peer wants and lacks one.
    fn advance(&mut self, id: BranchId) {
        let Some(branch) = self.branches.get_mut(&id) else { return };
        let (Sending::Idle, Some(sent), Some(local)) =
            (&branch.sending, branch.sent, &branch.local)
        else {
            return;
        };
        if local.servable > sent {
            branch.sending = Sending::Reading;
            self.events.push_back(Event::ReadFlight { branch: id, after: sent });
        }
    }
}
