//! A user's view of a working cache: push, push again, pull, check.

use std::thread;

use artifact_tests::cache::{Cache, Pushed};
use artifact_tests::exec::{Failure, run};
use artifact_tests::repo::Mode;

use crate::{every_kind, source};

const STRONG: &str = "project/element/strong";
const WEAK: &str = "project/element/weak";

fn a_push_comes_back_as_it_was(mode: Mode) -> Result<(), Failure> {
    let cache = Cache::start()?;
    let (tree, from) = (every_kind(&cache)?, source(&cache, mode)?);
    let options = [
        "--add-detached-metadata-string=signed-by=somebody",
        &format!("--bind-ref={WEAK}"),
    ];
    let commit = from.commit(STRONG, tree.root(), &options)?;
    from.add_ref(WEAK, &commit)?;

    let first = cache.push(&from, &[STRONG, WEAK])?.must_exit(0)?;
    assert!(first.objects_sent > Some(30), "{first:?}");
    assert!(first.bytes_sent > Some(300_000), "{first:?}");
    assert!(first.refs.values().all(|status| status == "updated"));
    assert_eq!(first.refs.len(), 2);
    assert_eq!(cache.repo().refs()?, from.refs()?);
    assert_eq!(cache.repo().detached(&commit), from.detached(&commit));
    assert!(from.detached(&commit).is_some());
    cache.fsck()?;
    cache.must_give(STRONG, &from, tree.root())?;
    cache.must_give(WEAK, &from, tree.root())?;

    let before = cache.listing()?;
    let second = cache.push(&from, &[STRONG, WEAK])?.must_exit(0)?;
    assert_eq!(second.objects_sent, Some(0), "{second:?}");
    assert_eq!(second.bytes_sent, Some(0), "{second:?}");
    assert!(second.refs.values().all(|status| status == "unchanged"));
    before.must_equal(&cache.listing()?)?;
    cache.wait_idle()
}

#[test]
fn a_push_from_an_archive_repository_comes_back_as_it_was() {
    a_push_comes_back_as_it_was(Mode::Archive).unwrap();
}

#[test]
fn a_push_from_a_build_tools_repository_comes_back_as_it_was() {
    a_push_comes_back_as_it_was(Mode::BareUser).unwrap();
}

#[test]
fn a_changed_artifact_of_the_same_element_sends_only_what_differs() {
    let cache = Cache::start().unwrap();
    let tree = every_kind(&cache).unwrap();
    let from = source(&cache, Mode::Archive).unwrap();
    from.commit("project/element/one", tree.root(), &[])
        .unwrap();
    cache
        .push(&from, &["project/element/one"])
        .unwrap()
        .must_exit(0)
        .unwrap();

    tree.file("deep/er/new", b"one file more", 0o644).unwrap();
    from.commit("project/element/two", tree.root(), &[])
        .unwrap();
    let pushed = cache.push(&from, &["project/element/two"]).unwrap();
    let pushed = pushed.must_exit(0).unwrap();
    // The file, the dirtrees of deep/er, deep and the root, and the commit.
    assert_eq!(pushed.objects_sent, Some(5), "{pushed:?}");
    cache.fsck().unwrap();
    cache
        .must_give("project/element/two", &from, tree.root())
        .unwrap();
}

#[test]
fn a_commit_with_a_parent_is_pushed_with_or_without_its_parent_on_the_server() {
    for parent_first in [true, false] {
        let cache = Cache::start().unwrap();
        let tree = every_kind(&cache).unwrap();
        let from = source(&cache, Mode::BareUser).unwrap();
        let parent = from.commit("os/main/1", tree.root(), &[]).unwrap();
        tree.file("second", b"second", 0o644).unwrap();
        let option = format!("--parent={parent}");
        let child = from.commit("os/main/2", tree.root(), &[&option]).unwrap();
        if parent_first {
            cache
                .push(&from, &["os/main/1"])
                .unwrap()
                .must_exit(0)
                .unwrap();
        }
        cache
            .push(&from, &["os/main/2"])
            .unwrap()
            .must_exit(0)
            .unwrap();
        assert_eq!(cache.repo().commit_of("os/main/2").unwrap(), child);
        cache.fsck().unwrap();
        cache.must_give("os/main/2", &from, tree.root()).unwrap();
    }
}

#[test]
fn a_ref_moves_forward_by_several_commits_and_brings_those_between() {
    let cache = Cache::start().unwrap();
    let tree = every_kind(&cache).unwrap();
    let from = source(&cache, Mode::Archive).unwrap();
    from.commit("os/main", tree.root(), &[]).unwrap();
    let push = || cache.push(&from, &["os/main"]).unwrap().must_exit(0);
    push().unwrap();
    let mut commits = Vec::new();
    for version in ["second", "third", "fourth"] {
        tree.file("version", version.as_bytes(), 0o644).unwrap();
        commits.push(from.commit("os/main", tree.root(), &[]).unwrap());
    }
    let pushed = push().unwrap();
    // A commit, a root directory and a file of each version.
    assert_eq!(pushed.objects_sent, Some(9), "{pushed:?}");
    assert_eq!(cache.repo().commit_of("os/main").unwrap(), commits[2]);
    cache.fsck().unwrap();
    cache.must_give("os/main", &from, tree.root()).unwrap();
}

#[test]
fn a_path_and_a_file_url_are_remotes_too() {
    let cache = Cache::start().unwrap();
    let tree = every_kind(&cache).unwrap();
    let from = source(&cache, Mode::BareUser).unwrap();
    from.commit("p/e/path", tree.root(), &[]).unwrap();
    from.commit("p/e/file-url", tree.root(), &[]).unwrap();
    let path = cache.repo().path().display().to_string();
    for (name, remote) in [
        ("p/e/path", path.clone()),
        ("p/e/file-url", format!("file://{path}")),
    ] {
        let mut push = cache.push_command_to(&remote, &from, &[name]).unwrap();
        Pushed::read(run(&mut push).unwrap())
            .unwrap()
            .must_exit(0)
            .unwrap();
        cache.must_give(name, &from, tree.root()).unwrap();
    }
    cache.fsck().unwrap();
}

#[test]
fn the_summary_after_a_push_is_the_one_ostree_would_write() {
    let cache = Cache::start().unwrap();
    let tree = every_kind(&cache).unwrap();
    let from = source(&cache, Mode::Archive).unwrap();
    for name in ["b/e/k", "a/e/k2", "a/e/k"] {
        from.commit(name, tree.root(), &[]).unwrap();
        cache.push(&from, &[name]).unwrap().must_exit(0).unwrap();
        let mut ours = cache.repo().summary().unwrap();
        assert!(ours.iter().any(|line| line.contains(name)), "{ours:?}");
        cache.repo().ostree("summary", ["-u"]).unwrap();
        let mut theirs = cache.repo().summary().unwrap();
        // Only our summary contains the size of each ref; ostree also promises an index of deltas
        // that nobody made.
        ours.retain(|line| !line.contains("artifact-cache.size"));
        for lines in [&mut ours, &mut theirs] {
            lines.retain(|line| !line.contains("indexed-deltas"));
        }
        assert_eq!(ours, theirs);
    }
}

#[test]
fn pushes_at_the_same_time_all_arrive_and_all_are_in_the_summary() {
    let cache = Cache::start().unwrap();
    let tree = every_kind(&cache).unwrap();
    tree.generated(300, 5).unwrap();
    let from = source(&cache, Mode::Archive).unwrap();
    let names: Vec<String> = (0..4).map(|n| format!("project/element{n}/key")).collect();
    for name in &names {
        tree.file("which", name.as_bytes(), 0o644).unwrap();
        from.commit(name, tree.root(), &[]).unwrap();
    }
    thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| cache.push(&from, &[name]).unwrap().must_exit(0).unwrap());
        }
    });
    assert_eq!(cache.repo().refs().unwrap(), from.refs().unwrap());
    let summary = cache.repo().summary().unwrap().join("\n");
    assert!(names.iter().all(|name| summary.contains(name)), "{summary}");
    cache.fsck().unwrap();
    cache.must_give(&names[3], &from, tree.root()).unwrap();
}

#[test]
fn check_tells_a_user_where_he_is() {
    let cache = Cache::start().unwrap();
    let mut check = cache.client("check").unwrap();
    check.args(["--remote", &cache.push_url()]);
    let said = run(&mut check).unwrap().success().unwrap();
    assert!(said.contains(&cache.pull_url()), "{said}");
    assert!(said.contains("version 2"), "{said}");
    cache.wait_idle().unwrap();
}

/// Returns the cipher that `ssh`, with these options, agrees on with the server.
fn cipher_in_use(cache: &Cache, options: &str) -> Result<String, Failure> {
    let mut check = cache.client("check")?;
    let ssh = format!("{} -v {options}", cache.sshd().ssh_command());
    check.env("ARTIFACT_CACHE_SSH", ssh);
    check.args(["--verbose", "--remote", &cache.push_url()]);
    let ran = run(&mut check)?;
    let line = ran.stderr.lines().find_map(|line| {
        let (_, cipher) = line.split_once("client->server cipher: ")?;
        cipher.split(' ').next().map(str::to_owned)
    });
    Ok(line.unwrap_or(ran.stderr))
}

#[test]
fn ssh_encrypts_in_the_fastest_way_unless_the_user_chose_another() {
    let cache = Cache::start().unwrap();
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let fastest = match processor.split_whitespace().any(|word| word == "aes") {
        true => "aes128-gcm@openssh.com",
        false => "chacha20-poly1305@openssh.com",
    };
    for (options, expected) in [
        ("", fastest),
        ("-c aes256-ctr", "aes256-ctr"),
        ("-o Ciphers=aes192-ctr", "aes192-ctr"),
    ] {
        assert_eq!(cipher_in_use(&cache, options).unwrap(), expected);
    }
}

#[test]
fn without_json_a_push_tells_a_person_the_same_in_plain_lines() {
    let cache = Cache::start().unwrap();
    let tree = every_kind(&cache).unwrap();
    let from = source(&cache, Mode::Archive).unwrap();
    from.commit(STRONG, tree.root(), &[]).unwrap();
    let mut push = cache.client("push").unwrap();
    push.arg("--repo").arg(from.path());
    push.args(["--remote", &cache.push_url(), STRONG]);
    let ran = run(&mut push).unwrap();
    let said = format!("{}{}", ran.stdout, ran.stderr);
    ran.success().unwrap();
    assert!(said.contains(STRONG), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains('\r'), "{said:?}");
}
