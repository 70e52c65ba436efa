//! A server's repository that is pushed to by path, and an operator's commands on it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use artifact_tests::cache::Pushed;
use artifact_tests::exec::{Ran, run};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use tempfile::TempDir;

/// A repository, and one to push from, on one machine.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) server: Repo,
    pub(crate) source: Repo,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // So that another user can reach it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let source = Repo::init(&dir.path().join("source"), Mode::Archive).unwrap();
        let server = Repo::at(&dir.path().join("server"));
        Self {
            dir,
            server,
            source,
        }
    }

    pub(crate) fn admin(&self, args: &[&str]) -> Ran {
        let mut admin = Command::new(programs::admin().unwrap());
        run(admin.args(args).current_dir(self.dir.path())).unwrap()
    }

    pub(crate) fn commit(&self, name: &str, content: &str) {
        let tree = self.dir.path().join("tree");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("file"), content).unwrap();
        self.source.commit(name, &tree, &["--no-bindings"]).unwrap();
    }

    pub(crate) fn push(&self, names: &[&str]) -> Pushed {
        let mut push = Command::new(programs::client().unwrap());
        push.args(["push", "--json", "--remote"])
            .arg(self.server.path())
            .arg("--repo")
            .arg(self.source.path())
            .args(names)
            .env("HOME", self.dir.path());
        Pushed::read(run(&mut push).unwrap()).unwrap()
    }

    pub(crate) fn set_age(&self, name: &str, seconds: u64) {
        let path = self.server.path().join("refs/heads").join(name);
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::open(path).unwrap().set_modified(then).unwrap();
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.server.refs().unwrap().into_keys().collect()
    }
}
