//! The network between the sites: UDP packets that take their time, come out of order, get lost
//! or come twice, as the seed decides; lines that are slow, cut one way or both, or swallow large
//! packets; sites behind NATs, and addresses that change.
//!
//! A computer is named by the address that it was given first; where it is now is its `host`'s
//! matter. A socket bound to `[::]` serves IPv4 as the real systems do: its peers' addresses appear
//! mapped into IPv6. What a packet meets is decided when it is sent: a cut, a NAT or a change of
//! address that comes while it is under way does not stop it.

mod counts;
mod host;
mod line;
mod socket;

use crate::clock::Clock;
use crate::random::Random;
use crate::trace::{Packet, Trace};
use host::{Host, Passage};
use line::Way;
use quinn::udp::Transmit;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

pub use counts::Counts;
pub use host::Access;
pub use line::Line;
pub use socket::Socket;

/// The network.
#[derive(Debug)]
pub struct Network {
    clock: Clock,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    line: Line,
    hosts: BTreeMap<IpAddr, Host>,
    /// Whose an address is now.
    outside: BTreeMap<IpAddr, IpAddr>,
    names: BTreeMap<String, IpAddr>,
    sockets: BTreeMap<(IpAddr, u16), Weak<Socket>>,
    ways: BTreeMap<(IpAddr, IpAddr), Way>,
    numbered: u64,
}

impl Network {
    /// A network without computers.
    pub fn new(clock: Clock, trace: Arc<Trace>, mut random: Random) -> Self {
        let state = State {
            line: Line::some(&mut random),
            random,
            hosts: BTreeMap::new(),
            outside: BTreeMap::new(),
            names: BTreeMap::new(),
            sockets: BTreeMap::new(),
            ways: BTreeMap::new(),
            numbered: 0,
        };
        Self { clock, trace, state: Mutex::new(state) }
    }

    /// Connects a computer, which has a name for those who look it up. One that binds a socket
    /// without is connected directly, and has no name.
    pub fn connect(&self, computer: IpAddr, name: &str, access: Access) {
        let mut state = self.state.lock().unwrap();
        state.hosts.insert(computer, Host::new(computer, access));
        state.outside.insert(computer, computer);
        state.names.insert(name.to_owned(), computer);
    }

    /// What lies between sites where nothing else was said.
    pub fn line(&self) -> Line {
        self.state.lock().unwrap().line
    }

    /// Changes it, for packets sent from now on.
    pub fn set_line(&self, line: Line) {
        self.state.lock().unwrap().line = line;
    }

    /// What lies on the way from one computer to another.
    pub fn line_from(&self, from: IpAddr, to: IpAddr) -> Line {
        let state = self.state.lock().unwrap();
        state.ways.get(&(from, to)).and_then(|way| way.line).unwrap_or(state.line)
    }

    /// Gives that way a line of its own, or takes it away again.
    pub fn set_line_from(&self, from: IpAddr, to: IpAddr, line: Option<Line>) {
        self.state.lock().unwrap().way(from, to).line = line;
    }

    /// Lets nothing pass from one computer to another any more, or lets it pass again.
    pub fn set_cut(&self, from: IpAddr, to: IpAddr, cut: bool) {
        self.state.lock().unwrap().way(from, to).cut = cut;
    }

    /// Lets no UDP of a computer pass any more, in or out; it still finds names.
    pub fn block_udp(&self, computer: IpAddr) {
        self.state.lock().unwrap().host(computer).passage = Passage::UdpBlocked;
    }

    /// Lets nothing of a computer pass any more; it finds no names either.
    pub fn isolate(&self, computer: IpAddr) {
        self.state.lock().unwrap().host(computer).passage = Passage::Isolated;
    }

    /// Ends both.
    pub fn let_through(&self, computer: IpAddr) {
        self.state.lock().unwrap().host(computer).passage = Passage::Open;
    }

    /// Ends all cuts, blocks and isolations, and takes all lines of their own away.
    pub fn heal_all(&self) {
        let mut state = self.state.lock().unwrap();
        state.hosts.values_mut().for_each(|host| host.passage = Passage::Open);
        for way in state.ways.values_mut() {
            (way.cut, way.line) = (false, None);
        }
    }

    /// Gives a computer, or the NAT before it, another address; its name gives it after a while.
    /// A NAT knows nothing of its mappings any more.
    pub fn move_host(&self, computer: IpAddr, name_follows: Duration) {
        let mut state = self.state.lock().unwrap();
        let host = state.host(computer);
        let before = host.outside;
        host.move_on(name_follows);
        let outside = host.outside;
        state.outside.remove(&before);
        state.outside.insert(outside, computer);
    }

    /// How long the mappings of a computer's NAT last from now on, if it has one.
    pub fn set_nat_idle(&self, computer: IpAddr, idle: Duration) {
        self.state.lock().unwrap().host(computer).set_nat_idle(idle);
    }

    /// The address of a computer's interface.
    pub fn interface(&self, computer: IpAddr) -> IpAddr {
        self.state.lock().unwrap().host(computer).inside
    }

    /// Where others see a computer.
    pub fn outside(&self, computer: IpAddr) -> IpAddr {
        self.state.lock().unwrap().host(computer).outside
    }

    /// Whether others can dial it where its interface is.
    pub fn is_direct(&self, computer: IpAddr) -> bool {
        self.interface(computer) == self.outside(computer)
    }

    /// What a computer that looks up a name finds.
    pub fn find(&self, computer: IpAddr, name: &str) -> Option<IpAddr> {
        let mut state = self.state.lock().unwrap();
        if state.host(computer).passage == Passage::Isolated {
            return None;
        }
        let named = state.names.get(name).copied()?;
        state.hosts.get(&named)?.named()
    }

    /// What became of what one computer sent to another.
    pub fn counts_from(&self, from: IpAddr, to: IpAddr) -> Counts {
        self.state.lock().unwrap().ways.get(&(from, to)).map(|way| way.counts).unwrap_or_default()
    }

    /// What became of all packets.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.state.lock().unwrap().ways.values().for_each(|way| all += way.counts);
        all
    }

    /// How often a computer's NAT gave what it sends another port.
    pub fn rebindings(&self, computer: IpAddr) -> u64 {
        self.state.lock().unwrap().host(computer).rebindings()
    }

    /// Takes a computer's sockets off the network for ever: nothing they send goes out, and
    /// nothing reaches them.
    pub fn unplug(&self, computer: IpAddr) {
        self.state.lock().unwrap().sockets.retain(|(whose, _), _| *whose != computer);
    }

    /// A socket of a computer.
    ///
    /// # Errors
    /// The port is taken, or the address is another computer's.
    pub fn bind(
        self: &Arc<Self>,
        computer: IpAddr,
        address: SocketAddr,
    ) -> io::Result<Arc<Socket>> {
        let mut state = self.state.lock().unwrap();
        let inside = state.host(computer).inside;
        if !address.ip().is_unspecified() && address.ip() != inside {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let free = |port: u16| !state.sockets.contains_key(&(computer, port));
        let port = match address.port() {
            0 => (49_152..=u16::MAX).find(|port| free(*port)),
            port => free(port).then_some(port),
        };
        let port = port.ok_or(io::ErrorKind::AddrInUse)?;
        state.numbered += 1;
        let socket = Arc::new(Socket {
            network: Arc::clone(self),
            number: state.numbered,
            place: (computer, port),
            local: SocketAddr::new(address.ip(), port),
            inbox: Mutex::default(),
        });
        state.sockets.insert(socket.place, Arc::downgrade(&socket));
        Ok(socket)
    }

    fn send(&self, from: &Socket, transmit: &Transmit<'_>) {
        let to = transmit.destination;
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let size = transmit.contents.len();
        let elapsed = self.clock.elapsed();
        let mut state = self.state.lock().unwrap();
        if !state.is_plugged(from) {
            return;
        }
        let (computer, port) = from.place;
        let sender = state.host(computer);
        let source = sender.seen_from(port, to);
        let mut open = sender.passage == Passage::Open;
        self.trace.record(&Packet { time: elapsed, source, destination: to, size });

        // What goes to nobody's address is booked under it.
        let receiver = state.outside.get(&to.ip()).copied();
        let State { hosts, ways, random, line, .. } = &mut *state;
        let way = ways.entry((computer, receiver.unwrap_or(to.ip()))).or_default();
        way.counts.packets += 1;
        way.counts.bytes += size as u64;
        let Some(host) = receiver.and_then(|receiver| hosts.get(&receiver)) else {
            way.counts.nowhere += 1;
            return;
        };
        open &= host.passage == Passage::Open;
        if !open {
            way.counts.cut += 1;
            return;
        }
        let arrivals = way.carry(&way.line.unwrap_or(*line), size, elapsed, random);
        if arrivals[0].is_none() {
            return;
        }
        let Some(port) = host.port_inside(to.port(), source) else {
            way.counts.refused += 1;
            return;
        };
        let target = receiver.and_then(|receiver| state.sockets.get(&(receiver, port)));
        let Some(target) = target.and_then(Weak::upgrade) else {
            if let Some(receiver) = receiver {
                state.way(computer, receiver).counts.nowhere += 1;
            }
            return;
        };
        for due in arrivals.into_iter().flatten() {
            state.numbered += 1;
            target.deliver((due, state.numbered), source, transmit);
        }
    }

    /// A socket ends.
    fn forget(&self, socket: &Socket) {
        let mut state = self.state.lock().unwrap();
        // One that was bound since stays. This one can't be upgraded any more.
        if state.sockets.get(&socket.place).is_some_and(|held| held.strong_count() == 0) {
            state.sockets.remove(&socket.place);
        }
    }
}

impl State {
    fn is_plugged(&self, socket: &Socket) -> bool {
        let held = self.sockets.get(&socket.place).and_then(Weak::upgrade);
        held.is_some_and(|held| held.number == socket.number)
    }

    fn way(&mut self, from: IpAddr, to: IpAddr) -> &mut Way {
        self.ways.entry((from, to)).or_default()
    }

    fn host(&mut self, computer: IpAddr) -> &mut Host {
        self.hosts.entry(computer).or_insert_with(|| {
            self.outside.insert(computer, computer);
            Host::new(computer, Access::Direct)
        })
    }
}

/// The address of the computer with that number.
pub fn address_of(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// What a site listens on unless told otherwise.
pub fn listen() -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 4433)
}

#[cfg(test)]
mod tests;
