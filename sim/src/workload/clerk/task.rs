//! What a clerk may do, and how often it does.

use crate::random::Random;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A sale with its lines, and what they take of the stock.
    Sell,
    /// A customer.
    Enrol,
    /// An article, under a key that means the same everywhere.
    List,
    /// One column of one row.
    Edit,
    /// A whole row written back, with one change.
    Save,
    /// A sale is another customer's.
    Assign,
    /// The price of an article, or its title.
    Price,
    /// More of an article.
    Restock,
    /// A sale is deleted, with its lines.
    DropSale,
    /// One of its lines.
    DropLine,
    /// A customer.
    DropCustomer,
    /// An article without a sale.
    DropStock,
    /// Many customers at once: more than numbers are kept apart for.
    Bulk,
    /// Those of no sale go again, but the newest.
    Sweep,
    /// A program reads in a transaction, thinks, and writes in it later.
    Think,
    /// A voucher, under a key that means the same everywhere.
    Issue,
    /// Some of its worth is spent.
    Redeem,
    /// Or added.
    Recharge,
    /// A voucher is deleted.
    DropVoucher,
    /// A badge whose code another one may have.
    Claim,
    /// A badge is deleted.
    DropBadge,
    /// A value that is easily changed on its way.
    Odd,
    /// What it sees of another till is written down.
    Glance,
    /// A column that only later versions of the application know.
    Extra,
}

impl Task {
    const ALL: [(Self, u64); 24] = [
        (Self::Sell, 30),
        (Self::Enrol, 6),
        (Self::List, 6),
        (Self::Edit, 16),
        (Self::Save, 6),
        (Self::Assign, 5),
        (Self::Price, 8),
        (Self::Restock, 5),
        (Self::DropSale, 4),
        (Self::DropLine, 3),
        (Self::DropCustomer, 3),
        (Self::DropStock, 3),
        (Self::Bulk, 1),
        (Self::Sweep, 1),
        (Self::Think, 5),
        (Self::Issue, 4),
        (Self::Redeem, 8),
        (Self::Recharge, 3),
        (Self::DropVoucher, 2),
        (Self::Claim, 8),
        (Self::DropBadge, 1),
        (Self::Odd, 3),
        (Self::Glance, 8),
        (Self::Extra, 4),
    ];

    /// What comes next.
    pub(super) fn choose(random: &mut Random) -> Self {
        let mut at = random.below(Self::ALL.iter().map(|(_, weight)| weight).sum());
        for (task, weight) in Self::ALL {
            match at.checked_sub(weight) {
                None => return task,
                Some(left) => at = left,
            }
        }
        Self::Sell
    }
}
