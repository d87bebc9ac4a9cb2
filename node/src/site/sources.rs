//! From which peer each branch is taken: one at a time, so that nothing crosses a poor line
//! twice. The origin is preferred; while it is away, any peer that holds more than this site.
//! Pure: it is told what peers hold and says whom to ask.

use conflict::SiteId;
use protocol::message::Holding;
use protocol::{BranchId, Sequence};
use std::collections::BTreeMap;

/// What this site needs of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Whose branch it is.
    pub origin: SiteId,
    /// The highest sequence held here.
    pub held: Sequence,
    /// Whether its base is missing here.
    pub base_missing: bool,
}

/// A change of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask this peer for the branch, from what is held here on.
    Want(SiteId, BranchId),
    /// Tell this peer to send no more of it.
    Unwant(SiteId, BranchId),
}

/// Who holds what, and whom each branch is taken from.
#[derive(Debug, Default)]
pub struct Sources {
    peers: BTreeMap<SiteId, BTreeMap<BranchId, Holding>>,
    needs: BTreeMap<BranchId, Need>,
    chosen: BTreeMap<BranchId, SiteId>,
}

impl Sources {
    /// A peer is connected and its vector known.
    pub fn connected(&mut self, peer: SiteId, holdings: BTreeMap<BranchId, Holding>) -> Vec<Order> {
        self.peers.insert(peer, holdings);
        self.choose_all()
    }

    /// A peer is gone; what was taken from it is taken from others.
    pub fn disconnected(&mut self, peer: SiteId) -> Vec<Order> {
        self.peers.remove(&peer);
        self.chosen.retain(|_, chosen| *chosen != peer);
        self.choose_all()
    }

    /// A connected peer said how far it is in a branch.
    pub fn holding(&mut self, peer: SiteId, holding: Holding) -> Vec<Order> {
        let Some(holdings) = self.peers.get_mut(&peer) else { return Vec::new() };
        holdings.insert(holding.branch, holding);
        self.choose(holding.branch)
    }

    /// This site's own place in a branch changed, or it learnt of the branch.
    pub fn need(&mut self, branch: BranchId, need: Need) -> Vec<Order> {
        self.needs.insert(branch, need);
        self.choose(branch)
    }

    /// A branch that is not to be taken from anyone (any more).
    pub fn forget(&mut self, branch: BranchId) {
        self.needs.remove(&branch);
        self.chosen.remove(&branch);
    }

    fn choose_all(&mut self) -> Vec<Order> {
        let branches: Vec<BranchId> = self.needs.keys().copied().collect();
        branches.into_iter().flat_map(|branch| self.choose(branch)).collect()
    }

    fn choose(&mut self, branch: BranchId) -> Vec<Order> {
        let Some(need) = self.needs.get(&branch) else { return Vec::new() };
        let current = self.chosen.get(&branch).copied();
        let best = if self.peers.contains_key(&need.origin) {
            // Subscribed to the origin even when it has nothing new: what it adds comes at once.
            Some(need.origin)
        } else {
            let useful = |holding: &Holding| {
                holding.held > need.held || (need.base_missing && holding.durable > Sequence::ZERO)
            };
            let mut offers: Vec<(Sequence, SiteId)> = self
                .peers
                .iter()
                .filter_map(|(peer, holdings)| {
                    holdings.get(&branch).filter(|h| useful(h)).map(|h| (h.held, *peer))
                })
                .collect();
            offers.sort_unstable();
            match current.filter(|peer| self.peers.contains_key(peer)) {
                Some(peer) if offers.is_empty() || offers.iter().any(|(_, p)| *p == peer) => {
                    Some(peer)
                }
                _ => offers.last().map(|(_, peer)| *peer),
            }
        };
        match (current, best) {
            (Some(old), Some(new)) if old != new => {
                self.chosen.insert(branch, new);
                vec![Order::Unwant(old, branch), Order::Want(new, branch)]
            }
            (None, Some(new)) => {
                self.chosen.insert(branch, new);
                vec![Order::Want(new, branch)]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conflict::WallTime;
    use protocol::ChainHash;

    const BRANCH: BranchId = BranchId([1; 32]);

    fn site(number: u8) -> SiteId {
        SiteId::from_bytes([number; 16])
    }

    fn holds(held: u64) -> Holding {
        Holding {
            branch: BRANCH,
            held: Sequence(held),
            hash: ChainHash([0; 32]),
            durable: Sequence(held),
            applied: Sequence(held),
            as_of: WallTime(0),
        }
    }

    fn vector(held: u64) -> BTreeMap<BranchId, Holding> {
        BTreeMap::from([(BRANCH, holds(held))])
    }

    fn need(held: u64) -> Need {
        Need { origin: site(1), held: Sequence(held), base_missing: false }
    }

    #[test]
    fn the_origin_is_preferred_and_others_serve_while_it_is_away() {
        let mut sources = Sources::default();
        assert_eq!(sources.need(BRANCH, need(3)), vec![]);
        assert_eq!(sources.connected(site(2), vector(5)), vec![Order::Want(site(2), BRANCH)]);
        assert_eq!(
            sources.connected(site(1), vector(4)),
            vec![Order::Unwant(site(2), BRANCH), Order::Want(site(1), BRANCH)]
        );
        assert_eq!(sources.disconnected(site(1)), vec![Order::Want(site(2), BRANCH)]);
    }

    #[test]
    fn a_peer_that_holds_no_more_is_asked_only_once_it_does() {
        let mut sources = Sources::default();
        sources.need(BRANCH, need(5));
        assert_eq!(sources.connected(site(2), vector(5)), vec![]);
        assert_eq!(sources.holding(site(2), holds(6)), vec![Order::Want(site(2), BRANCH)]);
        assert_eq!(sources.holding(site(2), holds(7)), vec![]);
    }

    #[test]
    fn a_source_that_ran_dry_is_left_for_one_that_has_more() {
        let mut sources = Sources::default();
        sources.connected(site(2), vector(6));
        assert_eq!(sources.need(BRANCH, need(5)), vec![Order::Want(site(2), BRANCH)]);
        assert_eq!(sources.need(BRANCH, need(6)), vec![]);
        assert_eq!(
            sources.connected(site(3), vector(8)),
            vec![Order::Unwant(site(2), BRANCH), Order::Want(site(3), BRANCH)]
        );
    }

    #[test]
    fn a_missing_base_is_taken_from_whoever_has_it() {
        let mut sources = Sources::default();
        let need = Need { base_missing: true, ..need(5) };
        sources.need(BRANCH, need);
        assert_eq!(sources.connected(site(3), vector(5)), vec![Order::Want(site(3), BRANCH)]);
    }
}
