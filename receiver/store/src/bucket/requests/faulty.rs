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

use crate::bucket::requests::random::Random;
use crate::bucket::requests::seam::{Answer, Bucket, Condition, Request, Then};
use crate::bucket::requests::timer::Timer;
use crate::error::bucket::BucketError;

pub use crate::bucket::requests::faulty::counts::Counts;

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

    /// Returns the number of requests of each kind.
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
mod tests;
