//! Deliberate defects, with which the simulator proves that it would find such ones. They exist only
//! in builds with the feature `breakages`, which nothing but the simulator asks for; in all others
//! [`Breakage::is_on`] is `false` at compile time.

/// A defect that a run can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// The journal commits at `synchronous=NORMAL`.
    JournalAtNormal,
    /// What a peer sent is acknowledged before it is durable.
    AcknowledgedEarly,
    /// A mirror's marker moves before its rows.
    CursorBeforeData,
    /// After a reboot the clock begins anew.
    ClockNotRestored,
    /// Triggers don't note rows that REPLACE removes.
    ReplaceUnseen,
    /// A batch is applied a second time, after later ones.
    AppliedTwice,
    /// What a peer sent is believed without its hash and signature.
    HashUnchecked,
    /// Of two changes of one row that bear the same time the one that came first stays.
    TieByArrival,
    /// A deleted row is forgotten as soon as it is gone from its table.
    TombstoneForgotten,
    /// What another site added counts twice.
    CounterTwice,
    /// Of a row that is parked nothing is kept.
    ParkedDropped,
    /// Who has a unique value first at this site keeps it.
    UniqueByArrival,
    /// Batches are merged whether or not what they build upon is.
    NotCausal,
}

impl Breakage {
    /// All, with the names by which they are asked for.
    pub const ALL: [(&'static str, Self); 13] = [
        ("journal-at-normal", Self::JournalAtNormal),
        ("acknowledged-early", Self::AcknowledgedEarly),
        ("cursor-before-data", Self::CursorBeforeData),
        ("clock-not-restored", Self::ClockNotRestored),
        ("replace-unseen", Self::ReplaceUnseen),
        ("applied-twice", Self::AppliedTwice),
        ("hash-unchecked", Self::HashUnchecked),
        ("tie-by-arrival", Self::TieByArrival),
        ("tombstone-forgotten", Self::TombstoneForgotten),
        ("counter-twice", Self::CounterTwice),
        ("parked-dropped", Self::ParkedDropped),
        ("unique-by-arrival", Self::UniqueByArrival),
        ("not-causal", Self::NotCausal),
    ];

    /// Whether it is one of what sites that write one database make of their changes.
    pub const fn is_of_merging(self) -> bool {
        matches!(
            self,
            Self::TieByArrival
                | Self::TombstoneForgotten
                | Self::CounterTwice
                | Self::ParkedDropped
                | Self::UniqueByArrival
                | Self::NotCausal
        )
    }

    /// Whether this process has it.
    #[cfg(not(feature = "breakages"))]
    #[inline]
    pub const fn is_on(self) -> bool {
        false
    }

    /// Whether this process has it.
    #[cfg(feature = "breakages")]
    pub fn is_on(self) -> bool {
        chosen::get() == Some(self)
    }
}

#[cfg(feature = "breakages")]
pub use chosen::set;

/// [`Breakage::UniqueByArrival`]: the how-manieth of all rows that a site came to know this one was.
#[cfg(feature = "breakages")]
pub fn arrival(site: &[u8], row: String) -> u64 {
    chosen::arrival(site, row)
}

#[cfg(feature = "breakages")]
mod chosen {
    use super::Breakage;
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    static ARRIVALS: Mutex<BTreeMap<(Vec<u8>, String), u64>> = Mutex::new(BTreeMap::new());

    pub(super) fn arrival(site: &[u8], row: String) -> u64 {
        let mut arrivals = ARRIVALS.lock().unwrap_or_else(PoisonError::into_inner);
        let next = arrivals.len() as u64 + 1;
        *arrivals.entry((site.to_vec(), row)).or_insert(next)
    }

    static CHOSEN: Mutex<Option<Breakage>> = Mutex::new(None);

    pub(super) fn get() -> Option<Breakage> {
        *CHOSEN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives this process a defect by its name, or none.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn set(name: Option<&str>) -> Result<(), String> {
        let found = |name: &str| {
            let named = Breakage::ALL.iter().find(|(known, _)| *known == name);
            named.map(|(_, breakage)| *breakage).ok_or_else(|| {
                let names: Vec<&str> = Breakage::ALL.iter().map(|(name, _)| *name).collect();
                format!("There is no defect {name:?}, only {}.", names.join(", "))
            })
        };
        *CHOSEN.lock().unwrap_or_else(PoisonError::into_inner) = name.map(found).transpose()?;
        Ok(())
    }
}
