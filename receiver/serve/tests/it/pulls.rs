//! Pulls by one POST: what is answered, what is not, and how many at once.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use artifact_formats::{
    Attributes, Checksum, Commit, Dirmeta, Dirtree, ObjectId, ObjectKind, Xattrs,
};
use artifact_protocol::frame::{
    CloseCode, Frame, Hello, PREAMBLE, PullOptions, RefRequest, Request,
};
use artifact_protocol::limits::MAX_FRAME_LEN_MAX;
use artifact_protocol::{Features, Text, Version};
use artifact_serve::Pulls;
use bytes::BytesMut;

use super::support::{REF, Scene, replies};

const TYPE: &str = "Content-Type: application/vnd.artifact-cache.pull";

fn store(repo: &Path, kind: ObjectKind, bytes: &[u8]) -> ObjectId {
    let id = ObjectId::new(kind, Checksum::of(bytes));
    let path = repo
        .join("objects")
        .join(id.loose_path(kind.archive_extension()));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    id
}

/// Makes a commit with a file of `len` bytes, and a ref to it.
fn commit(repo: &Path, name: &str, len: usize) {
    let meta = Attributes {
        uid: 0,
        gid: 0,
        mode: 0o040_755,
        xattrs: Xattrs::default(),
    };
    let meta = store(
        repo,
        ObjectKind::Dirmeta,
        &Dirmeta::new(meta).unwrap().serialize(),
    );
    let file = store(repo, ObjectKind::File, &vec![7; len]);
    let tree = Dirtree::serialize([("file", file.checksum)], []);
    let tree = store(repo, ObjectKind::Dirtree, &tree);
    let commit = Commit::new(tree.checksum, meta.checksum);
    let commit = store(repo, ObjectKind::Commit, &commit.serialize());
    let path = repo.join("refs/heads").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{}\n", commit.checksum)).unwrap();
}

fn request(name: &str) -> Vec<u8> {
    said(ask(name))
}

fn ask(name: &str) -> Request {
    let wanted = RefRequest {
        name: name.parse().unwrap(),
        current: None,
        detached: None,
    };
    Request {
        options: PullOptions::default(),
        history: 0,
        refs: vec![wanted],
        patterns: Vec::new(),
        held: Vec::new(),
        more: false,
        extensions: Default::default(),
    }
}

fn said(request: Request) -> Vec<u8> {
    let hello = Hello {
        version_min: Version::OLDEST,
        version_max: Version::NEWEST,
        features: Features::SUPPORTED,
        agent: Text::new("a client by hand"),
        extensions: Default::default(),
    };
    let mut said = PREAMBLE.to_vec();
    said.extend(Frame::Hello(hello).encode());
    said.extend(Frame::Request(request).encode());
    said
}

/// The head of a request whose answer ends with the connection.
fn head(headers: &str, len: usize) -> Vec<u8> {
    format!("POST /artifacts/pull HTTP/1.0\r\n{headers}\r\nContent-Length: {len}\r\n\r\n").into()
}

fn post(scene: &Scene, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    split(&scene.say(&[head(headers, body.len()), body.to_vec()].concat()))
}

fn split(said: &[u8]) -> (u16, Vec<u8>) {
    let end = said
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&said[..end]);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, said[end + 4..].to_vec())
}

/// Takes the frames of an answer apart: how many objects it has, their bytes, and how it ended.
fn frames(body: &[u8]) -> (u64, u64, Option<CloseCode>) {
    let mut body = BytesMut::from(body);
    assert_eq!(body.split_to(PREAMBLE.len())[..], PREAMBLE);
    let (mut count, mut len, mut close) = (0, 0, None);
    while let Some(frame) = Frame::decode(&mut body, MAX_FRAME_LEN_MAX).unwrap() {
        match frame {
            Frame::Sent(sent) => (count, len) = (sent.objects, sent.bytes),
            Frame::Close(closed) => close = Some(closed.code),
            _ => {}
        }
    }
    (count, len, close)
}

#[test]
fn a_post_is_answered_with_all_that_the_ref_reaches() {
    let scene = Scene::start();
    commit(&scene.repo(), "top/x/1", 900_000);
    let config = scene.get("/artifacts/config", "");
    assert_eq!(config.header("artifact-cache-pull"), Some("2"));
    let (status, body) = post(&scene, TYPE, &request("top/x/1"));
    let (count, len, close) = frames(&body);
    assert_eq!((status, count, close), (200, 4, None));
    assert!(len > 900_000 && body.len() < 1_000_000, "{len}");
    // A commit that is none, and no ref: nothing is to be sent.
    for name in [REF, "up/x", "link", "none"] {
        let (status, body) = post(&scene, TYPE, &request(name));
        assert_eq!((status, frames(&body)), (200, (0, 0, None)), "{name}");
    }
}

#[test]
fn what_is_no_pull_gets_a_status_or_words_of_parting_and_the_server_goes_on() {
    let scene = Scene::start();
    commit(&scene.repo(), "top/x/1", 100);
    let whole = request("top/x/1");
    for (headers, body, status) in [
        ("Content-Type: text/plain", &whole[..], 415),
        ("X: y", &whole, 415),
    ] {
        assert_eq!(post(&scene, headers, body).0, status, "{headers}");
    }
    for (body, code) in [
        (&b""[..], None),
        (&whole[..30], None),
        (&whole[..whole.len() - 1], None),
        (b"GET / HTTP/1.1\r\n\r\n", Some(CloseCode::NOT_THE_PROTOCOL)),
        (
            &[PREAMBLE.to_vec(), vec![0xff; 64]].concat(),
            Some(CloseCode::BAD_FRAME),
        ),
    ] {
        let (status, said) = post(&scene, TYPE, body);
        assert_eq!(status, 200);
        if !said.is_empty() {
            let (count, _, close) = frames(&said);
            assert_eq!(count, 0);
            assert!(code.is_none() || close.is_some(), "{close:?} {code:?}");
        }
    }
    let said = |text: String| replies(&scene.say(text.as_bytes())).remove(0).status;
    let line = |method: &str, headers: &str| {
        format!("{method} /artifacts/pull HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n")
    };
    assert_eq!(said(line("GET", "X: y")), 405);
    assert_eq!(said(line("PUT", "X: y")), 405);
    assert_eq!(
        said(line(
            "POST",
            &format!("{TYPE}\r\nTransfer-Encoding: chunked")
        )),
        411
    );
    assert_eq!(
        said(line("POST", &format!("{TYPE}\r\nContent-Length: 17000000"))),
        413
    );
    let elsewhere = line("POST", &format!("{TYPE}\r\nContent-Length: 0"));
    assert_eq!(said(elsewhere.replace("/pull", "/summary")), 405);
    assert_eq!(
        frames(&post(&scene, TYPE, &whole).1),
        (4, frames(&post(&scene, TYPE, &whole).1).1, None)
    );
}

/// Pulls once the place of a client that is gone is free again.
fn must_succeed(scene: &Scene, whole: &[u8]) {
    let begun = Instant::now();
    while post(scene, TYPE, whole).0 != 200 {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "no place became free"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn no_more_pulls_are_answered_at_once_than_may_be_and_none_keeps_its_place() {
    let scene = Scene::start_for(Pulls {
        max: 1,
        ..Pulls::default()
    });
    commit(&scene.repo(), "top/x/1", 100);
    let whole = request("top/x/1");
    // It has its place once it is told to go on.
    let mut first = scene.connect();
    let headers = format!("Host: a\r\nConnection: close\r\nExpect: 100-continue\r\n{TYPE}");
    let waiting = String::from_utf8(head(&headers, whole.len())).unwrap();
    first
        .write_all(waiting.replace("HTTP/1.0", "HTTP/1.1").as_bytes())
        .unwrap();
    let mut told = [0; 25];
    first.read_exact(&mut told).unwrap();
    assert_eq!(told, *b"HTTP/1.1 100 Continue\r\n\r\n");
    let (status, body) = post(&scene, TYPE, &whole);
    assert_eq!(status, 503);
    assert!(String::from_utf8_lossy(&body).contains("try again"));
    first.write_all(&whole).unwrap();
    let mut said = Vec::new();
    first.read_to_end(&mut said).unwrap();
    assert_eq!(split(&said).0, 200);
    must_succeed(&scene, &whole);
    // Clients that leave in the middle give their places back.
    for _ in 0..3 {
        let mut gone = scene.connect();
        gone.write_all(&head(TYPE, whole.len())).unwrap();
        drop(gone);
        must_succeed(&scene, &whole);
    }
}

#[test]
fn a_pull_of_more_objects_than_the_server_looks_at_is_refused() {
    for (objects_max, expected) in [(4, None), (3, Some(CloseCode::LIMIT))] {
        let scene = Scene::start_for(Pulls {
            objects_max,
            ..Pulls::default()
        });
        commit(&scene.repo(), "top/x/1", 100);
        let (_, body) = post(&scene, TYPE, &request("top/x/1"));
        assert_eq!(frames(&body).2, expected);
    }
}

// Clients that hung up left their planning behind, and as many more as they liked.
#[test]
fn the_work_for_clients_that_leave_ends_soon_and_holds_their_places() {
    let scene = Scene::start_for(Pulls {
        max: 2,
        ..Pulls::default()
    });
    commit(&scene.repo(), "top/x/1", 100);
    let whole = request("top/x/1");
    // Names and patterns that make a server compare for minutes, and match nothing.
    let dir = format!(
        "refs/heads/top{}",
        format!("/{}", "a".repeat(200)).repeat(4)
    );
    let dir = scene.repo().join(dir);
    fs::create_dir_all(&dir).unwrap();
    for n in 0..2_000 {
        fs::write(dir.join(n.to_string()), "").unwrap();
    }
    let mut wanted = ask("none");
    wanted.patterns = (0..64)
        .map(|n| format!("top/**/*{}b{n}", "a".repeat(100)).parse().unwrap())
        .collect();
    let slow = said(wanted);
    let leaving: Vec<_> = (0..2)
        .map(|_| {
            let mut client = scene.connect();
            let request = [head(TYPE, slow.len()), slow.clone()].concat();
            client.write_all(&request).unwrap();
            let mut begun = [0; 15];
            client.read_exact(&mut begun).unwrap();
            assert_eq!(&begun[8..], b" 200 OK");
            client
        })
        .collect();
    assert_eq!(post(&scene, TYPE, &whole).0, 503);
    drop(leaving);
    let left = Instant::now();
    must_succeed(&scene, &whole);
    assert!(left.elapsed() < Duration::from_secs(10));
}
