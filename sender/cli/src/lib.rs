//! `artifact-cache`: pushes commits of a local OSTree repository to a shared cache, and pulls them.
//!
//! Arguments, printing and exit codes only; the library does the work.

mod address;
mod args;
mod caches;
mod check;
mod completions;
mod config;
mod join;
mod list;
mod origin;
mod output;
mod progress;
mod pull;
mod push;
mod retry;
mod session;
mod settings;
mod signals;
mod trouble;
mod unread;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use artifact_protocol::exit;
use clap::CommandFactory;

use crate::args::{Args, Command};
use crate::output::Output;

/// Returns the definition of the command line, from which the manual page is made.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program, and returns its exit code.
pub fn main() -> ExitCode {
    match completions::answer() {
        Ok(true) => return ExitCode::from(exit::DONE),
        Ok(false) => {}
        Err(error) => return print(&error),
    }
    let args = match Args::read() {
        Ok(args) => args,
        Err(error) => return print(&error),
    };
    let output = Arc::new(Output::new(&args));
    signals::watch(&output);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output.error(&format!("cannot start: {error}"), None);
            return ExitCode::from(exit::OTHER);
        }
    };
    let code = runtime.block_on(async {
        match &args.command {
            Command::Push(push) => push::run(push, &args, &output).await,
            Command::Pull(pull) => pull::run(pull, &args, &output).await,
            Command::List(list) => list::run(list, &args, &output).await,
            Command::Check(check) => check::run(check, &args, &output).await,
            Command::Join(join) => join::run(join, &args, &output).await,
            Command::Config(shown) => settings::run(shown, &args, &output),
            Command::Completions(completions) => {
                output.printed(completions::print(completions.shell));
                exit::DONE
            }
        }
    });
    ExitCode::from(output.finish(code))
}

/// Prints the help that was asked for, or the mistake in the command line.
fn print(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    match printed {
        Err(why) if !error.use_stderr() && why.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "artifact-cache: {}", output::unwritable(why));
            ExitCode::from(exit::OTHER)
        }
        _ if error.use_stderr() => ExitCode::from(exit::USAGE),
        _ => ExitCode::from(exit::DONE),
    }
}
