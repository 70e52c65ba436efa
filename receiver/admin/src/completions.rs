//! `artifact-cache-admin completions`, and the candidates for the shells that use its script.
//!
//! The script asks this program for each completion, so that refs are the current ones.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs};

use artifact_formats::RefName;
use artifact_protocol::exit;
use clap::{Command, ValueEnum};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use crate::output::say;

/// Print a script that completes commands and refs in your shell.
///
/// Packages install it.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(args: &Completions) -> anyhow::Result<u8> {
    let (name, first_call) = match args.shell {
        Shell::Bash => ("bash", ""),
        // Loaded as a function, the script has to complete at its first call as well.
        Shell::Zsh => ("zsh", ZSH_FIRST_CALL),
        Shell::Fish => ("fish", ""),
    };
    let mut script = Vec::new();
    if let Some(writer) = Shells::builtins().completer(name) {
        writer.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
    }
    say(&format!("{}{first_call}", String::from_utf8(script)?));
    Ok(exit::DONE)
}

/// Answers a shell that asks for completions, and returns whether one did.
pub(crate) fn answer(command: fn() -> Command) -> Result<bool, clap::Error> {
    let current_dir = env::current_dir().ok();
    let command = move || {
        command().mut_subcommand("remove", |remove| {
            remove.mut_arg("refs", |refs| {
                refs.add(ArgValueCompleter::new(refs_of_repo))
            })
        })
    };
    CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .try_complete(env::args_os(), current_dir.as_deref())
}

/// Returns the refs of the repository that is among the words typed so far.
fn refs_of_repo(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = env::args_os().skip_while(|word| word != "--").skip(1);
    let mut heads = words.map(|word| PathBuf::from(word).join("refs/heads"));
    let Some(heads) = heads.find(|heads| heads.is_dir()) else {
        return Vec::new();
    };
    let mut refs = Vec::new();
    collect(&heads, "", &current.to_string_lossy(), &mut refs);
    refs.sort_unstable();
    refs.into_iter().map(CompletionCandidate::new).collect()
}

/// Adds the refs below a directory that begin as typed.
fn collect(dir: &Path, prefix: &str, typed: &str, refs: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let may_match = name.starts_with(typed) || typed.starts_with(&name);
        match entry.file_type() {
            _ if !may_match || refs.len() == MAX_REFS => {}
            Ok(kind) if kind.is_dir() => {
                collect(&entry.path(), &format!("{name}/"), typed, refs);
            }
            Ok(_) if name.starts_with(typed) && name.parse::<RefName>().is_ok() => refs.push(name),
            _ => {}
        }
    }
}

const NAME: &str = "artifact-cache-admin";
/// The variable by which a shell asks.
const VARIABLE: &str = "_ARTIFACT_CACHE_ADMIN_COMPLETE";
const ZSH_FIRST_CALL: &str = "
if [ \"$funcstack[1]\" = _artifact-cache-admin ]; then
    _clap_dynamic_completer_artifact_cache_admin \"$@\"
fi
";
/// More than that nobody reads.
const MAX_REFS: usize = 1_000;
