//! `artifact-cache-serve`: serves the repository of an artifact cache over https.
//!
//! It opens its files and sockets, gives up the rights of root, confines itself, and serves. The
//! access log goes to standard output, everything else to standard error. It contains nothing of
//! libostree.

mod args;
mod log;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use artifact_lines::Lines;
use artifact_protocol::exit;
use artifact_serve::{AccessLog, Config, Error, ListenError, Notifier, Order, Server};
use clap::{CommandFactory, Parser};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

use self::args::{Args, Usage};

/// Returns the definition of the command line, from which the manual page is made.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program, and returns its exit code.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return print(&error),
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let said = log::start(match (args.debug, args.verbose) {
        (true, _) => tracing::Level::DEBUG,
        (false, true) => tracing::Level::INFO,
        (false, false) => tracing::Level::WARN,
    });
    let access = args.log.format().map(|format| AccessLog {
        format,
        lines: Lines::new(GATHER),
    });
    let ended = run(&args, access.as_ref(), &said);
    let code = match ended {
        Ok(()) => exit::DONE,
        Err(error) => {
            tracing::error!("{error:#}");
            exit_code(&error)
        }
    };
    if let Some(log) = access {
        log.lines.flush();
    }
    said.flush();
    ExitCode::from(code)
}

fn run(args: &Args, access: Option<&AccessLog>, said: &Arc<Lines>) -> anyhow::Result<()> {
    let log_file = access.map(|_| args.open_log()).transpose()?;
    let notifier = Notifier::from_env().context("cannot reach the service manager")?;
    let sockets = args.sockets()?;
    args.become_user()?;
    let certificate = args.certificate();
    let server = Server::open(Config {
        repo: args.repo.clone(),
        at: args.at.clone(),
        certificate: certificate.clone(),
        connections_max: args.connections(),
        connections_each_max: usize::try_from(args.connections_each)?,
        log: access.cloned(),
        page: args.page(),
        pulls: args.pulls()?,
    })?;
    // The sandbox denies the sockets by which a signal wakes a thread.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot hear signals")?;
    args.confine(certificate.as_ref());
    // Threads that start from here on are confined as well.
    (said.start()).context("cannot start the thread that writes the log")?;
    if let (Some(log), Some(file)) = (access, log_file) {
        log.lines.aim(Some(file));
        let started = log.lines.start();
        started.context("cannot start the thread that writes the access log")?;
    }
    let orders = obey(signals)?;
    Ok(server.run(sockets, orders, &notifier)?)
}

/// Turns signals into orders.
fn obey(mut signals: Signals) -> anyhow::Result<mpsc::UnboundedReceiver<Order>> {
    let (give, orders) = mpsc::unbounded_channel();
    let listen = move || {
        for signal in signals.forever() {
            let order = if signal == SIGHUP {
                Order::Reload
            } else {
                Order::Stop
            };
            if give.send(order).is_err() {
                return;
            }
        }
    };
    let started = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen);
    started.context("cannot start the thread that hears signals")?;
    Ok(orders)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() || error.is::<ListenError>() {
        return exit::USAGE;
    }
    match error.downcast_ref() {
        Some(Error::Repository { .. } | Error::Page { .. } | Error::Pulls { .. }) => exit::STORAGE,
        Some(Error::Certificate(_) | Error::Listen(_)) => exit::USAGE,
        _ => exit::OTHER,
    }
}

/// Prints help or the version, or the fault of the command line.
fn print(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    ExitCode::from(match printed {
        _ if error.use_stderr() => exit::USAGE,
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => exit::OTHER,
        _ => exit::DONE,
    })
}

/// Lines of the access log that come within this time are written together.
const GATHER: Duration = Duration::from_millis(10);
