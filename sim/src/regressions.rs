//! Bugs that the simulator found in the node, each with the run that showed it. The runs are made
//! again for ever: `sim regressions`. A run changes with the simulator, so that a seed may lose its
//! point; the unit test named with it keeps it.

use crate::plan::{Request, Scenario};
use std::collections::BTreeSet;

/// A bug that was found and mended.
#[derive(Clone, Copy, Debug)]
pub struct Regression {
    /// Its name.
    pub name: &'static str,
    /// What went wrong, and why.
    pub story: &'static str,
    /// The test of the node, or of a small world, that shows it directly, if there is one.
    pub test: &'static str,
    scenario: &'static str,
    seed: u64,
    days: u32,
    sites: usize,
}

impl Regression {
    /// The run that showed it.
    pub fn request(&self) -> Request {
        let scenario = Scenario::named(self.scenario).map_or("mix", |scenario| scenario.name);
        let Self { seed, days, sites, .. } = *self;
        Request { seed, scenario, days, sites, without: BTreeSet::new() }
    }
}

/// All of them, the oldest first.
pub const REGRESSIONS: &[Regression] = &[
    Regression {
        name: "the schema moves again while rows wait for one another",
        story: "A table was rebuilt, which took its triggers; a REPLACE removed a row unseen; the \
                comparison found it only after an index had gone, and the schema's batch in the \
                middle settled rows that still waited: the copy refused them for good.",
        test: "apply::tests::schema::the_schema_moves_while_rows_stand_in_each_others_way",
        scenario: "mix",
        seed: 1,
        days: 3,
        sites: 3,
    },
    Regression {
        name: "a unique index that came and went between two looks",
        story: "CREATE UNIQUE INDEX, a REPLACE through it, DROP INDEX, all while a long reader \
                kept the node from looking: the row that went was never missed.",
        test: "capture::tests::schema::traps_1_and_6_a_unique_index_that_came_and_went_unseen",
        scenario: "quiet",
        seed: 14,
        days: 1,
        sites: 3,
    },
    Regression {
        name: "two sites dial one another in a storm",
        story: "A site with a full disk closed each connection as soon as it was made. The wait \
                before the next dial began anew whenever the other side had dialled: 30,000 \
                connections in an hour.",
        test: "",
        scenario: "mix",
        seed: 6,
        days: 2,
        sites: 3,
    },
    Regression {
        name: "SAFE beside an alarm that two computers use one key",
        story: "A clone's batches were taken for the site's own, since their numbers were the \
                same: the true site went on saying SAFE while its own alarm stood.",
        test: "",
        scenario: "cloned",
        seed: 3,
        days: 3,
        sites: 3,
    },
    Regression {
        name: "a commit whose sync failed, found again by the next process",
        story: "The last thing that a node did before it was killed was a commit whose sync failed. \
                The system took those pages for written; the next process read them from memory, \
                and all that it committed and acknowledged stood behind a gap in the -wal on the \
                disk: a power cut would have taken it.",
        test: "power::what_a_failed_sync_left_counts_only_once_it_is_durable",
        scenario: "mix",
        seed: 921,
        days: 3,
        sites: 3,
    },
    Regression {
        name: "a copy made anew of a damaged journal",
        story: "A bit of a batch in a carrier's journal had flipped, and the batch decoded all the \
                same. Long after, the copy was deleted and made anew of the journal: it showed rows \
                that its origin never had, for nobody compared the batch with its hash.",
        test: "engine::tests::a_batch_that_rotted_on_the_disk_is_not_shown",
        scenario: "mix",
        seed: 799,
        days: 3,
        sites: 3,
    },
    Regression {
        name: "a damaged batch that hid everything else",
        story: "`status` reads in the journal since when a peer lacks something. One batch there \
                that could not be read was enough for it to tell nothing at all.",
        test: "engine::tests::a_batch_that_rotted_on_the_disk_keeps_nothing_else_from_being_told",
        scenario: "mix",
        seed: 735,
        days: 3,
        sites: 3,
    },
    Regression {
        name: "a rollback journal comes back after its commit was numbered",
        story: "A database without a write-ahead log commits by removing its journal. The node read \
                the commit and numbered it; the power failed before the removal was durable, the \
                journal came back, and the application's file had never seen what others held.",
        test: "a_rollback_journal_comes_back_unless_its_removal_is_synced (sim, disk)",
        scenario: "mix",
        seed: 904,
        days: 3,
        sites: 3,
    },
    Regression {
        name: "a clock in 2099",
        story: "Stamps end in 2093, and a clock beyond that was stamped with the very end. Sites that \
                write one database refuse such stamps, since nothing could follow them: all that \
                the site wrote was set aside by the others for good.",
        test: "clock::tests::a_clock_beyond_the_format_leaves_room_above",
        scenario: "shared-clocks",
        seed: 3,
        days: 1,
        sites: 3,
    },
    Regression {
        name: "a batch rots before it is merged",
        story: "A bit flipped in a batch of another site's branch that lay in the journal and was not \
                merged yet. Nothing of that branch was ever merged again, though others had it whole; \
                and one that rotted and still decoded would have been merged.",
        test: "engine::tests::rotting",
        scenario: "shared-mix",
        seed: 539,
        days: 1,
        sites: 3,
    },
    Regression {
        name: "a batch rots whose schema later ones need",
        story: "The same in a batch that was merged and is read again for the schema that it brought.",
        test: "engine::tests::rotting",
        scenario: "shared-mix",
        seed: 928,
        days: 1,
        sites: 3,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_names_a_scenario_that_there_is() {
        for regression in REGRESSIONS {
            assert!(Scenario::named(regression.scenario).is_some(), "{}", regression.name);
        }
    }
}
