//! A UDP line between two processes that can be cut, slowed, made lossy, and moved to another
//! port as a NAT does. Plain threads, so that it serves any test.
//!
//! It knows nothing of what it carries, and keeps datagrams in order per direction.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it stands for the network outside of the node"
)]

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a thread waits for a datagram before it looks whether the relay has ended.
const TICK: Duration = Duration::from_millis(50);

/// What one direction carried. Dropped datagrams don't count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// UDP datagrams.
    pub datagrams: u64,
    /// Bytes of UDP payload.
    pub bytes: u64,
}

impl Carried {
    /// Bytes on the line: payload, and 28 bytes of IP and UDP headers a datagram.
    pub fn line_bytes(&self) -> u64 {
        self.bytes + 28 * self.datagrams
    }
}

/// A line from a loopback port to a target. Ends when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    front: UdpSocket,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    target: Option<SocketAddr>,
    cut: bool,
    cut_clients: BTreeSet<SocketAddr>,
    delay: Duration,
    loss_per_mille: u32,
    dice: u64,
    sequence: u64,
    to_target: Carried,
    to_client: Carried,
    /// The socket that faces the target, for each client.
    backs: BTreeMap<SocketAddr, Arc<UdpSocket>>,
    under_way: BinaryHeap<Datagram>,
    back_threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Datagram {
    due: Instant,
    sequence: u64,
    /// The client that it comes from or goes to.
    client: SocketAddr,
    to_target: bool,
    payload: Vec<u8>,
}

impl Datagram {
    fn order(&self) -> (Instant, u64) {
        (self.due, self.sequence)
    }
}

impl PartialEq for Datagram {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Datagram {}

impl PartialOrd for Datagram {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Datagram {
    /// Reversed: the heap gives the earliest first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.order().cmp(&self.order())
    }
}

impl Relay {
    /// A perfect line from a free port of 127.0.0.1 to `target`.
    ///
    /// # Errors
    /// No socket or thread to be had.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let relay = Self::open()?;
        relay.set_target(target);
        Ok(relay)
    }

    /// A line from a free port of 127.0.0.1 that leads nowhere until it is given a target.
    ///
    /// # Errors
    /// No socket or thread to be had.
    pub fn open() -> io::Result<Self> {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        front.set_read_timeout(Some(TICK))?;
        let address = front.local_addr()?;
        let state = Mutex::new(State { dice: 0x9E37_79B9_7F4A_7C15, ..State::default() });
        let shared = Arc::new(Shared { front, state, wake: Condvar::new() });
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let threads = vec![
            named("relay-front").spawn({
                let shared = Arc::clone(&shared);
                move || shared.run_front()
            })?,
            named("relay-deliver").spawn({
                let shared = Arc::clone(&shared);
                move || shared.run_delivery()
            })?,
        ];
        Ok(Self { address, shared, threads })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads to `target` from now on.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.state().target = Some(target);
    }

    /// Carries nothing from now on, what is under way included.
    pub fn cut(&self) {
        self.shared.state().cut = true;
    }

    /// Carries nothing from or to this one client from now on.
    pub fn cut_client(&self, client: SocketAddr) {
        self.shared.state().cut_clients.insert(client);
    }

    /// Carries again, for all.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.cut = false;
        state.cut_clients.clear();
    }

    /// Every client appears to the target at another port from now on, and what the target sends
    /// to the old one is lost.
    pub fn rebind(&self) {
        self.shared.state().backs.clear();
    }

    /// Carries each datagram this much later, one way.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }

    /// Loses so many of a thousand datagrams, always the same ones.
    pub fn set_loss(&self, per_mille: u32) {
        self.shared.state().loss_per_mille = per_mille;
    }

    /// What was carried: to the target, and back.
    pub fn carried(&self) -> (Carried, Carried) {
        let state = self.shared.state();
        (state.to_target, state.to_client)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended = true;
        let backs = std::mem::take(&mut state.back_threads);
        drop(state);
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..).chain(backs) {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_front(self: &Arc<Self>) {
        let mut buffer = vec![0; 1 << 16];
        while !self.state().ended {
            if let Some((payload, client)) = receive(&self.front, &mut buffer) {
                self.take_in(client, true, payload);
            }
        }
    }

    /// Carries answers to one client until its socket is replaced.
    fn run_back(&self, client: SocketAddr, back: &Arc<UdpSocket>) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let received = receive(back, &mut buffer);
            let state = self.state();
            if state.ended || !state.backs.get(&client).is_some_and(|now| Arc::ptr_eq(now, back)) {
                return;
            }
            drop(state);
            if let Some((payload, _)) = received {
                self.take_in(client, false, payload);
            }
        }
    }

    fn take_in(&self, client: SocketAddr, to_target: bool, payload: Vec<u8>) {
        let mut state = self.state();
        // xorshift: the same datagrams of the same run.
        state.dice ^= state.dice << 13;
        state.dice ^= state.dice >> 7;
        state.dice ^= state.dice << 17;
        if state.cut || state.dice % 1000 < u64::from(state.loss_per_mille) {
            return;
        }
        state.sequence += 1;
        let (due, sequence) = (Instant::now() + state.delay, state.sequence);
        state.under_way.push(Datagram { due, sequence, client, to_target, payload });
        self.wake.notify_all();
    }

    fn run_delivery(self: &Arc<Self>) {
        let mut state = self.state();
        while !state.ended {
            let now = Instant::now();
            let wait = match state.under_way.peek() {
                None => TICK,
                Some(next) if next.due > now => (next.due - now).min(TICK),
                Some(_) => {
                    if let Some(next) = state.under_way.pop() {
                        self.deliver(&mut state, &next);
                    }
                    continue;
                }
            };
            let waited = self.wake.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Like the network itself, it says nothing of what it could not deliver.
    fn deliver(self: &Arc<Self>, state: &mut State, datagram: &Datagram) {
        if state.cut || state.cut_clients.contains(&datagram.client) {
            return;
        }
        let Some(target) = state.target else { return };
        let (sent, carried) = if datagram.to_target {
            let back = match state.backs.get(&datagram.client) {
                Some(back) => Ok(Arc::clone(back)),
                None => self.new_back(state, datagram.client),
            };
            let sent = back.and_then(|back| back.send_to(&datagram.payload, target));
            (sent, &mut state.to_target)
        } else {
            let sent = self.front.send_to(&datagram.payload, datagram.client);
            (sent, &mut state.to_client)
        };
        if let Ok(bytes) = sent {
            carried.datagrams += 1;
            carried.bytes += bytes as u64;
        }
    }

    fn new_back(
        self: &Arc<Self>,
        state: &mut State,
        client: SocketAddr,
    ) -> io::Result<Arc<UdpSocket>> {
        let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        back.set_read_timeout(Some(TICK))?;
        state.backs.insert(client, Arc::clone(&back));
        let (shared, socket) = (Arc::clone(self), Arc::clone(&back));
        let thread = thread::Builder::new()
            .name("relay-back".to_owned())
            .spawn(move || shared.run_back(client, &socket))?;
        state.back_threads.push(thread);
        Ok(back)
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(Vec<u8>, SocketAddr)> {
    match socket.recv_from(buffer) {
        Ok((length, from)) => Some((buffer.get(..length)?.to_vec(), from)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(_) => {
            // A port that answered "unreachable"; nothing is lost by looking again.
            thread::sleep(Duration::from_millis(1));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn next(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2000];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        (buffer[..length].to_vec(), from)
    }

    #[test]
    fn it_carries_both_ways_for_each_client_and_counts() {
        let target = socket();
        let relay = Relay::start(target.local_addr().unwrap()).unwrap();
        let clients = [socket(), socket()];
        for (number, client) in clients.iter().enumerate() {
            client.send_to(&[number as u8; 10], relay.address()).unwrap();
            let (payload, from) = next(&target);
            assert_eq!(payload, [number as u8; 10]);
            target.send_to(&[number as u8; 20], from).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(next(client), (vec![number as u8; 20], relay.address()));
        }
        let (there, back) = relay.carried();
        assert_eq!(there, Carried { datagrams: 2, bytes: 20 });
        assert_eq!(back, Carried { datagrams: 2, bytes: 40 });
        assert_eq!(back.line_bytes(), 96);
    }

    #[test]
    fn a_cut_line_carries_nothing_until_healed() {
        let target = socket();
        let relay = Relay::start(target.local_addr().unwrap()).unwrap();
        let client = socket();
        relay.cut();
        client.send_to(b"lost", relay.address()).unwrap();
        target.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(target.recv_from(&mut [0; 10]).is_err());
        relay.heal();
        client.send_to(b"through", relay.address()).unwrap();
        target.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(next(&target).0, b"through");
    }

    #[test]
    fn one_client_alone_can_be_cut() {
        let target = socket();
        let relay = Relay::open().unwrap();
        relay.set_target(target.local_addr().unwrap());
        let (near, far) = (socket(), socket());
        relay.cut_client(far.local_addr().unwrap());
        far.send_to(b"lost", relay.address()).unwrap();
        near.send_to(b"near", relay.address()).unwrap();
        assert_eq!(next(&target).0, b"near");
        relay.heal();
        far.send_to(b"far", relay.address()).unwrap();
        assert_eq!(next(&target).0, b"far");
    }

    #[test]
    fn after_a_rebind_the_client_has_another_port() {
        let target = socket();
        let relay = Relay::start(target.local_addr().unwrap()).unwrap();
        let client = socket();
        client.send_to(b"a", relay.address()).unwrap();
        let (_, before) = next(&target);
        relay.rebind();
        client.send_to(b"b", relay.address()).unwrap();
        let (_, after) = next(&target);
        assert_ne!(before, after);
        target.send_to(b"c", after).unwrap();
        assert_eq!(next(&client).0, b"c");
    }

    #[test]
    fn it_delays_in_order_and_loses_what_it_is_told() {
        let target = socket();
        let relay = Relay::start(target.local_addr().unwrap()).unwrap();
        let client = socket();
        let delay = Duration::from_millis(80);
        relay.set_delay(delay);
        let start = Instant::now();
        for number in 0..5u8 {
            client.send_to(&[number], relay.address()).unwrap();
        }
        for number in 0..5u8 {
            assert_eq!(next(&target).0, [number]);
        }
        assert!(start.elapsed() >= delay);

        relay.set_delay(Duration::ZERO);
        relay.set_loss(500);
        for _ in 0..200 {
            client.send_to(b"x", relay.address()).unwrap();
            // In step, so that the system's own buffer loses none.
            thread::sleep(Duration::from_micros(200));
        }
        relay.set_loss(0);
        client.send_to(b"end", relay.address()).unwrap();
        let mut arrived = 0;
        while next(&target).0 != b"end" {
            arrived += 1;
        }
        assert!((60..140).contains(&arrived), "{arrived} of 200");
    }
}
