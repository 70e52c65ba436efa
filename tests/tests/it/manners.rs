//! How the client behaves towards people and servers: retries, interruptions, progress, colours.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use artifact_tests::cache::Cache;
use artifact_tests::exec::{Ran, run};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;
use serde_json::Value;

use crate::source;

const REF: &str = "project/element/key";

/// A cache, and a repository with a commit of files that travel one by one.
struct Scene {
    cache: Cache,
    from: Repo,
}

impl Scene {
    fn start() -> Self {
        let cache = Cache::start().unwrap();
        let tree = Tree::create(&cache.scratch("tree")).unwrap();
        for number in 0..FILES {
            let content = noise(FILE_LEN, number + 1);
            tree.file(&number.to_string(), &content, 0o644).unwrap();
        }
        let from = source(&cache, Mode::Archive).unwrap();
        from.commit(REF, tree.root(), &[]).unwrap();
        Self { cache, from }
    }

    /// Returns a subcommand for the cache's address of ssh.
    fn client(&self, subcommand: &str, ssh: Option<&Path>) -> Command {
        let mut command = self.cache.client(subcommand).unwrap();
        command.args(["--remote", &self.cache.push_url()]);
        if let Some(ssh) = ssh {
            command.arg("--ssh").arg(ssh);
        }
        match subcommand {
            "push" => command.arg("--repo").arg(self.from.path()).arg(REF),
            "pull" => command.arg("--repo").arg(self.local()).arg(REF),
            _ => &mut command,
        };
        command
    }

    fn local(&self) -> PathBuf {
        self.cache.scratch("local")
    }

    /// Writes a program that stands for `ssh` to the cache: it runs a script, for which `$n` counts
    /// its calls, and `serve` the receiver.
    fn fake_ssh(&self, name: &str, script: &str) -> PathBuf {
        let dir = self.cache.scratch(name);
        fs::create_dir(&dir).unwrap();
        let path = dir.join("ssh");
        let text = format!(
            "#!/bin/sh\n[ \"$1\" != -G ] || exit 1\ncd {}\necho call >>calls\nn=$(wc -l <calls)\nserve() {{ {} --pull-url {} {}; }}\n\
             {script}\n",
            dir.display(),
            programs::receiver().unwrap().display(),
            self.cache.pull_url(),
            self.cache.repo().path().display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }
}

/// Makes bytes that no compressor makes fewer.
fn noise(len: u64, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let len = usize::try_from(len).unwrap();
    words.flatten().take(len).collect()
}

#[test]
fn a_connection_that_is_dropped_before_the_server_speaks_is_tried_again_and_a_refused_key_is_not() {
    const DROPPED: &str = "kex_exchange_identification: Connection closed by remote host";
    const REFUSED: &str = "me@host: Permission denied (publickey).";
    let scene = Scene::start();
    for subcommand in ["push", "pull"] {
        let mut before = scene.client(subcommand, None);
        run(&mut before).unwrap().success().unwrap();
    }
    let cases = [
        ("push", DROPPED, 2, 0),
        ("pull", DROPPED, 2, 0),
        ("list", DROPPED, 2, 0),
        (
            "push",
            "kex_exchange_identification: read: Connection reset by peer",
            2,
            0,
        ),
        ("push", "Connection reset by 127.0.0.1 port 22", 2, 0),
        ("push", REFUSED, 1, 5),
        ("pull", REFUSED, 1, 5),
        ("list", REFUSED, 1, 5),
        (
            "push",
            "Received disconnect: Too many authentication failures",
            1,
            5,
        ),
        ("push", "Host key verification failed.", 1, 5),
        (
            "push",
            "ssh: connect to host h port 22: Connection refused",
            1,
            5,
        ),
    ];
    let scene = &scene;
    let ran: Vec<Ran> = thread::scope(|scope| {
        let runs = cases.iter().enumerate().map(|(number, case)| {
            let (subcommand, said, ..) = *case;
            scope.spawn(move || {
                let fail = format!("[ $n -ge 2 ] || {{ echo '{said}' >&2; exit 255; }}; serve");
                let ssh = scene.fake_ssh(&format!("fake-{number}"), &fail);
                run(&mut scene.client(subcommand, Some(&ssh))).unwrap()
            })
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let mut pauses = BTreeSet::new();
    for (number, ((_, _, calls, code), ran)) in cases.iter().zip(&ran).enumerate() {
        assert_eq!(ran.code, Some(*code), "{ran}");
        let called = scene.cache.scratch(&format!("fake-{number}/calls"));
        let called = fs::read_to_string(called).unwrap().lines().count();
        assert_eq!(called, *calls, "{ran}");
        if let Some((_, pause)) = ran.stderr.split_once("trying again in ") {
            pauses.insert(pause.split(' ').next().unwrap().to_owned());
        }
    }
    // Whoever was turned away together does not come back together.
    assert!(pauses.len() > 1, "{pauses:?}");
}

#[test]
fn an_interrupted_push_or_pull_says_what_was_kept_and_goes_on_from_there() {
    let scene = Scene::start();
    let half = FILES * FILE_LEN / 2;
    // It says nothing, like a lost network.
    let silent = scene.fake_ssh("silent", "exec sleep 20");
    let ran = interrupt(scene.client("push", Some(&silent)), "TERM", || {
        scene.cache.scratch("silent/calls").exists()
    });
    assert_eq!(ran.code, Some(143), "{ran}");
    let said = "interrupted: nothing was changed";
    assert!(ran.stderr.contains(said), "{ran}");

    let cut = format!("(stdbuf -o0 head -c {half}; sleep 20) | serve");
    let cut = scene.fake_ssh("cut", &cut);
    let staging = scene.cache.repo().path().join("extensions");
    let ran = interrupt(scene.client("push", Some(&cut)), "INT", || {
        is_settled(&staging)
    });
    assert_eq!(ran.code, Some(130), "{ran}");
    assert!(ran.stderr.contains("no ref was changed at "), "{ran}");
    assert!(ran.stderr.contains("run the same command again"), "{ran}");
    let kept = ran.stderr.split("which keeps the ").nth(1).unwrap();
    let kept: u64 = kept.split(' ').next().unwrap().parse().unwrap();
    assert!(kept > 3, "{ran}");
    scene.cache.wait_idle().unwrap();
    let sent = done(scene.client("push", None))["objects_sent"].as_u64();
    let all = FILES + 3;
    assert!(sent.unwrap() <= all - kept, "{sent:?}, kept {kept}");

    let cut = format!("serve | (stdbuf -o0 head -c {half}; sleep 20)");
    let cut = scene.fake_ssh("cut-back", &cut);
    let ran = interrupt(scene.client("pull", Some(&cut)), "INT", || {
        is_settled(&scene.local().join("extensions"))
    });
    assert_eq!(ran.code, Some(130), "{ran}");
    let said = "interrupted: only the refs named above were set, and all fetched objects are kept";
    assert!(ran.stderr.contains(said), "{ran}");
    assert!(ran.stderr.contains("run the same command again"), "{ran}");
    done(scene.client("pull", None));
    Repo::at(&scene.local()).fsck().unwrap();
}

/// Runs a command that is in the middle of something when `is_there` says so, and interrupts it.
fn interrupt(mut command: Command, signal: &str, mut is_there: impl FnMut() -> bool) -> Ran {
    let shown = format!("{command:?}");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.process_group(0).spawn().unwrap();
    let id = child.id();
    let deadline = Instant::now() + Duration::from_secs(15);
    while !is_there() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let kill = |signal: &str, id: String| {
        run(Command::new("kill")
            .arg(format!("-{signal}"))
            .arg("--")
            .arg(id))
        .unwrap()
    };
    kill(signal, id.to_string());
    // What stands for ssh holds the outputs open.
    thread::sleep(Duration::from_millis(300));
    kill("KILL", format!("-{id}"));
    let output = child.wait_with_output().unwrap();
    Ran {
        command: shown,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Returns whether files have come below a directory, and no more come.
fn is_settled(dir: &Path) -> bool {
    let before = count(dir);
    thread::sleep(Duration::from_millis(250));
    before > 10 && count(dir) == before
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let count = |path: PathBuf| if path.is_dir() { count(&path) } else { 1 };
    entries.map(|entry| count(entry.path())).sum()
}

/// Runs a command to its end, and returns its last event.
fn done(mut command: Command) -> Value {
    let said = run(command.arg("--json")).unwrap().success().unwrap();
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

#[test]
fn colours_are_for_terminals_and_for_whoever_wants_them() {
    let scene = Scene::start();
    let push = scene.client("push", None);
    let words = push
        .get_args()
        .map(|word| word.to_string_lossy().into_owned());
    let push: Vec<_> = words.collect();
    let ssh = scene.cache.sshd().ssh_command();
    let programs = [
        programs::client(),
        programs::admin(),
        programs::serve(),
        programs::receiver(),
    ];
    let helps =
        programs.map(|program| vec![program.unwrap().display().to_string(), "--help".into()]);
    let client = programs::client().unwrap().display().to_string();
    let pushes = [client.clone()].into_iter().chain(push).collect();
    let mistake = vec![client, "psuh".to_owned()];
    for words in helps.into_iter().chain([mistake, pushes]) {
        let is_plain = words.iter().any(|word| word == "push");
        let said = |at_terminal: bool, no_color: Option<&str>| {
            let words: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
            let mut command = Command::new("script");
            match at_terminal {
                true => command.args(["-q", "-c", &words.join(" "), "/dev/null"]),
                false => {
                    command = Command::new("sh");
                    command.args(["-c", &format!("{} 2>&1", words.join(" "))])
                }
            };
            command
                .env("TERM", "xterm")
                .env_remove("NO_COLOR")
                .env("ARTIFACT_CACHE_SSH", &ssh);
            if let Some(value) = no_color {
                command.env("NO_COLOR", value);
            }
            run(command.stdin(Stdio::null())).unwrap().stdout
        };
        let [terminal, refused, pipe] = [(true, None), (true, Some("1")), (false, None)]
            .map(|(at_terminal, no_color)| said(at_terminal, no_color));
        assert!(terminal.len() > 20, "{words:?}: {terminal}");
        assert_eq!(has_colour(&terminal), !is_plain, "{words:?}: {terminal:?}");
        assert!(!has_colour(&refused), "{words:?}: {refused:?}");
        assert!(
            !pipe.contains('\u{1b}') && !pipe.contains('\r'),
            "{words:?}: {pipe:?}"
        );
    }
}

/// Returns whether a text contains a sequence that selects colours or weights.
fn has_colour(text: &str) -> bool {
    let sequences = text.split("\u{1b}[").skip(1);
    let mut ends =
        sequences.map(|s| s.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
    ends.any(|end| end.starts_with('m'))
}

#[test]
fn a_long_push_says_in_a_log_every_ten_seconds_how_far_it_is_and_what_it_sends() {
    if !crate::extra() {
        return;
    }
    let scene = Scene::start();
    let tree = Tree::create(&scene.cache.scratch("large")).unwrap();
    // At 2 MB/s that takes twenty seconds.
    tree.file("noise", &noise(40_000_000, 99), 0o644).unwrap();
    scene.from.commit(REF, tree.root(), &[]).unwrap();
    let mut push = scene.client("push", None);
    let ran = run(push.args(["--limit-rate", "2M"])).unwrap();
    let lines: Vec<_> = ran
        .stderr
        .lines()
        .filter(|line| line.contains(" left"))
        .collect();
    assert!((1..=2).contains(&lines.len()), "{ran}");
    assert!(
        lines[0].contains("0 of 4 objects, ") || lines[0].contains("3 of 4 objects, "),
        "{ran}"
    );
    assert!(lines[0].contains(" of 40."), "{ran}");
    assert!(lines[0].contains(" s left"), "{ran}");
    assert!(lines[0].contains("now noise (40."), "{ran}");
    ran.success().unwrap();
}

const FILES: u64 = 40;
/// Longer than what is packed with others.
const FILE_LEN: u64 = 100_000;
