//! G: a site does not fill its line with talk. What it sends is bounded hour by hour, whatever is
//! wrong with it or its peers: the databases here are small.

use crate::drive::{Checked, Drive};
use crate::plan::{At, Fault};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
/// Bytes that a site may send to each other site in an hour.
const BYTES: u64 = 8 << 20;

/// What each site had sent, and when, when an hour began.
#[derive(Debug, Default)]
pub struct Courtesy(BTreeMap<At, (Duration, u64)>);

impl Courtesy {
    /// A site has sent so much by now; how much of it in the hour that ends now, if one does.
    fn hour(&mut self, at: At, now: Duration, sent: u64) -> Option<u64> {
        let (began, before) = *self.0.entry(at).or_insert((now, sent));
        if now < began + HOUR {
            return None;
        }
        self.0.insert(at, (now, sent));
        let hours = now.saturating_sub(began).as_secs_f64() / HOUR.as_secs_f64();
        Some((sent.saturating_sub(before) as f64 / hours) as u64)
    }
}

impl Drive<'_> {
    /// G: nobody talks without end.
    pub(super) fn look_at_courtesy(&mut self) -> Checked {
        let now = self.now();
        for at in self.places() {
            let others: Vec<At> = self.places().into_iter().filter(|to| *to != at).collect();
            let sent: Vec<(&str, u64)> = others
                .iter()
                .map(|to| (self.name(*to), self.world.counts_from(self.name(at), self.name(*to))))
                .map(|(to, counts)| (to, counts.bytes))
                .collect();
            // QUIC needs packets of 1,200 bytes: where they vanish it goes on trying.
            if self.active.values().any(|active| {
                matches!(active.event.fault, Fault::SmallPackets(a, b) if a == at || b == at)
            }) {
                self.checker.courtesy.0.remove(&at);
                continue;
            }
            let limit = BYTES * others.len() as u64;
            let all = sent.iter().map(|(_, bytes)| bytes).sum();
            if let Some(bytes) = self.checker.courtesy.hour(at, now, all)
                && bytes > limit
            {
                let what = format!(
                    "{} sent {bytes} bytes in an hour; since it began to each: {sent:?}.",
                    self.name(at)
                );
                return Err(self.broken("G: a site leaves the line to others", what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pause_between_looks_is_no_excuse_and_no_accusation() {
        let mut courtesy = Courtesy::default();
        assert_eq!(courtesy.hour(At(0), Duration::ZERO, 5), None);
        assert_eq!(courtesy.hour(At(0), HOUR / 2, 500), None);
        assert_eq!(courtesy.hour(At(0), HOUR, 1005), Some(1000));
        assert_eq!(courtesy.hour(At(0), HOUR * 11, 21_005), Some(2000));
    }
}
