//! Random walks through merged states, wilder than sites would ever bring about: rows appear,
//! change, die, live again and vanish, in batches of any size, under random schemas.

use super::super::{Life, Meant, Reference, RowId, Table};
use super::books::{Books, Seen};
use super::checks;
use super::schema::{Kind, Schema};
use super::{Random, Seed, cases, first_seed, version};
use crate::Value;
use std::collections::BTreeSet;

#[test]
fn settle_equals_f_on_random_walks() {
    let mut seen = Seen::default();
    for seed in first_seed()..first_seed() + cases(1000) {
        let _named = Seed(seed);
        walk(&mut Random(seed), &mut seen);
    }
    seen.check();
}

fn walk(random: &mut Random, seen: &mut Seen) {
    let schema = Schema::random(random);
    let pool = pool(random, &schema);
    let mut books = Books::default();
    for _ in 0..12 {
        let mut touched = BTreeSet::new();
        for _ in 0..1 + random.below(3) {
            let id = random.pick(&pool).clone();
            match random.chance(8) {
                true => drop(books.rows.remove(&id)),
                false => change(random, &schema, &mut books, &id, &pool),
            }
            touched.insert(id);
        }
        books.settle(&schema, &touched);
    }
    checks::check(&schema, &books);
    seen.add(books.seen);
}

fn pool(random: &mut Random, schema: &Schema) -> Vec<RowId> {
    let mut pool = Vec::new();
    for (number, table) in schema.tables.iter().enumerate() {
        let number = Table(number as u32);
        for key in schema.keys(number) {
            let births = match table.collide {
                true => (0..2).map(|_| Some(random_version(random))).collect(),
                false => vec![None],
            };
            for birth in births {
                pool.push(RowId { table: number, key: vec![key.clone()], birth });
            }
        }
    }
    pool
}

fn random_version(random: &mut Random) -> crate::Version {
    version(1 + random.next() % 12, 1 + random.below(3))
}

/// Gives a row another merged state: altogether, or in one respect.
fn change(random: &mut Random, schema: &Schema, books: &mut Books, id: &RowId, pool: &[RowId]) {
    let columns = schema.table(id.table).columns.len();
    let meant = books.rows.entry(id.clone()).or_insert_with(|| Meant {
        life: Life::Live,
        rank: random_version(random),
        values: id.key.iter().cloned().chain((1..columns).map(|_| Value::Null)).collect(),
        references: Vec::new(),
        remembered: Vec::new(),
    });
    let all = meant.values[1..].iter().all(|value| *value == Value::Null) || random.chance(30);
    if all || random.chance(40) {
        meant.life = match random.below(20) {
            0..12 => Life::Live,
            12..19 => Life::Dead,
            _ => Life::Unborn,
        };
    }
    if all || random.chance(20) {
        meant.rank = random_version(random);
    }
    if all || random.chance(10) {
        meant.remembered.clear();
    }
    for column in 1..columns {
        if !all && !random.chance(40) {
            continue;
        }
        let nullable = schema.table(id.table).columns[column].nullable;
        if let Kind::Reference { table, foreign_key, .. } =
            schema.table(id.table).columns[column].kind
        {
            meant.references.retain(|reference| reference.foreign_key != foreign_key);
            let parents: Vec<&RowId> = pool.iter().filter(|row| row.table == table).collect();
            let parent = *random.pick(&parents);
            let null = random.chance(if nullable { 25 } else { 2 });
            meant.values[column] = if null { Value::Null } else { parent.key[0].clone() };
            if !null {
                meant.references.push(Reference { foreign_key, parent: parent.clone() });
            }
        } else {
            meant.values[column] = schema.random_value(random, id.table, column);
            if random.chance(5) {
                meant.remembered.push((column, schema.random_value(random, id.table, column)));
            }
        }
    }
}
