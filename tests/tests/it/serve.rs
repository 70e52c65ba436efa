//! `artifact-cache-serve` as pullers and operators meet it: the program itself, stock ostree, curl.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use artifact_tests::cache::Cache;
use artifact_tests::exec::{Failure, run};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::serving::{self, Authority, Serving};
use artifact_tests::tree::Tree;
use rustix::process::{Pid, Signal, kill_process};

/// A repository of one ref, its tree, and a place for more.
struct Scene {
    repo: Repo,
    tree: Tree,
    dir: tempfile::TempDir,
}

const REF: &str = "alpha/greeting/1";

fn scene() -> Result<Scene, Failure> {
    let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
    let tree = Tree::create(&dir.path().join("tree"))?;
    tree.all_kinds()?;
    tree.generated(200, 7)?;
    let repo = Repo::init(&dir.path().join("artifacts"), Mode::Archive)?;
    repo.commit(
        REF,
        tree.root(),
        &["--add-detached-metadata-string=key=value"],
    )?;
    repo.ostree("summary", ["--update"])?;
    Ok(Scene { repo, tree, dir })
}

/// Pulls with stock ostree, with these settings of the remote.
fn pull(scene: &Scene, user: &str, serving: &Serving, settings: &[&str]) -> Result<Repo, Failure> {
    let user = Repo::init(&scene.dir.path().join(user), Mode::BareUser)?;
    let ca = serving.authority().certificate();
    let ca = format!("--set=tls-ca-path={}", ca.display());
    let url = serving.url();
    let remote = ["add", "--no-gpg-verify", &ca];
    user.ostree(
        "remote",
        remote.iter().chain(settings).chain(&["web", &url]),
    )?;
    user.ostree("pull", ["web", REF])?;
    Ok(user)
}

#[test]
fn stock_ostree_pulls_and_mirrors_all_of_an_artifact_over_tls() {
    let scene = scene().unwrap();
    let serving = Serving::start(scene.repo.path(), &[]).unwrap();
    let user = pull(&scene, "user", &serving, &[]).unwrap();
    let commit = scene.repo.commit_of(REF).unwrap();
    user.fsck().unwrap();
    assert_eq!(user.detached(&commit), scene.repo.detached(&commit));
    let checkout = scene.dir.path().join("checkout");
    user.checkout(&format!("web:{REF}"), &checkout).unwrap();
    artifact_tests::listing::compare(scene.tree.root(), &checkout).unwrap();

    let mirror = Repo::init(&scene.dir.path().join("mirror"), Mode::Archive).unwrap();
    let ca = serving.authority().certificate();
    let ca = format!("--set=tls-ca-path={}", ca.display());
    let remote = ["add", "--no-gpg-verify", &ca, "web", &serving.url()];
    mirror.ostree("remote", remote).unwrap();
    mirror.ostree("pull", ["--mirror", "web"]).unwrap();
    mirror.fsck().unwrap();
    assert_eq!(mirror.refs().unwrap(), scene.repo.refs().unwrap());
    assert_eq!(mirror.summary().unwrap(), scene.repo.summary().unwrap());
    let log = serving.log().unwrap();
    assert!(
        log.contains("GET /artifacts/summary HTTP/2.0\" 200"),
        "{log}"
    );
}

#[test]
fn only_a_certificate_of_the_authority_lets_a_client_in_where_one_is_asked_for() {
    let scene = scene().unwrap();
    let serving = Serving::start_private(scene.repo.path(), &[]).unwrap();
    let settings = |name: &str| {
        let (certificate, key) = serving.authority().certify(name).unwrap();
        let certificate = format!("--set=tls-client-cert-path={}", certificate.display());
        [
            certificate,
            format!("--set=tls-client-key-path={}", key.display()),
        ]
    };
    let [certificate, key] = settings("alice");
    pull(&scene, "alice", &serving, &[&certificate, &key]).unwrap();
    assert!(pull(&scene, "nobody", &serving, &[]).is_err());
    // Somebody else's authority has certified this one.
    let other = tempfile::tempdir().unwrap();
    let other = Authority::create(other.path()).unwrap();
    let (certificate, key) = other.certify("mallory").unwrap();
    let certificate = format!("--set=tls-client-cert-path={}", certificate.display());
    let key = format!("--set=tls-client-key-path={}", key.display());
    assert!(pull(&scene, "mallory", &serving, &[&certificate, &key]).is_err());
}

#[test]
fn a_push_is_pulled_over_tls_as_soon_as_it_has_returned() {
    let cache = Cache::start().unwrap();
    let tree = crate::every_kind(&cache).unwrap();
    let from = crate::source(&cache, Mode::BareUser).unwrap();
    from.commit(REF, tree.root(), &[]).unwrap();
    cache.push(&from, &[REF]).unwrap().must_exit(0).unwrap();
    let serving = Serving::start(cache.repo().path(), &[]).unwrap();
    let summary = serving.curl("/artifacts/summary", &[]).unwrap();
    assert!(summary.contains(REF), "{summary}");
    let next = "alpha/greeting/2";
    from.commit(next, tree.root(), &["--subject=again"])
        .unwrap();
    cache.push(&from, &[next]).unwrap().must_exit(0).unwrap();
    assert!(
        serving
            .curl("/artifacts/summary", &[])
            .unwrap()
            .contains(next)
    );
    let named = serving
        .curl(&format!("/artifacts/refs/heads/{next}"), &[])
        .unwrap();
    assert_eq!(named.trim(), from.commit_of(next).unwrap().to_hex());
}

/// What is wrong with how the server is started: what it says, and the exit code.
#[test]
fn what_cannot_be_served_is_said_in_one_line_with_the_way_out() {
    let scene = scene().unwrap();
    let dir = scene.dir.path();
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    let authority = Authority::create(dir).unwrap();
    let (cert, key) = authority.certify("localhost").unwrap();
    let (_, other) = authority.certify("other").unwrap();
    let bare = Repo::init(&dir.join("bare"), Mode::BareUser).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let [cert, key, other] = [cert, key, other].map(|path| path.to_string_lossy().into_owned());
    let (missing, free) = (dir.join("missing.pem"), "127.0.0.1:0");
    let missing = missing.to_string_lossy();
    let repo = scene.repo.path();
    let tls = ["--cert", &cert, "--key", &key];
    let cases: &[(&Path, &str, &[&str], i32, &str)] = &[
        (
            repo,
            free,
            &["--cert", &missing, "--key", &key],
            2,
            "is the path right?",
        ),
        (
            repo,
            free,
            &["--cert", &key, "--key", &key],
            2,
            "no certificate in",
        ),
        (
            repo,
            free,
            &["--cert", &cert, "--key", &cert],
            2,
            "private key",
        ),
        (
            repo,
            free,
            &["--cert", &cert, "--key", &other],
            2,
            "openssl pkey -pubout",
        ),
        (repo, &taken, &tls, 2, "ss -ltnp"),
        (repo, "0.0.0.0:0", &["--plain-http"], 2, "127.0.0.1"),
        (dir, free, &tls, 9, "artifact-cache-admin init"),
        (
            &dir.join("none"),
            free,
            &tls,
            9,
            "artifact-cache-admin init",
        ),
        (bare.path(), free, &tls, 9, "mode is bare-user"),
    ];
    for (repo, place, arguments, code, said) in cases {
        let mut command = serving::command(repo).unwrap();
        command.args(["--listen", place]).args(*arguments);
        let ran = run(command.arg("--log=none")).unwrap();
        assert_eq!(ran.code, Some(*code), "{ran}");
        assert!(ran.stderr.contains(said), "{said:?}: {ran}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran}");
    }
    if rustix::process::geteuid().is_root() {
        let mut root = Command::new(programs::serve().unwrap());
        root.arg(repo).args(["--listen", free]).args(tls);
        let ran = run(&mut root).unwrap();
        assert_eq!(ran.code, Some(2), "{ran}");
        assert!(ran.stderr.contains("--user"), "{ran}");
    }
}

#[test]
fn a_certificate_is_read_again_when_it_changes_and_a_bad_one_leaves_the_old_in_use() {
    let scene = scene().unwrap();
    let mut serving = Serving::start(scene.repo.path(), &[]).unwrap();
    let cert = serving
        .authority()
        .certificate()
        .with_file_name("localhost.pem");
    fs::write(cert.with_extension("new"), "no certificate").unwrap();
    fs::rename(cert.with_extension("new"), &cert).unwrap();
    serving.signal(Signal::HUP).unwrap();
    serving
        .wait_for("the certificate stays as it was: ")
        .unwrap();
    serving.curl("/artifacts/config", &[]).unwrap();
    let before = serving
        .curl("/artifacts/config", &["--write-out", "%{certs}"])
        .unwrap();
    serving.authority().certify("localhost").unwrap();
    serving.signal(Signal::HUP).unwrap();
    serving.wait_for("the certificate was read again").unwrap();
    let after = serving
        .curl("/artifacts/config", &["--write-out", "%{certs}"])
        .unwrap();
    assert_ne!(before, after);
}

#[test]
fn a_service_manager_hands_over_sockets_and_hears_of_start_and_end() {
    let scene = scene().unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let notified = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    notified
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let hears = || {
        let mut bytes = [0; 1000];
        let len = notified.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    fs::set_permissions(scene.dir.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = dir.path().join("http");
    // As `systemd-socket-activate` does it, which has no sockets of this kind without TLS.
    let mut command = Command::new("systemd-socket-activate");
    command.arg(format!("--listen={}", socket.display()));
    command.args(["--setenv=NOTIFY_SOCKET", "--setenv=WATCHDOG_USEC"]);
    let served = serving::command(scene.repo.path()).unwrap();
    command.arg(served.get_program()).args(served.get_args());
    command.args(["--plain-http", "--log=none"]);
    command.env("NOTIFY_SOCKET", dir.path().join("notify"));
    command.env("WATCHDOG_USEC", "200000");
    let mut child = command.spawn().unwrap();
    let fetch = || {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--unix-socket"])
            .arg(&socket);
        run(curl.arg("http://cache/artifacts/config")).unwrap()
    };
    let begun = Instant::now();
    while !socket.exists() && begun.elapsed() < Duration::from_secs(20) {
        thread::yield_now();
    }
    assert!(fetch().success().unwrap().contains("archive-z2"));
    assert!(hears().starts_with("READY=1"));
    assert_eq!(hears(), "WATCHDOG=1");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    while hears() != "STOPPING=1" {}
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn metrics_tell_what_was_served_and_only_where_they_are_asked_for() {
    let scene = scene().unwrap();
    let serving = Serving::start(scene.repo.path(), &["--metrics", "127.0.0.1:0"]).unwrap();
    pull(&scene, "user", &serving, &[]).unwrap();
    assert!(serving.curl("/metrics", &["--fail"]).is_err());
    let address = format!("http://{}", serving.places()[1]);
    let fetch = |path: &str| {
        let mut curl = Command::new("curl");
        run(curl
            .args(["--silent", "--fail"])
            .arg(format!("{address}{path}")))
        .unwrap()
    };
    let text = fetch("/metrics").success().unwrap();
    for line in [
        "artifact_cache_serve_requests_total{kind=\"commit\",status=\"200\"} 1",
        "artifact_cache_serve_connections_total{protocol=\"h2\"}",
        "artifact_cache_serve_sent_bytes_total{kind=\"object\"}",
        "artifact_cache_serve_summary_modified_timestamp_seconds",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(fetch("/readyz").success().unwrap(), "ready\n");
    assert_eq!(fetch("/livez").success().unwrap(), "alive\n");
    assert!(fetch("/artifacts/config").success().is_err());
}

/// Pushes move one ref as fast as they can, with a signed summary. Beside them stock ostree pulls
/// the ref, and each puller requests the summary and its signature over one connection. Debian's
/// ostree has no ed25519, so openssl verifies.
#[test]
fn two_hundred_pulls_beside_pushes_miss_no_object_and_no_signature() {
    if !crate::extra() {
        return;
    }
    let scene = scene().unwrap();
    let at = |name: &str| scene.dir.path().join(name);
    let (config, receiver, public) = (at("artifact-cache.toml"), at("receiver"), at("public.pem"));
    sign_key(&at("cache.key"), &public).unwrap();
    let text = format!(
        "[summary]\nsign-key = {:?}\n[[identity]]\nname = \"ci\"\nreplace = [\"**\"]\nrule = \"any\"\n",
        at("cache.key").display().to_string()
    );
    fs::write(&config, text).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != -G ] || exit 0\nexec {} --config {} --identity ci {}\n",
        programs::receiver().unwrap().display(),
        config.display(),
        scene.repo.path().display()
    );
    fs::write(&receiver, script).unwrap();
    fs::set_permissions(&receiver, Permissions::from_mode(0o755)).unwrap();

    let source = Repo::init(&at("source"), Mode::Archive).unwrap();
    let push = |number: u32| {
        fs::write(scene.tree.root().join("number"), number.to_string()).unwrap();
        source.commit(REF, scene.tree.root(), &[]).unwrap();
        let mut push = Command::new(programs::client().unwrap());
        push.args(["push", "--force", "--remote", "kit:cache", "--repo"]);
        push.arg(source.path()).arg(REF).arg("--ssh").arg(&receiver);
        push.env("HOME", scene.dir.path());
        run(&mut push).unwrap().success().unwrap();
    };
    push(0);
    let serving = Serving::start(scene.repo.path(), &[]).unwrap();
    let pull_once = |puller: u32| {
        let user = format!("user-{puller}");
        let user = pull(&scene, &user, &serving, &[]).unwrap();
        user.fsck().unwrap();
        fs::remove_dir_all(user.path()).unwrap();
        must_match(&serving, &public, &at(&format!("pair-{puller}"))).unwrap();
    };
    let pushed = thread::scope(|threads| {
        let pull_once = &pull_once;
        let pullers: Vec<_> = (0..8)
            .map(|puller| threads.spawn(move || (0..25).for_each(|_| pull_once(puller))))
            .collect();
        let mut pushed = 0;
        while pullers.iter().any(|puller| !puller.is_finished()) {
            pushed += 1;
            push(pushed);
        }
        pushed
    });
    assert!(pushed >= 20, "{pushed} pushes beside the pulls");
    scene.repo.fsck().unwrap();
}

/// Fails unless the summary and the signature that a puller gets belong together.
fn must_match(serving: &Serving, public: &Path, dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(Failure::doing("make a directory"))?;
    let script = "cd \"$0\" && curl --silent --fail --cacert \"$1\" --remote-name-all \
        \"$2/summary\" \"$2/summary.sig\" && tail -c +25 summary.sig | head -c 64 >bytes &&
        openssl pkeyutl -verify -pubin -inkey \"$3\" -rawin -in summary -sigfile bytes";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(dir);
    command
        .arg(serving.authority().certificate())
        .arg(serving.url());
    run(command.arg(public))?.success().map(drop)
}

/// Makes the key that signs a summary, as the manual says, and its public part as PEM.
fn sign_key(path: &Path, public: &Path) -> Result<(), Failure> {
    let script = "umask 077; pem=$(openssl genpkey -algorithm ed25519)
        echo \"$pem\" | openssl pkey -pubout >\"$1\"
        { echo \"$pem\" | openssl pkey -outform DER | tail -c 32
        openssl pkey -pubin -in \"$1\" -outform DER | tail -c 32; } | base64 -w 0 >\"$0\"";
    let mut command = Command::new("sh");
    run(command.args(["-c", script]).arg(path).arg(public))?
        .success()
        .map(drop)
}
