//! A whole pull: both sessions, under any conditions, with any faults.

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::{Base, Expect, Prefix, PullOptions, RefOutcome};
use artifact_protocol::session::pull::{PullClientConfig, WantedRef};

use crate::props::draw::Draw;
use crate::pull::{Cache, Ending, Pair, Server, Store, Weather};

/// The claim: however the bytes of an answer arrive, wherever they end, whichever request of either
/// repository fails, and whatever the client holds already, the pull ends, every local ref is old
/// or the server's and whole, and the same pull without faults succeeds, and sends nothing that the
/// client says it holds.
pub fn a_pull_in_any_weather_leaves_every_ref_old_or_the_servers(input: &[u8]) {
    drive(input);
}

/// Returns whether the first pull moved a ref.
fn drive(input: &[u8]) -> bool {
    let mut draw = Draw::new(input);
    let cache = Cache::draw(&mut draw);
    let mut store = Store::new(draw_local(&mut draw, &cache));
    let before = store.cache.clone();
    let mut source = Server::new(cache.clone(), *draw.pick(&[256, 60, 1_000]));
    let history = *draw.pick(&[0, 0, 1, 9]);
    let patterns = match draw.once_in(3) {
        true => vec!["p/**".parse().expect("a pattern")],
        false => Vec::new(),
    };
    store.fails_at = draw.once_in(4).then(|| draw.below(12));
    source.fails_at = draw.once_in(4).then(|| draw.below(12));
    let weather = Weather {
        seed: draw.below(1 << 16) as u64,
        split: *draw.pick(&[100_000, 30, 300, 3_000]),
        cut: draw.once_in(3).then(|| draw.below(4_000)),
        one_way: draw.once_in(2),
        takes_pushes: draw.once_in(2),
    };
    let is_dry = draw.once_in(5);
    let config = |store: &Store| PullClientConfig {
        options: match is_dry {
            true => PullOptions::DRY_RUN,
            false => PullOptions::default(),
        },
        history,
        patterns: patterns.clone(),
        ..ask(&cache, store)
    };
    let pair = Pair::new(config(&store), store, source, weather);
    let (ending, store, _) = pair.drive();
    let moved = check(&ending, &before, &store, &cache);
    assert!(!(is_dry && moved), "a dry run moved a ref");
    if is_dry {
        return false;
    }

    // The same again.
    let store = store.reopened();
    let (again, held) = (config(&store), holdings(&store));
    let (before, source) = (store.cache.clone(), Server::new(cache.clone(), 256));
    let fair = Weather {
        seed: 1,
        split: 100_000,
        cut: None,
        one_way: false,
        takes_pushes: false,
    };
    let (ending, store, source) = Pair::new(again, store, source, fair).drive();
    assert!(ending.client.is_ok(), "{:?}", ending.client);
    check(&ending, &before, &store, &cache);
    for id in &source.listed {
        assert!(!held.contains(&Prefix::of(&id.checksum)), "{id} is held");
    }
    for (name, commit) in &cache.refs {
        assert_eq!(store.cache.refs.get(name), Some(commit));
        let metadata = cache.detached.get(commit);
        assert_eq!(store.cache.detached.get(commit), metadata);
        for ancestor in cache.ancestors(*commit, history) {
            assert!(
                store.cache.closure(ancestor).1.is_empty(),
                "a whole history"
            );
        }
    }

    // Nothing is left to do.
    let store = store.reopened();
    let nothing = config(&store);
    let source = Server::new(cache.clone(), 256);
    let (ending, _, source) = Pair::new(nothing, store, source, fair).drive();
    let unchanged = |(_, outcome): &(_, RefOutcome)| *outcome == RefOutcome::Unchanged;
    assert!(ending.outcomes.expect("an answer").iter().all(unchanged));
    assert!(source.listed.is_empty());
    moved
}

/// Draws what the client has: nothing, or the commit of one ref, which may be of another name.
pub(super) fn draw_local(draw: &mut Draw<'_>, cache: &Cache) -> Cache {
    let mut local = Cache::default();
    let which = draw.below(5);
    let Some((name, commit)) = cache.refs.iter().nth(which) else {
        return local;
    };
    for id in cache.closure(*commit).0 {
        local.objects.insert(id, cache.objects[&id].clone());
    }
    let name = match draw.once_in(2) {
        true => "p/other/name".parse().expect("a name"),
        false => name.clone(),
    };
    local.refs.insert(name, *commit);
    local
}

/// Asks for every ref of a cache, as a client of this store does.
pub(super) fn ask(cache: &Cache, store: &Store) -> PullClientConfig {
    let sum = |commit: &Checksum| {
        let metadata = store.cache.detached.get(commit);
        metadata.map(|metadata| Checksum::of(metadata))
    };
    let wanted = cache.refs.keys().map(|name| {
        let current = store.cache.refs.get(name).copied();
        WantedRef {
            name: name.clone(),
            current,
            detached: current.as_ref().and_then(sum),
            expect: current.map_or(Expect::Absent, Expect::Is),
        }
    });
    let held = store.cache.refs.iter().map(|(name, commit)| Base {
        name: name.clone(),
        commit: *commit,
    });
    PullClientConfig {
        refs: wanted.collect(),
        held: held.collect(),
        objects: holdings(store),
        ..PullClientConfig::default()
    }
}

/// Returns what a client of this store holds outside of complete commits.
fn holdings(store: &Store) -> Vec<Prefix> {
    let staged = store.staged.keys();
    let outside = staged.filter(|id: &&ObjectId| !store.cache.objects.contains_key(id));
    outside.map(|id| Prefix::of(&id.checksum)).collect()
}

/// Checks the client's repository after a pull; returns whether a ref moved.
fn check(ending: &Ending, before: &Cache, store: &Store, cache: &Cache) -> bool {
    let after = &store.cache;
    assert!(after.is_whole());
    for (name, commit) in &after.refs {
        let values = [before.refs.get(name), cache.refs.get(name)];
        assert!(values.contains(&Some(commit)), "{name} is {commit}");
    }
    assert!(before.refs.keys().all(|name| after.refs.contains_key(name)));
    if store.publications == 0 {
        assert_eq!(after.refs, before.refs);
    }
    let outcomes = ending.outcomes.iter().flatten();
    for (name, outcome) in outcomes {
        if matches!(outcome, RefOutcome::Updated | RefOutcome::Unchanged) {
            assert_eq!(after.refs.get(name), cache.refs.get(name));
        }
    }
    assert!(ending.outcomes.is_some() || ending.client.is_err());
    after.refs != before.refs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::props::noise;

    #[test]
    fn pulls_in_drawn_weather_often_succeed_and_often_fail() {
        let done = noise().take(150).filter(|input| drive(input)).count();
        assert!((15..135).contains(&done), "{done}");
    }
}
