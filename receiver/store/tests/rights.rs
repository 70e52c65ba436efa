//! Who may do what: a table of grants, refs and operations, and patterns against a tiny model.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use artifact_formats::{Checksum, Commit, RefName, RefPattern};
use artifact_protocol::frame::{Expect, PushOptions, RefUpdate, RefusalCode, Verdict};
use artifact_store::policy::{Ancestry, Current, Existing, Grants, Policy, Rule};
use proptest::collection::vec;
use proptest::prelude::*;

const OLD: Checksum = Checksum::new([1; 32]);
const NEW: Checksum = Checksum::new([2; 32]);
const SIGNED: Checksum = Checksum::new([3; 32]);
const SIGNED_ANEW: Checksum = Checksum::new([4; 32]);

/// The existing ref, the pushed one, and the options.
struct Operation {
    name: &'static str,
    current: Option<Checksum>,
    complete: bool,
    here: bool,
    ancestry: Ancestry,
    force: bool,
}

const PLAIN: Operation = Operation {
    name: "create",
    current: None,
    complete: false,
    here: false,
    ancestry: Ancestry::Nothing,
    force: false,
};

/// In the order of the table's columns.
const OPERATIONS: [Operation; 8] = [
    PLAIN,
    Operation {
        name: "fill",
        current: Some(NEW),
        ..PLAIN
    },
    Operation {
        name: "forward",
        current: Some(OLD),
        complete: true,
        ancestry: Ancestry::Descends,
        // Asking to force a push takes no right away.
        force: true,
        ..PLAIN
    },
    Operation {
        name: "force",
        current: Some(OLD),
        complete: true,
        ancestry: Ancestry::Unrelated,
        force: true,
        ..PLAIN
    },
    Operation {
        name: "rewind",
        current: Some(OLD),
        complete: true,
        ancestry: Ancestry::Unrelated,
        ..PLAIN
    },
    Operation {
        name: "sign",
        current: Some(NEW),
        complete: true,
        here: true,
        ..PLAIN
    },
    Operation {
        name: "copy",
        here: true,
        ..PLAIN
    },
    Operation {
        name: "same",
        current: Some(NEW),
        complete: true,
        ..PLAIN
    },
];

/// Returns the table's mark for the result of an operation.
fn come_of(policy: &Policy, name: &RefName, operation: &Operation) -> char {
    let update = RefUpdate {
        name: name.clone(),
        commit: NEW,
        detached: operation.here.then_some(SIGNED_ANEW),
        expect: Expect::Any,
    };
    let existing = Existing {
        detached: Some(SIGNED),
        bound: Some(Vec::new()),
    };
    let current = Current {
        commit: operation.current,
        complete: operation.complete,
        new: operation.here.then_some(existing),
    };
    let refused = match policy.judge_announced(&update, current) {
        Verdict::UpToDate => return '=',
        Verdict::Refused(refusal) => Some(refusal),
        Verdict::Accepted => {
            let commit = Commit::new(OLD, OLD);
            let options = if operation.force {
                PushOptions::FORCE
            } else {
                PushOptions::default()
            };
            policy
                .judge_commit(&update, &commit, operation.ancestry, options)
                .err()
        }
    };
    match refused.map(|refusal| refusal.code) {
        None => 'y',
        Some(RefusalCode::NOT_PERMITTED) => '.',
        Some(RefusalCode::NOT_FAST_FORWARD) => 'f',
        Some(code) => panic!("{code:?}"),
    }
}

fn policy(grants: &str) -> Policy {
    let mut given = Grants::default();
    if grants == "without a configuration" {
        return Policy::default();
    }
    for grant in grants.split(';').map(str::trim).filter(|g| !g.is_empty()) {
        let (what, patterns) = grant.split_once(' ').unwrap();
        let list = match what {
            "push" => &mut given.push,
            "replace" => &mut given.replace,
            "sign" => &mut given.sign,
            "rule" => {
                assert_eq!(patterns, "any");
                given.rule = Rule::Any;
                continue;
            }
            other => panic!("{other}"),
        };
        list.extend(
            patterns
                .split(", ")
                .map(|p| p.parse::<RefPattern>().unwrap()),
        );
    }
    Policy::limited("somebody".into(), given)
}

#[test]
fn every_right_in_the_table_is_given_and_no_other() {
    let (mut judged, mut now) = (0, None);
    let lines = include_str!("rights.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((_, grants)) = line.split_once(':') {
            now = Some(policy(grants.trim()));
            continue;
        }
        let mut words = line.split_whitespace();
        let name: RefName = words.next().unwrap().parse().unwrap();
        let marks: Vec<_> = words.collect();
        assert_eq!(marks.len(), OPERATIONS.len(), "{line}");
        for (operation, mark) in OPERATIONS.iter().zip(marks) {
            let come = come_of(now.as_ref().unwrap(), &name, operation).to_string();
            assert_eq!(come, mark, "{} in {line:?}", operation.name);
            judged += 1;
        }
    }
    assert!(judged >= 200, "only {judged}");
}

#[test]
fn a_refusal_says_who_lacks_which_right_and_what_there_is() {
    let said = |grants, name: &str, operation: usize| {
        let update = RefUpdate {
            name: name.parse().unwrap(),
            commit: NEW,
            detached: None,
            expect: Expect::Any,
        };
        let current = Current {
            commit: OPERATIONS[operation].current,
            complete: OPERATIONS[operation].complete,
            new: None,
        };
        match policy(grants).judge_announced(&update, current) {
            Verdict::Refused(refusal) => refusal.text.as_raw().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        said("push alpha/**", "beta/x", 0),
        "somebody may not create beta/x: it may create alpha/**"
    );
    assert_eq!(
        said("push alpha/**", "alpha/x", 2),
        "somebody may not replace alpha/x: it may replace nothing"
    );
    assert_eq!(
        said("push a, b, c, d; replace e, f, g", "x", 0),
        "somebody may not create x: it may create a, b, c, d, e and 2 more"
    );
}

/// Components of few letters, so that they often coincide.
fn component() -> impl Strategy<Value = String> {
    "[ab]{1,3}"
}

fn pattern() -> impl Strategy<Value = Vec<String>> {
    let component = prop_oneof![
        3 => "[ab*]{1,3}".prop_filter("no **", |text| !text.contains("**")),
        1 => Just("**".to_owned()),
    ];
    vec(component, 1..5)
}

/// The meaning of a pattern, written without any thought of speed.
fn model(pattern: &[String], name: &[String]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([last], rest) if last == "**" => !rest.is_empty(),
        ([first, rest @ ..], _) if first == "**" => {
            (0..=name.len()).any(|taken| model(rest, &name[taken..]))
        }
        ([first, rest @ ..], [component, others @ ..]) => {
            wild(first.as_bytes(), component.as_bytes()) && model(rest, others)
        }
        _ => false,
    }
}

fn wild(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| wild(rest, &text[taken..])),
        ([first, rest @ ..], [letter, others @ ..]) => first == letter && wild(rest, others),
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_pattern_grants_what_the_model_says(
        patterns in vec(pattern(), 0..3),
        name in vec(component(), 1..5),
    ) {
        let meant = patterns.iter().any(|pattern| model(pattern, &name));
        let push = patterns.iter().map(|p| p.join("/").parse().unwrap()).collect();
        let policy = Policy::limited("somebody".into(), Grants { push, ..Grants::default() });
        // The name may be no ref name: the beginning of a checksum.
        let Ok(name) = name.join("/").parse() else { return Ok(()) };
        let wanted = if meant { 'y' } else { '.' };
        prop_assert_eq!(come_of(&policy, &name, &OPERATIONS[0]), wanted);
        // A right to create never includes another right.
        prop_assert_eq!(come_of(&policy, &name, &OPERATIONS[3]), '.');
        prop_assert_eq!(come_of(&policy, &name, &OPERATIONS[5]), '.');
    }
}
