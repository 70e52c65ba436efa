//! Who may push what, over the real sshd: by the key that was used, and by the key's own command.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_receiver::audit::Record;
use artifact_tests::cache::Pushed;
use artifact_tests::exec::{Failure, run};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::sshd::Sshd;
use tempfile::TempDir;

/// A server whose users have keys of their own, and a repository to push from.
struct Server {
    sshd: Sshd,
    repo: Repo,
    source: Repo,
    config: PathBuf,
    dir: TempDir,
}

impl Server {
    fn start(for_user: impl FnOnce(&Path, &Path) -> String) -> Result<Self, Failure> {
        let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
        let at = |name: &str| dir.path().join(name);
        let repo = Repo::init(&at("server"), Mode::Archive)?;
        let source = Repo::init(&at("source"), Mode::Archive)?;
        let tree = at("tree");
        fs::create_dir(&tree).map_err(Failure::doing("make a tree"))?;
        for name in ["alpha/e/k", "beta/e/k"] {
            source.commit(name, &tree, &["--no-bindings"])?;
        }
        let config = at("artifact-cache.toml");
        let sshd = Sshd::start_with(&for_user(&config, repo.path()))?;
        Ok(Self {
            sshd,
            repo,
            source,
            config,
            dir,
        })
    }

    fn write_config(&self, text: &str) {
        fs::write(&self.config, text).unwrap();
    }

    fn authorize(&self, lines: &[String]) {
        fs::write(self.sshd.authorized_keys(), lines.join("\n") + "\n").unwrap();
    }

    fn push(&self, key: &str, names: &[&str]) -> Pushed {
        let mut push = Command::new(programs::client().unwrap());
        push.args(["push", "--json", "--remote", &self.sshd.url("x"), "--repo"])
            .arg(self.source.path())
            .args(names)
            .env("HOME", self.dir.path())
            .env("ARTIFACT_CACHE_SSH", self.sshd.ssh_command_with(key));
        Pushed::read(run(&mut push).unwrap()).unwrap()
    }
}

/// The key's command as the manual has it.
fn force_command(config: &Path, repo: &Path) -> String {
    format!(
        "ExposeAuthInfo yes\n    ForceCommand {} --config {} {}",
        programs::receiver().unwrap().display(),
        config.display(),
        repo.display()
    )
}

fn all_said(pushed: &Pushed) -> String {
    format!("{}{}", pushed.ran.stdout, pushed.ran.stderr)
}

#[test]
fn a_key_pushes_what_its_identity_may_and_nothing_else() {
    let server = Server::start(force_command).unwrap();
    let keys = ["alice", "bob", "eve"].map(|name| server.sshd.make_key(name).unwrap());
    let audit = server.dir.path().join("audit.jsonl");
    server.write_config(&format!("[audit]\nfile = '{}'\n", audit.display()));
    server.authorize(&keys);
    for (name, key, push) in [("alice", &keys[0], "alpha/**"), ("bob", &keys[1], "**")] {
        let file = server.dir.path().join("key.pub");
        fs::write(&file, key).unwrap();
        let mut authorize = Command::new(programs::admin().unwrap());
        authorize
            .args(["authorize", "--write", "--user", "root", "--name", name])
            .args(["--push", push, "--key"])
            .arg(file)
            .arg("--config")
            .arg(&server.config)
            .arg("--authorized-keys")
            .arg(server.sshd.authorized_keys());
        run(&mut authorize).unwrap().success().unwrap();
    }
    let pushed = server.push("alice", &["alpha/e/k", "beta/e/k"]);
    let pushed = pushed.must_exit(3).unwrap();
    assert_eq!(pushed.refs["alpha/e/k"], "updated");
    assert_eq!(pushed.refs["beta/e/k"], "refused");
    let said = all_said(&pushed);
    let why = "alice may not create beta/e/k: it may create alpha/**";
    assert!(said.contains(why), "{said}");
    assert_eq!(server.repo.refs().unwrap().len(), 1);

    let pushed = server.push("eve", &["beta/e/k"]).must_exit(3).unwrap();
    let said = all_said(&pushed);
    assert!(said.contains("configuration does not name"), "{said}");
    assert_eq!(server.repo.refs().unwrap().len(), 1);

    server.push("bob", &["beta/e/k"]).must_exit(0).unwrap();
    assert_eq!(server.repo.refs().unwrap(), server.source.refs().unwrap());
    server.repo.fsck().unwrap();

    let audit = fs::read_to_string(audit).unwrap();
    let records: Vec<Record> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let who = records
        .iter()
        .map(|r| (r.identity.as_str(), r.outcome.as_str()));
    let who: Vec<_> = who.collect();
    let [alice, (eve, "refused"), bob] = who[..] else {
        panic!("{audit}");
    };
    assert_eq!((alice, bob), (("alice", "refused"), ("bob", "done")));
    assert!(
        eve.starts_with("SHA256:") && records[1].keys == [eve],
        "{audit}"
    );
    let first = &records[0];
    assert_eq!(first.refs[0].outcome, "updated");
    assert_eq!(
        (&first.refs[0].old, first.refs[1].outcome.as_str()),
        (&None, "refused")
    );
    assert_eq!(
        first.refs[0].new,
        server.source.commit_of("alpha/e/k").unwrap().to_hex()
    );
    assert!(first.objects >= 3 && first.bytes > 100, "{audit}");
    assert!(
        first.client.as_deref().unwrap().starts_with("127.0.0.1 "),
        "{audit}"
    );
    assert_eq!(first.protocol, Some(2));
    // The log and the audit log give a session the same name.
    assert_eq!(first.session.len(), 8);
}

#[test]
fn a_keys_own_command_says_who_it_is_of() {
    let server = Server::start(|_, _| "PermitTTY no".to_owned()).unwrap();
    let keys = ["alice", "bob"].map(|name| {
        let key = server.sshd.make_key(name).unwrap();
        format!(
            "restrict,command=\"{} --config {} --identity {name} {}\" {key}",
            programs::receiver().unwrap().display(),
            server.config.display(),
            server.repo.path().display()
        )
    });
    server.authorize(&keys);
    // The configuration need not contain the keys.
    server.write_config("[[identity]]\nname = 'alice'\npush = ['alpha/**']\n");
    server.push("alice", &["alpha/e/k"]).must_exit(0).unwrap();
    server.push("alice", &["beta/e/k"]).must_exit(3).unwrap();
    let pushed = server.push("bob", &["beta/e/k"]).must_exit(3).unwrap();
    let said = all_said(&pushed);
    assert!(said.contains("bob, which the server's"), "{said}");
    assert_eq!(server.repo.refs().unwrap().len(), 1);
}

#[test]
fn a_server_that_is_set_up_by_half_lets_nobody_push_and_says_what_is_missing() {
    let server = Server::start(|config, repo| {
        force_command(config, repo).replace("ExposeAuthInfo yes", "ExposeAuthInfo no")
    })
    .unwrap();
    let alice = server.sshd.make_key("alice").unwrap();
    server.authorize(std::slice::from_ref(&alice));
    for (config, why) in [
        (
            format!("[[identity]]\nname='alice'\nkeys=['{alice}']\npush=['**']\n"),
            "its sshd_config needs `ExposeAuthInfo yes`",
        ),
        (
            "[[identity]]\nname='alice'\nkeys=['*']\npushes=['**']\n".to_owned(),
            "artifact-cache.toml:4: unknown field `pushes`",
        ),
    ] {
        server.write_config(&config);
        let pushed = server.push("alice", &["alpha/e/k"]).must_exit(9).unwrap();
        let said = all_said(&pushed);
        assert!(said.contains(why), "{said}");
        assert!(server.repo.refs().unwrap().is_empty());
    }
    fs::remove_file(&server.config).unwrap();
    server.push("alice", &["alpha/e/k"]).must_exit(9).unwrap();
}
