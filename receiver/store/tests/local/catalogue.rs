//! The catalogue of refs against the refs themselves, after changes by this program and by others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use crate::session::Session;
use artifact_protocol::frame::{RefOutcome, SummaryDone};
use artifact_store::{Allowance, Catalogue, CatalogueRef, StoreConfig};
use artifact_store::{SummaryConfig, list_refs, remove_refs};

use crate::support::{Pair, open, ostree, update};

/// Checks that a kept catalogue equals a new one, and that both equal the refs.
fn must_be_current(kept: &mut Catalogue, pair: &Pair) -> Vec<CatalogueRef> {
    kept.refresh().unwrap();
    let sorted = |catalogue: &Catalogue| {
        let mut refs = catalogue.refs();
        refs.sort_by(|a, b| a.name.cmp(&b.name));
        refs
    };
    let said = sorted(kept);
    let new = Catalogue::open(&pair.target()).unwrap();
    assert_eq!(said, sorted(&new));
    assert_eq!(kept.summary(), new.summary());
    // Aliases are left out: they cannot be set.
    for stored in list_refs(&pair.target()).unwrap() {
        let shown = said.iter().find(|shown| shown.name == stored.name.as_str());
        let shown = shown.unwrap_or_else(|| panic!("no {}", stored.name));
        assert_eq!((shown.commit, shown.set), (stored.commit, stored.set.0));
    }
    said
}

#[test]
fn a_catalogue_that_is_kept_follows_whoever_changes_refs() {
    let pair = Pair::new();
    let commits = [1, 2].map(|n| pair.commit(None, &[("a", &"x".repeat(n * 100))]));
    let mut kept = Catalogue::open(&pair.target()).unwrap();
    assert_eq!(must_be_current(&mut kept, &pair), []);
    assert_eq!(kept.summary(), None);

    for name in ["p/e/1", "p/e/2", "q/e/1"] {
        assert_eq!(pair.push(name, commits[0]), RefOutcome::Updated);
        must_be_current(&mut kept, &pair);
    }
    pair.store().rebuild_summary(|_| ()).unwrap();
    let said = must_be_current(&mut kept, &pair);
    assert_eq!(said.len(), 3);
    // The commits are dated 2026-01-01.
    assert_eq!(said[0].made, Some(1_767_225_600));
    assert!(said[0].size > Some(100) && said[0].owner.is_none());

    // Stock ostree makes, aliases and removes refs.
    let target = pair.target();
    ostree(&["refs", "--create=os/main", "p/e/1"], &target);
    must_be_current(&mut kept, &pair);
    ostree(
        &["refs", "--alias", "--create=os/alias", "os/main"],
        &target,
    );
    let said = must_be_current(&mut kept, &pair);
    assert_eq!(
        said.iter()
            .filter(|shown| shown.name.starts_with("os/"))
            .count(),
        2
    );
    ostree(&["refs", "--delete", "q"], &target);
    let said = must_be_current(&mut kept, &pair);
    assert_eq!(said.len(), 4);
    let name = "p/e/2".parse().unwrap();
    remove_refs(&target, SummaryConfig::default(), &[(name, None)]).unwrap();
    assert_eq!(must_be_current(&mut kept, &pair).len(), 3);

    // A ref that leads to no commit is shown as such, and hides no other ref.
    fs::write(target.join("refs/heads/p/e/broken"), "nothing\n").unwrap();
    symlink("nowhere", target.join("refs/heads/p/lost")).unwrap();
    pair.push("z", commits[1]);
    assert_eq!(must_be_current(&mut kept, &pair).len(), 4);
    let mut broken = kept.broken();
    broken.sort();
    assert_eq!(broken, ["p/e/broken", "p/lost"]);
}

#[test]
fn a_catalogue_says_who_has_made_a_ref_where_that_is_counted() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    let config = StoreConfig {
        identity: "alice".to_owned(),
        allowance: Allowance {
            refs_max: Some(100),
            ..Allowance::default()
        },
        ..StoreConfig::default()
    };
    let store = Session::at(&pair.target(), config).unwrap();
    open(&store, Default::default(), &[update("p/e/1", commit)]);
    pair.stage_all(&store, commit);
    store.publish().unwrap();
    let refs = Catalogue::open(&pair.target()).unwrap().refs();
    assert_eq!(refs[0].owner.as_deref(), Some("alice"));
}

/// Reads as a web server's user, who has no access to the receiver's private files.
#[test]
fn a_catalogue_needs_no_right_but_to_read_the_refs() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    pair.push("p/e/1", commit);
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    let own = pair.target().join("extensions/artifact-cache");
    let by_record = Catalogue::open(&pair.target()).unwrap().refs();
    fs::remove_file(own.join("summary.record")).unwrap();
    let by_summary = Catalogue::open(&pair.target()).unwrap().refs();
    assert_eq!(by_record, by_summary);
    fs::remove_file(pair.target().join("summary")).unwrap();
    let bare = Catalogue::open(&pair.target()).unwrap().refs();
    assert_eq!((bare.len(), bare[0].made, bare[0].size), (1, None, None));
    assert_eq!(
        fs::metadata(own).unwrap().permissions().mode() & 0o005,
        0o005
    );
}
