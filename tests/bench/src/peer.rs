//! The peers: ways to send objects to the other side, by the commands that a user would type.

use std::path::Path;
use std::process::Command;

use artifact_tests::exec::Failure;
use artifact_tests::programs;

use crate::case::{Source, Work};
use crate::data::Data;

/// One way to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// `artifact-cache push`.
    Ours,
    /// The same with the cipher that is fastest on most processors.
    OursAes,
    /// `tar | ssh tar` of exactly the missing objects: the reference.
    Tar,
    /// `ssh cat` of the same bytes: the transport alone.
    Cat,
    /// `ssh true`: only the connection.
    True,
    /// `rsync -a` of the repository.
    Rsync,
    /// `ostree-push`.
    OstreePush,
    /// `ostree pull` over http, which verifies each object.
    Pull,
    /// `ostree pull-local` into an archive repository, and `tar | ssh tar` of that.
    ArchiveAndTar,
}

/// The addresses that a command needs.
#[derive(Clone, Debug)]
pub struct Way {
    /// The port of sshd, or of a proxy in front of it.
    pub ssh_port: u16,
    /// The login command, from [`Sshd::ssh_command`](artifact_tests::sshd::Sshd::ssh_command).
    pub ssh: String,
    /// The user to log in as.
    pub user: String,
    /// The URL of the source, for peers that pull.
    pub http: String,
    /// The directory with the programs of ostree-push.
    pub ostree_push: std::path::PathBuf,
}

impl Peer {
    pub const ALL: [Self; 9] = [
        Self::Ours,
        Self::OursAes,
        Self::Tar,
        Self::Cat,
        Self::True,
        Self::Rsync,
        Self::OstreePush,
        Self::Pull,
        Self::ArchiveAndTar,
    ];

    /// Returns its name, as in `BENCH_PEERS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursAes => "ours-aes",
            Self::Tar => "tar",
            Self::Cat => "cat",
            Self::True => "true",
            Self::Rsync => "rsync",
            Self::OstreePush => "ostree-push",
            Self::Pull => "pull",
            Self::ArchiveAndTar => "archive-tar",
        }
    }

    /// Returns its description.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Ours => "artifact-cache push",
            Self::OursAes => "the same with aes128-gcm",
            Self::Tar => "tar \\| ssh tar",
            Self::Cat => "ssh cat >/dev/null",
            Self::True => "ssh true",
            Self::Rsync => "rsync -a",
            Self::OstreePush => "ostree-push 1.2.0",
            Self::Pull => "ostree pull over http",
            Self::ArchiveAndTar => "ostree pull-local, tar \\| ssh tar",
        }
    }

    /// Returns whether it leaves a repository with the ref.
    pub const fn leaves_repository(self) -> bool {
        !matches!(self, Self::Cat | Self::True)
    }

    /// Returns the directory of the refs that it sets.
    pub const fn refs(self) -> &'static str {
        match self {
            Self::Pull => "refs/remotes/web",
            _ => "refs/heads",
        }
    }

    /// Prepares a new destination, which no user would do at each push.
    pub fn prepare(self, way: &Way, destination: &Path) -> Result<(), Failure> {
        if self == Self::Pull {
            let repo = artifact_tests::repo::Repo::at(destination);
            let add = ["add", "--force", "--no-gpg-verify", "web", &way.http];
            repo.ostree("remote", add)?;
        }
        Ok(())
    }

    /// Returns the command that brings the missing objects to `destination`; `scratch` is an unused
    /// path for it.
    pub fn command(
        self,
        source: Source,
        work: Work,
        data: &Data,
        way: &Way,
        destination: &Path,
        scratch: &Path,
    ) -> Result<Command, Failure> {
        let source = data.source(source, work);
        let (from, to) = (source.display(), destination.display());
        let reference = data.reference(work);
        let list = data.list(work);
        let remote = format!("{} -p {} {}@127.0.0.1", way.ssh, way.ssh_port, way.user);
        let tar = |from: &Path| {
            let (from, list) = (from.display(), list.display());
            format!("tar -C {from} -cf - --no-recursion -T {list} | {remote} 'tar -C {to} -xf -'")
        };
        Ok(match self {
            Self::Ours | Self::OursAes => {
                let url = format!("ssh://{}@127.0.0.1:{}{to}", way.user, way.ssh_port);
                let mut command = Command::new(programs::client()?);
                command.args(["push", "--json", "--remote", &url, "--repo"]);
                command.arg(&source).arg(reference);
                let cipher = if self == Self::OursAes { AES } else { "" };
                command.env("ARTIFACT_CACHE_SSH", format!("{}{cipher}", way.ssh));
                command
            }
            Self::Tar => shell(&tar(&source)),
            Self::Cat => {
                let bundle = data.bundle();
                shell(&format!("{remote} 'cat >/dev/null' <{}", bundle.display()))
            }
            Self::True => shell(&format!("{remote} true")),
            Self::Rsync => {
                let mut command = Command::new("rsync");
                command
                    .args(["-a", "-e", &format!("{} -p {}", way.ssh, way.ssh_port)])
                    .arg(format!("{from}/"))
                    .arg(format!("{}@127.0.0.1:{to}/", way.user));
                command
            }
            Self::OstreePush => {
                let mut command = Command::new(way.ostree_push.join("ostree-push"));
                // It accepts only these two options, and passes them on to ssh.
                let options = way.ssh.split_whitespace().skip_while(|word| *word != "-i");
                let url = format!("ssh://{}@127.0.0.1:{}{to}", way.user, way.ssh_port);
                command.args(["--quiet", "--repo"]).arg(&source);
                command.args(options).arg(url).arg(reference);
                command
            }
            Self::Pull => {
                let mut command = Command::new("ostree");
                command
                    .args(["pull", &format!("--repo={to}"), "web"])
                    .arg(reference);
                command
            }
            Self::ArchiveAndTar => {
                let archive = scratch.display();
                shell(&format!(
                    "ostree init --repo={archive} --mode=archive-z2 && \
                     ostree pull-local --repo={archive} {from} {reference} && {}",
                    tar(scratch)
                ))
            }
        })
    }

    /// Returns why it cannot run on this machine, if so.
    pub fn lacks(self, way: &Way) -> Option<&'static str> {
        let there = match self {
            Self::Rsync => Path::new("/usr/bin/rsync").exists(),
            Self::OstreePush => way.ostree_push.join("ostree-push").exists(),
            _ => true,
        };
        (!there).then_some("it is not installed: run `.ci/setup bench`")
    }

    /// Returns whether the number of objects can be compared after this work.
    pub const fn counts_objects(self, work: Work) -> bool {
        // A pull leaves a mark of its own, and fetches nothing that exists.
        self.leaves_repository() && !(matches!(self, Self::Pull) && matches!(work, Work::Nothing))
    }
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(line);
    command
}

const AES: &str = " -c aes128-gcm@openssh.com";
