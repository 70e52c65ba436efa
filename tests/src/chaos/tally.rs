//! Counts the results of the points, honestly: each point counts once, in one group.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::chaos::disk::Kind;
use crate::chaos::point::{Fault, Outcome, Point};
use crate::invariants::Promise;

/// The group in which a point counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Killed.
    Kill,
    /// Killed, and the power of ext4 cut.
    CutExt4,
    /// Killed, and the power of XFS cut.
    CutXfs,
    /// Done, and the power cut after that.
    CutWhenDone,
    /// A call failed once.
    Once,
    /// A call failed, and all of its name after it.
    On,
    /// No space.
    Full,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Kill,
        Self::CutExt4,
        Self::CutXfs,
        Self::CutWhenDone,
        Self::Once,
        Self::On,
        Self::Full,
    ];

    /// Returns the group of a point.
    pub const fn of(point: &Point) -> Self {
        match (&point.fault, point.cut) {
            (Fault::None, _) => Self::CutWhenDone,
            (_, Some((Kind::Ext4, _))) => Self::CutExt4,
            (_, Some((Kind::Xfs, _))) => Self::CutXfs,
            (Fault::Kill(_), None) => Self::Kill,
            (Fault::Errno { on: false, .. }, None) => Self::Once,
            (Fault::Errno { on: true, .. }, None) => Self::On,
            (Fault::FileLen(_) | Fault::Room(_) | Fault::Files(_), None) => Self::Full,
        }
    }

    /// Returns its name, as in `CHAOS_GROUPS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::CutExt4 => "cut-ext4",
            Self::CutXfs => "cut-xfs",
            Self::CutWhenDone => "cut-when-done",
            Self::Once => "error-once",
            Self::On => "error-on",
            Self::Full => "full",
        }
    }
}

/// The results of one group.
#[derive(Clone, Debug, Default)]
struct Row {
    points: usize,
    hit: usize,
    acknowledged: usize,
    /// Number of points that break each promise.
    broken: BTreeMap<Promise, usize>,
    unheard: usize,
}

/// The results of a run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    rows: BTreeMap<Group, Row>,
    slowest: Duration,
}

impl Tally {
    /// Counts a point.
    pub fn add(&mut self, group: Group, outcome: &Outcome) {
        let row = self.rows.entry(group).or_default();
        row.points += 1;
        row.hit += usize::from(outcome.hit);
        row.acknowledged += usize::from(outcome.acknowledged);
        row.unheard += usize::from(outcome.unheard);
        let broken: BTreeSet<_> = outcome.breaches.iter().map(|b| b.promise).collect();
        for promise in broken {
            *row.broken.entry(promise).or_default() += 1;
        }
        self.slowest = self.slowest.max(outcome.accepted_after);
    }

    /// Returns the number of points run.
    pub fn points(&self) -> usize {
        self.rows.values().map(|row| row.points).sum()
    }

    /// Returns the number of points that broke a promise.
    pub fn broken(&self, promise: Promise) -> usize {
        let rows = self.rows.values();
        rows.filter_map(|row| row.broken.get(&promise)).sum()
    }

    /// Returns whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.rows.values().all(|row| row.broken.is_empty())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14}{:>7}{:>7}{:>14}{:>13}{:>10}{:>16}{:>7} |{:>9}",
            "",
            "points",
            "hit",
            "acknowledged",
            "broken refs",
            "ack. lost",
            "fsck not clean",
            "other",
            "unheard"
        )?;
        let mut sum = Row::default();
        for (group, row) in &self.rows {
            write_row(f, group.name(), row)?;
            sum.points += row.points;
            sum.hit += row.hit;
            sum.acknowledged += row.acknowledged;
            sum.unheard += row.unheard;
            for (promise, count) in &row.broken {
                *sum.broken.entry(*promise).or_default() += count;
            }
        }
        write_row(f, "all", &sum)?;
        write!(
            f,
            "the slowest next push was accepted after {} ms",
            self.slowest.as_millis()
        )
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, name: &str, row: &Row) -> fmt::Result {
    let broken = |promise| row.broken.get(&promise).copied().unwrap_or_default();
    writeln!(
        f,
        "{name:<14}{:>7}{:>7}{:>14}{:>13}{:>10}{:>16}{:>7} |{:>9}",
        row.points,
        row.hit,
        row.acknowledged,
        broken(Promise::Refs),
        broken(Promise::Acknowledged),
        broken(Promise::Clean),
        broken(Promise::Other),
        row.unheard
    )
}
