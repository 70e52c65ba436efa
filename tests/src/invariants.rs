//! The conditions that a repository must meet after any fault: the one judge of all fault tests.
//!
//! It is told the change that a push was to make and what the client was told, and lists the broken
//! promises (SPEC "Invariants"). It trusts neither the receiver nor a single checker: our strict
//! fsck, `ostree fsck` and a real pull of every ref check the same repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{fmt, fs};

use artifact_formats::{Checksum, Summary, with_causes};
use artifact_store::fsck;

use crate::exec::Failure;
use crate::repo::{Mode, Repo};

/// The change that a push was to make.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Each pushed ref with its old value, if it had one, and its new one.
    pub refs: BTreeMap<String, (Option<Checksum>, Checksum)>,
    /// Other refs, which must keep their values.
    pub others: BTreeMap<String, Checksum>,
    /// New detached metadata of pushed commits.
    pub detached: BTreeMap<Checksum, Vec<u8>>,
    /// Whether it is a pull into an own repository, which has no summary.
    pub is_pull: bool,
}

/// A promise, as results count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// INV-4, and INV-2 as far as refs go: a ref is old or new, exists, and can be pulled.
    Refs,
    /// INV-3: acknowledged changes are there.
    Acknowledged,
    /// INV-1, INV-2: both checkers find no fault.
    Clean,
    /// INV-5, INV-7, INV-8, and that the client is told: every other promise.
    Other,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Breach {
    /// The broken promise.
    pub promise: Promise,
    /// The finding.
    pub what: String,
}

impl Breach {
    /// Creates a breach.
    pub fn new(promise: Promise, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { promise, what }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}

/// Judges a repository after a push, complete or not. `acknowledged` are the refs that the client
/// was told are updated. If `scratch` names an unused path, pulls the commit of every ref into a
/// repository there, and removes it again.
pub fn judge(
    repo: &Repo,
    change: &Change,
    acknowledged: &BTreeSet<String>,
    scratch: Option<&Path>,
) -> Result<Vec<Breach>, Failure> {
    let mut breaches = Vec::new();
    let held = refs(repo, &mut breaches)?;
    judge_refs(&held, change, acknowledged, &mut breaches);
    for (commit, metadata) in &change.detached {
        let whole = change
            .refs
            .iter()
            .filter(|(_, (_, new))| new == commit)
            .all(|(name, _)| acknowledged.contains(name));
        if whole && repo.detached(commit).as_ref() != Some(metadata) {
            let what = format!("the detached metadata of {commit} is not the new one");
            breaches.push(Breach::new(Promise::Acknowledged, what));
        }
    }
    breaches.extend(strict_fsck(repo)?);
    if let Err(failure) = repo.fsck() {
        breaches.push(Breach::new(Promise::Clean, failure.to_string()));
    }
    if let Some(scratch) = scratch
        && let Err(failure) = pull(
            repo,
            scratch,
            held.values().map(|text| text.trim()).collect(),
        )
    {
        breaches.push(Breach::new(Promise::Refs, failure.to_string()));
    }
    Ok(breaches)
}

/// Judges a repository after a push that must have succeeded: everything is new, the summary lists
/// it, and no staging is left except that of the one disturbed session, which its identity may take
/// over. Pulls every ref by its name, as [`judge`] does.
pub fn judge_done(
    repo: &Repo,
    change: &Change,
    scratch: Option<&Path>,
) -> Result<Vec<Breach>, Failure> {
    let mut breaches = Vec::new();
    let all = change.refs.keys().cloned().collect();
    let held = refs(repo, &mut breaches)?;
    judge_refs(&held, change, &all, &mut breaches);
    breaches.extend(strict_fsck(repo)?);
    let staging = repo.path().join("extensions/artifact-cache/staging");
    let left = fs::read_dir(&staging).map_or(0, Iterator::count);
    if left > 1 {
        let what = format!("{left} sessions left their staging behind the next push");
        breaches.push(Breach::new(Promise::Other, what));
    }
    if !change.is_pull && !summary_is_current(repo, change) {
        let what = "the summary does not name what was pushed";
        breaches.push(Breach::new(Promise::Other, what));
    }
    if let Some(scratch) = scratch
        && let Err(failure) = pull(repo, scratch, held.keys().map(String::as_str).collect())
    {
        breaches.push(Breach::new(Promise::Refs, failure.to_string()));
    }
    Ok(breaches)
}

/// Returns whether the summary lists every ref of a change with its new value.
fn summary_is_current(repo: &Repo, change: &Change) -> bool {
    let content = fs::read(repo.path().join("summary")).unwrap_or_default();
    Summary::parse(&content).is_ok_and(|summary| {
        change.refs.iter().all(|(name, (_, new))| {
            summary
                .refs
                .get(name)
                .is_some_and(|entry| entry.commit == *new)
        })
    })
}

fn judge_refs(
    held: &BTreeMap<String, String>,
    change: &Change,
    acknowledged: &BTreeSet<String>,
    breaches: &mut Vec<Breach>,
) {
    let text = |commit: &Checksum| format!("{commit}\n");
    for (name, (old, new)) in &change.refs {
        let value = held.get(name);
        if value != Some(&text(new)) && acknowledged.contains(name) {
            let what = format!("{name} was acknowledged and is {value:?}");
            breaches.push(Breach::new(Promise::Acknowledged, what));
        }
        if value.cloned() != old.as_ref().map(text) && value != Some(&text(new)) {
            let what = format!("{name} is neither old nor new: {value:?}");
            breaches.push(Breach::new(Promise::Refs, what));
        }
    }
    for (name, commit) in &change.others {
        if held.get(name) != Some(&text(commit)) {
            let what = format!("{name} was not pushed and is {:?}", held.get(name));
            breaches.push(Breach::new(Promise::Refs, what));
        }
    }
    for name in held.keys() {
        if !change.refs.contains_key(name) && !change.others.contains_key(name) {
            let what = format!("nobody pushed the ref {name}");
            breaches.push(Breach::new(Promise::Refs, what));
        }
    }
}

/// Returns the content of every file in `refs/heads`; files elsewhere in `refs` are faults.
fn refs(repo: &Repo, breaches: &mut Vec<Breach>) -> Result<BTreeMap<String, String>, Failure> {
    let mut held = BTreeMap::new();
    let refs = repo.path().join("refs");
    for path in files_below(&refs)? {
        let content = fs::read(&path).map_err(Failure::doing(format!("read {path:?}")))?;
        match path.strip_prefix(refs.join("heads")) {
            Ok(name) => {
                let content = String::from_utf8_lossy(&content).into_owned();
                held.insert(name.to_string_lossy().into_owned(), content);
            }
            Err(_) => breaches.push(Breach::new(
                Promise::Other,
                format!("{path:?} does not belong there"),
            )),
        }
    }
    Ok(held)
}

/// Our own check. Its findings about the summary concern INV-8.
fn strict_fsck(repo: &Repo) -> Result<Vec<Breach>, Failure> {
    let breaches = Mutex::new(Vec::new());
    let report = |fault: artifact_store::Finding| {
        let promise = match fault.what.as_str() {
            "summary" => Promise::Other,
            what if what.starts_with("ref ") || what.starts_with("refs/") => Promise::Refs,
            _ => Promise::Clean,
        };
        let breach = Breach::new(promise, format!("{}: {}", fault.what, fault.why));
        breaches
            .lock()
            .expect("no thread panics with it")
            .push(breach);
    };
    fsck(repo.path(), u64::MAX, &report).map_err(|error| {
        let why = with_causes(&error);
        Failure::new(format!("cannot check {:?}: {why}", repo.path()))
    })?;
    Ok(breaches.into_inner().expect("no thread panics with it"))
}

fn pull(repo: &Repo, scratch: &Path, names: Vec<&str>) -> Result<(), Failure> {
    let user = Repo::init(scratch, Mode::BareUser)?;
    let pulled = if names.is_empty() {
        Ok(())
    } else {
        user.pull_path(repo.path(), &names)
    };
    fs::remove_dir_all(scratch).map_err(Failure::doing(format!("remove {scratch:?}")))?;
    pulled
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        let listing = || Failure::doing(format!("list {dir:?}"));
        if !dir.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&dir).map_err(listing())? {
            let entry = entry.map_err(listing())?;
            if entry.file_type().map_err(listing())?.is_dir() {
                dirs.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    /// A judge that lets everything pass would make all other tests worthless.
    #[test]
    fn every_kind_of_damage_is_a_breach_of_the_right_promise() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::create(&dir.path().join("tree")).unwrap();
        tree.file("file", b"content", 0o644).unwrap();
        let repo = Repo::init(&dir.path().join("repo"), Mode::Archive).unwrap();
        let commit = repo.commit("a/b", tree.root(), &[]).unwrap();
        let other = Checksum::of(b"");
        let scratch = dir.path().join("scratch");
        let all = BTreeSet::from(["a/b".to_owned()]);
        let change = Change {
            refs: BTreeMap::from([("a/b".to_owned(), (None, commit))]),
            ..Change::default()
        };
        let promises = |change: &Change| {
            let breaches = judge(&repo, change, &all, Some(&scratch)).unwrap();
            breaches
                .iter()
                .map(|breach| breach.promise)
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(promises(&change), BTreeSet::new());
        let done = |change| judge_done(&repo, change, Some(&scratch)).unwrap();
        assert_eq!(done(&change).len(), 1, "the summary is not there");
        repo.ostree("summary", ["-u"]).unwrap();
        assert_eq!(done(&change).len(), 0);

        let mut lost = change.clone();
        lost.refs.insert("a/b".into(), (Some(commit), other));
        assert_eq!(promises(&lost), BTreeSet::from([Promise::Acknowledged]));
        let mut torn = change.clone();
        torn.refs.insert("a/b".into(), (None, other));
        assert!(promises(&torn).contains(&Promise::Refs));
        let stray = Change::default();
        assert_eq!(promises(&stray), BTreeSet::from([Promise::Refs]));
        let unsigned = Change {
            detached: BTreeMap::from([(commit, vec![1])]),
            ..change.clone()
        };
        assert_eq!(promises(&unsigned), BTreeSet::from([Promise::Acknowledged]));

        let file = repo.objects(artifact_formats::ObjectKind::File).unwrap()[0];
        fs::remove_file(repo.path().join("objects").join(file.archive_path())).unwrap();
        let broken = promises(&change);
        assert!(broken.contains(&Promise::Clean) && broken.contains(&Promise::Refs));
    }
}
