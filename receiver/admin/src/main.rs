//! `artifact-cache-admin`: what the operator of a cache does on the server.
//!
//! One file a subcommand. The only program of this crate that may use libostree, where libostree is
//! the authority.

mod authorize;
mod fsck;
mod init;
mod page;
mod prune;
mod remove;
mod server;
mod status;
mod summary;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

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
    Page(page::WritePage),
    Status(status::StatusArgs),
    Summary(summary::MakeSummary),
}

fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    ulimits::survive_long_files();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return print(&error),
    };
    let result = match args.command {
        Command::Init(init) => init::run(&init),
        Command::Authorize(authorize) => authorize::run(&authorize),
        Command::Fsck(fsck) => fsck::run(&fsck),
        Command::Remove(remove) => remove::run(&remove),
        Command::Prune(prune) => prune::run(&prune),
        Command::Page(page) => page::run(&page),
        Command::Status(status) => status::run(&status),
        Command::Summary(summary) => summary::run(&summary),
    };
    let code = match result {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("artifact-cache-admin: {error:#}"));
            exit::STORAGE
        }
    };
    note_failure(std::io::stdout().flush());
    match UNWRITABLE.get() {
        Some(why) => {
            complain_of_output(why);
            ExitCode::from(if code == exit::DONE {
                exit::OTHER
            } else {
                code
            })
        }
        None => ExitCode::from(code),
    }
}

/// Prints what was asked for in the place of a command, such as help; or what is wrong with it.
fn print(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    if error.use_stderr() {
        return ExitCode::from(exit::USAGE);
    }
    note_failure(printed);
    match UNWRITABLE.get() {
        Some(why) => {
            complain_of_output(why);
            ExitCode::from(exit::OTHER)
        }
        None => ExitCode::from(exit::DONE),
    }
}

/// Goes on as the owner of the repository, where root was told to work on somebody else's.
fn become_owner_of(repo: &Path) -> anyhow::Result<()> {
    privilege::become_owner_of(repo)
        .with_context(|| format!("cannot become the owner of {}", repo.display()))?;
    Ok(())
}

/// Prints a result. One that cannot be printed is told at the end; a reader that is gone is no error.
fn say(line: &str) {
    note_failure(writeln!(std::io::stdout(), "{line}"));
}

/// Prints what went wrong.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn note_failure(printed: std::io::Result<()>) {
    if let Err(error) = printed
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITABLE.set(error.to_string());
    }
}

fn complain_of_output(why: &str) {
    complain(&format!(
        "artifact-cache-admin: cannot write to standard output: {why}"
    ));
}

/// Why a result could not be printed, if one could not.
static UNWRITABLE: OnceLock<String> = OnceLock::new();
