//! What pullers get: files, parts of them, and what caches may do with it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use artifact_serve::Order;
use proptest::prelude::*;

use super::support::{REF, REST, Scene, content};

const LEN: usize = 100_000;

fn object() -> String {
    format!("/artifacts/objects/ab/{REST}.filez")
}

#[test]
fn objects_are_kept_for_ever_and_refs_summary_and_config_are_asked_for_again() {
    let scene = Scene::start();
    let reply = scene.get(&object(), "");
    assert_eq!(reply.body, content(LEN));
    let kept = reply.header("cache-control").unwrap();
    assert!(
        kept.contains("immutable") && kept.contains("max-age=31536000"),
        "{kept}"
    );
    for path in [
        &format!("refs/heads/{REF}"),
        "summary",
        "summary.sig",
        "config",
    ] {
        let reply = scene.get(&format!("/artifacts/{path}"), "");
        assert_eq!(reply.header("cache-control"), Some("no-cache"), "{path}");
    }
    let config = scene.get("/artifacts/config", "");
    assert_eq!(config.body, b"[core]\nrepo_version=1\nmode=archive-z2\n");
    let missing = scene.get(&format!("/artifacts/objects/ff/{REST}.filez"), "");
    assert_eq!(
        (missing.status, missing.header("cache-control")),
        (404, Some("no-cache"))
    );
}

#[test]
fn what_a_client_has_is_not_sent_again_until_it_changes() {
    let scene = Scene::start();
    let path = format!("/artifacts/refs/heads/{REF}");
    let reply = scene.get(&path, "");
    let tag = format!("If-None-Match: {}\r\n", reply.header("etag").unwrap());
    let date = format!(
        "If-Modified-Since: {}\r\n",
        reply.header("last-modified").unwrap()
    );
    for condition in [&tag, &date] {
        let reply = scene.get(&path, condition);
        assert_eq!((reply.status, reply.body.len()), (304, 0), "{condition}");
    }
    let file = scene.repo().join("refs/heads").join(REF);
    fs::write(file.with_extension("new"), format!("cd{REST}\n")).unwrap();
    fs::rename(file.with_extension("new"), &file).unwrap();
    let reply = scene.get(&path, &tag);
    assert_eq!((reply.status, &reply.body[..2]), (200, b"cd".as_slice()));
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let scene = Scene::start();
    for path in [object(), "/artifacts/summary".to_owned(), "/".to_owned()] {
        let get = scene.get(&path, "");
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let said = String::from_utf8(scene.say(request.as_bytes())).unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{path}");
        let plain = |head: &str| {
            let lines = head.lines().filter(|line| !line.starts_with("date:"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(plain(head), plain(&get.head), "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_range_is_that_part_of_the_file(first in 0usize..LEN + 10, more in 0usize..LEN) {
        let scene = &*SCENE;
        let whole = content(LEN);
        let last = first + more;
        for (range, part) in [
            (format!("bytes={first}-{last}"), whole.get(first..(last + 1).min(LEN))),
            (format!("bytes={first}-"), whole.get(first..)),
            (format!("bytes=-{more}"), Some(&whole[LEN - more..])),
        ] {
            let reply = scene.get(&object(), &format!("Range: {range}\r\n"));
            let Some(part) = part.filter(|part| !part.is_empty()) else {
                prop_assert_eq!(reply.status, 416, "{}", range);
                prop_assert_eq!(reply.header("content-range"), Some("bytes */100000"));
                continue;
            };
            prop_assert_eq!(reply.status, 206, "{}", range);
            prop_assert!(reply.body == part, "{}", range);
        }
    }
}

static SCENE: std::sync::LazyLock<Scene> = std::sync::LazyLock::new(Scene::start);

#[test]
fn an_answer_that_is_running_is_finished_when_the_server_stops_and_nobody_new_is_let_in() {
    let scene = Scene::start();
    let big = content(8 << 20);
    fs::write(
        scene.repo().join(format!("objects/ab/{REST}.dirtree")),
        &big,
    )
    .unwrap();
    let mut slow = scene.connect();
    let path = format!("/artifacts/objects/ab/{REST}.dirtree");
    write!(slow, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut first = vec![0; 1000];
    slow.read_exact(&mut first).unwrap();
    let mut idle = scene.connect();
    scene.orders.send(Order::Stop).unwrap();
    assert_eq!(
        idle.read(&mut [0; 10]).unwrap_or(0),
        0,
        "it is told good-bye"
    );
    let begun = Instant::now();
    while TcpStream::connect(scene.address).is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it still listens"
        );
    }
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    let said = [first, rest].concat();
    assert!(said.ends_with(&big[big.len() - 1000..]));
    assert!(said.len() > big.len());
}

#[test]
fn slow_and_silent_connections_hold_up_nobody_else() {
    let scene = Scene::start();
    let mut slow: Vec<_> = (0..80).map(|_| scene.connect()).collect();
    for (n, stream) in slow.iter_mut().enumerate() {
        let part = &"GET /artifacts/summary HTTP/1.1\r\nHost: a\r\n"[..n % 40];
        stream.write_all(part.as_bytes()).unwrap();
    }
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(scene.get(&object(), "").body, content(LEN));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_server_whose_connections_are_all_taken_tells_monitoring_that_it_lives() {
    let scene = Scene::start_small(3);
    let held: Vec<_> = (0..3).map(|_| scene.connect()).collect();
    for path in ["/livez", "/readyz", "/metrics"] {
        let mut monitor = TcpStream::connect(scene.monitor).unwrap();
        monitor
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        monitor.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        monitor.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 200 "), "{path}: {said}");
    }
    drop(held);
}

#[test]
fn no_puller_gets_a_summary_and_a_signature_of_different_pushes() {
    let scene = Scene::start();
    let (repo, done) = (scene.repo(), AtomicBool::new(false));
    let put = |name: &str, text: &str, date| {
        fs::write(repo.join("new"), text).unwrap();
        let file = File::options().write(true).open(repo.join("new"));
        file.unwrap().set_modified(date).unwrap();
        fs::rename(repo.join("new"), repo.join(name)).unwrap();
    };
    let ask = |stream: &mut TcpStream, name: &str| {
        write!(stream, "GET /artifacts/{name} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"!") {
            let mut bytes = [0; 1000];
            let len = stream.read(&mut bytes).unwrap();
            assert_ne!(len, 0);
            said.extend_from_slice(&bytes[..len]);
        }
        let text = String::from_utf8(said).unwrap();
        text.rsplit('\n').next().unwrap().to_owned()
    };
    let start = SystemTime::now();
    put("summary", "0!", start);
    put("summary.sig", "0!", start);
    let seen: usize = thread::scope(|scope| {
        let pullers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let (mut stream, mut seen) = (scene.connect(), BTreeSet::new());
                    while !done.load(Ordering::Acquire) {
                        let signature = ask(&mut stream, "summary.sig");
                        assert_eq!(ask(&mut stream, "summary"), signature);
                        seen.insert(signature);
                    }
                    seen.len()
                })
            })
            .collect();
        for n in 1..300 {
            let date = start + Duration::from_millis(n);
            let names = ["summary", "summary.sig"];
            // libostree writes the summary first, the receiver the signature.
            put(names[usize::from(n % 2 == 0)], &format!("{n}!"), date);
            thread::yield_now();
            put(names[usize::from(n % 2 == 1)], &format!("{n}!"), date);
        }
        done.store(true, Ordering::Release);
        pullers
            .into_iter()
            .map(|puller| puller.join().unwrap())
            .sum()
    });
    assert!(seen > 20, "{seen} pairs: nothing was shown");
}
