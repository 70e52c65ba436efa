//! `bst-artifact-receive`: receives one push, or answers one pull, on standard input and output;
//! sshd runs it.
//!
//! Standard output is the wire; everything else goes to standard error. This program does not link
//! libostree.

mod args;
#[cfg(feature = "bucket")]
mod bucket;
mod log;
mod prepare;
mod refuse;
mod spoken;
mod ssh_variables;
mod unready;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use artifact_protocol::session::{Error as SessionError, Fault, ReceiverConfig};
use artifact_protocol::{Text, Version, escape, exit};
use artifact_receiver::config::Confinement;
use artifact_receiver::driver::{self, DriverConfig, Timeouts};
use artifact_receiver::ulimits;
use artifact_sandbox::{LayerStatus, Needs};
use artifact_store::{LocalStore, Nowhere};
use clap::{CommandFactory, Parser};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::args::Args;
use self::log::Log;
use self::prepare::{Prepared, Target, agent, is_bucket, prepare};
use self::spoken::Spoken;
use self::ssh_variables::SshVariables;
use self::unready::Unready;

/// Returns the definition of the command line, from which the manual page is made.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program, and returns its exit code.
pub fn main() -> ExitCode {
    #[cfg(feature = "bucket")]
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == bucket::ARGUMENT)
    {
        return match bucket::serve() {
            Ok(()) => ExitCode::from(exit::DONE),
            Err(_) => ExitCode::from(exit::CONNECTION),
        };
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return print(&error),
    };
    let ssh_variables = SshVariables::read();
    let id = session_id();
    let level = match (args.debug, args.verbose) {
        (true, _) => tracing::Level::DEBUG,
        (false, true) => tracing::Level::INFO,
        (false, false) => tracing::Level::WARN,
    };
    let log = Log::start(level, &id);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    ulimits::survive_long_files();
    match run(&args, &ssh_variables, &id, &log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(exit::OTHER)
        }
    }
}

fn run(args: &Args, ssh_variables: &SshVariables, id: &str, log: &Log) -> anyhow::Result<u8> {
    if io::stdin().is_terminal() {
        tracing::error!(
            "sshd runs this program, not people at a terminal; --help explains the setup"
        );
        return Ok(exit::USAGE);
    }
    if let Some(command) = &ssh_variables.original_command {
        tracing::debug!("the client asked for: {}", escape(command));
        if command.starts_with("ostree-receive") && !args.server_first() {
            tracing::warn!(
                "the client was asked to run ostree-receive, and may wait for the server to speak: \
                 clients of ostree-push before 0.1 need a command with --repo=REPO"
            );
        }
    }
    // Everything that needs files or sockets comes before `confine`: the sandbox denies both, and a
    // signal wakes its thread through a socket.
    let ready = prepare(args, ssh_variables, id).and_then(|mut prepared| {
        let signals = Signals::new(TERM_SIGNALS).map_err(|error| {
            Unready::new("the server cannot handle signals; its log says why", error)
        })?;
        confine(args, &prepared)?;
        prepared.target = prepared.target.open()?;
        Ok((prepared, signals))
    });
    // Threads that start from now on are confined as well.
    log.write();
    match ready {
        Ok((prepared, signals)) => serve(args, prepared, signals),
        Err(Unready { fault, cause }) => {
            tracing::error!("{cause:#}");
            tell(args, fault)
        }
    }
}

fn serve(args: &Args, prepared: Prepared, mut signals: Signals) -> anyhow::Result<u8> {
    let Prepared {
        target,
        session,
        oldest,
        mut audit,
        pushes_nothing,
        pulls,
        ..
    } = prepared;
    let mut spoken = Spoken::new(session.pull_url.as_ref());
    let config = DriverConfig {
        session,
        openness: args.openness(oldest, None),
        timeouts: Timeouts::default(),
        threads: args.threads(),
        pulls,
    };
    let turned_away = config.session.turns_away.as_ref();
    let turned_away = turned_away.map_or(pushes_nothing, |text| text.as_raw().to_owned());
    let (input, output) =
        wire().context("cannot duplicate standard input and output for the protocol")?;
    let event = |event| {
        log::event(&event);
        spoken.event(&event);
        audit.event(&event);
    };
    let stop = move || {
        let _ = signals.forever().next();
    };
    let served = match &target {
        Target::Local(store) => driver::serve(store, config, input, output, stop, event),
        #[cfg(feature = "bucket")]
        Target::Bucket(store) => driver::serve(store, config, input, output, stop, event),
        // Opening has turned a bucket that has begun into one that is open.
        _ => driver::serve(
            &Arc::new(Nowhere::new(turned_away)),
            config,
            input,
            output,
            stop,
            event,
        ),
    };
    let (code, failure) = match served.done {
        Ok(()) => (exit::DONE, None),
        Err(error) => {
            let code = exit_code(&error);
            if code == exit::REFUSED_REF {
                audit.turned_away();
            }
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::error!("{error}");
            (code, Some((code, error)))
        }
    };
    let mut objects = served.staged;
    if let Some(pulled) = &served.pulled {
        audit.pulled(pulled);
        (objects.objects, objects.bytes) = (pulled.sent.objects, pulled.sent.bytes);
    }
    audit.finish(objects, failure);
    Ok(spoken.exit_code(code))
}

/// Confines this process as far as the kernel supports it, and fails if that is less than the
/// configuration requires.
fn confine(args: &Args, prepared: &Prepared) -> Result<(), Unready> {
    let needs = match &prepared.target {
        _ if is_bucket(args.repo()) => Needs::nothing(),
        Target::Nowhere => Needs::to_read(args.repo(), LocalStore::SESSIONS),
        _ => Needs::to_write(args.repo()),
    };
    let mut absent = Vec::new();
    if args.no_sandbox {
        tracing::debug!("sandbox: disabled by --no-sandbox");
        absent.push("--no-sandbox was given".to_owned());
    } else {
        for layer in artifact_sandbox::enter(&needs) {
            let line = format!("{}: {}", layer.what, layer.status);
            tracing::debug!("sandbox: {line}");
            if matches!(layer.status, LayerStatus::Absent(_)) {
                absent.push(line);
            }
        }
    }
    if prepared.confinement == Confinement::Required && !absent.is_empty() {
        let cause = anyhow::anyhow!(
            "the configuration says `sandbox = \"required\"`, but some layers are missing: {}",
            absent.join("; ")
        );
        let text = "the server's configuration cannot be used; its log says why";
        return Err(Unready::new(text, cause));
    }
    Ok(())
}

/// Prints the help that was asked for, or the mistake in the command line.
fn print(error: &clap::Error) -> ExitCode {
    use std::io::{ErrorKind, Write};
    let printed = error.print().and_then(|()| io::stdout().flush());
    ExitCode::from(match printed {
        _ if error.use_stderr() => exit::USAGE,
        Err(why) if why.kind() != ErrorKind::BrokenPipe => exit::OTHER,
        _ => exit::DONE,
    })
}

/// Returns an id that tells this session's lines in the log from all others.
fn session_id() -> String {
    let mut random = [0; 4];
    match getrandom::fill(&mut random) {
        Ok(()) => format!("{:08x}", u32::from_ne_bytes(random)),
        // Everything else that needs random bytes will fail by itself.
        Err(_) => format!("pid{}", std::process::id()),
    }
}

/// Duplicates the descriptors, to avoid the standard library's buffers and locks.
fn wire() -> io::Result<(File, File)> {
    let input = rustix::io::dup(rustix::stdio::stdin())?;
    let output = rustix::io::dup(rustix::stdio::stdout())?;
    for end in [&input, &output] {
        // Setting the size works only on pipes, and a small pipe works as well.
        let _ = rustix::pipe::fcntl_setpipe_size(end, PIPE_LEN);
    }
    Ok((input.into(), output.into()))
}

const PIPE_LEN: usize = 1024 * 1024;
/// Signals that tell a process to stop.
const TERM_SIGNALS: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Tells a client why it gets no session, and returns the exit code.
fn tell(args: &Args, fault: Fault) -> anyhow::Result<u8> {
    let code = exit::of_close(fault.code);
    let session = ReceiverConfig {
        agent: agent(),
        pull_url: args.pull_url.as_deref().map(Text::new),
        ..ReceiverConfig::default()
    };
    let mut spoken = Spoken::new(session.pull_url.as_ref());
    let openness = args.openness(Version::default(), Some(fault));
    refuse::tell(session, openness, wire()?, |event| spoken.event(&event))?;
    Ok(spoken.exit_code(code))
}

fn exit_code(error: &driver::Error) -> u8 {
    let session = match error {
        driver::Error::Session(session) => session,
        driver::Error::Store(store) => return exit::of_close(store.to_fault().code),
        driver::Error::Answer { code, .. } => return exit::of_close(*code),
        _ => return exit::OTHER,
    };
    match session {
        SessionError::Decode(_) | SessionError::Violation(_) => exit::NOT_THE_PROTOCOL,
        SessionError::PeerClosed(_) | SessionError::Truncated => exit::CONNECTION,
        SessionError::Fault(fault) => exit::of_close(fault.code),
        _ => exit::OTHER,
    }
}
