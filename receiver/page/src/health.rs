//! Whether a cache is healthy, as far as this shows without reading objects.

use artifact_formats::{Size, counted, grouped};
use artifact_store::{Room, SummaryFile};

use crate::trail::Ends;

/// The state of one aspect of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// No action is needed.
    Good,
    /// An operator should look at it.
    Warning,
    /// Pushes or pulls fail, or soon will.
    Bad,
}

impl State {
    /// Returns the state's word, which is also its CSS class.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) what: &'static str,
    pub(crate) state: State,
    pub(crate) says: String,
}

/// The values that the checks look at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vitals {
    pub(crate) room: Option<Room>,
    pub(crate) refs: usize,
    /// Files in the place of a ref that lead to no commit.
    pub(crate) broken: usize,
    pub(crate) summary: Option<SummaryFile>,
    /// When the last ref was set, in seconds since 1970.
    pub(crate) last_set: Option<i64>,
    /// How the pushes of the last day ended, if there is an audit log.
    pub(crate) day: Option<Ends>,
    /// Whether the last attempt to read the repository again failed.
    pub(crate) stale: bool,
}

/// Returns the result of every check.
pub(crate) fn checks(vitals: &Vitals) -> Vec<Check> {
    let mut checks = vec![refs(vitals), summary(vitals)];
    checks.extend(vitals.room.map(room));
    checks.extend(vitals.room.and_then(|room| room.inodes_free).map(inodes));
    checks.extend(vitals.day.map(pushes));
    if vitals.stale {
        checks.insert(
            0,
            check(
                "Repository",
                State::Bad,
                "cannot be read at the moment".to_owned(),
            ),
        );
    }
    checks
}

const fn check(what: &'static str, state: State, says: String) -> Check {
    Check { what, state, says }
}

fn refs(vitals: &Vitals) -> Check {
    match vitals.broken {
        0 if vitals.refs == 0 => check("Refs", State::Good, "none yet".to_owned()),
        0 => check(
            "Refs",
            State::Good,
            format!(
                "{}, all lead to a commit",
                counted(vitals.refs as u64, "ref")
            ),
        ),
        1 => check(
            "Refs",
            State::Warning,
            "1 ref leads to no commit".to_owned(),
        ),
        broken => check(
            "Refs",
            State::Warning,
            format!("{} lead to no commit", counted(broken as u64, "ref")),
        ),
    }
}

fn summary(vitals: &Vitals) -> Check {
    let Some(summary) = vitals.summary else {
        return match vitals.refs {
            0 => check("Summary", State::Good, "none yet".to_owned()),
            _ => check(
                "Summary",
                State::Warning,
                "there is none: refs can be pulled by name only".to_owned(),
            ),
        };
    };
    let len = Size(summary.len);
    if summary.len > SUMMARY_MAX {
        return check(
            "Summary",
            State::Bad,
            format!("{len}: stock clients read no more than 10 MiB"),
        );
    }
    if vitals
        .last_set
        .is_some_and(|set| summary.written + SUMMARY_LATE < set)
    {
        return check(
            "Summary",
            State::Warning,
            format!("{len}, older than the last push"),
        );
    }
    if summary.len > SUMMARY_LARGE {
        return check(
            "Summary",
            State::Warning,
            format!("{len}, close to the 10 MiB that stock clients read"),
        );
    }
    check("Summary", State::Good, format!("{len}, up to date"))
}

fn room(room: Room) -> Check {
    let (percent, state) = free(room);
    check(
        "Disk",
        state,
        format!("{} free, {percent} % of it", Size(room.bytes_free)),
    )
}

/// Returns the free share of a disk in percent, and whether it suffices.
pub(crate) fn free(room: Room) -> (u64, State) {
    let free = u128::from(room.bytes_free) * 100;
    let percent = free.checked_div(u128::from(room.bytes)).unwrap_or(0);
    let percent = u64::try_from(percent).unwrap_or(100).min(100);
    let state = match percent {
        0..=2 => State::Bad,
        3..=9 => State::Warning,
        _ => State::Good,
    };
    (percent, state)
}

fn inodes(free: u64) -> Check {
    let state = match free {
        0..10_000 => State::Bad,
        10_000..100_000 => State::Warning,
        _ => State::Good,
    };
    check("Files", state, format!("room for {} more", grouped(free)))
}

fn pushes(day: Ends) -> Check {
    let all = day.done + day.refused + day.failed;
    let state = if day.failed * 4 > all {
        State::Warning
    } else {
        State::Good
    };
    let said = match (all, day.failed) {
        (0, _) => "none in the last day".to_owned(),
        (all, 0) => format!("{} in the last day, none failed", grouped(all)),
        (all, failed) => format!(
            "{} in the last day, {} failed",
            grouped(all),
            grouped(failed)
        ),
    };
    check("Pushes", state, said)
}

/// The longest summary that clients on Debian 12 read, in bytes.
const SUMMARY_MAX: u64 = 10 * 1024 * 1024;
/// The length from which the receiver warns as well.
const SUMMARY_LARGE: u64 = 7 * 1024 * 1024;
/// How many seconds a summary may lag behind a push.
const SUMMARY_LATE: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Vitals = Vitals {
        room: Some(Room {
            bytes: 1000,
            bytes_free: 500,
            inodes_free: Some(1_000_000),
        }),
        refs: 3,
        broken: 0,
        summary: Some(SummaryFile {
            len: 100,
            written: 1000,
        }),
        last_set: Some(1000),
        day: Some(Ends {
            done: 3,
            refused: 5,
            failed: 1,
        }),
        stale: false,
    };

    fn worst(vitals: &Vitals) -> (State, Vec<&'static str>) {
        let checks = checks(vitals);
        let state = checks.iter().map(|check| check.state).max().unwrap();
        let bad = checks.iter().filter(|check| check.state != State::Good);
        (state, bad.map(|check| check.what).collect())
    }

    #[test]
    fn what_needs_somebody_is_told_from_what_is_well() {
        let room = |bytes_free, inodes_free| {
            Some(Room {
                bytes: 1000,
                bytes_free,
                inodes_free,
            })
        };
        let summary = |len, written| Some(SummaryFile { len, written });
        for (vitals, state, what) in [
            (GOOD, State::Good, &[][..]),
            (Vitals { broken: 1, ..GOOD }, State::Warning, &["Refs"]),
            (
                Vitals {
                    summary: None,
                    ..GOOD
                },
                State::Warning,
                &["Summary"],
            ),
            (
                Vitals {
                    summary: None,
                    refs: 0,
                    ..GOOD
                },
                State::Good,
                &[],
            ),
            (
                Vitals {
                    summary: summary(100, 900),
                    ..GOOD
                },
                State::Warning,
                &["Summary"],
            ),
            (
                Vitals {
                    summary: summary(SUMMARY_LARGE + 1, 1000),
                    ..GOOD
                },
                State::Warning,
                &["Summary"],
            ),
            (
                Vitals {
                    summary: summary(SUMMARY_MAX + 1, 1000),
                    ..GOOD
                },
                State::Bad,
                &["Summary"],
            ),
            (
                Vitals {
                    room: room(99, None),
                    ..GOOD
                },
                State::Warning,
                &["Disk"],
            ),
            (
                Vitals {
                    room: room(29, Some(9_999)),
                    ..GOOD
                },
                State::Bad,
                &["Disk", "Files"],
            ),
            (Vitals { room: None, ..GOOD }, State::Good, &[]),
            (
                Vitals {
                    day: Some(Ends {
                        done: 1,
                        refused: 0,
                        failed: 1,
                    }),
                    ..GOOD
                },
                State::Warning,
                &["Pushes"],
            ),
            (Vitals { day: None, ..GOOD }, State::Good, &[]),
            (
                Vitals {
                    stale: true,
                    ..GOOD
                },
                State::Bad,
                &["Repository"],
            ),
        ] {
            assert_eq!(worst(&vitals), (state, what.to_vec()), "{vitals:?}");
        }
    }
}
