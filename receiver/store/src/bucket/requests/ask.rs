//! Requests that are sent together, each with an answer or an error of its own.
//!
//! A [window](crate::bucket::requests::window) stops at the first error, as staging must. To read
//! or set refs, the store needs the outcome of each request.

use std::fmt;
use std::sync::mpsc::{Sender, channel};

use crate::bucket::requests::client::{Client, dropped};
use crate::bucket::requests::seam::{Answer, Entry, Found, Key, Request};
use crate::error::Error;
use crate::error::bucket::BucketError;

/// Sends requests, many at once, waits for all of them, and returns their outcomes in order.
///
/// Repeats requests where that is safe, all together, as long as [`Client::call`] repeats one.
pub(crate) fn ask_all(client: &Client, requests: Vec<Request>) -> Vec<Result<Answer, BucketError>> {
    let mut waits = client.waits();
    let mut started = client.clock().now();
    let mut outcomes = ask_once(client, &requests, || true);
    loop {
        let outcome = outcomes.iter().zip(&requests);
        let failed = outcome.map(|(outcome, request)| may_repeat(outcome, request));
        let failed = failed.enumerate();
        let again: Vec<_> = failed
            .filter_map(|(at, again)| again.then_some(at))
            .collect();
        let Some(Err(error)) = again.first().map(|at| &outcomes[*at]) else {
            return outcomes;
        };
        let took = client.clock().now().saturating_sub(started);
        let Some(wait) = waits.before_repeating(true, error, took) else {
            return outcomes;
        };
        client.clock().sleep(wait);
        started = client.clock().now();
        let repeated: Vec<_> = again.iter().map(|at| requests[*at].clone()).collect();
        let repeated = ask_once(client, &repeated, || true);
        for (at, outcome) in again.into_iter().zip(repeated) {
            outcomes[at] = outcome;
        }
    }
}

fn may_repeat(outcome: &Result<Answer, BucketError>, request: &Request) -> bool {
    match outcome {
        Err(BucketError::Busy(_)) => true,
        Err(BucketError::Unclear(_)) => request.is_repeatable(),
        Ok(_) | Err(BucketError::Refused(_) | BucketError::Broken(_)) => false,
    }
}

/// Sends each request once, and returns their outcomes in order. Calls `may` right before each, and
/// stops sending while it returns `false`. A request that was not sent counts as
/// [`Busy`](BucketError::Busy).
pub(crate) fn ask_once(
    client: &Client,
    requests: &[Request],
    may: impl Fn() -> bool,
) -> Vec<Result<Answer, BucketError>> {
    let (sender, answers) = channel();
    let not_sent = || Err(BucketError::Busy("it was not asked".to_owned()));
    let mut outcomes: Vec<_> = requests.iter().map(|_| not_sent()).collect();
    let (mut next, mut flying) = (0, 0);
    loop {
        while let Some(request) = requests.get(next).filter(|_| flying < AT_ONCE)
            && may()
        {
            let mut reply = Reply {
                at: next,
                sender: Some(sender.clone()),
            };
            next += 1;
            flying += 1;
            let then = Box::new(move |answer| reply.give(answer));
            client.bucket().start(request.clone(), then);
        }
        if flying == 0 {
            break;
        }
        let Ok((at, outcome)) = answers.recv() else {
            break;
        };
        flying -= 1;
        outcomes[at] = outcome;
    }
    outcomes
}

/// Reads objects, many at once, in order; `None` for each that does not exist.
pub(crate) fn get_all(client: &Client, keys: &[Key]) -> Result<Vec<Option<Found>>, Error> {
    let answers = ask_all(client, keys.iter().map(get).collect());
    let found = answers.into_iter().zip(keys);
    found.map(|(answer, key)| found_at(key, answer)).collect()
}

/// Returns the request to read an object.
pub(crate) fn get(key: &Key) -> Request {
    Request::Get {
        key: key.clone(),
        unless: None,
    }
}

/// Takes the answer to a read of this key.
pub(crate) fn found_at(
    key: &Key,
    answer: Result<Answer, BucketError>,
) -> Result<Option<Found>, Error> {
    found(answer).map_err(Error::bucket("reading", key))
}

/// Takes the answer to a read.
fn found(answer: Result<Answer, BucketError>) -> Result<Option<Found>, BucketError> {
    match answer? {
        Answer::Found(found) => Ok(Some(found)),
        Answer::Absent => Ok(None),
        other => Err(BucketError::misfit("a read", &other)),
    }
}

/// Gives one answer, even if the engine drops the request without one.
struct Reply {
    at: usize,
    sender: Option<Sender<(usize, Result<Answer, BucketError>)>>,
}

impl Reply {
    fn give(&mut self, answer: Result<Answer, BucketError>) {
        if let Some(sender) = self.sender.take() {
            // The receiver waits until every request has ended.
            let _ = sender.send((self.at, answer));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.give(Err(dropped()));
    }
}

/// The most requests in flight: they are small, and few pushes need more.
const AT_ONCE: usize = 64;

/// Returns the entries of a list; `what` names it for the error.
pub(crate) fn listed(
    what: &impl fmt::Display,
    answer: Result<Answer, BucketError>,
) -> Result<Vec<Entry>, Error> {
    match answer {
        Ok(Answer::Listed(listed)) => Ok(listed.entries),
        Ok(other) => Err(Error::bucket("listing", what)(BucketError::misfit(
            "a list", &other,
        ))),
        Err(error) => Err(Error::bucket("listing", what)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bucket::requests::clock::{Clock, ManualClock};
    use crate::bucket::requests::faulty::{Fate, Faulty};
    use crate::bucket::requests::memory::Memory;

    #[test]
    fn requests_that_fail_together_are_repeated_together() {
        let way = Faulty::new(Arc::new(Memory::new()));
        let clock = ManualClock::default();
        let client = Client::new(Arc::new(way.clone()), Arc::new(clock.clone()));
        let key = |at: u64| Key::new(format!("k/{at}")).unwrap();
        way.choose(|number, _| (number < 2 * REQUESTS).then_some(Fate::Busy));
        let answers = ask_all(&client, (0..REQUESTS).map(|at| get(&key(at))).collect());
        assert!(answers.iter().all(|answer| *answer == Ok(Answer::Absent)));
        // One request alone waits as long for its third attempt.
        assert!(clock.now().as_millis() <= 150, "{:?}", clock.now());
        way.choose(|_, _| Some(Fate::Busy));
        let answers = ask_all(&client, (0..REQUESTS).map(|at| get(&key(at))).collect());
        assert!((answers.iter()).all(|answer| matches!(answer, Err(BucketError::Busy(_)))));
        assert!(clock.now().as_secs() < 200, "{:?}", clock.now());
    }

    const REQUESTS: u64 = 50;
}
