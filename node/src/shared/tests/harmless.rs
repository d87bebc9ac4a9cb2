//! Forgetting by the rules loses nothing: the same history is lived twice, once with dead rows
//! forgotten as soon as everybody's application is known to be without them, once with none. After
//! every step all applications see the same in both.

use super::histories::{Act, FIRST_WRITER, NUMBERED, SCHEMAS, SELF_REFERRING, act, perform, rules};
use super::site::{Batch, Site, site_id};
use crate::shared::Policy;
use crate::shared::forget::Round;
use crate::store::DatabaseNumber;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::collections::BTreeSet;

/// What may happen beside what the application does.
#[derive(Clone, Debug)]
enum Event {
    Act(Act),
    /// All that is to be had of a site is taken.
    Take(prop::sample::Index),
    /// The same, but the application's tables stay as they are.
    Merge(prop::sample::Index),
    /// All that is to be had is taken, and it is said that the application has it.
    Beat,
    /// Everybody does that, but for one who may be away.
    Round(prop::sample::Index),
    /// As many rows as may be are forgotten, or another round begins.
    Forget,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => act().prop_filter_map("of the application", |act| {
            let told = matches!(
                act,
                Act::Harvest | Act::Receive(_) | Act::MergeOnly(_) | Act::Forget(_) | Act::Keep
            );
            // Whoever switches foreign keys off may refer to a row that is long gone.
            let told = told || matches!(act, Act::Loosely(_));
            (!told).then_some(Event::Act(act))
        }),
        2 => any::<prop::sample::Index>().prop_map(Event::Take),
        2 => any::<prop::sample::Index>().prop_map(Event::Merge),
        3 => Just(Event::Beat),
        3 => any::<prop::sample::Index>().prop_map(Event::Round),
        3 => (any::<bool>(), 0..4_u8)
            .prop_map(|(table, id)| Event::Act(Act::Delete { table, id })),
        4 => Just(Event::Forget),
    ]
}

/// Keys whose rows were deleted. An application that gives such a key to another row is left out
/// where that is no longer told from reviving the first: of a number, since both rows are kept then,
/// under two numbers, and of a value that the first writer decides, since it is the first since.
#[derive(Default)]
struct Gone {
    deleted: BTreeSet<(bool, u8)>,
    /// Tables in which a REPLACE may have removed any row.
    replaced: BTreeSet<bool>,
}

impl Gone {
    fn comes_back(&mut self, event: &Event) -> bool {
        // 'k' and 'K' are one key where case does not count.
        let key = |table: &bool, id: &u8| (*table, if *id == 1 { 0 } else { *id });
        match event {
            Event::Act(Act::Delete { table, id }) => {
                self.deleted.insert(key(table, id));
                false
            }
            Event::Act(Act::Insert { table, id, .. }) => {
                self.deleted.contains(&key(table, id)) || self.replaced.contains(table)
            }
            Event::Act(Act::Replace { table, id, .. }) => {
                self.deleted.contains(&key(table, id)) || !self.replaced.insert(*table)
            }
            _ => false,
        }
    }
}

/// SQLite lets a REPLACE refer to no row, foreign keys or not, in a table that refers to itself
/// (seen with 3.40 and 3.54): so to one that is long gone.
fn may_refer_to_nothing(event: &Event) -> bool {
    matches!(event, Event::Act(Act::Replace { table: false, a, .. }) if *a > 0)
}

/// A group, and where its rounds stand.
struct Group {
    sites: Vec<Site>,
    forgets: bool,
    /// Of each site, what it had when its present round began.
    rounds: Vec<Vec<usize>>,
    forgotten: usize,
}

impl Group {
    fn live(&mut self, at: usize, event: &Event, schema: usize) {
        if let Event::Round(away) = event {
            let away = away.index(2 * self.sites.len());
            for at in (0..self.sites.len()).chain(0..self.sites.len()).filter(|at| *at != away) {
                self.live(at, &Event::Beat, schema);
            }
            return;
        }
        // As it is done: by one.
        let at = if matches!(event, Event::Forget) { 0 } else { at };
        // One clock: stamps are the same whether or not a row remembers older ones.
        let clock = self.sites.iter().map(|site| site.clock).max().unwrap() + 2;
        self.sites[at].clock = clock;
        let batches: Vec<Batch> = self.sites.iter().flat_map(|site| site.made.clone()).collect();
        let count = self.sites.len();
        let site = &mut self.sites[at];
        match event {
            Event::Act(act) => perform(site, schema, act),
            Event::Take(from) | Event::Merge(from) => {
                let from = from.index(count);
                let of = |batch: &&Batch| batch.origin == from;
                while let Some(batch) = batches.iter().filter(of).find(|it| site.can_take(it)) {
                    match event {
                        Event::Merge(_) => site.merge(batch),
                        _ => site.receive(batch),
                    }
                }
                // In both lives, whether or not there was something.
                if matches!(event, Event::Take(_)) {
                    site.harvest();
                }
            }
            Event::Beat => {
                site.receive_all(&batches);
                site.harvest();
                site.beat();
            }
            Event::Round(_) => {}
            Event::Forget => {
                site.receive_all(&batches);
                self.forget(at);
            }
        }
    }

    fn forget(&mut self, at: usize) {
        let site = &mut self.sites[at];
        // In both lives: it may number a batch.
        site.harvest();
        let database = DatabaseNumber(super::site::DATABASE);
        match Round::going_on(&site.store, database).unwrap() {
            None => {
                Round::begin(&site.store, database, &[]).unwrap();
                self.rounds[at] = site.vector().to_vec();
            }
            Some(round) if site.all_beat(&self.rounds[at]) && self.forgets => {
                let rows = round.rows(&site.store, database, 100).unwrap();
                self.forgotten += site.forget(rows);
            }
            Some(_) => {}
        }
        // What is at rest is written in either.
        site.harvest();
    }
}

#[test]
fn nothing_that_applications_see_is_lost() {
    let forgotten = Cell::new(0);
    let histories = (
        0..SCHEMAS.len(),
        0..3_usize,
        2..4_usize,
        prop::collection::vec((any::<prop::sample::Index>(), event()), 20..90),
    );
    let config = ProptestConfig { cases: 50, failure_persistence: None, ..Default::default() };
    TestRunner::new(config)
        .run(&histories, |(schema, number, count, events)| {
            let policy = Policy::from_entries(rules(number), site_id(0));
            let group = |forgets| Group {
                sites: Site::group(count, SCHEMAS[schema], &policy),
                forgets,
                rounds: vec![Vec::new(); count],
                forgotten: 0,
            };
            let (mut with, mut without) = (group(true), group(false));
            let mut gone = Gone::default();
            for (at, event) in &events {
                if (schema == NUMBERED || number == FIRST_WRITER) && gone.comes_back(event)
                    || schema == SELF_REFERRING && may_refer_to_nothing(event)
                {
                    continue;
                }
                for group in [&mut with, &mut without] {
                    group.live(at.index(count), event, schema);
                }
                let (site, other) = (&with.sites[at.index(count)], &without.sites[at.index(count)]);
                prop_assert_eq!(site.content(), other.content(), "after {:?}", event);
            }
            forgotten.set(forgotten.get() + with.forgotten);
            Ok(())
        })
        .unwrap();
    assert!(forgotten.get() > 0, "no row was forgotten");
}
