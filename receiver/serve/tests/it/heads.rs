//! Request smuggling, header tricks and nonsense: clean errors, and never a second answer.

use proptest::prelude::*;

use super::support::{Scene, replies};

/// Requests that two programs may read differently. Behind each comes one for the summary, which
/// must not be answered.
const TRICKS: &[&str] = &[
    "Host: a\r\nContent-Length: 40\r\nTransfer-Encoding: chunked",
    "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 40",
    "Host: a\r\nTransfer-Encoding: chunked",
    "Host: a\r\nTransfer-Encoding: chunked, identity",
    "Host: a\r\nTransfer-Encoding: identity, chunked",
    "Host: a\r\nTransfer-Encoding: identity",
    "Host: a\r\nTransfer-Encoding: xchunked",
    "Host: a\r\nTransfer-Encoding: \x0bchunked",
    "Host: a\r\nTransfer-Encoding:chunked",
    "Host: a\r\nTransfer-Encoding : chunked",
    "Host: a\r\n Transfer-Encoding: chunked",
    "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Host: a\r\ntransfer-encoding: cHuNkEd",
    "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Host: a\r\nContent-Length: 4",
    "Host: a\r\nContent-Length: 4\r\nContent-Length: 5",
    "Host: a\r\nContent-Length: 4, 4",
    "Host: a\r\nContent-Length: +4",
    "Host: a\r\nContent-Length: -1",
    "Host: a\r\nContent-Length: 0x4",
    "Host: a\r\nContent-Length: 4 ",
    "Host: a\r\nContent-Length: 99999999999999999999999",
    "Host: a\r\nContent-Length : 4",
    "Host: a\r\nContent-Length: 4\r\nExpect: 100-continue",
    "Host: a\r\nContent\x00-Length: 4",
    "Host: a\r\nX: y\rTransfer-Encoding: chunked",
    "Host: a\r\nX: y\nContent-Length: 400",
    "Host: a\r\n X: folded\r\nContent-Length: 4",
    "Host: a\r\n\tContent-Length: 4",
    "Host: a\r\nX: \x00",
    "Host: a\r\nX\x7f: y",
    "Host: a\r\n: empty",
    "Host: a\r\nno colon",
    "Host: a\r\nHost: b",
    "Host: a, b",
    "Host: a/../b",
    "Host: a@b",
    "Host: \"><script>",
    "Host: a\r\nhost: a",
    " Host: a",
    "X: no host",
    "Host: a b",
    "Host: %61",
];

/// First lines that are none.
const LINES: &[&str] = &[
    "GET /artifacts/summary",
    "GET  /artifacts/summary HTTP/1.1",
    "GET /artifacts/summary HTTP/1.2",
    "GET /artifacts/summary HTTP/3.0",
    "GET /artifacts/summary HTTP/11",
    "GET /artifacts/summary http/1.1",
    "GET /artifacts/summary HTTP/1.1 HTTP/1.1",
    "GET\t/artifacts/summary HTTP/1.1",
    "G\x00T /artifacts/summary HTTP/1.1",
    "POST /artifacts/summary HTTP/1.1",
    "PUT /artifacts/summary HTTP/1.1",
    "DELETE /artifacts/summary HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "TRACE /artifacts/summary HTTP/1.1",
    "CONNECT a:80 HTTP/1.1",
    "PROPFIND /artifacts/ HTTP/1.1",
    "get /artifacts/summary HTTP/1.1",
    "PRI * HTTP/2.0",
];

const SECOND: &str = "GET /artifacts/summary HTTP/1.1\r\nHost: a\r\n\r\n";

fn must_be_refused(scene: &Scene, request: &str) {
    let said = scene.say(request.as_bytes());
    // An answer to HEAD has a length and no body: only the heads can be counted.
    let heads = said.windows(9).filter(|nine| nine == b"HTTP/1.1 ").count();
    assert!(
        heads <= 1,
        "{request:?}: {}",
        String::from_utf8_lossy(&said)
    );
    for reply in replies(&said) {
        assert!((400..600).contains(&reply.status), "{request:?}: {reply:?}");
        assert_ne!(reply.body, b"summary", "{request:?}");
    }
}

#[test]
fn tricks_with_lengths_and_hosts_are_refused_and_smuggle_nothing() {
    let scene = Scene::start();
    assert!(TRICKS.len() + LINES.len() >= 60);
    for headers in TRICKS {
        for method in ["GET", "HEAD", "POST"] {
            let first = format!("{method} /artifacts/summary HTTP/1.1\r\n{headers}\r\n\r\n");
            must_be_refused(&scene, &format!("{first}{SECOND}"));
        }
    }
    for line in LINES {
        must_be_refused(&scene, &format!("{line}\r\nHost: a\r\n\r\n{SECOND}"));
    }
}

#[test]
fn heads_beyond_their_limits_are_refused() {
    let scene = Scene::start();
    let long = "x".repeat(20_000);
    let many = "X: y\r\n".repeat(200);
    for request in [
        format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(256)),
    ] {
        must_be_refused(&scene, &request);
    }
}

#[test]
fn requests_that_follow_each_other_are_answered_in_turn() {
    let scene = Scene::start();
    let last = SECOND.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let replies = replies(&scene.say(format!("{SECOND}{SECOND}{last}").as_bytes()));
    let bodies: Vec<_> = replies.iter().map(|reply| &*reply.body).collect();
    assert_eq!(bodies, [b"summary"; 3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever is sent, what comes back is answers of HTTP, and none has what was not asked for.
    #[test]
    fn any_head_is_answered_cleanly_or_not_at_all(
        // Not HEAD: these bytes may be two requests, and its answer does not say where it ends.
        method in "(GET|POST|[!-~]{1,8})",
        path in "(/artifacts/summary|/[!-~]{0,20}|[!-~]{0,8})",
        lines in prop::collection::vec(
            prop_oneof![
                4 => "(Host|Content-Length|Transfer-Encoding|Range|Connection|Expect|Upgrade|If-Range|[!-~]{1,10}): ?[ -~]{0,20}",
                1 => "[ -~]{0,20}",
                1 => "\\PC{0,10}",
            ],
            0..6,
        ),
        end in "(\r\n|\n|\r)",
    ) {
        let scene = &*SCENE;
        let head = format!("{method} {path} HTTP/1.1{end}{}{end}{end}", lines.join(&end));
        for reply in replies(&scene.say(head.as_bytes())) {
            prop_assert!((200..600).contains(&reply.status), "{head:?}: {reply:?}");
        }
    }

    #[test]
    fn any_bytes_are_answered_cleanly_or_not_at_all(bytes: Vec<u8>) {
        for reply in replies(&SCENE.say(&bytes)) {
            prop_assert!((400..600).contains(&reply.status), "{reply:?}");
        }
    }
}

static SCENE: std::sync::LazyLock<Scene> = std::sync::LazyLock::new(Scene::start);
