//! The cost of a session to others, however its client behaves: standard error that nobody reads,
//! sessions that do nothing, keys without a right.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::Version;
use artifact_protocol::frame::{
    Announce, CloseCode, Expect, Finalize, Frame, Offer, PREAMBLE, PushOptions, RefOutcome,
    RefUpdate,
};
use artifact_receiver::audit::Record;
use artifact_tests::hand::{Artifact, Hand, file, hello};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use tempfile::TempDir;

/// A cache whose configuration names three identities that push, and one without rights.
struct Cache {
    dir: TempDir,
    repo: Repo,
}

impl Cache {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::init(&dir.path().join("server"), Mode::Archive).unwrap();
        let identities: String = (0..60)
            .map(|n| format!("[[identity]]\nname='mallory{n}'\npush=['alpha/**']\n"))
            .collect();
        let audit = dir.path().join("audit");
        let config = format!(
            "{more}\n[audit]\nfile='{}'\n[[identity]]\nname='bob'\npush=['beta/**']\n{identities}",
            audit.display()
        );
        fs::write(dir.path().join("config"), config).unwrap();
        Self { dir, repo }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    fn receiver(&self, who: &str) -> Command {
        let mut receiver = Command::new(programs::receiver().unwrap());
        receiver.args(["--identity", who, "--config"]);
        receiver.arg(self.config()).arg(self.repo.path());
        receiver
    }

    fn hand(&self, who: &str) -> Hand {
        Hand::start_by(self.receiver(who)).unwrap()
    }

    fn audit(&self) -> (String, Vec<Record>) {
        let text = fs::read_to_string(self.dir.path().join("audit")).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let records = lines.collect();
        (text, records)
    }

    /// Pushes a small artifact; returns the time it took.
    fn push(&self, who: &str, name: &str) -> Duration {
        let begun = Instant::now();
        push_by(self.hand(who), name);
        begun.elapsed()
    }
}

fn push_by(mut hand: Hand, name: &str) {
    let artifact = small(name);
    hand.announce(name, artifact.commit).unwrap();
    hand.send(&artifact.objects).unwrap();
    hand.say(&Frame::Finalize(Finalize {}));
    let told = hand.hear_out().unwrap();
    assert!(told.iter().any(is_updated), "{name}: {told:?}");
    drop(hand.end().unwrap());
}

fn is_updated(frame: &Frame) -> bool {
    matches!(frame, Frame::Finalized(finalized) if finalized.refs[0] == RefOutcome::Updated)
}

/// Returns the result of an action that must take no longer than any timer.
fn within<T: Send + 'static>(limit: Duration, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(act()));
    result.recv_timeout(limit).unwrap()
}

fn small(content: &str) -> Artifact {
    let (checksum, stored) = file(content.as_bytes());
    Artifact::of(&[("file", checksum, stored)])
}

fn many_refs(prefix: &str, count: usize, commit: Checksum) -> Vec<Frame> {
    let update = |number: usize| RefUpdate {
        name: format!("{prefix}/{number}").parse().unwrap(),
        commit,
        detached: None,
        expect: Expect::Any,
    };
    let refs: Vec<_> = (0..count).map(update).collect();
    let frames = refs.chunks(40).enumerate().map(|(number, refs)| {
        Frame::Announce(Announce {
            options: PushOptions::default(),
            refs: refs.to_vec(),
            bases: Vec::new(),
            more: (number + 1) * 40 < count,
            extensions: Default::default(),
        })
    });
    frames.collect()
}

#[test]
fn a_push_is_done_and_lets_go_of_all_locks_though_nobody_reads_what_it_logs() {
    let cache = Cache::new("[limits]\nrefs-max=100000");
    let artifact = small("unread");
    // Long names make long lines, so that the pipe is full long before the end.
    let prefix = format!("alpha{}", format!("/{}", "x".repeat(180)).repeat(5));
    for verbose in ["verbose", "debug"] {
        let mut receiver = cache.receiver("mallory0");
        receiver.arg(format!("--{verbose}"));
        let mut hand = Hand::start_by(receiver).unwrap();
        hand.write(&PREAMBLE);
        hand.say(&hello(Version::OLDEST, Version::NEWEST));
        let prefix = format!("{prefix}/{verbose}");
        for frame in many_refs(&prefix, 150, artifact.commit) {
            hand.say(&frame);
        }
        let objects = artifact.objects.clone();
        let mut hand = within(Duration::from_secs(20), move || {
            hand.send(&objects).unwrap();
            hand
        });
        // The session waits for a reader, and others are served.
        assert!(cache.push("bob", &format!("beta/{verbose}")) < Duration::from_secs(5));
        hand.say(&Frame::Finalize(Finalize {}));
        let told = within(Duration::from_secs(20), move || {
            let told = hand.hear_out().unwrap();
            // The session waits one second for a reader of its last lines.
            let begun = Instant::now();
            drop(hand.end().unwrap());
            assert!(begun.elapsed() < Duration::from_secs(5));
            told
        });
        assert!(told.iter().any(is_updated), "{told:?}");
    }
    assert_eq!(cache.repo.refs().unwrap().len(), 302);
}

#[test]
fn a_push_is_done_where_standard_error_is_closed_or_takes_nothing() {
    let cache = Cache::new("");
    for (number, redirection) in ["2>&-", "2>/dev/full", "2>/dev/null"]
        .into_iter()
        .enumerate()
    {
        let mut shell = Command::new("sh");
        let inner = cache.receiver("bob");
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let script = format!("exec \"$0\" \"$@\" --debug {redirection}");
        shell.arg("-c").arg(script).args(words);
        let hand = Hand::start_by(shell).unwrap();
        let name = format!("beta/{number}");
        within(Duration::from_secs(20), move || push_by(hand, &name));
    }
    assert_eq!(cache.repo.refs().unwrap().len(), 3);
}

#[test]
fn a_key_without_any_right_is_sent_away_at_once_and_leaves_one_short_line() {
    let cache = Cache::new("");
    let mut hand = cache.hand("eve");
    hand.write(&PREAMBLE);
    hand.say(&hello(Version::OLDEST, Version::NEWEST));
    // Whatever else the client sends.
    for frame in many_refs("alpha", 10_000, small("x").commit) {
        hand.say(&frame);
    }
    let told = hand.hear_out().unwrap();
    let [Frame::Welcome(welcome), Frame::Close(close)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(welcome.identity.as_ref().unwrap().as_raw(), "eve");
    assert_eq!(close.code, CloseCode::NOT_PERMITTED);
    assert!(
        close.text.as_raw().contains("configuration does not name"),
        "{close:?}"
    );
    assert_eq!(hand.end().unwrap().code, Some(3));
    let (text, records) = cache.audit();
    let [record] = &records[..] else {
        panic!("{text}");
    };
    assert_eq!(
        (record.identity.as_str(), record.outcome.as_str()),
        ("eve", "refused")
    );
    assert!(text.len() < 1000, "{}", text.len());
    assert!(
        !cache.repo.path().join("extensions/artifact-cache").exists(),
        "it touches nothing"
    );
}

#[test]
fn ten_thousand_refs_are_one_line_of_a_hundred_and_a_count() {
    let cache = Cache::new("");
    let mut hand = cache.hand("bob");
    hand.write(&PREAMBLE);
    hand.say(&hello(Version::OLDEST, Version::NEWEST));
    for frame in many_refs("alpha", 10_000, small("x").commit) {
        hand.say(&frame);
    }
    drop(hand.hear_out().unwrap());
    drop(hand.end().unwrap());
    let (text, records) = cache.audit();
    assert_eq!((records[0].refs.len(), records[0].more_refs), (100, 9_900));
    assert_eq!(records[0].outcome, "refused");
    assert!(text.len() < 100_000, "{}", text.len());
}

/// Begins a session of this kind, and leaves it idle.
fn hostile(cache: &Cache, kind: &str, who: &str) -> Hand {
    let mut hand = cache.hand(who);
    let id = |number: u64| ObjectId::new(ObjectKind::File, Checksum::of(&number.to_le_bytes()));
    let commit = small(who).commit;
    match kind {
        "silent" => {}
        "greeting" => {
            hand.write(&PREAMBLE);
            hand.say(&hello(Version::OLDEST, Version::NEWEST));
        }
        "announcing" => {
            hand.write(&PREAMBLE);
            hand.say(&hello(Version::OLDEST, Version::NEWEST));
            for frame in many_refs("alpha/e", 1000, commit) {
                hand.say(&frame);
            }
        }
        "pinging" => {
            hand.announce("alpha/x", commit).unwrap();
            for _ in 0..100 {
                hand.say(&Frame::Ping(Default::default()));
            }
        }
        "offering" => {
            hand.announce("alpha/x", commit).unwrap();
            for batch in 0..10 {
                hand.offer((0..1000).map(|n| id(batch * 1000 + n)).collect())
                    .unwrap();
            }
        }
        "not reading" => {
            hand.announce("alpha/x", commit).unwrap();
            for batch in 0..30 {
                let ids = (0..1000).map(|n| id(batch * 1000 + n)).collect();
                hand.say(&Frame::Offer(Offer { ids }));
            }
        }
        other => panic!("{other}"),
    }
    hand
}

const KINDS: [&str; 6] = [
    "silent",
    "greeting",
    "announcing",
    "pinging",
    "offering",
    "not reading",
];

fn beside(cache: &Cache, kind: &str, sessions: usize, pushes: usize) -> Duration {
    let _hostile: Vec<_> = (0..sessions)
        .map(|n| hostile(cache, kind, &format!("mallory{n}")))
        .collect();
    let took = (0..pushes).map(|n| cache.push("bob", &format!("beta/{}/{n}", kind.len())));
    took.max().unwrap()
}

#[test]
fn an_honest_push_is_served_beside_hostile_sessions_of_other_keys() {
    let (sessions, pushes) = if crate::extra() { (50, 100) } else { (8, 3) };
    for kind in KINDS {
        let cache = Cache::new("[limits]\nsessions-max=2");
        let longest = beside(&cache, kind, sessions, pushes);
        println!("{kind}: the longest of {pushes} beside {sessions}: {longest:?}");
        assert!(longest < Duration::from_secs(5), "{kind}: {longest:?}");
    }
}

#[test]
fn one_key_takes_its_own_places_and_no_others() {
    let cache = Cache::new("[limits]\nsessions-max=4");
    let mut held: Vec<_> = (0..2)
        .map(|_| hostile(&cache, "pinging", "mallory0"))
        .collect();
    let mut third = cache.hand("mallory0");
    let refused = third.announce("alpha/x", small("x").commit);
    let told = third.hear_out().unwrap();
    let busy = |frame: &Frame| matches!(frame, Frame::Close(c) if c.code == CloseCode::BUSY);
    assert!(refused.is_err() || told.iter().any(busy), "{told:?}");
    assert_eq!(third.end().unwrap().code, Some(9));
    assert!(cache.push("bob", "beta/x") < Duration::from_secs(5));
    held.pop().unwrap().cut().unwrap();
    cache.push("mallory0", "alpha/y");
}

#[test]
fn a_receiver_that_must_be_confined_takes_no_push_where_it_is_not() {
    let cache = Cache::new("sandbox = 'required'");
    cache.push("bob", "beta/confined");
    let refused = |receiver: Command| {
        let mut hand = Hand::start_by(receiver).unwrap();
        // A receiver that refuses waits for the client to say which version it speaks.
        hand.write(&PREAMBLE);
        let told = hand.hear_out().unwrap();
        let failed =
            |f: &Frame| matches!(f, Frame::Close(c) if c.code == CloseCode::STORAGE_FAILED);
        assert!(told.iter().any(failed), "{told:?}");
        let end = hand.end().unwrap();
        assert_eq!(end.code, Some(9), "{end:?}");
        assert!(end.said.contains("sandbox = \"required\""), "{end:?}");
    };
    let mut unconfined = cache.receiver("bob");
    unconfined.arg("--no-sandbox");
    refused(unconfined);
    // A kernel without Landlock, and one without seccomp.
    for call in ["landlock_create_ruleset", "seccomp"] {
        let mut strace = Command::new("strace");
        let inject = format!("inject={call}:error=ENOSYS");
        strace
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(inject);
        let inner = cache.receiver("bob");
        strace.arg(inner.get_program()).args(inner.get_args());
        refused(strace);
    }
}

#[test]
fn a_configuration_that_others_can_write_or_that_is_missing_lets_nobody_push() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    let cache = Cache::new("");
    let refused = |cache: &Cache, why: &str| {
        let mut hand = cache.hand("bob");
        // A receiver that refuses waits for the client to say which version it speaks.
        hand.write(&PREAMBLE);
        let told = hand.hear_out().unwrap();
        let failed =
            |f: &Frame| matches!(f, Frame::Close(c) if c.code == CloseCode::STORAGE_FAILED);
        assert!(told.iter().any(failed), "{told:?}");
        let end = hand.end().unwrap();
        assert!(end.said.contains(why), "{end:?}");
    };
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(&cache.config(), 0o664);
    refused(&cache, "chmod go-w");
    set(&cache.config(), 0o644);
    set(cache.dir.path(), 0o775);
    refused(&cache, "chmod go-w");
    set(cache.dir.path(), 0o755);
    chown(cache.config(), Some(4321), None).unwrap();
    refused(&cache, "chown root");
    chown(cache.config(), Some(0), None).unwrap();
    cache.push("bob", "beta/x");
    let moved = cache.dir.path().join("open");
    fs::create_dir(&moved).unwrap();
    fs::rename(cache.config(), moved.join("config")).unwrap();
    refused(&cache, "cannot read");
    symlink(moved.join("config"), cache.config()).unwrap();
    cache.push("bob", "beta/y");
    set(&moved, 0o777);
    refused(&cache, "chmod go-w");
}
