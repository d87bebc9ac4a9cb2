//! Bringing what all sites say of a shared database together, a bounded step at a time.

use super::{Engine, EngineError};
use crate::store::DatabaseNumber;
use conflict::{Value, Version};
use protocol::session::LocalBranch;

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
    pub fn step_shared(&mut self, _number: DatabaseNumber) -> Result<SharedStep, EngineError> {
        Ok(SharedStep::Even)
    }

    /// Rows of a table that the application should see, up to `limit` of them behind `after`.
    ///
    /// # Errors
    /// The store fails.
    pub fn visible_forms(
        &mut self,
        _number: DatabaseNumber,
        _table: &str,
        _after: Option<Vec<u8>>,
        _limit: usize,
    ) -> Result<Vec<Form>, EngineError> {
        Ok(Vec::new())
    }
}
