//! Results beside goals: one line for each goal.

use std::fmt::Write;

use crate::case::{Case, Place, Source, Work};
use crate::growth::Curve;
use crate::outcome::{Extras, Outcome};
use crate::peer::Peer;
use crate::scene::Scene;
use crate::spread::Spread;

/// A line of the table.
struct Line {
    what: String,
    goal: f64,
    at_least: bool,
    unit: &'static str,
    digits: usize,
    // In memory and on disk; only the first is set if the place does not matter.
    found: [Option<Spread>; 2],
}

/// Returns the table of goals, without those that were not measured.
pub fn table(outcomes: &[Outcome<Scene>], extras: &Extras) -> String {
    let mut lines = ratios(outcomes);
    lines.extend(far(outcomes));
    lines.extend(sizes(outcomes));
    lines.extend(others(extras));
    let mut text = String::from("| what | goal | tmpfs | disk |\n|---|---|---|---|\n");
    for line in lines
        .iter()
        .filter(|line| line.found.iter().any(Option::is_some))
    {
        let sign = if line.at_least { ">=" } else { "<=" };
        let [memory, disk] = line.found.map(|found| line.cell(found));
        let (what, goal, unit) = (&line.what, line.goal, line.unit);
        let _ = writeln!(text, "| {what} | {sign} {goal}{unit} | {memory} | {disk} |");
    }
    text + "\n**Bold** misses the goal. Ratios are of wall times, each of two runs of the same \
            round: median (smallest-largest).\n"
}

impl Line {
    fn most(what: impl Into<String>, goal: f64, found: [Option<Spread>; 2]) -> Self {
        Self {
            what: what.into(),
            goal,
            at_least: false,
            unit: "",
            digits: 2,
            found,
        }
    }

    fn cell(&self, found: Option<Spread>) -> String {
        let Some(found) = found else {
            return String::new();
        };
        let met = if self.at_least {
            found.median >= self.goal
        } else {
            found.median <= self.goal
        };
        let shown = found.show(self.digits);
        if met { shown } else { format!("**{shown}**") }
    }
}

/// Compared with others, without a round trip.
fn ratios(outcomes: &[Outcome<Scene>]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = |case: Case, work, source, (peer, other), goal: f64| {
        let found = Place::ALL.map(|place| {
            let scene = Scene {
                case,
                work,
                source,
                place,
                round_trip: std::time::Duration::ZERO,
                cold: false,
            };
            let outcome = outcomes.iter().find(|outcome| outcome.scene == scene)?;
            outcome.ratio(peer, other)
        });
        let mut what = format!("{}, {}: ", case.title(), work.name());
        if source == Source::BareUser {
            what += "from bare-user, ";
        }
        if peer == Peer::OursAes {
            what += "with aes128-gcm, ";
        }
        let what = format!("{what}against {}", other.title());
        lines.push(Line::most(what, goal, found));
    };
    let archive = Source::Archive;
    let large = [Case::A, Case::B, Case::C];
    for (other, goal) in [
        (Peer::Tar, 1.2),
        (Peer::Rsync, 1.0),
        (Peer::OstreePush, 0.2),
        (Peer::Pull, 1.0),
    ] {
        for case in large {
            line(case, Work::Full, archive, (Peer::Ours, other), goal);
        }
    }
    for case in large {
        line(case, Work::Change, archive, (Peer::Ours, Peer::Tar), 1.2);
    }
    for case in Case::USUAL {
        line(case, Work::Nothing, archive, (Peer::Ours, Peer::True), 1.1);
    }
    let to_archive = (Peer::Ours, Peer::ArchiveAndTar);
    line(Case::A, Work::Full, Source::BareUser, to_archive, 0.3);
    line(
        Case::C,
        Work::Full,
        archive,
        (Peer::OursAes, Peer::Tar),
        0.9,
    );
    lines
}

/// On links with a round trip, which are measured in one place.
fn far(outcomes: &[Outcome<Scene>]) -> Vec<Line> {
    let mut lines = Vec::new();
    for outcome in outcomes {
        let Scene { case, work, .. } = outcome.scene;
        if outcome.scene.round_trip.is_zero() || work != Work::Full {
            continue;
        }
        let (title, ms) = (case.title(), outcome.scene.round_trip.as_millis());
        let (what, goal, found) = if case == Case::T {
            (
                format!(
                    "{title}, {work}, {ms} ms: round trips more than ssh true",
                    work = work.name()
                ),
                1.0,
                outcome.round_trips_more(Peer::Ours, Peer::True),
            )
        } else {
            (
                format!(
                    "{title}, {work}, {ms} ms: against {}",
                    Peer::Tar.title(),
                    work = work.name()
                ),
                1.05,
                outcome.ratio(Peer::Ours, Peer::Tar),
            )
        };
        let mut both = [None; 2];
        both[usize::from(outcome.scene.place == Place::Disk)] = found;
        lines.push(Line::most(what, goal, both));
    }
    lines
}

/// Bytes and memory, which are measured in one place.
fn sizes(outcomes: &[Outcome<Scene>]) -> Vec<Line> {
    let mut lines = Vec::new();
    let one = |number: f64| [Spread::of([number].into_iter()), None];
    for outcome in outcomes {
        let Scene { case, work, .. } = outcome.scene;
        let title = format!("{}, {}", case.title(), work.name());
        let Some(ours) = outcome.peers.get(&Peer::Ours) else {
            continue;
        };
        // For a small artifact, ssh's greeting dominates.
        if let (Some((sent, _)), Work::Change, true) = (ours.carried, work, case != Case::T) {
            let ratio = sent as f64 / outcome.missing.bytes as f64;
            let what = format!("{title}: bytes sent over those of the missing objects");
            lines.push(Line::most(what, 1.05, one(ratio)));
        }
        if let (Some((client, server)), Work::Full) = (ours.memory, work) {
            let source = match outcome.scene.source {
                Source::Archive => "",
                Source::BareUser => " from bare-user",
            };
            let goal = 24.0 + outcome.missing.objects as f64 * 40.0 / MIB;
            for (end, bytes) in [("sender", client), ("receiver", server)] {
                lines.push(Line {
                    unit: " MiB",
                    digits: 1,
                    ..Line::most(
                        format!("{title}{source}: peak memory of the {end}"),
                        (goal * 10.0).round() / 10.0,
                        one(bytes as f64 / MIB),
                    )
                });
            }
        }
    }
    lines
}

fn others(extras: &Extras) -> Vec<Line> {
    let mut lines = Vec::new();
    for (case, verified) in &extras.verify {
        let shares = verified
            .turns
            .iter()
            .map(|(bare, verifier)| 100.0 * bare.as_secs_f64() / verifier.as_secs_f64());
        lines.push(Line {
            at_least: true,
            unit: " %",
            digits: 0,
            ..Line::most(
                format!(
                    "{}: verifier's speed of inflate and SHA-256 alone",
                    case.title()
                ),
                90.0,
                [Spread::of(shares), None],
            )
        });
    }
    for (place, objects, held) in &extras.lock {
        let (column, goal) = match place {
            Place::Memory => (0, 100.0),
            Place::Disk => (1, 300.0),
        };
        let mut found = [None; 2];
        let all = held
            .iter()
            .map(|held| (held.shared + held.exclusive).as_secs_f64() * 1e3);
        found[column] = Spread::of(all);
        lines.push(Line {
            unit: " ms",
            digits: 1,
            ..Line::most(format!("`.lock` held for {objects} objects"), goal, found)
        });
    }
    for (name, goal, index) in [
        ("the ref is set", 20.0, 0),
        ("the summary names it", 150.0, 1),
    ] {
        let mut found = [None; 2];
        for (place, curve) in &extras.refs {
            found[usize::from(*place == Place::Disk)] = more(curve, index);
        }
        lines.push(Line {
            unit: " ms",
            digits: 1,
            ..Line::most(
                format!(
                    "50 files to a cache of 50,000 refs: later than to an empty one, until {name}"
                ),
                goal,
                found,
            )
        });
    }
    lines
}

/// Returns by how many milliseconds pushes to the cache with most refs took longer than those to
/// the one with fewest, push by push.
fn more(curve: &Curve, index: usize) -> Option<Spread> {
    let (few, many) = (curve.points.first()?, curve.points.last()?);
    let pairs = few.pushes.iter().zip(&many.pushes);
    Spread::of(pairs.map(|(few, many)| {
        let part = |push: &crate::timed::Timed| {
            [push.finalized, push.summarized][index].as_secs_f64() * 1e3
        };
        part(many) - part(few)
    }))
}

const MIB: f64 = (1 << 20) as f64;
