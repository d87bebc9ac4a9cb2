//! The hybrid logical clock of a site, after Kulkarni et al., "Logical Physical Clocks" (2014).
//!
//! The arithmetic is `hlc-gen`'s, on its manual clock: physical time is handed in at every call
//! and never read here. Receiving a far timestamp does not move this clock: what must be newer
//! than something seen says so with [`Clock::stamp_above`], for its own rows only.

use hlc_gen::source::ManualClock;
use hlc_gen::{HlcGenerator, HlcTimestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Milliseconds since 1970-01-01 UTC as a computer's clock tells them: it may be wrong, and may
/// step backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Seconds from `earlier` to this time; negative if it lies after it.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1000.0
    }
}

/// A hybrid logical clock value: 42 bits of milliseconds since 2024-01-01 UTC, then 22 bits that
/// count within one millisecond.
///
/// Values above [`Timestamp::MAX`], in the year 2093, are malformed: so SQLite's signed integers
/// hold all of them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub struct Timestamp(u64);

/// Why a number is not a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("timestamp {0:#018x} lies above the ceiling of the format")]
pub struct TimestampError(pub u64);

/// 2024-01-01 UTC, the least physical time that `hlc-gen` takes.
const FIRST_MILLISECOND: i64 = 1_704_067_200_000;
/// The last physical time of a timestamp that fits a signed 64-bit integer.
const LAST_MILLISECOND: i64 = FIRST_MILLISECOND + (1 << 41) - 1;
/// The latest time that a clock is believed: what it stamps then leaves room above for others to
/// build upon, and for this site to go on.
const LAST_BELIEVED: i64 = LAST_MILLISECOND - (1 << 27);
const COUNTER_BITS: u32 = 22;

impl Timestamp {
    /// The least timestamp: older than everything that a clock ever issues.
    pub const ZERO: Self = Self(0);
    /// The greatest timestamp that is well-formed.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// The physical part.
    pub fn wall_time(self) -> WallTime {
        WallTime((self.0 >> COUNTER_BITS) as i64 + FIRST_MILLISECOND)
    }

    /// The number that stands for it on the wire and on disk.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The least timestamp above this one.
    ///
    /// # Errors
    /// There is none above [`Timestamp::MAX`].
    pub fn successor(self) -> Result<Self, TimestampError> {
        Self::try_from(self.0 + 1)
    }
}

impl From<Timestamp> for u64 {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl TryFrom<u64> for Timestamp {
    type Error = TimestampError;

    fn try_from(number: u64) -> Result<Self, TimestampError> {
        if number > Self::MAX.0 { Err(TimestampError(number)) } else { Ok(Self(number)) }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({}+{})", self.wall_time().0, self.0 & ((1 << COUNTER_BITS) - 1))
    }
}

/// A clock that has reached the end of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the clock has reached the last time that the format can express")]
pub struct ClockError;

/// A site's clock. Every timestamp that it issues is greater than all before it, also over
/// reboots, provided that [`Clock::last`] is kept and handed to [`Clock::restore`].
pub struct Clock {
    generator: HlcGenerator<ManualClock>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.last()).finish()
    }
}

impl Clock {
    /// A clock that continues above `last`, the greatest timestamp that this site ever issued.
    ///
    /// # Errors
    /// `last` is the greatest timestamp there is.
    pub fn restore(last: Timestamp) -> Result<Self, ClockError> {
        let generator = HlcGenerator::manual(0);
        let last = HlcTimestamp::try_from(last.0).map_err(|_| ClockError)?;
        if last > generator.timestamp() {
            // An update issues `last + 1`, one more than needed: harmless, and the only way in.
            raise(&generator, last)?;
        }
        Ok(Self { generator })
    }

    /// The greatest timestamp issued so far.
    pub fn last(&self) -> Timestamp {
        Timestamp(self.generator.timestamp().as_u64())
    }

    /// A new timestamp at `now`: above all before it, whatever `now` says.
    ///
    /// # Errors
    /// The end of the format is reached.
    pub fn stamp(&mut self, now: WallTime) -> Result<Timestamp, ClockError> {
        self.generator.set_current_timestamp(now.0.clamp(FIRST_MILLISECOND, LAST_BELIEVED));
        if let Some(issued) = self.generator.next_timestamp() {
            return Ok(Timestamp(issued.as_u64()));
        }
        // The counter of this millisecond is used up: go on in the next one.
        let (millisecond, _) = self.generator.timestamp().parts();
        if millisecond >= LAST_MILLISECOND {
            return Err(ClockError);
        }
        self.generator.set_current_timestamp(millisecond + 1);
        self.generator.next_timestamp().map(|t| Timestamp(t.as_u64())).ok_or(ClockError)
    }

    /// A new timestamp for something noted at `noted` while nobody stamped: as late as `noted`
    /// says, but not in the future and above all issued before.
    ///
    /// # Errors
    /// The end of the format is reached.
    pub fn stamp_noted(&mut self, noted: WallTime, now: WallTime) -> Result<Timestamp, ClockError> {
        self.stamp(noted.min(now))
    }

    /// The stamp of a local change to a row: at least `stamp`, and above `replaced`, the greatest
    /// version that the row holds. Such an exception does not raise the clock.
    ///
    /// # Errors
    /// `replaced` is the greatest timestamp there is.
    pub fn stamp_above(stamp: Timestamp, replaced: Timestamp) -> Result<Timestamp, TimestampError> {
        Ok(stamp.max(replaced.successor()?))
    }
}

fn raise(generator: &HlcGenerator<ManualClock>, last: HlcTimestamp) -> Result<(), ClockError> {
    if generator.update(&last).is_ok() {
        return Ok(());
    }
    if last.timestamp() >= LAST_MILLISECOND {
        return Err(ClockError);
    }
    let next = HlcTimestamp::from_parts(last.timestamp() + 1, 0).map_err(|_| ClockError)?;
    generator.update(&next).map(drop).map_err(|_| ClockError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: WallTime = WallTime(1_790_000_000_000);

    #[test]
    fn goes_on_above_everything_issued_after_a_reboot_in_1970() {
        let mut clock = Clock::restore(Timestamp::ZERO).unwrap();
        let before = clock.stamp(NOON).unwrap();
        let mut rebooted = Clock::restore(clock.last()).unwrap();
        assert!(rebooted.stamp(WallTime(0)).unwrap() > before);
        assert!(rebooted.stamp(WallTime(i64::MIN)).unwrap() > before);
    }

    #[test]
    fn a_note_is_stamped_with_its_own_time_but_never_in_the_future() {
        let mut clock = Clock::restore(Timestamp::ZERO).unwrap();
        let earlier = WallTime(NOON.0 - 60_000);
        assert_eq!(clock.stamp_noted(earlier, NOON).unwrap().wall_time(), earlier);
        let tomorrow = WallTime(NOON.0 + 86_400_000);
        assert_eq!(clock.stamp_noted(tomorrow, NOON).unwrap().wall_time(), NOON);
    }

    #[test]
    fn a_clock_beyond_the_format_leaves_room_above() {
        let mut clock = Clock::restore(Timestamp::ZERO).unwrap();
        let far = clock.stamp(WallTime(4_070_908_800_000)).unwrap();
        assert!(Timestamp::MAX.0 - far.0 > 1 << 48);
        assert!(clock.stamp(NOON).unwrap() > far);
    }

    #[test]
    fn a_full_counter_goes_on_in_the_next_millisecond() {
        let full =
            Timestamp::try_from((Timestamp::MAX.0 >> 1) | ((1 << COUNTER_BITS) - 1)).unwrap();
        let mut clock = Clock::restore(full).unwrap();
        assert!(clock.stamp(NOON).unwrap() > full);
    }

    #[test]
    fn the_end_of_the_format_is_an_error_not_a_wrap() {
        assert!(Clock::restore(Timestamp::MAX).is_err());
        assert!(Timestamp::MAX.successor().is_err());
        assert!(Timestamp::try_from(u64::MAX).is_err());
    }

    proptest! {
        #[test]
        fn timestamps_always_rise(times in proptest::collection::vec(any::<i64>(), 1..50)) {
            let mut clock = Clock::restore(Timestamp::ZERO).unwrap();
            let mut last = Timestamp::ZERO;
            for time in times {
                // A clock that stands at the very end of the format refuses; it never goes back.
                match clock.stamp(WallTime(time)) {
                    Ok(stamp) => { prop_assert!(stamp > last); last = stamp; }
                    Err(ClockError) => prop_assert!(last.wall_time().0 >= LAST_MILLISECOND),
                }
            }
        }
    }
}
