//! A real sshd on 127.0.0.1, with keys and configuration of its own.
//!
//! It runs as the current user and lets the current user in, by a key made for it, to run one
//! command: the one that the manual tells administrators to write. A missing sshd is a failure,
//! never a skip.

use std::fs::{self, File};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::exec::{Failure, run};
use crate::processes;

/// A running sshd; dropping it ends it and all its sessions.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    port: u16,
    user: String,
    dir: TempDir,
}

impl Sshd {
    /// Starts sshd so that every login runs `force_command`, a line for the user's shell.
    pub fn start(force_command: &str) -> Result<Self, Failure> {
        Self::start_with(&format!("ForceCommand {force_command}"))
    }

    /// Starts sshd with a line of configuration for the user who logs in.
    pub fn start_with(for_user: &str) -> Result<Self, Failure> {
        let sshd = program()?;
        prepare_privilege_separation()?;
        let dir = tempfile::tempdir().map_err(Failure::doing("make a directory for sshd"))?;
        let user = run(Command::new("id").arg("-un"))?
            .success()?
            .trim()
            .to_owned();
        make_key(&dir.path().join("host_key"))?;
        make_key(&dir.path().join("user_key"))?;
        fs::copy(
            dir.path().join("user_key.pub"),
            dir.path().join(AUTHORIZED_KEYS),
        )
        .map_err(Failure::doing("authorize the user's key"))?;
        let mut last = None;
        // Another process may take the free port before sshd does.
        for _ in 0..START_ATTEMPTS {
            let port = free_port()?;
            write_configuration(dir.path(), port, &user, for_user)?;
            let mut child = spawn(&sshd, dir.path())?;
            match wait_ready(&mut child, port) {
                Ok(()) => {
                    return Ok(Self {
                        child,
                        port,
                        user,
                        dir,
                    });
                }
                Err(failure) => {
                    processes::kill_tree(child.id());
                    let _ = child.wait();
                    last = Some(failure);
                }
            }
        }
        let log = fs::read_to_string(dir.path().join(LOG)).unwrap_or_default();
        Err(Failure::new(format!(
            "sshd does not start ({last:?}):\n{log}"
        )))
    }

    /// Returns the command that logs in here, for `--ssh` and `ARTIFACT_CACHE_SSH`; it ignores the
    /// user's own configuration, keys and known hosts.
    pub fn ssh_command(&self) -> String {
        self.ssh_command_with("user_key")
    }

    /// Returns the command that logs in here with another key.
    pub fn ssh_command_with(&self, key: &str) -> String {
        let dir = self.dir.path().display();
        format!(
            "ssh -F none -i {dir}/{key} -o IdentitiesOnly=yes -o BatchMode=yes \
             -o UserKnownHostsFile={dir}/known_hosts -o StrictHostKeyChecking=yes"
        )
    }

    /// Makes another key, and returns it as a line of `authorized_keys`. It lets nobody in yet.
    pub fn make_key(&self, name: &str) -> Result<String, Failure> {
        let path = self.dir.path().join(name);
        make_key(&path)?;
        let public = path.with_extension("pub");
        let key =
            fs::read_to_string(&public).map_err(Failure::doing(format!("read {public:?}")))?;
        Ok(key.trim().to_owned())
    }

    /// Returns the file of the keys that are let in.
    pub fn authorized_keys(&self) -> PathBuf {
        self.dir.path().join(AUTHORIZED_KEYS)
    }

    /// Returns the address of a path at this server.
    pub fn url(&self, path: &str) -> String {
        format!(
            "ssh://{}@127.0.0.1:{}/{}",
            self.user,
            self.port,
            path.trim_start_matches('/')
        )
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the user who may log in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns the process id of the server, whose children are its sessions.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Returns the standard error of sshd and the programs it ran.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join(LOG)).unwrap_or_default()
    }

    /// Cuts every connection, as a network failure would, and keeps listening.
    pub fn cut_connections(&self) {
        processes::kill_children(self.child.id());
    }
}

impl Drop for Sshd {
    #[expect(
        clippy::print_stderr,
        reason = "a failed test shows what the server said"
    )]
    fn drop(&mut self) {
        processes::kill_tree(self.child.id());
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of sshd\n{}---", self.log());
        }
    }
}

fn program() -> Result<PathBuf, Failure> {
    ["/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Failure::new("there is no sshd: install it with `apt-get install openssh-server`")
        })
}

/// If root starts sshd, it needs this directory, which a service manager usually creates.
fn prepare_privilege_separation() -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all("/run/sshd").map_err(Failure::doing("make /run/sshd"))?;
    }
    Ok(())
}

fn make_key(path: &Path) -> Result<(), Failure> {
    run(Command::new("ssh-keygen")
        .args([
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "artifact-tests",
            "-f",
        ])
        .arg(path))
    .map_err(|failure| Failure::new(format!("{failure:?}; `apt-get install openssh-client`")))?
    .success()?;
    Ok(())
}

fn free_port() -> Result<u16, Failure> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(Failure::doing("find a free port"))
}

/// Keeps sessions cheap. Bash reads `~/.bashrc` for each of them, unless it runs within another
/// bash, and a developer's tools there can take longer than a push. The key exchange that sshd
/// prefers, against quantum computers, takes most of the time that the two programs need.
fn write_configuration(dir: &Path, port: u16, user: &str, for_user: &str) -> Result<(), Failure> {
    let shown = dir.display();
    let configuration = format!(
        "Port {port}\n\
         ListenAddress 127.0.0.1\n\
         HostKey {shown}/host_key\n\
         AuthorizedKeysFile {shown}/{AUTHORIZED_KEYS}\n\
         PidFile none\n\
         StrictModes no\n\
         UsePAM no\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         MaxStartups 100\n\
         SetEnv SHLVL=1\n\
         KexAlgorithms curve25519-sha256\n\
         LogLevel VERBOSE\n\
         Match User {user}\n    {for_user}\n"
    );
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(Failure::doing(format!("write {path:?}")))
    };
    write("sshd_config", &configuration)?;
    let key = fs::read_to_string(dir.join("host_key.pub"))
        .map_err(Failure::doing("read the host key of sshd"))?;
    // Any port, so that the host is known behind a proxy as well.
    write("known_hosts", &format!("[127.0.0.1]:* {key}"))
}

fn spawn(sshd: &Path, dir: &Path) -> Result<Child, Failure> {
    let path = dir.join(LOG);
    let log = File::create(&path).map_err(Failure::doing(format!("make {path:?}")))?;
    // With -D it stays our child; with -e its messages and those of its sessions go to the log.
    Command::new(sshd)
        .args(["-D", "-e", "-f"])
        .arg(dir.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(Failure::doing(format!("start {sshd:?}")))
}

/// Waits for a greeting that only an ssh server sends.
fn wait_ready(child: &mut Child, port: u16) -> Result<(), Failure> {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().map_err(Failure::doing("wait for sshd"))? {
            return Err(Failure::new(format!("sshd ended with {status}")));
        }
        if greets(port) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(Failure::new(format!(
        "no greeting within {START_TIMEOUT:?}"
    )))
}

fn greets(port: u16) -> bool {
    let mut greeting = [0; 4];
    TcpStream::connect(("127.0.0.1", port))
        .and_then(|mut connection| {
            connection.set_read_timeout(Some(START_TIMEOUT))?;
            connection.read_exact(&mut greeting)
        })
        .is_ok()
        && greeting == *b"SSH-"
}

const LOG: &str = "sshd.log";
const AUTHORIZED_KEYS: &str = "authorized_keys";
const START_ATTEMPTS: usize = 5;
const START_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn log_in(sshd: &Sshd) -> Command {
        let mut ssh = Command::new("sh");
        ssh.arg("-c").arg(format!(
            "exec {} -p {} {}@127.0.0.1 something else",
            sshd.ssh_command(),
            sshd.port,
            sshd.user
        ));
        ssh
    }

    #[test]
    fn logging_in_runs_the_forced_command_and_its_errors_reach_the_log() {
        let sshd = Sshd::start("echo forced; echo to-the-client >&2; exit 7").unwrap();
        let ran = run(&mut log_in(&sshd)).unwrap();
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(7), "forced\n"),
            "{ran}"
        );
        assert!(ran.stderr.contains("to-the-client"), "{ran}");
        assert!(sshd.log().contains("Accepted publickey"));
        assert!(sshd.url("/a/b").ends_with("/a/b"));
    }

    #[test]
    fn sessions_end_with_the_server_and_with_a_cut() {
        let sshd = Sshd::start("sleep 1234").unwrap();
        let dir = sshd.dir.path().to_owned();
        let start = |count| {
            let child = log_in(&sshd).stderr(Stdio::null()).spawn().unwrap();
            while sshd.log().matches("Accepted publickey").count() < count {
                thread::sleep(Duration::from_millis(10));
            }
            child
        };
        let mut first = start(1);
        sshd.cut_connections();
        assert_eq!(first.wait().unwrap().code(), Some(255));
        let mut second = start(2);
        drop(sshd);
        assert_eq!(second.wait().unwrap().code(), Some(255));
        processes::wait_gone(&dir, Duration::from_secs(10)).unwrap();
    }
}
