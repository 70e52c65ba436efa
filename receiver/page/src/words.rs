//! Numbers and times for human readers.

use std::time::{Duration, UNIX_EPOCH};

use artifact_formats::counted;

/// How pages write times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Relative to this moment, in seconds since 1970: `3 days ago`.
    Now(i64),
    /// As dates: files are read later than they are written.
    Dates,
}

/// A time, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct When {
    /// For programs: `2026-01-31T12:00:00Z`.
    pub(crate) iso: String,
    /// To the minute: `2026-01-31 12:00 UTC`.
    pub(crate) date: String,
    /// In the words of the clock.
    pub(crate) text: String,
}

impl Clock {
    /// Returns how to show a time, in seconds since 1970.
    pub(crate) fn show(self, time: i64) -> When {
        let seconds = u64::try_from(time).unwrap_or(0).min(LAST_SECOND);
        let moment = UNIX_EPOCH + Duration::from_secs(seconds);
        let iso = humantime::format_rfc3339_seconds(moment).to_string();
        let (day, hours) = iso.split_once('T').unwrap_or_default();
        let date = format!("{day} {} UTC", hours.get(..5).unwrap_or_default());
        let text = match self {
            Self::Now(now) => ago(now.saturating_sub(time)),
            Self::Dates => date.clone(),
        };
        When { iso, date, text }
    }
}

/// Returns how long ago something was, in the largest unit that fits twice, or once for a day or
/// less.
fn ago(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let units = [
        (365 * DAY, "year"),
        (30 * DAY, "month"),
        (7 * DAY, "week"),
        (DAY, "day"),
        (60 * 60, "hour"),
        (60, "minute"),
    ];
    for (len, unit) in units {
        let count = seconds / len;
        if count >= 2 || (count == 1 && len <= DAY) {
            return format!("{} ago", counted(count, unit));
        }
    }
    "just now".to_owned()
}

const DAY: u64 = 24 * 60 * 60;
/// The last second of the year 9999: a later date comes from a broken clock.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_the_largest_unit_that_fits() {
        for (seconds, text) in [
            (-5, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (3_599, "59 minutes ago"),
            (3_600, "1 hour ago"),
            (86_400, "1 day ago"),
            (13 * 86_400, "13 days ago"),
            (14 * 86_400, "2 weeks ago"),
            (59 * 86_400, "8 weeks ago"),
            (60 * 86_400, "2 months ago"),
            (729 * 86_400, "24 months ago"),
            (730 * 86_400, "2 years ago"),
        ] {
            assert_eq!(ago(seconds), text);
        }
    }

    #[test]
    fn a_date_is_shown_whatever_the_clock_said() {
        let when = Clock::Dates.show(1_700_000_000);
        assert_eq!(when.iso, "2023-11-14T22:13:20Z");
        assert_eq!(
            (when.text.as_str(), when.text == when.date),
            ("2023-11-14 22:13 UTC", true)
        );
        assert_eq!(
            Clock::Now(1_700_000_120).show(1_700_000_000).text,
            "2 minutes ago"
        );
        for time in [i64::MIN, -1, i64::MAX] {
            assert!(!Clock::Now(0).show(time).iso.is_empty());
        }
    }
}
