//! A user's machine against the client: odd repositories, ssh configurations, environments, full
//! disks.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use artifact_formats::Checksum;
use artifact_tests::cache::{Cache, Pushed};
use artifact_tests::exec::{Failure, Ran, run};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;

use crate::source;

const REF: &str = "project/element/key";

/// A cache and a repository with a commit of a small tree.
struct Scene {
    cache: Cache,
    tree: Tree,
    from: Repo,
}

impl Scene {
    fn start() -> Self {
        let cache = Cache::start().unwrap();
        let tree = Tree::create(&cache.scratch("tree")).unwrap();
        tree.file("usr/file", b"usr", 0o644).unwrap();
        tree.file("etc/file", b"etc", 0o644).unwrap();
        let from = source(&cache, Mode::Archive).unwrap();
        from.commit(REF, tree.root(), &[]).unwrap();
        Self { cache, tree, from }
    }

    fn change(&self, content: &str) -> Checksum {
        self.tree
            .file("usr/file", content.as_bytes(), 0o644)
            .unwrap();
        self.from.commit(REF, self.tree.root(), &[]).unwrap()
    }

    fn push(&self, options: &[&str]) -> Pushed {
        let mut command = self.cache.push_command(&self.from, &[REF]).unwrap();
        Pushed::read(run(command.args(options)).unwrap()).unwrap()
    }

    /// Returns the number of commits of the ref's history that the cache has.
    fn history(&self) -> usize {
        let log = ostree(self.cache.repo().path(), &["log", REF]);
        log.lines()
            .filter(|line| line.starts_with("commit "))
            .count()
    }
}

fn ostree(repo: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("ostree");
    command
        .arg(format!("--repo={}", repo.display()))
        .args(arguments);
    run(&mut command).unwrap().success().unwrap()
}

/// Runs a client's subcommand on the cache at its path.
fn client(cache: &Cache, subcommand: &str, arguments: &[&str]) -> Ran {
    let path = cache.repo().path().display().to_string();
    let mut command = cache.client(subcommand).unwrap();
    run(command.args(["--remote", &path]).args(arguments)).unwrap()
}

#[test]
fn history_is_filled_in_and_only_what_is_missing_of_it_is_sent() {
    let scene = Scene::start();
    for content in ["two", "three", "four"] {
        scene.change(content);
    }
    let pushed = scene.push(&[]).must_exit(0).unwrap();
    assert_eq!((scene.history(), pushed.objects_sent), (1, Some(7)));
    // An ancestor is a commit, two directories and a file.
    for (depth, history, sent) in [
        ("1", 2, 4),
        ("1", 2, 0),
        ("3", 4, 8),
        ("9", 4, 0),
        ("4294967295", 4, 0),
    ] {
        let pushed = scene.push(&["--depth", depth]).must_exit(0).unwrap();
        assert_eq!(
            (scene.history(), pushed.objects_sent),
            (history, Some(sent))
        );
        let status = if sent > 0 { "updated" } else { "unchanged" };
        assert_eq!(pushed.refs[REF], status, "{pushed:?}");
        scene.cache.fsck().unwrap();
    }
    // A commit in the middle is lost, and then everything of it but its name.
    let head = ostree(scene.from.path(), &["rev-parse", &format!("{REF}^")]);
    let (first, rest) = head.trim().split_at(2);
    let commit = |repo: &Repo| repo.path().join(format!("objects/{first}/{rest}.commit"));
    fs::remove_file(commit(scene.cache.repo())).unwrap();
    let pushed = scene.push(&["--depth", "3"]).must_exit(0).unwrap();
    assert_eq!(
        (scene.history(), pushed.objects_sent),
        (4, Some(1)),
        "{pushed:?}"
    );
    scene.cache.fsck().unwrap();

    // A new commit; the server has its whole history.
    scene.change("five");
    let pushed = scene.push(&["--depth", "9"]).must_exit(0).unwrap();
    assert_eq!(
        (scene.history(), pushed.objects_sent),
        (5, Some(4)),
        "{pushed:?}"
    );
    scene.cache.fsck().unwrap();
}

#[test]
fn what_a_partial_repository_lacks_the_server_may_have() {
    let scene = Scene::start();
    scene.push(&[]).must_exit(0).unwrap();
    let part = Repo::init(&scene.cache.scratch("part"), Mode::BareUser).unwrap();
    let url = format!("file://{}", scene.cache.repo().path().display());
    ostree(
        part.path(),
        &["remote", "add", "--no-gpg-verify", "o", &url],
    );
    ostree(
        part.path(),
        &["pull", "--mirror", "--subpath=/usr", "o", REF],
    );
    // The same commit, under another name; and a new one on top of it.
    let commit = part.commit_of(REF).unwrap();
    part.add_ref("project/element/other", &commit).unwrap();
    let other = scene.cache.push(&part, &["project/element/other"]).unwrap();
    let other = other.must_exit(3).unwrap();
    assert_eq!(other.refs["project/element/other"], "refused", "{other:?}");
    let new = Tree::create(&scene.cache.scratch("new")).unwrap();
    new.file("usr/file", b"newer", 0o644).unwrap();
    ostree(
        part.path(),
        &[
            "commit",
            &format!("--branch={REF}"),
            &format!("--tree=ref={REF}"),
            &format!("--tree=dir={}", new.root().display()),
            &format!("--parent={commit}"),
        ],
    );
    let pushed = scene
        .cache
        .push(&part, &[REF])
        .unwrap()
        .must_exit(0)
        .unwrap();
    assert_eq!(pushed.objects_sent, Some(4), "{pushed:?}");
    scene.cache.fsck().unwrap();

    // An empty cache cannot be given the rest.
    let empty = scene.cache.scratch("empty");
    ostree(&empty, &["init", "--mode=archive"]);
    let remote = empty.display().to_string();
    let mut command = scene.cache.push_command_to(&remote, &part, &[REF]).unwrap();
    let ran = run(&mut command).unwrap();
    assert_eq!(ran.code, Some(7), "{ran}");
    assert!(ran.stderr.contains("only a part of commit"), "{ran}");
    assert!(ran.stderr.contains(&commit.to_hex()), "{ran}");
    assert_eq!(ostree(&empty, &["refs"]), "");
    // As advised: the whole commit is pulled first.
    assert!(
        ran.stderr.contains("(`ostree pull`, without --subpath"),
        "{ran}"
    );
    ostree(part.path(), &["pull", "o", &commit.to_hex()]);
    let mut command = scene.cache.push_command_to(&remote, &part, &[REF]).unwrap();
    run(&mut command).unwrap().success().unwrap();
}

#[test]
fn a_repository_that_leans_on_a_parent_is_pushed_from() {
    let scene = Scene::start();
    let child = Repo::init(&scene.cache.scratch("child"), Mode::BareUser).unwrap();
    let parent = scene.from.path().display().to_string();
    ostree(child.path(), &["config", "set", "core.parent", &parent]);
    let branch = "--branch=app/1";
    ostree(
        child.path(),
        &["commit", branch, &format!("--tree=ref={REF}")],
    );
    for name in ["app/1", REF] {
        let pushed = scene.cache.push(&child, &[name]).unwrap();
        pushed.must_exit(0).unwrap();
    }
    scene.cache.fsck().unwrap();
    fs::rename(scene.from.path(), scene.cache.scratch("moved")).unwrap();
    let pushed = scene.cache.push(&child, &["app/1"]).unwrap();
    let ran = pushed.must_exit(7).unwrap().ran;
    assert!(
        ran.stderr.contains(&parent) && ran.stderr.contains("core.parent"),
        "{ran}"
    );
}

#[test]
fn a_repository_whose_empty_directories_are_gone_is_pushed_from() {
    let scene = Scene::start();
    let path = scene.from.path().display().to_string();
    run(Command::new("find").args([&path, "-type", "d", "-empty", "-delete"])).unwrap();
    assert!(!scene.from.path().join("state").exists());
    scene.push(&[]).must_exit(0).unwrap();
    let _ = scene.push(&["--depth", "2"]).must_exit(0).unwrap();
}

/// Lines for a user's `ssh_config`, each of which corrupts a stream or starts another program.
const SPOILERS: [&[&str]; 16] = [
    &["RemoteCommand tmux new"],
    &["RequestTTY force"],
    &["RequestTTY force", "RemoteCommand tmux new"],
    &["SessionType none"],
    &["SessionType subsystem"],
    &["StdinNull yes"],
    &["ForkAfterAuthentication yes"],
    &[
        "ControlMaster auto",
        "ControlPath DIR/master-%C",
        "ControlPersist 60",
    ],
    &["EscapeChar a", "RequestTTY yes"],
    &["PermitLocalCommand yes", "LocalCommand echo hello"],
    &[
        "LocalForward 127.0.0.1:1 127.0.0.1:1",
        "ExitOnForwardFailure yes",
    ],
    &[
        "RemoteForward 127.0.0.1:1 127.0.0.1:1",
        "ExitOnForwardFailure yes",
    ],
    &["DynamicForward 127.0.0.1:1", "ExitOnForwardFailure yes"],
    &["ForwardX11 yes", "ForwardAgent yes", "Tunnel yes"],
    &["LogLevel DEBUG3"],
    &["LogLevel QUIET", "VisualHostKey yes"],
];

#[test]
fn the_stream_is_ours_whatever_the_users_ssh_configuration_says() {
    let scene = Scene::start();
    let dir = scene.cache.scratch("ssh");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("config");
    let ssh = scene.cache.sshd().ssh_command();
    let ssh = ssh.replace("-F none", &format!("-F {}", file.display()));
    for (number, lines) in SPOILERS.iter().enumerate() {
        let text = format!("Host *\n  {}\n", lines.join("\n  "));
        fs::write(&file, text.replace("DIR", &dir.display().to_string())).unwrap();
        scene.change(&format!("spoiled {number}"));
        let mut command = scene.cache.push_command(&scene.from, &[REF]).unwrap();
        command.args(["--ssh", &ssh, "--retries", "0"]);
        let pushed = Pushed::read(run(&mut command).unwrap()).unwrap();
        let pushed = pushed
            .must_exit(0)
            .unwrap_or_else(|why| panic!("{lines:?}: {why:?}"));
        assert_eq!(pushed.refs[REF], "updated", "{lines:?}");
    }
    assert_eq!(
        fs::read_dir(&dir).unwrap().count(),
        1,
        "a master was left behind"
    );
    scene.cache.fsck().unwrap();
}

#[test]
fn for_a_host_key_that_is_unknown_changed_or_revoked_there_is_advice_that_fits() {
    let scene = Scene::start();
    let known = scene.cache.scratch("known_hosts");
    let port = scene.cache.sshd().port();
    let key = scene.cache.sshd().make_key("another").unwrap();
    let host_key = fs::read_to_string(
        scene
            .cache
            .sshd()
            .authorized_keys()
            .with_file_name("host_key.pub"),
    )
    .unwrap();
    let ssh = scene.cache.sshd().ssh_command();
    let (before, _) = ssh.split_once(" -o UserKnownHostsFile=").unwrap();
    // A client that does not know the reason cannot give advice.
    let config = scene.cache.scratch("ssh_config");
    fs::write(&config, "LogLevel QUIET\n").unwrap();
    let before = before.replace("-F none", &format!("-F {}", config.display()));
    let known_hosts = format!("-o UserKnownHostsFile={}", known.display());
    let ssh = format!("{before} -o StrictHostKeyChecking=yes {known_hosts}");
    for (text, advice, not) in [
        (
            String::new(),
            "connect once by hand with `ssh -p",
            "revoked",
        ),
        (
            format!("[127.0.0.1]:{port} {key}\n"),
            "ssh-keygen -R '[127.0.0.1]:",
            "does not know",
        ),
        (
            format!("@revoked [127.0.0.1]:{port} {host_key}"),
            "was revoked",
            "does not know",
        ),
    ] {
        fs::write(&known, text).unwrap();
        let mut command = scene.cache.push_command(&scene.from, &[REF]).unwrap();
        let ran = run(command.args(["--ssh", &ssh])).unwrap();
        assert_eq!(ran.code, Some(5), "{ran}");
        assert!(
            ran.stderr.contains(advice) && !ran.stderr.contains(not),
            "{ran}"
        );
        assert!(!ran.stderr.contains("trying again"), "{ran}");
        // What is advised is run, with the files and the key of this test.
        let commands: Vec<_> = ran.stderr.split('`').skip(1).step_by(2).collect();
        let command = commands[0];
        let command = match command.strip_prefix("ssh -p ") {
            Some(rest) => format!(
                "{} {known_hosts} -o StrictHostKeyChecking=accept-new -p {rest} true",
                before.replace(
                    "StrictHostKeyChecking=yes",
                    "StrictHostKeyChecking=accept-new"
                )
            ),
            None => format!("{command} -f {}", known.display()),
        };
        let shown = run(Command::new("sh").args(["-c", &command])).unwrap();
        let mut again = scene.cache.push_command(&scene.from, &[REF]).unwrap();
        let ran = run(again.args(["--ssh", &ssh])).unwrap();
        match advice {
            "connect once by hand with `ssh -p" => assert_eq!(ran.code, Some(0), "{shown}\n{ran}"),
            "was revoked" => assert!(shown.stdout.contains("@revoked"), "{shown}"),
            // The key is unknown again.
            _ => assert!(ran.stderr.contains("does not know"), "{shown}\n{ran}"),
        }
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    let scene = Scene::start();
    scene.push(&[]).must_exit(0).unwrap();
    let (server, local) = (scene.cache.repo().path(), scene.cache.scratch("local"));
    let (server, local) = (server.display().to_string(), local.display().to_string());
    let from = scene.from.path().display().to_string();
    let (client, admin) = (programs::client().unwrap(), programs::admin().unwrap());
    let receiver = programs::receiver().unwrap();
    let commands: [(&Path, &[&str]); 16] = [
        (&client, &["list", "--remote", &server]),
        (&client, &["list", "--json", "--remote", &server]),
        (&client, &["check", "--remote", &server]),
        (
            &client,
            &["push", "--repo", &from, "--remote", &server, REF],
        ),
        (
            &client,
            &["push", "--json", "--repo", &from, "--remote", &server, REF],
        ),
        (
            &client,
            &["pull", "--repo", &local, "--remote", &server, REF],
        ),
        (
            &client,
            &["pull", "--json", "--repo", &local, "--remote", &server, REF],
        ),
        (&client, &["--help"]),
        (&client, &["push", "--help"]),
        (&client, &["--version"]),
        (&admin, &["status", &server]),
        (&admin, &["status", "--json", &server]),
        (&admin, &["fsck", &server]),
        (&admin, &["summary", &server]),
        (&admin, &["--help"]),
        (&receiver, &["--help"]),
    ];
    for (program, arguments) in commands {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(program)
            .args(arguments)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        let words: String = arguments.iter().map(|word| format!(" '{word}'")).collect();
        let piped = format!(
            "{}{words} | true; exit ${{PIPESTATUS[0]}}",
            program.display()
        );
        let ran = run(Command::new("bash").args(["-c", &piped])).unwrap();
        assert_eq!(ran.code, Some(0), "{ran}");
    }
}

#[test]
fn variables_that_are_set_to_nothing_are_as_if_unset() {
    let scene = Scene::start();
    let here = |subcommand: &str| {
        let mut command = scene.cache.client(subcommand).unwrap();
        for name in [
            "OSTREE_REPO",
            "ARTIFACT_CACHE_SSH",
            "XDG_CONFIG_HOME",
            "XDG_CONFIG_DIRS",
            "http_proxy",
            "https_proxy",
            "SSL_CERT_FILE",
        ] {
            command.env(name, "");
        }
        command
    };
    let server = scene.cache.repo().path().display().to_string();
    let mut push = here("push");
    push.current_dir(scene.from.path())
        .args(["--remote", &server, REF]);
    run(&mut push).unwrap().success().unwrap();
    let local = scene.cache.scratch("local");
    fs::create_dir(&local).unwrap();
    let mut pull = here("pull");
    pull.current_dir(&local)
        .args(["--remote", &scene.cache.pull_url(), REF]);
    run(&mut pull).unwrap().success().unwrap();
    // Without a home, the client reads neither the user's file nor the one in the current
    // directory.
    fs::create_dir(local.join(".config")).unwrap();
    let trap = "artifacts: {url: /nowhere}\n";
    fs::write(local.join(".config/artifact-cache.yaml"), trap).unwrap();
    let ran = run(here("list").env("HOME", "").current_dir(&local)).unwrap();
    assert_eq!(ran.code, Some(2), "{ran}");
    assert!(ran.stderr.contains("no cache is named"), "{ran}");
}

#[test]
fn a_list_of_nothing_says_so_and_numbers_agree_with_their_nouns() {
    let scene = Scene::start();
    let ran = client(&scene.cache, "list", &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran}");
    assert!(ran.stderr.contains("has no ref"), "{ran}");
    let ran = client(&scene.cache, "list", &["--quiet"]);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("", ""),
        "{ran}"
    );
    scene.push(&[]).must_exit(0).unwrap();
    let ran = client(&scene.cache, "list", &["nothing/**"]);
    assert!(
        ran.stderr.contains("no ref that matches nothing/**"),
        "{ran}"
    );
    let ran = client(&scene.cache, "check", &[]);
    assert!(ran.stdout.contains("1 ref\n"), "{ran}");
}

/// Pulls into the repository `local`.
fn pull(cache: &Cache, arguments: &[&str]) -> Ran {
    let local = cache.scratch("local").display().to_string();
    client(
        cache,
        "pull",
        &[&["--repo", local.as_str()], arguments].concat(),
    )
}

#[test]
fn a_pull_moves_no_ref_that_holds_work_of_the_users() -> Result<(), Failure> {
    let scene = Scene::start();
    scene.push(&[]).must_exit(0)?;
    let local = Repo::at(&scene.cache.scratch("local"));
    assert_eq!(pull(&scene.cache, &[REF]).code, Some(0));
    // The cache moves on, with its history and then without.
    let mut held = scene.change("two");
    scene.push(&[]).must_exit(0)?;
    assert_eq!(pull(&scene.cache, &[REF]).code, Some(0));
    assert_eq!(local.commit_of(REF)?, held);
    scene.from.add_ref("other", &scene.change("three"))?;
    let unrelated = scene
        .from
        .commit(REF, scene.tree.root(), &["--parent=none"])?;
    scene.push(&["--force"]).must_exit(0)?;
    let ran = pull(&scene.cache, &[REF]);
    assert_eq!(ran.code, Some(0), "nothing of the user's was there: {ran}");
    assert_eq!(local.commit_of(REF)?, unrelated);

    // The user's own work, on top of the pulled commit and from nothing.
    for parent in [unrelated.to_hex().as_str(), "none"] {
        let option = format!("--parent={parent}");
        held = local.commit(
            REF,
            scene.tree.root(),
            &[&option, "--add-metadata-string=mine=1"],
        )?;
        let ran = pull(&scene.cache, &[REF]);
        assert_eq!(ran.code, Some(3), "{ran}");
        assert!(
            ran.stderr.contains(&held.to_hex()) && ran.stderr.contains("--force"),
            "{ran}"
        );
        let ran = pull(&scene.cache, &["--all", "**", "--json"]);
        assert_eq!(ran.code, Some(3), "{ran}");
        assert!(ran.stdout.contains("\"refused\""), "{ran}");
        assert_eq!(local.commit_of(REF)?, held);
    }
    assert_eq!(pull(&scene.cache, &["--force", REF]).code, Some(0));
    assert_eq!(local.commit_of(REF)?, unrelated);
    // A ref behind the cache's is not the user's work, whoever set it.
    let behind = Repo::init(&scene.cache.scratch("local-2"), Mode::BareUser)?;
    behind.pull_path(scene.cache.repo().path(), &[REF])?;
    scene.change("four");
    let newest = scene.change("five");
    scene.push(&[]).must_exit(0)?;
    let path = behind.path().display().to_string();
    let ran = client(&scene.cache, "pull", &["--repo", &path, REF]);
    assert_eq!(
        (ran.code, behind.commit_of(REF)?),
        (Some(0), newest),
        "{ran}"
    );
    Ok(())
}

#[test]
fn one_ref_that_cannot_be_had_does_not_keep_the_others_away() -> Result<(), Failure> {
    let scene = Scene::start();
    let refs = ["p/one/x", "p/three/x", "p/two/x"];
    for name in refs {
        scene.tree.file("own", name.as_bytes(), 0o644)?;
        scene.from.commit(name, scene.tree.root(), &[])?;
    }
    scene.cache.push(&scene.from, &refs)?.must_exit(0)?;
    let local = Repo::init(&scene.cache.scratch("local"), Mode::BareUser)?;
    // One commit is incomplete in the cache.
    let said = ostree(scene.from.path(), &["ls", "-C", refs[1], "/own"]);
    let checksum = said
        .split_whitespace()
        .find(|word| word.len() == 64)
        .unwrap();
    let (first, rest) = checksum.split_at(2);
    let object = format!("objects/{first}/{rest}.filez");
    fs::remove_file(scene.cache.repo().path().join(object)).unwrap();
    for arguments in [&["--all", "p/**"][..], &refs] {
        let ran = pull(&scene.cache, arguments);
        assert_eq!(ran.code, Some(9), "{ran}");
        assert!(ran.stderr.contains("p/three/x  failed"), "{ran}");
        assert!(!ran.stderr.contains("no cache has"), "{ran}");
        let held: Vec<_> = local.refs()?.into_keys().collect();
        assert_eq!(held, ["p/one/x", "p/two/x"]);
    }
    Ok(())
}

#[test]
fn a_ref_is_never_looked_up_as_the_beginning_of_a_checksum() -> Result<(), Failure> {
    let scene = Scene::start();
    let commit = scene.from.commit_of(REF)?.to_hex();
    scene.push(&[]).must_exit(0)?;
    for len in [1, 2, 8, 63] {
        let name = &commit[..len];
        let mut command = scene.cache.push_command(&scene.from, &[name])?;
        let ran = run(&mut command)?;
        assert_eq!(ran.code, Some(2), "{ran}");
        assert!(ran.stderr.contains("ostree refs --create="), "{ran}");
        let ran = pull(&scene.cache, &[name]);
        assert_eq!(ran.code, Some(2), "{ran}");
    }
    Ok(())
}

#[test]
fn a_pull_sets_the_ref_though_a_remotes_ref_of_that_name_holds_the_commit() -> Result<(), Failure> {
    let scene = Scene::start();
    scene.push(&[]).must_exit(0)?;
    let local = Repo::init(&scene.cache.scratch("local"), Mode::BareUser)?;
    let url = format!("file://{}", scene.cache.repo().path().display());
    ostree(
        local.path(),
        &["remote", "add", "--no-gpg-verify", "o", &url],
    );
    ostree(local.path(), &["pull", "o", REF]);
    assert_eq!(pull(&scene.cache, &[REF]).code, Some(0));
    // Looked up by name, the remote's ref would be found as well.
    let file = fs::read_to_string(local.path().join("refs/heads").join(REF)).unwrap();
    assert_eq!(file.trim(), scene.from.commit_of(REF)?.to_hex());
    Ok(())
}
