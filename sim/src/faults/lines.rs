//! Faults of the network: F1 to F6, and plain cuts.

use super::{Active, Begun, Ended};
use crate::drive::{Checked, Drive, own};
use crate::network::Line;
use crate::plan::{At, Fault};
use std::time::Duration;

/// What no handshake of QUIC gets through.
const SMALL: usize = 1150;
/// What makes a batch that is larger, also compressed.
const BULKS: u32 = 10;
/// F3: up and down for so long, in turn.
const FLAP: Duration = Duration::from_secs(5);
/// F3: bits a second.
const THIN: u64 = 64_000;
/// F3: imports of some hundred rows that have to travel.
const LARGE: u32 = 3;
/// F3: bytes that suffice for them, with some to spare for what is lost.
const MOST: u64 = 1_500_000;
/// After which a dynamic DNS gives the new address.
const NAME_FOLLOWS: Duration = Duration::from_secs(90);

impl Drive<'_> {
    pub(super) fn begin_line(&mut self, fault: Fault) -> Begun {
        let sites = fault.sites();
        let on = sites.iter().all(|at| self.shops[at.0].is_on());
        if !on || !self.at_work(&sites[..sites.len().min(1)]) {
            return Begun::NotNow;
        }
        let name = |at: At| self.plan.name(at);
        match fault {
            Fault::BadLines => self.world.set_line(Line::STORM),
            Fault::OneWay(a, b) => self.world.cut_one_way(name(a), name(b)),
            Fault::Partition(a, b) => self.world.cut(name(a), name(b)),
            Fault::Isolated(a) => self.world.isolate(name(a)),
            Fault::UdpBlocked(a) => self.world.block_udp(name(a)),
            Fault::Satellite(a, b) => {
                self.world.set_line_between(name(a), name(b), Some(Line::CRAWL));
            }
            Fault::SmallPackets(a, b) => {
                let line = Line { largest: Some(SMALL), ..self.ordinary };
                self.world.set_line_between(name(a), name(b), Some(line));
                if self.plan.life.shared {
                    // The shops' work alone is small, and so is one bulk when it is compressed.
                    for _ in 0..BULKS {
                        self.bulk(a);
                    }
                }
            }
            Fault::Flapping(a, b) => {
                let line = Line { rate: Some(THIN), flaps: Some(FLAP), ..self.ordinary };
                self.world.set_line_between(name(a), name(b), Some(line));
                for _ in 0..LARGE {
                    self.bulk(a);
                }
            }
            Fault::NewAddress(a) => {
                self.bulk(a);
                self.world.new_address(name(a), NAME_FOLLOWS);
            }
            _ => return Begun::NotNow,
        }
        Begun::Going
    }

    pub(super) async fn end_line(&mut self, active: &Active) -> Checked<Ended> {
        let counts = self.world.counts();
        let before = &active.counts;
        let name = |at: At| self.plan.name(at);
        let cut = counts.cut > before.cut;
        let fired = match active.event.fault {
            Fault::BadLines => {
                counts.lost > before.lost
                    && counts.doubled > before.doubled
                    && counts.overtaken > before.overtaken
            }
            Fault::OneWay(..) | Fault::Partition(..) => cut,
            Fault::Isolated(at) | Fault::UdpBlocked(at) => {
                self.must_not_look_safe(at, active).await?;
                cut
            }
            Fault::Satellite(a, b) => {
                let passed = |from, to| self.world.counts_from(name(from), name(to)).packets;
                passed(a, b) > 0 && passed(b, a) > 0
            }
            Fault::SmallPackets(..) => counts.too_large > before.too_large,
            Fault::Flapping(a, b) => {
                self.must_not_begin_again(a, b, active)?;
                cut
            }
            Fault::NewAddress(_) => counts.packets > before.packets,
            _ => false,
        };
        if !fired && active.put_off < 10 {
            return Ok(Ended::NotYet);
        }
        match active.event.fault {
            Fault::BadLines => self.world.set_line(self.ordinary),
            Fault::OneWay(a, b) => self.world.heal_one_way(name(a), name(b)),
            Fault::Partition(a, b) => self.world.heal(name(a), name(b)),
            Fault::Isolated(a) | Fault::UdpBlocked(a) => self.world.reconnect(name(a)),
            Fault::Satellite(a, b) | Fault::SmallPackets(a, b) | Fault::Flapping(a, b) => {
                self.world.set_line_between(name(a), name(b), None);
            }
            _ => {}
        }
        Ok(if fired { Ended::Fired } else { Ended::Idle })
    }

    /// H: who reaches nobody and has written something since is not told that it is safe.
    async fn must_not_look_safe(&mut self, at: At, active: &Active) -> Checked {
        let written = self.shops[at.0].commits() > active.commits;
        if !written || !self.at_work(&[at]) {
            return Ok(());
        }
        let name = self.name(at);
        let Some(status) = self.world.try_status(name).await else { return Ok(()) };
        match own(&status, name).is_some_and(|database| database.safe == Some(true)) {
            false => Ok(()),
            true => Err(self.broken(
                "H: a site without a line is told that it is not safe",
                format!(
                    "{name} has committed since it lost its line and says that all is safe:\n{}",
                    node::status::render(&status)
                ),
            )),
        }
    }

    /// F3: a catch-up over a flapping line goes on where it was.
    fn must_not_begin_again(&self, a: At, b: At, active: &Active) -> Checked {
        let sent = self.world.counts_from(self.name(a), self.name(b)).bytes;
        match sent.saturating_sub(active.sent) {
            sent if sent <= MOST => Ok(()),
            sent => Err(self.broken(
                "G: a catch-up goes on where it was",
                format!(
                    "{} sent {} {sent} bytes while the line flapped, for {LARGE} imports.",
                    self.name(a),
                    self.name(b),
                ),
            )),
        }
    }
}
