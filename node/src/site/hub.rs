//! What the site's tasks share: who is connected, who is whose source, who belongs to the group.
//! Plain state behind one lock that is never held over an await.

use super::sources::{Order, Sources};
use crate::environment::TaskHandle;
use crate::store::DatabaseNumber;
use crate::transport::{CloseCode, Link};
use conflict::SiteId;
use protocol::membership::{Membership, SignedRecord};
use protocol::session::LocalBranch;
use protocol::{BranchId, DatabaseId, Mode, Sequence};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// What a session is told by the rest of the site.
#[derive(Clone, Debug)]
pub enum Command {
    /// How far a branch is here now.
    Branch(LocalBranch),
    /// Ask the peer for a branch, from what is held here on.
    Want(BranchId),
    /// Ask it for no more of a branch.
    Unwant(BranchId),
    /// Member records are new.
    Members(Vec<SignedRecord>),
    /// Tell the peer how far third sites are, where that is news to it.
    Reports,
    /// With whom this site is connected may have changed.
    Links,
    /// Tell the peer what this computer's clock says.
    Time,
}

/// A session as the hub knows it.
#[derive(Debug)]
struct Entry {
    number: u64,
    commands: mpsc::UnboundedSender<Command>,
    link: Link,
    dialler: SiteId,
    boot: [u8; 8],
    since: Instant,
    /// With whom the peer is connected, as it said last.
    links: BTreeSet<SiteId>,
}

#[derive(Debug)]
struct State {
    me: SiteId,
    membership: Membership,
    sessions: BTreeMap<SiteId, Entry>,
    sources: Sources,
    dialling: BTreeSet<SiteId>,
    /// How often databases were detached: one may be attached again under its number.
    detached: BTreeMap<DatabaseNumber, u64>,
    /// Attached databases that the group shares, and whom to wake when something came of them.
    shared: BTreeMap<DatabaseNumber, (DatabaseId, Arc<Notify>)>,
    /// Branches of which something came that is not applied yet.
    arrived: BTreeSet<BranchId>,
    tasks: Vec<Box<dyn TaskHandle>>,
    sessions_made: u64,
    stopping: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    /// Who belongs to the group, or who is connected, changed.
    topology: Notify,
    /// A peer said how far it is.
    progress: Notify,
    /// A mirror may have something to apply.
    arrival: Notify,
}

/// Two connections made at once differ less than this in age; an older one that the peer
/// replaces is dead for it.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The place of a session in the hub; its number tells it from a later one with the same peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionNumber(u64);

/// The time from one attaching of a database to its detaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    number: DatabaseNumber,
    detached: u64,
}

impl Hub {
    /// A hub without sessions.
    pub fn new(me: SiteId, membership: Membership) -> Self {
        Self {
            state: Mutex::new(State {
                me,
                membership,
                sessions: BTreeMap::new(),
                sources: Sources::default(),
                dialling: BTreeSet::new(),
                detached: BTreeMap::new(),
                shared: BTreeMap::new(),
                arrived: BTreeSet::new(),
                tasks: Vec::new(),
                sessions_made: 0,
                stopping: false,
            }),
            topology: Notify::new(),
            progress: Notify::new(),
            arrival: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This site.
    pub fn me(&self) -> SiteId {
        self.state().me
    }

    /// The group as last known.
    pub fn membership(&self) -> Membership {
        self.state().membership.clone()
    }

    /// Takes the group as it is known now. Who is out of it is let go of.
    pub fn set_membership(&self, membership: Membership) {
        let mut state = self.state();
        for (peer, entry) in &state.sessions {
            if membership.member(*peer).is_none_or(|member| member.removed) {
                entry.link.close(CloseCode::Refused, "removed from the group");
            }
        }
        state.membership = membership;
        drop(state);
        self.topology.notify_waiters();
    }

    /// Completes when members or sessions change after this call.
    pub fn topology(&self) -> Notified<'_> {
        self.topology.notified()
    }

    /// Completes when a peer says how far it is after this call.
    pub fn progress(&self) -> Notified<'_> {
        self.progress.notified()
    }

    /// A peer said how far it is, or is gone.
    pub fn progressed(&self) {
        self.progress.notify_waiters();
    }

    /// Enters a session; `None` if another with this peer is kept instead. One that is replaced
    /// is closed.
    ///
    /// Of two connections made at once both sides keep that of the smaller dialler; otherwise the
    /// newer one is kept, since who dials anew has lost the old one.
    pub fn enter(
        &self,
        peer: SiteId,
        dialler: SiteId,
        boot: [u8; 8],
        link: Link,
    ) -> Option<(SessionNumber, mpsc::UnboundedReceiver<Command>)> {
        let mut state = self.state();
        if state.stopping {
            return None;
        }
        if let Some(held) = state.sessions.get(&peer) {
            let at_once = held.boot == boot && held.since.elapsed() < AT_ONCE;
            if at_once && held.dialler < dialler {
                return None;
            }
            held.link.close(CloseCode::Superseded, "a newer connection is kept");
            // What was asked of the old session, the new one does not know: it is asked anew once
            // the peer's vector has come.
            let orders = state.sources.disconnected(peer);
            dispatch(&state, orders);
        }
        state.sessions_made += 1;
        let number = state.sessions_made;
        let (commands, receiver) = mpsc::unbounded_channel();
        let since = Instant::now();
        let links = BTreeSet::new();
        let entry = Entry { number, commands, link, dialler, boot, since, links };
        state.sessions.insert(peer, entry);
        drop(state);
        self.topology.notify_waiters();
        Some((SessionNumber(number), receiver))
    }

    /// Removes a session, unless a later one has taken its place.
    pub fn leave(&self, peer: SiteId, number: SessionNumber) {
        let mut state = self.state();
        if state.sessions.get(&peer).is_some_and(|entry| entry.number == number.0) {
            state.sessions.remove(&peer);
            let orders = state.sources.disconnected(peer);
            dispatch(&state, orders);
        }
        drop(state);
        self.topology.notify_waiters();
        self.progress.notify_waiters();
    }

    /// Whether there is a session with a peer.
    pub fn is_connected(&self, peer: SiteId) -> bool {
        self.state().sessions.contains_key(&peer)
    }

    /// Whether there is a session at all.
    pub fn any_connected(&self) -> bool {
        !self.state().sessions.is_empty()
    }

    /// The peers that there are sessions with.
    pub fn connected(&self) -> BTreeSet<SiteId> {
        self.state().sessions.keys().copied().collect()
    }

    /// A peer says with whom it is connected.
    pub fn hear_links(&self, peer: SiteId, links: &BTreeSet<SiteId>) {
        let mut state = self.state();
        let Some(entry) = state.sessions.get_mut(&peer) else { return };
        let news = !links.is_subset(&entry.links);
        entry.links.clone_from(links);
        drop(state);
        if news {
            self.topology.notify_waiters();
        }
    }

    /// Whether a peer said that it is connected with this site.
    pub fn is_seen(&self, site: SiteId) -> bool {
        self.state().sessions.values().any(|entry| entry.links.contains(&site))
    }

    /// Whether there is a member but this site and `peer` that is not among `known`.
    pub fn is_member_beside(&self, peer: SiteId, known: &BTreeSet<SiteId>) -> bool {
        let state = self.state();
        state.membership.members().any(|member| {
            !member.removed
                && member.site != state.me
                && member.site != peer
                && !known.contains(&member.site)
        })
    }

    /// The links of all sessions.
    pub fn links(&self) -> Vec<(SiteId, Link)> {
        self.state().sessions.iter().map(|(peer, entry)| (*peer, entry.link.clone())).collect()
    }

    /// Notes whether a peer is being dialled.
    pub fn set_dialling(&self, peer: SiteId, dialling: bool) {
        let mut state = self.state();
        if dialling {
            state.dialling.insert(peer);
        } else {
            state.dialling.remove(&peer);
        }
    }

    /// The peers that are being dialled and not connected.
    pub fn connecting(&self) -> Vec<SiteId> {
        let state = self.state();
        state.dialling.iter().filter(|peer| !state.sessions.contains_key(peer)).copied().collect()
    }

    /// The life of an attached database that begins or goes on now, for [`Hub::is_over`].
    pub fn life(&self, number: DatabaseNumber) -> Life {
        Life { number, detached: self.state().detached.get(&number).copied().unwrap_or(0) }
    }

    /// Whether a database was detached since: its tasks end.
    pub fn is_over(&self, life: Life) -> bool {
        self.life(life.number) != life
    }

    /// A database was detached.
    pub fn detached(&self, number: DatabaseNumber) {
        let mut state = self.state();
        *state.detached.entry(number).or_default() += 1;
        if let Some((_, wake)) = state.shared.remove(&number) {
            wake.notify_one();
        }
    }

    /// A database that the group shares is attached: what is notified when something came of it,
    /// or when it is detached.
    pub fn watch_shared(&self, number: DatabaseNumber, id: DatabaseId) -> Arc<Notify> {
        let wake = Arc::new(Notify::new());
        self.state().shared.insert(number, (id, Arc::clone(&wake)));
        wake
    }

    /// Something came of a branch: its database's copy here may have something to apply.
    pub fn arrived(&self, local: &LocalBranch) {
        let mut state = self.state();
        let opening = local.opening.opening();
        match opening.mode {
            Mode::Mirror => {
                state.arrived.insert(local.holding.branch);
                self.arrival.notify_one();
            }
            Mode::Shared => {
                let mut watched = state.shared.values();
                if let Some((_, wake)) = watched.find(|(id, _)| *id == opening.database) {
                    wake.notify_one();
                }
            }
        }
    }

    /// Completes when there is something to take out by [`Hub::take_arrived`].
    pub fn arrival(&self) -> Notified<'_> {
        self.arrival.notified()
    }

    /// Takes out the branches of which something came.
    pub fn take_arrived(&self) -> BTreeSet<BranchId> {
        std::mem::take(&mut self.state().arrived)
    }

    /// Tells all sessions how far a branch is here, and asks whom there is to ask.
    pub fn tell_branch(&self, local: &LocalBranch) {
        let mut state = self.state();
        for entry in state.sessions.values() {
            // A session that has just ended no longer listens.
            drop(entry.commands.send(Command::Branch(local.clone())));
        }
        let origin = local.opening.opening().origin;
        if origin != state.me {
            let need = need(local);
            let orders = state.sources.need(local.holding.branch, need);
            dispatch(&state, orders);
        }
    }

    /// This site holds less of a branch than it told: all sessions begin anew, so that everybody
    /// hears it and sends what is missing.
    pub fn went_back(&self, local: &LocalBranch) {
        let mut state = self.state();
        let orders = state.sources.need(local.holding.branch, need(local));
        dispatch(&state, orders);
        for entry in state.sessions.values() {
            entry.link.close(CloseCode::Done, "a damaged batch is asked for again");
        }
    }

    /// Tells all sessions but one of new member records.
    pub fn tell_members(&self, records: &[SignedRecord], but: Option<SiteId>) {
        let state = self.state();
        for (peer, entry) in &state.sessions {
            if Some(*peer) != but {
                drop(entry.commands.send(Command::Members(records.to_vec())));
            }
        }
    }

    /// Gives all sessions the same command.
    pub fn tell_all(&self, command: &Command) {
        for entry in self.state().sessions.values() {
            drop(entry.commands.send(command.clone()));
        }
    }

    /// Works on the sources, and passes on what that orders.
    pub fn with_sources(&self, work: impl FnOnce(&mut Sources) -> Vec<Order>) {
        let mut state = self.state();
        let orders = work(&mut state.sources);
        dispatch(&state, orders);
    }

    /// Keeps a task's handle, so that it ends with the site.
    pub fn adopt(&self, task: Box<dyn TaskHandle>) {
        self.state().tasks.push(task);
    }

    /// From now on nobody enters.
    pub fn stop(&self) {
        self.state().stopping = true;
    }

    /// Whether the site stops.
    pub fn is_stopping(&self) -> bool {
        self.state().stopping
    }

    /// Closes all links and ends all tasks.
    pub fn close_all(&self, reason: &str) {
        let state = self.state();
        for entry in state.sessions.values() {
            entry.link.close(CloseCode::Done, reason);
        }
        for task in &state.tasks {
            task.abort();
        }
    }
}

/// What this site needs of a branch.
pub fn need(local: &LocalBranch) -> super::sources::Need {
    super::sources::Need {
        origin: local.opening.opening().origin,
        held: local.holding.held,
        base_missing: local.opening.opening().base && local.holding.durable == Sequence::ZERO,
    }
}

fn dispatch(state: &State, orders: Vec<Order>) {
    for order in orders {
        let (peer, command) = match order {
            Order::Want(peer, branch) => (peer, Command::Want(branch)),
            Order::Unwant(peer, branch) => (peer, Command::Unwant(branch)),
        };
        if let Some(entry) = state.sessions.get(&peer) {
            drop(entry.commands.send(command));
        }
    }
}
