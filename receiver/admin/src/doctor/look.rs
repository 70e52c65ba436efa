//! Runs other programs to learn about the machine: without input, and for a bounded time.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::User;
use rustix::process::{Pid, Signal, kill_process_group};

/// A program that has ended, or was ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ran {
    /// Whether it ended by itself, and with 0.
    pub(super) succeeded: bool,
    /// Whether it was still running when its time was over.
    pub(super) timed_out: bool,
    /// Standard output, or the beginning of a long one.
    pub(super) stdout: String,
    /// The same of standard error.
    pub(super) stderr: String,
}

/// Runs a program for [`TIME_MAX`] at most.
pub(super) fn run(command: &mut Command) -> io::Result<Ran> {
    // A program that is started by sshd has a socket for its input, and shells behave differently
    // then.
    let (input, ours) = UnixStream::pair()?;
    ours.shutdown(std::net::Shutdown::Both)?;
    let mut child = command
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(input)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let outputs = [
        child.stdout.take().map(|pipe| collect(Box::new(pipe))),
        child.stderr.take().map(|pipe| collect(Box::new(pipe))),
    ];
    let deadline = Instant::now() + TIME_MAX;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => break None,
            None => thread::sleep(POLL),
        }
    };
    // Children of its own may keep the pipes open.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    if status.is_none() {
        child.wait()?;
    }
    let [stdout, stderr] = outputs.map(|output| {
        let text = output.and_then(|output| output.recv_timeout(TIME_MAX).ok());
        text.unwrap_or_default()
    });
    Ok(Ran {
        succeeded: status.is_some_and(|status: ExitStatus| status.success()),
        timed_out: status.is_none(),
        stdout,
        stderr,
    })
}

/// Makes a command of a program that runs as a user, with no environment but a few variables.
pub(super) fn as_user(user: &User, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", &user.dir)
        .env("USER", &user.name)
        .env("LOGNAME", &user.name)
        .env("SHELL", &user.shell)
        .current_dir("/");
    if nix::unistd::geteuid().is_root() && !user.uid.is_root() {
        // Also takes all other groups away.
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn collect(pipe: Box<dyn Read + Send>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // Whatever came before an error is what it said.
        let _ = pipe.take(OUTPUT_MAX).read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

const TIME_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(3);
const OUTPUT_MAX: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Ran {
        run(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn what_a_program_says_is_kept_and_a_child_that_lives_on_holds_nobody_up() {
        let begun = Instant::now();
        let ran = sh("echo out; echo err >&2; sleep 60 & exit 3");
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert!(!ran.succeeded && !ran.timed_out);
        assert!(begun.elapsed() < TIME_MAX);
        assert!(sh("read x || true").succeeded);
    }
}
