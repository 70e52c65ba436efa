//! A whole push: both sessions, under any conditions, with any faults.

use artifact_protocol::dialect::Dialect;
use artifact_protocol::frame::{CloseCode, PushOptions, RefOutcome};
use artifact_protocol::session::Fault;

use crate::model::{Source, Store};
use crate::pair::{Pair, Split, Weather, announce_all};
use crate::props::draw::Draw;
use crate::props::world::{WORLD, draw_announcement, draw_id, draw_part};

/// The claim: however the bytes of a push arrive, wherever it is cut, whichever request of its
/// store fails, and whatever vanishes from the store meanwhile, the push ends, every ref is old or
/// new and complete, everything acknowledged is there, and the same push without faults succeeds.
pub fn a_push_in_any_weather_leaves_every_ref_old_or_new(input: &[u8]) {
    drive(input, None);
}

/// The same for a push in an old version, which the first byte chooses, and a retry in the newest.
pub fn an_old_push_in_any_weather_leaves_every_ref_old_or_new(input: &[u8]) {
    let (which, rest) = input.split_first().unwrap_or((&0, &[]));
    let dialect = [Dialect::V0, Dialect::V1][usize::from(*which) % 2];
    drive(rest, Some(dialect));
}

/// Returns whether something was acknowledged.
fn drive(input: &[u8], dialect: Option<Dialect>) -> bool {
    let mut draw = Draw::new(input);
    let before = draw_part(&mut draw);
    let mut announcement = draw_announcement(&mut draw);
    announcement.options = PushOptions::default();
    let mut store = Store::new(before.clone());
    store.fails_at = draw.once_in(2).then(|| {
        let fault = Fault {
            code: CloseCode::STORAGE_FAILED,
            text: "the disk is gone".to_owned(),
        };
        (draw.below(40), fault)
    });
    for _ in 0..draw.below(2) * draw.below(5) {
        // Objects that a ref reaches are not pruned.
        let id = draw_id(&mut draw);
        store.vanish.push_back(
            vec![id]
                .into_iter()
                .filter(|id| !before.objects.contains_key(id))
                .collect(),
        );
    }
    let mut source = Source::new(WORLD.clone());
    source.waits = draw.once_in(2);
    source.whole_len_max = *draw.pick(&[256, 1, 1_000]);
    let split = match draw.below(3) {
        0 => Split::Whole,
        1 => Split::Every(1 + draw.below(60)),
        _ => Split::UpTo(1 + draw.below(3_000)),
    };
    let mut cut = || draw.once_in(3).then(|| draw.below(4_000));
    let weather = Weather {
        cut_to_receiver: cut(),
        cut_to_sender: cut(),
        split,
        slow_source: draw.once_in(4),
        early: draw.below(2) == 0,
        dialect,
        seed: u64::try_from(draw.below(1 << 16)).expect("it is small"),
    };
    let mut pair = Pair::new(announcement.clone(), source, store, weather);
    assert_eq!(pair.drive_bounded(100_000), Ok(()));

    let after = &pair.store.repository;
    assert!(after.is_whole());
    for (name, commit) in &after.refs {
        let announced = announcement.refs.iter().find(|update| update.name == *name);
        let values = [
            before.refs.get(name),
            announced.map(|update| &update.commit),
        ];
        assert!(values.contains(&Some(commit)), "{name} is {commit}");
    }
    assert!(before.refs.keys().all(|name| after.refs.contains_key(name)));
    let mut acknowledged = false;
    for (update, outcome) in announcement
        .refs
        .iter()
        .zip(pair.outcomes().unwrap_or_default())
    {
        // In version 0, the server's exit code tells the outcome.
        let well = dialect != Some(Dialect::V0) || pair.receiver_error.is_none();
        if *outcome == RefOutcome::Updated && well {
            assert_eq!(after.refs.get(&update.name), Some(&update.commit));
            acknowledged = true;
        }
    }

    pair.store.reopen();
    let again = announce_all(&WORLD, PushOptions::default());
    let source = Source::new(WORLD.clone());
    let mut retry = Pair::new(again, source, pair.store, Weather::default());
    assert_eq!(retry.drive(), Ok(()));
    assert!(retry.receiver_error.is_none(), "{:?}", retry.receiver_error);
    assert!(retry.store.repository.is_whole());
    acknowledged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::props::noise;

    #[test]
    fn pushes_in_drawn_weather_often_succeed_and_often_fail() {
        let done = noise().filter(|input| drive(input, None)).count();
        assert!((50..450).contains(&done), "{done}");
        for dialect in [Dialect::V0, Dialect::V1] {
            let done = noise().filter(|input| drive(input, Some(dialect))).count();
            assert!((50..450).contains(&done), "{dialect:?}: {done}");
        }
    }
}
