//! Hostile paths: nothing but errors.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::support::{REF, REST, SECRET, Scene, replies};

/// What is there, to be twisted.
fn good() -> [String; 6] {
    [
        format!("/artifacts/objects/ab/{REST}.filez"),
        format!("/artifacts/objects/ab/{REST}.commit"),
        format!("/artifacts/refs/heads/{REF}"),
        "/artifacts/summary".to_owned(),
        "/artifacts/summary.sig".to_owned(),
        "/artifacts/config".to_owned(),
    ]
}

fn hostile() -> BTreeSet<String> {
    let mut paths: BTreeSet<String> = TABLE.lines().map(|line| line.trim().to_owned()).collect();
    for path in good() {
        let file = path.strip_prefix("/artifacts/").unwrap();
        let last = path.len() - 1;
        paths.extend([
            format!("/artifacts/./{file}"),
            format!("/artifacts//{file}"),
            format!("//artifacts/{file}"),
            format!("/artifacts/x/../{file}"),
            format!("/artifacts/../artifacts/{file}"),
            format!("/artifacts/%2e/{file}"),
            format!("/artifacts/x/%2e%2e/{file}"),
            format!("/artifacts/x/%252e%252e/{file}"),
            format!("/artifacts%2f{file}"),
            format!("/artifacts/..%2fartifacts/{file}"),
            format!("/artifacts/..%5c{file}"),
            format!("/artifacts/%{:02x}{}", file.as_bytes()[0], &file[1..]),
            format!("{path}/"),
            format!("{path}%00"),
            format!("{path}%00.html"),
            format!("{path}%0a"),
            format!("{path}."),
            format!("{path}~"),
            format!("{path}%20"),
            format!("{path};x"),
            format!("{path}/.."),
            format!("/{file}"),
            format!("/ARTIFACTS/{file}"),
            format!("/artifacts/{}", file.to_uppercase()),
            format!("{}%{:02x}", &path[..last], path.as_bytes()[last]),
            format!("{}%u00{:02x}", &path[..last], path.as_bytes()[last]),
            format!("{}%c0%af", &path[..last]),
        ]);
    }
    paths
}

/// Files that are there and not a puller's, traps, and ways out.
const TABLE: &str = "/artifacts
    /artifacts/
    /artifacts/.lock
    /artifacts/secret
    /artifacts/state/x
    /artifacts/tmp/x
    /artifacts/tmp
    /artifacts/objects
    /artifacts/objects/
    /artifacts/objects/ab
    /artifacts/objects/ab/
    /artifacts/refs
    /artifacts/refs/heads
    /artifacts/refs/heads/
    /artifacts/refs/heads/alpha
    /artifacts/refs/heads/alpha/greeting
    /artifacts/refs/heads/up/config
    /artifacts/refs/heads/link
    /artifacts/refs/heads/-dash
    /artifacts/refs/heads/.dot
    /artifacts/refs/heads/../../secret
    /artifacts/refs/heads/alpha/../../../secret
    /artifacts/refs/remotes/x
    /artifacts/refs/mirrors/org.example/../../../secret
    /artifacts/refs/mirrors/..
    /artifacts/extensions/artifact-cache/x
    /artifacts/extensions/artifact-cache/staging
    /artifacts/summary.idx
    /artifacts/summaries/../secret
    /artifacts/deltas/passwd
    /artifacts/deltas/../secret
    /artifacts/delta-indexes/..
    /artifacts/objects/01/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.filez
    /artifacts/objects/02/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.filez
    /artifacts/objects/03/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.dirtree
    /artifacts/objects/04/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.filez
    /artifacts/objects/05/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.filez
    /artifacts/objects/06/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.filez
    /artifacts/objects/07/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.filez
    /artifacts/objects/ac/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.dirtree
    /artifacts/objects/00/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.commit
    /artifacts/objects/ab/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.file
    /artifacts/objects/ab/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.filez.tmp
    /artifacts/objects/AB/0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCD.filez
    /artifacts/objects/ab/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abc.filez
    /artifacts/objects/a/b0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd.filez
    /artifacts/%2e%2e/secret
    /artifacts/..%2fsecret
    /artifacts/..%252fsecret
    /artifacts/....//secret
    /artifacts/..;/secret
    /artifacts/\\..\\secret
    /../secret
    /../../../../../../etc/passwd
    /%2e%2e/%2e%2e/etc/passwd
    /etc/passwd
    //etc/passwd
    /artifacts//etc/passwd
    /proc/self/environ
    /dev/zero
    /artifacts/file:///etc/passwd
    /p/../artifacts/secret/
    /p/%2e%2e/secret/
    /p/..%2f..%2fsecret/
    /metrics
    /.well-known/../secret
    http://a/etc/passwd
    http://a/artifacts/../secret
    file:///etc/passwd
    ftp://a/artifacts/summary
    gopher://a/artifacts/summary
    artifacts/summary
    a:80
    *
    ?
    /artifacts/summary/%2e%2e/secret
    /artifacts/refs/heads/tmp.x
    /artifacts/refs/heads/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn hostile_paths_are_answered_with_errors_and_show_nothing() {
    let scene = Scene::start();
    for path in good() {
        assert_eq!(scene.get(&path, "").status, 200, "{path}");
    }
    let hostile = hostile();
    assert!(hostile.len() >= 200, "{}", hostile.len());
    for path in hostile {
        let reply = scene.get(&path, "");
        assert!((400..500).contains(&reply.status), "{path}: {reply:?}");
        let said = String::from_utf8_lossy(&reply.body);
        assert!(!said.contains(SECRET) && !said.contains("root:"), "{path}");
    }
}

#[test]
fn what_cannot_be_in_a_path_is_not_taken_for_one() {
    let scene = Scene::start();
    for byte in (0..=0x20).chain(0x7f..=0xff) {
        if byte == b' ' {
            continue;
        }
        let mut request = b"GET /artifacts/summary".to_vec();
        request.push(byte);
        request.extend(b"x HTTP/1.1\r\nHost: a\r\n\r\n");
        for reply in replies(&scene.say(&request)) {
            assert!((400..500).contains(&reply.status), "{byte}: {reply:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_path_is_answered_and_only_a_pullers_paths_show_files(
        path in "(/artifacts)?/(objects|refs/heads|summary|tmp|\\.\\.|%2e%2e|[ -~]{0,6})(/[!-~]{0,12}){0,4}"
    ) {
        let scene = &*SCENE;
        let path = path.replace(' ', "");
        for reply in replies(&scene.say(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())) {
            let said = String::from_utf8_lossy(&reply.body);
            prop_assert!(!said.contains(SECRET), "{path}");
            let served = path.split('?').next().unwrap();
            let known = good().iter().any(|good| good == served) || !served.starts_with("/artifacts/");
            prop_assert!(reply.status >= 300 || known, "{path}: {reply:?}");
        }
    }
}

static SCENE: std::sync::LazyLock<Scene> = std::sync::LazyLock::new(Scene::start);
