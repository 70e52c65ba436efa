//! `artifact-cache-admin`: what the operator of a cache does on the server.
//!
//! One file a subcommand. The only program of this crate that may use libostree, where libostree is
//! the authority.

mod authorize;
mod fsck;
mod init;
mod prune;
mod remove;
mod server;
mod status;
mod summary;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use artifact_protocol::exit;
use artifact_receiver::{privilege, ulimits};
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
    Authorize(authorize::Authorize),
    Fsck(fsck::Fsck),
    Remove(remove::Remove),
    Prune(prune::Prune),
    Status(status::StatusArgs),
    Summary(summary::MakeSummary),
}

fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    ulimits::survive_long_files();
    let result = match Args::parse().command {
        Command::Init(init) => init::run(&init),
        Command::Authorize(authorize) => authorize::run(&authorize),
        Command::Fsck(fsck) => fsck::run(&fsck),
        Command::Remove(remove) => remove::run(&remove),
        Command::Prune(prune) => prune::run(&prune),
        Command::Status(status) => status::run(&status),
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

/// Goes on as the owner of the repository, where root was told to work on somebody else's.
fn become_owner_of(repo: &Path) -> anyhow::Result<()> {
    privilege::become_owner_of(repo)
        .with_context(|| format!("cannot become the owner of {}", repo.display()))?;
    Ok(())
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
