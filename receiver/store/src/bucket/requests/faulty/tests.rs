use bytes::Bytes;

use super::*;
use crate::bucket::requests::client::{Client, Outcome};
use crate::bucket::requests::clock::ManualClock;
use crate::bucket::requests::memory::Memory;
use crate::bucket::requests::seam::{Class, Key, Tag};

fn way(memory: &Memory) -> (Faulty, Client) {
    let faulty = Faulty::new(Arc::new(memory.clone()));
    let client = Client::new(Arc::new(faulty.clone()), Arc::new(ManualClock::default()));
    (faulty, client)
}

fn put(client: &Client, name: &str, condition: Condition) -> Result<Outcome, BucketError> {
    let key = Key::new(name).unwrap();
    client.put(
        &key,
        Bytes::from_static(b"content"),
        condition,
        Class::Object,
    )
}

fn has(memory: &Memory, name: &str) -> bool {
    memory.objects().contains_key(&Key::new(name).unwrap())
}

#[test]
fn a_lost_answer_belongs_to_a_put_that_took_place_and_a_lost_put_to_none() {
    let memory = Memory::new();
    let (faulty, client) = way(&memory);
    faulty.at(0, Fate::Unheard);
    assert!(matches!(
        put(&client, "a", Condition::New),
        Err(BucketError::Unclear(_))
    ));
    assert!(has(&memory, "a"));
    faulty.at(1, Fate::Unsent);
    assert!(matches!(
        put(&client, "b", Condition::New),
        Err(BucketError::Unclear(_))
    ));
    assert!(!has(&memory, "b"));
    faulty.at(2, Fate::Conflict);
    assert_eq!(put(&client, "b", Condition::New), Ok(Outcome::NotMet));
    assert!(!has(&memory, "b"));
}

#[test]
fn a_late_put_takes_place_after_its_client_gave_up_and_by_its_condition() {
    let memory = Memory::new();
    let (faulty, client) = way(&memory);
    for number in [0, 2] {
        faulty.at(number, Fate::Late);
        assert!(put(&client, "k", Condition::New).is_err());
        assert!(!has(&memory, "k"));
        put(&client, &format!("other-{number}"), Condition::New).unwrap();
    }
    let held: Vec<u64> = faulty.held().iter().map(|(number, _)| *number).collect();
    assert_eq!(held, [0, 2]);
    assert!(faulty.release(0) && !faulty.release(0));
    assert!(has(&memory, "k"));
    memory.advance(60);
    faulty.release_all();
    let stored = &memory.objects()[&Key::new("k").unwrap()];
    assert_eq!(stored.modified, ManualClock::START);
}

#[test]
fn the_dead_send_nothing_and_their_held_requests_may_still_arrive() {
    let memory = Memory::new();
    let (faulty, client) = way(&memory);
    faulty.choose(|number, _| (number == 0).then_some(Fate::Held));
    let waits = std::thread::spawn({
        let client = client.clone();
        move || put(&client, "held", Condition::New)
    });
    while faulty.held().is_empty() {
        std::thread::yield_now();
    }
    faulty.kill();
    assert!(waits.join().unwrap().is_err());
    assert!(put(&client, "after", Condition::New).is_err());
    assert!(memory.objects().is_empty());
    faulty.release_all();
    assert!(has(&memory, "held") && !has(&memory, "after"));

    for (fate, happens) in [(Fate::DieBefore, false), (Fate::DieAfter, true)] {
        let (faulty, client) = way(&memory);
        faulty.at(1, fate);
        let name = format!("{fate:?}");
        put(&client, "before", Condition::Always).unwrap();
        assert!(put(&client, &name, Condition::New).is_err());
        assert!(put(&client, "never", Condition::New).is_err());
        assert_eq!(has(&memory, &name), happens);
        assert!(!has(&memory, "never") && faulty.is_dead());
    }
}

#[test]
fn a_seed_repeats_its_faults_and_safe_requests_outlast_them() {
    let run = |seed| {
        let memory = Memory::new();
        let (faulty, client) = way(&memory);
        let faults = Faults {
            seed,
            busy: 100,
            unsent: 100,
            unheard: 100,
            late: 100,
            ..Faults::default()
        };
        faulty.set_faults(faults);
        for number in 0..50 {
            put(&client, &format!("k{number}"), Condition::Always).unwrap();
        }
        faulty.release_all();
        assert_eq!(memory.objects().len(), 50);
        faulty.counts()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert!(run(1).puts > 60);
}

#[test]
fn a_delay_is_as_long_as_it_says_and_requests_overlap() {
    let memory = Memory::new();
    let (faulty, client) = way(&memory);
    faulty.set_faults(Faults {
        delay: Duration::from_millis(20),
        ..Faults::default()
    });
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let client = client.clone();
            scope.spawn(move || put(&client, &format!("k{number}"), Condition::New));
        }
    });
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(20) && took < Duration::from_millis(160),
        "{took:?}"
    );
    assert_eq!(memory.objects().len(), 8);
    assert_eq!(faulty.counts().swaps, 8);
    let wrong = Condition::Is(Tag::new("wrong"));
    assert_eq!(put(&client, "k1", wrong), Ok(Outcome::NotMet));
}
