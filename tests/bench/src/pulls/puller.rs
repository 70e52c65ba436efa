//! The pullers: ways to bring objects here, by the commands that a user would type.

use std::path::Path;
use std::process::Command;

use artifact_tests::exec::Failure;
use artifact_tests::programs;
use artifact_tests::repo::Repo;

use crate::case::Work;
use crate::data::Data;

/// One way to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Puller {
    /// `artifact-cache pull` over ssh.
    Ssh,
    /// The same from `artifact-cache-serve`, by one POST.
    Post,
    /// The same from a plain web server: nginx, with HTTP/2.
    Loose,
    /// `ostree pull` from that nginx.
    OstreeFromNginx,
    /// `ostree pull` from `artifact-cache-serve`.
    OstreeFromServe,
    /// `ssh tar | tar` of the checkout, which neither verifies nor syncs: the reference.
    Tar,
    /// `rsync -a` of the checkout.
    Rsync,
    /// `ssh true`: only the connection.
    True,
}

/// The addresses that a command needs.
#[derive(Clone, Debug)]
pub struct Way {
    /// The port of sshd, or of a proxy in front of it.
    pub ssh_port: u16,
    /// The login command.
    pub ssh: String,
    /// The user to log in as.
    pub user: String,
    /// The URL of the source at `artifact-cache-serve`, and the file of its authority.
    pub serve: (String, String),
    /// The same for nginx.
    pub nginx: (String, String),
}

impl Puller {
    pub const ALL: [Self; 8] = [
        Self::Ssh,
        Self::Post,
        Self::Loose,
        Self::OstreeFromNginx,
        Self::OstreeFromServe,
        Self::Tar,
        Self::Rsync,
        Self::True,
    ];

    /// Returns its name, as in `BENCH_PEERS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Post => "post",
            Self::Loose => "loose",
            Self::OstreeFromNginx => "ostree-nginx",
            Self::OstreeFromServe => "ostree-serve",
            Self::Tar => "tar",
            Self::Rsync => "rsync",
            Self::True => "true",
        }
    }

    /// Returns its description.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Ssh => "artifact-cache pull, ssh",
            Self::Post => "artifact-cache pull, https",
            Self::Loose => "artifact-cache pull from nginx",
            Self::OstreeFromNginx => "ostree pull from nginx",
            Self::OstreeFromServe => "ostree pull from ours",
            Self::Tar => "ssh tar \\| tar of the checkout",
            Self::Rsync => "rsync -a of the checkout",
            Self::True => "ssh true",
        }
    }

    /// Returns whether it is `artifact-cache`.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Ssh | Self::Post | Self::Loose)
    }

    /// Returns whether it talks to sshd.
    pub const fn is_over_ssh(self) -> bool {
        matches!(self, Self::Ssh | Self::Tar | Self::Rsync | Self::True)
    }

    /// Returns whether it leaves a repository with the ref, and in which directory that is.
    pub const fn refs(self) -> Option<&'static str> {
        match self {
            Self::Ssh | Self::Post | Self::Loose => Some("refs/heads"),
            Self::OstreeFromNginx | Self::OstreeFromServe => Some("refs/remotes/web"),
            Self::Tar | Self::Rsync | Self::True => None,
        }
    }

    /// Prepares a new destination, which no user would do at each pull.
    pub fn prepare(self, way: &Way, destination: &Path) -> Result<(), Failure> {
        let (url, ca) = match self {
            Self::OstreeFromNginx => &way.nginx,
            Self::OstreeFromServe => &way.serve,
            _ => return Ok(()),
        };
        let ca = format!("--set=tls-ca-path={ca}");
        let add = ["add", "--force", "--no-gpg-verify", &ca, "web", url];
        Repo::at(destination).ostree("remote", add).map(drop)
    }

    /// Returns the command that brings what is missing to `destination`.
    pub fn command(
        self,
        work: Work,
        data: &Data,
        way: &Way,
        source: &Path,
        destination: &Path,
    ) -> Result<Command, Failure> {
        let (to, reference) = (destination.display(), data.reference(work));
        let remote = format!("{} -p {} {}@127.0.0.1", way.ssh, way.ssh_port, way.user);
        let ours = |url: &str, ca: Option<&str>| -> Result<Command, Failure> {
            let mut command = Command::new(programs::client()?);
            command.args(["pull", "--json", "--remote", url, "--repo"]);
            command.arg(destination).arg(&reference);
            command.env("ARTIFACT_CACHE_SSH", &way.ssh);
            command.env("ARTIFACT_CACHE_CONFIG", "/dev/null");
            ca.map(|ca| command.env("ARTIFACT_CACHE_CA", ca));
            Ok(command)
        };
        Ok(match self {
            Self::Ssh => {
                let (user, port, from) = (&way.user, way.ssh_port, source.display());
                ours(&format!("ssh://{user}@127.0.0.1:{port}{from}"), None)?
            }
            Self::Post => ours(&way.serve.0, Some(&way.serve.1))?,
            Self::Loose => ours(&way.nginx.0, Some(&way.nginx.1))?,
            Self::OstreeFromNginx | Self::OstreeFromServe => {
                let mut command = Command::new("ostree");
                command.arg("pull").arg(format!("--repo={to}"));
                command.arg("web").arg(reference);
                command
            }
            Self::Tar => {
                let from = data.checkout(work)?;
                let from = from.display();
                shell(&format!(
                    "{remote} 'tar -C {from} -cf - .' | tar -C {to} -xf -"
                ))
            }
            Self::Rsync => {
                let from = data.checkout(work)?;
                let mut command = Command::new("rsync");
                let login = format!("{} -p {}", way.ssh, way.ssh_port);
                let from = format!("{}@127.0.0.1:{}/", way.user, from.display());
                command.args(["-a", "-e", &login, &from]);
                command.arg(format!("{to}/"));
                command
            }
            Self::True => shell(&format!("{remote} true")),
        })
    }
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(line);
    command
}
