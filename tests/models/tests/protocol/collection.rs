//! Collection beside pushes, in every order.

use artifact_models::collection::objects::{Id, Ref};
use artifact_models::collection::rules::Rule;
use artifact_models::collection::search::{replay, search};
use artifact_models::collection::session::Plan;
use artifact_models::collection::world::{Config, REFS};

const NO_REFS: [Option<Id>; REFS] = [None; REFS];

fn push(to: u8, commit: Id, base: Option<(u8, Id)>, identity: u8) -> Plan {
    Plan {
        to: Ref(to),
        expected: None,
        commit,
        base: base.map(|(r, id)| (Ref(r), id)),
        identity,
    }
}

/// One push of a commit whose file is there already, as garbage, and one collector.
fn one_push() -> Config {
    Config {
        refs: NO_REFS,
        garbage: vec![Id::F],
        condemned: Vec::new(),
        plans: vec![push(1, Id::C, None, 0)],
        collectors: 1,
        condemns_all: false,
        removals: 0,
        losses: 0,
        delays: 0,
        pauses: 0,
        deaths: 0,
        in_turn: false,
        begins_late: false,
        checks_end: false,
        broken: None,
    }
}

/// The same, but the file is beneath the base of the push, whose ref somebody removes.
fn on_a_base() -> Config {
    Config {
        refs: [Some(Id::B), None, None],
        garbage: Vec::new(),
        plans: vec![push(1, Id::C, Some((0, Id::B)), 0)],
        removals: 1,
        ..one_push()
    }
}

/// The same, but the base is condemned already, and there is garbage for another list after that.
fn on_a_condemned_base() -> Config {
    Config {
        garbage: vec![Id::E],
        condemned: vec![Id::B, Id::F],
        ..on_a_base()
    }
}

/// A push, and its retry.
fn retried() -> Config {
    let plan = push(1, Id::C, None, 0);
    Config {
        plans: vec![plan, plan],
        deaths: 1,
        ..one_push()
    }
}

/// A small model in which breaking the rule shows.
fn breaking(rule: Rule) -> Config {
    let garbage = one_push();
    let config = match rule {
        Rule::BasesAreReadUnderALease => on_a_base(),
        Rule::GcIsReadUnderALease
        | Rule::CondemnedCountsAsAbsent
        | Rule::SparedBeforeAcknowledged
        | Rule::TooLateIfNoLongerCondemned
        | Rule::SessionsAreWaitedFor
        | Rule::ClaimedBeforeRefsAreRead
        | Rule::RefsAreReadAgain
        | Rule::SparedStays => garbage,
        Rule::CommitsGoFirst => Config {
            garbage: vec![Id::D, Id::F],
            ..garbage
        },
        Rule::LeasesMoveByCompareAndSwap
        | Rule::LeaseIsYoungWhenPublishing
        | Rule::DeadSessionsAreFenced
        | Rule::NoTwoVersionsAreAlike => Config {
            pauses: 1,
            ..garbage
        },
        Rule::SparedListsAreNeverReplaced => Config {
            garbage: vec![Id::C, Id::F],
            ..garbage
        },
        Rule::LeaseStaysWhileUnclear => Config {
            delays: 1,
            removals: 1,
            ..garbage
        },
        Rule::JournalsCountByEpoch => Config {
            in_turn: true,
            ..retried()
        },
        Rule::JournalsFollowAnswers => Config {
            garbage: Vec::new(),
            collectors: 0,
            in_turn: true,
            ..retried()
        },
        Rule::NewCommitsKeepWhatTheyReach => Config {
            deaths: 1,
            ..garbage
        },
        Rule::GcMovesByCompareAndSwap => Config {
            collectors: 2,
            ..garbage
        },
        Rule::LivingClaimsAreRespected => Config {
            collectors: 2,
            begins_late: true,
            ..garbage
        },
        Rule::ListsHaveNamesOfTheirOwn => Config {
            garbage: vec![Id::F],
            collectors: 2,
            ..garbage
        },
        Rule::ClaimIsYoungWhenDeleting => Config {
            begins_late: true,
            pauses: 1,
            ..garbage
        },
        Rule::IdleWhenAllIsSettled => Config {
            delays: 1,
            ..garbage
        },
        Rule::BasesAreJudgedUnderOneList => on_a_condemned_base(),
    };
    Config {
        broken: Some(rule),
        ..config
    }
}

/// Counter-examples that a search has found: a rule, and the steps by their numbers. Where that
/// is none any more, a search finds another one, and takes a minute.
const FOUND: &str = include_str!("collection.txt");

fn is_extra() -> bool {
    std::env::var_os("ARTIFACT_CACHE_EXTRA").is_some_and(|value| value == "1")
}

/// Everything that may go wrong, once. To visit all states of some of these takes many minutes.
fn large() -> Vec<(&'static str, Config)> {
    let faults = |config| Config {
        losses: 1,
        delays: 1,
        pauses: 1,
        deaths: 1,
        ..config
    };
    let plan = push(1, Id::C, None, 0);
    let other = push(2, Id::D, Some((1, Id::C)), 1);
    vec![
        ("a push on a base, all faults", faults(on_a_base())),
        (
            "a push on a base that is condemned already, all faults",
            faults(on_a_condemned_base()),
        ),
        (
            "a push, all faults, a list that names everything",
            faults(Config {
                condemns_all: true,
                garbage: vec![Id::C, Id::F],
                ..one_push()
            }),
        ),
        (
            "two pushes, one on the other, the ref removed",
            Config {
                plans: vec![plan, other],
                removals: 1,
                pauses: 1,
                ..one_push()
            },
        ),
        (
            "a push and its retry, a death, a pause",
            Config {
                pauses: 1,
                in_turn: true,
                ..retried()
            },
        ),
        ("a push and its retry at once, a death", retried()),
        (
            "two collectors, a death, a pause",
            Config {
                collectors: 2,
                deaths: 1,
                pauses: 1,
                ..one_push()
            },
        ),
        (
            "two collectors, a request that arrives late",
            Config {
                collectors: 2,
                delays: 1,
                ..one_push()
            },
        ),
        (
            "two collectors, a list that names everything",
            Config {
                collectors: 2,
                condemns_all: true,
                garbage: vec![Id::C, Id::F],
                ..one_push()
            },
        ),
        (
            "two collectors, a base whose ref is removed, a pause",
            Config {
                collectors: 2,
                pauses: 1,
                begins_late: true,
                ..on_a_base()
            },
        ),
    ]
}

#[test]
fn breaking_any_rule_of_collection_gives_a_counter_example() {
    let mut found = String::new();
    for rule in Rule::ALL {
        let config = breaking(rule);
        let name = format!("{rule:?}");
        let mut lines = FOUND.lines().map(|line| line.split(' '));
        let line = lines.find_map(|mut line| (line.next() == Some(&name)).then_some(line));
        let known = line.map(|line| line.map(|number| number.parse().unwrap()).collect());
        let known = known.filter(|known: &Vec<u16>| !is_extra() && replay(&config, known).is_err());
        let steps = known.unwrap_or_else(|| {
            let report = search(&config, 400_000);
            println!("{name}: {} states, {} steps", report.states, report.steps);
            report.fault.expect("a counter-example").steps
        });
        let (words, why) = replay(&config, &steps).unwrap_err();
        println!("{name}: {why}");
        if std::env::var_os("TRACES").is_some() {
            words.iter().for_each(|step| println!("    {step}"));
        }
        let kept = Config {
            broken: None,
            ..config
        };
        assert!(
            replay(&kept, &steps).is_ok(),
            "{name}: the rule makes no difference"
        );
        let steps: Vec<_> = steps.iter().map(u16::to_string).collect();
        found += &format!("{name} {}\n", steps.join(" "));
    }
    if std::env::var_os("UPDATE_TRACES").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol/collection.txt");
        std::fs::write(path, &found).unwrap();
    }
}

#[test]
fn in_every_order_of_requests_no_ref_loses_anything_and_garbage_goes_in_the_end() {
    let small = vec![
        (
            "a push on a base",
            Config {
                checks_end: true,
                ..on_a_base()
            },
        ),
        (
            "a push on a base that is condemned already",
            on_a_condemned_base(),
        ),
        (
            "a push, an answer lost",
            Config {
                losses: 1,
                ..one_push()
            },
        ),
    ];
    let ends = vec![
        (
            "ends: a base",
            Config {
                checks_end: true,
                losses: 1,
                ..on_a_base()
            },
        ),
        (
            "ends: a push",
            Config {
                checks_end: true,
                deaths: 1,
                pauses: 1,
                ..one_push()
            },
        ),
        (
            "ends: two collectors",
            Config {
                checks_end: true,
                collectors: 2,
                deaths: 1,
                begins_late: true,
                ..one_push()
            },
        ),
        (
            "ends: a retry",
            Config {
                checks_end: true,
                in_turn: true,
                ..retried()
            },
        ),
    ];
    let models: Vec<_> = if is_extra() {
        ends.into_iter().chain(large()).collect()
    } else {
        small
    };
    let only = std::env::var("MODELS");
    let most = if only.is_ok() {
        usize::MAX
    } else {
        VISITED_MAX
    };
    let only = only.unwrap_or_default();
    let mut states = 0;
    for (name, config) in models.into_iter().filter(|(name, _)| name.contains(&only)) {
        let report = search(&config, most);
        let more = if report.is_cut_short {
            ", and more"
        } else {
            ""
        };
        println!(
            "{name}: {} states, {} steps, depth {}{more}",
            report.states, report.steps, report.depth
        );
        if let Some(fault) = report.fault {
            let words = replay(&config, &fault.steps).unwrap_or_else(|(words, _)| words);
            panic!("{name}: {}\n{}", fault.why, words.join("\n"));
        }
        states += report.states;
    }
    println!("{states} states");
}

/// States visited of each model, the nearest ones: a minute or two in a debug build.
const VISITED_MAX: usize = 2_500_000;
