//! A sender session against whatever a server does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::{
    Close, CloseCode, Extensions, Finalized, Frame, Missing, PREAMBLE, Ping, PushOptions,
    RefOutcome, RefState, RefStatus, Refusal, RefusalCode, Staged, SummaryDone, Verdict, Want,
    Welcome,
};
use artifact_protocol::limits::{Limits, MAX_FRAME_LEN_MAX, MAX_OFFER_IDS, MIN_FRAME_LEN_MAX};
use artifact_protocol::session::{
    Announcement, ApiMisuse, Error, Fault, SenderConfig, SenderEvent, SenderOutput, SenderSession,
    SourceOp, SourceRequest,
};
use artifact_protocol::{Features, Text, Version};
use bytes::{Bytes, BytesMut};

use crate::model::{Source, commit_id};
use crate::pair::small_commits;
use crate::props::draw::Draw;
use crate::props::world::{WORLD, draw_announcement, draw_id};

/// The claim: the session keeps its rules whatever a server does, with the protocol or against it,
/// and whatever the outcome of the source's work. It offers each object once, sends only wanted
/// objects, finalizes when all are sent, reports what the server said, and does nothing after an
/// error.
pub fn a_sender_session_withstands_any_server(input: &[u8]) {
    drive(input);
}

fn drive(input: &[u8]) -> Rig {
    let mut draw = Draw::new(input);
    let announcement = draw_announcement(&mut draw);
    let mut source = Source::new(WORLD.clone());
    source.waits = draw.once_in(2);
    let is_early = draw.once_in(2);
    let mut rig = Rig::new(announcement, source, is_early);
    rig.settle(Ok(()));
    rig.greet(&mut draw);
    while !draw.is_over() && !rig.session.is_finished() {
        rig.act(&mut draw);
        if draw.once_in(4) {
            rig.step(&mut draw);
        } else {
            rig.come_to_rest(&mut draw);
        }
    }
    rig.come_to_rest(&mut draw);
    rig.hang_up();
    rig
}

/// A session, its source, and a server that mostly says what it should next.
struct Rig {
    session: SenderSession,
    source: Source,
    announcement: Announcement,
    /// On the way to the session.
    flying: BytesMut,
    arrived: BytesMut,
    requests: Vec<SourceRequest>,
    fails_next: bool,
    has_failed: bool,
    said: Said,
    heard: Heard,
}

/// What the server has said, as the session reads it.
#[derive(Default)]
struct Said {
    unread: BytesMut,
    is_greeted: bool,
    frame_len_max: u32,
    complete: Vec<Checksum>,
    accepted: BTreeSet<Checksum>,
    states: usize,
    /// Wanted, but not sent.
    wanted: BTreeSet<ObjectId>,
    outcomes: usize,
    updates: bool,
}

/// What the session has said.
#[derive(Default)]
struct Heard {
    unread: BytesMut,
    is_greeted: bool,
    refs: usize,
    offers: VecDeque<Vec<ObjectId>>,
    offered: BTreeSet<ObjectId>,
    streams: BTreeMap<u8, (ObjectId, BytesMut)>,
    detached: BTreeSet<Checksum>,
    has_basis: bool,
    is_finalizing: bool,
    is_closed: bool,
}

impl Rig {
    fn new(announcement: Announcement, source: Source, is_early: bool) -> Self {
        let small = if is_early {
            small_commits(&announcement, &source.repository)
        } else {
            Vec::new()
        };
        Self {
            session: SenderSession::new(SenderConfig {
                agent: Text::default(),
                announcement: announcement.clone(),
                small,
            }),
            source,
            announcement,
            flying: BytesMut::new(),
            arrived: BytesMut::new(),
            requests: Vec::new(),
            fails_next: false,
            has_failed: false,
            said: Said::default(),
            heard: Heard::default(),
        }
    }

    /// Greets and answers the announcement; sometimes wrongly.
    fn greet(&mut self, draw: &mut Draw<'_>) {
        self.flying.extend_from_slice(&PREAMBLE);
        let frame_len_max = match draw.below(12) {
            10 => MIN_FRAME_LEN_MAX,
            11 => *draw.pick(&[0, MIN_FRAME_LEN_MAX - 1, u32::MAX]),
            _ => Limits::default().frame_len_max,
        };
        if draw.once_in(40) {
            return;
        }
        self.send(&Frame::Welcome(Welcome {
            version: if draw.once_in(40) {
                Version(9)
            } else {
                Version::NEWEST
            },
            features: Features::SUPPORTED,
            limits: Limits {
                frame_len_max,
                ..Limits::default()
            },
            agent: Text::new("a server"),
            pull_url: None,
            identity: None,
            extensions: Extensions::default(),
        }));
        let state = |verdict| RefState {
            current: None,
            verdict,
        };
        let count = self.announcement.refs.len() + usize::from(draw.once_in(40));
        let refs = (0..count).map(|_| match draw.below(8) {
            6 => state(Verdict::UpToDate),
            7 => state(Verdict::Refused(refusal())),
            _ => state(Verdict::Accepted),
        });
        let refs = refs.collect();
        let complete = match draw.below(4) {
            3 => WORLD.refs.values().take(draw.below(3)).copied().collect(),
            _ => Vec::new(),
        };
        self.send(&Frame::RefStatus(RefStatus { refs, complete }));
    }

    fn act(&mut self, draw: &mut Draw<'_>) {
        let before = self.flying.len();
        match draw.below(20) {
            0..=6 => {
                let offered = self.heard.offers.front().map_or(1, Vec::len);
                let count = offered + usize::from(draw.once_in(40));
                let wanted = (0..count).map(|_| draw.below(3) != 2).collect();
                self.send(&Frame::Want(Want { wanted }));
            }
            7 => self.send(&Frame::Staged(Staged {
                objects: 1,
                bytes: 2,
            })),
            8..=10 => {
                let count = self.announcement.refs.len() + usize::from(draw.once_in(20));
                let refs = (0..count).map(|_| match draw.below(4) {
                    2 => RefOutcome::Unchanged,
                    3 => RefOutcome::Refused(refusal()),
                    _ => RefOutcome::Updated,
                });
                let refs = refs.collect();
                self.send(&Frame::Finalized(Finalized { refs }));
            }
            11..=13 => {
                let ids = (0..1 + draw.below(4)).map(|_| draw_id(draw)).collect();
                self.send(&Frame::Missing(Missing { ids }));
            }
            14..=15 => self.send(&Frame::SummaryDone(SummaryDone::Current)),
            16 => self.send(&Frame::Ping(Ping {})),
            17 => self.send(&Frame::Close(Close {
                code: *draw.pick(&[CloseCode::DONE, CloseCode::STORAGE_FULL]),
                text: Text::new("\u{1b}[2J"),
            })),
            18 => self.fails_next = draw.once_in(3),
            _ => self.flying.extend_from_slice(draw.bytes(12)),
        }
        if draw.once_in(40) && self.flying.len() > before {
            let at = before + draw.below(self.flying.len() - before);
            self.flying[at] ^= 1 << draw.below(8);
        }
    }

    fn send(&mut self, frame: &Frame) {
        self.flying.extend_from_slice(&frame.encode());
    }

    /// Lets one event happen: the bytes of a frame arrive, or a request completes.
    fn step(&mut self, draw: &mut Draw<'_>) -> bool {
        if self.has_failed {
            return false;
        }
        match (self.flying.is_empty(), self.requests.is_empty()) {
            (true, true) => return false,
            (false, true) => self.read(),
            (false, false) if draw.below(2) == 0 => self.read(),
            (_, false) => {
                let index = draw.below(self.requests.len());
                self.complete(index);
            }
        }
        true
    }

    fn come_to_rest(&mut self, draw: &mut Draw<'_>) {
        while self.step(draw) {}
    }

    fn hang_up(&mut self) {
        if !self.has_failed {
            let result = self.session.handle_eof();
            self.settle(result);
        }
        assert!(self.session.is_finished());
        if self.has_failed {
            let mut more = BytesMut::from(&PREAMBLE[..]);
            let misuse = self.session.handle_bytes(&mut more);
            assert!(
                matches!(misuse, Err(Error::Misuse(ApiMisuse::Closed))),
                "{misuse:?}"
            );
            assert!(self.session.poll_output().is_none());
        }
    }

    /// Delivers bytes up to the end of a frame, so that we know what the session has read.
    fn read(&mut self) {
        let count = self.said.until_frame_ends(&self.flying);
        let bytes = self.flying.split_to(count);
        if let Some(frame) = self.said.read(&bytes) {
            self.said.note(&frame, &self.announcement, &mut self.heard);
        }
        self.arrived.extend_from_slice(&bytes);
        let result = self.session.handle_bytes(&mut self.arrived);
        self.settle(result);
    }

    fn complete(&mut self, index: usize) {
        let request = self.requests.swap_remove(index);
        let outcome = if std::mem::take(&mut self.fails_next) {
            Err(Fault {
                code: CloseCode::SOURCE_FAILED,
                text: "the disk is gone".to_owned(),
            })
        } else {
            self.source.act(request.op())
        };
        let result = self.session.handle_source(request.complete(outcome));
        self.settle(result);
    }

    /// Takes the session's outputs, and the consequences of an error.
    fn settle(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            assert!(!matches!(error, Error::Misuse(_)), "{error:?}");
            assert!(self.session.is_finished());
            self.has_failed = true;
            self.requests.clear();
        }
        while let Some(output) = self.session.poll_output() {
            match output {
                SenderOutput::Transmit(bytes) => {
                    self.heard.hear(&bytes, &mut self.said, &self.announcement);
                }
                SenderOutput::Event(SenderEvent::Finalized(outcomes)) => {
                    assert_eq!(outcomes.len(), self.announcement.refs.len());
                    assert!(self.said.updates || !outcomes.contains(&RefOutcome::Updated));
                }
                SenderOutput::Event(_) => {}
                SenderOutput::Source(request) => {
                    assert!(!self.has_failed, "{request:?} after an error");
                    let is_second = self.requests.iter().any(|r| collide(r.op(), request.op()));
                    assert!(!is_second, "{request:?} is out twice");
                    self.requests.push(request);
                }
            }
        }
    }
}

/// Returns whether two requests must not be in progress at once.
fn collide(one: &SourceOp, other: &SourceOp) -> bool {
    match (one, other) {
        (SourceOp::Plan(_), SourceOp::Plan(_))
        | (SourceOp::Offer { .. }, SourceOp::Offer { .. })
        | (SourceOp::Vouch(_), SourceOp::Vouch(_)) => true,
        (SourceOp::Next(one), SourceOp::Next(other)) => one == other,
        _ => false,
    }
}

impl Said {
    /// Returns how many bytes of `more` complete a frame, or its head.
    fn until_frame_ends(&self, more: &[u8]) -> usize {
        let so_far = self.unread.len();
        let head: Vec<u8> = self.unread.iter().chain(more).take(8).copied().collect();
        let end = match head.get(4..8) {
            Some(len) if self.is_greeted => {
                let len = u32::from_le_bytes(*len.first_chunk().expect("four bytes"));
                8 + usize::try_from(len).expect("a u32 is a usize")
            }
            _ => 8,
        };
        end.saturating_sub(so_far).clamp(1, more.len())
    }

    fn read(&mut self, bytes: &[u8]) -> Option<Frame> {
        self.unread.extend_from_slice(bytes);
        if !self.is_greeted {
            self.is_greeted = self.unread.len() == PREAMBLE.len();
            if self.is_greeted {
                self.unread.clear();
            }
            return None;
        }
        Frame::decode(&mut self.unread, MAX_FRAME_LEN_MAX)
            .ok()
            .flatten()
    }

    fn note(&mut self, frame: &Frame, announcement: &Announcement, heard: &mut Heard) {
        match frame {
            Frame::Welcome(welcome) => self.frame_len_max = welcome.limits.frame_len_max,
            Frame::RefStatus(status) => {
                let updates = announcement.refs.iter().skip(self.states).zip(&status.refs);
                let accepted = updates.filter(|(_, s)| s.verdict == Verdict::Accepted);
                self.accepted
                    .extend(accepted.map(|(update, _)| update.commit));
                self.states += status.refs.len();
                self.complete.extend(&status.complete);
            }
            Frame::Want(want) => {
                let offered = heard.offers.pop_front().unwrap_or_default();
                let wanted = offered.into_iter().zip(&want.wanted);
                let wanted = wanted.filter(|(_, is_wanted)| **is_wanted);
                self.wanted.extend(wanted.map(|(id, _)| id));
            }
            Frame::Missing(missing) => {
                self.wanted.extend(&missing.ids);
                heard.offered.clear();
                heard.is_finalizing = false;
            }
            Frame::Finalized(finalized) => {
                self.outcomes += finalized.refs.len();
                self.updates |= finalized.refs.contains(&RefOutcome::Updated);
            }
            _ => {}
        }
    }
}

impl Heard {
    /// Checks what the server is told.
    fn hear(&mut self, bytes: &[u8], said: &mut Said, announcement: &Announcement) {
        self.unread.extend_from_slice(bytes);
        if !self.is_greeted {
            let preamble = self.unread.split_to(PREAMBLE.len());
            assert_eq!(preamble[..], PREAMBLE);
            self.is_greeted = true;
        }
        while let Some(frame) = Frame::decode(&mut self.unread, MAX_FRAME_LEN_MAX).expect("a frame")
        {
            assert!(!self.is_closed, "{frame:?} after Close");
            self.check(&frame, said, announcement);
        }
        assert!(self.unread.is_empty(), "a part of a frame");
    }

    fn check(&mut self, frame: &Frame, said: &mut Said, announcement: &Announcement) {
        let dry_run = announcement.options.contains(PushOptions::DRY_RUN);
        let mut sent = |id: &ObjectId| {
            assert!(!dry_run, "a dry run sends {id}");
            assert!(said.wanted.remove(id), "{id} is not wanted");
        };
        match frame {
            Frame::Hello(_) => assert_eq!(self.refs, 0),
            Frame::Announce(announce) => self.refs += announce.refs.len(),
            Frame::Basis(basis) => {
                assert!(!std::mem::replace(&mut self.has_basis, true));
                assert!(self.offers.is_empty() && self.offered.is_empty());
                assert!(
                    basis
                        .commits
                        .iter()
                        .all(|commit| said.complete.contains(commit))
                );
            }
            Frame::Offer(offer) => {
                assert!((1..=MAX_OFFER_IDS).contains(&offer.ids.len()));
                for id in &offer.ids {
                    assert!(self.offered.insert(*id), "{id} is offered twice");
                }
                self.offers.push_back(offer.ids.clone());
            }
            Frame::Detached(detached) => {
                assert!(!dry_run && said.accepted.contains(&detached.commit));
                assert!(self.detached.insert(detached.commit));
            }
            Frame::Pack(pack) => {
                for (id, stored) in &pack.objects {
                    sent(id);
                    assert_eq!(WORLD.objects.get(id), Some(stored));
                }
            }
            Frame::ObjectBegin(begin) => {
                sent(&begin.id);
                let open = self
                    .streams
                    .insert(begin.stream, (begin.id, BytesMut::new()));
                assert!(open.is_none(), "a stream is begun twice");
            }
            Frame::ObjectChunk(chunk) => {
                let open = self.streams.get_mut(&chunk.stream).expect("an open stream");
                open.1.extend_from_slice(&chunk.bytes);
            }
            Frame::ObjectEnd(end) => {
                let (id, stored) = self.streams.remove(&end.stream).expect("an open stream");
                assert_eq!(WORLD.objects.get(&id), Some(&Bytes::from(stored)));
            }
            Frame::Finalize(_) => {
                assert!(!std::mem::replace(&mut self.is_finalizing, true));
                assert!(self.offers.is_empty() && self.streams.is_empty());
                let accepted = said.accepted.iter();
                let closures = accepted.map(|commit| WORLD.closure(commit_id(*commit)).0);
                let needed: BTreeSet<_> = closures.flatten().collect();
                let forgotten = said.wanted.intersection(&needed).count();
                assert!(dry_run || forgotten == 0, "{:?}", said.wanted);
                // Objects that only refused refs reach are no longer wanted.
                said.wanted.clear();
            }
            Frame::Ping(_) => {}
            Frame::Close(_) => self.is_closed = true,
            Frame::Welcome(_)
            | Frame::RefStatus(_)
            | Frame::Want(_)
            | Frame::Staged(_)
            | Frame::Missing(_)
            | Frame::Finalized(_)
            | Frame::SummaryDone(_)
            | Frame::Request(_)
            | Frame::Held(_)
            | Frame::Answer(_)
            | Frame::Extent(_)
            | Frame::Sent(_) => unreachable!("a client that pushes does not say {frame:?}"),
        }
        if said.frame_len_max > 0 && said.states > 0 {
            let len = frame.encode().len() - 8;
            assert!(u32::try_from(len).is_ok_and(|len| len <= said.frame_len_max));
        }
    }
}

fn refusal() -> Refusal {
    Refusal::new(RefusalCode::NOT_PERMITTED, "not yours")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::props::noise;

    #[test]
    fn a_drawn_server_often_lets_a_push_be_done() {
        let done = noise().filter(|input| drive(input).said.updates);
        let done = done.count();
        assert!(
            done > 20,
            "{done}: the claim would hold of a session that does nothing"
        );
    }
}
