//! Faults between a client and any bucket: lost requests and answers, a busy server, conflicts,
//! delays, and the client's death at a chosen request.
//!
//! A function of the test chooses the fate of each request; otherwise a seed does, so that a single
//! thread sees the same faults every time. A lost answer never arrives later, although the server
//! has executed its request.

mod counts;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::bucket::random::Random;
use crate::bucket::seam::{Answer, Bucket, BucketError, Condition, Request, Then};
use crate::bucket::timer::Timer;

pub use self::counts::Counts;

/// A client's connection to a bucket. Clones share it; a second client needs one of its own.
#[derive(Clone)]
pub struct Faulty {
    shared: Arc<Shared>,
}

struct Shared {
    bucket: Arc<dyn Bucket>,
    state: Mutex<State>,
    timer: OnceLock<Timer>,
}

/// The outcome of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is executed and answered.
    Pass,
    /// It is not executed: the server is busy (503).
    Busy,
    /// A conditional put is not executed, as if another put of the key were in progress (409). Any
    /// other request passes.
    Conflict,
    /// It is lost or cut on its way to the server: not executed, but the client does not know that.
    Unsent,
    /// It is executed, and its answer is lost or cut.
    Unheard,
    /// The client gives up on it now; [`Faulty::release`] lets the server execute it later.
    Late,
    /// It is executed and answered only once [`Faulty::release`] lets it go on.
    Held,
    /// It is sent after this delay.
    Slow(Duration),
    /// The client dies before it is sent.
    DieBefore,
    /// The client dies after it was executed, without its answer.
    DieAfter,
}

/// The faults per thousand requests whose fates no function chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The seed: equal seeds give the same faults in the same order.
    pub seed: u64,
    /// [`Fate::Busy`].
    pub busy: u16,
    /// [`Fate::Conflict`].
    pub conflict: u16,
    /// [`Fate::Unsent`].
    pub unsent: u16,
    /// [`Fate::Unheard`].
    pub unheard: u16,
    /// [`Fate::Late`]; released at random by later requests.
    pub late: u16,
    /// The delay of every request that is sent ([`Fate::Slow`]).
    pub delay: Duration,
}

type Choose = Box<dyn FnMut(u64, &Request) -> Option<Fate> + Send>;
type Watch = Arc<dyn Fn(u64, &Request, &Result<Answer, BucketError>) + Send + Sync>;

struct State {
    faults: Faults,
    random: Random,
    choose: Option<Choose>,
    watch: Option<Watch>,
    is_dead: bool,
    counts: Counts,
    next: u64,
    held: BTreeMap<u64, Waiting>,
}

/// A request on its way to the server. Without a `then`, no client waits for its answer.
struct Waiting {
    request: Request,
    then: Option<Then>,
}

impl Faulty {
    /// A connection without faults.
    pub fn new(bucket: Arc<dyn Bucket>) -> Self {
        let state = State {
            faults: Faults::default(),
            random: Random::of_seed(0),
            choose: None,
            watch: None,
            is_dead: false,
            counts: Counts::default(),
            next: 0,
            held: BTreeMap::new(),
        };
        Self {
            shared: Arc::new(Shared {
                bucket,
                state: Mutex::new(state),
                timer: OnceLock::new(),
            }),
        }
    }

    /// Sets the faults from now on, and restarts at their seed.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.shared.state.lock();
        state.faults = faults;
        state.random = Random::of_seed(faults.seed);
    }

    /// Has this function choose the fates of requests by their numbers, from 0. Where it returns
    /// `None`, the [faults](Self::set_faults) decide.
    ///
    /// The function must neither use this connection nor wait.
    pub fn choose(&self, choose: impl FnMut(u64, &Request) -> Option<Fate> + Send + 'static) {
        self.shared.state.lock().choose = Some(Box::new(choose));
    }

    /// Chooses the fate of the request with this number.
    pub fn at(&self, number: u64, fate: Fate) {
        self.choose(move |at, _| (at == number).then_some(fate));
    }

    /// Shows this function every request and its answer, before the client gets the answer.
    pub fn watch(
        &self,
        watch: impl Fn(u64, &Request, &Result<Answer, BucketError>) + Send + Sync + 'static,
    ) {
        self.shared.state.lock().watch = Some(Arc::new(watch));
    }

    /// Returns the requests that are held or late, by number.
    pub fn held(&self) -> Vec<(u64, Request)> {
        let state = self.shared.state.lock();
        let held = state.held.iter();
        held.map(|(number, waiting)| (*number, waiting.request.clone()))
            .collect()
    }

    /// Sends a request that is held or late. Returns `false` if none has this number.
    pub fn release(&self, number: u64) -> bool {
        let held = self.shared.state.lock().held.remove(&number);
        let Some(waiting) = held else {
            return false;
        };
        match waiting.then {
            Some(then) => Shared::send(&self.shared, number, waiting.request, then),
            None => self.shared.bucket.start(waiting.request, Box::new(|_| {})),
        }
        true
    }

    /// Sends all requests that are held or late, in their order.
    pub fn release_all(&self) {
        for (number, _) in self.held() {
            self.release(number);
        }
    }

    /// Lets the client die: from now on it sends nothing and hears nothing. Held requests are still
    /// on their way to the server.
    pub fn kill(&self) {
        let mut state = self.shared.state.lock();
        state.is_dead = true;
        let waiting = state.held.values_mut();
        let thens: Vec<Then> = waiting.filter_map(|waiting| waiting.then.take()).collect();
        drop(state);
        for then in thens {
            then(Err(dead()));
        }
    }

    /// Returns whether the client is dead.
    pub fn is_dead(&self) -> bool {
        self.shared.state.lock().is_dead
    }

    /// Returns how many requests were made.
    pub fn counts(&self) -> Counts {
        self.shared.state.lock().counts
    }
}

impl Bucket for Faulty {
    fn start(&self, request: Request, then: Then) {
        let mut state = self.shared.state.lock();
        if state.is_dead {
            drop(state);
            return then(Err(dead()));
        }
        let number = state.next;
        state.next += 1;
        state.counts.add(&request);
        let late = state.late_now();
        let fate = state.fate(number, &request);
        drop(state);
        if let Some(late) = late {
            self.release(late);
        }
        Shared::meet(&self.shared, number, request, then, fate);
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty")
            .field("bucket", &self.shared.bucket)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn meet(this: &Arc<Self>, number: u64, request: Request, then: Then, fate: Fate) {
        let way = Faulty {
            shared: Arc::clone(this),
        };
        let hold = |then, request| {
            let waiting = Waiting { request, then };
            this.state.lock().held.insert(number, waiting);
        };
        match fate {
            Fate::Pass => Self::send(this, number, request, then),
            Fate::Busy => {
                let busy = BucketError::Busy("slow down".to_owned());
                this.answer(number, &request, then, Err(busy));
            }
            Fate::Conflict => this.answer(number, &request, then, Ok(Answer::NotMet)),
            Fate::Unsent => this.answer(number, &request, then, Err(unclear())),
            Fate::Unheard => {
                let shared = Arc::clone(this);
                let asked = request.clone();
                let unheard = move |_| shared.answer(number, &asked, then, Err(unclear()));
                this.bucket.start(request, Box::new(unheard));
            }
            Fate::Late => {
                hold(None, request.clone());
                this.answer(number, &request, then, Err(unclear()));
            }
            Fate::Held => hold(Some(then), request),
            Fate::Slow(time) => {
                let shared = Arc::clone(this);
                let timer = this.timer.get_or_init(Timer::new);
                timer.after(time, move || Self::send(&shared, number, request, then));
            }
            Fate::DieBefore => {
                way.kill();
                then(Err(dead()));
            }
            Fate::DieAfter => {
                let died = move |_| {
                    way.kill();
                    then(Err(dead()));
                };
                this.bucket.start(request, Box::new(died));
            }
        }
    }

    fn send(this: &Arc<Self>, number: u64, request: Request, then: Then) {
        let shared = Arc::clone(this);
        let asked = request.clone();
        let heard = move |answer| shared.answer(number, &asked, then, answer);
        this.bucket.start(request, Box::new(heard));
    }

    /// Gives the client its answer, unless it is dead by now.
    fn answer(
        &self,
        number: u64,
        request: &Request,
        then: Then,
        answer: Result<Answer, BucketError>,
    ) {
        let state = self.state.lock();
        let (watch, is_dead) = (state.watch.clone(), state.is_dead);
        drop(state);
        let answer = if is_dead { Err(dead()) } else { answer };
        if let Some(watch) = watch {
            watch(number, request, &answer);
        }
        then(answer);
    }
}

impl State {
    fn fate(&mut self, number: u64, request: &Request) -> Fate {
        let chosen = self
            .choose
            .as_mut()
            .and_then(|choose| choose(number, request));
        let fate = chosen.unwrap_or_else(|| self.at_random());
        let is_swap = matches!(
            request,
            Request::Put {
                condition: Condition::New | Condition::Is(_),
                ..
            }
        );
        match fate {
            Fate::Conflict if !is_swap => Fate::Pass,
            Fate::Pass if !self.faults.delay.is_zero() => Fate::Slow(self.faults.delay),
            fate => fate,
        }
    }

    fn at_random(&mut self) -> Fate {
        let faults = self.faults;
        let mut drawn = self.random.below(1000);
        for (share, fate) in [
            (faults.busy, Fate::Busy),
            (faults.conflict, Fate::Conflict),
            (faults.unsent, Fate::Unsent),
            (faults.unheard, Fate::Unheard),
            (faults.late, Fate::Late),
        ] {
            let share = u64::from(share);
            if drawn < share {
                return fate;
            }
            drawn -= share;
        }
        Fate::Pass
    }

    /// Returns a late request whose time has come, if requests are late at random.
    fn late_now(&mut self) -> Option<u64> {
        if self.faults.late == 0 || self.random.below(4) > 0 {
            return None;
        }
        let mut held = self.held.iter();
        let late = held.find(|(_, waiting)| waiting.then.is_none());
        late.map(|(number, _)| *number)
    }
}

fn unclear() -> BucketError {
    BucketError::Unclear("the connection broke".to_owned())
}

fn dead() -> BucketError {
    BucketError::Unclear("this client is dead".to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bucket::client::{Client, Outcome};
    use crate::bucket::clock::ManualClock;
    use crate::bucket::memory::Memory;
    use crate::bucket::seam::{Class, Key, Tag};

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
}
