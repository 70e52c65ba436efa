//! `artifact-cache completions`, and the candidates for the shells that use its script.
//!
//! The script asks this program for each completion, so that refs and caches are the current ones.
//! A question takes two seconds at most, and a failure means no candidates: nothing may be printed
//! into a command line that somebody is typing.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, thread};

use artifact_sender::RefName;
use clap::CommandFactory;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use crate::args::{Args, Shell};
use crate::config::{Directories, load};

/// Prints the script that makes a shell ask this program for completions.
pub(crate) fn print(shell: Shell) -> io::Result<()> {
    let mut out = Vec::new();
    let shells = Shells::builtins();
    if let Some(writer) = shells.completer(shell.name()) {
        writer.write_registration(VARIABLE, NAME, NAME, NAME, &mut out)?;
    }
    if shell == Shell::Zsh {
        // Loaded as a function, the script has to complete at its first call as well.
        out.extend_from_slice(ZSH_FIRST_CALL.as_bytes());
    }
    io::stdout().write_all(&out)
}

/// Answers a shell that asks for completions, and returns whether one did.
pub(crate) fn answer() -> Result<bool, clap::Error> {
    let current_dir = env::current_dir().ok();
    CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .try_complete(env::args_os(), current_dir.as_deref())
}

/// Returns the command line, with completers for the arguments that name refs and caches.
fn command() -> clap::Command {
    let with = |command: clap::Command, arg: &'static str, complete: fn(&OsStr) -> Candidates| {
        command.mut_arg(arg, |arg| arg.add(ArgValueCompleter::new(complete)))
    };
    Args::command()
        .mut_subcommand("push", |push| {
            with(with(push, "refs", local_refs), "remote", caches)
        })
        .mut_subcommand("list", |list| {
            with(with(list, "pattern", refs_of_caches), "remote", caches)
        })
        .mut_subcommand("check", |check| with(check, "remote", caches))
        .mut_subcommand("pull", |pull| {
            let pull = with(with(pull, "refs", refs_of_caches), "remote", caches);
            with(pull, "all", refs_of_caches)
        })
}

type Candidates = Vec<CompletionCandidate>;

/// Returns the configured caches.
fn caches(current: &OsStr) -> Candidates {
    let config = option(&words(), "--config").map(PathBuf::from);
    let Ok(Some(config)) = load(config.as_deref(), &Directories::of_environment()) else {
        return Vec::new();
    };
    let caches = config.caches.iter().map(|cache| cache.address.to_string());
    candidates(caches.collect(), &current.to_string_lossy())
}

/// Returns the refs of the local repository.
fn local_refs(current: &OsStr) -> Candidates {
    let repo = option(&words(), "--repo").map(OsString::from);
    let repo = repo.or_else(|| env::var_os("OSTREE_REPO").filter(|path| !path.is_empty()));
    let heads = expanded(repo.as_deref().unwrap_or(OsStr::new("."))).join("refs/heads");
    let mut refs = Vec::new();
    collect(&heads, "", &mut refs);
    candidates(refs, &current.to_string_lossy())
}

/// Adds the names of the refs below a directory.
fn collect(dir: &Path, prefix: &str, refs: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if refs.len() == MAX_REFS {
            return;
        }
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), &format!("{name}/"), refs),
            Ok(_) if name.parse::<RefName>().is_ok() => refs.push(name),
            _ => {}
        }
    }
}

/// Returns the refs of the caches that the command line names, or of the configured ones.
///
/// `artifact-cache list` asks the caches, as a process of its own that can be given up.
fn refs_of_caches(current: &OsStr) -> Candidates {
    let words = words();
    let Ok(program) = env::current_exe() else {
        return Vec::new();
    };
    let mut list = Command::new(program);
    list.args(["list", "--json", "--retries", "0"]);
    for name in ["--remote", "--config", "--ssh", "--ca"] {
        if let Some(value) = option(&words, name) {
            list.arg(name).arg(value);
        }
    }
    if env::var_os(SSH).is_none_or(|command| command.is_empty()) {
        // A key that ssh would have to ask for cannot be asked for now.
        list.env(SSH, "ssh -o BatchMode=yes -o ConnectTimeout=2");
    }
    let text = output_of(&mut list).unwrap_or_default();
    let names = text.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(
            line.get("name")?
                .as_str()?
                .parse::<RefName>()
                .ok()?
                .to_string(),
        )
    });
    candidates(names.collect(), &current.to_string_lossy())
}

/// Returns what a program prints, unless it fails or takes too long.
fn output_of(command: &mut Command) -> Option<String> {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let mut stdout = child.stdout.take()?;
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        let _ = tell.send(read.ok().map(|_| text));
    });
    let text = told.recv_timeout(PATIENCE).ok().flatten();
    let _ = child.kill();
    let _ = child.wait();
    text
}

/// Returns the names that begin as typed; where they are many, only up to their next slash.
fn candidates(names: Vec<String>, typed: &str) -> Candidates {
    let mut names: Vec<_> = (names.into_iter())
        .filter(|name| name.starts_with(typed))
        .collect();
    if names.len() > MAX_SHOWN {
        for name in &mut names {
            let rest = name.get(typed.len()..).unwrap_or_default();
            if let Some(slash) = rest.find('/') {
                name.truncate(typed.len() + slash + 1);
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Returns the words of the command line that is being typed.
fn words() -> Vec<String> {
    let words = env::args_os().skip_while(|word| word != "--").skip(1);
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// Returns the value of an option. bash splits words at `=` and `:`.
fn option(words: &[String], name: &str) -> Option<String> {
    let at = words.iter().position(|word| {
        let rest = word.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })?;
    if let Some((_, value)) = words.get(at)?.split_once('=') {
        return Some(value.to_owned());
    }
    let mut rest = words.iter().skip(at + 1).map(String::as_str).peekable();
    rest.next_if_eq(&"=");
    let mut value = rest.next().filter(|value| !value.is_empty())?.to_owned();
    while rest.next_if_eq(&":").is_some() {
        value.push(':');
        value.push_str(rest.next().unwrap_or_default());
    }
    Some(value)
}

/// Returns the path with the home directory in the place of `~`, which no shell has replaced yet.
fn expanded(path: &OsStr) -> PathBuf {
    let home = env::var_os("HOME").map(PathBuf::from);
    match (Path::new(path).strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

const NAME: &str = "artifact-cache";
/// The variable by which a shell asks.
const VARIABLE: &str = "_ARTIFACT_CACHE_COMPLETE";
const SSH: &str = "ARTIFACT_CACHE_SSH";
const ZSH_FIRST_CALL: &str = "
if [ \"$funcstack[1]\" = _artifact-cache ]; then
    _clap_dynamic_completer_artifact_cache \"$@\"
fi
";
const PATIENCE: Duration = Duration::from_secs(2);
/// Refs of a local repository beyond this number are not looked at.
const MAX_REFS: usize = 50_000;
/// More candidates than that are shown up to their next slash only.
const MAX_SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn option_of(line: &str, name: &str) -> Option<String> {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        option(&words, name)
    }

    #[test]
    fn an_option_is_found_however_the_shell_splits_its_words() {
        let expected = Some("ssh://a@b:10/c".to_owned());
        for line in [
            "push --remote ssh://a@b:10/c x",
            "push --remote=ssh://a@b:10/c x",
            "push --remote ssh : //a@b : 10/c x",
            "push --remote = ssh : //a@b : 10/c x",
        ] {
            assert_eq!(option_of(line, "--remote"), expected, "{line}");
        }
        for line in [
            "push",
            "push --remote",
            "push --remotely x",
            "push --remote ",
        ] {
            assert_eq!(option_of(line, "--remote"), None, "{line}");
        }
    }

    #[test]
    fn many_refs_are_shown_up_to_their_next_slash() {
        let shown = |count: usize, typed: &str| -> Vec<String> {
            let names = (0..count).map(|n| format!("app/{}/{n}", n % 3)).collect();
            let candidates = candidates(names, typed);
            let values = candidates
                .iter()
                .map(|c| c.get_value().to_string_lossy().into_owned());
            values.collect()
        };
        assert_eq!(shown(2, "a"), ["app/0/0", "app/1/1"]);
        assert_eq!(shown(1000, "ap"), ["app/"]);
        assert_eq!(shown(1000, "app/"), ["app/0/", "app/1/", "app/2/"]);
        assert_eq!(shown(1000, "b"), [""; 0]);
    }
}
