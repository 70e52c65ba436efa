//! The repository's own files: its options, whom they belong to, what is left over.

use std::fs::{self, DirEntry, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use artifact_formats::{LockTimeout, RepoConfig, RepoMode, counted};

use crate::doctor::finding::{Finding, shell};
use crate::doctor::machine::{Machine, SERVE_AGAIN};

/// Reads the repository's `config`.
pub(super) fn config(machine: &Machine, found: &mut Vec<Finding>) -> Option<RepoConfig> {
    let path = machine.repo.join("config");
    let anew = format!(
        "printf '[core]\\nrepo_version=1\\nmode=archive-z2\\n' >{0} && chown {1}: {0}",
        shell(&path),
        machine.owner.name
    );
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let what = format!("cannot read {}: {error}", path.display());
            found.push(Finding::fault("repository-config", what).fix(anew));
            return None;
        }
    };
    match RepoConfig::parse(&text) {
        Ok(config) => Some(config),
        Err(error) => {
            let what = format!("the repository's config cannot be used: {error}");
            found.push(Finding::fault("repository-config", what).fix(anew));
            None
        }
    }
}

/// Judges the options.
pub(super) fn judge_options(machine: &Machine, config: &RepoConfig) -> Vec<Finding> {
    let mut found = Vec::new();
    let repo = shell(&machine.repo);
    let set = |key: &str, value: &str| {
        machine.as_owner(&format!(
            "ostree config --repo={repo} set core.{key} {value}"
        ))
    };
    let mut add = |finding: Finding, fix: String| found.push(finding.fix(fix));
    if let Some(parent) = &config.parent {
        let what =
            format!("the repository borrows objects from {parent}, which no puller of it can see");
        // ostree does not run where the parent is gone.
        let fix = format!("sed -i '/^[[:space:]]*parent[[:space:]]*=/d' {repo}/config");
        add(Finding::fault("repository-parent", what), fix);
    }
    if config.mode != RepoMode::Archive {
        let what = format!(
            "the repository is of mode {}, and only archives can be pulled from over https",
            config.mode.as_str()
        );
        let fix = format!(
            "ostree init --repo={repo}.new --mode=archive && ostree pull-local --repo={repo}.new \
             {repo} && mv {repo} {repo}.old && mv {repo}.new {repo} && chown -R {}: {repo}",
            machine.owner.name
        );
        let finding = Finding::fault("repository-mode", what).fix(fix);
        add(
            finding.fix(machine.admin("summary")),
            SERVE_AGAIN.to_owned(),
        );
    }
    if !config.fsync {
        let what = "fsync=false: a power cut takes back what ostree wrote";
        add(
            Finding::fault("repository-fsync", what),
            set("fsync", "true"),
        );
    }
    if !config.locking {
        let what = "locking=false: a prune of ostree's removes what is being pushed";
        add(
            Finding::fault("repository-locking", what),
            set("locking", "true"),
        );
    }
    let patience = match config.lock_timeout {
        LockTimeout::Seconds(seconds) if (10..=3600).contains(&seconds) => None,
        LockTimeout::Seconds(seconds) => {
            Some(format!("after {}", counted(seconds.into(), "second")))
        }
        LockTimeout::Never => Some("never".to_owned()),
    };
    if let Some(patience) = patience {
        let what = format!("who waits for the repository's lock gives up {patience}");
        let finding = Finding::warning("repository-lock-timeout", what);
        add(finding, set("lock-timeout-secs", "300"));
    }
    found
}

/// Looks at the repository's directories and what is in them.
pub(super) fn check_files(machine: &Machine) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(check_dirs(machine));
    found.extend(check_left_over(machine));
    found.extend(judge_walk(
        machine,
        &walk(&machine.repo, machine.owner.uid.as_raw()),
    ));
    found
}

fn check_dirs(machine: &Machine) -> Option<Finding> {
    let missing = DIRS.iter().find(|dir| !machine.repo.join(dir).is_dir())?;
    let what = format!("the repository has no directory {missing}");
    Some(Finding::fault("repository-directories", what).fix(machine.admin("init")))
}

/// What sessions and programs have left behind.
fn check_left_over(machine: &Machine) -> Vec<Finding> {
    let mut found = Vec::new();
    let own = machine.repo.join("extensions/artifact-cache");
    let old = |dir: &Path, age: Duration| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let aged = |entry: &DirEntry| {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let since = modified
                .ok()
                .and_then(|at| SystemTime::now().duration_since(at).ok());
            since.is_some_and(|since| since > age)
        };
        entries
            .filter(aged)
            .filter(|entry| entry.file_name() != "cache")
            .count() as u64
    };
    let staged = old(&own.join("staging"), DAY + Duration::from_secs(60 * 60));
    if staged > 0 {
        let what = format!(
            "{} that nobody took up again within a day still take space",
            counted(staged, "interrupted push")
        );
        found.push(Finding::warning("staging-stale", what).fix(machine.admin("prune")));
    }
    let tmp = machine.repo.join("tmp");
    let left = old(&tmp, DAY);
    if left > 0 {
        let what = format!(
            "{} in {} are older than a day",
            counted(left, "leftover"),
            tmp.display()
        );
        let fix = machine.as_owner(&format!(
            "find {} -mindepth 1 -maxdepth 1 ! -name cache -mtime +0 -exec rm -r {{}} +",
            shell(&tmp)
        ));
        found.push(Finding::warning("tmp-stale", what).fix(fix));
    }
    let quarantine = own.join("quarantine");
    let damaged = fs::read_dir(&quarantine).into_iter().flatten().count() as u64;
    if damaged > 0 {
        let what = format!(
            "`fsck --repair` has put {} aside; they are of use until all is complete again",
            counted(damaged, "damaged object")
        );
        let fix = format!(
            "{} && rm -r {}",
            machine.admin("fsck --quiet"),
            shell(&quarantine)
        );
        found.push(Finding::warning("quarantine", what).fix(fix));
    }
    found
}

/// What a walk has met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Walked {
    /// A file that belongs to somebody else.
    foreign: Option<PathBuf>,
    /// A file that others may write.
    writable: Option<PathBuf>,
    /// Objects that have another name outside of the repository.
    linked: u64,
    is_whole: bool,
}

/// Walks through the repository, as far as [`WALK_MAX`] suffices.
fn walk(repo: &Path, owner: u32) -> Walked {
    let begun = Instant::now();
    let mut walked = Walked {
        is_whole: true,
        ..Walked::default()
    };
    // Staged objects are links of objects, and both are ours.
    let mut linked: Vec<(u64, u64)> = Vec::new();
    let mut dirs = vec![repo.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            // What vanishes meanwhile is nobody's fault.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let path = entry.path();
            note(&mut walked, &path, &metadata, owner);
            if metadata.is_dir() {
                dirs.push(path);
            } else if metadata.is_file() && metadata.nlink() > 1 {
                linked.push((metadata.ino(), metadata.nlink()));
            }
        }
        if begun.elapsed() > WALK_MAX {
            walked.is_whole = false;
            break;
        }
    }
    walked.linked = linked_outside(linked);
    walked
}

/// Counts files that have more names than were met.
fn linked_outside(mut names: Vec<(u64, u64)>) -> u64 {
    names.sort_unstable();
    let files = names.chunk_by(|a, b| a.0 == b.0);
    let outside = files.filter(|names| names.iter().any(|(_, n)| *n > names.len() as u64));
    outside.count() as u64
}

fn note(walked: &mut Walked, path: &Path, metadata: &Metadata, owner: u32) {
    if metadata.uid() != owner {
        walked.foreign.get_or_insert_with(|| path.to_owned());
    }
    if !metadata.is_symlink() && metadata.mode() & 0o022 != 0 {
        walked.writable.get_or_insert_with(|| path.to_owned());
    }
}

fn judge_walk(machine: &Machine, walked: &Walked) -> Vec<Finding> {
    let mut found = Vec::new();
    let (repo, owner) = (shell(&machine.repo), &machine.owner.name);
    if let Some(path) = &walked.foreign {
        let what = format!(
            "{} does not belong to {owner}, like the repository",
            path.display()
        );
        let fix = format!("find {repo} ! -user {owner} -exec chown -h {owner}: {{}} +");
        found.push(Finding::fault("repository-owner", what).fix(fix));
    }
    if let Some(path) = &walked.writable {
        let what = format!("others than {owner} can write {}", path.display());
        let fix = format!("find {repo} ! -type l -perm /022 -exec chmod go-w {{}} +");
        found.push(Finding::fault("repository-writable", what).fix(fix));
    }
    if walked.linked > 0 {
        let what = format!(
            "{} outside of the repository, as a backup makes them: who changes such a file there \
             changes the cache",
            match walked.linked {
                1 => "1 file has another name".to_owned(),
                n => format!("{} have other names", counted(n, "file")),
            }
        );
        let copy = format!(
            "find {repo} -type f -links +1 -exec sh -c 'for f do cp -p \"$f\" \"$0\" && mv \"$0\" \
             \"$f\"; done' {repo}/tmp/copy {{}} +"
        );
        let finding = Finding::warning("repository-links", what);
        found.push(finding.fix(machine.as_owner(&copy)));
    }
    if !walked.is_whole {
        let what = format!(
            "the repository is large: not all of its files were looked at within {} seconds",
            WALK_MAX.as_secs()
        );
        found.push(Finding::unseen("repository-unseen", what));
    }
    found
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const WALK_MAX: Duration = Duration::from_secs(10);
/// The directories without which ostree or the receiver does not work.
const DIRS: [&str; 6] = [
    "objects",
    "refs/heads",
    "refs/mirrors",
    "refs/remotes",
    "state",
    "tmp",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_within_the_repository_is_no_link_from_outside() {
        assert_eq!(linked_outside(vec![(7, 2), (8, 2), (7, 2)]), 1);
        assert_eq!(linked_outside(vec![(7, 3), (7, 3)]), 1);
        assert_eq!(linked_outside(Vec::new()), 0);
    }

    #[test]
    fn a_walk_meets_what_others_may_write_and_what_has_a_name_elsewhere() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        fs::create_dir_all(repo.join("objects/aa")).unwrap();
        fs::write(repo.join("objects/aa/x"), "").unwrap();
        let owner = repo.metadata().unwrap().uid();
        let walked = walk(&repo, owner);
        assert_eq!(
            (walked.linked, &walked.foreign, &walked.writable),
            (0, &None, &None)
        );
        fs::hard_link(repo.join("objects/aa/x"), dir.path().join("backup")).unwrap();
        let mode = fs::Permissions::from_mode(0o664);
        fs::set_permissions(repo.join("objects/aa/x"), mode).unwrap();
        let walked = walk(&repo, owner + 1);
        assert!(walked.linked == 1 && walked.foreign.is_some());
        assert_eq!(walked.writable, Some(repo.join("objects/aa/x")));
    }
}
