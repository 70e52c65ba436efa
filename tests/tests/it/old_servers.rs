//! The client against servers that know only version 0 or 1.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_tests::cache::{Cache, Pushed};
use artifact_tests::exec::run;
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};

use crate::{every_kind, extra, source};

const NAME: &str = "project/element/key";

/// A command that replaces ssh: it refuses the first session as an old server does, and connects
/// later ones to our receiver, which speaks every version.
fn old_server(cache: &Cache, refusal: &str, options: &str) -> PathBuf {
    let script = cache.scratch("old-server");
    let (met, receiver) = (cache.scratch("met"), programs::receiver().unwrap());
    let text = format!(
        "#!/bin/sh\nif ! [ -e {met} ]; then touch {met}; {refusal}; fi\n\
         exec {receiver} {options} {repo}\n",
        met = met.display(),
        receiver = receiver.display(),
        repo = cache.repo().path().display(),
    );
    fs::write(&script, text).unwrap();
    script
}

fn push(cache: &Cache, ssh: &Path, from: &Repo, options: &[&str], refs: &[&str]) -> Pushed {
    let mut command = cache.push_command_to("host:path", from, refs).unwrap();
    command.args(["--ssh", &format!("sh {}", ssh.display())]);
    Pushed::read(run(command.args(options)).unwrap()).unwrap()
}

/// How a receiver of BuildStream 1.x reacts to a preamble, and one of ostree-push.
const REFUSED_BY_1: &str = "dd bs=1 count=5 of=/dev/null 2>/dev/null; \
     echo 'bst.PushException: Unrecognized message byteorder x' >&2; exit 1";
const REFUSED_BY_0: &str = "printf 'l\\0\\0\\041\\0mode'; exit 1";

#[test]
fn a_server_that_refuses_the_newest_version_is_spoken_to_in_its_own() {
    for (refusal, options, version) in [
        (REFUSED_BY_1, "--pull-url https://x/y --", 1),
        (REFUSED_BY_0, "--repo", 0),
        // The program does not exist; one with the other name does.
        ("exit 127", "--repo", 0),
    ] {
        let cache = Cache::start().unwrap();
        let tree = every_kind(&cache).unwrap();
        let source = source(&cache, Mode::BareUser).unwrap();
        source
            .commit(NAME, tree.root(), &["--add-detached-metadata-string=a=b"])
            .unwrap();
        let server = old_server(&cache, refusal, options);
        let pushed = push(&cache, &server, &source, &[], &[NAME])
            .must_exit(0)
            .unwrap();
        assert_eq!(pushed.refs[NAME], "updated");
        let note = format!("version {version} of the protocol");
        assert!(pushed.ran.stderr.contains(&note), "{}", pushed.ran);
        cache.fsck().unwrap();
        cache.must_give(NAME, &source, tree.root()).unwrap();
    }
}

#[test]
fn the_same_push_in_every_version_gives_the_same_repository() {
    for mode in [Mode::Archive, Mode::BareUser] {
        let mut listings = Vec::new();
        for version in ["0", "1", "2"] {
            let cache = Cache::start().unwrap();
            let tree = every_kind(&cache).unwrap();
            tree.large("large", 3_000_000, 7).unwrap();
            let source = source(&cache, mode).unwrap();
            let options = [
                "--timestamp=@1",
                "--add-detached-metadata-string=signed=yes",
            ];
            source.commit(NAME, tree.root(), &options).unwrap();
            fs::write(cache.scratch("met"), "").unwrap();
            let server = old_server(&cache, ":", if version == "0" { "--repo" } else { "--" });
            let pushed = push(&cache, &server, &source, &["--protocol", version], &[NAME]);
            pushed.must_exit(0).unwrap();
            cache.fsck().unwrap();
            cache.must_give(NAME, &source, tree.root()).unwrap();
            listings.push(
                cache
                    .repo()
                    .listing(&["extensions", "summary", ".lock"])
                    .unwrap(),
            );
        }
        assert!(
            listings.windows(2).all(|pair| pair[0] == pair[1]),
            "{mode:?}"
        );
    }
}

#[test]
fn more_refs_than_a_message_holds_are_pushed_in_several_sessions() {
    let cache = Cache::start().unwrap();
    let tree = every_kind(&cache).unwrap();
    let source = source(&cache, Mode::Archive).unwrap();
    let commit = source
        .commit(NAME, tree.root(), &["--no-bindings"])
        .unwrap();
    let names: Vec<_> = (0..600)
        .map(|n| format!("demo/{n:025}/{}", "c".repeat(64)))
        .collect();
    for name in &names {
        let path = source.path().join("refs/heads").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{commit}\n")).unwrap();
    }
    let refs: Vec<_> = names.iter().map(String::as_str).collect();
    fs::write(cache.scratch("met"), "").unwrap();
    let server = old_server(&cache, ":", "--verbose --");
    let pushed = push(&cache, &server, &source, &["--protocol", "1"], &refs);
    let pushed = pushed.must_exit(0).unwrap();
    assert_eq!(pushed.refs.len(), 600);
    assert!(pushed.refs.values().all(|status| status == "updated"));
    cache.fsck().unwrap();
    assert_eq!(cache.repo().refs().unwrap().len(), 600);
}

#[test]
fn what_an_old_server_does_not_compare_the_client_does() {
    let cache = Cache::start().unwrap();
    let tree = every_kind(&cache).unwrap();
    let source = source(&cache, Mode::Archive).unwrap();
    let first = source.commit(NAME, tree.root(), &["--orphan"]).unwrap();
    fs::write(cache.scratch("met"), "").unwrap();
    let server = old_server(&cache, ":", "--repo");
    let push = |options: &[&str]| {
        let options = [&["--protocol", "0"], options].concat();
        push(&cache, &server, &source, &options, &[NAME])
    };
    assert_eq!(push(&["--dry-run"]).refs[NAME], "would be updated");
    assert_eq!(cache.repo().refs().unwrap().len(), 0);
    push(&[]).must_exit(0).unwrap();
    assert_eq!(push(&[]).refs[NAME], "unchanged");
    tree.file("more", b"more", 0o644).unwrap();
    let parent = format!("--parent={first}");
    source.commit(NAME, tree.root(), &[&parent]).unwrap();
    assert_eq!(push(&[]).must_exit(0).unwrap().refs[NAME], "updated");
    source
        .commit(NAME, tree.root(), &["--orphan", "--subject=other"])
        .unwrap();
    assert_eq!(push(&[]).must_exit(3).unwrap().refs[NAME], "refused");
}

/// Puts the answer to a push of version 0 into its exit code.
#[test]
fn a_push_whose_server_fails_at_the_end_is_not_reported_as_done() {
    let cache = Cache::start().unwrap();
    let tree = every_kind(&cache).unwrap();
    let source = source(&cache, Mode::Archive).unwrap();
    source.commit(NAME, tree.root(), &[]).unwrap();
    let script = cache.scratch("failing");
    let (receiver, repo) = (
        programs::receiver().unwrap(),
        cache.repo().path().to_owned(),
    );
    let text = format!("{} --repo {}; exit 1\n", receiver.display(), repo.display());
    fs::write(&script, text).unwrap();
    let pushed = push(
        &cache,
        &script,
        &source,
        &["--protocol", "0", "--retries", "0"],
        &[NAME],
    );
    pushed.must_exit(5).unwrap();
}

#[test]
fn check_says_what_an_old_server_is() {
    let cache = Cache::start().unwrap();
    let server = old_server(
        &cache,
        REFUSED_BY_1,
        &format!("--pull-url {} --", cache.pull_url()),
    );
    let mut command = cache.client("check").unwrap();
    command.args([
        "--remote",
        "host:path",
        "--ssh",
        &format!("sh {}", server.display()),
    ]);
    let said = run(&mut command).unwrap().success().unwrap();
    assert!(said.contains("version 1"), "{said}");
    assert!(said.contains(&cache.pull_url()), "{said}");
}

/// The receiver of version 0 that ostree-push still contains, as published on PyPI.
#[test]
fn the_receiver_of_ostree_push_takes_our_pushes() {
    if !extra() {
        return;
    }
    let cache = Cache::start().unwrap();
    let tree = every_kind(&cache).unwrap();
    let source = source(&cache, Mode::BareUser).unwrap();
    source.commit(NAME, tree.root(), &[]).unwrap();
    let venv = cache.scratch("venv");
    let mut make = Command::new("/usr/bin/python3");
    make.args(["-m", "venv", "--system-site-packages"])
        .arg(&venv);
    run(&mut make).unwrap().success().unwrap();
    let mut install = Command::new(venv.join("bin/pip"));
    install.args(["install", "--quiet", "--no-deps", "ostree-push==1.2.0"]);
    run(&mut install).unwrap().success().unwrap();
    let script = cache.scratch("server");
    let receiver = venv.join("bin/ostree-receive");
    let repo = cache.repo().path();
    let text = format!("exec {} --repo={}\n", receiver.display(), repo.display());
    fs::write(&script, text).unwrap();
    let pushed = push(&cache, &script, &source, &[], &[NAME])
        .must_exit(0)
        .unwrap();
    assert_eq!(pushed.refs[NAME], "updated");
    cache.repo().fsck().unwrap();
    cache.admin("summary").unwrap().success().unwrap();
    cache.must_give(NAME, &source, tree.root()).unwrap();
}
