//! Blocking requests to a bucket, repeated where that is safe.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;

use crate::bucket::requests::clock::Clock;
use crate::bucket::requests::random::Random;
use crate::bucket::requests::seam::{
    Answer, Bucket, Class, Condition, DELETE_MAX, Entry, Found, Key, LIST_MAX, Listed, Request,
    Tag, Upload,
};
use crate::error::bucket::BucketError;

/// A bucket, and the clock that times waits for it. Clones share both.
///
/// Each method blocks the calling thread. It repeats a request while the server is busy, and after
/// an unclear answer if the request [is repeatable](Request::is_repeatable). It gives up after
/// about two minutes.
#[derive(Clone, Debug)]
pub struct Client {
    bucket: Arc<dyn Bucket>,
    clock: Arc<dyn Clock>,
    patience: Duration,
}

/// The outcome of reading an object unless a copy is still current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The object, which differs from the copy.
    Found(Found),
    /// The copy is current.
    Unchanged,
    /// The object does not exist.
    Absent,
}

/// The outcome of a conditional put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object is stored, with this tag.
    Stored(Tag),
    /// The put did not store it. The key may hold anything, even this very content, if the answer
    /// to an earlier put was lost.
    NotMet,
}

impl Client {
    /// A client of a bucket.
    pub fn new(bucket: Arc<dyn Bucket>, clock: Arc<dyn Clock>) -> Self {
        Self {
            bucket,
            clock,
            patience: PATIENCE,
        }
    }

    /// Sets how long a method repeats a request before it gives up.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Returns the waits between the repetitions of a new request.
    pub(crate) fn waits(&self) -> Waits {
        Waits::new(Random::new(), self.patience)
    }

    /// Returns the bucket, for requests that must neither block nor be repeated.
    pub const fn bucket(&self) -> &Arc<dyn Bucket> {
        &self.bucket
    }

    /// Returns the clock.
    pub const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Reads an object; `None` if it does not exist.
    pub fn get(&self, key: &Key) -> Result<Option<Found>, BucketError> {
        match self.read(key, None)? {
            Read::Found(found) => Ok(Some(found)),
            Read::Absent => Ok(None),
            Read::Unchanged => Err(BucketError::misfit("a read", &Answer::Unchanged)),
        }
    }

    /// Reads an object unless it still has the tag of the copy at hand.
    pub fn read(&self, key: &Key, unless: Option<Tag>) -> Result<Read, BucketError> {
        let key = key.clone();
        match self.call(&Request::Get { key, unless })? {
            Answer::Found(found) => Ok(Read::Found(found)),
            Answer::Unchanged => Ok(Read::Unchanged),
            Answer::Absent => Ok(Read::Absent),
            other => Err(BucketError::misfit("a read", &other)),
        }
    }

    /// Reads a piece of an object; `None` if the object does not exist.
    pub fn get_range(&self, key: &Key, from: u64, most: u64) -> Result<Option<Found>, BucketError> {
        let key = key.clone();
        match self.call(&Request::GetRange { key, from, most })? {
            Answer::Found(found) => Ok(Some(found)),
            Answer::Absent => Ok(None),
            other => Err(BucketError::misfit("a read", &other)),
        }
    }

    /// Stores an object if the condition holds.
    ///
    /// With any condition but [`Condition::Always`], an unclear answer is the error
    /// [`BucketError::Unclear`]: the caller must read the key again to learn whether the put took
    /// place.
    pub fn put(
        &self,
        key: &Key,
        content: Bytes,
        condition: Condition,
        class: Class,
    ) -> Result<Outcome, BucketError> {
        let key = key.clone();
        match self.call(&Request::Put {
            key,
            content,
            condition,
            class,
        })? {
            Answer::Stored(tag) => Ok(Outcome::Stored(tag)),
            Answer::NotMet => Ok(Outcome::NotMet),
            other => Err(BucketError::misfit("a put", &other)),
        }
    }

    /// Begins an upload in pieces.
    pub fn begin_upload(&self, key: &Key, class: Class) -> Result<Upload, BucketError> {
        let key = key.clone();
        match self.call(&Request::BeginUpload { key, class })? {
            Answer::Upload(upload) => Ok(upload),
            other => Err(BucketError::misfit("the begin of an upload", &other)),
        }
    }

    /// Completes an upload, which becomes an object. After an unclear answer nobody knows whether
    /// the upload is complete, and the caller must send the object's content again.
    pub fn complete_upload(&self, upload: &Upload, parts: &[Tag]) -> Result<Tag, BucketError> {
        let request = Request::CompleteUpload {
            upload: upload.clone(),
            parts: parts.to_vec(),
        };
        match self.call(&request)? {
            Answer::Stored(tag) => Ok(tag),
            Answer::Absent => Err(BucketError::Broken(format!(
                "the upload of {} was aborted by the server or another program",
                upload.key
            ))),
            other => Err(BucketError::misfit("the end of an upload", &other)),
        }
    }

    /// Discards an upload.
    pub fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError> {
        let upload = upload.clone();
        match self.call(&Request::AbortUpload { upload })? {
            Answer::Deleted | Answer::Absent => Ok(()),
            other => Err(BucketError::misfit("the abort of an upload", &other)),
        }
    }

    /// Lists one page of the objects whose keys begin with `prefix`.
    pub fn list(&self, prefix: &str, after: Option<Key>, most: u32) -> Result<Listed, BucketError> {
        let prefix = prefix.to_owned();
        match self.call(&Request::List {
            prefix,
            after,
            most,
        })? {
            Answer::Listed(listed) => Ok(listed),
            other => Err(BucketError::misfit("a list", &other)),
        }
    }

    /// Lists all objects whose keys begin with `prefix`, page by page.
    ///
    /// The iterator ends after an error.
    pub fn list_each(
        &self,
        prefix: &str,
    ) -> impl Iterator<Item = Result<Entry, BucketError>> + use<'_> {
        let (client, prefix) = (self.clone(), prefix.to_owned());
        let mut after = Some(None);
        let mut page = Vec::new().into_iter();
        std::iter::from_fn(move || {
            loop {
                if let Some(entry) = page.next() {
                    return Some(Ok(entry));
                }
                let listed = match client.list(&prefix, after.take()?, LIST_MAX) {
                    Ok(listed) => listed,
                    Err(error) => return Some(Err(error)),
                };
                after = match listed.entries.last() {
                    _ if !listed.more => None,
                    Some(last) => Some(Some(last.key.clone())),
                    None => {
                        let why = format!("listing {prefix}*: a page is empty and not the last");
                        return Some(Err(BucketError::Broken(why)));
                    }
                };
                page = listed.entries.into_iter();
            }
        })
    }

    /// Lists all objects whose keys begin with `prefix`.
    pub fn list_all(&self, prefix: &str) -> Result<Vec<Entry>, BucketError> {
        self.list_each(prefix).collect()
    }

    /// Deletes objects, a thousand a request, in this order.
    pub fn delete(&self, keys: &[Key]) -> Result<(), BucketError> {
        for keys in keys.chunks(DELETE_MAX) {
            let keys = keys.to_vec();
            match self.call(&Request::Delete { keys })? {
                Answer::Deleted => {}
                other => return Err(BucketError::misfit("a deletion", &other)),
            }
        }
        Ok(())
    }

    /// Sends a request, and repeats it where that is safe, until an answer comes.
    pub fn call(&self, request: &Request) -> Result<Answer, BucketError> {
        let mut waits = self.waits();
        loop {
            let started = self.clock.now();
            let error = match self.once(request.clone()) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let took = self.clock.now().saturating_sub(started);
            match waits.before_repeating(request.is_repeatable(), &error, took) {
                Some(wait) => self.clock.sleep(wait),
                None => return Err(error),
            }
        }
    }

    /// Sends a request once, and waits for its answer.
    pub(crate) fn once(&self, request: Request) -> Result<Answer, BucketError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let then = move |answer| {
            // The receiver below lives until it has an answer.
            let _ = sender.send(answer);
        };
        self.bucket.start(request, Box::new(then));
        receiver.recv().unwrap_or_else(|_| Err(dropped()))
    }
}

/// The error of a request whose engine was dropped before it answered.
pub(crate) fn dropped() -> BucketError {
    BucketError::Unclear("the connection to it is gone".to_owned())
}

/// The waits before each repetition of one request: exponential back-off with jitter.
#[derive(Debug)]
pub(crate) struct Waits {
    random: Random,
    next: Duration,
    waited: Duration,
    patience: Duration,
}

impl Waits {
    pub(crate) const fn new(random: Random, patience: Duration) -> Self {
        Self {
            random,
            next: FIRST_WAIT,
            waited: Duration::ZERO,
            patience,
        }
    }

    /// Returns whether the request has never been repeated.
    pub(crate) const fn is_fresh(&self) -> bool {
        self.waited.is_zero()
    }

    /// Returns how long to wait after a failed request that took this time; `None` if it must not
    /// be repeated, or patience is at an end. A request that is not repeatable is repeated only if
    /// the server certainly did not execute it.
    pub(crate) fn before_repeating(
        &mut self,
        is_repeatable: bool,
        error: &BucketError,
        took: Duration,
    ) -> Option<Duration> {
        self.waited += took;
        let may_repeat = match error {
            BucketError::Busy(_) => true,
            BucketError::Unclear(_) => is_repeatable,
            BucketError::Refused(_) | BucketError::Broken(_) => false,
        };
        if !may_repeat || self.waited >= self.patience {
            return None;
        }
        let half = u64::try_from(self.next.as_millis() / 2).unwrap_or(u64::MAX);
        let wait = Duration::from_millis(half + self.random.below(half + 1));
        self.next = (self.next * 2).min(LONGEST_WAIT);
        self.waited += wait;
        Some(wait)
    }
}

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Half the time that our own client waits for a silent server.
const PATIENCE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    fn put(condition: Condition) -> Request {
        Request::Put {
            key: Key::new("k").unwrap(),
            content: Bytes::new(),
            condition,
            class: Class::Object,
        }
    }

    #[test]
    fn a_conditional_put_is_repeated_only_while_the_server_is_busy() {
        let busy = BucketError::Busy(String::new());
        let unclear = BucketError::Unclear(String::new());
        let waits = |request: &Request, error| {
            let mut waits = Waits::new(Random::of_seed(1), PATIENCE);
            waits.before_repeating(request.is_repeatable(), error, Duration::ZERO)
        };
        assert!(waits(&put(Condition::New), &busy).is_some());
        assert!(waits(&put(Condition::New), &unclear).is_none());
        assert!(waits(&put(Condition::Always), &unclear).is_some());
        assert!(
            waits(
                &put(Condition::Always),
                &BucketError::Refused(String::new())
            )
            .is_none()
        );
    }

    #[test]
    fn waits_grow_and_end_after_some_minutes() {
        let mut waits = Waits::new(Random::of_seed(7), PATIENCE);
        let busy = BucketError::Busy(String::new());
        let all: Vec<Duration> =
            std::iter::from_fn(|| waits.before_repeating(true, &busy, Duration::ZERO)).collect();
        let total: Duration = all.iter().sum();
        assert!(all[0] >= FIRST_WAIT / 2 && all[0] <= FIRST_WAIT);
        assert!(all.iter().all(|wait| *wait <= LONGEST_WAIT));
        assert!(total >= PATIENCE && total <= PATIENCE + LONGEST_WAIT);
    }

    /// Once, only waits counted: a server that took a minute to fail got requests for half an hour.
    #[test]
    fn the_time_that_a_request_takes_counts_as_well() {
        let mut waits = Waits::new(Random::of_seed(7), PATIENCE);
        let unclear = BucketError::Unclear(String::new());
        let mut repeat = || waits.before_repeating(true, &unclear, PATIENCE / 2);
        assert!(repeat().is_some());
        assert!(repeat().is_none());
    }
}
