//! Refs, their commits, and the summary that lists them.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use artifact_formats::{Checksum, ObjectId, ObjectKind, Size, Summary, counted, grouped};
use artifact_protocol::escape;
use artifact_receiver::config::SummarySection;
use artifact_store::{StoredRef, SummaryMode};

use crate::doctor::finding::{Finding, quoted, shell};
use crate::doctor::machine::Machine;

pub(super) fn check(machine: &Machine, summary: &SummarySection) -> Vec<Finding> {
    let mut found = Vec::new();
    let refs = match artifact_store::list_refs(&machine.repo) {
        Ok(refs) => refs,
        Err(error) => {
            let what = format!("the refs cannot be read: {error}");
            let finding = Finding::fault("refs-unreadable", what);
            found.push(readable(machine).into_iter().fold(finding, Finding::fix));
            return found;
        }
    };
    found.extend(check_strays(machine));
    found.extend(check_commits(machine, &refs));
    found.extend(check_dates(machine, &refs));
    found.extend(check_summary(machine, summary, refs));
    found
}

/// Returns commands that put directories where the refs have to be. The receiver follows no link.
fn readable(machine: &Machine) -> Vec<String> {
    let dirs = ["refs", "refs/heads", "refs/mirrors", "refs/remotes"];
    let mut fixes = Vec::new();
    for dir in dirs.map(|dir| machine.repo.join(dir)) {
        let path = shell(&dir);
        if dir.is_symlink() && dir.is_dir() {
            fixes.push(format!(
                "cp -a {path}/. {path}.new && rm {path} && mv {path}.new {path}"
            ));
        } else if dir.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
            fixes.push(format!("mv {path} {path}.old"));
        }
    }
    fixes.push(machine.admin("init"));
    fixes
}

/// Entries in the place of refs that are none.
fn check_strays(machine: &Machine) -> Vec<Finding> {
    let strays = artifact_store::broken_refs(&machine.repo).unwrap_or_default();
    let make = |(name, why): (String, &str)| {
        let heads = machine.repo.join("refs/heads").join(&name);
        let path = match heads.symlink_metadata() {
            Ok(_) => heads,
            Err(_) => machine.repo.join(&name),
        };
        let what = escape(&format!("{name} {why}"));
        Finding::fault("refs-stray", what)
            .fix(machine.as_owner(&format!("rm -r {}", shell(&path))))
            .fix(machine.admin("summary"))
    };
    strays.into_iter().map(make).collect()
}

/// Refs whose commit is missing, or is there in part only.
fn check_commits(machine: &Machine, refs: &[StoredRef]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |id, names: Vec<&str>, why: &str| {
        let Some((first, more)) = names.split_first() else {
            return;
        };
        let others = match more.len() as u64 {
            0 => String::new(),
            n => format!(", and {}", counted(n, "other ref")),
        };
        let what = format!(
            "{first}{others}: {why}; whoever has it can push it again, and otherwise nobody can \
             pull it"
        );
        let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
        let fix = format!(
            "{} {}",
            machine.admin("remove --allow-remove-all"),
            names.join(" ")
        );
        found.push(Finding::fault(id, what).fix(fix));
    };
    let without = |is_bad: &dyn Fn(Checksum) -> bool| {
        let bad = refs.iter().filter(|r| is_bad(r.commit));
        bad.map(|r| r.name.as_str()).take(NAMED_MAX).collect()
    };
    let object = |commit| {
        let path = ObjectId::new(ObjectKind::Commit, commit).archive_path();
        machine.repo.join("objects").join(path)
    };
    let partial = |commit| machine.repo.join(format!("state/{commit}.commitpartial"));
    add(
        "refs-dangling",
        without(&|c| !object(c).exists()),
        "the commit is missing",
    );
    add(
        "refs-partial",
        without(&|c| object(c).exists() && partial(c).exists()),
        "the commit lacks objects",
    );
    found
}

/// Dates in the future, which a clock that was wrong has left.
fn check_dates(machine: &Machine, refs: &[StoredRef]) -> Option<Finding> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let late = i64::try_from(now)
        .unwrap_or(i64::MAX)
        .saturating_add(CLOCK_SLACK_SECONDS);
    let late: Vec<_> = refs.iter().filter(|r| r.set.0 > late).collect();
    let first = late.first()?;
    let what = format!(
        "{} set in the future, such as {}: this machine's clock was or is wrong, and prune goes by \
         it",
        match late.len() as u64 {
            1 => "1 ref was".to_owned(),
            n => format!("{} were", counted(n, "ref")),
        },
        first.name
    );
    let touch = format!(
        "find {}/refs -newermt '5 minutes' -exec touch {{}} +",
        shell(&machine.repo)
    );
    Some(Finding::warning("refs-in-the-future", what).fix(machine.as_owner(&touch)))
}

fn check_summary(
    machine: &Machine,
    section: &SummarySection,
    mut refs: Vec<StoredRef>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let make = || machine.admin("summary");
    let path = machine.repo.join("summary");
    // A push sets its refs first, and names them in the summary then.
    let mut lacks = None;
    for turn in 0..LOOKS {
        if turn > 0 {
            thread::sleep(BETWEEN_LOOKS);
            refs = artifact_store::list_refs(&machine.repo).unwrap_or(refs);
        }
        let bytes = std::fs::read(&path).ok();
        lacks = compare(bytes.as_deref(), section, &refs, &machine.repo);
        if lacks.is_none() {
            break;
        }
    }
    if let Some((id, what)) = lacks {
        found.push(Finding::fault(id, what).fix(make()));
    }
    let len = path.metadata().map_or(0, |metadata| metadata.len());
    let prune = || {
        format!(
            "{} --keep-younger-than 90days --keep 3",
            machine.admin("prune")
        )
    };
    if len >= SUMMARY_LONG {
        let what = format!(
            "the summary is {} long, and clients of Debian 12 refuse more than 10 MiB: keep fewer \
             refs, or list fewer of them (`mode` of [summary])",
            Size(len)
        );
        found.push(Finding::warning("summary-long", what).fix(prune()));
    }
    let has_signature = machine.repo.join("summary.sig").exists();
    if section.sign_key.is_some() && len > 0 && !has_signature {
        let what = "the summary is not signed, and the configuration names a key for it";
        found.push(Finding::fault("summary-unsigned", what).fix(make()));
    }
    found
}

/// Compares a summary with the refs; returns how it is wrong.
fn compare(
    bytes: Option<&[u8]>,
    section: &SummarySection,
    refs: &[StoredRef],
    repo: &Path,
) -> Option<(&'static str, String)> {
    let listed = |name: &str| match &section.mode {
        SummaryMode::Matching(patterns) => patterns.iter().any(|p| p.matches(name)),
        SummaryMode::None => false,
        SummaryMode::Full | SummaryMode::WithoutTimestamps => true,
    };
    let refs = refs.iter().filter(|r| listed(r.name.as_str()));
    let refs: BTreeMap<_, _> = refs.map(|r| (r.name.as_str(), r.commit)).collect();
    let Some(bytes) = bytes else {
        let (missing, none) = (!refs.is_empty(), section.mode == SummaryMode::None);
        let what = "there is no summary, so nobody can list the refs";
        return (missing && !none).then(|| ("summary-missing", what.to_owned()));
    };
    if section.mode == SummaryMode::None {
        let what = "there is a summary, and the configuration says that there is none";
        return Some(("summary-stale", what.to_owned()));
    }
    let summary = match Summary::parse(bytes) {
        Ok(summary) => summary,
        Err(error) => {
            let what = format!("the summary cannot be read: {error}");
            return Some(("summary-malformed", what));
        }
    };
    // A summary that would be too long leaves refs out.
    let is_full = bytes.len() as u64 > SUMMARY_FULL;
    let behind = refs.iter().filter(|(name, commit)| {
        let said = summary.refs.get(**name).map(|r| r.commit);
        said != Some(**commit) && !(is_full && said.is_none())
    });
    let behind = behind.count() as u64;
    let gone = summary.refs.keys().filter(|name| {
        let is_there = || {
            repo.join("refs/heads")
                .join(name)
                .symlink_metadata()
                .is_ok()
        };
        !(refs.contains_key(name.as_str()) || listed(name) && is_there())
    });
    let gone = gone.count() as u64;
    (behind + gone > 0).then(|| {
        let what = format!(
            "the summary is behind: it lists {} not or wrongly, and {} that are gone",
            counted(behind, "ref"),
            grouped(gone)
        );
        ("summary-stale", what)
    })
}

/// Refs that one finding names in its command.
const NAMED_MAX: usize = 100;
const CLOCK_SLACK_SECONDS: i64 = 5 * 60;
const LOOKS: usize = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// The receiver warns from here on as well.
const SUMMARY_LONG: u64 = 7 * 1024 * 1024;
/// From here on, refs may be left out.
const SUMMARY_FULL: u64 = 9 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(name: &str, byte: u8) -> StoredRef {
        StoredRef {
            name: name.parse().unwrap(),
            commit: Checksum::new([byte; 32]),
            set: (0, 0),
            alias: None,
        }
    }

    #[test]
    fn a_missing_summary_is_a_fault_only_if_there_is_something_to_list() {
        let full = SummarySection::default();
        let none = SummarySection {
            mode: SummaryMode::None,
            ..SummarySection::default()
        };
        let refs = [stored("a/b/c", 1)];
        let id = |bytes: Option<&[u8]>, section, refs: &[StoredRef]| {
            compare(bytes, section, refs, Path::new("/nowhere")).map(|(id, _)| id)
        };
        assert_eq!(id(None, &full, &refs), Some("summary-missing"));
        assert_eq!(id(None, &full, &[]), None);
        assert_eq!(id(None, &none, &refs), None);
        assert_eq!(id(Some(b""), &none, &refs), Some("summary-stale"));
        assert_eq!(id(Some(b"x"), &full, &refs), Some("summary-malformed"));
    }
}
