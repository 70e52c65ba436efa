//! `artifact-cache-admin doctor`.
//!
//! A file for each area. Each looks at the machine first and judges then, so that the judgement can
//! be tried without a machine. `look.rs` runs other programs, `finding.rs` is what comes of it.
//! Nothing here changes anything.

mod account;
#[cfg(feature = "bucket")]
mod bucket;
mod certificate;
mod clock;
mod disk;
mod effective;
mod finding;
mod keys;
mod look;
mod machine;
mod refs;
mod repository;
mod settings;
mod sshd;
mod web;

use std::cmp::Reverse;
use std::path::PathBuf;

use artifact_formats::counted;
use artifact_protocol::{escape_json, escape_line, exit};
use serde::Serialize;

use self::finding::{Finding, Severity};
use self::machine::{Machine, Told};
use crate::output::say;

/// Look for what keeps a cache from working, and say how to mend it.
///
/// Looks at sshd's settings for the user, the user's account and keys, the receiver and its
/// configuration, the disk, the repository, its refs and summary, and the address to pull from.
/// Names each fault, with commands to copy that mend it. Changes nothing, and takes some seconds;
/// run it as root, since only root sees everything.
///
/// Of a cache in object storage, it looks at the check of the bucket, its contents, what everybody
/// may read, and the clock.
///
/// Exits with 0 if all is well, with 10 if there are warnings, and with 11 if there are faults.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    told: Told,
    /// Print one JSON object a line: each finding, and then how many there are
    #[arg(long)]
    json: bool,
    /// The repository, or s3://bucket/prefix
    repo: PathBuf,
}

pub(crate) fn run(args: &Doctor) -> anyhow::Result<u8> {
    let mut found = Vec::new();
    if crate::bucket::is_meant_by(&args.repo) {
        found = in_bucket(args)?;
    } else {
        let machine = Machine::look(&args.repo, &args.told, &mut found)?;
        examine(&machine, &mut found);
    }
    found.sort_by_key(|finding| Reverse(finding.severity));
    if args.json {
        print_json(&found)?;
    } else {
        print_text(&found);
    }
    Ok(match found.first().map(|finding| finding.severity) {
        Some(Severity::Fault) => exit::FAULTS,
        Some(Severity::Warning) => exit::WARNINGS,
        Some(Severity::Unseen) | None => exit::DONE,
    })
}

#[cfg(feature = "bucket")]
fn in_bucket(args: &Doctor) -> anyhow::Result<Vec<Finding>> {
    bucket::examine(&args.repo, args.told.config())
}

#[cfg(not(feature = "bucket"))]
fn in_bucket(_: &Doctor) -> anyhow::Result<Vec<Finding>> {
    anyhow::bail!(crate::bucket::LACKS)
}

fn examine(machine: &Machine, found: &mut Vec<Finding>) {
    let config = settings::read(machine, found);
    let key_files = keys::look(machine, found);
    let (pushers, commands) = keys::count(&key_files);
    found.extend(sshd::judge(machine, pushers, commands));
    found.extend(keys::judge(machine, &key_files, config.as_ref()));
    found.extend(account::check(machine));
    if let Some(config) = &config {
        found.extend(settings::check(machine, config));
    }
    let own = repository::config(machine, found);
    let settings = config.clone().unwrap_or_default();
    found.extend(disk::check(
        machine,
        own.as_ref(),
        settings.limits.head_room(),
    ));
    found.extend(repository::check_files(machine));
    if let Some(own) = &own {
        found.extend(repository::judge_options(machine, own));
        found.extend(refs::check(machine, &settings.summary));
    }
    found.extend(clock::check());
    found.extend(web::check(machine, config.as_ref()));
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    Finding(&'a Finding),
    Checked {
        faults: usize,
        warnings: usize,
        unseen: usize,
    },
}

fn count(found: &[Finding], severity: Severity) -> usize {
    found
        .iter()
        .filter(|finding| finding.severity == severity)
        .count()
}

fn print_json(found: &[Finding]) -> anyhow::Result<()> {
    for finding in found {
        say(&escape_json(&serde_json::to_string(&Line::Finding(
            finding,
        ))?));
    }
    let checked = Line::Checked {
        faults: count(found, Severity::Fault),
        warnings: count(found, Severity::Warning),
        unseen: count(found, Severity::Unseen),
    };
    say(&serde_json::to_string(&checked)?);
    Ok(())
}

fn print_text(found: &[Finding]) {
    for Finding {
        id,
        severity,
        what,
        fix,
    } in found
    {
        let severity = match severity {
            Severity::Fault => "fault",
            Severity::Warning => "warning",
            Severity::Unseen => "not seen",
        };
        say(&escape_line(&format!("{severity}: {what} [{id}]")));
        for command in fix {
            say(&escape_line(&format!("    {command}")));
        }
    }
    let of = |severity, thing| counted(count(found, severity) as u64, thing);
    say(&format!(
        "{}, {}",
        of(Severity::Fault, "fault"),
        of(Severity::Warning, "warning")
    ));
}
