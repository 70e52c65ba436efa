//! The results of pulls: goals, tables for people, and everything as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::case::{Case, Place, Work};
use crate::outcome::{Outcome, Results};
use crate::pulls::puller::Puller;
use crate::pulls::scene::{Scene, mode_name};
use crate::spread::Spread;

/// Returns the table of goals, without those that were not measured.
pub fn goals(outcomes: &[Outcome<Scene>]) -> String {
    let mut text = String::from("| what | goal | found |\n|---|---|---|\n");
    for outcome in outcomes {
        for (what, goal, found) in of_scene(outcome) {
            line(
                &mut text,
                &format!("{}: {what}", title(&outcome.scene)),
                goal,
                found,
            );
        }
    }
    for (what, goal, found) in round_trips(outcomes) {
        line(&mut text, &what, goal, found);
    }
    text + "\n**Bold** misses the goal. Ratios are of wall times, each of two runs of the same \
            round: median (smallest-largest).\n"
}

fn line(text: &mut String, what: &str, goal: f64, found: Option<Spread>) {
    if let Some(found) = found {
        let bold = if found.median <= goal { "" } else { "**" };
        let shown = found.show(2);
        let _ = writeln!(text, "| {what} | <= {goal:.2} | {bold}{shown}{bold} |");
    }
}

type Goal = (String, f64, Option<Spread>);

/// Compares the pullers of a scene.
fn of_scene(outcome: &Outcome<Scene>) -> Vec<Goal> {
    let scene = &outcome.scene;
    let mut goals = Vec::new();
    let mut ratio = |puller: Puller, other: Puller, goal| {
        let what = format!("{} against {}", puller.title(), other.title());
        goals.push((what, goal, outcome.ratio(puller, other)));
    };
    let streams = [Puller::Ssh, Puller::Post];
    let (full, far) = (scene.work == Work::Full, !scene.round_trip.is_zero());
    for puller in streams {
        let ostree = Puller::OstreeFromNginx;
        match scene.case {
            Case::A if full && far => {
                ratio(puller, Puller::Tar, 1.05);
                ratio(puller, ostree, 0.1);
            }
            Case::A if full => {
                ratio(puller, Puller::Tar, 1.5);
                ratio(puller, ostree, 0.6);
            }
            Case::B if full => ratio(puller, ostree, 0.5),
            _ => {}
        }
    }
    if scene.case == Case::A && full {
        let goal = if far { 0.25 } else { 1.0 };
        ratio(Puller::Loose, Puller::OstreeFromNginx, goal);
    }
    if far && scene.work == Work::Nothing {
        let found = outcome.round_trips_more(Puller::Ssh, Puller::True);
        let what = format!("{}: round trips more than ssh true", Puller::Ssh.title());
        goals.push((what, 1.0, found));
    }
    for (puller, results) in &outcome.peers {
        let one = |number: f64| Spread::of([number].into_iter());
        let is_stream = streams.contains(puller);
        // For a small artifact, ssh's greeting dominates.
        if let (Some((_, back)), Work::Change, true) = (results.carried, scene.work, is_stream)
            && scene.case != Case::T
        {
            let over = back as f64 / outcome.missing.bytes as f64;
            let what = format!(
                "{}: bytes over those of the missing objects",
                puller.title()
            );
            goals.push((what, 1.05, one(over)));
        }
        if let (Some((client, _)), Work::Full) = (results.memory, scene.work) {
            let goal = 24.0 + outcome.missing.objects as f64 * 40.0 / MIB;
            let what = format!("{}: peak memory, MiB", puller.title());
            goals.push((what, goal, one(client as f64 / MIB)));
        }
    }
    goals
}

/// Compares a small artifact over a link with the same over none.
fn round_trips(outcomes: &[Outcome<Scene>]) -> Vec<Goal> {
    let mut goals = Vec::new();
    let is_small = |outcome: &&Outcome<Scene>| outcome.scene.case == Case::T && !outcome.scene.cold;
    for far in outcomes.iter().filter(is_small) {
        let Scene { round_trip, .. } = far.scene;
        let near = outcomes.iter().filter(is_small).find(|near| {
            near.scene.round_trip.is_zero()
                && (near.scene.work, near.scene.mode) == (far.scene.work, far.scene.mode)
        });
        let Some(near) = near.filter(|_| !round_trip.is_zero()) else {
            continue;
        };
        let (post, other) = (far.wall(Puller::Post), near.wall(Puller::Post));
        let more = post.zip(other).map(|(far, near)| {
            let number = (far.median - near.median) / round_trip.as_secs_f64();
            Spread::of([number].into_iter())
        });
        let what = format!(
            "{}: {}: round trips, with TCP's and TLS's",
            title(&far.scene),
            Puller::Post.title()
        );
        goals.push((what, 6.0, more.flatten()));
    }
    goals
}

fn title(scene: &Scene) -> String {
    let work = match scene.work {
        Work::Full => "",
        Work::Change => ", 1 % changed",
        Work::Nothing => ", nothing to do",
    };
    let mut title = format!("{}{work}, {}", scene.case.title(), mode_name(scene.mode));
    if scene.place == Place::Disk {
        title += ", on disk";
    }
    if scene.cold {
        title += ", cold";
    }
    if !scene.round_trip.is_zero() {
        let _ = write!(title, ", {} ms", scene.round_trip.as_millis());
    }
    title
}

/// Returns every scene and puller in one table.
pub fn table(outcomes: &[Outcome<Scene>]) -> String {
    let mut text = String::from(HEAD);
    for outcome in outcomes {
        let mut scene = format!(
            "{}: {} objects, {:.1} MB",
            title(&outcome.scene),
            outcome.missing.objects,
            outcome.missing.bytes as f64 / 1e6
        );
        for (puller, results) in &outcome.peers {
            let row = row(outcome, *puller, results);
            let _ = writeln!(text, "| {scene} | {} | {row} |", puller.title());
            scene.clear();
        }
    }
    text
}

fn row(outcome: &Outcome<Scene>, puller: Puller, results: &Results) -> String {
    if let Some(failure) = &results.failure {
        let first = failure.lines().next().unwrap_or_default();
        return format!("failed: {} | | | | | | ", first.replace('|', "\\|"));
    }
    let runs = results.runs.len();
    let reference = match outcome.scene.work {
        Work::Full => Puller::Tar,
        Work::Change => Puller::Rsync,
        Work::Nothing => Puller::True,
    };
    let shown = |spread: Option<Spread>| spread.map_or_else(String::new, |s| s.show(2));
    let client: f64 = results.runs.values().map(|c| c.client.as_secs_f64()).sum();
    [
        shown(outcome.wall(puller)),
        shown(outcome.ratio(puller, reference)),
        format!("{:.2}", client / runs.max(1) as f64),
        results.memory.map_or_else(String::new, |(client, _)| {
            format!("{:.1}", client as f64 / MIB)
        }),
        results
            .carried
            .map_or_else(String::new, |(up, _)| format!("{:.1}", up as f64 / 1e3)),
        results
            .carried
            .map_or_else(String::new, |(_, down)| format!("{:.1}", down as f64 / 1e3)),
        runs.to_string(),
    ]
    .join(" | ")
}

/// Returns all measurements, run by run.
pub fn json(outcomes: &[Outcome<Scene>], machine: &BTreeMap<&'static str, String>) -> Value {
    let scenes: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            let pullers: serde_json::Map<String, Value> = outcome
                .peers
                .iter()
                .map(|(puller, results)| (puller.name().to_owned(), results_json(results)))
                .collect();
            let scene = &outcome.scene;
            json!({
                "case": scene.case.name(),
                "work": scene.work.name(),
                "mode": mode_name(scene.mode),
                "place": scene.place.name(),
                "round_trip_ms": scene.round_trip.as_millis() as u64,
                "cold": scene.cold,
                "missing_objects": outcome.missing.objects,
                "missing_bytes": outcome.missing.bytes,
                "peers": pullers,
            })
        })
        .collect();
    json!({ "machine": machine, "scenes": scenes })
}

fn results_json(results: &Results) -> Value {
    let runs = results.runs.iter().map(|(round, cost)| {
        json!({
            "round": round,
            "wall_s": cost.wall.as_secs_f64(),
            "client_cpu_s": cost.client.as_secs_f64(),
        })
    });
    json!({
        "runs": runs.collect::<Vec<_>>(),
        "sent_bytes": results.carried.map(|carried| carried.0),
        "received_bytes": results.carried.map(|carried| carried.1),
        "client_memory_bytes": results.memory.map(|memory| memory.0),
        "failure": results.failure,
    })
}

const MIB: f64 = (1 << 20) as f64;
const HEAD: &str = "\
| what is missing, and where | | wall, s | against tar, rsync or ssh true | CPU client, s | \
memory, MiB | sent, kB | received, kB | runs |
|---|---|---|---|---|---|---|---|---|
";
