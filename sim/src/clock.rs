//! Virtual time: tokio's paused clock, which leaps to the next timer whenever nobody has anything
//! to do; and the wall clock of a computer, which may be wrong in every way that clocks are.

use conflict::WallTime;
use std::sync::Mutex;
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
        WallTime(BEGIN.0.saturating_add(milliseconds(self.elapsed())).saturating_add(offset_ms))
    }
}

/// The first moment of a year, UTC.
pub fn start_of_year(year: i64) -> WallTime {
    let before = year - 1;
    let days = before * 365 + before.div_euclid(4) - before.div_euclid(100)
        + before.div_euclid(400)
        - 719_162;
    WallTime(days * 86_400_000)
}

/// The wall clock of one computer. It goes on while the power is off, if its battery is good.
#[derive(Debug)]
pub struct WallClock {
    world: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What it said when the world had existed for `since`.
    base: WallTime,
    since: Duration,
    /// By how much it is fast, in millionths.
    drift_ppm: i64,
    frozen: bool,
    battery_dead: bool,
}

impl State {
    fn now(&self, elapsed: Duration) -> WallTime {
        if self.frozen {
            return self.base;
        }
        let passed = i128::try_from(elapsed.saturating_sub(self.since).as_nanos()).unwrap_or(0);
        let passed = (passed + passed * i128::from(self.drift_ppm) / 1_000_000) / 1_000_000;
        WallTime(self.base.0.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)))
    }
}

impl WallClock {
    /// A clock that is wrong by so much, and runs well.
    pub fn new(world: Clock, offset_ms: i64) -> Self {
        let (base, since) = (world.wall(offset_ms), world.elapsed());
        let state = State { base, since, drift_ppm: 0, frozen: false, battery_dead: false };
        Self { world, state: Mutex::new(state) }
    }

    /// What it says.
    pub fn now(&self) -> WallTime {
        self.state.lock().unwrap().now(self.world.elapsed())
    }

    /// Makes it say that now.
    pub fn set(&self, now: WallTime) {
        self.change(|state| state.base = now);
    }

    /// Makes it wrong by so much, against the world's time.
    pub fn set_error(&self, error_ms: i64) {
        self.set(self.world.wall(error_ms));
    }

    /// Moves it forward or back.
    pub fn step(&self, by_ms: i64) {
        self.change(|state| state.base = WallTime(state.base.0.saturating_add(by_ms)));
    }

    /// Lets it run fast by so many millionths, or slow.
    pub fn set_drift(&self, ppm: i64) {
        self.change(|state| state.drift_ppm = ppm);
    }

    /// Makes it stand still, or go on from where it stands.
    pub fn set_frozen(&self, frozen: bool) {
        self.change(|state| state.frozen = frozen);
    }

    /// With a dead battery it begins in 1970 whenever the power comes.
    pub fn set_battery_dead(&self, dead: bool) {
        self.change(|state| state.battery_dead = dead);
    }

    /// The power comes.
    pub fn power_on(&self) {
        self.change(|state| {
            if state.battery_dead {
                state.base = WallTime(0);
            }
        });
    }

    /// Changes something from now on.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let elapsed = self.world.elapsed();
        let mut state = self.state.lock().unwrap();
        state.base = state.now(elapsed);
        state.since = elapsed;
        change(&mut state);
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const HOUR: Duration = Duration::from_secs(3600);
    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn years_begin_when_they_do() {
        assert_eq!(start_of_year(1970), WallTime(0));
        assert_eq!(start_of_year(2000), WallTime(946_684_800_000));
        assert_eq!(start_of_year(2026), WallTime(1_767_225_600_000));
        assert_eq!(start_of_year(2036), WallTime(2_082_758_400_000));
        assert_eq!(start_of_year(2099), WallTime(4_070_908_800_000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_is_set_stepped_and_drifts() {
        let world = Clock::start();
        let clock = WallClock::new(world, -250);
        let error = || clock.now().0 - world.wall(0).0;
        assert_eq!(error(), -250);
        sleep(HOUR).await;
        assert_eq!(error(), -250);
        clock.step(-HOUR_MS);
        assert_eq!(error(), -250 - HOUR_MS);
        clock.set_error(7);
        assert_eq!(error(), 7);
        clock.set_drift(100);
        sleep(HOUR).await;
        assert_eq!(error(), 7 + 360);
        clock.set_drift(-100);
        sleep(HOUR).await;
        assert_eq!(error(), 7);
        clock.set_drift(0);
        clock.set(start_of_year(2099));
        sleep(HOUR).await;
        assert_eq!(clock.now().0, start_of_year(2099).0 + HOUR_MS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_stands_still_until_it_is_thawed() {
        let clock = WallClock::new(Clock::start(), 0);
        let stood = clock.now();
        clock.set_frozen(true);
        sleep(HOUR).await;
        assert_eq!(clock.now(), stood);
        clock.step(5);
        assert_eq!(clock.now().0, stood.0 + 5);
        clock.set_frozen(false);
        sleep(HOUR).await;
        assert_eq!(clock.now().0, stood.0 + 5 + HOUR_MS);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_battery_each_boot_begins_in_1970() {
        let clock = WallClock::new(Clock::start(), 0);
        clock.set_battery_dead(true);
        assert!(clock.now() > start_of_year(2026), "not before the power goes");
        for _ in 0..2 {
            clock.power_on();
            assert_eq!(clock.now(), WallTime(0));
            sleep(HOUR).await;
            assert_eq!(clock.now(), WallTime(HOUR_MS));
        }
        clock.set_battery_dead(false);
        clock.power_on();
        assert_eq!(clock.now(), WallTime(HOUR_MS));
    }
}
