//! `artifact-cache-admin prune`.

mod args;
mod place;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use artifact_formats::{RefName, Size, counted};
use artifact_protocol::{escape, exit};
use artifact_store::{Pruned, Removal, StoredRef};
use serde_json::json;

pub(crate) use self::args::Prune;
use self::place::Place;
use crate::output::{complain, tell};

pub(crate) fn run(args: &Prune) -> anyhow::Result<u8> {
    let place = Place::open(args)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let refs = place.list_refs()?;
    let old = expired(&refs, args, i64::try_from(now)?);
    let (kept, old): (Vec<_>, Vec<_>) = old.into_iter().partition(|r| r.alias.is_some());
    for StoredRef { name, alias, .. } in kept {
        tell_kept(
            args,
            name,
            &kept_for(name, alias.as_deref().unwrap_or_default()),
        );
    }
    let too_much = too_much(&refs, &old).filter(|_| !args.allow_remove_all);
    if let (Some(why), false) = (&too_much, args.dry_run) {
        complain(&format!(
            "artifact-cache-admin: nothing was removed: {why}; --dry-run shows the refs, and \
             --allow-remove-all lets it"
        ));
        return Ok(exit::USAGE);
    }
    let pruned = if args.dry_run {
        for StoredRef { name, .. } in &old {
            tell_of(args, "would-remove", name, &format!("would remove {name}"));
        }
        let going: Vec<_> = old.iter().map(|r| r.name.clone()).collect();
        place.would_prune(&going)
    } else {
        remove(&old, args, &place)?;
        place.prune()
    };
    let Pruned {
        objects,
        removed,
        bytes,
    } = pruned?;
    let done = if args.dry_run {
        "would remove"
    } else {
        "removed"
    };
    let text = format!(
        "{done} {removed} of {}, {}",
        counted(objects, "object"),
        Size(bytes)
    );
    let fields = json!({
        "dry_run": args.dry_run,
        "objects": objects,
        "removed": removed,
        "bytes": bytes,
    });
    tell(args.json, "pruned", &fields, &text);
    if let Some(why) = too_much {
        let text = format!("without --allow-remove-all, nothing would be removed: {why}");
        tell(args.json, "refused", &json!({"why": why}), &text);
    }
    Ok(exit::DONE)
}

fn remove(old: &[&StoredRef], args: &Prune, place: &Place<'_>) -> anyhow::Result<()> {
    let wanted: Vec<_> = old
        .iter()
        .map(|r| (r.name.clone(), Some(r.commit)))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let removals = place.remove_refs(&wanted)?;
    for ((name, _), removal) in wanted.iter().zip(removals) {
        match removal {
            Removal::Removed(_) | Removal::RemovedOther => {
                tell_of(args, "removed", name, &format!("removed {name}"));
            }
            Removal::Kept | Removal::SetAgain => {
                tell_kept(args, name, &format!("kept {name}: it was pushed meanwhile"));
            }
            Removal::LedTo(alias) => tell_kept(args, name, &kept_for(name, &alias)),
            Removal::NotThere => {}
        }
    }
    Ok(())
}

fn tell_of(args: &Prune, event: &str, name: &RefName, text: &str) {
    tell(args.json, event, &json!({"ref": name.as_str()}), text);
}

fn tell_kept(args: &Prune, name: &RefName, text: &str) {
    let why = text.split_once(": ").map_or("", |(_, why)| why);
    let fields = json!({"ref": name.as_str(), "why": why});
    tell(args.json, "kept", &fields, text);
}

fn kept_for(name: &RefName, alias: &str) -> String {
    escape(&format!("kept {name}: {alias} is an alias of it"))
}

/// Returns why removing `old` needs --allow-remove-all.
pub(crate) fn too_much(refs: &[StoredRef], old: &[&StoredRef]) -> Option<String> {
    let all = refs.iter().map(|r| &r.name);
    artifact_store::too_much(all, old.iter().map(|r| &r.name))
}

/// Returns the refs that no option keeps.
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use artifact_formats::Checksum;

    use super::*;
    use crate::server::Server;

    fn args(keep_younger_than: Option<u64>, keep: Option<usize>, patterns: &[&str]) -> Prune {
        Prune {
            server: Server::default(),
            keep_younger_than: keep_younger_than.map(Duration::from_secs),
            keep,
            patterns: patterns.iter().map(|p| p.parse().unwrap()).collect(),
            dry_run: false,
            allow_remove_all: false,
            json: false,
            grace: Duration::ZERO,
            repo: PathBuf::new(),
        }
    }

    fn stored(name: &str, set: (i64, u64)) -> StoredRef {
        StoredRef {
            name: name.parse().unwrap(),
            commit: Checksum::new([0; 32]),
            set,
            alias: None,
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

    #[test]
    fn what_empties_a_project_or_takes_more_than_half_is_too_much() {
        let names = ["p/a/1", "p/a/2", "q/a/1", "q/b/1", "main"];
        let refs: Vec<_> = names.iter().map(|name| stored(name, (0, 0))).collect();
        let judge = |going: &[&str]| {
            let old = refs.iter().filter(|r| going.contains(&r.name.as_str()));
            too_much(&refs, &old.collect::<Vec<_>>())
        };
        assert_eq!(judge(&[]), None);
        assert_eq!(judge(&["p/a/1", "q/a/1"]), None);
        for (going, why) in [
            (&["p/a/1", "p/a/2"][..], "project p"),
            (&["main"], "project main"),
        ] {
            assert!(judge(going).unwrap().ends_with(why), "{going:?}");
        }
        let many: Vec<_> = (0..4)
            .map(|n| stored(&format!("p/a/{n}"), (0, 0)))
            .collect();
        let old: Vec<_> = many.iter().take(3).collect();
        assert!(too_much(&many, &old[..2]).is_none());
        assert_eq!(
            too_much(&many, &old).unwrap(),
            "it would remove 3 of 4 refs"
        );
        assert_eq!(too_much(&[], &[]), None);
    }
}
