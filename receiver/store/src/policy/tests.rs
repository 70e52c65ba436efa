use super::*;

const OLD: Checksum = Checksum::new([1; 32]);
const NEW: Checksum = Checksum::new([2; 32]);
const SIGNATURE: Checksum = Checksum::new([3; 32]);

fn update(expect: Expect, detached: Option<Checksum>) -> RefUpdate {
    RefUpdate {
        name: "a/b".parse().unwrap(),
        commit: NEW,
        detached,
        expect,
    }
}

fn holds(commit: Checksum) -> Current {
    let existing = Existing {
        detached: Some(SIGNATURE),
        bound: None,
    };
    Current {
        commit: Some(commit),
        complete: true,
        new: (commit == NEW).then_some(existing),
    }
}

fn code(verdict: &Verdict) -> Option<RefusalCode> {
    match verdict {
        Verdict::Refused(refusal) => Some(refusal.code),
        Verdict::UpToDate | Verdict::Accepted => None,
    }
}

#[test]
fn a_ref_is_up_to_date_only_with_the_same_complete_commit_and_detached_metadata() {
    let judge = |update: RefUpdate, current| Policy::default().judge_announced(&update, current);
    assert_eq!(
        judge(update(Expect::Any, None), holds(NEW)),
        Verdict::UpToDate
    );
    assert_eq!(
        judge(update(Expect::Any, Some(SIGNATURE)), holds(NEW)),
        Verdict::UpToDate
    );
    assert_eq!(
        judge(update(Expect::Any, Some(OLD)), holds(NEW)),
        Verdict::Accepted
    );
    let partial = Current {
        complete: false,
        new: None,
        ..holds(NEW)
    };
    assert_eq!(judge(update(Expect::Any, None), partial), Verdict::Accepted);
    assert_eq!(
        judge(update(Expect::Any, None), holds(OLD)),
        Verdict::Accepted
    );
    assert_eq!(
        judge(update(Expect::Any, None), Current::default()),
        Verdict::Accepted
    );
}

#[test]
fn what_was_expected_is_compared_with_what_is_there() {
    let judge =
        |expect, current| code(&Policy::default().judge_announced(&update(expect, None), current));
    let lost = Some(RefusalCode::LOST_RACE);
    assert_eq!(judge(Expect::Absent, Current::default()), None);
    assert_eq!(judge(Expect::Absent, holds(OLD)), lost);
    assert_eq!(judge(Expect::Is(OLD), holds(OLD)), None);
    assert_eq!(judge(Expect::Is(OLD), Current::default()), lost);
    assert_eq!(judge(Expect::Is(OLD), holds(SIGNATURE)), lost);
    // A retry whose first attempt succeeded, but whose acknowledgement was lost.
    assert_eq!(judge(Expect::Is(OLD), holds(NEW)), None);
}

#[test]
fn signatures_belong_to_those_who_may_create_what_the_commit_is_bound_to() {
    let policy = |push: &str, sign: &str| {
        let parse = |text: &str| text.parse().into_iter().collect();
        let grants = Grants {
            push: parse(push),
            sign: parse(sign),
            ..Grants::default()
        };
        Policy::limited("somebody".into(), grants)
    };
    let refused = Some(RefusalCode::NOT_PERMITTED);
    let bob = "b/**";
    for (push, sign, bound, expected) in [
        (bob, "", Some(&["b/x"][..]), None),
        (bob, "", Some(&["a/b", "b/x"]), None),
        (bob, "", Some(&["a/b"]), refused),
        (bob, "", Some(&["no ref", "b"]), refused),
        (bob, "", Some(&[]), refused),
        (bob, "a/*", Some(&[]), None),
        (bob, "b/*", Some(&["a/b"]), refused),
        // Not known yet: publication judges it.
        (bob, "", None, None),
    ] {
        let existing = |detached| Existing {
            detached,
            bound: bound.map(|names| names.iter().map(|&n| n.to_owned()).collect()),
        };
        // The ref holds the commit, so that only the metadata changes.
        let current = |detached| Current {
            commit: Some(NEW),
            complete: true,
            new: Some(existing(detached)),
        };
        let judge = |announced, there| {
            let update = update(Expect::Any, Some(announced));
            code(&policy(push, sign).judge_announced(&update, current(there)))
        };
        assert_eq!(
            judge(OLD, Some(SIGNATURE)),
            expected,
            "{push} {sign} {bound:?}"
        );
        assert_eq!(judge(OLD, None), None, "there was none");
        assert_eq!(judge(SIGNATURE, Some(SIGNATURE)), None, "it is the same");
    }
    assert!(
        Policy::default()
            .judge_signer(&update(Expect::Any, None), false)
            .is_ok()
    );
}

#[test]
fn who_may_do_nothing_is_turned_away() {
    assert_eq!(Policy::default().turns_away(), None);
    let nobody = Policy::limited("eve".into(), Grants::default());
    assert_eq!(
        nobody.turns_away().as_deref(),
        Some("eve may do nothing here")
    );
    for right in ["push", "replace", "sign"] {
        let mut grants = Grants::default();
        let list = match right {
            "push" => &mut grants.push,
            "replace" => &mut grants.replace,
            _ => &mut grants.sign,
        };
        list.push("a".parse().unwrap());
        assert_eq!(
            Policy::limited("x".into(), grants).turns_away(),
            None,
            "{right}"
        );
    }
}

#[test]
fn who_may_change_something_may_pull_everything_unless_a_list_says_otherwise() {
    let patterns = |texts: &[&str]| -> Vec<RefPattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let all: Option<Vec<RefPattern>> = None;
    for (push, pull, readable, rights, pushes) in [
        (&["a/**"][..], None, all.clone(), "create a/**\n", true),
        (
            &["a/**"],
            Some(&["b/*"][..]),
            Some(patterns(&["b/*"])),
            "create a/**\npull b/*\n",
            true,
        ),
        (&["a/**"], Some(&[]), Some(vec![]), "create a/**\n", true),
        (
            &[],
            Some(&["**"]),
            Some(patterns(&["**"])),
            "pull **\n",
            false,
        ),
        (&[], Some(&[]), Some(vec![]), "", false),
        (&[], None, Some(vec![]), "", false),
    ] {
        let grants = Grants {
            push: patterns(push),
            pull: pull.map(patterns),
            ..Grants::default()
        };
        let policy = Policy::limited("somebody".into(), grants);
        assert_eq!(policy.readable(), readable.as_deref(), "{push:?} {pull:?}");
        assert_eq!(policy.rights().as_deref(), Some(rights));
        assert_eq!(policy.turns_away().is_some(), rights.is_empty());
        assert_eq!(policy.only_reads().is_none(), pushes);
    }
    assert_eq!(Policy::default().readable(), None);
    assert_eq!(Policy::default().only_reads(), None);
}

#[test]
fn a_commit_is_judged_by_bindings_and_history() {
    let commit = |bound: Option<&[&str]>| Commit {
        parent: None,
        tree: OLD,
        meta: OLD,
        timestamp: 0,
        subject: String::new(),
        body: String::new(),
        ref_bindings: bound.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
        collection_binding: None,
        version: None,
    };
    let judge = |bound, ancestry, options| {
        Policy::default()
            .judge_commit(
                &update(Expect::Any, None),
                &commit(bound),
                ancestry,
                options,
            )
            .err()
            .map(|refusal| refusal.code)
    };
    let plain = PushOptions::default();
    assert_eq!(judge(None, Ancestry::Nothing, plain), None);
    assert_eq!(judge(Some(&["x", "a/b"]), Ancestry::Descends, plain), None);
    let binding = Some(RefusalCode::BINDING);
    assert_eq!(judge(Some(&["a"]), Ancestry::Nothing, plain), binding);
    assert_eq!(
        judge(Some(&[]), Ancestry::Nothing, PushOptions::FORCE),
        binding
    );
    let unrelated = Some(RefusalCode::NOT_FAST_FORWARD);
    assert_eq!(judge(None, Ancestry::Unrelated, plain), unrelated);
    assert_eq!(judge(None, Ancestry::Unrelated, PushOptions::FORCE), None);
}
