//! Clients of BuildStream 1.x and ostree-push before 0.1 against the real receiver: recorded ones,
//! and hostile ones that speak their protocols.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use artifact_protocol::dialect::{Dialect, Message};
use artifact_tests::old::{COMMIT, OldServer, PULL_URL, REFS, TAR_AT, greeting, message, recorded};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use tempfile::TempDir;

fn repository() -> (TempDir, Repo) {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::init(&dir.path().join("repo"), Mode::Archive).unwrap();
    (dir, repo)
}

/// Checks that the repository is sound and serves what the recorded clients push.
fn must_give(dir: &TempDir, repo: &Repo, refs: &[&str]) {
    repo.fsck().unwrap();
    let held = repo.refs().unwrap();
    assert_eq!(held.keys().collect::<Vec<_>>(), refs);
    assert!(held.values().all(|commit| commit.to_hex() == COMMIT));
    let user = Repo::init(&dir.path().join("user"), Mode::BareUser).unwrap();
    user.pull_path(repo.path(), &[REFS[0]]).unwrap();
    let checkout = dir.path().join("checkout");
    user.checkout(REFS[0], &checkout).unwrap();
    assert_eq!(fs::read(checkout.join("share/aaa")).unwrap(), [b'a'; 3_000]);
    fs::remove_dir_all(user.path()).unwrap();
    fs::remove_dir_all(checkout).unwrap();
}

#[test]
fn recorded_clients_push_and_push_again_and_get_the_recorded_answers() {
    for (dialect, version, refs) in [
        (Dialect::V1, "v1", &REFS[..]),
        (Dialect::V0, "v0", &REFS[..1]),
    ] {
        let (dir, repo) = repository();
        for push in ["push-new", "push-again"] {
            let session = format!("{version}-{push}");
            let server = OldServer::of(dialect, repo.path()).unwrap();
            let ended = server
                .converse(&recorded(&session, "c2s").unwrap())
                .unwrap();
            assert_eq!(ended.code, Some(0), "{session}: {ended:?}");
            assert_eq!(ended.said, recorded(&session, "s2c").unwrap(), "{session}");
            must_give(&dir, &repo, refs);
            let summary = repo.summary().unwrap().concat();
            assert!(refs.iter().all(|name| summary.contains(name)), "{summary}");
        }
        // Clients of version 1 send the same again; a client of version 0 may do so that lost its
        // answer.
        let again = format!("{version}-push-new");
        let server = OldServer::of(dialect, repo.path()).unwrap();
        let ended = server.converse(&recorded(&again, "c2s").unwrap()).unwrap();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        must_give(&dir, &repo, refs);
    }
}

#[test]
fn whether_somebody_is_there_takes_one_round_trip_and_no_end_of_the_input() {
    let (_dir, repo) = repository();
    let said = recorded("v1-hello", "c2s").unwrap();
    let (hello, done) = said.split_at(38);
    let answer = recorded("v1-hello", "s2c").unwrap();
    let mut server = OldServer::of(Dialect::V1, repo.path()).unwrap();
    server.write(hello);
    assert_eq!(server.read(answer.len()).unwrap(), answer);
    server.write(done);
    let ended = server.wait().unwrap();
    assert_eq!(
        (ended.code, ended.said),
        (Some(0), Vec::new()),
        "{}",
        ended.log
    );
    assert!(!ended.log.contains("ERROR"), "{}", ended.log);
}

#[test]
fn the_command_lines_of_the_originals_are_taken_word_for_word() {
    let (dir, repo) = repository();
    let path = repo.path().to_str().unwrap();
    let with_equals = format!("--repo={path}");
    let v1 = recorded("v1-hello", "c2s").unwrap();
    let v0 = message(Dialect::V0, &Message::Done);
    let receiver = programs::receiver().unwrap();
    for name in ["ostree-receive", "ostree-receive-0"] {
        std::os::unix::fs::symlink(&receiver, dir.path().join(name)).unwrap();
    }
    let link = |name: &str| dir.path().join(name);
    for (program, arguments, said) in [
        (receiver.clone(), vec![path], &v1),
        (receiver.clone(), vec!["--verbose", path], &v1),
        (receiver.clone(), vec!["--verbose", "--debug", path], &v1),
        (
            receiver.clone(),
            vec!["-v", "-d", "--pull-url", PULL_URL, path],
            &v1,
        ),
        (
            receiver.clone(),
            vec!["--verbose", "--pull-url", path, path],
            &v1,
        ),
        (receiver.clone(), vec![path, "--pull-url", path], &v1),
        (receiver, vec![&with_equals], &v0),
        (link("ostree-receive"), vec![&with_equals], &v0),
        (
            link("ostree-receive"),
            vec![&with_equals, "--verbose", "--debug"],
            &v0,
        ),
        (link("ostree-receive-0"), vec!["--repo", path, "-v"], &v0),
    ] {
        let server = OldServer::run(Command::new(&program).args(&arguments)).unwrap();
        let ended = server.converse(said).unwrap();
        assert_eq!(ended.code, Some(0), "{program:?} {arguments:?}: {ended:?}");
        assert_eq!(ended.said.first(), Some(&b'l'), "{program:?} {arguments:?}");
    }
    for (program, arguments) in [
        (programs::receiver().unwrap(), vec![]),
        (programs::receiver().unwrap(), vec!["--pull-url", PULL_URL]),
        (programs::receiver().unwrap(), vec![path, &with_equals]),
        (link("ostree-receive"), vec![]),
        (
            link("ostree-receive"),
            vec![path, "http://127.0.0.1:1", "ref"],
        ),
    ] {
        let server = OldServer::run(Command::new(&program).args(&arguments)).unwrap();
        let ended = server.converse(&v0).unwrap();
        assert_eq!(ended.code, Some(2), "{program:?} {arguments:?}: {ended:?}");
        assert!(ended.said.is_empty());
    }
}

/// The bytes a refused client sends before it learns of the refusal, and its answer to it.
fn refused(dialect: Dialect) -> Vec<u8> {
    let (session, until) = match dialect {
        Dialect::V1 => ("v1-push-new", TAR_AT - 5),
        Dialect::V0 => ("v0-push-new", 5 + 0xda),
    };
    let mut said = recorded(session, "c2s").unwrap();
    said.truncate(until);
    said.extend(message(dialect, &Message::Done));
    said
}

#[test]
fn refusals_reach_old_clients_and_the_exit_codes_are_the_originals() {
    let (dir, repo) = repository();
    let config = dir.path().join("config.toml");
    let rights = "[[identity]]\nname = \"all\"\nkeys = [\"*\"]\npush = [\"other/**\"]\n";
    fs::write(&config, rights).unwrap();
    let off = dir.path().join("off.toml");
    let all = "[[identity]]\nname = \"all\"\nkeys = [\"*\"]\nreplace = [\"**\"]\n";
    fs::write(&off, format!("protocol-min = 2\n{all}")).unwrap();
    let path = repo.path().to_str().unwrap();
    let nowhere = dir.path().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let config = ["--config", config.to_str().unwrap()];
    let off = ["--config", off.to_str().unwrap()];
    for (options, repo, reason) in [
        (&config[..], path, "may not create demo/hello/1"),
        (&["--protocol-min", "2"], path, "artifact-cache"),
        (&off, path, "artifact-cache"),
        (&[], nowhere, "storage failed"),
        (&["--config", "/dev/null/x"], path, "configuration"),
    ] {
        for dialect in [Dialect::V0, Dialect::V1] {
            let mut arguments = options.to_vec();
            match dialect {
                Dialect::V0 => arguments.extend(["--repo", repo]),
                Dialect::V1 => arguments.push(repo),
            }
            let server = OldServer::start(&arguments).unwrap();
            let ended = server.converse(&refused(dialect)).unwrap();
            assert_eq!(ended.code, Some(1), "{arguments:?}: {ended:?}");
            let told = String::from_utf8_lossy(&ended.said);
            assert!(told.contains(reason), "{arguments:?}: {told}");
            assert!(!told.contains(nowhere), "{told}");
        }
    }
    // A client that does not even push learns it from standard error.
    let server = OldServer::start(["--protocol-min", "2", "--pull-url", PULL_URL, path]).unwrap();
    let ended = server
        .converse(&recorded("v1-hello", "c2s").unwrap())
        .unwrap();
    assert_eq!(ended.said, recorded("v1-hello", "s2c").unwrap());
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("artifact-cache"), "{}", ended.log);
    assert_eq!(repo.refs().unwrap().len(), 0);
}

#[test]
fn the_audit_says_which_version_was_spoken() {
    for (dialect, session, version) in [
        (Dialect::V0, "v0-push-new", "\"protocol\":0"),
        (Dialect::V1, "v1-push-new", "\"protocol\":1"),
    ] {
        let (dir, repo) = repository();
        let (config, audit) = (dir.path().join("config.toml"), dir.path().join("audit"));
        let text = format!(
            "[audit]\nfile = {audit:?}\n[[identity]]\nname = \"all\"\nkeys = [\"*\"]\n\
             replace = [\"**\"]\n"
        );
        fs::write(&config, text).unwrap();
        let (config, path) = (config.to_str().unwrap(), repo.path().to_str().unwrap());
        let mut arguments = vec!["--config", config];
        match dialect {
            Dialect::V0 => arguments.extend(["--repo", path]),
            Dialect::V1 => arguments.push(path),
        }
        let server = OldServer::start(arguments).unwrap();
        let ended = server.converse(&recorded(session, "c2s").unwrap()).unwrap();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let line = fs::read_to_string(audit).unwrap();
        assert!(
            line.contains(version) && line.contains("\"done\""),
            "{line}"
        );
    }
}

#[test]
fn as_many_refs_as_a_message_holds_are_set_at_once() {
    let (_dir, repo) = repository();
    let others = (0..269).map(|n| format!("demo/{n:025}/{}", "c".repeat(64)));
    let refs: Vec<_> = [REFS[0].to_owned()].into_iter().chain(others).collect();
    assert!(refs.iter().skip(1).all(|name| name.len() == 95));
    let said = greeting(refs.iter().map(String::as_str), COMMIT);
    let tar = recorded("v1-push-new", "c2s").unwrap().split_off(TAR_AT);
    let server = OldServer::of(Dialect::V1, repo.path()).unwrap();
    let ended = server.converse(&[said, tar].concat()).unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(repo.refs().unwrap().len(), 270);
    repo.fsck().unwrap();
}

/// Every 701st byte, and with `ARTIFACT_CACHE_EXTRA=1` every 11th.
#[test]
fn a_recorded_push_cut_anywhere_leaves_its_refs_old_or_new_and_whole() {
    let step = if super::extra() { 11 } else { 701 };
    for (dialect, session) in [(Dialect::V1, "v1-push-new"), (Dialect::V0, "v0-push-new")] {
        let (dir, repo) = repository();
        let said = recorded(session, "c2s").unwrap();
        let near_end = said.len() - 6..=said.len();
        for cut in (0..said.len()).step_by(step).chain(near_end) {
            let server = OldServer::of(dialect, repo.path()).unwrap();
            let ended = server.converse(&said[..cut]).unwrap();
            let set = repo.refs().unwrap().len();
            assert!(
                cut == said.len() || set == 0,
                "{session} at {cut}: {ended:?}"
            );
            repo.fsck().unwrap();
        }
        let refs = if dialect == Dialect::V1 { 2 } else { 1 };
        must_give(&dir, &repo, &REFS[..refs]);
    }
}

/// A header of a tar stream and the member's content, padded.
fn tar_member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    tar_member_that_says(name, kind, content, content.len() as u64)
}

fn tar_member_that_says(name: &str, kind: u8, content: &[u8], len: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{len:011o}").as_bytes());
    block[156] = kind;
    block[157..168].copy_from_slice(b"/etc/passwd");
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path.clone());
            }
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found.retain(|path| !path.contains("/extensions"));
    found
}

#[test]
fn hostile_tar_streams_get_nowhere() {
    let object = format!("{COMMIT}.commit");
    let pax = |record: &str, name: &str| {
        [
            tar_member("x", b'x', record.as_bytes()),
            tar_member(name, b'0', b"x"),
        ]
        .concat()
    };
    let outside = "../../../evil";
    let streams = [
        ("a symbolic link", tar_member(&object, b'2', b"")),
        ("a hard link", tar_member(&object, b'1', b"")),
        ("a device", tar_member(&object, b'3', b"")),
        ("another device", tar_member(&object, b'4', b"")),
        ("a pipe", tar_member(&object, b'6', b"")),
        ("a directory", tar_member("dir/", b'5', b"")),
        ("a sparse file", tar_member(&object, b'S', b"x")),
        ("a name outside", tar_member(outside, b'0', b"x")),
        ("an absolute name", tar_member("/tmp/evil", b'0', b"x")),
        (
            "a name in a directory",
            tar_member(&format!("./{object}"), b'0', b"x"),
        ),
        ("no name of an object", tar_member("config", b'0', b"x")),
        (
            "a long name outside",
            [
                tar_member("L", b'L', outside.as_bytes()),
                tar_member(&object, b'0', b"x"),
            ]
            .concat(),
        ),
        (
            "a pax name outside",
            pax("22 path=../../../evil\n", &object),
        ),
        ("a pax length", pax("13 size=99999\n", &object)),
        (
            "a huge pax header",
            tar_member_that_says("x", b'x', b"", 1 << 30),
        ),
        (
            "pax headers without end",
            tar_member("x", b'x', b"").repeat(3),
        ),
        (
            "global headers without end",
            tar_member("g", b'g', b"").repeat(100),
        ),
        ("other bytes", tar_member(&object, b'0', b"not the commit")),
        (
            "8 GiB of metadata",
            tar_member_that_says(&object, b'0', b"", (1 << 33) - 1),
        ),
        ("a cut header", vec![7; 300]),
        ("no header", vec![7; 10_240]),
        ("nothing that is a commit", vec![0; 10_240]),
    ];
    let (dir, repo) = repository();
    let before = files_below(dir.path());
    for (what, stream) in streams {
        let mut said = greeting([REFS[0]], COMMIT);
        said.extend(stream);
        said.resize(said.len().next_multiple_of(10_240) + 20_480, 0);
        said.extend(message(Dialect::V1, &Message::Done));
        let server = OldServer::of(Dialect::V1, repo.path()).unwrap();
        let ended = server.converse(&said).unwrap();
        assert_eq!(ended.code, Some(1), "{what}: {ended:?}");
        assert!(ended.log.contains("ERROR"), "{what}: {}", ended.log);
        assert!(!ended.said.ends_with(b"l\x01\x04\0\0"), "{what}");
        assert_eq!(files_below(dir.path()), before, "{what}");
    }
    repo.fsck().unwrap();
}
