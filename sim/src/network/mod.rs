//! The network between the sites: UDP packets that take their time, come out of order, get lost
//! or come twice, as the seed decides; and cuts, across which nothing passes.
//!
//! Every computer has one IPv4 address. A socket bound to `[::]` serves it as the real systems do:
//! its peers' addresses appear mapped into IPv6. There is no NAT and no limit of bandwidth.

use crate::clock::Clock;
use crate::random::Random;
use crate::trace::{Packet, Trace};
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// What lies between any two sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The least time a packet takes.
    pub latency: Duration,
    /// What may be added to it; packets overtake one another.
    pub jitter: Duration,
    /// Packets lost, of ten thousand.
    pub lost: u64,
    /// Packets that come twice, of ten thousand.
    pub doubled: u64,
}

impl Line {
    /// Some line of an ordinary country: 10 to 80 ms one way, up to 1 % lost.
    pub fn some(random: &mut Random) -> Self {
        let latency = 10 + random.below(70);
        Self {
            latency: Duration::from_millis(latency),
            jitter: Duration::from_millis(1 + random.below(latency / 2)),
            lost: random.below(100),
            doubled: random.below(30),
        }
    }
}

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
    sockets: BTreeMap<SocketAddr, Weak<Socket>>,
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    numbered: u64,
}

impl Network {
    /// A network without computers.
    pub fn new(clock: Clock, trace: Arc<Trace>, mut random: Random) -> Self {
        let line = Line::some(&mut random);
        let (sockets, cuts) = (BTreeMap::new(), BTreeSet::new());
        Self { clock, trace, state: Mutex::new(State { random, line, sockets, cuts, numbered: 0 }) }
    }

    /// What lies between the sites.
    pub fn line(&self) -> Line {
        self.state.lock().unwrap().line
    }

    /// Changes it, for packets sent from now on.
    pub fn set_line(&self, line: Line) {
        self.state.lock().unwrap().line = line;
    }

    /// Lets nothing pass between two computers any more.
    pub fn cut(&self, a: IpAddr, b: IpAddr) {
        self.state.lock().unwrap().cuts.insert((a.min(b), a.max(b)));
    }

    /// Lets packets pass again.
    pub fn heal(&self, a: IpAddr, b: IpAddr) {
        self.state.lock().unwrap().cuts.remove(&(a.min(b), a.max(b)));
    }

    /// Takes a computer's sockets off the network for ever: nothing they send goes out, and
    /// nothing reaches them.
    pub fn unplug(&self, computer: IpAddr) {
        self.state.lock().unwrap().sockets.retain(|address, _| address.ip() != computer);
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
        if !address.ip().is_unspecified() && address.ip() != computer {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let mut state = self.state.lock().unwrap();
        let free = |port: u16| !state.sockets.contains_key(&SocketAddr::new(computer, port));
        let port = match address.port() {
            0 => (49_152..=u16::MAX).find(|port| free(*port)),
            port => free(port).then_some(port),
        };
        let port = port.ok_or(io::ErrorKind::AddrInUse)?;
        state.numbered += 1;
        let socket = Arc::new(Socket {
            network: Arc::clone(self),
            number: state.numbered,
            outside: SocketAddr::new(computer, port),
            local: SocketAddr::new(address.ip(), port),
            inbox: Mutex::default(),
        });
        state.sockets.insert(socket.outside, Arc::downgrade(&socket));
        Ok(socket)
    }

    fn send(&self, from: &Socket, transmit: &Transmit<'_>) {
        let to = transmit.destination;
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let mut state = self.state.lock().unwrap();
        if !state.is_plugged(from) {
            return;
        }
        self.trace.record(Packet {
            time: self.clock.elapsed(),
            source: from.outside,
            destination: to,
            size: transmit.contents.len(),
        });
        let line = state.line;
        let lost = state.random.happens(line.lost);
        let copies = if state.random.happens(line.doubled) { 2 } else { 1 };
        let (a, b) = (from.outside.ip(), to.ip());
        let cut = state.cuts.contains(&(a.min(b), a.max(b)));
        let target = state.sockets.get(&to).and_then(Weak::upgrade);
        let Some(target) = target.filter(|_| !lost && !cut) else { return };
        for _ in 0..copies {
            let jitter = u64::try_from(line.jitter.as_micros()).unwrap_or(u64::MAX);
            let jitter = Duration::from_micros(state.random.below(jitter));
            state.numbered += 1;
            let due = (Instant::now() + line.latency + jitter, state.numbered);
            target.deliver(due, from.outside, transmit);
        }
    }
}

impl State {
    fn is_plugged(&self, socket: &Socket) -> bool {
        let held = self.sockets.get(&socket.outside).and_then(Weak::upgrade);
        held.is_some_and(|held| held.number == socket.number)
    }
}

/// One socket of one boot of a computer. One that was unplugged is dead, whoever has its port
/// now: sending goes nowhere, and nothing is received.
#[derive(Debug)]
pub struct Socket {
    network: Arc<Network>,
    number: u64,
    /// Where others see it.
    outside: SocketAddr,
    /// What it was bound to.
    local: SocketAddr,
    inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    packets: BTreeMap<(Instant, u64), Arriving>,
    timer: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
}

#[derive(Debug)]
struct Arriving {
    source: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

impl Socket {
    fn deliver(&self, due: (Instant, u64), source: SocketAddr, transmit: &Transmit<'_>) {
        let mut inbox = self.inbox.lock().unwrap();
        let first = inbox.packets.keys().next().is_none_or(|next| due < *next);
        let bytes = transmit.contents.to_vec();
        inbox.packets.insert(due, Arriving { source, ecn: transmit.ecn, bytes });
        if first && let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }

    /// How a peer's address appears at this socket.
    fn seen(&self, address: SocketAddr) -> SocketAddr {
        match (self.local.ip(), address.ip()) {
            (IpAddr::V6(_), IpAddr::V4(ip)) => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())
            }
            _ => address,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = self.network.state.lock().unwrap();
        // One that was bound since stays. This one can't be upgraded any more.
        if state.sockets.get(&self.outside).is_some_and(|held| held.strong_count() == 0) {
            state.sockets.remove(&self.outside);
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysReady)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.network.send(self, transmit);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap();
        let mut received = 0;
        while let Some(next) = inbox.packets.first_entry() {
            let (due, _) = *next.key();
            if due > Instant::now() {
                if received > 0 {
                    break;
                }
                let timer = inbox.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
                timer.as_mut().reset(due);
                match timer.as_mut().poll(context) {
                    // The timer is as coarse as a millisecond, and never early.
                    Poll::Ready(()) => continue,
                    Poll::Pending => break,
                }
            }
            let (Some(buffer), Some(about)) = (buffers.get_mut(received), meta.get_mut(received))
            else {
                break;
            };
            let packet = next.remove();
            // As with real sockets, what does not fit is cut off.
            let length = packet.bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&packet.bytes[..length]);
            *about = RecvMeta {
                addr: self.seen(packet.source),
                len: length,
                stride: length,
                ecn: packet.ecn,
                dst_ip: None,
            };
            received += 1;
        }
        if received > 0 {
            return Poll::Ready(Ok(received));
        }
        inbox.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Sending never waits.
#[derive(Debug)]
struct AlwaysReady;

impl UdpPoller for AlwaysReady {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
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
mod tests {
    use super::*;

    fn network(line: Line) -> Arc<Network> {
        let (clock, random) = (Clock::start(), Random::new(1, "network"));
        let network = Arc::new(Network::new(clock, Arc::default(), random));
        network.set_line(line);
        network
    }

    fn clean() -> Line {
        let (latency, jitter) = (Duration::from_millis(50), Duration::from_millis(1));
        Line { latency, jitter, lost: 0, doubled: 0 }
    }

    fn send(from: &Socket, destination: SocketAddr, contents: &[u8]) {
        let transmit =
            Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
        from.try_send(&transmit).unwrap();
    }

    async fn receive(socket: &Socket) -> (SocketAddr, Vec<u8>) {
        std::future::poll_fn(|context| {
            let (mut buffer, mut meta) = ([0; 100], [RecvMeta::default()]);
            let polled = socket.poll_recv(context, &mut [IoSliceMut::new(&mut buffer)], &mut meta);
            polled.map(|count| {
                assert_eq!(count.unwrap(), 1);
                (meta[0].addr, buffer[..meta[0].len].to_vec())
            })
        })
        .await
    }

    async fn count(socket: &Socket) -> u64 {
        let mut received = 0;
        while tokio::time::timeout(Duration::from_secs(1), receive(socket)).await.is_ok() {
            received += 1;
        }
        received
    }

    #[tokio::test(start_paused = true)]
    async fn a_packet_takes_its_time_and_shows_where_it_is_from() {
        let network = network(clean());
        let a = network.bind(address_of(1), listen()).unwrap();
        let b = network.bind(address_of(2), "0.0.0.0:0".parse().unwrap()).unwrap();
        assert_eq!(a.local_addr().unwrap(), listen());
        let begun = Instant::now();
        send(&b, "10.0.0.1:4433".parse().unwrap(), b"hello");
        let (from, content) = receive(&a).await;
        assert!((50..=53).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        assert_eq!(content, b"hello");
        assert_eq!(from.ip().to_canonical(), address_of(2));
        assert!(from.is_ipv6(), "a socket at [::] sees IPv4 mapped");
        send(&a, from, b"well");
        assert_eq!(receive(&b).await, ("10.0.0.1:4433".parse().unwrap(), b"well".to_vec()));
        assert!(network.bind(address_of(1), listen()).is_err(), "the port is taken");
        drop(a);
        assert!(network.bind(address_of(1), listen()).is_ok(), "and free again");
        assert!(network.bind(address_of(1), SocketAddr::new(address_of(2), 1)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn packets_are_lost_doubled_and_cut_off() {
        let network = network(Line { lost: 2000, ..clean() });
        let to = "10.0.0.1:4433".parse().unwrap();
        let a = network.bind(address_of(1), listen()).unwrap();
        let b = network.bind(address_of(2), listen()).unwrap();
        let burst = || (0..1000).for_each(|_| send(&b, to, b"x"));
        burst();
        assert!((700..900).contains(&count(&a).await));
        network.set_line(Line { doubled: 2000, ..clean() });
        burst();
        assert!((1100..1300).contains(&count(&a).await));
        network.cut(address_of(1), address_of(2));
        burst();
        assert_eq!(count(&a).await, 0);
        network.heal(address_of(1), address_of(2));
        burst();
        assert!(count(&a).await >= 1000);
        // A computer without power: nothing out, nothing in.
        network.unplug(address_of(2));
        burst();
        assert_eq!(count(&a).await, 0);
        assert_eq!(network.trace.totals().0, 4000, "all that was sent, whatever became of it");
    }

    #[tokio::test(start_paused = true)]
    async fn packets_overtake_one_another() {
        let network = network(Line { jitter: Duration::from_millis(40), ..clean() });
        let to = "10.0.0.1:4433".parse().unwrap();
        let a = network.bind(address_of(1), listen()).unwrap();
        let b = network.bind(address_of(2), listen()).unwrap();
        (0..50).for_each(|number| send(&b, to, &[number]));
        let mut order = Vec::new();
        for _ in 0..50 {
            order.push(receive(&a).await.1[0]);
        }
        assert!(!order.is_sorted());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<u8>>());
    }
}
