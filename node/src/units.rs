//! Durations, sizes and times as people write them, and times as JSON has them.

use conflict::WallTime;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads `30s`, `15m`, `24h`, `7d`, also `250ms` and `0`.
///
/// # Errors
/// Says what would have been right.
pub fn parse_duration(word: &str) -> Result<Duration, String> {
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = word.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad_duration(word))?;
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        "" if number == 0 => Some(1),
        _ => None,
    };
    milliseconds
        .and_then(|unit| number.checked_mul(unit))
        .map(Duration::from_millis)
        .ok_or_else(|| bad_duration(word))
}

fn bad_duration(word: &str) -> String {
    format!("{word:?} is not a duration: write it like 30s, 15m, 24h or 7d")
}

/// A time as JSON has it: RFC 3339 in UTC, milliseconds.
pub fn rfc3339(time: WallTime) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.0) * 1_000_000)
        .ok()
        .and_then(|time| {
            let millis = time.millisecond();
            time.replace_nanosecond(u32::from(millis) * 1_000_000).ok()?.format(&Rfc3339).ok()
        })
        .unwrap_or_else(|| "invalid".to_owned())
}

/// A span as people say it: `3 s`, `5 min`, `2 h`, `4 days`.
pub fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds < 172_800.0 {
        format!("{:.0} h", seconds / 3600.0)
    } else {
        format!("{:.0} days", seconds / 86_400.0)
    }
}

/// A number of things, in words.
pub fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for bad in ["", "s", "5", "5 s", "-1s", "1w", "99999999999999999999d", "9999999999999999d"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(rfc3339(WallTime(1_790_000_000_123)), "2026-09-21T14:13:20.123Z");
        assert_eq!(rfc3339(WallTime(0)), "1970-01-01T00:00:00Z");
    }
}
