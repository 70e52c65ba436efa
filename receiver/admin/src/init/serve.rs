//! `init --serve`: what a cache needs beside its repository, on a machine with the package
//! `artifact-cache-receiver`: sshd that runs the receiver, and the https server.
//!
//! Existing files of other content stay as they are, and end the command.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use artifact_page::PullUrl;
use serde_json::json;

use crate::output::{say, tell};

/// The options of `init` that concern the servers.
#[derive(Debug, clap::Args)]
pub(crate) struct Servers {
    /// Also configure sshd and the https server, which the package artifact-cache-receiver brings:
    /// write a file for sshd, name the repository in /etc/default/artifact-cache, and enable
    /// artifact-cache-serve.socket if there is a certificate; needs root
    #[arg(long, requires = "owner")]
    pub(super) serve: bool,
    /// Address to pull from, for clients [default: https://NAME-OF-THIS-MACHINE/artifacts]
    #[arg(long, value_name = "URL", requires = "serve")]
    pull_url: Option<PullUrl>,
    /// The certificate of the https server and its intermediate certificates, as PEM
    #[arg(long, value_name = "FILE", requires = "serve", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of the certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "serve", requires = "cert")]
    key: Option<PathBuf>,
}

impl Servers {
    /// Checks what can be checked before anything is written.
    pub(super) fn check(&self, repo: &Path) -> anyhow::Result<()> {
        if !rustix::process::geteuid().is_root() {
            bail!("only root can configure servers: use sudo");
        }
        if !UNIT_DIRS
            .iter()
            .any(|dir| Path::new(dir).join(SOCKET).exists())
        {
            bail!("there is no {SOCKET}: --serve needs the package artifact-cache-receiver");
        }
        if !Path::new(SSHD_DIR).is_dir() {
            bail!("there is no {SSHD_DIR}: apt-get install openssh-server");
        }
        if !std::path::absolute(repo)?.starts_with(HOME) {
            bail!(
                "the units of the package reach only {HOME}: choose {HOME}/artifacts, or configure \
                 the servers as receiver/MANUAL.md says"
            );
        }
        for file in [&self.cert, &self.key].into_iter().flatten() {
            let shown = file.display();
            fs::read(file).with_context(|| format!("cannot read {shown}"))?;
        }
        Ok(())
    }

    /// Configures the servers of a repository, and prints what is left to do.
    pub(super) fn configure(&self, repo: &Path, owner: &str, json: bool) -> anyhow::Result<()> {
        let host = host_name();
        let url = match &self.pull_url {
            Some(url) => url.as_str().to_owned(),
            None => format!("https://{host}/artifacts"),
        };
        let sshd = Path::new(SSHD_DIR).join("artifact-cache.conf");
        let is_new = create(&sshd, &sshd_text(owner, &url, repo), json)?;
        if let Err(error) = run("sshd", &["-t"]) {
            if is_new {
                fs::remove_file(&sshd)?;
            }
            return Err(error.context("sshd does not accept its configuration"));
        }
        let old = fs::read_to_string(DEFAULTS).unwrap_or_default();
        fs::write(DEFAULTS, with_repo(&old, repo))
            .with_context(|| format!("cannot write {DEFAULTS}"))?;
        let text = format!("{DEFAULTS} names the repository");
        tell(json, "wrote", &json!({ "file": DEFAULTS }), &text);
        for (file, name) in [(&self.cert, "cert.pem"), (&self.key, "key.pem")] {
            if let Some(file) = file {
                link(file, &Path::new(CERTIFICATES).join(name), json)?;
            }
        }
        let mut left = Vec::new();
        if let Err(error) = run("systemctl", &["reload", "ssh"]) {
            left.push(format!("start sshd again ({error}): systemctl restart ssh"));
        }
        let has_certificate = ["cert.pem", "key.pem"]
            .iter()
            .all(|name| Path::new(CERTIFICATES).join(name).exists());
        if !has_certificate {
            left.push(format!(
                "put the certificate of the https server and its key into {CERTIFICATES}/cert.pem \
                 and key.pem"
            ));
            left.push(format!("systemctl enable --now {SOCKET}"));
        } else if let Err(error) = run("systemctl", &["enable", "--now", SOCKET]) {
            left.push(format!(
                "start the https server ({error}): systemctl start {SOCKET}"
            ));
        } else {
            let text = format!("{SOCKET} is enabled, and serves {url}");
            tell(
                json,
                "enabled",
                &json!({ "unit": SOCKET, "url": url }),
                &text,
            );
        }
        left.push(format!(
            "let a user in: artifact-cache-admin authorize --key alice.pub --name alice --push \
             'alpha/**' --user {owner}"
        ));
        let fingerprint =
            fingerprint().map_or(String::new(), |f| format!(", whose fingerprint is {f}"));
        left.push(format!(
            "tell your users to join{fingerprint}: artifact-cache join ssh://{owner}@{host}/{}",
            repo.file_name().unwrap_or_default().to_string_lossy()
        ));
        left.push(
            "remove old artifacts every week: systemctl enable --now artifact-cache-prune.timer"
                .to_owned(),
        );
        if !json {
            say("");
            say("What is left to do:");
        }
        for step in left {
            let text = format!("  - {step}");
            tell(json, "to-do", &json!({ "text": step }), &text);
        }
        Ok(())
    }
}

fn sshd_text(owner: &str, url: &str, repo: &Path) -> String {
    format!(
        "# Written by `artifact-cache-admin init --serve`.\n\
         Match User {owner}\n    \
         ForceCommand bst-artifact-receive --pull-url {url} --verbose {}\n    \
         ExposeAuthInfo yes\n    \
         AuthenticationMethods publickey\n    \
         DisableForwarding yes\n    \
         PermitTTY no\n    \
         PermitUserRC no\n    \
         ClientAliveInterval 15\n    \
         ClientAliveCountMax 3\n    \
         MaxSessions 1\n",
        repo.display()
    )
}

/// Returns the settings of the units with this repository.
fn with_repo(settings: &str, repo: &Path) -> String {
    let line = format!("REPO={}", repo.display());
    let mut lines: Vec<_> = settings.lines().map(str::to_owned).collect();
    match lines.iter_mut().find(|line| line.starts_with("REPO=")) {
        Some(old) => *old = line,
        None => lines.push(line),
    }
    lines.join("\n") + "\n"
}

/// Creates a file, or accepts one with the same text. Returns whether it is new.
fn create(path: &Path, text: &str, json: bool) -> anyhow::Result<bool> {
    let shown = path.display().to_string();
    let done = |event, text: String| tell(json, event, &json!({ "file": shown }), &text);
    match fs::read_to_string(path) {
        Ok(old) if old == text => {
            done("kept", format!("{shown} is there already"));
            Ok(false)
        }
        Ok(_) => bail!(
            "{shown} exists, with another text: to have it written anew, move it away: \
             mv {shown} {shown}.old"
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::write(path, text).with_context(|| format!("cannot write {shown}"))?;
            done("wrote", format!("wrote {shown}"));
            Ok(true)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {shown}")),
    }
}

/// Makes a link to a file, in the place of an older link.
fn link(file: &Path, link: &Path, json: bool) -> anyhow::Result<()> {
    let shown = link.display().to_string();
    let file = std::path::absolute(file)?;
    fs::create_dir_all(CERTIFICATES).with_context(|| format!("cannot make {CERTIFICATES}"))?;
    if link.is_symlink() {
        fs::remove_file(link).with_context(|| format!("cannot replace {shown}"))?;
    }
    symlink(&file, link).with_context(|| format!("cannot make the link {shown}"))?;
    let file = file.display().to_string();
    let text = format!("{shown} is a link to {file}");
    tell(json, "linked", &json!({ "file": shown, "to": file }), &text);
    Ok(())
}

fn host_name() -> String {
    let name = Command::new("hostname").arg("--fqdn").output();
    let name = name.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "cache.example.com".to_owned())
}

/// Returns the fingerprint of this machine's key, for users to compare.
fn fingerprint() -> Option<String> {
    let key = "/etc/ssh/ssh_host_ed25519_key.pub";
    let output = Command::new("ssh-keygen")
        .args(["-lf", key])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(' ').nth(1).map(str::to_owned)
}

fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

const UNIT_DIRS: [&str; 3] = [
    "/etc/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
];
const SOCKET: &str = "artifact-cache-serve.socket";
const SSHD_DIR: &str = "/etc/ssh/sshd_config.d";
const DEFAULTS: &str = "/etc/default/artifact-cache";
const CERTIFICATES: &str = "/etc/artifact-cache";
/// The only directory that the units may reach.
const HOME: &str = "/var/lib/artifact-cache";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naming_the_repository_keeps_all_other_settings() {
        let repo = Path::new("/var/lib/artifact-cache/x");
        let settings = "# A\nREPO=/old\n\nSERVE_OPTIONS=\n";
        let expected = "# A\nREPO=/var/lib/artifact-cache/x\n\nSERVE_OPTIONS=\n";
        assert_eq!(with_repo(settings, repo), expected);
        assert_eq!(with_repo(expected, repo), expected);
        assert_eq!(with_repo("", repo), "REPO=/var/lib/artifact-cache/x\n");
    }

    #[test]
    fn a_file_with_another_text_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(create(&path, "a\n", false).unwrap());
        assert!(!create(&path, "a\n", false).unwrap());
        assert!(create(&path, "b\n", false).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n");
    }

    #[test]
    fn the_file_for_sshd_is_the_one_that_the_package_shows() {
        let package = include_str!("../../../packaging/sshd.conf");
        let url = "https://cache.example.com/artifacts";
        let own = sshd_text("artifacts", url, Path::new("artifacts"));
        let lines = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(lines(package), lines(&own));
    }
}
