//! The page for people: by the server, as files, and in a real browser.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use artifact_tests::exec::run;
use artifact_tests::serving::Serving;

use crate::extra;
use crate::place::Place;

/// Makes a cache with these refs, all of one commit.
fn cache(names: &[String]) -> Place {
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    let Some((first, others)) = names.split_first() else {
        return place;
    };
    place.commit(first, "hello");
    place.push(&[first]).must_exit(0).unwrap();
    let heads = place.server.path().join("refs/heads");
    for name in others {
        let path = heads.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(heads.join(first), path).unwrap();
    }
    place.admin(&["summary", "server"]).success().unwrap();
    place
}

#[test]
fn the_server_shows_a_push_on_its_page_moments_later() {
    let place = cache(&["alpha/greeting/one".to_owned()]);
    let audit = place.dir.path().join("audit");
    fs::write(&audit, "").unwrap();
    let audit = audit.to_string_lossy().into_owned();
    let serving = Serving::start(place.server.path(), &["--audit", &audit]).unwrap();
    let page = serving.curl("/p/alpha/greeting/", &[]).unwrap();
    assert!(page.contains("alpha/greeting/one"), "{page}");
    assert!(
        page.contains(&format!("--remote {} alpha/greeting/one", serving.url())),
        "{page}"
    );

    place.commit("alpha/greeting/two", "two");
    place.push(&["alpha/greeting/two"]).must_exit(0).unwrap();
    let commit = place.source.commit_of("alpha/greeting/two").unwrap();
    let line = serde_json::json!({
        "time": "2026-01-01T00:00:00Z", "session": "", "identity": "alice", "outcome": "done",
        "refs": [{"name": "alpha/greeting/two", "new": commit.to_hex(), "outcome": "updated"}],
        "objects": 1, "bytes": 1, "duration_ms": 1,
    });
    fs::write(&audit, format!("{line}\n")).unwrap();
    let begun = Instant::now();
    while !serving
        .curl("/search?q=two+alice", &[])
        .unwrap()
        .contains("1 ref found")
    {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{}",
            serving.said()
        );
    }

    let head = |path: &str, more: &[&str]| {
        let quiet = ["--include", "--output", "/dev/stdout"];
        let said = serving.curl(path, &[&quiet[..], more].concat()).unwrap();
        said.replace('\r', "").to_lowercase()
    };
    let first = head("/p/alpha/", &[]);
    for header in [
        "content-security-policy: default-src 'none'",
        "cache-control: no-cache",
        "etag: \"",
    ] {
        assert!(first.contains(header), "{header} in {first}");
    }
    let (_, tag) = first.split_once("etag: ").unwrap();
    let tag = format!("If-None-Match: {}", tag.lines().next().unwrap());
    assert!(head("/p/alpha/", &["--header", &tag]).starts_with("http/2 304"));
    assert!(head("/p/alpha", &[]).contains("location: alpha/\n"));
    assert!(head("/p/nothing/", &[]).starts_with("http/2 404"));
    // Programs that pull are told in short, people in a page.
    assert!(head("/artifacts/nothing", &[]).ends_with("\nnot found\n"));
    let told = head("/artifacts/nothing", &["--header", "Accept: text/html"]);
    assert!(
        told.starts_with("http/2 404") && told.contains("<h1>not here</h1>"),
        "{told}"
    );

    let plain = Serving::start(place.server.path(), &["--no-page"]).unwrap();
    assert_eq!(plain.curl("/", &[]).unwrap(), "not found\n");
}

#[test]
fn readers_of_the_files_never_see_half_of_them() {
    let names: Vec<_> = (0..12).map(|n| format!("p{n}/e/k")).collect();
    let place = cache(&names);
    let write = || {
        place
            .admin(&["page", "server", "--out", "www"])
            .success()
            .unwrap()
    };
    assert_eq!(write(), "wrote 25 pages to www\n");
    let www = place.dir.path().join("www");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Acquire) {
                let home = fs::read_to_string(www.join("index.html")).unwrap();
                assert!(
                    home.ends_with("</html>\n") || home.ends_with("</html>"),
                    "half a page"
                );
                // All are there at any moment, of one run or the next.
                let last = fs::read_to_string(www.join("p/p11/e/index.html")).unwrap();
                assert!(last.contains("p11/e/k"));
                looks += 1;
            }
            looks
        });
        for _ in 0..10 {
            write();
        }
        done.store(true, Ordering::Release);
        assert!(reader.join().unwrap() > 10);
    });
    let left = fs::read_dir(place.dir.path()).unwrap();
    assert!(!left.flatten().any(|entry| entry.file_name() == ".www.new"));
    fs::write(www.join("robots.txt"), "").unwrap();
    let ran = place.admin(&["page", "server", "--out", "www"]);
    assert_eq!(ran.code, Some(2), "{ran}");
    assert!(ran.stderr.contains("robots.txt"), "{ran}");
    let ran = place.admin(&["page", "server", "--out", "x", "--pull-url", "https://a b"]);
    assert_eq!(ran.code, Some(2), "{ran}");
    assert_eq!(
        place.admin(&["page", "source/refs", "--out", "x"]).code,
        Some(9)
    );
}

/// The page of 50,000 refs, while they change.
#[test]
fn a_page_of_fifty_thousand_refs_is_there_in_a_tenth_of_a_second() {
    if !extra() {
        return;
    }
    let name = |n: usize| format!("p{}/e{}/{n:064x}", n % 20, n % 4_000);
    let names: Vec<_> = (0..50_000).map(name).collect();
    let place = cache(&names);
    let serving = Serving::start(place.server.path(), &[]).unwrap();
    let mut worst = Duration::ZERO;
    for turn in 0..20 {
        let begun = Instant::now();
        let page = serving
            .curl(["/", "/p/p3/", "/search?q=e39", "/p/p3/e3/"][turn % 4], &[])
            .unwrap();
        worst = worst.max(begun.elapsed());
        assert!(page.ends_with("</html>"), "{page}");
        // Every other page is made after a push.
        fs::write(
            place.server.path().join("refs/heads/new"),
            format!("{}\n", "ab".repeat(32)),
        )
        .unwrap();
        thread::sleep(Duration::from_millis(700));
    }
    // With curl and TLS.
    assert!(worst < Duration::from_millis(250), "{worst:?}");
}

#[test]
fn a_browser_finds_every_page_and_axe_nothing_to_mend() {
    if !extra() {
        return;
    }
    let keys = (0..101).map(|n| format!("alpha/greeting/{n:064x}"));
    let elements = (0..4).map(|n| format!("alpha/e{n}/k"));
    let others = ["beta/x/y/z", "beta/k", "main"].map(str::to_owned);
    let names: Vec<_> = keys.chain(elements).chain(others).collect();
    let place = cache(&names);
    place
        .admin(&["page", "server", "--out", "www"])
        .success()
        .unwrap();
    let serving = Serving::start(place.server.path(), &[]).unwrap();
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let mut look = Command::new("node");
    look.arg(at.join("look.mjs"))
        .arg(serving.url().replace("/artifacts", "/"))
        .arg(place.dir.path().join("www"))
        // The browser keeps what it needs there.
        .env("HOME", place.dir.path());
    let said = run(&mut look).unwrap();
    let said = said
        .success()
        .expect("`.ci/setup extra` installs chromium, node and what they load");
    assert!(said.contains("13 pages served, 13 as files"), "{said}");
    assert!(said.contains(" 0 findings"), "{said}");
}
