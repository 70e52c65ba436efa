//! `artifact-cache`: pushes commits of a local OSTree repository to a shared cache, and pulls them.
//!
//! Arguments, printing and exit codes only; the work is the library's.

mod address;
mod args;
mod caches;
mod check;
mod config;
mod list;
mod origin;
mod output;
#[cfg(feature = "pull")]
mod pull;
mod push;
mod session;
mod trouble;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::output::Output;

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(&args);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output.error(&format!("cannot start: {error}"), None);
            return ExitCode::from(artifact_protocol::exit::OTHER);
        }
    };
    let code = runtime.block_on(async {
        match &args.command {
            Command::Push(push) => push::run(push, &args, &output).await,
            #[cfg(feature = "pull")]
            Command::Pull(pull) => pull::run(pull, &args, &output).await,
            Command::List(list) => list::run(list, &args, &output).await,
            Command::Check(check) => check::run(check, &args, &output).await,
        }
    });
    ExitCode::from(code)
}

/// What this program calls itself to servers.
const AGENT: &str = concat!("artifact-cache ", env!("CARGO_PKG_VERSION"));
