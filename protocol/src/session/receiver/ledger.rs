//! Counts what a push has offered, wanted and received, and enforces the limits on a client's
//! objects (INV-6).

use std::collections::HashSet;

use artifact_formats::ObjectId;

use super::super::error::Violation;
use crate::frame::Staged;
use crate::limits::{Limits, MAX_MISSING_IDS, MAX_OPEN_STREAMS, MAX_UNSETTLED_IDS};

#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    /// Set in a dry run: no objects will come, so the wanted ones need not be remembered.
    dry_run: bool,
    /// Ids offered and not yet answered.
    unanswered: usize,
    /// Ids wanted and not yet received.
    wanted: HashSet<ObjectId>,
    /// Ids received, in whole or in part, and not verified yet: at most what a session takes before
    /// it is busy.
    coming: HashSet<ObjectId>,
    streams: [Option<Stream>; MAX_OPEN_STREAMS],
    received: Staged,
}

/// An object that arrives in pieces.
#[derive(Debug)]
struct Stream {
    len: u64,
}

impl Ledger {
    pub(super) fn new(limits: Limits, dry_run: bool) -> Self {
        Self {
            limits,
            dry_run,
            unanswered: 0,
            wanted: HashSet::new(),
            coming: HashSet::new(),
            streams: Default::default(),
            received: Staged {
                objects: 0,
                bytes: 0,
            },
        }
    }

    pub(super) fn offer(&mut self, count: usize) -> Result<(), Violation> {
        self.unanswered += count;
        let unsettled = self.unanswered + self.wanted.len();
        // LIM-7.
        Violation::limit("ids offered and not settled", MAX_UNSETTLED_IDS, unsettled)
    }

    /// Settles an answered offer. An id that is wanted already, or not verified yet, is on its way,
    /// so it is not wanted again.
    pub(super) fn answer(&mut self, ids: &[ObjectId], have: &[bool]) -> Vec<bool> {
        self.unanswered -= ids.len();
        ids.iter()
            .zip(have)
            .map(|(id, had)| !had && (self.dry_run || self.is_news(*id)))
            .collect()
    }

    /// Notes that a received object is verified: from now on the store answers for it.
    pub(super) fn verified(&mut self, id: &ObjectId) {
        self.coming.remove(id);
    }

    fn is_news(&mut self, id: ObjectId) -> bool {
        !self.coming.contains(&id) && self.wanted.insert(id)
    }

    pub(super) fn want(&mut self, ids: &[ObjectId]) {
        debug_assert!(ids.len() <= MAX_MISSING_IDS, "the caller cut the list");
        self.wanted.extend(ids);
    }

    /// Counts a complete object.
    pub(super) fn receive(&mut self, id: ObjectId, len: usize) -> Result<(), Violation> {
        self.take_wanted(id)?;
        self.count_bytes(len as u64, len as u64)
    }

    /// Counts detached metadata: not an object, but bytes of the push.
    pub(super) fn receive_detached(&mut self, len: usize) -> Result<(), Violation> {
        self.count_bytes(len as u64, 0)
    }

    pub(super) fn begin(&mut self, stream: u8, id: ObjectId) -> Result<(), Violation> {
        if self.slot(stream)?.is_some() {
            return Err(Violation::Rule("a stream was begun twice"));
        }
        self.take_wanted(id)?;
        *self.slot(stream)? = Some(Stream { len: 0 });
        Ok(())
    }

    pub(super) fn append(&mut self, stream: u8, len: usize) -> Result<(), Violation> {
        let open = self.slot(stream)?.as_mut().ok_or(NOT_OPEN)?;
        open.len = open.len.saturating_add(len as u64);
        let object_len = open.len;
        self.count_bytes(len as u64, object_len)
    }

    pub(super) fn end(&mut self, stream: u8) -> Result<(), Violation> {
        self.slot(stream)?.take().ok_or(NOT_OPEN).map(|_| ())
    }

    /// Checks that the client may finalize: it has no open stream and no unanswered offer.
    pub(super) fn check_settled(&self) -> Result<(), Violation> {
        if self.streams.iter().any(Option::is_some) {
            return Err(Violation::Rule("Finalize came while a stream was open"));
        }
        // REQ-24.
        if self.unanswered > 0 {
            return Err(Violation::Rule(
                "Finalize came before every offer was answered",
            ));
        }
        Ok(())
    }

    /// Returns the wanted ids that have not come, and stops waiting for them: the client says that
    /// it has sent everything that its refs need (REQ-25).
    pub(super) fn take_unsent(&mut self) -> Vec<ObjectId> {
        let mut unsent: Vec<_> = std::mem::take(&mut self.wanted).into_iter().collect();
        unsent.sort_unstable();
        unsent
    }

    fn take_wanted(&mut self, id: ObjectId) -> Result<(), Violation> {
        // REQ-21.
        if !self.wanted.remove(&id) {
            return Err(match self.unanswered {
                0 => Violation::NotWanted { id },
                _ => Violation::NotWantedYet { id },
            });
        }
        self.coming.insert(id);
        self.received.objects += 1;
        limit_u64(
            "objects in a push",
            self.limits.push_objects_max,
            self.received.objects,
        )
    }

    fn count_bytes(&mut self, len: u64, object_len: u64) -> Result<(), Violation> {
        self.received.bytes = self.received.bytes.saturating_add(len);
        limit_u64("bytes of an object", self.limits.object_len_max, object_len)?;
        limit_u64(
            "bytes in a push",
            self.limits.push_len_max,
            self.received.bytes,
        )
    }

    fn slot(&mut self, stream: u8) -> Result<&mut Option<Stream>, Violation> {
        // REQ-22, LIM-8.
        let rule = Violation::Rule("a stream number is not below the limit");
        self.streams.get_mut(usize::from(stream)).ok_or(rule)
    }
}

const NOT_OPEN: Violation = Violation::Rule("a stream is not open");

const fn limit_u64(what: &'static str, limit: u64, got: u64) -> Result<(), Violation> {
    if got <= limit {
        Ok(())
    } else {
        Err(Violation::Limit { what, limit, got })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use artifact_formats::{Checksum, ObjectKind};

    fn id(number: u8) -> ObjectId {
        ObjectId::new(ObjectKind::File, Checksum::new([number; 32]))
    }

    fn ledger() -> Ledger {
        let limits = Limits {
            object_len_max: 10,
            push_objects_max: 3,
            push_len_max: 25,
            ..Limits::default()
        };
        let mut ledger = Ledger::new(limits, false);
        let ids: Vec<_> = (0..4).map(id).collect();
        ledger.offer(4).unwrap();
        assert_eq!(ledger.answer(&ids, &[false; 4]), [true; 4]);
        ledger
    }

    #[test]
    fn limits_hold_at_n_and_fail_at_n_plus_one() {
        let mut objects = ledger();
        (0..3).for_each(|n| objects.receive(id(n), 1).unwrap());
        assert!(matches!(
            objects.receive(id(3), 1),
            Err(Violation::Limit { got: 4, .. })
        ));

        assert!(ledger().receive(id(0), 10).is_ok());
        assert!(matches!(
            ledger().receive(id(0), 11),
            Err(Violation::Limit { got: 11, .. })
        ));

        let mut bytes = ledger();
        bytes.receive(id(0), 10).unwrap();
        bytes.receive(id(1), 10).unwrap();
        bytes.receive(id(2), 5).unwrap();
        assert!(matches!(
            bytes.count_bytes(1, 1),
            Err(Violation::Limit { got: 26, .. })
        ));

        let mut detached = ledger();
        detached.receive(id(0), 10).unwrap();
        detached.receive_detached(15).unwrap();
        assert!(matches!(
            detached.receive_detached(1),
            Err(Violation::Limit { got: 26, .. })
        ));

        let mut offers = Ledger::new(Limits::default(), false);
        offers.offer(MAX_UNSETTLED_IDS).unwrap();
        assert!(offers.offer(1).is_err());
    }

    #[test]
    fn a_stream_counts_its_chunks_as_one_object() {
        let mut ledger = ledger();
        ledger.begin(0, id(0)).unwrap();
        ledger.append(0, 6).unwrap();
        assert!(ledger.begin(0, id(1)).is_err(), "the stream is open");
        assert!(
            ledger
                .begin(u8::try_from(MAX_OPEN_STREAMS).unwrap(), id(2))
                .is_err()
        );
        assert!(matches!(
            ledger.append(0, 5),
            Err(Violation::Limit { got: 11, .. })
        ));
    }

    #[test]
    fn an_object_comes_once_and_only_when_wanted() {
        let mut ledger = ledger();
        ledger.receive(id(0), 1).unwrap();
        assert_eq!(
            ledger.receive(id(0), 1),
            Err(Violation::NotWanted { id: id(0) })
        );
        assert_eq!(
            ledger.begin(0, id(9)),
            Err(Violation::NotWanted { id: id(9) })
        );
        ledger.offer(1).unwrap();
        assert_eq!(
            ledger.receive(id(9), 1),
            Err(Violation::NotWantedYet { id: id(9) })
        );
        assert_eq!(ledger.answer(&[id(0)], &[false]), [false], "it has come");
        ledger.verified(&id(0));
        ledger.offer(2).unwrap();
        assert_eq!(
            ledger.answer(&[id(0)], &[false]),
            [true],
            "it is gone again"
        );
        assert_eq!(
            ledger.answer(&[id(1)], &[false]),
            [false],
            "wanted already: on its way"
        );
    }

    #[test]
    fn finalize_waits_for_offers_and_streams() {
        let mut ledger = ledger();
        assert!(
            ledger.check_settled().is_ok(),
            "what is not sent is missing, if needed"
        );
        ledger.begin(1, id(2)).unwrap();
        assert!(ledger.check_settled().is_err(), "a stream is open");
        ledger.end(1).unwrap();
        assert!(ledger.check_settled().is_ok());
        ledger.offer(1).unwrap();
        assert!(ledger.check_settled().is_err(), "an offer is not answered");
    }

    #[test]
    fn what_was_wanted_and_not_sent_can_be_offered_and_wanted_anew() {
        let mut ledger = ledger();
        let unsent: HashSet<_> = ledger.take_unsent().into_iter().collect();
        assert_eq!(unsent, (0..4).map(id).collect());
        assert!(ledger.receive(id(0), 1).is_err());
        ledger.offer(1).unwrap();
        assert_eq!(ledger.answer(&[id(0)], &[false]), [true]);
    }

    #[test]
    fn a_dry_run_remembers_nothing_of_what_it_wants() {
        let mut ledger = Ledger::new(Limits::default(), true);
        ledger.offer(1).unwrap();
        assert_eq!(ledger.answer(&[id(0)], &[false]), [true]);
        assert!(ledger.check_settled().is_ok());
        assert!(ledger.receive(id(0), 1).is_err());
    }
}
