//! The desk's answers against those of a table with rows in it.

use super::*;
use crate::capture::inspect;
use proptest::prelude::*;

fn desk(sql: &str) -> Result<Desk, DeskError> {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(sql).unwrap();
    let schema = inspect(&connection, None).unwrap().schema;
    Desk::new(&schema, BTreeMap::from([(SiteId::from_bytes([1; 16]), "uptown".into())]))
}

fn text(text: &str) -> Value {
    Value::text(text)
}

fn row(table: u32, key: Vec<Value>) -> RowId {
    RowId { table: TableNumber(table), key, birth: None }
}

#[test]
fn what_the_table_refuses_is_not_accepted() {
    let desk = desk(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER CHECK (n > 0), s TEXT NOT NULL);
         CREATE TABLE u (id TEXT PRIMARY KEY, n INTEGER) STRICT, WITHOUT ROWID;",
    )
    .unwrap();
    let accepts = |table, values: &[Value]| desk.accepts(TableNumber(table), values).unwrap();
    assert!(accepts(0, &[Value::Integer(1), Value::Integer(5), text("x")]));
    assert!(!accepts(0, &[Value::Integer(1), Value::Integer(0), text("x")]));
    assert!(!accepts(0, &[Value::Integer(1), Value::Integer(5), Value::Null]));
    assert!(!accepts(0, &[text("no rowid"), Value::Integer(5), text("x")]));
    assert!(accepts(1, &[text("a"), Value::Integer(1)]));
    assert!(!accepts(1, &[text("a"), text("b")]));
    assert!(matches!(desk.accepts(TableNumber(2), &[]), Err(DeskError::Unknown(_))));
}

#[test]
fn what_the_schema_says_of_conflicts_changes_nothing() {
    let desk = self::desk(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a NOT NULL ON CONFLICT ROLLBACK,
                         b NOT NULL ON CONFLICT IGNORE,
                         c NOT NULL ON CONFLICT REPLACE DEFAULT 7,
                         d CHECK (abs(d) >= 0));",
    )
    .unwrap();
    let one = || Value::Integer(1);
    let accepts = |a, b, c, d| desk.accepts(TableNumber(0), &[one(), a, b, c, d]).unwrap();
    assert!(accepts(one(), one(), one(), one()));
    assert!(!accepts(Value::Null, one(), one(), one()));
    assert!(!accepts(one(), Value::Null, one(), one()));
    assert!(!accepts(one(), one(), Value::Null, one()));
    // What can't be evaluated is refused as well.
    assert!(!accepts(one(), one(), one(), Value::Integer(i64::MIN)));
    assert!(accepts(one(), one(), one(), one()));
}

#[test]
fn claims_are_equal_exactly_where_the_index_says_so() {
    let desk = desk(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT COLLATE NOCASE, b, paid INTEGER,
                         UNIQUE (a, b));
         CREATE UNIQUE INDEX lowered ON t (lower(b) DESC, b COLLATE RTRIM);
         CREATE UNIQUE INDEX open ON t (b) WHERE paid IS NULL;",
    )
    .unwrap();
    let [lowered, open, both] = desk.indexes(TableNumber(0)).unwrap()[..] else { panic!() };
    let values = |a, b, paid| vec![Value::Integer(1), a, b, paid];
    let claim = |index, a, b, paid| desk.claim(index, &values(a, b, paid)).unwrap();
    let null = || Value::Null;
    assert_eq!(
        claim(both, text("A"), Value::Integer(1), null()),
        claim(both, text("a"), Value::Real(1.0), null())
    );
    assert_ne!(
        claim(both, text("a"), text("B"), null()),
        claim(both, text("a"), text("b"), null())
    );
    assert_eq!(claim(both, text("a"), null(), null()), None);
    assert_eq!(
        claim(lowered, null(), text("Bo"), null()),
        claim(lowered, text("other"), text("Bo"), Value::Integer(1))
    );
    assert_ne!(
        claim(lowered, null(), text("Bo"), null()),
        claim(lowered, null(), text("bo"), null())
    );
    assert!(claim(open, null(), text("x"), null()).is_some());
    assert_eq!(claim(open, null(), text("x"), Value::Integer(7)), None);
}

#[test]
fn keys_are_claimed_under_their_collation() {
    let desk = desk(
        "CREATE TABLE t (code TEXT COLLATE NOCASE, year INT, x, PRIMARY KEY (code, year))
             WITHOUT ROWID;
         CREATE TABLE u (id INTEGER PRIMARY KEY)",
    )
    .unwrap();
    let claim = |table, key| desk.key_claim(&row(table, key)).unwrap();
    assert_eq!(
        claim(0, vec![text("Ab"), Value::Integer(1)]),
        claim(0, vec![text("aB"), Value::Real(1.0)])
    );
    assert_ne!(claim(1, vec![Value::Integer(1)]), claim(1, vec![Value::Integer(2)]));
}

#[test]
fn marks_go_where_text_can_stand_and_nobody_refers_to() {
    let desk = desk(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, code TEXT UNIQUE, mail VARCHAR(9) UNIQUE);
         CREATE TABLE child (id INTEGER PRIMARY KEY, code TEXT UNIQUE REFERENCES parent (code),
                             year INT, number TEXT NOT NULL, UNIQUE (year, number), UNIQUE (year));",
    )
    .unwrap();
    let remedies = |table| -> Vec<Remedy> {
        let indexes = desk.indexes(TableNumber(table)).unwrap();
        indexes.into_iter().map(|index| desk.remedy(index).unwrap()).collect()
    };
    assert_eq!(
        remedies(0),
        [Remedy::Park, Remedy::Mark { column: 3, nullable: false }, Remedy::Park],
        "child: code refers, number, year"
    );
    assert_eq!(
        remedies(1),
        [Remedy::Park, Remedy::Mark { column: 2, nullable: true }],
        "parent: code is referred to, mail"
    );
}

#[test]
fn marks_go_where_the_terms_of_an_index_name_text() {
    let desk = desk(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, number TEXT, state TEXT NOT NULL, year INT);
         CREATE UNIQUE INDEX a ON t (number) WHERE state = 'open';
         CREATE UNIQUE INDEX b ON t (year, lower(\"Number\"));
         CREATE UNIQUE INDEX c ON t (abs(year)) WHERE state = 'open';",
    )
    .unwrap();
    let indexes = desk.indexes(TableNumber(0)).unwrap();
    let remedies: Vec<Remedy> =
        indexes.into_iter().map(|index| desk.remedy(index).unwrap()).collect();
    let number = Remedy::Mark { column: 1, nullable: true };
    assert_eq!(remedies, [number, number, Remedy::Park]);
}

#[test]
fn references_name_the_parents_columns() {
    let desk = desk(
        "CREATE TABLE a (x INT, y TEXT, PRIMARY KEY (x, y));
         CREATE TABLE b (id INTEGER PRIMARY KEY, p INT, q TEXT, up INT REFERENCES b,
                         FOREIGN KEY (q, p) REFERENCES a (y, x), FOREIGN KEY (p, q) REFERENCES a);",
    )
    .unwrap();
    let values = [Value::Integer(9), Value::Integer(1), text("z"), Value::Null];
    let mut found = desk.references(TableNumber(1), &values).unwrap();
    found.sort_by_key(|referred| referred.by_key);
    let values = |pairs: &[(usize, Value)]| pairs.to_vec();
    assert_eq!(found.len(), 2, "NULL refers to nothing");
    assert_eq!(found[0].values, values(&[(1, text("z")), (0, Value::Integer(1))]));
    assert_eq!(found[1].values, values(&[(0, Value::Integer(1)), (1, text("z"))]));
    assert_eq!((found[0].by_key, found[1].by_key), (false, true));
    assert!(found.iter().all(|referred| referred.table == TableNumber(0)));
}

#[test]
fn what_cant_be_kept_safe_is_said() {
    let unfit = |sql| match desk(sql) {
        Err(DeskError::Unfit(what)) => what,
        other => panic!("{other:?}"),
    };
    assert!(unfit("CREATE TABLE t (a, b)").contains("no key"));
    let desk = desk("CREATE TABLE t (id INTEGER PRIMARY KEY)").unwrap();
    let stranger = SiteId::from_bytes([9; 16]);
    assert!(matches!(desk.code(stranger), Err(DeskError::NoCode(_))));
    assert_eq!(desk.code(SiteId::from_bytes([1; 16])).unwrap(), "uptown");
    assert!(
        unfit(
            "CREATE TABLE p (id INTEGER PRIMARY KEY);
             CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p (other));"
        )
        .contains("lacks"),
    );
    assert!(
        unfit(
            "CREATE TABLE p (id INTEGER PRIMARY KEY);
             CREATE TABLE c (id INTEGER PRIMARY KEY, p GENERATED ALWAYS AS (id + 1) REFERENCES p)"
        )
        .contains("generated"),
    );
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        (-2_i64..3).prop_map(Value::Integer),
        (-2_i32..3).prop_map(|n| Value::Real(f64::from(n) / 2.0)),
        "[aAbB \\x00]{0,3}".prop_map(|s| text(&s)),
        prop::collection::vec(0_u8..2, 0..2).prop_map(Value::Blob),
    ]
}

proptest! {
    /// Two rows have one claim exactly where SQLite does not let the second in.
    #[test]
    fn sqlite_agrees(
        a in any_value(), b in any_value(), c in any_value(), d in any_value(),
        collation in prop::sample::select(vec!["BINARY", "NOCASE", "RTRIM"]),
        kind in prop::sample::select(vec!["", "TEXT", "INTEGER", "REAL", "NUMERIC"]),
        on in prop::sample::select(vec!["a, b", "a || '', b", "a) WHERE (b IS NOT 1"]),
    ) {
        let sql = format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a {kind} COLLATE {collation}, b);
             CREATE UNIQUE INDEX i ON t ({on});"
        );
        let table = Connection::open_in_memory().unwrap();
        table.execute_batch(&sql).unwrap();
        let desk = desk(&sql).unwrap();
        let add = |id: i64, a: &Value, b: &Value| {
            let mut insert = table.prepare("INSERT INTO t VALUES (?, ?, ?)").unwrap();
            bind(&mut insert, &[Value::Integer(id), a.clone(), b.clone()]).unwrap();
            insert.raw_execute()
        };
        // As they are stored, with the column's affinity: that is what is merged.
        let stored = |id: i64| -> Vec<Value> {
            table
                .query_row("SELECT id, a, b FROM t WHERE id = ?", [id], |row| {
                    crate::sql::row_values(row, 0, 3)
                })
                .unwrap()
        };
        add(1, &a, &b).unwrap();
        let first = desk.claim(Index(0), &stored(1)).unwrap();
        let second = add(2, &c, &d);
        let refused = second.is_err();
        if refused {
            table.execute_batch("DROP INDEX i").unwrap();
            add(2, &c, &d).unwrap();
        }
        let second = desk.claim(Index(0), &stored(2)).unwrap();
        prop_assert_eq!(refused, first.is_some() && first == second);
    }
}
