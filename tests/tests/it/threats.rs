//! Attacks from the surroundings of a receiver or a client: the environment, the command that a
//! client asks ssh for, things planted in the repository, text for the terminal, memory.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

use std::fs;
use std::process::Command;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    Close, CloseCode, Extensions, Finalize, Frame, ObjectBegin, ObjectChunk, Offer, PREAMBLE,
    RefOutcome, RefState, RefStatus, Refusal, RefusalCode, Verdict, Welcome,
};
use artifact_protocol::limits::{Limits, MAX_OFFER_IDS, MAX_UNSETTLED_IDS};
use artifact_protocol::{Features, Text, Version};
use artifact_tests::cache::Cache;
use artifact_tests::exec::run;
use artifact_tests::hand::{Artifact, Hand, file, file_that_says};
use artifact_tests::processes::MemoryWatch;
use artifact_tests::repo::{Mode, Repo};
use bytes::Bytes;

use crate::{MAX_MEMORY, source};

const NAME: &str = "project/element/key";

fn good() -> Artifact {
    let (checksum, stored) = file(b"good");
    Artifact::of(&[("file", checksum, stored)])
}

/// Pushes the good artifact; returns whether its ref was set.
fn push(mut hand: Hand) -> bool {
    let good = good();
    let told = hand.announce(NAME, good.commit).and_then(|()| {
        hand.send(&good.objects)?;
        hand.say(&Frame::Finalize(Finalize {}));
        hand.hear_out()
    });
    let updated =
        |frame: &Frame| matches!(frame, Frame::Finalized(f) if f.refs == [RefOutcome::Updated]);
    let end = hand.end().unwrap();
    assert!(end.code.is_some(), "ended by a signal: {end:?}");
    told.is_ok_and(|frames| frames.iter().any(updated))
}

#[test]
fn the_command_a_client_asks_ssh_for_is_never_run() {
    let cache = Cache::start().unwrap();
    let before = cache.listing().unwrap();
    let mark = cache.scratch("mark");
    let touch = format!("touch {}", mark.display());
    let hostile = [
        "/bin/sh".to_owned(),
        touch.clone(),
        format!("sh -c '{touch}'"),
        format!("; {touch}"),
        format!("&& {touch}"),
        format!("| {touch}"),
        format!("\n{touch}\n"),
        format!("$({touch})"),
        format!("`{touch}`"),
        format!("() {{ :;}}; {touch}"),
        format!("bst-artifact-receive /etc; {touch}"),
        format!("bst-artifact-receive --no-sandbox {}", mark.display()),
        format!("> {}", mark.display()),
        format!("-oProxyCommand={touch}"),
        "--debugger".to_owned(),
        "--help".to_owned(),
        "../../../etc/passwd".to_owned(),
        "scp -t /".to_owned(),
        "git-receive-pack '/x'".to_owned(),
        "internal-sftp".to_owned(),
        "%s%n%x".to_owned(),
        "\u{1b}]0;owned\u{7}\u{1b}[2J".to_owned(),
        "x".repeat(100_000),
    ];
    let ssh = cache.sshd().ssh_command();
    let port = cache.sshd().port().to_string();
    let user = format!("{}@127.0.0.1", cache.sshd().user());
    for command in &hostile {
        let mut words = ssh.split_whitespace();
        let mut client = Command::new(words.next().unwrap());
        client.args(words).args(["-p", &port, &user, "--", command]);
        let ran = run(&mut client).unwrap();
        // The receiver runs, and gets no input: the connection is lost.
        assert_eq!(ran.code, Some(5), "{command:?}: {ran}");
        assert!(ran.stdout.is_empty(), "{command:?}: {ran}");
        let is_raw = |c: char| c.is_control() && !['\n', '\r'].contains(&c);
        assert!(!ran.stderr.contains(is_raw), "{command:?}: {ran:?}");
        assert!(!mark.exists(), "{command:?}");
    }
    cache.wait_idle().unwrap();
    before.must_equal(&cache.listing().unwrap()).unwrap();
}

#[test]
fn nothing_in_the_environment_changes_what_a_receiver_does() {
    let dir = tempfile::tempdir().unwrap();
    let decoy = dir.path().join("decoy");
    fs::create_dir(&decoy).unwrap();
    let at = decoy.to_str().unwrap();
    let hostile = [
        ("HOME", at),
        ("TMPDIR", at),
        ("PWD", at),
        ("PATH", at),
        ("XDG_CONFIG_HOME", at),
        ("XDG_RUNTIME_DIR", at),
        ("OSTREE_REPO", at),
        ("OSTREE_TESTS", at),
        ("GIT_DIR", at),
        ("SSH_ORIGINAL_COMMAND", "; touch mark \u{1b}[2J"),
        ("SSH_CONNECTION", "\u{1b}[2J"),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "full"),
        ("NO_COLOR", ""),
        ("TERM", "\u{1b}"),
        ("LANG", "../../etc"),
        ("LC_ALL", "C"),
        ("TZ", "../../../etc/passwd"),
    ];
    let outcome = |name: &str, environment: &[(&str, &str)]| {
        let repo = Repo::init(&dir.path().join(name), Mode::Archive).unwrap();
        assert!(push(Hand::start_in(repo.path(), environment).unwrap()));
        let silent = Hand::start_in(repo.path(), environment)
            .unwrap()
            .end()
            .unwrap();
        // A summary contains its date, and a line of the log its session's name.
        let said = silent.said.split_once(' ').map(|(_, said)| said.to_owned());
        (repo.listing(&["summary", "extensions"]).unwrap(), said)
    };
    let (plain, plain_said) = outcome("plain", &[]);
    let (changed, changed_said) = outcome("changed", &hostile);
    plain.must_equal(&changed).unwrap();
    assert_eq!(plain_said, changed_said);
    assert_eq!(fs::read_dir(&decoy).unwrap().count(), 0);
}

#[test]
fn pipes_and_devices_planted_in_a_repository_hold_nobody_up() {
    let good = good();
    let object = format!("objects/{}", good.objects[0].0.archive_path());
    let fan = object.rsplit_once('/').unwrap().0.to_owned();
    let reference = format!("refs/heads/{NAME}");
    for (place, kind) in [
        (&*object, "p"),
        (&fan, "p"),
        (&reference, "p"),
        ("refs/heads/project", "p"),
        ("summary", "p"),
        ("extensions", "p"),
        (".lock", "p"),
        ("config", "p"),
        (&object, "c"),
        (&reference, "c"),
        ("summary", "c"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::init(&dir.path().join("repo"), Mode::Archive).unwrap();
        let path = repo.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_dir_all(&path);
        let _ = fs::remove_file(&path);
        let numbers: &[&str] = if kind == "c" { &["1", "3"] } else { &[] };
        let mut mknod = Command::new("mknod");
        run(mknod.arg(&path).arg(kind).args(numbers))
            .unwrap()
            .success()
            .unwrap();
        // The session ends: it may refuse the repository or put a file in the place.
        if push(Hand::start(repo.path()).unwrap()) && place != "summary" && place != ".lock" {
            assert_eq!(repo.commit_of(NAME).unwrap(), good.commit, "{place}");
            repo.fsck().unwrap();
        }
    }
}

#[test]
fn what_a_server_says_reaches_no_terminal_as_it_is() {
    let cache = Cache::start().unwrap();
    let from = source(&cache, Mode::Archive).unwrap();
    fs::create_dir(cache.scratch("files")).unwrap();
    from.commit(NAME, &cache.scratch("files"), &[]).unwrap();
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\u{8}\u{202e}\u{200b}ok\nrefused";
    let text = Text::new(hostile);
    let mut extensions = Extensions::default();
    extensions.set(Welcome::RIGHTS, hostile.as_bytes().to_vec());
    let welcome = Frame::Welcome(Welcome {
        version: Version::NEWEST,
        features: Features::default(),
        limits: Limits::default(),
        agent: text.clone(),
        pull_url: Some(text.clone()),
        identity: Some(text.clone()),
        extensions,
    });
    let refused = RefState {
        current: None,
        verdict: Verdict::Refused(Refusal::new(RefusalCode::NOT_PERMITTED, hostile)),
    };
    let refused = Frame::RefStatus(RefStatus {
        refs: vec![refused],
        complete: Vec::new(),
    });
    let nothing = Frame::RefStatus(RefStatus {
        refs: Vec::new(),
        complete: Vec::new(),
    });
    let close = Frame::Close(Close {
        code: CloseCode::STORAGE_FULL,
        text,
    });
    let path = cache.scratch("said");
    // As ssh passes on the output of a login shell, and prints its own.
    let raw = [hostile.as_bytes(), b"\n"].concat();
    let frames = |frames: &[&Frame]| {
        let encoded = frames.iter().flat_map(|frame| frame.encode().to_vec());
        [PREAMBLE.to_vec(), encoded.collect()].concat()
    };
    for said in [
        raw,
        frames(&[&welcome, &refused]),
        frames(&[&welcome, &nothing]),
        frames(&[&welcome, &close]),
        frames(&[&close]),
    ] {
        fs::write(&path, said).unwrap();
        let ssh = format!("sh -c \"cat {0}; head -n 1 {0} >&2\"", path.display());
        let push = cache.push_command(&from, &[NAME]).unwrap();
        let mut check = cache.client("check").unwrap();
        check.args(["--remote", &cache.push_url()]);
        for mut client in [push, check] {
            for option in ["--verbose", "--json"] {
                let _ = client.arg(option);
            }
            let ran = run(client.args(["--ssh", &ssh])).unwrap();
            let is_raw =
                |c: char| c.is_control() && c != '\n' || ['\u{202e}', '\u{200b}'].contains(&c);
            assert!(!ran.stdout.contains(is_raw), "{ran:?}");
            assert!(!ran.stderr.contains(is_raw), "{ran:?}");
        }
    }
}

#[test]
fn hostile_clients_make_a_receiver_take_64_mib_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::init(&dir.path().join("repo"), Mode::Archive).unwrap();
    let watch = MemoryWatch::start(repo.path());
    let start = || Hand::announced(repo.path(), NAME, good().commit).unwrap();
    let id = |kind, number: usize| ObjectId::new(kind, Checksum::of(&number.to_le_bytes()));

    // As many ids as may be unsettled, and no object is sent.
    let mut hand = start();
    for from in (0..MAX_UNSETTLED_IDS).step_by(MAX_OFFER_IDS) {
        let ids = (from..from + MAX_OFFER_IDS).map(|n| id(ObjectKind::File, n));
        let wanted = hand.offer(ids.collect()).unwrap();
        assert!(wanted.into_iter().all(|wanted| wanted));
    }
    hand.cut().unwrap();

    // As much metadata as may be collected, in as many streams as may be open.
    let mut hand = start();
    let trees: Vec<_> = (0..4).map(|n| id(ObjectKind::Dirtree, n)).collect();
    hand.offer(trees.clone()).unwrap();
    for (stream, id) in (0..).zip(trees) {
        hand.say(&Frame::ObjectBegin(ObjectBegin { stream, id }));
    }
    let piece = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..MAX_METADATA_LEN >> 20 {
        for stream in 0..4 {
            let bytes = piece.clone();
            hand.say(&Frame::ObjectChunk(ObjectChunk { stream, bytes }));
        }
    }
    // The server answers it once it has room again for the objects sent before it.
    hand.say(&Frame::Offer(Offer {
        ids: vec![id(ObjectKind::File, 1)],
    }));
    hand.hear().unwrap();
    hand.cut().unwrap();

    // A bomb that declares its length.
    let (checksum, stored) = file_that_says(&vec![0; 64 << 20], 64 << 20);
    let bomb = Artifact::of(&[("bomb", checksum, stored)]);
    let mut hand = start();
    hand.send(&bomb.objects[..1]).unwrap();
    hand.offer(vec![id(ObjectKind::File, 2)]).unwrap();
    hand.cut().unwrap();

    let peaks = watch.stop().unwrap();
    let peak = peaks["bst-artifact-re"];
    assert!(peak <= MAX_MEMORY, "{peak} bytes");
}
