//! Virtual time: tokio's paused clock, which leaps to the next timer whenever nobody has anything
//! to do. A computer's wall clock is that plus an offset of its own.

use conflict::WallTime;
use std::time::Duration;
use tokio::time::Instant;

/// What clocks that are right say when the world begins: 2026-03-02 08:00:00 UTC.
const BEGIN: WallTime = WallTime(1_772_438_400_000);

/// The world's time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A world that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long the world has existed. To be called within its runtime.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// What a clock that is wrong by `offset_ms` says.
    pub fn wall(&self, offset_ms: i64) -> WallTime {
        let elapsed = i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX);
        WallTime(BEGIN.0.saturating_add(elapsed).saturating_add(offset_ms))
    }
}
