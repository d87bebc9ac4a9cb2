//! Two sessions and a wire between them, in one thread: what one transmits the other handles, as
//! far as the test lets it.

use super::*;
use crate::branch::{Mode, Opening};
use crate::change::Body;
use crate::keys::SigningKey;
use crate::membership::RecordHash;
use crate::{BranchId, ChainHash, DatabaseId, Epoch, Frame, Meta, flight};
use conflict::{Timestamp, WallTime};
use std::sync::Arc;

const GROUP: GroupId = GroupId(uuid::Uuid::from_bytes([9; 16]));

fn site(number: u8) -> SiteId {
    SiteId::from_bytes([number; 16])
}

fn hello(number: u8) -> Hello {
    Hello {
        least_version: 1,
        version: 1,
        group: GROUP,
        site: site(number),
        boot: [number; 8],
        clock: WallTime(0),
        members: RecordHash([0; 32]),
        program: String::new(),
    }
}

/// A branch with its batches, as a journal would hold it.
struct Line {
    key: SigningKey,
    opening: SignedOpening,
    frames: Vec<Frame>,
    hashes: Vec<ChainHash>,
}

impl Line {
    fn new(batches: usize) -> Self {
        let key = SigningKey::from_seed([1; 32]);
        let opening = Opening {
            database: DatabaseId(uuid::Uuid::from_bytes([5; 16])),
            name: "pos".parse().unwrap(),
            mode: Mode::Mirror,
            origin: site(1),
            epoch: Epoch(1),
            parent: None,
            base: false,
            opened: WallTime(0),
        };
        let opening = SignedOpening::open(opening, &key).unwrap();
        let hashes = vec![ChainHash::start(opening.id())];
        let mut line = Self { key, opening, frames: Vec::new(), hashes };
        (0..batches).for_each(|_| line.close_batch());
        line
    }

    fn id(&self) -> BranchId {
        self.opening.id()
    }

    fn close_batch(&mut self) {
        let meta = Meta {
            sequence: Sequence(self.frames.len() as u64 + 1),
            timestamp: Timestamp::ZERO,
            more: false,
            last: false,
        };
        let frame = Frame::encode(&meta, &Body::default()).unwrap();
        self.hashes.push(self.hashes[self.frames.len()].extend(frame.as_bytes()));
        self.frames.push(frame);
    }

    /// How a site that holds the first `held` batches is.
    fn at(&self, held: usize) -> LocalBranch {
        let held_sequence = Sequence(held as u64);
        LocalBranch {
            opening: Arc::new(self.opening.clone()),
            holding: Holding {
                branch: self.id(),
                held: held_sequence,
                hash: self.hashes[held],
                durable: held_sequence,
                applied: held_sequence,
                as_of: WallTime(0),
            },
            servable: held_sequence,
        }
    }

    /// At most two batches after `after`.
    fn flight(&self, after: Sequence) -> Option<Flight> {
        let first = after.0 as usize;
        let last = (first + 2).min(self.frames.len());
        let hash = self.hashes[last];
        (first < last).then(|| Flight {
            branch: self.id(),
            first: after.next(),
            frames: self.frames[first..last].to_vec(),
            signature: flight::sign(&self.key, self.id(), Sequence(last as u64), hash),
        })
    }
}

struct Side {
    session: Session,
    events: Vec<Event>,
    /// Batches of the line that this side holds.
    held: usize,
    channels: Vec<Channel>,
}

/// Side 0 is the line's origin, side 1 its peer.
struct Pair {
    line: Line,
    sides: [Side; 2],
    now: Duration,
}

impl Pair {
    fn new(batches: usize, peer_held: Option<usize>) -> Self {
        let line = Line::new(batches);
        let side = |me: u8, peer: u8, held: Option<usize>| Side {
            session: Session::open(
                hello(me),
                site(peer),
                held.map(|held| line.at(held)).into_iter().collect(),
            )
            .unwrap(),
            events: Vec::new(),
            held: held.unwrap_or(0),
            channels: Vec::new(),
        };
        let sides = [side(1, 2, Some(batches)), side(2, 1, peer_held)];
        Self { line, sides, now: Duration::ZERO }
    }

    /// Lets both talk until neither has anything to say, doing what the owners would.
    fn talk(&mut self) {
        loop {
            let mut quiet = true;
            for (from, to) in [(0, 1), (1, 0)] {
                self.own(from);
                for channel in Channel::ALL {
                    while let Some(bytes) = self.sides[from].session.poll_transmit(channel) {
                        quiet = false;
                        self.sides[from].channels.push(channel);
                        let session = &mut self.sides[to].session;
                        match channel {
                            Channel::Control => session.handle_control(&bytes).unwrap(),
                            data => session.handle_data(data, &bytes).unwrap(),
                        }
                        self.own(to);
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// What the owner of a session does with its events.
    fn own(&mut self, number: usize) {
        while let Some(event) = self.sides[number].session.poll_event() {
            let side = &mut self.sides[number];
            match &event {
                Event::ReadFlight { after, .. } => {
                    let flight = self.line.flight(*after);
                    side.session.supply_flight(self.line.id(), flight).unwrap();
                }
                Event::Flight(flight) => {
                    assert_eq!(flight.first.0 as usize, side.held + 1, "in order, nothing twice");
                    side.held = flight.last().0 as usize;
                    side.session.set_branch(self.now, self.line.at(side.held)).unwrap();
                }
                _ => {}
            }
            self.sides[number].events.push(event);
        }
    }

    fn want(&mut self) {
        let after = Sequence(self.sides[1].held as u64);
        let want = Want { branch: self.line.id(), after, base: false };
        self.sides[1].session.want(want).unwrap();
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
        for side in &mut self.sides {
            side.session.handle_timeout(self.now).unwrap();
        }
        self.talk();
    }
}

#[test]
fn a_branch_that_the_peer_does_not_know_is_opened_to_it() {
    let mut pair = Pair::new(3, None);
    pair.talk();
    let openings = pair.sides[1].events.iter().find_map(|event| match event {
        Event::Openings(openings) => Some(openings),
        _ => None,
    });
    assert_eq!(openings, Some(&vec![pair.line.opening.clone()]));
    assert!(matches!(pair.sides[1].events[0], Event::Hello(_)));
    assert_eq!(pair.sides[1].held, 0, "nothing is sent unasked");
}

#[test]
fn what_is_wanted_comes_in_order_and_goes_on_live() {
    let mut pair = Pair::new(5, Some(1));
    pair.talk();
    pair.want();
    pair.talk();
    assert_eq!(pair.sides[1].held, 5);
    // The first flight ends behind the tip; the second was read once the first was held.
    let data = pair.sides[0].channels.iter().filter(|channel| **channel != Channel::Control);
    assert!(data.eq([&Channel::CatchUp, &Channel::Live]));
    pair.line.close_batch();
    let local = pair.line.at(6);
    pair.sides[0].session.set_branch(pair.now, local).unwrap();
    pair.talk();
    assert_eq!(pair.sides[1].held, 6);
    assert_eq!(pair.sides[0].channels.last(), Some(&Channel::Live));
    let holding = pair.sides[0].session.peer_holding(pair.line.id()).unwrap();
    assert_eq!(holding.durable, Sequence(6), "and its watermark is known at once");
}

#[test]
fn flights_of_a_branch_keep_to_one_stream_until_all_is_held() {
    let mut pair = Pair::new(3, Some(0));
    pair.talk();
    let id = pair.line.id();
    let origin = &mut pair.sides[0].session;
    let want = Message::Want(Want { branch: id, after: Sequence::ZERO, base: false });
    origin.handle_control(&want.encode().unwrap()).unwrap();
    // Two flights go out, and no word of the first has come back when the second is read.
    for after in [0, 2] {
        let asked = origin.poll_event();
        assert_eq!(asked, Some(Event::ReadFlight { branch: id, after: Sequence(after) }));
        origin.supply_flight(id, pair.line.flight(Sequence(after))).unwrap();
        assert!(origin.poll_transmit(Channel::Live).is_none());
        assert!(origin.poll_transmit(Channel::CatchUp).is_some());
    }
}

#[test]
fn after_unwant_nothing_more_comes() {
    let mut pair = Pair::new(2, Some(2));
    pair.talk();
    pair.want();
    pair.talk();
    pair.sides[1].session.unwant(pair.line.id()).unwrap();
    pair.talk();
    pair.line.close_batch();
    let local = pair.line.at(3);
    pair.sides[0].session.set_branch(pair.now, local).unwrap();
    pair.later(Duration::from_secs(10));
    assert_eq!(pair.sides[1].held, 2);
    let known = pair.sides[1].session.peer_holding(pair.line.id()).unwrap();
    assert_eq!(known.held, Sequence(3), "but it is told what there would be, in time");
}

#[test]
fn progress_that_nobody_waits_for_is_told_slowly_and_once() {
    let mut pair = Pair::new(4, Some(4));
    pair.talk();
    for _ in 0..3 {
        pair.line.close_batch();
        let local = pair.line.at(pair.line.frames.len());
        pair.sides[0].session.set_branch(pair.now, local).unwrap();
        pair.talk();
    }
    let told = |pair: &Pair| {
        pair.sides[1].events.iter().filter(|event| matches!(event, Event::Peer(_))).count()
    };
    let before = told(&pair);
    let due = pair.sides[0].session.poll_timeout().unwrap();
    pair.later(due - pair.now);
    assert_eq!(told(&pair), before + 1);
    assert_eq!(pair.sides[0].session.poll_timeout(), None);
}

#[test]
fn what_is_stored_and_soon_applied_is_told_once() {
    let mut pair = Pair::new(4, Some(4));
    pair.talk();
    pair.want();
    pair.talk();
    let stored = |pair: &Pair, applied: usize| {
        let mut local = pair.line.at(5);
        local.holding.applied = Sequence(applied as u64);
        local
    };
    pair.line.close_batch();
    let local = stored(&pair, 4);
    pair.sides[1].session.set_branch(pair.now, local).unwrap();
    assert!(!pair.sides[1].session.wants_transmit(Channel::Control));
    assert!(pair.sides[1].session.poll_timeout().unwrap() - pair.now <= TELL_HELD);
    pair.now += TELL_HELD / 2;
    let local = stored(&pair, 5);
    pair.sides[1].session.set_branch(pair.now, local).unwrap();
    pair.talk();
    assert_eq!(pair.sides[1].session.poll_timeout(), None);
    let told = |event: &&Event| matches!(event, Event::Peer(holding) if holding.held.0 == 5);
    assert_eq!(pair.sides[0].events.iter().filter(told).count(), 1);
}

#[test]
fn who_is_connected_with_the_origin_is_not_told_of_it_until_that_link_is_gone() {
    // Two sites that both take the line of site 1 from itself.
    let line = Line::new(3);
    let mut sides = [(2, 3), (3, 2)].map(|(me, peer)| {
        let mut session = Session::open(hello(me), site(peer), vec![line.at(1)]).unwrap();
        session.set_links([site(1), site(peer)].into()).unwrap();
        session
    });
    let talk = |sides: &mut [Session; 2]| {
        for (from, to) in [(0, 1), (1, 0), (0, 1)] {
            while let Some(bytes) = sides[from].poll_transmit(Channel::Control) {
                sides[to].handle_control(&bytes).unwrap();
            }
        }
    };
    talk(&mut sides);
    sides[0].set_branch(Duration::ZERO, line.at(2)).unwrap();
    assert_eq!(sides[0].poll_timeout(), None);
    sides[1].set_links([site(2)].into()).unwrap();
    talk(&mut sides);
    let due = sides[0].poll_timeout().unwrap();
    sides[0].handle_timeout(due).unwrap();
    talk(&mut sides);
    assert_eq!(sides[1].peer_holding(line.id()).unwrap().held, Sequence(2));
    // Nor is it idle talk while the teller itself can't tell the origin.
    sides[1].set_links([site(1), site(2)].into()).unwrap();
    sides[0].set_links([site(3)].into()).unwrap();
    talk(&mut sides);
    sides[0].set_branch(Duration::ZERO, line.at(3)).unwrap();
    assert_eq!(sides[0].poll_timeout(), Some(TELL_SLOWLY));
}

#[test]
fn a_flight_that_was_read_for_an_older_asking_is_not_sent() {
    let mut pair = Pair::new(4, Some(0));
    pair.talk();
    let id = pair.line.id();
    let origin = &mut pair.sides[0].session;
    let ask = |after| Message::Want(Want { branch: id, after: Sequence(after), base: false });
    origin.handle_control(&ask(0).encode().unwrap()).unwrap();
    let asked = origin.poll_event();
    assert_eq!(asked, Some(Event::ReadFlight { branch: id, after: Sequence(0) }));
    origin.handle_control(&ask(2).encode().unwrap()).unwrap();
    origin.supply_flight(id, pair.line.flight(Sequence(0))).unwrap();
    assert!(!origin.wants_transmit(Channel::Live) && !origin.wants_transmit(Channel::CatchUp));
    let asked = origin.poll_event();
    assert_eq!(asked, Some(Event::ReadFlight { branch: id, after: Sequence(2) }));
}

#[test]
fn who_breaks_the_protocol_is_found_out() {
    let open = || Session::open(hello(1), site(2), Vec::new()).unwrap();
    let said = |messages: &[Message]| {
        let mut session = open();
        messages.iter().try_for_each(|message| session.handle_control(&message.encode().unwrap()))
    };
    assert_eq!(said(&[Message::Holdings(Vec::new())]), Err(SessionError::OutOfTurn));
    let hello_2 = || Message::Hello(hello(2));
    assert_eq!(said(&[hello_2(), hello_2()]), Err(SessionError::OutOfTurn));
    let twice = [hello_2(), Message::Holdings(Vec::new()), Message::Holdings(Vec::new())];
    assert_eq!(said(&twice), Err(SessionError::OutOfTurn));
    assert_eq!(said(&[Message::Hello(hello(3))]), Err(SessionError::OtherSite));
    let other = Hello { group: GroupId(uuid::Uuid::from_bytes([8; 16])), ..hello(2) };
    assert_eq!(said(&[Message::Hello(other)]), Err(SessionError::OtherGroup));
    let later = Hello { least_version: 2, version: 3, ..hello(2) };
    let error = SessionError::Version { least: 2, greatest: 3 };
    assert_eq!(said(&[Message::Hello(later)]), Err(error));
    let newer = Hello { version: 7, ..hello(2) };
    assert_eq!(said(&[Message::Hello(newer)]), Ok(()), "a later one that still speaks ours");
    assert_eq!(open().handle_data(Channel::Live, &[]), Err(SessionError::OutOfTurn));
}

#[test]
fn who_asked_for_a_base_in_vain_is_told_when_it_has_come() {
    let mut pair = Pair::new(2, Some(0));
    let mut without = pair.line.at(2);
    without.holding.durable = Sequence::ZERO;
    pair.sides[0].session = Session::open(hello(1), site(2), vec![without.clone()]).unwrap();
    pair.talk();
    let id = pair.line.id();
    pair.sides[1].session.want(Want { branch: id, after: Sequence::ZERO, base: true }).unwrap();
    pair.talk();
    assert_eq!(pair.sides[1].held, 2, "the batches come without the base");
    let relay = &mut pair.sides[0].session;
    relay.set_branch(pair.now, without).unwrap();
    assert_eq!(relay.poll_timeout(), None, "nothing is told of what is sent anyway");
    let whole = pair.line.at(2);
    pair.sides[0].session.set_branch(pair.now, whole).unwrap();
    pair.later(Duration::from_secs(10));
    let known = pair.sides[1].session.peer_holding(id).unwrap();
    assert_eq!(known.durable, Sequence(2));
}

#[test]
fn a_peer_can_t_fill_the_memory_with_branches() {
    let mut session = Session::open(hello(1), site(2), Vec::new()).unwrap();
    session.handle_control(&Message::Hello(hello(2)).encode().unwrap()).unwrap();
    let mut ask = |number: u32| {
        let mut branch = [0; 32];
        branch[..4].copy_from_slice(&number.to_be_bytes());
        let want = Want { branch: BranchId(branch), after: Sequence::ZERO, base: false };
        session.handle_control(&Message::Want(want).encode().unwrap())
    };
    let refused = (0..1 << 16).find(|number| ask(*number).is_err());
    assert_eq!(refused, Some(2 * HOLDINGS as u32));
}
