//! The cost of a command: time, processor time at both ends, memory.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use artifact_tests::exec::{Failure, Ran, run};
use artifact_tests::processes;
use artifact_tests::sshd::Sshd;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use rustix::param::clock_ticks_per_second;

/// The cost of one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From start to end.
    pub wall: Duration,
    /// Processor time of the command and its children: ssh, tar.
    pub client: Duration,
    /// Processor time of sshd's sessions and their children, to 10 ms.
    pub server: Duration,
}

/// Runs a command that talks to `sshd`, which must do nothing else meanwhile.
pub fn measure(command: &mut Command, sshd: &Sshd) -> Result<(Ran, Cost), Failure> {
    let server = sessions_time(sshd)?;
    let client = children_time()?;
    let begun = Instant::now();
    let ran = run(command)?;
    let wall = begun.elapsed();
    let cost = Cost {
        wall,
        client: children_time()?.saturating_sub(client),
        server: sessions_time(sshd)?.saturating_sub(server),
    };
    Ok((ran, cost))
}

/// Returns the processor time of all children that have been waited for.
fn children_time() -> Result<Duration, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_err(|errno| Failure::doing("read what children took")(errno.into()))?;
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

fn duration(time: TimeVal) -> Duration {
    let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// Returns the processor time of all sessions so far, once the last has ended.
fn sessions_time(sshd: &Sshd) -> Result<Duration, Failure> {
    let begun = Instant::now();
    while processes::has_children(sshd.process()) {
        if begun.elapsed() > SESSION_END {
            return Err(Failure::new("a session of sshd does not end"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let path = format!("/proc/{}/stat", sshd.process());
    let stat = fs::read_to_string(&path).map_err(Failure::doing(format!("read {path}")))?;
    // After the name, which is in brackets: cutime and cstime are the 14th and 15th fields.
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_secs_f64(
        ticks as f64 / clock_ticks_per_second() as f64,
    ))
}

/// Returns a command that runs another below `noter`, which runs [`note_memory`].
pub(crate) fn noting(noter: &Path, notes: &Path, inner: &Command) -> Command {
    let mut command = Command::new(noter);
    command.arg("note-memory").arg(notes);
    command.arg(inner.get_program()).args(inner.get_args());
    for (key, value) in inner.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    command
}

/// Runs a command to its end, and appends its largest resident size and its children's, in bytes,
/// as a line to `file`. This program runs between the caller and the command.
pub fn note_memory(file: &Path, command: &mut Command) -> Result<ExitCode, Failure> {
    let status = command
        .status()
        .map_err(Failure::doing("run what is measured"))?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_err(|errno| Failure::doing("read what children took")(errno.into()))?;
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .map_err(Failure::doing(format!("write {file:?}")))?;
    writeln!(file, "{}", usage.max_rss() * 1024).map_err(Failure::doing("note memory"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Returns the largest of the notes in a file, and removes it.
pub fn noted_memory(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let _ = fs::remove_file(file);
    text.lines().filter_map(|line| line.parse().ok()).max()
}

const SESSION_END: Duration = Duration::from_secs(30);
