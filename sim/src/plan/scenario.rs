//! The scenarios: which faults a run draws from, and how its sites live. `mix` has them all.

use super::fault::{At, Fault, Old, Step};
use crate::random::Random;

/// A way of drawing one fault: the sites are chosen by the plan, distinct, `sites` of them.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// How many sites it is about.
    pub sites: usize,
    /// How often it is drawn, beside the others.
    pub weight: u64,
    /// Whether the mix draws it; else only scenarios that name it.
    pub in_mix: bool,
    /// Makes it.
    pub draw: fn(&[At], &mut Random) -> Fault,
}

/// How the sites of a scenario live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Nights of ten on which a PC is switched off properly.
    pub shut_down: u64,
    /// Nights of ten on which its plug is pulled.
    pub plugged: u64,
    /// Whether all boot in the same second in the morning.
    pub rush: bool,
    /// Whether all sites but the first sit behind routers that let nobody in.
    pub behind_nat: bool,
    /// Faults a day: at least, and how many more at most.
    pub faults: (u64, u64),
    /// Whether all of them write one database.
    pub shared: bool,
    /// Whether little is done, at uneven hours.
    pub light: bool,
}

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The names of the kinds it draws from; all for the mix.
    pub kinds: &'static [&'static str],
    /// How the sites live.
    pub life: Life,
}

const ORDINARY: Life = Life {
    shut_down: 5,
    plugged: 2,
    rush: false,
    behind_nat: false,
    faults: (2, 4),
    shared: false,
    light: false,
};

const SHARED: Life = Life { shared: true, ..ORDINARY };

/// All kinds of faults.
pub const KINDS: &[Kind] = &[
    kind("bad-lines", 0, 3, |_, _| Fault::BadLines),
    kind("one-way", 2, 3, |at, _| Fault::OneWay(at[0], at[1])),
    kind("partition", 2, 4, |at, _| Fault::Partition(at[0], at[1])),
    kind("isolated", 1, 4, |at, _| Fault::Isolated(at[0])),
    kind("flapping", 2, 2, |at, _| Fault::Flapping(at[0], at[1])),
    kind("satellite", 2, 2, |at, _| Fault::Satellite(at[0], at[1])),
    kind("new-address", 1, 3, |at, _| Fault::NewAddress(at[0])),
    kind("small-packets", 2, 2, |at, _| Fault::SmallPackets(at[0], at[1])),
    kind("udp-blocked", 1, 2, |at, _| Fault::UdpBlocked(at[0])),
    kind("shifts", 3, 2, |at, _| Fault::Shifts(at[0], at[1], at[2])),
    kind("plug", 1, 4, |at, _| Fault::Plug(at[0])),
    kind("fuse", 1, 6, |at, random| Fault::Fuse(at[0], 1 + random.below(300))),
    kind("fuse-number", 1, 4, |at, random| Fault::FuseIn(at[0], Step::Number, few(random))),
    kind("fuse-store", 1, 4, |at, random| Fault::FuseIn(at[0], Step::Store, few(random))),
    kind("fuse-apply", 1, 4, |at, random| Fault::FuseIn(at[0], Step::Apply, few(random))),
    kind("after-apply", 1, 3, |at, _| Fault::AfterApply(at[0])),
    kind("crash-twice", 1, 3, |at, random| Fault::CrashTwice(at[0], 1 + random.below(25))),
    kind("kill", 1, 4, |at, _| Fault::Kill(at[0])),
    kind("wrong-reads", 1, 2, |at, _| Fault::WrongReads(at[0])),
    kind("sync-errors", 1, 3, |at, _| Fault::SyncErrors(at[0])),
    kind("disk-errors", 1, 3, |at, _| Fault::DiskErrors(at[0])),
    kind("disk-full", 1, 3, |at, _| Fault::DiskFull(at[0])),
    kind("slow-disk", 1, 2, |at, _| Fault::SlowDisk(at[0])),
    kind("node-down", 1, 3, |at, _| Fault::NodeDown(at[0])),
    kind("dead-battery", 1, 2, |at, _| Fault::DeadBattery(at[0])),
    kind("year-2036", 1, 1, |at, _| Fault::Year(at[0], 2036)),
    kind("year-2099", 1, 1, |at, _| Fault::Year(at[0], 2099)),
    kind("fast-clock", 1, 1, |at, random| Fault::Skewed(at[0], far(random))),
    kind("slow-clock", 1, 1, |at, random| Fault::Skewed(at[0], -far(random))),
    kind("drift", 1, 1, |at, random| Fault::Drifting(at[0], 500 - random.below(1000) as i64)),
    kind("hour-back", 1, 2, |at, _| Fault::HourBack(at[0])),
    kind("frozen-clock", 1, 2, |at, _| Fault::Frozen(at[0])),
    kind("flipped-batch", 3, 2, |at, _| Fault::Flipped {
        carrier: at[0],
        origin: at[1],
        asker: at[2],
    }),
    kind("stale-wal", 1, 2, |at, _| Fault::StaleWal(at[0])),
    kind("missing-file", 1, 2, |at, _| Fault::Missing(at[0])),
    kind("emptied-file", 1, 2, |at, _| Fault::Emptied(at[0])),
    kind("lock-held", 1, 3, |at, _| Fault::LockHeld(at[0])),
    kind("bulk", 1, 2, |at, _| Fault::Bulk(at[0])),
    kind("long-reader", 1, 3, |at, _| Fault::LongReader(at[0])),
    kind("unappliable", 1, 1, |at, _| Fault::Unappliable(at[0])),
    kind("absence", 1, 1, |at, random| Fault::Absence(at[0], 1 + random.below(2) as u32)),
    apart("upgraded", 1, |at, _| Fault::Upgraded(at[0])),
    apart("forged-batch", 3, |at, _| Fault::Forged { carrier: at[0], origin: at[1], asker: at[2] }),
    apart("meddled", 1, |at, _| Fault::Meddled(at[0])),
    apart("fuse-merge", 1, |at, random| Fault::FuseIn(at[0], Step::Merge, few(random))),
    apart("disk-lost", 1, |at, _| Fault::Burned(at[0])),
    apart("undone", 1, |at, _| Fault::Undone(at[0])),
    apart("old-backup", 1, |at, _| Fault::PutBack(at[0], Old::Backup)),
    apart("old-database", 1, |at, _| Fault::PutBack(at[0], Old::Database)),
    apart("old-directory", 1, |at, _| Fault::PutBack(at[0], Old::Directory)),
    apart("old-machine", 1, |at, _| Fault::PutBack(at[0], Old::Machine)),
    apart("cloned", 1, |at, random| Fault::Cloned {
        site: at[0],
        clone_first: random.below(2) == 0,
    }),
    apart("rotten-batch", 2, |at, _| Fault::RottenBatch { origin: at[0], asker: at[1] }),
    apart("rotten-base", 2, |at, _| Fault::RottenBase { origin: at[0], asker: at[1] }),
];

/// All scenarios; the first is what runs unless another is asked for.
pub const SCENARIOS: &[Scenario] = &[
    scenario("mix", "everything, some faults a day", &[]),
    Scenario {
        life: Life { shut_down: 6, plugged: 4, faults: (0, 0), ..ORDINARY },
        ..scenario("nightly-shutdown", "every PC is off every night, some by the plug", &["plug"])
    },
    scenario(
        "partition",
        "cuts, both ways and one way",
        &["partition", "one-way", "isolated", "udp-blocked", "small-packets"],
    ),
    scenario(
        "power-cut",
        "the power fails at any moment, also while recovering",
        &[
            "plug",
            "fuse",
            "fuse-number",
            "fuse-store",
            "fuse-apply",
            "after-apply",
            "crash-twice",
            "kill",
        ],
    ),
    scenario(
        "bad-clock",
        "clocks in 1970, 2036, 2099, skewed, drifting, frozen, stepping",
        &[
            "dead-battery",
            "year-2036",
            "year-2099",
            "fast-clock",
            "slow-clock",
            "drift",
            "hour-back",
            "frozen-clock",
            "plug",
            "flipped-batch",
        ],
    ),
    scenario(
        "flapping-link",
        "lines that come and go, slow and lossy ones, addresses that change",
        &["flapping", "bad-lines", "satellite", "new-address", "small-packets"],
    ),
    Scenario {
        life: Life { faults: (0, 1), ..ORDINARY },
        ..scenario("long-absence", "one PC stays off for weeks", &["long-absence", "partition"])
    },
    scenario(
        "app-power-cut",
        "the power fails inside the application's own transactions",
        &["fuse", "bulk", "lock-held", "long-reader", "node-down"],
    ),
    Scenario {
        life: Life { behind_nat: true, ..ORDINARY },
        ..scenario(
            "relay-only",
            "routers let nobody in: changes travel through one site",
            &["shifts", "new-address", "isolated", "plug"],
        )
    },
    Scenario {
        life: Life { shut_down: 7, plugged: 3, rush: true, faults: (0, 2), ..ORDINARY },
        ..scenario("morning-rush", "all boot in the same second", &["isolated", "bad-lines"])
    },
    scenario(
        "bad-disk",
        "errors, wrong reads, no space, slowness",
        &["wrong-reads", "sync-errors", "disk-errors", "disk-full", "slow-disk", "plug"],
    ),
    scenario(
        "lost-files",
        "the database's file is exchanged, emptied or gone",
        &["stale-wal", "missing-file", "emptied-file", "plug"],
    ),
    scenario(
        "busy-shop",
        "locks, long readers, large transactions, a node that is down",
        &["lock-held", "bulk", "long-reader", "node-down", "unappliable", "kill"],
    ),
    scenario("fire", "one site burns down", &["fire", "isolated", "plug"]),
    scenario(
        "disk-lost",
        "a disk is lost in the middle of the day",
        &["disk-lost", "isolated", "plug"],
    ),
    scenario(
        "going-back",
        "databases, nodes and whole PCs put back from old copies, or undone by a power cut",
        &[
            "undone",
            "old-backup",
            "old-database",
            "old-directory",
            "old-machine",
            "isolated",
            "plug",
            "kill",
        ],
    ),
    scenario("cloned", "a disk is cloned, and both copies run", &["cloned", "isolated", "plug"]),
    scenario(
        "rot",
        "bits flip in journals and bases",
        &["rotten-batch", "rotten-base", "isolated", "plug"],
    ),
    Scenario {
        life: SHARED,
        ..scenario(
            "shared",
            "all sites write one database, and are cut off from one another",
            &[
                "partition",
                "one-way",
                "isolated",
                "udp-blocked",
                "bad-lines",
                "satellite",
                "shifts",
            ],
        )
    },
    Scenario {
        life: SHARED,
        ..scenario(
            "shared-power",
            "all sites write one database, and their power fails at any moment",
            &[
                "partition",
                "isolated",
                "plug",
                "fuse",
                "fuse-number",
                "fuse-store",
                "fuse-merge",
                "after-apply",
                "crash-twice",
                "kill",
                "node-down",
                "absence",
            ],
        )
    },
    Scenario {
        life: SHARED,
        ..scenario(
            "shared-clocks",
            "all sites write one database, and clocks are wrong in every way",
            &[
                "dead-battery",
                "year-2036",
                "year-2099",
                "fast-clock",
                "slow-clock",
                "drift",
                "hour-back",
                "frozen-clock",
                "plug",
                "partition",
                "flipped-batch",
            ],
        )
    },
    Scenario {
        life: SHARED,
        ..scenario(
            "shared-disk",
            "all sites write one database, on disks with errors, without space, slow",
            &["sync-errors", "disk-errors", "disk-full", "slow-disk", "plug", "isolated"],
        )
    },
    Scenario {
        life: SHARED,
        ..scenario(
            "shared-busy",
            "all sites write one database: locks, long readers, large transactions, new versions",
            &["lock-held", "bulk", "long-reader", "node-down", "kill", "upgraded", "isolated"],
        )
    },
    Scenario {
        life: SHARED,
        ..scenario(
            "shared-forgery",
            "all sites write one database; carriers forge batches, and members publish what no node \
             would",
            &["flipped-batch", "forged-batch", "meddled", "shifts", "isolated", "plug"],
        )
    },
    Scenario {
        life: Life { faults: (0, 1), light: true, ..SHARED },
        ..scenario(
            "shared-long-absence",
            "all sites write one database, and one PC stays off for weeks",
            &["long-absence", "partition"],
        )
    },
    Scenario {
        life: Life { faults: (0, 1), light: true, behind_nat: true, ..SHARED },
        ..scenario(
            "shared-month",
            "many sites write one database at uneven hours, through one of them: for 20 sites and \
             30 days",
            &["isolated", "plug", "kill"],
        )
    },
    Scenario {
        life: SHARED,
        ..scenario(
            "shared-mix",
            "all sites write one database, and everything happens that a node meets then",
            &[
                "bad-lines",
                "one-way",
                "partition",
                "isolated",
                "satellite",
                "new-address",
                "small-packets",
                "udp-blocked",
                "shifts",
                "plug",
                "fuse",
                "fuse-number",
                "fuse-store",
                "fuse-merge",
                "after-apply",
                "crash-twice",
                "kill",
                "sync-errors",
                "disk-errors",
                "disk-full",
                "slow-disk",
                "node-down",
                "dead-battery",
                "year-2036",
                "year-2099",
                "fast-clock",
                "slow-clock",
                "drift",
                "hour-back",
                "frozen-clock",
                "flipped-batch",
                "forged-batch",
                "meddled",
                "lock-held",
                "bulk",
                "long-reader",
                "upgraded",
                "absence",
            ],
        )
    },
    Scenario {
        life: Life { faults: (0, 0), ..ORDINARY },
        ..scenario("quiet", "nothing happens but work and nights", &[])
    },
];

const fn kind(
    name: &'static str,
    sites: usize,
    weight: u64,
    draw: fn(&[At], &mut Random) -> Fault,
) -> Kind {
    Kind { name, sites, weight, in_mix: true, draw }
}

/// One that the mix does not draw: the node does not yet set right by itself what it does.
const fn apart(name: &'static str, sites: usize, draw: fn(&[At], &mut Random) -> Fault) -> Kind {
    Kind { name, sites, weight: 6, in_mix: false, draw }
}

const fn scenario(
    name: &'static str,
    about: &'static str,
    kinds: &'static [&'static str],
) -> Scenario {
    Scenario { name, about, kinds, life: ORDINARY }
}

fn few(random: &mut Random) -> u64 {
    1 + random.below(12)
}

/// Seconds between one and thirty days.
fn far(random: &mut Random) -> i64 {
    (1 + random.below(30)) as i64 * 86_400
}

/// The scenario that brings about a fault of that number, though the mix does not.
pub fn apart_from_the_mix(number: u8) -> Option<&'static str> {
    let places = [At(0), At(1), At(2)];
    let brings = |kind: &&Kind| {
        let mut random = Random::new(0, kind.name);
        !kind.in_mix && (kind.draw)(&places[..kind.sites], &mut random).numbers().contains(&number)
    };
    let kind = KINDS.iter().find(brings)?;
    let named = SCENARIOS.iter().find(|scenario| scenario.kinds.contains(&kind.name))?;
    Some(named.name)
}

impl Scenario {
    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// The kinds of faults that it draws from.
    pub fn kinds(&self) -> Vec<&'static Kind> {
        let drawn = |kind: &&Kind| match self.kinds.is_empty() {
            true => kind.in_mix,
            false => self.kinds.contains(&kind.name),
        };
        KINDS.iter().filter(drawn).collect()
    }
}
