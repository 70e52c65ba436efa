//! What is counted for Prometheus, and what is said and drawn of it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use artifact_tests::cache::Pushed;
use artifact_tests::exec::run;
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::serving::Serving;

use crate::extra;
use crate::place::Place;

const OF_SERVER: &str = "artifact_cache_serve_";
/// These move only where a disk is slower than a log, and while a pull is being answered.
const STILL: [&str; 2] = [
    "artifact_cache_serve_log_lines_dropped",
    "artifact_cache_serve_open_pulls",
];

/// Returns the values of a scrape, by series and labels.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let value = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    lines.map(value).collect()
}

/// Returns the names of series that a text speaks of, without what a histogram adds.
fn names_in(text: &str) -> BTreeSet<String> {
    let part = |c: char| c.is_ascii_lowercase() || c == '_';
    let starts = text.match_indices("artifact_cache_");
    let names = starts.map(|(start, _)| text[start..].split(|c| !part(c)).next().unwrap());
    let plain = |name: &str| {
        let ends = ["_bucket", "_sum", "_count"];
        let end = ends.iter().find_map(|end| name.strip_suffix(end));
        end.unwrap_or(name).to_owned()
    };
    names.map(plain).collect()
}

fn ours(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../receiver")
        .join(file);
    fs::read_to_string(path).unwrap()
}

/// Returns the client's program with a subcommand, which reaches the receiver as an identity of the
/// configuration.
fn client(place: &Place, subcommand: &str, who: &str) -> Command {
    let ssh = place.dir.path().join("ssh");
    let receiver = programs::receiver().unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != -G ] || exit 0\nexec {} --identity {who} --config config server\n",
        receiver.display()
    );
    fs::write(&ssh, script).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let mut client = Command::new(programs::client().unwrap());
    client
        .args([subcommand, "--json", "--retries", "0"])
        .args(["--ssh", "./ssh"])
        .current_dir(place.dir.path())
        .env("HOME", place.dir.path());
    client
}

fn push(place: &Place, who: &str, names: &[&str]) -> Pushed {
    let mut push = client(place, "push", who);
    push.args(["--remote", "x:y", "--repo", "source"])
        .args(names);
    Pushed::read(run(&mut push).unwrap()).unwrap()
}

#[test]
fn every_documented_series_moves_when_something_happens() {
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    let audit = place.dir.path().join("audit");
    let config = format!(
        "[audit]\nfile = '{}'\n[[identity]]\nname = 'alice'\nkeys = []\npush = ['alpha/**']\n",
        audit.display()
    );
    fs::write(place.dir.path().join("config"), config).unwrap();
    let metrics = || {
        let args = ["metrics", "--config", "config", "server"];
        place.admin(&args).success().unwrap()
    };
    let before = parse(&metrics());
    let many = "x".repeat(100_000);
    for (name, content) in [
        ("alpha/a/k", many.as_str()),
        ("beta/b/k", "b"),
        ("alpha/c/k", "c"),
    ] {
        place.commit(name, content);
    }
    push(&place, "alice", &["alpha/a/k"]).must_exit(0).unwrap();
    push(&place, "alice", &["beta/b/k"]).must_exit(3).unwrap();
    push(&place, "eve", &["alpha/c/k"]).must_exit(3).unwrap();
    Repo::init(&place.dir.path().join("user"), Mode::BareUser).unwrap();
    let mut pull = client(&place, "pull", "alice");
    let pulled = run(pull.args(["--remote", "x:y", "--repo", "user", "alpha/a/k"]));
    pulled.unwrap().success().unwrap();
    fs::write(place.server.path().join("refs/heads/broken"), "nothing").unwrap();
    // What takes room of a disk that others use as well.
    fs::write(place.dir.path().join("room"), vec![1; 8 << 20]).unwrap();

    let documented: BTreeSet<_> = names_in(&ours("MANUAL.md"))
        .into_iter()
        .filter(|name| !name.starts_with(OF_SERVER))
        .collect();
    assert!(documented.len() > 12, "{documented:?}");
    let moved = |after: &BTreeMap<String, f64>| {
        let differs = |series: &&String| before.get(*series) != after.get(*series);
        after
            .keys()
            .filter(differs)
            .flat_map(|series| names_in(series))
            .collect::<BTreeSet<_>>()
    };
    // The time of the figures moves once a second, and others may give back as much as is taken.
    let begun = Instant::now();
    let mut text = metrics();
    while moved(&parse(&text)) != documented && begun.elapsed() < Duration::from_secs(5) {
        text = metrics();
    }
    assert_eq!(moved(&parse(&text)), documented);
    let after = parse(&text);
    for (series, value) in [
        ("pushes_total{outcome=\"done\"}", 1.0),
        ("pushes_total{outcome=\"refused\"}", 2.0),
        ("failed_pushes_total{reason=\"not-permitted\"}", 1.0),
        ("pushed_refs_total{outcome=\"updated\"}", 1.0),
        ("refused_refs_total{reason=\"not-permitted\"}", 1.0),
        ("push_duration_seconds_count", 3.0),
        ("pulls_total{outcome=\"done\"}", 1.0),
        ("sent_objects_total", 4.0),
        ("refs", 1.0),
        ("broken_refs", 1.0),
    ] {
        assert_eq!(
            after[&format!("artifact_cache_{series}")],
            value,
            "{series}"
        );
    }
    let out = place.dir.path().join("cache.prom");
    let args = [
        "metrics",
        "--config",
        "config",
        "--out",
        "cache.prom",
        "server",
    ];
    assert_eq!(place.admin(&args).success().unwrap(), "");
    assert_eq!(
        names_in(&fs::read_to_string(&out).unwrap()),
        names_in(&text)
    );
    let ran = place.admin(&[
        "metrics", "--config", "config", "--out", "no/such", "server",
    ]);
    assert_eq!(ran.code, Some(9), "{ran}");
}

#[test]
fn every_documented_series_of_the_server_moves_when_somebody_pulls() {
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    let mut serving = Serving::start(place.server.path(), &["--metrics", "127.0.0.1:0"]).unwrap();
    let address = serving.places()[1];
    let scrape = || {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error"])
            .arg(format!("http://{address}/metrics"));
        parse(&run(&mut curl).unwrap().success().unwrap())
    };
    let before = scrape();
    place.commit("alpha/a/k", "a");
    place.push(&["alpha/a/k"]).must_exit(0).unwrap();
    serving
        .curl("/artifacts/refs/heads/alpha/a/k", &[])
        .unwrap();
    serving.curl("/nothing", &[]).unwrap();
    Repo::init(&place.dir.path().join("user"), Mode::BareUser).unwrap();
    let mut pull = client(&place, "pull", "nobody");
    pull.args(["--remote", &serving.url(), "--ca"])
        .arg(serving.authority().certificate())
        .args(["--repo", "user", "alpha/a/k"]);
    run(&mut pull).unwrap().success().unwrap();
    // One that stays, and one that does not speak TLS.
    let _open = TcpStream::connect(serving.places()[0]).unwrap();
    let mut other = TcpStream::connect(serving.places()[0]).unwrap();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    serving.signal(rustix::process::Signal::HUP).unwrap();
    serving.wait_for("certificate").unwrap();
    let documented: BTreeSet<_> = names_in(&ours("MANUAL.md"))
        .into_iter()
        .filter(|name| name.starts_with(OF_SERVER) && !STILL.contains(&&**name))
        .collect();
    assert!(documented.len() > 6, "{documented:?}");
    let moved = || {
        let after = scrape();
        let differs = |series: &&String| before.get(*series) != after.get(*series);
        after
            .keys()
            .filter(differs)
            .flat_map(|series| names_in(series))
            .collect::<BTreeSet<_>>()
    };
    let begun = Instant::now();
    while moved() != documented && begun.elapsed() < Duration::from_secs(10) {}
    assert_eq!(moved(), documented);
    let last = scrape();
    assert!(STILL.iter().all(|series| last.contains_key(*series)));
}

#[test]
fn alerts_and_dashboard_speak_of_series_that_exist() {
    let documented = names_in(&ours("MANUAL.md"));
    let dashboard = ours("monitoring/dashboard.json");
    let _: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    for (what, text) in [
        ("alerts", ours("monitoring/alerts.yml")),
        ("dashboard", dashboard),
    ] {
        let used = names_in(&text);
        assert!(used.len() > 8, "{what}: {used:?}");
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?}");
    }
    if extra() {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../receiver/monitoring/alerts.yml");
        let mut promtool = Command::new("promtool");
        run(promtool.args(["check", "rules"]).arg(rules))
            .unwrap()
            .success()
            .unwrap();
    }
}
