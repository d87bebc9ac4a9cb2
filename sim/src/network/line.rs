//! What lies between two sites, one way: a line's properties, and what is on it at the moment.
//!
//! Each ordered pair of sites has a line of its own. Lines don't share bandwidth, not even those of
//! one site.

use crate::network::counts::Counts;
use crate::random::Random;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of IP and UDP headers that a line carries beside each payload.
const HEADERS: usize = 28;

/// What lies between two sites, one way.
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
    /// Packets held back, of ten thousand, for up to four times the latency: many overtake them.
    pub held_back: u64,
    /// Bits a second, the headers of IP and UDP included; `None` has no limit.
    pub rate: Option<u64>,
    /// Bytes that wait where the line is slower than what is sent. What comes beyond is dropped.
    /// Means something only with a rate.
    pub queue: usize,
    /// The largest payload that passes; larger ones vanish without a word.
    pub largest: Option<usize>,
    /// It works for so long, then not at all for so long, and so on, from the world's begin.
    pub flaps: Option<Duration>,
}

impl Default for Line {
    fn default() -> Self {
        Self::CLEAN
    }
}

impl Line {
    /// 50 ms one way, in order but for a millisecond, and nothing is lost.
    pub const CLEAN: Self = Self {
        latency: Duration::from_millis(50),
        jitter: Duration::from_millis(1),
        lost: 0,
        doubled: 0,
        held_back: 0,
        rate: None,
        queue: 64 << 10,
        largest: None,
        flaps: None,
    };

    /// 30 % lost, 50 % doubled, and no order (F1).
    pub const STORM: Self = Self {
        jitter: Duration::from_millis(100),
        lost: 3000,
        doubled: 5000,
        held_back: 3000,
        ..Self::CLEAN
    };

    /// 30 kbit/s with 5 s of round trip, and four more seconds' worth of queue (F4).
    pub const CRAWL: Self = Self {
        latency: Duration::from_millis(2500),
        rate: Some(30_000),
        queue: 16 << 10,
        ..Self::CLEAN
    };

    /// Some line of an ordinary country: 10 to 80 ms one way, up to 1 % lost.
    pub fn some(random: &mut Random) -> Self {
        let latency = 10 + random.below(70);
        Self {
            latency: Duration::from_millis(latency),
            jitter: Duration::from_millis(1 + random.below(latency / 2)),
            lost: random.below(100),
            doubled: random.below(30),
            ..Self::CLEAN
        }
    }

    fn is_down(&self, elapsed: Duration) -> bool {
        let half = self.flaps.map_or(0, |flaps| flaps.as_nanos());
        elapsed.as_nanos().checked_div(half).is_some_and(|half_turns| half_turns % 2 == 1)
    }
}

/// One way between two sites.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// Where it is not like the others.
    pub line: Option<Line>,
    pub cut: bool,
    pub counts: Counts,
    /// When all that is in the queue has left it.
    busy_until: Option<Instant>,
    /// When the last of those sent so far arrives.
    latest: Option<Instant>,
}

impl Way {
    /// Takes a packet that is sent now, `elapsed` after the world's begin; says when it arrives,
    /// never, once or twice.
    pub fn carry(
        &mut self,
        line: &Line,
        size: usize,
        elapsed: Duration,
        random: &mut Random,
    ) -> [Option<Instant>; 2] {
        let now = Instant::now();
        if self.cut || line.is_down(elapsed) {
            self.counts.cut += 1;
        } else if line.largest.is_some_and(|largest| size > largest) {
            self.counts.too_large += 1;
        } else if random.happens(line.lost) {
            self.counts.lost += 1;
        } else if let Some(left) = self.queue(line, size, now) {
            let doubled = random.happens(line.doubled);
            self.counts.doubled += u64::from(doubled);
            let first = self.arrival(line, left, random);
            return [Some(first), doubled.then(|| self.arrival(line, left, random))];
        } else {
            self.counts.dropped += 1;
        }
        [None, None]
    }

    /// When a packet has left the queue; `None` if there is no room in it.
    fn queue(&mut self, line: &Line, size: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = line.rate.filter(|rate| *rate > 0) else { return Some(now) };
        let begin = self.busy_until.map_or(now, |until| until.max(now));
        let waiting = (begin - now).as_nanos() * u128::from(rate) / 8_000_000_000;
        if waiting + size as u128 > line.queue as u128 {
            return None;
        }
        let bits = (size + HEADERS) as u64 * 8;
        let until = begin + Duration::from_nanos(bits.saturating_mul(1_000_000_000) / rate);
        self.busy_until = Some(until);
        Some(until)
    }

    fn arrival(&mut self, line: &Line, left: Instant, random: &mut Random) -> Instant {
        let mut some = |most: Duration| {
            Duration::from_micros(random.below(u64::try_from(most.as_micros()).unwrap_or(u64::MAX)))
        };
        let mut due = left + line.latency + some(line.jitter);
        let held_back = some(line.latency * 4);
        if random.happens(line.held_back) {
            due += held_back;
        }
        match self.latest {
            Some(latest) if due < latest => self.counts.overtaken += 1,
            _ => self.latest = Some(due),
        }
        due
    }
}
