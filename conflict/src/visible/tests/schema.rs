//! Random small schemas, and the constraints that follow from them.

use super::super::{Claim, Constraints, ForeignKey, Index, Remedy, RowId, Table};
use super::Random;
use crate::{SiteId, Value};
use std::convert::Infallible;

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Text { longest: Option<usize> },
    Integer,
    Reference { table: Table, foreign_key: ForeignKey, keep_parent: bool },
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) kind: Kind,
    pub(super) nullable: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Unique {
    pub(super) table: Table,
    pub(super) columns: Vec<usize>,
    pub(super) nocase: bool,
    /// Only rows whose text in this column isn't 'b' are in the index.
    pub(super) partial: Option<usize>,
    /// An index on the first two bytes of each text.
    pub(super) prefix: bool,
    /// Whether a nullable integer is shown as NULL when lost; otherwise the row is parked.
    pub(super) null_integers: bool,
}

#[derive(Clone, Debug)]
pub(super) struct TableSchema {
    /// One key may mean two rows.
    pub(super) collide: bool,
    /// Keys are text, and equal but for case means equal.
    pub(super) nocase_key: bool,
    /// The key is column 0.
    pub(super) columns: Vec<Column>,
}

#[derive(Clone, Debug)]
pub(super) struct Schema {
    pub(super) tables: Vec<TableSchema>,
    pub(super) indexes: Vec<Unique>,
}

pub(super) const TEXTS: [&str; 8] = ["a", "A", "b", "ab", "a~u~1", "a~u~1~2", "b~v~a", "A~U~2"];

impl Schema {
    pub(super) fn random(random: &mut Random) -> Self {
        let mut schema = Self { tables: Vec::new(), indexes: Vec::new() };
        let tables = 1 + random.below(3);
        let mut foreign_keys = 0;
        for number in 0..tables {
            let nocase_key = random.chance(30);
            let key = match nocase_key {
                true => Kind::Text { longest: None },
                false => Kind::Integer,
            };
            let mut columns = vec![Column { kind: key, nullable: false }];
            for _ in 0..1 + random.below(4) {
                let kind = match random.below(10) {
                    0..6 => Kind::Text { longest: random.chance(15).then(|| 2 + random.below(5)) },
                    6 => Kind::Integer,
                    _ => {
                        foreign_keys += 1;
                        Kind::Reference {
                            table: Table(random.below(tables) as u32),
                            foreign_key: ForeignKey(foreign_keys),
                            keep_parent: random.chance(80),
                        }
                    }
                };
                columns.push(Column { kind, nullable: random.chance(60) });
            }
            for _ in 0..*random.pick(&[0, 1, 1, 2, 2]) {
                schema.indexes.push(Unique::random(random, Table(number as u32), &columns));
            }
            schema.tables.push(TableSchema { collide: random.chance(40), nocase_key, columns });
        }
        schema
    }

    pub(super) fn table(&self, table: Table) -> &TableSchema {
        &self.tables[table.0 as usize]
    }

    pub(super) fn keys(&self, table: Table) -> Vec<Value> {
        match self.table(table).nocase_key {
            true => ["a", "A", "b"].map(Value::text).to_vec(),
            false => [1, 2, 3, 4, 5].map(Value::Integer).to_vec(),
        }
    }

    /// A value for a column that is no reference.
    pub(super) fn random_value(&self, random: &mut Random, table: Table, column: usize) -> Value {
        let column = &self.table(table).columns[column];
        if column.nullable && random.chance(20) {
            return Value::Null;
        }
        match column.kind {
            Kind::Text { .. } if random.chance(50) => Value::text(TEXTS[random.below(4)]),
            Kind::Text { .. } => Value::text(TEXTS[random.below(8)]),
            _ => Value::Integer(1 + random.below(3) as i64),
        }
    }
}

impl Unique {
    fn random(random: &mut Random, table: Table, columns: &[Column]) -> Self {
        let mut chosen = vec![1 + random.below(columns.len() - 1)];
        if random.chance(40) {
            let other = 1 + random.below(columns.len() - 1);
            if !chosen.contains(&other) {
                chosen.push(other);
            }
        }
        let texts = (1..columns.len()).filter(|c| matches!(columns[*c].kind, Kind::Text { .. }));
        let texts: Vec<usize> = texts.collect();
        Self {
            table,
            columns: chosen,
            nocase: random.chance(40),
            partial: (!texts.is_empty() && random.chance(30)).then(|| *random.pick(&texts)),
            prefix: random.chance(15),
            null_integers: random.chance(50),
        }
    }
}

fn folded(value: &Value, nocase: bool, prefix: bool) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(bytes) => {
            let mut text = String::from_utf8(bytes.clone()).unwrap();
            if prefix {
                text.truncate(2);
            }
            Some(if nocase { text.to_ascii_lowercase() } else { text })
        }
        other => Some(format!("{other:?}")),
    }
}

impl Constraints for Schema {
    type Error = Infallible;

    fn indexes(&self, table: Table) -> Result<Vec<Index>, Infallible> {
        let numbers = (0..self.indexes.len()).filter(|at| self.indexes[*at].table == table);
        Ok(numbers.map(|at| Index(at as u32)).collect())
    }

    fn claim(&self, index: Index, values: &[Value]) -> Result<Option<Claim>, Infallible> {
        let index = &self.indexes[index.0 as usize];
        if index.partial.is_some_and(|column| values[column] == Value::text("b")) {
            return Ok(None);
        }
        let parts = index.columns.iter();
        let parts = parts.map(|column| folded(&values[*column], index.nocase, index.prefix));
        let parts: Option<Vec<String>> = parts.collect();
        Ok(parts.map(|parts| Claim(parts.join("\0").into_bytes())))
    }

    fn key_claim(&self, row: &RowId) -> Result<Claim, Infallible> {
        let nocase = self.table(row.table).nocase_key;
        Ok(Claim(folded(&row.key[0], nocase, false).unwrap().into_bytes()))
    }

    fn remedy(&self, index: Index) -> Result<Remedy, Infallible> {
        let index = &self.indexes[index.0 as usize];
        let columns = &self.table(index.table).columns;
        for column in index.columns.iter().copied() {
            if let Kind::Text { .. } = columns[column].kind {
                return Ok(Remedy::Mark { column, nullable: columns[column].nullable });
            }
        }
        for column in index.columns.iter().copied() {
            let Column { kind, nullable } = &columns[column];
            if matches!(kind, Kind::Integer) && *nullable && index.null_integers {
                return Ok(Remedy::Null { column });
            }
        }
        Ok(Remedy::Park)
    }

    fn accepts(&self, table: Table, values: &[Value]) -> Result<bool, Infallible> {
        let columns = self.table(table).columns.iter().zip(values);
        Ok(columns.into_iter().all(|(column, value)| match (&column.kind, value) {
            (_, Value::Null) => column.nullable,
            (Kind::Text { longest }, Value::Text(text)) => longest.is_none_or(|n| text.len() <= n),
            _ => true,
        }))
    }

    fn keeps_parent(&self, foreign_key: ForeignKey) -> Result<bool, Infallible> {
        let columns = self.tables.iter().flat_map(|table| &table.columns);
        let mut found = columns.filter_map(|column| match column.kind {
            Kind::Reference { foreign_key: known, keep_parent, .. } => {
                (known == foreign_key).then_some(keep_parent)
            }
            _ => None,
        });
        Ok(found.next().unwrap())
    }

    fn code(&self, site: SiteId) -> Result<String, Infallible> {
        Ok(["t", "u", "v", "w", "x", "y"][usize::from(site.as_bytes()[0]) % 6].to_owned())
    }
}
