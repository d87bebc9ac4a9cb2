//! What a till can do, and how often it does it.

use crate::random::Random;

/// One thing that an application does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A sale: a few rows, and what the application's trigger adds.
    Sale,
    /// Some values of some rows.
    Edit,
    /// Some rows go.
    Delete,
    /// INSERT OR REPLACE that removes another row through a secondary UNIQUE index (F42).
    InsertOrReplace,
    /// UPDATE OR REPLACE that does (F42).
    UpdateOrReplace,
    /// A primary key changes, with what hangs on it.
    ChangeKey,
    /// Two rows swap a unique value, or their keys.
    Swap,
    /// A row goes with its children, or is taken out of them.
    Cascade,
    /// A row goes and comes back under its key, within one transaction.
    Reinsert,
    /// Values that are easily changed on their way (F46).
    OddValues,
    /// A transaction that is rolled back.
    RollBack,
    /// A transaction of which a part is rolled back.
    Savepoint,
    /// A statement that a constraint refuses, in a transaction that goes on.
    Refused,
    /// An update to the same values.
    NoOp,
    /// Hundreds to thousands of rows in one transaction (F44, in small).
    BulkImport,
    /// They go again.
    BulkDelete,
    /// Old things go, so that the database stays small.
    Purge,
    /// ALTER TABLE ADD COLUMN (F36).
    AddColumn,
    /// ALTER TABLE DROP COLUMN (F39).
    DropColumn,
    /// ALTER TABLE RENAME COLUMN (F39).
    RenameColumn,
    /// A new table, with rows.
    CreateTable,
    /// A table goes.
    DropTable,
    /// CREATE INDEX, UNIQUE or not.
    CreateIndex,
    /// DROP INDEX.
    DropIndex,
    /// A table is built anew in twelve steps, which removes its triggers (F38).
    Rebuild,
    /// VACUUM.
    Vacuum,
    /// A checkpoint, PASSIVE or TRUNCATE (F16).
    Checkpoint,
    /// A reader of its own begins, or ends, having seen one state all the while.
    Read,
    /// A program reads in a transaction, thinks, and writes in it later.
    Think,
    /// A program takes the write lock and keeps it (F43); or lets go.
    Hold,
    /// All programs end, and begin anew.
    Restart,
}

impl Operation {
    /// All.
    pub const ALL: [Self; 31] = [
        Self::Sale,
        Self::Edit,
        Self::Delete,
        Self::InsertOrReplace,
        Self::UpdateOrReplace,
        Self::ChangeKey,
        Self::Swap,
        Self::Cascade,
        Self::Reinsert,
        Self::OddValues,
        Self::RollBack,
        Self::Savepoint,
        Self::Refused,
        Self::NoOp,
        Self::BulkImport,
        Self::BulkDelete,
        Self::Purge,
        Self::AddColumn,
        Self::DropColumn,
        Self::RenameColumn,
        Self::CreateTable,
        Self::DropTable,
        Self::CreateIndex,
        Self::DropIndex,
        Self::Rebuild,
        Self::Vacuum,
        Self::Checkpoint,
        Self::Read,
        Self::Think,
        Self::Hold,
        Self::Restart,
    ];

    /// Its number in FAULTS.md, if it has one.
    pub fn fault(self) -> Option<u8> {
        Some(match self {
            Self::InsertOrReplace | Self::UpdateOrReplace => 42,
            Self::OddValues => 46,
            Self::BulkImport | Self::BulkDelete => 44,
            Self::AddColumn => 36,
            Self::DropColumn | Self::RenameColumn => 39,
            Self::Rebuild => 38,
            Self::Checkpoint => 16,
            Self::Hold => 43,
            _ => return None,
        })
    }

    /// How often in an ordinary mix.
    fn usual(self) -> u32 {
        match self {
            Self::Sale => 300,
            Self::Edit => 150,
            Self::Delete | Self::Swap | Self::Cascade | Self::OddValues => 40,
            Self::InsertOrReplace | Self::UpdateOrReplace => 40,
            Self::ChangeKey | Self::Reinsert => 25,
            Self::RollBack | Self::Savepoint | Self::Refused | Self::NoOp => 25,
            Self::Read | Self::Think => 20,
            Self::Checkpoint => 15,
            Self::Purge => 10,
            Self::CreateIndex | Self::DropIndex | Self::Restart | Self::Hold => 6,
            // Rare in a shop, and dear: most of a run is trade.
            Self::AddColumn | Self::DropColumn | Self::RenameColumn => 3,
            Self::CreateTable | Self::DropTable => 3,
            Self::BulkImport | Self::BulkDelete | Self::Rebuild | Self::Vacuum => 2,
        }
    }
}

/// Which operations, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(Vec<(Operation, u32)>);

impl Mix {
    /// All, as often as is usual.
    pub fn usual() -> Self {
        Self(Operation::ALL.into_iter().map(|operation| (operation, operation.usual())).collect())
    }

    /// All, equally often.
    pub fn even() -> Self {
        Self(Operation::ALL.into_iter().map(|operation| (operation, 1)).collect())
    }

    /// With this operation so often.
    #[must_use]
    pub fn with(mut self, operation: Operation, weight: u32) -> Self {
        self.0.retain(|(known, _)| *known != operation);
        self.0.push((operation, weight));
        self
    }

    /// Without these.
    #[must_use]
    pub fn without(mut self, operations: &[Operation]) -> Self {
        self.0.retain(|(known, _)| !operations.contains(known));
        self
    }

    /// One of them.
    ///
    /// # Panics
    /// There is none.
    pub fn choose(&self, random: &mut Random) -> Operation {
        let total: u64 = self.0.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut at = random.below(total);
        for (operation, weight) in &self.0 {
            match at.checked_sub(u64::from(*weight)) {
                None => return *operation,
                Some(left) => at = left,
            }
        }
        panic!("a mix of nothing")
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self::usual()
    }
}
