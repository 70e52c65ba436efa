//! `artifact-cache-admin`: the commands that the operator of a cache runs on the server.
//!
//! One file a subcommand. This is the only program of the receiver's that may use libostree, where
//! libostree is the authority.

mod authorize;
mod bucket;
mod check;
mod command;
mod completions;
mod config;
mod doctor;
mod fsck;
mod init;
mod key_lines;
mod metrics;
mod mirror;
mod output;
mod owner;
mod page;
mod prune;
mod remove;
mod selftest;
mod server;
mod status;
mod summary;

use std::process::ExitCode;

use artifact_protocol::exit;
use artifact_receiver::ulimits;
use clap::{CommandFactory, Parser, Subcommand};

/// Create and maintain a shared artifact cache: an OSTree repository that users push to over ssh
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
    Check(check::CheckArgs),
    Config(config::ConfigArgs),
    Doctor(doctor::Doctor),
    Fsck(fsck::Fsck),
    Revoke(authorize::revoke::Revoke),
    Remove(remove::Remove),
    Prune(prune::Prune),
    Metrics(metrics::WriteMetrics),
    Mirror(mirror::Mirror),
    Page(page::WritePage),
    #[command(name = "selftest")]
    SelfTest(selftest::SelfTest),
    Status(status::StatusArgs),
    Summary(summary::MakeSummary),
    Completions(completions::Completions),
}

/// Returns the definition of the command line, from which the manual page is made.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program, and returns its exit code.
pub fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    ulimits::survive_long_files();
    match completions::answer(Args::command) {
        Ok(true) => return ExitCode::from(exit::DONE),
        Ok(false) => {}
        Err(error) => return print(&error),
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return print(&error),
    };
    let result = match args.command {
        Command::Init(init) => init::run(&init),
        Command::Authorize(authorize) => authorize::run(&authorize),
        Command::Check(check) => check::run(&check),
        Command::Config(config) => config::run(&config),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::Fsck(fsck) => fsck::run(&fsck),
        Command::Revoke(revoke) => authorize::revoke::run(&revoke),
        Command::Remove(remove) => remove::run(&remove),
        Command::Prune(prune) => prune::run(&prune),
        Command::Metrics(metrics) => metrics::run(&metrics),
        Command::Mirror(mirror) => mirror::run(&mirror),
        Command::Page(page) => page::run(&page),
        Command::SelfTest(selftest) => selftest::run(&selftest),
        Command::Status(status) => status::run(&status),
        Command::Summary(summary) => summary::run(&summary),
        Command::Completions(completions) => completions::run(&completions),
    };
    let code = match result {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("artifact-cache-admin: {error:#}"));
            exit::STORAGE
        }
    };
    output::finish(code)
}

/// Prints the help that was asked for, or the mistake in the command line.
fn print(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() {
        return ExitCode::from(exit::USAGE);
    }
    output::note_failure(printed);
    output::finish(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_reports_can_report_as_json() {
        let mut left: Vec<_> = command().get_subcommands().cloned().collect();
        while let Some(command) = left.pop() {
            let name = command.get_name();
            let mut args = command.get_arguments();
            let is_script = name == "completions";
            let has_json = args.any(|arg| arg.get_long() == Some("json"));
            assert!(has_json || is_script || command.has_subcommands(), "{name}");
            left.extend(command.get_subcommands().cloned());
        }
    }
}
