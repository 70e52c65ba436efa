//! `artifact-cache-admin prune`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use artifact_formats::RefPattern;
use artifact_protocol::exit;
use artifact_store::{Removal, StoredRef};
use ostree::gio;

use crate::say;
use crate::server::Server;

/// Remove old refs, and all objects that no ref reaches.
///
/// Without --keep-younger-than and --keep no ref is removed. With either, a ref is kept if it was
/// pushed within that time, or is one of the last so many of its element: of those that share all
/// of their name but the last component, as in `project/element/KEY`. With both, a ref that either
/// keeps is kept.
///
/// Pushes may run beside it: they wait while objects are removed, and what they have sent is not
/// touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    #[command(flatten)]
    server: Server,
    /// Keep refs that were pushed within this time, such as 90days or 12h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    keep_younger_than: Option<Duration>,
    /// Keep the last N refs of each element
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Remove only refs that match one of these, such as 'project/**'
    #[arg(long = "refs", value_name = "PATTERN")]
    patterns: Vec<RefPattern>,
    /// Change nothing; say which refs would go, and what no ref reaches now
    #[arg(long)]
    dry_run: bool,
    /// The repository
    pub(crate) repo: PathBuf,
}

pub(crate) fn run(args: &Prune) -> anyhow::Result<u8> {
    let summary = args.server.summary()?;
    crate::become_owner_of(&args.repo)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let refs = artifact_store::list_refs(&args.repo)?;
    let old = expired(&refs, args, i64::try_from(now)?);
    if args.dry_run {
        for StoredRef { name, .. } in &old {
            say(&format!("would remove {name}"));
        }
    } else {
        let wanted: Vec<_> = old
            .iter()
            .map(|r| (r.name.clone(), Some(r.commit)))
            .collect();
        let removals = artifact_store::remove_refs(&args.repo, summary, &wanted)?;
        for ((name, _), removal) in wanted.iter().zip(removals) {
            match removal {
                Removal::Removed(_) => say(&format!("removed {name}")),
                Removal::Kept => say(&format!("kept {name}: it was pushed meanwhile")),
                Removal::NotThere => {}
            }
        }
        artifact_store::tidy(&args.repo, args.server.summary()?)?;
    }
    prune_deep(args)?;
    Ok(exit::DONE)
}

/// Prunes where there is room to recurse: libostree walks directories like that, and an earlier
/// version let them nest as deep as there are directories.
fn prune_deep(args: &Prune) -> anyhow::Result<()> {
    let dirs = usize::try_from(artifact_store::count_dirtrees(&args.repo)?)?;
    let stack = STACK_LEN + dirs.saturating_mul(STACK_LEN_OF_LEVEL).min(STACK_LEN_MAX);
    thread::scope(|scope| {
        let pruning = thread::Builder::new().stack_size(stack);
        let pruning = pruning
            .spawn_scoped(scope, || prune_objects(args))
            .with_context(|| format!("cannot have a stack of {stack} bytes to prune with"))?;
        pruning.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Removes what no ref reaches; libostree is the authority, and takes its lock exclusively.
fn prune_objects(args: &Prune) -> anyhow::Result<()> {
    let repo = ostree::Repo::new_for_path(&args.repo);
    repo.open(gio::Cancellable::NONE)
        .context("libostree cannot open the repository")?;
    let mut flags = ostree::RepoPruneFlags::REFS_ONLY;
    if args.dry_run {
        flags |= ostree::RepoPruneFlags::NO_PRUNE;
    }
    let (total, pruned, bytes) = repo
        .prune(flags, ALL_HISTORY, gio::Cancellable::NONE)
        .context("libostree cannot prune the repository")?;
    let done = if args.dry_run {
        "would remove"
    } else {
        "removed"
    };
    say(&format!(
        "{done} {pruned} of {total} objects: {bytes} bytes"
    ));
    Ok(())
}

/// Returns the refs that nothing keeps.
fn expired<'a>(refs: &'a [StoredRef], args: &Prune, now: i64) -> Vec<&'a StoredRef> {
    if args.keep_younger_than.is_none() && args.keep.is_none() {
        return Vec::new();
    }
    let mut elements: BTreeMap<&str, Vec<&StoredRef>> = BTreeMap::new();
    for r in refs {
        let element = r.name.parent().unwrap_or_default();
        elements.entry(element).or_default().push(r);
    }
    let mut expired = Vec::new();
    for mut element in elements.into_values() {
        element.sort_by_key(|r| (Reverse(r.set), &r.name));
        for (place, r) in element.into_iter().enumerate() {
            let age = u64::try_from(now.saturating_sub(r.set.0)).unwrap_or(0);
            let young = args.keep_younger_than.is_some_and(|d| age < d.as_secs());
            let among_last = args.keep.is_some_and(|keep| place < keep);
            let meant = args.patterns.is_empty()
                || args.patterns.iter().any(|p| p.matches(r.name.as_str()));
            if meant && !young && !among_last {
                expired.push(r);
            }
        }
    }
    expired
}

/// Of a commit that a ref holds, its parents are kept as far as they are there.
const ALL_HISTORY: i32 = -1;
/// What pruning takes in any case, in bytes; a stack takes memory only as far as it is used.
const STACK_LEN: usize = 8 * 1024 * 1024;
/// And for each level of directories: twice what libostree 2022.7 was seen to take.
const STACK_LEN_OF_LEVEL: usize = 1024;
const STACK_LEN_MAX: usize = 2 * 1024 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use artifact_formats::Checksum;

    fn args(keep_younger_than: Option<u64>, keep: Option<usize>, patterns: &[&str]) -> Prune {
        Prune {
            server: Server::default(),
            keep_younger_than: keep_younger_than.map(Duration::from_secs),
            keep,
            patterns: patterns.iter().map(|p| p.parse().unwrap()).collect(),
            dry_run: false,
            repo: PathBuf::new(),
        }
    }

    fn stored(name: &str, set: (i64, u64)) -> StoredRef {
        StoredRef {
            name: name.parse().unwrap(),
            commit: Checksum::new([0; 32]),
            set,
        }
    }

    #[test]
    fn of_refs_pushed_within_a_second_the_last_is_kept() {
        let refs = [stored("p/a/1", (100, 7)), stored("p/a/2", (100, 8))];
        let args = args(None, Some(1), &[]);
        let gone: Vec<_> = expired(&refs, &args, 1000)
            .iter()
            .map(|r| r.name.as_str())
            .collect();
        assert_eq!(gone, ["p/a/1"]);
    }

    #[test]
    fn a_ref_goes_when_neither_its_age_nor_its_place_keeps_it() {
        let stored = |&(name, set): &(&str, i64)| stored(name, (set, 0));
        let refs: Vec<_> = [
            ("p/a/1", 100),
            ("p/a/2", 200),
            ("p/a/3", 900),
            ("p/b/1", 100),
            ("main", 100),
            ("p/a/future", 5000),
        ]
        .iter()
        .map(stored)
        .collect();
        let gone = |younger, keep, patterns: &[&str]| {
            let args = args(younger, keep, patterns);
            let mut gone: Vec<_> = expired(&refs, &args, 1000)
                .iter()
                .map(|r| r.name.to_string())
                .collect();
            gone.sort();
            gone.join(" ")
        };
        assert_eq!(gone(None, None, &[]), "");
        assert_eq!(gone(None, Some(2), &[]), "p/a/1 p/a/2");
        assert_eq!(gone(None, Some(0), &["p/b/*", "main"]), "main p/b/1");
        assert_eq!(gone(Some(101), None, &[]), "main p/a/1 p/a/2 p/b/1");
        assert_eq!(gone(Some(100), None, &["p/**"]), "p/a/1 p/a/2 p/a/3 p/b/1");
        assert_eq!(gone(Some(801), Some(1), &[]), "p/a/1");
        assert_eq!(gone(Some(901), Some(0), &[]), "");
    }
}
