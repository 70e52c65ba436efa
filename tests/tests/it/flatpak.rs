//! A Flatpak repository that is pushed to: stock flatpak adds it, installs from it and updates.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use artifact_tests::exec::{Ran, run};
use artifact_tests::serving;

use crate::extra;
use crate::place::Place;

const APP: &str = "app/org.example.Hello/x86_64/master";

fn flatpak(place: &Place, args: &[&str]) -> Ran {
    let home = place.dir.path().join("home");
    fs::create_dir_all(&home).unwrap();
    let mut flatpak = Command::new("flatpak");
    flatpak
        .args(args)
        .env("HOME", home)
        .env_remove("XDG_DATA_HOME");
    run(flatpak.current_dir(place.dir.path())).expect("`apt-get install flatpak`")
}

/// Builds a version of an app, and pushes it as its publisher would.
fn publish(place: &Place, version: &str) {
    let app = place.dir.path().join("app");
    fs::create_dir_all(app.join("files/bin")).unwrap();
    fs::create_dir_all(app.join("export")).unwrap();
    fs::write(
        app.join("files/bin/hello"),
        format!("#!/bin/sh\necho {version}\n"),
    )
    .unwrap();
    let metadata = "[Application]\nname=org.example.Hello\ncommand=hello\n\
                    runtime=org.example.Platform/x86_64/1\nsdk=org.example.Sdk/x86_64/1\n";
    fs::write(app.join("metadata"), metadata).unwrap();
    flatpak(
        place,
        &["build-export", "--disable-sandbox", "source", "app"],
    )
    .success()
    .unwrap();
    place.push(&[APP]).must_exit(0).unwrap();
}

fn installed(home: &Path) -> String {
    let current = home.join(".local/share/flatpak/app/org.example.Hello/current/active");
    fs::read_to_string(current.join("files/bin/hello")).unwrap()
}

#[test]
fn stock_flatpak_installs_and_updates_what_was_pushed_beside_its_own_summaries() {
    if !extra() {
        return;
    }
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    publish(&place, "one");
    flatpak(&place, &["build-update-repo", "server"])
        .success()
        .unwrap();

    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let listen = format!("127.0.0.1:{port}");
    let mut serve = serving::command(place.server.path()).unwrap();
    let serve = serve.args(["--plain-http", "--log", "none", "--listen", &listen]);
    let mut serve = serve.stderr(Stdio::null()).spawn().unwrap();
    let url = format!("http://{listen}/artifacts");
    let begun = Instant::now();
    let add = ["--user", "remote-add", "--no-gpg-verify", "hello", &url];
    while flatpak(&place, &add).code != Some(0) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            serve.try_wait()
        );
    }
    let install = [
        "--user",
        "install",
        "--noninteractive",
        "--no-deps",
        "hello",
    ];
    let args = [&install[..], &["org.example.Hello"]].concat();
    flatpak(&place, &args).success().unwrap();
    let home = place.dir.path().join("home");
    assert!(installed(&home).contains("echo one"));

    let pushing = AtomicBool::new(true);
    thread::scope(|scope| {
        let summaries = scope.spawn(|| {
            let mut made = 0;
            while pushing.load(Ordering::Acquire) {
                flatpak(&place, &["build-update-repo", "server"])
                    .success()
                    .unwrap();
                made += 1;
            }
            made
        });
        for version in 2..10 {
            publish(&place, &version.to_string());
        }
        pushing.store(false, Ordering::Release);
        assert!(summaries.join().unwrap() > 1);
    });
    flatpak(&place, &["build-update-repo", "server"])
        .success()
        .unwrap();
    flatpak(
        &place,
        &["--user", "update", "--noninteractive", "--no-deps"],
    )
    .success()
    .unwrap();
    assert!(installed(&home).contains("echo 9"), "{}", installed(&home));
    let commit = place.source.commit_of(APP).unwrap();
    assert_eq!(place.server.commit_of(APP).unwrap(), commit);
    place.server.fsck().unwrap();
    place.admin(&["fsck", "server"]).success().unwrap();
    serve.kill().unwrap();
    serve.wait().unwrap();
}
