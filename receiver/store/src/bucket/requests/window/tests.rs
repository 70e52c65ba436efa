use super::*;
use crate::bucket::requests::clock::{Clock, ManualClock, SystemClock};
use crate::bucket::requests::faulty::{Fate, Faults, Faulty};
use crate::bucket::requests::memory::Memory;

fn window(memory: &Memory, clock: impl Clock) -> (Faulty, Window) {
    let faulty = Faulty::new(Arc::new(memory.clone()));
    let client = Client::new(Arc::new(faulty.clone()), Arc::new(clock));
    (faulty, Window::new(client))
}

fn key(number: usize) -> Key {
    Key::new(format!("k{number:04}")).unwrap()
}

#[test]
fn puts_outlast_faults_and_settle_waits_for_all() {
    let memory = Memory::new();
    let (faulty, window) = window(&memory, ManualClock::default());
    faulty.set_faults(Faults {
        seed: 3,
        busy: 50,
        unsent: 50,
        unheard: 50,
        ..Faults::default()
    });
    for number in 0..500 {
        window
            .put(key(number), Bytes::from(vec![7; number]), Class::Object)
            .unwrap();
    }
    window.settle().unwrap();
    assert_eq!((memory.objects().len(), window.done()), (500, 500));
    let keys = [key(3), Key::new("absent").unwrap(), key(499)];
    let found = window.get_all(&keys).unwrap();
    let lens: Vec<Option<usize>> = found
        .iter()
        .map(|found| found.as_ref().map(|found| found.content.len()))
        .collect();
    assert_eq!(lens, [Some(3), None, Some(499)]);
}

#[test]
fn the_first_error_is_remembered_and_nothing_starts_after_it() {
    let memory = Memory::new();
    let (faulty, window) = window(&memory, ManualClock::default());
    faulty.at(1, Fate::Conflict);
    let request = |number, condition| Request::Put {
        key: key(number),
        content: Bytes::new(),
        condition,
        class: Class::Object,
    };
    let must_store = |answer| match answer {
        Answer::Stored(_) => Ok(()),
        other => Err(BucketError::misfit("a put", &other)),
    };
    window
        .start(request(0, Condition::New), must_store)
        .unwrap();
    window
        .start(request(1, Condition::New), must_store)
        .unwrap();
    assert!(
        window
            .start(request(2, Condition::New), must_store)
            .is_err()
    );
    assert!(window.settle().is_err());
    assert_eq!((memory.objects().len(), faulty.counts().all()), (1, 2));
}

#[test]
fn bytes_in_flight_are_bounded_and_one_large_request_passes() {
    let memory = Memory::new();
    let (faulty, window) = window(&memory, SystemClock);
    faulty.choose(|_, _| Some(Fate::Held));
    let third = Bytes::from(vec![0; Window::BYTES_MAX / 3]);
    for number in 0..3 {
        window
            .put(key(number), third.clone(), Class::Object)
            .unwrap();
    }
    let fourth = std::thread::spawn({
        let window = window.clone();
        move || {
            window.put(
                key(3),
                Bytes::from(vec![0; Window::BYTES_MAX * 2]),
                Class::Object,
            )
        }
    });
    for number in 0..3 {
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(
            faulty.held().len(),
            3 - number,
            "the fourth waits for the other three"
        );
        faulty.release(number as u64);
    }
    fourth.join().unwrap().unwrap();
    faulty.release_all();
    window.settle().unwrap();
    assert_eq!(memory.objects().len(), 4);
}

#[test]
fn an_engine_that_forgets_a_request_ends_it() {
    #[derive(Debug)]
    struct Forgetful;
    impl crate::bucket::requests::seam::Bucket for Forgetful {
        fn start(&self, _: Request, _: crate::bucket::requests::seam::Then) {}
    }
    let client = Client::new(Arc::new(Forgetful), Arc::new(ManualClock::default()));
    assert!(matches!(client.get(&key(1)), Err(BucketError::Unclear(_))));
    let window = Window::new(client);
    let upload = Request::BeginUpload {
        key: key(1),
        class: Class::Object,
    };
    window.start(upload, |_| Ok(())).unwrap();
    assert!(matches!(window.settle(), Err(BucketError::Unclear(_))));
}
