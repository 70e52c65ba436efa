//! The results: tables for people, and everything as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::outcome::{Extras, Outcome, Results};
use crate::peer::Peer;
use crate::scene::Scene;
use crate::spread::Spread;

/// Returns every scene and peer in one table.
pub fn table(outcomes: &[Outcome<Scene>]) -> String {
    let mut text = String::from(HEAD);
    for outcome in outcomes {
        let mut scene = format!(
            "{}: {} objects, {:.1} MB",
            outcome.scene,
            outcome.missing.objects,
            outcome.missing.bytes as f64 / 1e6
        );
        for (peer, results) in &outcome.peers {
            let row = row(outcome, *peer, results);
            let _ = writeln!(text, "| {scene} | {} | {row} |", peer.title());
            scene.clear();
        }
    }
    text
}

fn row(outcome: &Outcome<Scene>, peer: Peer, results: &Results) -> String {
    if let Some(failure) = &results.failure {
        let first = failure.lines().next().unwrap_or_default();
        return format!("failed: {} | | | | | | | | ", first.replace('|', "\\|"));
    }
    let shown = |spread: Option<Spread>| spread.map_or_else(String::new, |s| s.show(2));
    let mean = |part: fn(&crate::usage::Cost) -> Duration| {
        let sum: f64 = results.runs.values().map(|c| part(c).as_secs_f64()).sum();
        match results.runs.len() {
            0 => String::new(),
            runs => format!("{:.2}", sum / runs as f64),
        }
    };
    let pair = |pair: Option<(u64, u64)>, unit: f64| {
        let (first, second) = pair.unwrap_or_default();
        // 0 means not measured: nothing takes no memory or sends no byte.
        [first, second].map(|number| match number {
            0 => String::new(),
            _ => format!("{:.1}", number as f64 / unit),
        })
    };
    let mib = f64::from(1 << 20);
    [
        shown(outcome.wall(peer)),
        shown(outcome.ratio(peer, outcome.scene.reference())),
        mean(|cost| cost.client),
        mean(|cost| cost.server),
        pair(results.memory, mib).join(" | "),
        pair(results.carried, 1e3).join(" | "),
        results.runs.len().to_string(),
    ]
    .join(" | ")
}

/// Returns all measurements, run by run.
pub fn json(
    outcomes: &[Outcome<Scene>],
    extras: &Extras,
    machine: &BTreeMap<&'static str, String>,
) -> Value {
    let scenes: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            let peers: serde_json::Map<String, Value> = outcome
                .peers
                .iter()
                .map(|(peer, results)| (peer.name().to_owned(), results_json(results)))
                .collect();
            let scene = &outcome.scene;
            json!({
                "case": scene.case.name(),
                "work": scene.work.name(),
                "source": scene.source.name(),
                "place": scene.place.name(),
                "round_trip_ms": scene.round_trip.as_millis() as u64,
                "cold": scene.cold,
                "missing_objects": outcome.missing.objects,
                "missing_bytes": outcome.missing.bytes,
                "peers": peers,
            })
        })
        .collect();
    json!({ "machine": machine, "scenes": scenes, "extras": extras_json(extras) })
}

fn extras_json(extras: &Extras) -> Value {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mut all = Vec::new();
    for (place, objects, runs) in &extras.lock {
        for held in runs {
            all.push(json!({
                "extra": "lock", "place": place.name(), "objects": objects,
                "shared_ms": ms(held.shared), "exclusive_ms": ms(held.exclusive),
                "blind_ms": ms(held.blind),
            }));
        }
    }
    for (place, curve) in &extras.refs {
        for (point, push) in curve
            .points
            .iter()
            .flat_map(|p| p.pushes.iter().map(move |t| (p, t)))
        {
            all.push(json!({
                "extra": "refs", "place": place.name(), "refs": point.at,
                "finalized_ms": ms(push.finalized), "summarized_ms": ms(push.summarized),
            }));
        }
    }
    for (case, verified) in &extras.verify {
        for (bare, verifier) in &verified.turns {
            all.push(json!({
                "extra": "verify", "case": case.name(), "bytes": verified.bytes,
                "inflate_and_hash_ms": ms(*bare), "verify_ms": ms(*verifier),
            }));
        }
    }
    Value::Array(all)
}

fn results_json(results: &Results) -> Value {
    let runs: Vec<Value> = results
        .runs
        .iter()
        .map(|(round, cost)| {
            json!({
                "round": round,
                "wall_s": cost.wall.as_secs_f64(),
                "client_cpu_s": cost.client.as_secs_f64(),
                "server_cpu_s": cost.server.as_secs_f64(),
            })
        })
        .collect();
    json!({
        "runs": runs,
        "sent_bytes": results.carried.map(|carried| carried.0),
        "received_bytes": results.carried.map(|carried| carried.1),
        "client_memory_bytes": results.memory.map(|memory| memory.0),
        "server_memory_bytes": results.memory.map(|memory| memory.1),
        "failure": results.failure,
    })
}

const HEAD: &str = "\
| what is missing, where to | | wall, s | against the reference | CPU client, s | CPU server, s | \
memory client, MiB | memory server, MiB | sent, kB | received, kB | runs |
|---|---|---|---|---|---|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_median_and_both_ends() {
        let spread = |numbers: &[f64]| Spread::of(numbers.iter().copied());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.5]).unwrap().show(1), "2.5 (1.0-3.0)");
        assert_eq!(spread(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(spread(&[4.0]).unwrap().show(2), "4.00");
    }
}
