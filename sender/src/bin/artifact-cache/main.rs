//! `artifact-cache`: pushes commits of a local OSTree repository to a shared cache.
//!
//! Arguments, printing and exit codes only; the work is the library's.

mod args;
mod check;
mod output;
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
            Command::Check(check) => check::run(check, &args, &output).await,
        }
    });
    ExitCode::from(code)
}
