//! Bringing what all sites say of a shared database together, a bounded step at a time.
//!
//! A stand-in as yet: what the founder began with counts, and nothing that came after it.

use super::{Engine, EngineError};
use crate::capture::pack;
use crate::store::{DatabaseNumber, databases};
use conflict::{Value, Version, WallTime};
use protocol::Sequence;
use protocol::change::Operation;
use protocol::schema::{RowIdentity, Table};
use protocol::session::LocalBranch;
use protocol::snapshot::decode_chunk;

/// What a step of a shared database came to.
#[derive(Debug)]
pub enum SharedStep {
    /// It went on, in these branches; there may be more to do.
    Moved(Vec<LocalBranch>),
    /// All that can be merged is, and the application sees it.
    Even,
    /// Somebody is at the application's file: to be tried again in a moment.
    Busy,
    /// It can't go on; an alarm says why.
    Stuck,
}

/// A row as the application should see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// Where to go on behind it.
    pub cursor: Vec<u8>,
    /// The values that tell it apart.
    pub key: Vec<Value>,
    /// Its birth, where one key may mean several rows.
    pub birth: Option<Version>,
    /// All its columns.
    pub row: Vec<Value>,
}

impl Engine {
    /// One step of a shared database.
    ///
    /// # Errors
    /// The store fails.
    pub fn step_shared(&mut self, number: DatabaseNumber) -> Result<SharedStep, EngineError> {
        let founder = self.store.founding_branch(number)?;
        let Some(founder) = founder.filter(|branch| branch.applied < branch.base) else {
            return Ok(SharedStep::Even);
        };
        databases::set_applied(self.store.connection(), founder.number, founder.base, WallTime(0))?;
        let moved = self.store.branch_numbered(founder.number)?;
        Ok(SharedStep::Moved(vec![self.local_branch(&moved)?]))
    }

    /// Rows of a table that the application should see, up to `limit` of them behind `after`.
    ///
    /// # Errors
    /// The store fails.
    pub fn visible_forms(
        &mut self,
        number: DatabaseNumber,
        table: &str,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Form>, EngineError> {
        let founder = self.store.founding_branch(number)?;
        let founder = founder.filter(|branch| branch.applied > Sequence::ZERO);
        let Some(founder) = founder else { return Ok(Vec::new()) };
        let Some(signed) = self.store.manifest(founder.number)? else { return Ok(Vec::new()) };
        let schema = &signed.manifest().schema;
        let Some(index) = schema.find(table) else { return Ok(Vec::new()) };
        let Some(table) = schema.table(index) else { return Ok(Vec::new()) };
        let file = self.base_file(founder.id)?;
        let mut forms = Vec::new();
        for chunk in 0..file.count()? {
            let bytes = file.chunk(chunk)?.unwrap_or_default();
            let body = decode_chunk(&bytes, &self.limits)
                .map_err(|error| EngineError::Encoding(error.to_string()))?;
            for change in body.changes.into_iter().filter(|change| change.table == index) {
                let Operation::Insert(others) = change.operation else { continue };
                let row = whole(table, &change.key, others);
                forms.push(Form { cursor: pack(&change.key), key: change.key, birth: None, row });
            }
        }
        forms.sort_by(|a, b| a.cursor.cmp(&b.cursor));
        forms.retain(|form| after.as_ref().is_none_or(|after| form.cursor > *after));
        forms.truncate(limit);
        Ok(forms)
    }
}

/// A row of its key and its other columns.
fn whole(table: &Table, key: &[Value], others: Vec<Value>) -> Vec<Value> {
    let mut row = vec![Value::Null; table.columns.len()];
    let mut put = |at: u32, value: Value| {
        if let Some(place) = row.get_mut(at as usize) {
            *place = value;
        }
    };
    if let RowIdentity::Key(columns) = &table.identity {
        columns.iter().zip(key).for_each(|(column, value)| put(column.0, value.clone()));
    }
    table.other_columns().zip(others).for_each(|(column, value)| put(column.0, value));
    row
}
