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
}

impl Breakage {
    /// All, with the names by which they are asked for.
    pub const ALL: [(&'static str, Self); 7] = [
        ("journal-at-normal", Self::JournalAtNormal),
        ("acknowledged-early", Self::AcknowledgedEarly),
        ("cursor-before-data", Self::CursorBeforeData),
        ("clock-not-restored", Self::ClockNotRestored),
        ("replace-unseen", Self::ReplaceUnseen),
        ("applied-twice", Self::AppliedTwice),
        ("hash-unchecked", Self::HashUnchecked),
    ];

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

#[cfg(feature = "breakages")]
mod chosen {
    use super::Breakage;
    use std::sync::{Mutex, PoisonError};

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
