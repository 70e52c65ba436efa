//! An operator's commands on the server, with the real programs.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use artifact_tests::exec::{Failure, run};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use serde_json::Value;

use crate::place::Place;

/// Collects everything below a directory that `uid` does not own.
fn not_owned(dir: &Path, uid: u32, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        if metadata.uid() != uid {
            found.push(path.display().to_string());
        }
        if metadata.is_dir() {
            not_owned(&path, uid, found);
        }
    }
}

fn must_be_owned(dir: &Path, uid: u32) {
    let mut found = Vec::new();
    not_owned(dir, uid, &mut found);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_root_does_to_somebodys_repository_is_done_as_that_somebody() {
    const OWNER: u32 = 12345;
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    let lend = run(Command::new("chown")
        .arg("-R")
        .arg(format!("{OWNER}:{OWNER}"))
        .arg(place.server.path()));
    lend.unwrap()
        .success()
        .expect("this test has to be run by root");
    place.commit("p/e/1", "one");
    place.commit("p/e/2", "two");
    place.push(&["p/e/1", "p/e/2"]).must_exit(0).unwrap();
    must_be_owned(place.server.path(), OWNER);
    place
        .admin(&["remove", "server", "p/e/1"])
        .success()
        .unwrap();
    place.admin(&["prune", "server"]).success().unwrap();
    place.admin(&["status", "server"]).success().unwrap();
    place.admin(&["fsck", "server"]).success().unwrap();
    must_be_owned(place.server.path(), OWNER);
    assert_eq!(place.names(), ["p/e/2"]);
}

#[test]
fn a_repository_is_made_for_a_user_or_found_good_or_refused() {
    let place = Place::new();
    let made = place.admin(&["init", "--owner", "nobody", "server"]);
    let said = made.success().expect("this test has to be run by root");
    assert!(said.contains("Match User nobody"), "{said}");
    assert!(said.contains("ExposeAuthInfo yes"), "{said}");
    let owner = fs::metadata(place.server.path()).unwrap().uid();
    assert_ne!(owner, 0);
    must_be_owned(place.server.path(), owner);

    for args in [
        &["init", "server"][..],
        &["init", "--owner", "nobody", "server"],
    ] {
        let said = place.admin(args).success().unwrap();
        assert!(said.contains("already"), "{said}");
    }
    let refused = |args: &[&str], why: &str| {
        let ran = place.admin(args);
        assert_eq!(ran.code, Some(9), "{ran}");
        assert!(ran.stderr.contains(why), "{ran}");
    };
    refused(
        &["init", "--owner", "root", "server"],
        "root does not own it",
    );
    refused(
        &["init", "--owner", "no-such-user", "x"],
        "no user no-such-user",
    );
    refused(&["init", "."], "neither empty");
    Repo::init(&place.dir.path().join("bare"), Mode::BareUser).unwrap();
    refused(&["init", "bare"], "bare-user");
    assert!(!place.dir.path().join("x").exists());
    // A repository that ostree made, with the old mode's name.
    Repo::init(&place.dir.path().join("theirs"), Mode::Archive).unwrap();
    place.admin(&["init", "theirs"]).success().unwrap();
}

#[test]
fn removed_refs_leave_the_summary_and_pruning_makes_room() {
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    let names = ["p/e/1", "p/e/2", "p/e/3", "p/f/1", "main"];
    for (age, name) in names.iter().enumerate() {
        place.commit(name, &name.repeat(1000));
        place.push(&[name]).must_exit(0).unwrap();
        place.set_age(name, 100_000 * (age as u64 + 1));
    }
    let ran = place.admin(&["remove", "server", "main", "no/such"]);
    assert_eq!(ran.code, Some(9), "{ran}");
    assert!(ran.stdout.contains("artifact-cache-admin prune"), "{ran}");
    assert!(ran.stderr.contains("no ref no/such"), "{ran}");
    let in_summary = |name: &str| {
        let summary = place.server.summary().unwrap();
        summary.iter().any(|line| line.contains(name))
    };
    assert!(!in_summary("main") && in_summary("p/e/3"));

    let before = place.server.listing(&["extensions"]).unwrap();
    let said = place.admin(&["prune", "--keep", "1", "--dry-run", "server"]);
    let said = said.success().unwrap();
    assert!(
        said.contains("would remove p/e/2\nwould remove p/e/3"),
        "{said}"
    );
    before
        .must_equal(&place.server.listing(&["extensions"]).unwrap())
        .unwrap();

    let args = [
        "prune",
        "--keep",
        "1",
        "--keep-younger-than",
        "250000s",
        "server",
    ];
    let said = place.admin(&args).success().unwrap();
    assert!(said.contains("removed p/e/3\n"), "{said}");
    // The commits, trees and files of main and of p/e/3; the root's dirmeta is shared by all
    // commits.
    assert!(said.contains("removed 6 of 16 objects"), "{said}");
    assert_eq!(place.names(), ["p/e/1", "p/e/2", "p/f/1"]);
    assert!(!in_summary("p/e/3"));
    place.server.fsck().unwrap();
    place.admin(&["fsck", "server"]).success().unwrap();
}

#[test]
fn pruning_beside_pushes_loses_nothing_and_is_never_starved() {
    const KEYS: usize = 3;
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    // All artifacts share much of what a prune removes while the next push relies on it.
    let shared = place.dir.path().join("tree/shared");
    fs::create_dir_all(&shared).unwrap();
    for file in 0..30 {
        fs::write(shared.join(file.to_string()), format!("shared {file}")).unwrap();
    }
    let elements = ["a", "b"];
    for element in elements {
        for key in 0..KEYS {
            place.commit(&format!("old/{element}/{key}"), &format!("{key}"));
            place.commit(&format!("new/{element}/{key}"), &format!("{element}{key}"));
        }
    }
    let pruning = AtomicBool::new(true);
    thread::scope(|scope| {
        let pushers = elements.map(|element| {
            let (place, pruning) = (&place, &pruning);
            scope.spawn(move || {
                for turn in 0.. {
                    if turn >= KEYS && !pruning.load(Ordering::Acquire) {
                        break;
                    }
                    for age in ["old", "new"] {
                        let name = format!("{age}/{element}/{}", turn % KEYS);
                        place.push(&[&name]).must_exit(0)?;
                    }
                }
                Ok::<_, Failure>(())
            })
        });
        let prune = [
            "prune",
            "--keep",
            "0",
            "--allow-remove-all",
            "--refs",
            "old/**",
            "server",
        ];
        let pruned = [(); 2].map(|()| place.admin(&prune).success());
        // Before the assertions, so that after a failure no thread goes on.
        pruning.store(false, Ordering::Release);
        for pusher in pushers {
            pusher.join().unwrap().unwrap();
        }
        for said in pruned {
            said.unwrap();
        }
    });
    let mut kept = place.names();
    kept.retain(|name| name.starts_with("new/"));
    assert_eq!(kept.len(), elements.len() * KEYS, "{kept:?}");
    place.server.fsck().unwrap();
    place.admin(&["fsck", "server"]).success().unwrap();
}

#[test]
fn the_status_counts_what_there_is() {
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    for name in ["p/e/1", "p/e/2"] {
        place.commit(name, name);
        place.push(&[name]).must_exit(0).unwrap();
    }
    place.set_age("p/e/2", 3600);
    let said = place
        .admin(&["status", "--json", "server"])
        .success()
        .unwrap();
    let status: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(status["refs"], 2);
    assert_eq!(status["objects"], 7);
    assert!(status["object_bytes"].as_u64() > Some(100));
    assert!(status["bytes_free"].as_u64() > Some(0));
    assert!(status["summary"]["bytes"].as_u64() > Some(100));
    assert_eq!(status["staged_sessions"], 0);
    assert_eq!(status["last_pushes"][0]["ref"], "p/e/1");
    assert_eq!(status["last_pushes"][1]["ref"], "p/e/2");
    let text = place.admin(&["status", "server"]).success().unwrap();
    assert!(
        text.contains("refs      2\n") && text.contains("  p/e/1\n"),
        "{text}"
    );
    assert_eq!(place.admin(&["status", "source/refs"]).code, Some(9));
}

#[test]
fn an_authorized_key_is_in_both_files_whole_and_once() {
    let place = Place::new();
    let at = |name: &str| place.dir.path().join(name);
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    fs::write(at("key.pub"), format!("{key} me@home\n")).unwrap();
    fs::write(at("config"), "# ours\n").unwrap();
    fs::set_permissions(at("config"), fs::Permissions::from_mode(0o640)).unwrap();
    chown(at("config"), Some(12345), Some(12346)).expect("this test has to be run by root");
    let authorize = |more: &[&str]| {
        let files = [
            "--config",
            "config",
            "--authorized-keys",
            "ssh/keys",
            "--user",
            "root",
        ];
        let args = [
            &["authorize", "--key", "key.pub", "--name", "ci"],
            &files[..],
            more,
        ]
        .concat();
        place.admin(&args)
    };
    let said = authorize(&["--push", "alpha/**", "--dry-run"])
        .success()
        .unwrap();
    assert!(said.contains(&format!("restrict {key} ci")), "{said}");
    assert!(said.contains("nothing is written"), "{said}");
    assert_eq!(fs::read_to_string(at("config")).unwrap(), "# ours\n");
    assert!(!at("ssh").exists());

    authorize(&["--push", "alpha/**"]).success().unwrap();
    let keys = fs::read_to_string(at("ssh/keys")).unwrap();
    assert_eq!(keys, format!("restrict {key} ci\n"));
    assert_eq!(fs::metadata(at("ssh/keys")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(at("ssh")).unwrap().mode() & 0o777, 0o700);
    let config = fs::read_to_string(at("config")).unwrap();
    assert!(
        config.starts_with("# ours\n") && config.contains(key),
        "{config}"
    );
    let metadata = fs::metadata(at("config")).unwrap();
    let (mode, owner) = (metadata.mode() & 0o777, (metadata.uid(), metadata.gid()));
    assert_eq!((mode, owner), (0o640, (12345, 12346)));

    let said = authorize(&["--push", "alpha/**", "--write"])
        .success()
        .unwrap();
    assert_eq!(said.matches("nothing to change").count(), 2, "{said}");
    assert_eq!(fs::read_to_string(at("config")).unwrap(), config);
    authorize(&["--sign", "beta", "--write"]).success().unwrap();
    let grown = fs::read_to_string(at("config")).unwrap();
    assert!(
        grown.contains("sign = [\"beta\"]") && grown.contains("alpha/**"),
        "{grown}"
    );
    assert_eq!(fs::read_to_string(at("ssh/keys")).unwrap(), keys);
    // In a directory that contains one.
    let here = [
        "authorize",
        "--key",
        "key.pub",
        "--name",
        "ci",
        "--write",
        "--user",
        "root",
    ];
    let here = [
        &here[..],
        &["--config", "config", "--authorized-keys", "keys"],
    ]
    .concat();
    place.admin(&here).success().unwrap();
    assert_eq!(fs::read_to_string(at("keys")).unwrap(), keys);
    let ran = authorize(&["--push", "a//b", "--write"]);
    assert_eq!(ran.code, Some(2), "{ran}");
    fs::write(at("key.pub"), "-----BEGIN OPENSSH PRIVATE KEY-----").unwrap();
    let ran = authorize(&["--write"]);
    assert!(ran.stderr.contains("the private key"), "{ran}");
    assert_eq!(fs::read_to_string(at("config")).unwrap(), grown);
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 5);
}

const KEY: &str = "ssh-ed25519 \
                   AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Builds the command that authorizes a key, a different one for each number, for a user.
fn authorize_command(place: &Place, number: usize, user: &str, more: &[&str]) -> Command {
    let name = format!("user{number}");
    let public = place.dir.path().join(format!("{name}.pub"));
    let digits = format!("{number:04}").replace('0', "A");
    let key = format!("{}{digits}", &KEY[..KEY.len() - 4]);
    fs::write(&public, format!("{key} {name}\n")).unwrap();
    let mut admin = Command::new(programs::admin().unwrap());
    admin.current_dir(place.dir.path());
    admin.args(["authorize", "--write", "--push", "a/**", "--name", &name]);
    admin
        .args(["--config", "config", "--user", user])
        .args(more);
    admin.arg("--key").arg(public);
    admin
}

#[test]
fn keys_that_are_roots_are_written_by_root_and_a_users_as_that_user() {
    let place = Place::new();
    let at = |name: &str| place.dir.path().join(name);
    let user = "nobody";
    let uid = 65534;
    let authorize = |number, keys: &str| {
        let more = ["--authorized-keys", keys];
        run(&mut authorize_command(&place, number, user, &more)).unwrap()
    };
    // The hardened setup of the manual: sshd reads root's file as the user.
    fs::create_dir(at("etc")).unwrap();
    authorize(1, "etc/keys").success().unwrap();
    let keys = fs::metadata(at("etc/keys")).unwrap();
    assert_eq!((keys.uid(), keys.mode() & 0o777), (0, 0o644));
    authorize(2, "etc/keys").success().unwrap();
    assert_eq!(
        fs::read_to_string(at("etc/keys")).unwrap().lines().count(),
        2
    );

    fs::create_dir(at("home")).unwrap();
    chown(at("home"), Some(uid), Some(uid)).unwrap();
    authorize(3, "home/.ssh/keys").success().unwrap();
    let keys = fs::metadata(at("home/.ssh/keys")).unwrap();
    assert_eq!((keys.uid(), keys.mode() & 0o777), (uid, 0o600));
    // A user's symbolic link leads root nowhere.
    std::os::unix::fs::symlink(at("etc"), at("home/link")).unwrap();
    std::os::unix::fs::lchown(at("home/link"), Some(uid), Some(uid)).unwrap();
    let before = fs::read_to_string(at("config")).unwrap();
    let ran = authorize(4, "home/link/keys");
    assert!(ran.code != Some(0), "{ran}");
    assert_eq!(
        fs::read_to_string(at("etc/keys")).unwrap().lines().count(),
        2
    );
    // A key that cannot be authorized is granted nothing.
    assert_eq!(fs::read_to_string(at("config")).unwrap(), before);
    assert!(!ran.stderr.is_empty());
    let left: Vec<_> = fs::read_dir(place.dir.path()).unwrap().collect();
    let left = left.iter().filter(|e| {
        let name = e.as_ref().unwrap().file_name();
        name.to_string_lossy().contains(".new.")
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn of_many_who_authorize_at_once_none_takes_anothers_entry_away() {
    let place = Place::new();
    let started: Vec<_> = (1..=12)
        .map(|number| {
            let more = ["--authorized-keys", "keys"];
            authorize_command(&place, number, "root", &more)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut authorize in started {
        assert!(authorize.wait().unwrap().success());
    }
    let read = |name: &str| fs::read_to_string(place.dir.path().join(name)).unwrap();
    assert_eq!(read("keys").lines().count(), 12);
    assert_eq!(read("config").matches("[[identity]]").count(), 12);
}

#[test]
fn a_file_system_passes_the_selftest_and_a_receiver_that_loses_objects_fails_it() {
    let place = Place::new();
    let receiver = programs::receiver().unwrap();
    let receiver = receiver.to_str().unwrap();
    let args = [
        "selftest",
        "--json",
        "--seconds",
        "0",
        "--receiver",
        receiver,
        ".",
    ];
    let said = place.admin(&args).success().unwrap();
    let verdict: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&verdict["passed"], &verdict["trials"]),
        (&true.into(), &5.into())
    );
    let left = || {
        let entries = fs::read_dir(place.dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("selftest")).count()
    };
    assert_eq!(left(), 0);

    // The repository is its last argument.
    let script = format!(
        "#!/bin/sh\n{receiver} \"$@\"\ncode=$?\nfor repo do :; done\n\
         find $repo/objects -name '*.filez' | head -n 1 | xargs rm\nexit $code\n"
    );
    let bad = place.dir.path().join("bad-receiver");
    fs::write(&bad, script).unwrap();
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = place.admin(&[
        "selftest",
        "--seconds",
        "0",
        "--receiver",
        "bad-receiver",
        ".",
    ]);
    assert_eq!(ran.code, Some(11), "{ran}");
    assert!(
        ran.stderr.contains("FAILED") && ran.stderr.contains("--seed"),
        "{ran}"
    );
    assert_eq!(left(), 1);
}

#[test]
fn with_json_every_command_prints_objects_that_begin_with_their_event() {
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    for name in ["p/e/1", "p/e/2", "p/e/3"] {
        place.commit(name, name);
        place.push(&[name]).must_exit(0).unwrap();
    }
    fs::write(place.dir.path().join("ci.pub"), KEY).unwrap();
    let files = [
        "--config",
        "config",
        "--authorized-keys",
        "keys",
        "--user",
        "root",
    ];
    let named = ["--key", "ci.pub", "--name", "ci", "--push", "a/**"];
    let authorize = [&["authorize", "--json"], &named[..], &files].concat();
    let revoke = [&["revoke", "--json", "ci"], &files[..]].concat();
    for (args, events) in [
        (&["init", "--json", "server"][..], &["found"][..]),
        (&["init", "--json", "another"], &["created"]),
        (&["status", "--json", "server"], &["status"]),
        (
            &["remove", "--json", "-n", "server", "p/e/1"],
            &["would-remove"],
        ),
        (&["remove", "--json", "server", "p/e/1"], &["removed"]),
        (&["prune", "--json", "server"], &["pruned"]),
        (
            &["prune", "--json", "--keep", "1", "server"],
            &["removed", "pruned"],
        ),
        (&["fsck", "--json", "server"], &["checked"]),
        (&["summary", "--json", "server"], &["summary"]),
        (&["page", "--json", "--out", "pages", "server"], &["page"]),
        (&authorize, &["change", "change"]),
        (&["config", "check", "--json", "config"], &["config"]),
        (
            &["config", "show", "--json", "--effective", "config"],
            &["settings"],
        ),
        (&revoke, &["change", "change"]),
    ] {
        let said = place.admin(args).success().unwrap();
        let begins = said.lines().map(|line| {
            serde_json::from_str::<Value>(line).unwrap();
            let rest = line.strip_prefix("{\"event\":\"").unwrap_or("");
            rest.split('"').next().unwrap_or_default().to_owned()
        });
        assert_eq!(begins.collect::<Vec<_>>(), events, "{args:?}: {said}");
    }
    let samples = place.admin(&["metrics", "--json", "server"]);
    let samples = samples.success().unwrap();
    let is_sample = |line: &str| line.starts_with("{\"event\":\"sample\",");
    assert!(
        samples.lines().count() > 20 && samples.lines().all(is_sample),
        "{samples}"
    );
    let left = |name: &str| fs::read_to_string(place.dir.path().join(name)).unwrap();
    assert_eq!((left("config").trim(), left("keys").as_str()), ("", ""));

    // What the shell would make of a careless pattern.
    place.commit("p/e/4", "4");
    place.push(&["p/e/4"]).must_exit(0).unwrap();
    let all = ["remove", "server", "p/e/3", "p/e/4"];
    let ran = place.admin(&all);
    assert_eq!(ran.code, Some(2), "{ran}");
    assert!(ran.stderr.contains("no ref of project p"), "{ran}");
    assert_eq!(place.names(), ["p/e/3", "p/e/4"]);
    place
        .admin(&[&all[..], &["--allow-remove-all"]].concat())
        .success()
        .unwrap();
    assert!(place.names().is_empty());
    fs::write(place.dir.path().join("config"), "pul-url = 'x'\n").unwrap();
    let ran = place.admin(&["config", "check", "config"]);
    assert_eq!(ran.code, Some(2), "{ran}");
    assert!(ran.stderr.contains("did you mean `pull-url`?"), "{ran}");
}
