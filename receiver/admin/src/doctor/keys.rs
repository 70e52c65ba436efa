//! The files of the keys that log in, and what sshd demands of them.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use artifact_receiver::config::Config;

use crate::doctor::finding::{Finding, quoted, shell};
use crate::doctor::machine::{Machine, comment_out};
use crate::key_lines::{self, KeyLine};

/// A file of keys.
#[derive(Clone, Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    lines: Vec<KeyLine>,
    /// Whether the user, as whom sshd opens it, can read it.
    is_readable: bool,
    /// The file and the directories on its way that sshd looks at.
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owned {
    uid: u32,
    mode: u32,
}

type Place = (PathBuf, Owned);

/// Reads the files that sshd reads for the user.
pub(super) fn look(machine: &Machine, found: &mut Vec<Finding>) -> Vec<KeyFile> {
    let Some(sshd) = &machine.effective else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for path in sshd.key_files(&machine.user) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                let what = format!("cannot read {}: {error}", path.display());
                found.push(Finding::unseen("keys-unseen", what));
                continue;
            }
        };
        files.push(KeyFile {
            lines: key_lines::parse(&text),
            is_readable: !machine.can_be_user() || machine.user_can("test -r \"$1\"", &path),
            places: places(&path, &machine.user.dir),
            path,
        });
    }
    files
}

/// Returns the number of keys that log in, and how many have a command of their own.
pub(super) fn count(files: &[KeyFile]) -> (usize, usize) {
    let keys = || {
        files
            .iter()
            .flat_map(|file| &file.lines)
            .filter(|line| line.key.is_some())
    };
    (
        keys().count(),
        keys().filter(|line| line.command.is_some()).count(),
    )
}

/// Judges the files; `config` is the receiver's configuration, if there is one.
pub(super) fn judge(machine: &Machine, files: &[KeyFile], config: Option<&Config>) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(sshd) = &machine.effective else {
        return found;
    };
    let forced = sshd.get("forcecommand").is_some();
    for file in files {
        found.extend(judge_places(machine, file));
        found.extend(judge_lines(machine, file, config, forced));
    }
    if count(files).0 == 0 && sshd.get("authorizedkeyscommand").is_none() {
        let user = &machine.user.name;
        found.push(
            Finding::warning("keys-none", format!("no key logs in as {user}")).fix(format!(
                "artifact-cache-admin authorize --key KEY.pub --name NAME --push '**' --user {user}"
            )),
        );
    }
    found
}

fn judge_places(machine: &Machine, file: &KeyFile) -> Vec<Finding> {
    let mut found = Vec::new();
    let (user, uid) = (&machine.user.name, machine.user.uid.as_raw());
    for (path, Owned { uid: owner, mode }) in &file.places {
        let shown = path.display();
        if ![0, uid].contains(owner) {
            let what = format!(
                "{shown} belongs to neither root nor {user}, so sshd does not accept the keys"
            );
            let fix = format!("chown {user}: {}", shell(path));
            found.push(Finding::fault("keys-owner", what).fix(fix));
        } else if mode & 0o022 != 0 {
            let what = format!("others can write {shown}, so sshd does not accept the keys");
            let fix = format!("chmod go-w {}", shell(path));
            found.push(Finding::fault("keys-writable", what).fix(fix));
        }
    }
    if !file.is_readable {
        let shown = file.path.display();
        let what = format!("{user} cannot read {shown}, as whom sshd opens it");
        let closed = closed_dirs(&file.path, machine);
        let finding = Finding::fault("keys-unreadable", what);
        found.push(match closed.is_empty() {
            true => finding.fix(format!("chmod a+r {}", shell(&file.path))),
            false => finding.fix(format!("chmod a+x {}", closed.join(" "))),
        });
    }
    found
}

/// Returns the directories of a path that the user cannot enter, as words for a shell.
fn closed_dirs(path: &Path, machine: &Machine) -> Vec<String> {
    let dirs = path.ancestors().skip(1);
    let closed = dirs.filter(|dir| !machine.user_can("test -x \"$1\"", dir));
    closed.map(shell).collect()
}

fn judge_lines(
    machine: &Machine,
    file: &KeyFile,
    config: Option<&Config>,
    forced: bool,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let (path, shown) = (shell(&file.path), file.path.display());
    if forced && file.lines.iter().any(|line| line.command.is_some()) {
        let what = format!(
            "sshd ignores every command=\"...\" in {shown}, and so --identity, because there is a \
             ForceCommand"
        );
        // What is between the quotes may contain quotes, after a backslash.
        let script = r#"s/,command="([^"\\]|\\.)*"//; s/command="([^"\\]|\\.)*",?//"#;
        let fix = format!("sed -i -E {} {path}", quoted(script));
        found.push(Finding::fault("sshd-both-commands", what).fix(fix));
    }
    let with_commands = file.lines.iter().any(|line| line.command.is_some());
    for line in &file.lines {
        let number = line.number;
        // Of lines that go one by one, each keeps its number.
        let delete = || comment_out(&file.path, &[&number.to_string()]);
        let Some(key) = &line.key else {
            let what = format!("line {number} of {shown} contains no key that sshd can use");
            found.push(Finding::warning("keys-malformed", what).fix(delete()));
            continue;
        };
        let fingerprint = key.fingerprint();
        let named = |config: &Config| {
            config
                .identities
                .iter()
                .any(|i| i.any_key || i.keys.contains(&fingerprint))
        };
        if !forced && with_commands && line.command.is_none() {
            let what = format!("the key in line {number} of {shown} gets a shell, and no receiver");
            found.push(Finding::fault("keys-without-command", what).fix(delete()));
        } else if config.is_some_and(|config| forced && !named(config)) {
            let what = format!(
                "the key in line {number} of {shown} logs in, but {} grants it nothing",
                machine.config.display()
            );
            found.push(Finding::warning("keys-without-rights", what).fix(delete()));
        }
        let unknown = line.identity().filter(|_| !forced).filter(|name| {
            config.is_some_and(|config| !config.identities.iter().any(|i| i.name == *name))
        });
        if let Some(name) = unknown {
            let what = format!(
                "the key in line {number} of {shown} is {name}'s, whom {} does not name",
                machine.config.display()
            );
            found.push(Finding::warning("keys-of-nobody", what).fix(delete()));
        }
    }
    found
}

/// Returns the places that sshd's StrictModes looks at: the file, and the directories up to the
/// home, or to the root for a file elsewhere.
fn places(path: &Path, home: &Path) -> Vec<Place> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let home = home.canonicalize().unwrap_or_else(|_| home.to_owned());
    let mut places = Vec::new();
    for place in path.ancestors() {
        if let Ok(metadata) = place.metadata() {
            let (uid, mode) = (metadata.uid(), metadata.mode());
            places.push((place.to_owned(), Owned { uid, mode }));
        }
        if place == home {
            break;
        }
    }
    places
}
