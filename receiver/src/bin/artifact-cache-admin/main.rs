//! `artifact-cache-admin`: what the operator of a cache does on the server.
//!
//! One file a subcommand. The only program of this crate that may use libostree, where libostree is
//! the authority.

mod fsck;
mod init;
mod summary;

use std::process::ExitCode;

use artifact_protocol::exit;
use clap::{Parser, Subcommand};

/// Make and look after a shared artifact cache: an OSTree repository that is pushed to over ssh.
#[derive(Debug, Parser)]
#[command(name = "artifact-cache-admin", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Fsck(fsck::Fsck),
    Summary(summary::MakeSummary),
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Init(init) => init::run(&init),
        Command::Fsck(fsck) => fsck::run(&fsck),
        Command::Summary(summary) => summary::run(&summary),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&format!("artifact-cache-admin: {error:#}"));
            ExitCode::from(exit::STORAGE)
        }
    }
}

/// Prints a result; a reader that is gone is no error.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints what went wrong.
fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
