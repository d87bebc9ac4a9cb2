//! Numbers by the definition, and sites that hand them out by SQLite's own AUTOINCREMENT.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn owns(residues: Residues, r: i64, number: i64) -> bool {
    residues.0 >> ((number / r) % 128) & 1 == 1
}

/// Few residues, many, none.
fn residues() -> impl Strategy<Value = Residues> {
    prop_oneof![
        any::<u128>().prop_map(Residues),
        (0..128_u32).prop_map(|one| Residues(1 << one)),
        proptest::collection::vec(0..128_u32, 0..4)
            .prop_map(|some| Residues(some.into_iter().fold(0, |all, one| all | 1 << one))),
        Just(Residues::ALL),
    ]
}

proptest! {
    #[test]
    fn the_next_own_start_is_the_least(residues in residues(), r in 1..9_i64, above in -9..3000_i64) {
        let start = next_own_start(residues, r, above);
        let least = (0..3000 / r + 130).map(|block| block * r)
            .find(|start| *start > above && owns(residues, r, *start));
        prop_assert_eq!(start, least);
    }

    #[test]
    fn near_the_end_nothing_overflows(residues in residues(), r in any::<i64>(), back in 0..99_999_i64) {
        let above = i64::MAX - back;
        if let Some(start) = next_own_start(residues, r, above) {
            prop_assert!(start > above && owns(residues, r, start) && start % r == 0);
        }
        if let Some(sequence) = raised(residues, r, above) {
            prop_assert!(sequence >= above && owns(residues, r, sequence + 1));
        }
        let room = room(residues, r, above, i64::MAX);
        prop_assert!((0..=back).contains(&room));
    }

    #[test]
    fn room_counts_own_numbers(residues in residues(), r in 1..9_i64, above in -9..2500_i64, limit in -9..2500_i64) {
        let counted = (above.max(0) + 1..limit).filter(|number| owns(residues, r, *number)).count();
        prop_assert_eq!(room(residues, r, above, limit), counted as i64);
    }

    #[test]
    fn once_raised_a_quarter_of_a_block_is_own(residues in residues(), r in 1..99_i64, top in -9..9999_i64) {
        prop_assume!(residues.0 != 0);
        let sequence = raised(residues, r, top);
        prop_assert!(sequence.is_none_or(|sequence| sequence >= top.max(0)));
        let next = sequence.unwrap_or(top.max(0)) + 1;
        prop_assert!((next..next + (r / 4).max(1)).all(|number| owns(residues, r, number)));
        // Nothing moves that need not.
        prop_assert_eq!(raised(residues, r, next - 1), None);
    }
}

#[test]
fn who_owns_everything_counts_on() {
    assert_eq!(raised(Residues::ALL, BLOCK, 0), None);
    assert_eq!(raised(Residues::ALL, BLOCK, BLOCK * 128 - 1), None);
    // Block 0 begins at 1.
    assert_eq!(raised(Residues(1), BLOCK, 0), None);
    assert_eq!(raised(Residues(2), BLOCK, 0), Some(BLOCK - 1));
    assert_eq!(next_own_start(Residues(1), BLOCK, -1), Some(0));
    assert_eq!(room(Residues::ALL, BLOCK, 0, LIMIT), LIMIT - 1);
    assert_eq!(next_own_start(Residues(0), BLOCK, 0), None);
    assert_eq!(next_own(Residues(1), 4, 2), Some(3));
    assert_eq!(next_own(Residues(1), 4, 3), Some(4 * 128));
    assert_eq!(next_own(Residues(0), 4, 3), None);
    assert_eq!(next_own(Residues::ALL, 1, i64::MAX), None);
    assert_eq!(next_own_start(Residues::ALL, 1, i64::MAX), None);
}

/// A site with an application's table and a node that knows it.
struct Site {
    connection: Connection,
    residues: Residues,
}

const TABLE: &str = "sale \"of\" rowid";

impl Site {
    fn new(residues: Residues) -> Self {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(&format!(
                "CREATE TABLE {} (rowid TEXT, \"its id\" INTEGER PRIMARY KEY AUTOINCREMENT)",
                quoted(TABLE)
            ))
            .unwrap();
        Self { connection, residues }
    }

    fn raise(&self) {
        raise(&self.connection, &[TABLE], self.residues, BLOCK).unwrap();
    }

    /// What the application's inserts are called.
    fn insert(&self, rows: u64) -> Vec<i64> {
        let sql = format!("INSERT INTO {} (rowid) VALUES ('own')", quoted(TABLE));
        let insert = |_| {
            self.connection.execute(&sql, []).unwrap();
            self.connection.last_insert_rowid()
        };
        (0..rows).map(insert).collect()
    }

    fn delete_greatest(&self) {
        let sql = format!(
            "DELETE FROM {0} WHERE \"its id\" = (SELECT max(\"its id\") FROM {0})",
            quoted(TABLE)
        );
        self.connection.execute(&sql, []).unwrap();
    }

    /// Rows of others enter.
    fn take(&self, numbers: &[i64]) {
        let sql = format!("INSERT OR IGNORE INTO {} VALUES ('other', ?1)", quoted(TABLE));
        for number in numbers {
            self.connection.execute(&sql, [number]).unwrap();
        }
        self.raise();
    }
}

/// Numbers whose order nobody would guess, the same in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Four sites, the last of which joins late: how many numbers were handed out, and how many of
/// them twice. `looks`: the node looks after so many transactions.
fn run(seed: u64, steps: u64, looks: u64) -> (usize, usize, i64) {
    let mut dice = Dice(seed);
    let (first, rest) = Residues::ALL.split(2);
    let (second, rest) = rest.split(2);
    let mut sites = vec![Site::new(first), Site::new(second), Site::new(rest)];
    sites.iter().for_each(Site::raise);
    let mut handed: BTreeMap<i64, usize> = BTreeMap::new();
    // Per site what it handed out; per pair how much of that has arrived.
    let mut own: Vec<Vec<i64>> = vec![Vec::new(); 4];
    let mut arrived = [[0_usize; 4]; 4];
    let mut twice = 0;
    for step in 0..steps {
        if step == steps / 2 {
            // The inviter hands over half of its own, and all that it has.
            let (kept, given) = sites[0].residues.split(2);
            sites[0].residues = kept;
            sites[0].raise();
            let late = Site::new(given);
            for from in 0..3 {
                let known = if from == 0 { own[0].len() } else { arrived[from][0] };
                late.take(&own[from][..known]);
                arrived[from][3] = known;
            }
            late.raise();
            sites.push(late);
        }
        let at = dice.throw(sites.len() as u64) as usize;
        match dice.throw(10) {
            0 => {
                let from = dice.throw(sites.len() as u64) as usize;
                sites[at].take(&own[from][arrived[from][at]..]);
                arrived[from][at] = own[from].len();
            }
            1 => sites[at].delete_greatest(),
            _ => {
                for number in sites[at].insert(1 + dice.throw(BLOCK as u64 / 4)) {
                    twice += usize::from(handed.insert(number, at).is_some());
                    own[at].push(number);
                }
                if dice.throw(looks) == 0 {
                    sites[at].raise();
                }
            }
        }
    }
    (handed.len(), twice, handed.last_key_value().map_or(0, |(greatest, _)| *greatest))
}

#[test]
fn no_two_sites_hand_out_one_number() {
    let mut all = 0;
    for seed in 1..=20 {
        let (handed, twice, greatest) = run(seed * 7919, 600, 1);
        assert_eq!(twice, 0, "seed {seed}");
        all += handed;
        println!("{handed} numbers, up to {greatest}");
    }
    assert!(all > 50_000, "{all}");
}

#[test]
fn a_node_that_looks_seldom_lets_blocks_be_overrun() {
    let (_, twice, _) = run(7919, 600, 50);
    assert!(twice > 0, "the run above could not fail");
}

#[test]
fn sqlite_sequence_is_found_made_and_never_lowered() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("CREATE TABLE plain (id INTEGER PRIMARY KEY, v)").unwrap();
    raise(&connection, &[], Residues(2), BLOCK).unwrap();
    assert!(!has_sequence(&connection).unwrap());
    assert_eq!(reached(&connection, "plain").unwrap(), 0);
    connection.execute_batch("INSERT INTO plain VALUES (7, 0)").unwrap();
    assert_eq!(reached(&connection, "plain").unwrap(), 7);
    // As if somebody had written AUTOINCREMENT into the schema.
    raise(&connection, &["plain"], Residues(2), BLOCK).unwrap();
    assert_eq!(reached(&connection, "plain").unwrap(), 255);

    connection.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v)").unwrap();
    let set = |sequence: &str| {
        connection.execute_batch(&format!("DELETE FROM sqlite_sequence; {sequence}")).unwrap();
        raise(&connection, &["t"], Residues(2), BLOCK).unwrap();
        connection.execute_batch("INSERT INTO t (v) VALUES (0)").unwrap();
        let handed = connection.last_insert_rowid();
        connection.execute_batch("DELETE FROM t").unwrap();
        handed
    };
    assert_eq!(set(""), 256);
    assert_eq!(set("INSERT INTO sqlite_sequence VALUES ('t', 270)"), 271);
    assert_eq!(set("INSERT INTO sqlite_sequence VALUES ('t', 450)"), 129 * 256);
    assert_eq!(set("INSERT INTO sqlite_sequence VALUES ('t', '390'), ('t', NULL)"), 391);
    assert_eq!(set("INSERT INTO sqlite_sequence VALUES ('t', NULL)"), 256);
    assert_eq!(set("INSERT INTO sqlite_sequence VALUES ('t', 'many')"), 256);
    assert_eq!(set("INSERT INTO t VALUES (-5, 0)"), 256);
    assert_eq!(set("INSERT INTO t VALUES (40000, 0)"), 257 * 256);
    assert!(raise(&connection, &["no such"], Residues(2), BLOCK).is_err());
    // Taken back with the transaction that it belongs to.
    connection.execute_batch("BEGIN; DELETE FROM sqlite_sequence").unwrap();
    raise(&connection, &["t"], Residues(4), BLOCK).unwrap();
    assert_eq!(reached(&connection, "t").unwrap(), 511);
    connection.execute_batch("ROLLBACK").unwrap();
    assert_eq!(reached(&connection, "t").unwrap(), 257 * 256);
}
