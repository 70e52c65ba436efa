//! The journal of a push: the files and dirmetas that it has put. A later push by the same identity
//! does not have to send them again.
//!
//! It leaves out dirtrees and commits: *have* on one of these promises everything beneath it, and
//! sending it again costs less than checking that. It names an object only after its put was
//! acknowledged. A journal is private to an identity, because *have* would tell others what the
//! identity is about to push (REQ-40).
//!
//! ```text
//! magic    8 bytes   "ACjourn" 0x01
//! epoch    8         the last collection that the push kept to; little-endian
//! objects  33 each   sorted: kind and checksum, as on the wire
//! digest   32        SHA-256 of everything before
//! ```

use std::sync::Arc;
use std::time::Duration;

use artifact_formats::ObjectId;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::bucket::records::layout::{self, SessionId};
use crate::bucket::records::sealed::{seal, unseal};
use crate::bucket::requests::ask::get_all;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Class, Condition, Entry, Key};
use crate::bucket::requests::window::Window;
use crate::error::Error;

/// The journal that a push writes. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    identity: String,
    id: SessionId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    // Acknowledged objects that no part names yet.
    batch: Vec<ObjectId>,
    written: u32,
    last: Duration,
}

impl Journal {
    /// Begins an empty journal.
    pub(crate) fn new(identity: &str, id: SessionId, now: Duration) -> Self {
        let state = State {
            batch: Vec::new(),
            written: 0,
            last: now,
        };
        Self {
            shared: Arc::new(Shared {
                identity: identity.to_owned(),
                id,
                state: Mutex::new(state),
            }),
        }
    }

    /// Adds an object whose put was acknowledged.
    pub(crate) fn note(&self, id: ObjectId) {
        if !id.kind.has_children() {
            self.shared.state.lock().batch.push(id);
        }
    }

    /// Writes the noted objects as a part, if there are many or they have waited for long.
    pub(crate) fn write_some(
        &self,
        window: &Window,
        now: Duration,
        epoch: impl FnOnce() -> u64,
    ) -> Result<(), Error> {
        let Some((key, content)) = self.next(now, epoch, |state| {
            let is_old = now.saturating_sub(state.last) >= WRITTEN_EVERY;
            state.batch.len() >= BATCH || (is_old && !state.batch.is_empty())
        }) else {
            return Ok(());
        };
        let put = window.put(key, content, Class::Private);
        put.map_err(Error::bucket("storing", &"objects"))
    }

    /// Writes the rest, for a push that ends without publishing. After a failure, the next push
    /// only sends these objects again.
    pub(crate) fn write_rest(&self, client: &Client, epoch: impl FnOnce() -> u64) {
        let now = client.clock().now();
        if let Some((key, content)) = self.next(now, epoch, |state| !state.batch.is_empty())
            && let Err(error) = client.put(&key, content, Condition::Always, Class::Private)
        {
            tracing::debug!(%key, %error, "the next push will send some objects again");
        }
    }

    /// Returns the keys of all parts written.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let Shared {
            identity,
            id,
            state,
        } = &*self.shared;
        let written = state.lock().written;
        (0..written)
            .map(|number| layout::journal(identity, *id, number))
            .collect()
    }

    fn next(
        &self,
        now: Duration,
        epoch: impl FnOnce() -> u64,
        is_due: impl FnOnce(&State) -> bool,
    ) -> Option<(Key, Bytes)> {
        let Shared {
            identity,
            id,
            state,
        } = &*self.shared;
        let mut state = state.lock();
        if !is_due(&state) {
            return None;
        }
        let batch = std::mem::take(&mut state.batch);
        let key = layout::journal(identity, *id, state.written);
        state.written += 1;
        state.last = now;
        drop(state);
        Some((key, encode(epoch(), batch)))
    }
}

/// The journals of earlier pushes of an identity.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    // Not read yet.
    keys: Vec<Key>,
    parts: Vec<Part>,
}

impl Earlier {
    /// Takes the newest journal parts of a list. It leaves out parts older than `age_max`: their
    /// objects could become old enough for collection while this push runs.
    pub(crate) fn of(mut entries: Vec<Entry>, wall: u64, age_max: Duration) -> Self {
        let oldest = wall.saturating_sub(age_max.as_secs());
        entries.retain(|entry| entry.modified > oldest);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.modified));
        entries.truncate(PARTS_MAX);
        Self {
            keys: entries.into_iter().map(|entry| entry.key).collect(),
            parts: Vec::new(),
        }
    }

    /// Returns whether a journal names an object whose put still counts. `counts` decides that from
    /// the epoch of the collection that the journal's push kept to. The first call reads the
    /// journals.
    pub(crate) fn names(
        &mut self,
        client: &Client,
        id: &ObjectId,
        counts: impl Fn(u64) -> bool,
    ) -> Result<bool, Error> {
        if id.kind.has_children() {
            return Ok(false);
        }
        if !self.keys.is_empty() {
            let found = get_all(client, &std::mem::take(&mut self.keys))?;
            let parts = found.into_iter().flatten();
            self.parts = parts
                .filter_map(|part| Part::decode(&part.content))
                .collect();
        }
        let mut named = self.parts.iter().filter(|part| part.names(id));
        Ok(named.any(|part| counts(part.epoch)))
    }

    /// Returns whether no earlier journal exists.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.parts.is_empty()
    }
}

/// One part of a journal, as the bucket stores it.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    epoch: u64,
    ids: Bytes,
}

impl Part {
    /// Reads a part; `None` if it is damaged.
    fn decode(content: &Bytes) -> Option<Self> {
        let rest = unseal(content)?.strip_prefix(MAGIC)?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let is_good = rest.len() % ObjectId::WIRE_LEN == 0;
        is_good.then(|| Self {
            epoch: u64::from_le_bytes(*epoch),
            ids: content.slice_ref(rest),
        })
    }

    fn names(&self, id: &ObjectId) -> bool {
        let (ids, _) = self.ids.as_chunks::<{ ObjectId::WIRE_LEN }>();
        ids.binary_search(&id.to_wire()).is_ok()
    }
}

fn encode(epoch: u64, mut batch: Vec<ObjectId>) -> Bytes {
    batch.sort_unstable();
    batch.dedup();
    let mut content = Vec::from(MAGIC);
    content.extend(epoch.to_le_bytes());
    content.extend(batch.into_iter().flat_map(ObjectId::to_wire));
    seal(content)
}

const MAGIC: &[u8; 8] = b"ACjourn\x01";
/// The number of objects that make a part due.
const BATCH: usize = 4096;
/// How long acknowledged objects wait for a part, while more come.
const WRITTEN_EVERY: Duration = Duration::from_secs(5);
/// The most parts that a push reads: a million objects.
const PARTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use artifact_formats::{Checksum, ObjectKind};
    use proptest::prelude::*;

    use super::*;

    fn id(kind: u8, number: u8) -> ObjectId {
        ObjectId::new(
            ObjectKind::from_wire(kind).unwrap(),
            Checksum::of(&[number]),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_part_names_what_was_noted_and_a_damaged_one_nothing(
            noted in proptest::collection::btree_set((1u8..=4, any::<u8>()), 0..40),
            at in any::<prop::sample::Index>(),
        ) {
            let ids = noted.iter().map(|(kind, number)| id(*kind, *number));
            let content = encode(5, ids.collect());
            let part = Part::decode(&content).unwrap();
            prop_assert_eq!(part.epoch, 5);
            for kind in 1..=4 {
                for number in 0..=u8::MAX {
                    prop_assert_eq!(part.names(&id(kind, number)), noted.contains(&(kind, number)));
                }
            }
            let mut changed = content.to_vec();
            changed[at.index(content.len())] ^= 1;
            prop_assert_eq!(Part::decode(&changed.into()), None);
            prop_assert_eq!(Part::decode(&content.slice(..at.index(content.len()))), None);
        }
    }
}
