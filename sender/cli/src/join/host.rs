//! Makes ssh know a host, once somebody has said that its key is the right one.

use std::fs::{DirBuilder, File};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use artifact_protocol::{escape, exit};
use artifact_sender::SshRemote;
use serde_json::json;

use crate::args::{Args, Join};
use crate::output::Output;
use crate::trouble::Trouble;

/// A key that a host offers.
struct HostKey {
    /// Its line in `known_hosts`.
    line: String,
    /// `SHA256:` and the checksum.
    fingerprint: String,
    /// As `ssh-keygen` describes it.
    shown: String,
}

/// What ssh's configuration says of a host.
struct Host {
    /// The host, as `known_hosts` has it.
    name: String,
    address: String,
    port: u16,
    /// The file that the user's ssh adds keys to.
    known: PathBuf,
    others: Vec<PathBuf>,
}

/// Adds the keys of a host to `known_hosts`, unless ssh knows the host.
pub(super) fn make_known(
    remote: &SshRemote,
    join: &Join,
    args: &Args,
    output: &Output,
) -> Result<(), Trouble> {
    let host = Host::of(remote, args)?;
    if host.is_known() {
        return Ok(());
    }
    let offered = keys(&host)?;
    output.object(&json!({
        "event": "host",
        "host": host.name,
        "fingerprints": offered.iter().map(|key| &*key.fingerprint).collect::<Vec<_>>(),
    }));
    let accepted = accept(offered, &host.name, join)?;
    let lines: String = accepted
        .iter()
        .map(|key| format!("{}\n", key.line))
        .collect();
    let known = host.known.display();
    append(&host.known, &lines)
        .map_err(|error| trouble(exit::OTHER, format!("cannot write {known}: {error}"), None))?;
    output.line(&format!("added {} to {known}", host.name));
    Ok(())
}

impl Host {
    /// Asks ssh where it would connect to, with the user's configuration.
    fn of(remote: &SshRemote, args: &Args) -> Result<Self, Trouble> {
        let command = args.ssh.as_deref().filter(|text| !text.trim().is_empty());
        let mut words = command.unwrap_or("ssh").split_whitespace();
        let mut ssh = Command::new(words.next().unwrap_or("ssh"));
        ssh.args(words).arg("-G");
        if let Some(port) = remote.port {
            ssh.arg("-p").arg(port.to_string());
        }
        let text = said(ssh.arg("--").arg(&remote.host)).map_err(|error| {
            let text = format!("cannot ask ssh for its configuration: {error}");
            let advice = "install it: apt-get install openssh-client";
            trouble(exit::CONNECTION, text, Some(advice.to_owned()))
        })?;
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let files = |name: &str| {
            value(name)
                .unwrap_or_default()
                .split(' ')
                .map(PathBuf::from)
        };
        let address = value("hostname").unwrap_or(&remote.host).to_owned();
        let port = value("port")
            .and_then(|port| port.parse().ok())
            .unwrap_or(SSH_PORT);
        let name = match (value("hostkeyalias"), port) {
            (Some(alias), _) => alias.to_owned(),
            (None, SSH_PORT) => address.clone(),
            (None, _) => format!("[{address}]:{port}"),
        };
        let mut own = files("userknownhostsfile");
        let known = own.next().unwrap_or_default();
        Ok(Self {
            name,
            address,
            port,
            known,
            others: own.chain(files("globalknownhostsfile")).collect(),
        })
    }

    /// Returns whether ssh has a key of the host. A missing file has none.
    fn is_known(&self) -> bool {
        let has = |file: &PathBuf| {
            let mut keygen = Command::new("ssh-keygen");
            let found = said(keygen.args(["-F", &self.name, "-f"]).arg(file));
            found.is_ok_and(|found| !found.trim().is_empty())
        };
        has(&self.known) || self.others.iter().any(has)
    }
}

/// Asks the host for its keys.
fn keys(host: &Host) -> Result<Vec<HostKey>, Trouble> {
    let Host {
        name,
        address,
        port,
        ..
    } = host;
    let mut scan = Command::new("ssh-keyscan");
    scan.args([
        "-T",
        "10",
        "-t",
        "ed25519,ecdsa,rsa",
        "-p",
        &port.to_string(),
    ]);
    let text = said(scan.arg("--").arg(address)).unwrap_or_default();
    let keys = text.lines().filter(|line| !line.starts_with('#'));
    let keys: Vec<_> = keys.filter_map(|line| describe(line, name)).collect();
    if keys.is_empty() {
        let text = format!("{name} shows no key: it cannot be reached, or runs no ssh server");
        let advice = format!(
            "if it is behind another host, let ssh ask about its key, and join again:\n    \
             ssh {address} true"
        );
        return Err(trouble(exit::CONNECTION, text, Some(advice)));
    }
    Ok(keys)
}

/// Reads a line of `ssh-keyscan`, whose first word is the host as it was asked for.
fn describe(line: &str, place: &str) -> Option<HostKey> {
    let (_, key) = line.split_once(' ')?;
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-l", "-f", "-"]).stdin(Stdio::piped());
    let mut child = keygen
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    writeln!(child.stdin.take()?, "{key}").ok()?;
    let shown = child.wait_with_output().ok()?.stdout;
    let shown = escape(String::from_utf8_lossy(&shown).trim());
    // 256 SHA256:... comment (ED25519)
    let fingerprint = shown.split(' ').nth(1)?.to_owned();
    Some(HostKey {
        line: format!("{place} {key}"),
        fingerprint,
        shown,
    })
}

/// Returns the keys that the user takes for the right ones.
fn accept(offered: Vec<HostKey>, place: &str, join: &Join) -> Result<Vec<HostKey>, Trouble> {
    if let Some(expected) = &join.fingerprint {
        let is_it = |key: &HostKey| key.fingerprint == *expected;
        let accepted: Vec<_> = offered.into_iter().filter(is_it).collect();
        if accepted.is_empty() {
            let text = format!("no key of {place} has the fingerprint {expected}");
            let advice = "somebody may be in between: ask the cache's operator for the fingerprint";
            return Err(trouble(exit::CONNECTION, text, Some(advice.to_owned())));
        }
        return Ok(accepted);
    }
    if join.yes {
        return Ok(offered);
    }
    let mut asked = format!("ssh does not know {place} yet. It shows these keys:\n");
    for key in &offered {
        asked.push_str(&format!("    {}\n", key.shown));
    }
    if !io::stdin().is_terminal() {
        let advice = "compare with the fingerprint that the cache's operator gave you, and give \
                      it: --fingerprint SHA256:...";
        return Err(trouble(
            exit::USAGE,
            asked.trim_end().to_owned(),
            Some(advice.to_owned()),
        ));
    }
    asked.push_str("Has the cache's operator given you one of these fingerprints? [y/N] ");
    let _ = write!(io::stderr(), "{asked}");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(offered),
        _ => Err(trouble(
            exit::CONNECTION,
            "nothing was changed".to_owned(),
            None,
        )),
    }
}

/// Adds lines to `known_hosts`.
fn append(known: &Path, lines: &str) -> io::Result<()> {
    if let Some(dir) = known.parent().filter(|dir| !dir.exists()) {
        DirBuilder::new().mode(0o700).create(dir)?;
    }
    let mut options = File::options();
    let mut file = options.create(true).append(true).mode(0o600).open(known)?;
    file.write_all(lines.as_bytes())?;
    file.sync_all()
}

/// Returns what a program prints, unless it fails.
fn said(command: &mut Command) -> io::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(format!("it ended with {}", output.status))),
    }
}

fn trouble(code: u8, text: String, advice: Option<String>) -> Trouble {
    Trouble {
        may_pass: false,
        code,
        text,
        advice,
    }
}

const SSH_PORT: u16 = 22;
