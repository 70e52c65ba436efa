//! The sandbox, from inside: a push has everything it needs, and nothing else.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

#[path = "../store/tests/local/session.rs"]
mod session;
#[expect(dead_code, reason = "the store's own tests use the rest")]
#[path = "../store/tests/local/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::{env, io, thread};

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::{PushOptions, RefOutcome, SummaryDone};
use artifact_sandbox::{LayerStatus, Needs};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::{pthread, ptrace, signal};
use nix::{libc, unistd};
use rustix::process::Resource;

use self::session::Session;
use self::support::{Pair, done, open, update};

/// Set in the process that confines itself: the directory of the pair.
const INSIDE: &str = "ARTIFACT_TESTS_CONFINED";

/// The test runs itself again as a child, since there is no way out of the sandbox.
#[test]
fn a_confined_receiver_can_do_all_of_a_push_and_nothing_else() {
    if let Some(dir) = env::var_os(INSIDE) {
        return confined(Path::new(&dir));
    }
    let pair = Pair::new();
    let first = pair.commit(None, &[("a", "one"), ("b/c", "two"), ("b/link", "->c")]);
    let second = pair.commit(Some(first), &[("a", "one"), ("b/c", "three")]);
    fs::write(pair.source().join("pushes"), format!("{first} {second}")).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("a_confined_receiver_can_do_all_of_a_push_and_nothing_else")
        .env(INSIDE, pair.source().parent().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{output:?}"
    );
    pair.assert_sound(&["moved/ref", "other"]);
    assert_eq!(pair.staging_dirs(), 0);
}

/// Set in the two processes of a push into object storage: which of them it is.
const ROLE: &str = "ARTIFACT_TESTS_ROLE";
/// The file with the keys, for both.
const KEYS: &str = "ARTIFACT_TESTS_KEYS";

#[test]
fn the_agent_connects_and_reads_only_and_the_receiver_of_a_bucket_does_neither() {
    if let (Some(role), Some(keys)) = (env::var_os(ROLE), env::var_os(KEYS)) {
        let keys = Path::new(&keys);
        return if role == "agent" {
            agent(keys)
        } else {
            receiver_of_a_bucket(keys)
        };
    }
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("credentials");
    fs::write(&keys, "secret").unwrap();
    for role in ["agent", "receiver"] {
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("the_agent_connects_and_reads_only_and_the_receiver_of_a_bucket_does_neither")
            .env(ROLE, role)
            .env(KEYS, &keys)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let counted = String::from_utf8_lossy(&output.stdout);
        assert!(counted.contains("1 passed"), "{output:?}");
    }
    assert_eq!(fs::read(&keys).unwrap(), b"secret");
}

fn agent(keys: &Path) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    for layer in artifact_sandbox::enter(&Needs::to_connect()) {
        assert!(!matches!(layer.status, LayerStatus::Absent(_)), "{layer:?}");
    }
    TcpStream::connect(server).unwrap();
    UnixStream::pair().unwrap();
    assert_eq!(fs::read(keys).unwrap(), b"secret");
    assert_denied("write", fs::write(keys, "x"));
    assert_denied("make", File::create(keys.with_extension("new")));
    assert_denied("remove", fs::remove_file(keys));
    assert_denied("execute", Command::new("/bin/true").status());
    assert_denied("signal", signal::kill(unistd::getppid(), None));
}

fn receiver_of_a_bucket(keys: &Path) {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    for layer in artifact_sandbox::enter(&Needs::nothing()) {
        assert!(!matches!(layer.status, LayerStatus::Absent(_)), "{layer:?}");
    }
    let mut heard = [0; 3];
    ours.write_all(b"get").unwrap();
    theirs.read_exact(&mut heard).unwrap();
    assert_denied("read the keys", File::open(keys));
    assert_denied(
        "read the environment of the agent",
        File::open("/proc/self/environ"),
    );
    assert_denied("write", fs::write(keys, "x"));
    other_processes_are_out_of_reach();
}

fn confined(dir: &Path) {
    let pair = Pair::of_another(dir);
    let commits = fs::read_to_string(pair.source().join("pushes")).unwrap();
    let pushes: Vec<(Checksum, BTreeMap<ObjectId, Vec<u8>>)> = commits
        .split(' ')
        .map(|commit| commit.parse().unwrap())
        .map(|commit| {
            let closure = pair.closure(commit).into_iter();
            (commit, closure.map(|id| (id, pair.stored(id))).collect())
        })
        .collect();
    let [first, second, third] = [(); 3].map(|()| pair.store());

    let layers = artifact_sandbox::enter(&Needs::to_write(&pair.target()));
    for layer in &layers {
        assert!(!matches!(layer.status, LayerStatus::Absent(_)), "{layer:?}");
    }
    assert_eq!(layers.len(), 6);

    push(first, "moved/ref", pushes[0].0, &pushes[0].1);
    // Another push finds objects here, and moves the ref.
    push(second, "moved/ref", pushes[1].0, &pushes[1].1);
    push(third, "other", pushes[1].0, &pushes[1].1);
    files_outside_are_out_of_reach(dir, &pair.target());
    other_processes_are_out_of_reach();
}

fn push(store: Session, name: &str, commit: Checksum, objects: &BTreeMap<ObjectId, Vec<u8>>) {
    open(&store, PushOptions::default(), &[update(name, commit)]);
    let ids: Vec<_> = objects.keys().copied().collect();
    let had = store.have(&ids).unwrap();
    thread::scope(|scope| {
        for (id, _) in ids.iter().zip(had).filter(|(_, had)| !had) {
            let (store, stored) = (&store, &objects[id]);
            scope.spawn(move || {
                let mut stream = store.begin(*id).unwrap();
                stream.append(stored).unwrap();
                stream.finish().unwrap();
                store.stage(*id, stored).unwrap();
            });
        }
    });
    let outcomes = done(store.publish().unwrap());
    assert_eq!(outcomes, [RefOutcome::Updated]);
    assert_eq!(store.summarize(), SummaryDone::Current);
}

fn files_outside_are_out_of_reach(dir: &Path, repo: &Path) {
    let (outside, inside) = (dir.join("source/config"), repo.join("config"));
    assert!(File::open(&inside).is_ok());
    for path in ["/etc/passwd", "/proc/self/environ", "/"].map(Path::new) {
        assert_denied(path, File::open(path));
    }
    assert_denied("read", fs::read(&outside));
    assert_denied("write", fs::write(&outside, "x"));
    assert_denied("make", File::create(dir.join("new")));
    assert_denied("make a directory", fs::create_dir(dir.join("new")));
    assert_denied("list", fs::read_dir(dir));
    assert_denied("remove", fs::remove_file(&outside));
    assert_denied("take", fs::hard_link(&outside, repo.join("new")));
    assert_denied("give", fs::hard_link(&inside, dir.join("new")));
    assert_denied("move away", fs::rename(&inside, dir.join("new")));
    let mode = Permissions::from_mode(0o777);
    assert_denied("change the mode", fs::set_permissions(&outside, mode));
    assert_denied(
        "change the owner",
        std::os::unix::fs::chown(&outside, Some(1), None),
    );
    assert_denied("link symbolically", symlink("/etc", repo.join("new")));
    assert_denied("change the root", unistd::chroot(dir));
    let mounted = nix::mount::mount(
        None::<&OsStr>,
        repo,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&OsStr>,
    );
    assert_denied("mount", mounted);
}

fn other_processes_are_out_of_reach() {
    assert_denied("execute", Command::new("/bin/true").status());
    assert_denied("connect", TcpStream::connect("127.0.0.1:1"));
    assert_denied("bind", UdpSocket::bind("127.0.0.1:0"));
    assert_denied("connect a pair", UnixStream::pair());
    assert_denied("signal", signal::kill(unistd::getppid(), None));
    let (files, parent) = (Resource::Nofile, rustix::process::getppid());
    let own = rustix::process::getrlimit(files);
    assert!(parent.is_some());
    assert_denied("limit", rustix::process::prlimit(parent, files, own));
    assert_eq!(rustix::process::prlimit(None, files, own).unwrap(), own);
    // As a program that aborts does.
    pthread::pthread_kill(pthread::pthread_self(), None).unwrap();
    assert_denied("be traced", ptrace::traceme());
    let namespace = nix::sched::unshare(CloneFlags::CLONE_NEWUTS);
    assert_denied("make a namespace", namespace);
}

fn assert_denied<T>(what: impl std::fmt::Debug, result: Result<T, impl Into<io::Error>>) {
    let error = result.err().map(Into::into);
    let errno = error.as_ref().and_then(io::Error::raw_os_error);
    assert!(
        matches!(errno, Some(libc::EPERM | libc::EACCES | libc::EXDEV)),
        "{what:?}: {error:?}"
    );
}
