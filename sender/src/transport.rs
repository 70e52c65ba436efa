//! Starts a receiver to talk to, through `ssh` or as a child on this machine.
//!
//! Runs the user's own `ssh`, with the user's configuration, keys and agent; implements nothing of
//! ssh. Knows nothing of the protocol.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader, ReadBuf};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::broadcast::{self, error::RecvError};

use artifact_protocol::dialect::Dialect;

use crate::cipher;
use crate::error::Error;
use crate::openssh;
use crate::remote::{Remote, SshRemote};

/// The program that a server runs, also its name here.
pub const RECEIVER: &str = "bst-artifact-receive";

/// The program that a server of version 0 runs.
const OLD_RECEIVER: &str = "ostree-receive";

/// Starts receivers.
#[derive(Clone, Debug, Default)]
pub struct Connector {
    ssh: Option<String>,
    server_first: bool,
    receiver: Option<OsString>,
    ciphers: Option<String>,
    overrides: Vec<&'static str>,
}

impl Connector {
    /// Runs `command` instead of `ssh`: a program with its arguments, parsed by a shell, like git's
    /// `GIT_SSH_COMMAND`.
    #[must_use]
    pub fn ssh_command(mut self, command: impl Into<String>) -> Self {
        self.ssh = Some(command.into());
        self
    }

    /// Starts a receiver for pushes in an old version. For [`Dialect::V0`], clients name another
    /// program and pass the path in another way; for other versions they do not differ.
    #[must_use]
    pub fn dialect(mut self, dialect: Option<Dialect>) -> Self {
        self.server_first = dialect == Some(Dialect::V0);
        self
    }

    /// Runs `program` as the receiver for repositories on this machine, instead of the one beside
    /// this program or on `PATH`.
    #[must_use]
    pub fn receiver(mut self, program: impl Into<OsString>) -> Self {
        self.receiver = Some(program.into());
        self
    }

    /// Reads the user's configuration with `ssh -G`, and overrides settings that would spoil the
    /// stream. If it leaves the ciphers to OpenSSH, tries the fastest first: AES-GCM, on a
    /// processor with instructions for it. Does nothing for a remote on this machine, or if the
    /// command is not `ssh`.
    pub async fn adapt_to(mut self, remote: &Remote) -> Self {
        let Remote::Ssh(remote) = remote else {
            return self;
        };
        if !self.is_openssh() {
            return self;
        }
        let mut command = self.ssh_command_line();
        command.arg("-G");
        destination(&mut command, remote);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true);
        // Any problem shows when the real command runs.
        if let Ok(Ok(output)) = tokio::time::timeout(LOOK_UP, command.output()).await
            && output.status.success()
        {
            let configuration = String::from_utf8_lossy(&output.stdout);
            self.ciphers = cipher::preferred(&configuration);
            self.overrides = openssh::overrides(&configuration);
        }
        self
    }

    /// Returns the ciphers that `ssh` will try, in order; `None` leaves the choice to it.
    pub fn ciphers(&self) -> Option<&str> {
        self.ciphers.as_deref()
    }

    /// Starts a receiver.
    ///
    /// # Errors
    ///
    /// `Start`, if the program cannot be run. A server that does not answer shows only later.
    pub fn connect(&self, remote: &Remote) -> Result<Connection, Error> {
        let mut command = match remote {
            Remote::Ssh(remote) => self.ssh(remote),
            Remote::Local(path) => self.local(path),
        };
        let program = command
            .as_std()
            .get_program()
            .to_string_lossy()
            .into_owned();
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let started = socket_pair().and_then(|(stdin, theirs)| {
            let child = command.stdin(theirs).spawn()?;
            Ok((child, stdin))
        });
        let (mut child, stdin) = started.map_err(|source| Error::Start { program, source })?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::Internal(
                "a child without the pipes that were asked for",
            ));
        };
        enlarge(&stdout);
        let (said, messages) = broadcast::channel(LINES_MAX);
        tokio::spawn(read_lines(stderr, said));
        Ok(Connection {
            child,
            stdin: Some(stdin),
            stdout,
            messages,
            heard: false,
        })
    }

    fn ssh(&self, remote: &SshRemote) -> Command {
        let mut command = self.ssh_command_line();
        if self.is_openssh() {
            command.args(openssh::ALWAYS).args(&self.overrides);
        }
        if let Some(ciphers) = &self.ciphers {
            command.arg("-o").arg(format!("Ciphers={ciphers}"));
        }
        destination(&mut command, remote);
        let path = quoted(&remote.path);
        if self.server_first {
            command.arg(OLD_RECEIVER).arg(format!("--repo={path}"));
        } else {
            command.arg(RECEIVER).arg(path);
        }
        command
    }

    /// Returns whether the command runs OpenSSH's client, perhaps through another program: we know
    /// the options of no other. A wrapper with another name gets none.
    fn is_openssh(&self) -> bool {
        let words = self.ssh.as_deref().unwrap_or("ssh");
        let mut words = words.split_whitespace();
        words.any(|word| {
            Path::new(word)
                .file_name()
                .is_some_and(|name| name == "ssh")
        })
    }

    fn ssh_command_line(&self) -> Command {
        let Some(shell_text) = &self.ssh else {
            return Command::new("ssh");
        };
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("{shell_text} \"$@\""))
            .arg(shell_text);
        command
    }

    fn local(&self, repository: &Path) -> Command {
        let beside = std::env::current_exe()
            .ok()
            .and_then(|program| Some(program.parent()?.join(RECEIVER)))
            .filter(|program| program.is_file())
            .map(OsString::from);
        let program = self
            .receiver
            .clone()
            .or(beside)
            .unwrap_or_else(|| RECEIVER.into());
        let mut command = Command::new(program);
        if self.server_first {
            let mut argument = OsString::from("--repo=");
            argument.push(repository);
            command.arg(argument);
        } else {
            command.arg("--").arg(repository);
        }
        command
    }
}

/// Quotes a path as one word for the shell on the other side. Like git, leaves `~` and `~user` at
/// the beginning to that shell, which knows the homes.
fn quoted(path: &str) -> String {
    let home = path.split('/').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let home = match home.strip_prefix('~') {
        Some(user) if user.chars().all(is_plain) => home,
        _ => "",
    };
    let rest = path.get(home.len()..).unwrap_or_default();
    match rest {
        "" if !home.is_empty() => home.to_owned(),
        rest => format!("{home}'{}'", rest.replace('\'', r"'\''")),
    }
}

/// Adds the destination to an `ssh` command.
fn destination(command: &mut Command, remote: &SshRemote) {
    if let Some(port) = remote.port {
        command.arg("-p").arg(port.to_string());
    }
    let host = match &remote.user {
        Some(user) => format!("{user}@{}", remote.host),
        None => remote.host.clone(),
    };
    command.arg("--").arg(host);
}

/// A running receiver, as a byte stream.
#[derive(Debug)]
pub struct Connection {
    child: Child,
    stdin: Option<UnixStream>,
    stdout: ChildStdout,
    messages: broadcast::Receiver<String>,
    heard: bool,
}

impl Connection {
    /// Waits for the receiver to end, and returns its exit status and the last lines that it, or
    /// `ssh`, wrote to standard error. The other side wrote them: escape them before you show them.
    pub async fn finish(mut self) -> io::Result<(ExitStatus, Vec<String>)> {
        drop(self.stdin.take());
        let status = match tokio::time::timeout(FINISH, self.child.wait()).await {
            Ok(status) => status?,
            Err(_) => {
                self.child.start_kill()?;
                self.child.wait().await?
            }
        };
        let mut lines = VecDeque::new();
        // A process that the receiver left behind may write for ever.
        let until = Instant::now() + ALL_LINES;
        while Instant::now() < until {
            match tokio::time::timeout(LAST_LINES, self.messages.recv()).await {
                Ok(Ok(line)) => lines.push_back(line),
                Ok(Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) | Err(_) => break,
            }
            // If there are too many lines, the last ones are kept: they contain the reason.
            if lines.len() > LINES_MAX {
                lines.pop_front();
            }
        }
        Ok((status, lines.into()))
    }

    /// Returns whether any byte came from the other side, from the receiver or not.
    pub const fn was_heard(&self) -> bool {
        self.heard
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stdout).poll_read(cx, buffer);
        self.heard |= buffer.filled().len() > before;
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Only closing the pipe tells the other end that nothing more will come.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

/// Passes on lines, each cut to a length fit for a screen.
async fn read_lines(stderr: ChildStderr, said: broadcast::Sender<String>) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(LINE_LEN_MAX)
            .read_until(b'\n', &mut line)
            .await;
        if !matches!(read, Ok(len) if len > 0) {
            return;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        // Empty the pipe to the end, whether anybody listens or not: otherwise the other side would
        // block in the middle of a word.
        let _ = said.send(line);
    }
}

/// Creates the standard input of a child: our end, and its own.
///
/// It is a socket, because a writer to a full pipe wakes up for every page that is read, and a
/// writer to a full socket only once most of it is.
fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&ours, SOCKET_LEN);
    // A child expects a blocking standard input.
    let theirs = theirs.into_std()?;
    theirs.set_nonblocking(false)?;
    Ok((ours, theirs.into()))
}

/// Enlarges a pipe, if the system allows it: fewer, longer reads and writes.
fn enlarge(pipe: &impl std::os::fd::AsFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_LEN);
}

/// How long to wait for `ssh -G` before ignoring it.
const LOOK_UP: Duration = Duration::from_secs(5);
const SOCKET_LEN: usize = 1024 * 1024;
const PIPE_LEN: usize = 1024 * 1024;
const LINES_MAX: usize = 512;
const LINE_LEN_MAX: u64 = 4_096;
/// How long to wait for a receiver to end after the session.
const FINISH: Duration = Duration::from_secs(10);
/// How long to wait for another line of a receiver that has ended, and for all of them.
const LAST_LINES: Duration = Duration::from_millis(200);
const ALL_LINES: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
