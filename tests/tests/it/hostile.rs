//! Pushes that fail: each prints one clear line, exits with a code that says whose turn it is,
//! leaves the repository unchanged and no process behind.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use artifact_formats::ObjectKind;
use artifact_models::random::Random;
use artifact_tests::cache::{Cache, Pushed};
use artifact_tests::exec::{Failure, run};
use artifact_tests::listing::Listing;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;
use artifact_tests::{processes, programs};

use crate::{every_kind, source};

const NAME: &str = "project/element/key";

/// A cache that holds one artifact, the repository it came from, and a snapshot of the cache.
struct Scene {
    cache: Cache,
    tree: Tree,
    from: Repo,
    before: Listing,
}

impl Scene {
    fn start() -> Result<Self, Failure> {
        let cache = Cache::start()?;
        let (tree, from) = (every_kind(&cache)?, source(&cache, Mode::Archive)?);
        from.commit("project/element/first", tree.root(), &[])?;
        cache
            .push(&from, &["project/element/first"])?
            .must_exit(0)?;
        tree.file("more", b"something that the cache has not", 0o644)?;
        from.commit(NAME, tree.root(), &[])?;
        let before = cache.listing()?;
        Ok(Self {
            cache,
            tree,
            from,
            before,
        })
    }

    /// Adds a file to the artifact that takes a while to push.
    fn with_a_large_file(self) -> Result<Self, Failure> {
        self.tree.file("large", &Random(9).bytes(32 << 20), 0o644)?;
        self.from.commit(NAME, self.tree.root(), &[])?;
        Ok(self)
    }

    /// Checks that the push ended with this code and one line of explanation, that the cache is
    /// unchanged, and that no process is at work on it any more.
    fn must_be_as_before(&self, pushed: Pushed, code: i32) -> Result<(), Failure> {
        let pushed = pushed.must_exit(code)?;
        // Lines from the server or ssh are marked as such, and advice is indented.
        let said = pushed.ran.stderr.lines();
        let lines = said
            .filter(|line| line.starts_with("artifact-cache: "))
            .count();
        if lines != 1 {
            return Err(Failure::new(format!(
                "{lines} lines, not one: {}",
                pushed.ran
            )));
        }
        self.must_be_untouched()
    }

    fn must_be_untouched(&self) -> Result<(), Failure> {
        self.cache.wait_idle()?;
        self.before.must_equal(&self.cache.listing()?)?;
        self.cache.fsck()
    }

    /// Checks that the same push succeeds once the fault is gone.
    fn must_still_work(&self) -> Result<(), Failure> {
        self.cache.push(&self.from, &[NAME])?.must_exit(0)?;
        self.cache.fsck()?;
        self.cache.must_give(NAME, &self.from, self.tree.root())
    }

    /// Starts a push and waits until a good part of it has reached the server.
    fn half_a_push(&self, options: &[&str]) -> Result<Child, Failure> {
        let already = self.cache.staged_len();
        let child = self
            .cache
            .push_command(&self.from, &[NAME])?
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Failure::doing("start the push"))?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.cache.staged_len() < already + (1 << 20) {
            if Instant::now() > deadline {
                return Err(Failure::new("nothing was staged within a minute"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(child)
    }

    /// Pushes through a command that replaces ssh.
    fn push_through(&self, ssh: &str) -> Result<Pushed, Failure> {
        let mut push = self.cache.push_command(&self.from, &[NAME])?;
        Pushed::read(run(push.args(["--ssh", ssh]))?)
    }
}

#[test]
fn a_shell_that_prints_is_told_apart_from_a_server() {
    let scene = Scene::start().unwrap();
    let pushed = scene
        .push_through("sh -c \"echo Welcome to host; cat\"")
        .unwrap();
    assert!(pushed.ran.stderr.contains("Welcome to host"), "{pushed:?}");
    scene.must_be_as_before(pushed, 6).unwrap();
    let pushed = scene
        .push_through("sh -c \"printf '\\\\033]0;owned\\\\007'; cat\"")
        .unwrap();
    assert!(!pushed.ran.stderr.contains('\u{1b}'), "{pushed:?}");
    scene.must_be_as_before(pushed, 6).unwrap();
    scene.must_still_work().unwrap();
}

#[test]
fn a_server_that_is_not_there_and_one_that_lets_nobody_in_are_lost_connections() {
    let scene = Scene::start().unwrap();
    for ssh in ["false", "sh -c \"exit 255\"", "no-such-program-here"] {
        let pushed = scene.push_through(ssh).unwrap();
        assert_eq!(pushed.ran.code, Some(5), "{ssh}: {pushed:?}");
    }
    let mut push = scene
        .cache
        .push_command_to("ssh://127.0.0.1:1/artifacts", &scene.from, &[NAME])
        .unwrap();
    assert_eq!(run(&mut push).unwrap().code, Some(5));
    scene.must_be_untouched().unwrap();
}

#[test]
fn a_host_or_user_that_looks_like_an_option_never_reaches_ssh() {
    let scene = Scene::start().unwrap();
    let mark = scene.cache.scratch("mark");
    for remote in [
        format!("ssh://-oProxyCommand=touch {}/x", mark.display()),
        format!("-oProxyCommand=touch {}:x", mark.display()),
        format!("-oProxyCommand=touch {}@localhost:x", mark.display()),
    ] {
        let remote = format!("--remote={remote}");
        let mut push = scene.cache.client("push").unwrap();
        push.arg("--repo")
            .arg(scene.from.path())
            .args([&remote, NAME]);
        assert_eq!(run(&mut push).unwrap().code, Some(2), "{remote}");
    }
    assert!(!mark.exists());
}

#[test]
fn a_ref_the_user_does_not_have_is_his_own_affair() {
    let scene = Scene::start().unwrap();
    let pushed = scene.cache.push(&scene.from, &["no/such/ref"]).unwrap();
    assert!(pushed.ran.stderr.contains("no/such/ref"), "{pushed:?}");
    scene.must_be_as_before(pushed, 7).unwrap();
}

#[test]
fn a_ref_outside_the_grammar_is_a_wrong_use() {
    let scene = Scene::start().unwrap();
    for name in ["../etc", "a//b", "a b", "tmp.x"] {
        let pushed = scene.cache.push(&scene.from, &[name]).unwrap();
        assert_eq!(pushed.ran.code, Some(2), "{name}: {pushed:?}");
    }
    scene.must_be_untouched().unwrap();
}

#[test]
fn a_damaged_object_of_any_kind_gets_no_further() {
    for kind in ObjectKind::ALL {
        let scene = Scene::start().unwrap();
        let new: Vec<_> = {
            let known = scene.cache.repo().objects(kind).unwrap();
            let all = scene.from.objects(kind).unwrap();
            all.into_iter().filter(|id| !known.contains(id)).collect()
        };
        let Some(id) = new.first() else {
            assert_eq!(kind, ObjectKind::Dirmeta, "the artifact has no new {kind}");
            continue;
        };
        scene.from.damage(id).unwrap();
        let pushed = scene.cache.push(&scene.from, &[NAME]).unwrap();
        // Either end may notice first; a client need not check what the server will.
        let code = pushed.ran.code.unwrap();
        assert!([7, 8].contains(&code), "{pushed:?}");
        assert!(
            pushed.ran.stderr.contains(&id.checksum.to_hex()),
            "{pushed:?}"
        );
        scene.must_be_as_before(pushed, code).unwrap();
        scene.from.damage(id).unwrap();
        scene.must_still_work().unwrap();
    }
}

#[test]
fn an_object_the_user_has_lost_is_named() {
    let scene = Scene::start().unwrap();
    let known = scene.cache.repo().objects(ObjectKind::File).unwrap();
    let mut new = scene.from.objects(ObjectKind::File).unwrap();
    new.retain(|id| !known.contains(id));
    let path = scene
        .from
        .path()
        .join("objects")
        .join(new[0].archive_path());
    fs::remove_file(path).unwrap();
    let pushed = scene.cache.push(&scene.from, &[NAME]).unwrap();
    assert!(
        pushed.ran.stderr.contains(&new[0].checksum.to_hex()),
        "{pushed:?}"
    );
    scene.must_be_as_before(pushed, 7).unwrap();
}

#[test]
fn a_ref_that_the_commit_is_not_bound_to_is_refused_and_the_others_are_not() {
    let scene = Scene::start().unwrap();
    let commit = scene.from.commit_of(NAME).unwrap();
    scene
        .from
        .add_ref("project/element/unbound", &commit)
        .unwrap();
    let pushed = scene
        .cache
        .push(&scene.from, &["project/element/unbound"])
        .unwrap();
    assert_eq!(pushed.refs["project/element/unbound"], "refused");
    pushed.must_exit(3).unwrap();
    scene.must_be_untouched().unwrap();
    let both = ["project/element/unbound", NAME];
    let pushed = scene
        .cache
        .push(&scene.from, &both)
        .unwrap()
        .must_exit(3)
        .unwrap();
    assert_eq!(pushed.refs["project/element/unbound"], "refused");
    assert_eq!(pushed.refs[NAME], "updated");
    scene
        .cache
        .must_give(NAME, &scene.from, scene.tree.root())
        .unwrap();
}

#[test]
fn a_client_killed_in_the_middle_leaves_the_cache_as_it_was() {
    let scene = Scene::start().unwrap().with_a_large_file().unwrap();
    let mut push = scene.half_a_push(&[]).unwrap();
    processes::kill_tree(push.id());
    push.wait().unwrap();
    scene.must_be_untouched().unwrap();
    scene.must_still_work().unwrap();
}

#[test]
fn a_connection_cut_in_the_middle_ends_in_exit_code_5_or_in_a_retry_that_goes_well() {
    let scene = Scene::start().unwrap().with_a_large_file().unwrap();
    let cut = |retries| {
        let push = scene.half_a_push(&["--retries", retries]).unwrap();
        scene.cache.sshd().cut_connections();
        let output = push.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = cut("0");
    assert_eq!(code, Some(5), "{said}");
    scene.must_be_untouched().unwrap();

    let (code, said) = cut("1");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("trying again"), "{said}");
    scene.cache.fsck().unwrap();
    let root = scene.tree.root();
    scene.cache.must_give(NAME, &scene.from, root).unwrap();
    scene.must_still_work().unwrap();
}

#[test]
fn a_disk_that_takes_no_more_is_said_to_be_the_servers() {
    let scene = Scene::start().unwrap().with_a_large_file().unwrap();
    // With SIGXFSZ ignored, writing past 2 MiB fails as on a full file system.
    let receiver = format!(
        "sh -c \"trap '' 25; ulimit -f 4096; exec {} {}\"",
        programs::receiver().unwrap().display(),
        scene.cache.repo().path().display()
    );
    let pushed = scene.push_through(&receiver).unwrap().must_exit(9).unwrap();
    assert_eq!(pushed.objects_sent, None);
    scene.must_be_untouched().unwrap();
    scene.must_still_work().unwrap();
}

#[test]
fn a_receiver_that_is_spoken_to_in_another_language_changes_nothing() {
    let scene = Scene::start().unwrap();
    let random = Random(4).bytes(70_000);
    let inputs: [&[u8]; 4] = [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x8a", &random];
    for input in inputs {
        let mut receiver = Command::new(programs::receiver().unwrap())
            .arg(scene.cache.repo().path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The receiver may hang up before it has read everything.
        let _ = receiver.stdin.take().unwrap().write_all(input);
        let output = receiver.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some(), "{said}");
        assert!(input.is_empty() || !output.status.success(), "{said}");
        assert!(said.lines().count() <= 2, "{said}");
    }
    scene.must_be_untouched().unwrap();
}
