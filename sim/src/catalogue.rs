//! The fault catalogue: the numbers by which scenarios, tests and tables speak of faults, and since
//! which capability of the node the simulator injects each. What a fault does is [`crate::plan::Fault`]'s.

/// Since when a fault belongs to the mixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The node meets it today.
    Now,
    /// The node meets it today where sites write one database: it belongs to `shared-mix`.
    Shared,
    /// Waits for verification, moving schemas and refilling what is damaged.
    Trust,
    /// Waits for failover and going back in time.
    Failover,
}

/// A fault of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its number: `F10` is 10.
    pub number: u8,
    /// What happens.
    pub title: &'static str,
    /// Since when it is injected.
    pub stage: Stage,
}

const fn entry(number: u8, stage: Stage, title: &'static str) -> Entry {
    Entry { number, title, stage }
}

/// All of them, by number.
pub const CATALOGUE: [Entry; 64] = {
    use Stage::{Failover, Now, Shared, Trust};
    [
        entry(1, Now, "loss of 30 %, duplication of 50 %, reordering"),
        entry(2, Now, "one-way partition"),
        entry(3, Now, "the link flaps every 5 s during a large catch-up"),
        entry(4, Now, "30 kbit/s with a round trip of 5 s"),
        entry(5, Now, "an address changes in the middle of a batch"),
        entry(6, Now, "UDP blocked, or large packets dropped"),
        entry(7, Now, "sites never all on at once: changes travel through a third"),
        entry(8, Now, "all boot and reconnect in the same second"),
        entry(9, Now, "cut after apply, before the acknowledgement"),
        entry(10, Now, "power cut at any I/O"),
        entry(11, Now, "cut between apply and cursor"),
        entry(12, Now, "torn tail of the journal"),
        entry(13, Trust, "bit flip in journal or snapshot"),
        entry(14, Now, "stale or misdirected read"),
        entry(15, Now, "a sync reports an error"),
        entry(16, Now, "the application writes and checkpoints while the node is down"),
        entry(17, Trust, "the application's SQLite has the WAL-reset race"),
        entry(18, Now, "a second crash during recovery"),
        entry(19, Failover, "a whole disk lost, the site rejoins"),
        entry(20, Failover, "a power cut undoes a transaction that was already sent"),
        entry(21, Now, "boots in 1970: a dead battery"),
        entry(22, Now, "a site in 2036"),
        entry(23, Now, "a clock days off"),
        entry(24, Now, "edits of a slow clock"),
        entry(25, Now, "a step of one hour back"),
        entry(26, Now, "a frozen clock"),
        entry(27, Now, "a rejected batch must not advance the clock"),
        entry(28, Now, "a jump to 2099 purges nothing"),
        entry(29, Failover, "the database restored from an old backup"),
        entry(30, Shared, "a PC returns after two months"),
        entry(31, Failover, "a disk cloned, both copies run"),
        entry(32, Failover, "database restored but not the node's state, and the reverse"),
        entry(33, Now, "restored beside a stale -wal"),
        entry(34, Failover, "the whole machine rolled back"),
        entry(35, Now, "the database file missing or empty"),
        entry(36, Now, "a column added to a large table makes no traffic"),
        entry(37, Shared, "sites on different versions of the application"),
        entry(38, Now, "a table rebuilt, its triggers gone"),
        entry(39, Now, "a column dropped or renamed with changes in flight"),
        entry(40, Shared, "the same UNIQUE value inserted at two sites"),
        entry(41, Shared, "parent deleted at one site, child added at another"),
        entry(42, Now, "REPLACE removes another row without a delete trigger"),
        entry(43, Now, "the application holds a write lock for ten minutes"),
        entry(44, Now, "one very large transaction"),
        entry(45, Shared, "the same item sold at two sites"),
        entry(46, Now, "odd values"),
        entry(47, Now, "applied changes are not captured again"),
        entry(48, Shared, "a relay forges another site's batch"),
        entry(49, Trust, "an old batch or epoch replayed"),
        entry(50, Trust, "two different batches told under one number"),
        entry(51, Trust, "bombs on the wire"),
        entry(52, Shared, "changes to a table that is not synced"),
        entry(53, Shared, "a timestamp at its maximum"),
        entry(54, Failover, "the database file encrypted"),
        entry(55, Failover, "mass change"),
        entry(56, Failover, "junk to push history out"),
        entry(57, Failover, "an infected site asks others to purge"),
        entry(58, Failover, "a destructive command at the wrong site"),
        entry(59, Failover, "failover with unsent changes"),
        entry(60, Failover, "a fenced site rejoins"),
        entry(61, Failover, "two people fail over at once"),
        entry(62, Now, "disk full"),
        entry(63, Now, "slow disk: 5 s an I/O"),
        entry(64, Now, "a batch that no applier can apply"),
    ]
};

/// The fault of that number.
pub fn entry_of(number: u8) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_up() {
        assert!(CATALOGUE.iter().zip(1..).all(|(entry, number)| entry.number == number));
        assert_eq!(entry_of(64).unwrap().number, 64);
        assert!(entry_of(65).is_none());
    }
}
