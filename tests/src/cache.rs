//! The whole scene: a shared cache, written over ssh and read over http, and its users.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::exec::{Failure, Ran, run};
use crate::http::HttpServer;
use crate::listing::Listing;
use crate::repo::{Mode, Repo};
use crate::sshd::Sshd;
use crate::{processes, programs};

/// A shared cache with its servers, and a directory for its users' files.
#[derive(Debug)]
pub struct Cache {
    // Dropped in this order: first the writers, last the repository.
    sshd: Sshd,
    http: HttpServer,
    repo: Repo,
    dir: TempDir,
}

impl Cache {
    /// Makes an empty cache with `artifact-cache-admin init`, and starts its servers.
    pub fn start() -> Result<Self, Failure> {
        let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
        let repo = Repo::at(&dir.path().join("server/artifacts"));
        std::fs::create_dir(dir.path().join("server"))
            .map_err(Failure::doing("make a directory for the cache"))?;
        run(Command::new(programs::admin()?)
            .arg("init")
            .arg(repo.path()))?
        .success()?;
        let http = HttpServer::start(repo.path())?;
        let sshd = Sshd::start(&format!(
            "{} --pull-url {} --verbose {}",
            programs::receiver()?.display(),
            http.url(),
            repo.path().display()
        ))?;
        Ok(Self {
            sshd,
            http,
            repo,
            dir,
        })
    }

    /// Returns the cache's repository.
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// Returns the server that writes it.
    pub fn sshd(&self) -> &Sshd {
        &self.sshd
    }

    /// Returns the address to read from.
    pub fn pull_url(&self) -> String {
        self.http.url()
    }

    /// Returns the address to write to.
    pub fn push_url(&self) -> String {
        self.sshd.url("artifacts")
    }

    /// Returns a path for a user's files; nothing exists there unless a test has created it.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the user's configuration for [`Self::client`].
    pub fn configure(&self, text: &str) -> Result<(), Failure> {
        let dir = self.dir.path().join(".config");
        std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(dir.join("artifact-cache.yaml"), text))
            .map_err(Failure::doing("write the configuration"))
    }

    /// Returns the user's program with a subcommand. It reaches this cache, and ignores the
    /// configuration of whoever runs the tests.
    pub fn client(&self, subcommand: &str) -> Result<Command, Failure> {
        let mut command = Command::new(programs::client()?);
        command
            .arg(subcommand)
            .env("HOME", self.dir.path())
            .env_remove("XDG_CONFIG_HOME")
            .env("XDG_CONFIG_DIRS", self.dir.path())
            .env("ARTIFACT_CACHE_SSH", self.sshd.ssh_command());
        Ok(command)
    }

    /// Returns the command that pushes refs of a repository here over ssh, reporting as JSON.
    pub fn push_command(&self, from: &Repo, refs: &[&str]) -> Result<Command, Failure> {
        self.push_command_to(&self.push_url(), from, refs)
    }

    /// Returns the command that pushes refs to any remote, reporting as JSON.
    pub fn push_command_to(
        &self,
        remote: &str,
        from: &Repo,
        refs: &[&str],
    ) -> Result<Command, Failure> {
        let mut command = self.client("push")?;
        command.arg("--json").arg("--repo").arg(from.path());
        command.args(["--remote", remote]).args(refs);
        Ok(command)
    }

    /// Pushes refs of a repository here over ssh; any exit code is a success here.
    pub fn push(&self, from: &Repo, refs: &[&str]) -> Result<Pushed, Failure> {
        Pushed::read(run(&mut self.push_command(from, refs)?)?)
    }

    /// Runs `artifact-cache-admin SUBCOMMAND` on the cache's repository.
    pub fn admin(&self, subcommand: &str) -> Result<Ran, Failure> {
        run(Command::new(programs::admin()?)
            .arg(subcommand)
            .arg(self.repo.path()))
    }

    /// Checks the whole cache, with stock ostree and with our own stricter fsck.
    pub fn fsck(&self) -> Result<(), Failure> {
        self.repo.fsck()?;
        self.admin("fsck")?.success().map(drop)
    }

    /// Lists the repository as others see it, without the receiver's own files.
    pub fn listing(&self) -> Result<Listing, Failure> {
        self.repo.listing(&["extensions"])
    }

    /// Returns how many bytes the receiver's own directory holds.
    pub fn staged_len(&self) -> u64 {
        let mut pending = vec![self.repo.path().join("extensions")];
        let mut len = 0;
        while let Some(dir) = pending.pop() {
            // A file that vanishes meanwhile was published or deleted.
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                    Ok(metadata) => len += metadata.len(),
                    Err(_) => {}
                }
            }
        }
        len
    }

    /// Waits until no receiver works on this cache.
    pub fn wait_idle(&self) -> Result<(), Failure> {
        processes::wait_gone(self.repo.path(), IDLE_TIMEOUT)
    }

    /// Checks that users get the ref's commit and tree, over http and from the path, with stock
    /// ostree, into repositories like a build tool's.
    pub fn must_give(&self, name: &str, from: &Repo, tree: &Path) -> Result<(), Failure> {
        let commit = from.commit_of(name)?;
        for way in ["http", "path"] {
            let user = Repo::init(&self.scratch(&format!("user-{way}")), Mode::BareUser)?;
            match way {
                "http" => user.pull_http(&self.pull_url(), &[name])?,
                _ => user.pull_path(self.repo.path(), &[name])?,
            }
            let pulled = user.commit_of(name)?;
            if pulled != commit || user.detached(&commit) != from.detached(&commit) {
                return Err(Failure::new(format!(
                    "{name} is {pulled}, not {commit}, by {way}"
                )));
            }
            let checkout = self.scratch(&format!("checkout-{way}"));
            user.checkout(name, &checkout)?;
            crate::listing::compare(tree, &checkout)?;
            for used in [user.path(), &checkout] {
                std::fs::remove_dir_all(used).map_err(Failure::doing("clear up"))?;
            }
        }
        Ok(())
    }
}

/// The result of `artifact-cache push --json`.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The program's end.
    pub ran: Ran,
    /// Objects sent, or `None` if the push did not complete.
    pub objects_sent: Option<u64>,
    /// Bytes of stored objects sent.
    pub bytes_sent: Option<u64>,
    /// The outcome of each ref: `updated`, `unchanged` or `refused`.
    pub refs: BTreeMap<String, String>,
}

impl Pushed {
    /// Parses the last line, which only a complete push prints.
    pub fn read(ran: Ran) -> Result<Self, Failure> {
        let mut done = Value::Null;
        for line in ran.stdout.lines() {
            done = serde_json::from_str(line)
                .map_err(|error| Failure::new(format!("{error} in {line:?} of {ran}")))?;
        }
        let done = if done["event"] == "done" {
            done
        } else {
            Value::Null
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let refs = done["refs"].as_array().into_iter().flatten();
        Ok(Self {
            objects_sent: done["objects_sent"].as_u64(),
            bytes_sent: done["bytes_sent"].as_u64(),
            refs: refs
                .map(|r#ref| (text(&r#ref["name"]), text(&r#ref["status"])))
                .collect(),
            ran,
        })
    }

    /// Fails with the program's output unless the exit code is `code`.
    pub fn must_exit(self, code: i32) -> Result<Self, Failure> {
        if self.ran.code == Some(code) {
            Ok(self)
        } else {
            Err(Failure::new(format!("not {code}: {}", self.ran)))
        }
    }
}

const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(stdout: &str) -> Ran {
        Ran {
            command: "artifact-cache push".into(),
            code: Some(0),
            stdout: stdout.into(),
            stderr: String::new(),
        }
    }

    #[test]
    fn only_a_last_line_that_says_done_counts() {
        let done = r#"{"event":"done","objects_sent":3,"bytes_sent":40,
            "refs":[{"name":"a","status":"updated"}]}"#
            .replace('\n', " ");
        let progress = r#"{"event":"progress"}"#;
        let pushed = Pushed::read(ran(&format!("{progress}\n{done}\n"))).unwrap();
        assert_eq!(
            (pushed.objects_sent, pushed.bytes_sent),
            (Some(3), Some(40))
        );
        assert_eq!(pushed.refs["a"], "updated");
        assert!(pushed.must_exit(5).is_err());
        let pushed = Pushed::read(ran(&format!("{done}\n{progress}\n"))).unwrap();
        assert_eq!(pushed.objects_sent, None);
        assert!(Pushed::read(ran("Welcome!\n")).is_err());
    }
}
