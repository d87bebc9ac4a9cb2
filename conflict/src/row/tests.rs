//! The row against a model that keeps every change, and against itself in other orders.

mod examples;
mod model;

use super::{Assignment, Change, Column, PackedRow, RowState};
use crate::{Rule, SiteId, Timestamp, Value, Version};
use model::{Answers, Model};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

type Changes = Vec<(Version, Change)>;

fn version(timestamp: u64, origin: u8) -> Version {
    let origin = SiteId::from_bytes([origin; 16]);
    Version { timestamp: Timestamp::try_from(timestamp).unwrap(), origin }
}

/// Few different values, so that equal ones meet.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => Just(Value::Null),
        4 => (-3_i64..4).prop_map(Value::Integer),
        1 => prop_oneof![Just(i64::MAX), Just(i64::MIN)].prop_map(Value::Integer),
        1 => prop_oneof![Just(0.1), Just(1e16), Just(f64::INFINITY), Just(f64::NEG_INFINITY)]
            .prop_map(Value::Real),
        1 => prop_oneof![Just("7"), Just("seven")].prop_map(Value::text),
        1 => Just(Value::Blob(vec![0x37])),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    (0_u8..8).prop_map(|number| Rule::try_from(number).unwrap())
}

fn any_change(columns: u32, rules: &[Rule]) -> impl Strategy<Value = Change> + use<> {
    let rules = rules.to_vec();
    let set = move || (any_value(), prop::sample::select(rules.clone()));
    let assignment = prop_oneof![
        1 => set().prop_map(|(value, rule)| Assignment::Set(value, rule)),
        1 => any_value().prop_map(Assignment::Add),
    ];
    prop_oneof![
        2 => btree_map(0..columns, set(), 0..4).prop_map(|sets| {
            let sets = sets.into_iter();
            Change::Insert(sets.map(|(at, (value, rule))| (Column(at), value, rule)).collect())
        }),
        6 => btree_map(0..columns, assignment, 1..3).prop_map(|assignments| {
            Change::Update(assignments.into_iter().map(|(at, to)| (Column(at), to)).collect())
        }),
        1 => Just(Change::Delete),
    ]
}

/// Changes of one row, by version: of several columns or of one, under several rules or few, so
/// that also what needs many changes of one kind happens.
fn any_changes() -> impl Strategy<Value = Changes> {
    let changes = (1_u32..4, vec(any_rule(), 1..6)).prop_flat_map(|(columns, rules)| {
        btree_map((1_u64..30, 1_u8..4), any_change(columns, &rules), 0..14)
    });
    changes.prop_map(|changes| {
        let changes = changes.into_iter();
        changes.map(|((time, origin), change)| (version(time, origin), change)).collect()
    })
}

/// Changes, and the same in another order, some of them twice.
fn shuffled() -> impl Strategy<Value = (Changes, Changes)> {
    any_changes().prop_flat_map(|changes| {
        let twice = vec(any::<prop::sample::Index>(), 0..4);
        twice.prop_flat_map(move |twice| {
            let mut more = changes.clone();
            if !changes.is_empty() {
                more.extend(twice.iter().map(|index| index.get(&changes).clone()));
            }
            (Just(changes.clone()), Just(more).prop_shuffle())
        })
    })
}

fn merged(changes: &[(Version, Change)]) -> RowState {
    let mut state = RowState::new();
    for (version, change) in changes {
        state.merge(*version, change);
    }
    state
}

fn joined(mut a: RowState, b: &RowState) -> RowState {
    a.join(b);
    a
}

fn packed(state: &RowState) -> Vec<u8> {
    let packed = state.pack(&mut |site| site.as_bytes()[0].into());
    rmp_serde::to_vec(&packed).unwrap()
}

fn unpacked(bytes: &[u8]) -> Option<RowState> {
    let packed = rmp_serde::from_slice::<PackedRow>(bytes).ok()?;
    let site = |number| u8::try_from(number).ok().map(|byte| SiteId::from_bytes([byte; 16]));
    RowState::unpack(&packed, &site).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn it_answers_as_the_definition_says((changes, _) in shuffled()) {
        let model = Model::of(&changes);
        prop_assert_eq!(Answers::of(&merged(&changes)), model.answers());
    }

    #[test]
    fn order_and_repetition_leave_no_trace((changes, others) in shuffled()) {
        prop_assert_eq!(merged(&changes), merged(&others));
    }

    #[test]
    fn grouping_leaves_no_trace(
        (changes, others) in shuffled(),
        parts in vec(0_usize..3, 18),
    ) {
        let mut groups = [const { Vec::new() }; 3];
        for (change, part) in others.into_iter().zip(parts) {
            groups[part].push(change);
        }
        let [a, b, c] = groups.map(|group| merged(&group));
        let left = joined(joined(a.clone(), &b), &c);
        prop_assert_eq!(&left, &joined(a.clone(), &joined(b.clone(), &c)));
        prop_assert_eq!(joined(a.clone(), &b), joined(b.clone(), &a));
        prop_assert_eq!(&joined(a.clone(), &a), &a);
        prop_assert_eq!(left, merged(&changes));
    }

    /// Whatever is folded, whenever, no answer changes: not then, not after any change above the
    /// bound, in any order.
    #[test]
    fn compaction_is_invisible(
        (changes, mut others) in shuffled(),
        span in 1_u64..31,
        bounds in vec(0_u64..34, 18),
    ) {
        // The less they are out of order, the more is stable on the way.
        others.sort_by_key(|(version, _)| version.timestamp.as_u64() / span);
        let mut plain = RowState::new();
        let mut compacted = RowState::new();
        let mut left = others.clone();
        for (bound, next) in bounds.into_iter().zip(&others) {
            plain.merge(next.0, &next.1);
            compacted.merge(next.0, &next.1);
            left.remove(0);
            // Stable is what lies below all that was not merged yet.
            let new = left.iter().filter(|change| !seen(&others[..others.len() - left.len()], change));
            let end = new.map(|(version, _)| *version).min();
            let bound = version(bound, 2);
            compacted.compact(&|version| version <= bound && end.is_none_or(|end| version < end));
            prop_assert_eq!(Answers::of(&compacted), Answers::of(&plain));
        }
        prop_assert_eq!(Answers::of(&compacted), Model::of(&changes).answers());
        prop_assert_eq!(unpacked(&packed(&compacted)), Some(compacted.clone()));
        // All is stable: nothing is kept singly, and what is repeated changes nothing.
        compacted.compact(&|_| true);
        prop_assert_eq!(Answers::of(&compacted), Answers::of(&plain));
        let last = compacted.clone();
        prop_assert!(!compacted.compact(&|_| true));
        for (version, change) in &changes {
            compacted.merge(*version, change);
        }
        prop_assert_eq!(Answers::of(&compacted), Answers::of(&last));
    }

    /// States that were compacted differently still join.
    #[test]
    fn compacted_states_join(
        changes in any_changes(),
        bounds in (0_usize..15, 0_usize..15),
        sides in vec(0_u8..3, 14),
    ) {
        let low = bounds.0.min(bounds.1).min(changes.len());
        let high = bounds.0.max(bounds.1).min(changes.len());
        // Each has all up to its own bound, and some of what lies above.
        let side = |bound: usize, side: u8| {
            let own = changes.iter().zip(&sides).enumerate().filter(|(at, (_, to))| {
                *at < bound || **to == side || **to == 2
            });
            let own: Vec<_> = own.map(|(_, (change, _))| change.clone()).collect();
            let mut state = merged(&own);
            if let Some((end, _)) = changes[..bound].last() {
                state.compact(&|version| version <= *end);
            }
            state
        };
        let (near, far) = (side(low, 0), side(high, 1));
        let expected = Model::of(&changes).answers();
        prop_assert_eq!(Answers::of(&joined(near.clone(), &far)), expected.clone());
        prop_assert_eq!(Answers::of(&joined(far, &near)), expected);
    }

    #[test]
    fn the_disk_gives_back_what_it_was_given(changes in any_changes()) {
        let state = merged(&changes);
        prop_assert_eq!(unpacked(&packed(&state)), Some(state));
    }

    #[test]
    fn damage_is_an_error_or_another_state(
        changes in any_changes(),
        compact in any::<bool>(),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut state = merged(&changes);
        if compact {
            state.compact(&|_| true);
        }
        let mut bytes = packed(&state);
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        if let Some(mut state) = unpacked(&bytes) {
            // What can be read can be worked with.
            for (version, change) in &changes {
                state.merge(*version, change);
            }
            state.compact(&|version| version.timestamp.as_u64() % 2 == 0);
            Answers::of(&state);
            prop_assert!(unpacked(&packed(&state)).is_some());
        }
    }

    /// Each set, add, insert and delete that was merged counts at the end, or was told to have
    /// lost, unless an equal value stands in its place.
    #[test]
    fn nothing_is_lost_silently((changes, others) in shuffled()) {
        let mut state = RowState::new();
        let mut told = Vec::new();
        for (version, change) in &others {
            for lost in state.merge(*version, change) {
                prop_assert_ne!(lost.winner, lost.version);
                told.push(lost);
            }
        }
        for (version, change) in &changes {
            model::every_loss_is_told(&state, *version, change, &told)?;
        }
    }
}

fn seen(before: &[(Version, Change)], change: &(Version, Change)) -> bool {
    before.iter().any(|(version, _)| *version == change.0)
}
