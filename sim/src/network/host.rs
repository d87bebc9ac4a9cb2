//! Where a computer is in the network: its address, the NAT before it, and whether anything of it
//! gets through at all. It outlives boots.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// How a site is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// At its own address, which it tells the others.
    #[default]
    Direct,
    /// At its own address, under a name that follows it: a dynamic DNS.
    Named,
    /// Not at all: it sits behind a NAT, whose mappings last for so long after the last packet
    /// out. It dials the others, and tells them an address that means nothing to them.
    Nat {
        /// How long a mapping lasts without a packet from inside.
        idle: Duration,
    },
}

/// What of a site gets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Passage {
    /// Everything.
    #[default]
    Open,
    /// No UDP, but names are found.
    UdpBlocked,
    /// Nothing.
    Isolated,
}

#[derive(Debug)]
pub(super) struct Host {
    /// What its interface has.
    pub inside: IpAddr,
    /// What others see.
    pub outside: IpAddr,
    pub passage: Passage,
    nat: Option<Nat>,
    /// What its name gave from when on.
    named: Vec<(Instant, IpAddr)>,
    moves: u8,
}

impl Host {
    pub fn new(computer: IpAddr, access: Access) -> Self {
        let nat = match access {
            Access::Direct | Access::Named => None,
            Access::Nat { idle } => Some(Nat::new(idle)),
        };
        let inside = if nat.is_some() { private(computer) } else { computer };
        let named = vec![(Instant::now(), computer)];
        let passage = Passage::default();
        Self { inside, outside: computer, passage, nat, named, moves: 0 }
    }

    /// From now on it has another address; its name gives it after a while.
    pub fn move_on(&mut self, name_follows: Duration) {
        self.moves = self.moves.wrapping_add(1);
        if let IpAddr::V4(outside) = self.outside {
            let [a, _, c, d] = outside.octets();
            self.outside = Ipv4Addr::new(a, self.moves, c, d).into();
        }
        match &mut self.nat {
            Some(nat) => nat.forget(),
            None => self.inside = self.outside,
        }
        self.named.push((Instant::now() + name_follows, self.outside));
    }

    /// What its name gives now.
    pub fn named(&self) -> Option<IpAddr> {
        let now = Instant::now();
        self.named.iter().rev().find(|(from, _)| *from <= now).map(|(_, address)| *address)
    }

    /// Where others see what this port sends to them.
    pub fn seen_from(&mut self, port: u16, remote: SocketAddr) -> SocketAddr {
        let port = self.nat.as_mut().map_or(port, |nat| nat.out(port, remote));
        SocketAddr::new(self.outside, port)
    }

    /// Which port of the computer a packet from outside is for; `None` if it does not get there.
    pub fn port_inside(&self, port: u16, remote: SocketAddr) -> Option<u16> {
        self.nat.as_ref().map_or(Some(port), |nat| nat.inward(port, remote))
    }

    /// How often a mapping that had expired, or was forgotten, was made anew at another port.
    pub fn rebindings(&self) -> u64 {
        self.nat.as_ref().map_or(0, |nat| nat.rebindings)
    }

    pub fn set_nat_idle(&mut self, idle: Duration) {
        if let Some(nat) = &mut self.nat {
            nat.idle = idle;
        }
    }
}

/// The address inside, behind the NAT of that computer.
fn private(computer: IpAddr) -> IpAddr {
    match computer {
        IpAddr::V4(outside) => Ipv4Addr::new(192, 168, outside.octets()[3], 2).into(),
        IpAddr::V6(_) => computer,
    }
}

/// The strictest of NATs: a mapping for each port inside and each remote; only that remote gets
/// in through it, and only packets from inside keep it. Whether it lasts is decided when a packet
/// is sent, not when it gets there.
#[derive(Debug)]
struct Nat {
    idle: Duration,
    mappings: BTreeMap<(u16, SocketAddr), Mapping>,
    ports: BTreeMap<u16, (u16, SocketAddr)>,
    next: u16,
    rebindings: u64,
}

#[derive(Debug)]
struct Mapping {
    port: u16,
    used: Option<Instant>,
}

impl Nat {
    const FIRST_PORT: u16 = 20_000;

    fn new(idle: Duration) -> Self {
        let (mappings, ports) = (BTreeMap::new(), BTreeMap::new());
        Self { idle, mappings, ports, next: Self::FIRST_PORT, rebindings: 0 }
    }

    fn out(&mut self, inside: u16, remote: SocketAddr) -> u16 {
        let now = Instant::now();
        let known = self.mappings.get_mut(&(inside, remote));
        if let Some(mapping) = known
            && let Some(used) = mapping.used
            && used + self.idle >= now
        {
            mapping.used = Some(now);
            return mapping.port;
        }
        while self.ports.contains_key(&self.next) {
            self.step();
        }
        let port = self.next;
        self.step();
        let mapping = Mapping { port, used: Some(now) };
        if let Some(before) = self.mappings.insert((inside, remote), mapping) {
            self.ports.remove(&before.port);
            self.rebindings += 1;
        }
        self.ports.insert(port, (inside, remote));
        port
    }

    fn step(&mut self) {
        self.next = self.next.checked_add(1).unwrap_or(Self::FIRST_PORT);
    }

    fn inward(&self, port: u16, remote: SocketAddr) -> Option<u16> {
        let key = self.ports.get(&port).filter(|(_, meant)| *meant == remote)?;
        let used = self.mappings.get(key)?.used?;
        (used + self.idle >= Instant::now()).then_some(key.0)
    }

    /// All mappings are over.
    fn forget(&mut self) {
        self.mappings.values_mut().for_each(|mapping| mapping.used = None);
    }
}
