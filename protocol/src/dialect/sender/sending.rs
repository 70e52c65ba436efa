//! The states in which objects travel, and the last state.

use std::collections::VecDeque;

use artifact_formats::ObjectId;
use bytes::Bytes;

use super::super::member::Member;
use super::super::message::Message;
use super::super::version::Dialect;
use super::compare::Pending;
use super::files::Files;
use super::{Core, State, unexpected};
use crate::frame::{Close, CloseCode, RefOutcome};
use crate::limits::{MAX_OFFER_IDS, MAX_PIECE_LEN};
use crate::session::{
    ApiMisuse, Error, Fault, Fetched, PlanRequest, SenderEvent, SourceOp, SourceOutcome,
};
use crate::text::Text;

/// Waits for the source to prepare.
#[derive(Debug)]
pub(super) struct Planning {
    pending: Pending,
}

impl Planning {
    pub(super) fn begin(pending: Pending, core: &mut Core) -> State {
        let mut plan = PlanRequest::default();
        for one in pending.open() {
            plan.targets.push((one.update.commit, one.current));
            if one.update.detached.is_some() && !plan.detached.contains(&one.update.commit) {
                plan.detached.push(one.update.commit);
            }
        }
        core.request(SourceOp::Plan(plan));
        State::Planning(Self { pending })
    }

    pub(super) fn handle_planned(
        self,
        outcome: SourceOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        let SourceOutcome::Planned { detached, .. } = outcome else {
            return Err(ApiMisuse::Outcome.into());
        };
        let mut files = Files::begin_all(core);
        for (commit, metadata) in detached {
            files.write(Member::Detached(commit), metadata, core);
        }
        let sending = Sending {
            pending: self.pending,
            files,
            offering: false,
            exhausted: false,
            answers: Vec::new(),
            ids: VecDeque::new(),
            fetches: 0,
            whole: VecDeque::new(),
            large: VecDeque::new(),
            current: None,
        };
        Ok(Box::new(sending).go_on(core))
    }
}

/// Sends one file after the other.
#[derive(Debug)]
pub(super) struct Sending {
    pending: Pending,
    files: Files,
    /// Whether the source has been asked for further ids.
    offering: bool,
    /// Whether the source has no more ids.
    exhausted: bool,
    /// Ids that were sent, which the source has not been told yet.
    answers: Vec<(ObjectId, bool)>,
    /// Ids to fetch.
    ids: VecDeque<ObjectId>,
    /// `Fetch` requests in progress.
    fetches: usize,
    /// Objects that wait until a large one is sent.
    whole: VecDeque<(ObjectId, Bytes)>,
    /// Large objects that wait for their turn.
    large: VecDeque<(ObjectId, Option<u64>)>,
    current: Option<Large>,
}

/// The large object being sent.
#[derive(Debug)]
struct Large {
    id: ObjectId,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Reading it to the end: nobody knows its compressed length, which must be stated first.
    Measuring(u64),
    /// Opening it again.
    Opening(u64),
    Sending,
}

impl Sending {
    pub(super) fn handle_source(
        mut self: Box<Self>,
        op: SourceOp,
        outcome: SourceOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        match (op, outcome) {
            (SourceOp::Offer { .. }, SourceOutcome::Offered { ids, exhausted }) => {
                // With nothing unanswered, a source either has more ids or is exhausted.
                if ids.len() > MAX_OFFER_IDS || (ids.is_empty() && !exhausted) {
                    return Err(ApiMisuse::Outcome.into());
                }
                self.offering = false;
                self.exhausted = exhausted;
                self.answers = ids.iter().map(|id| (*id, false)).collect();
                core.tell(SenderEvent::Answered {
                    wanted: ids.clone(),
                    had: 0,
                });
                self.ids = ids.into();
            }
            (SourceOp::Fetch(ids), SourceOutcome::Fetched(objects))
                if ids.len() == objects.len() =>
            {
                self.fetches -= 1;
                for (id, object) in ids.into_iter().zip(objects) {
                    self.take(id, object, core)?;
                }
            }
            (SourceOp::Next(id), SourceOutcome::Piece { bytes, last }) => {
                self.take_piece(id, bytes, last, core)?;
            }
            _ => return Err(ApiMisuse::Outcome.into()),
        }
        Ok(self.go_on(core))
    }

    /// Takes the server's answer to a file of version 0. After a refusal, anything further is
    /// useless.
    pub(super) fn handle_status(
        mut self: Box<Self>,
        result: bool,
        text: &str,
    ) -> Result<Box<Self>, Error> {
        if !self.files.answered() {
            return Err(unexpected());
        }
        check_answer(result, text)?;
        Ok(self)
    }

    fn take(&mut self, id: ObjectId, object: Fetched, core: &mut Core) -> Result<(), Error> {
        if let Some(Large {
            id: current,
            step: step @ Step::Opening(_),
        }) = &mut self.current
            && *current == id
        {
            let Step::Opening(len) = *step else {
                return Err(ApiMisuse::Outcome.into());
            };
            *step = Step::Sending;
            return match object {
                Fetched::Large(_) => {
                    self.files.begin(Member::Object(id), len, core);
                    core.request(SourceOp::Next(id));
                    Ok(())
                }
                Fetched::Whole(_) => Err(changed(id)),
            };
        }
        match object {
            Fetched::Whole(bytes) if bytes.len() > MAX_PIECE_LEN => {
                return Err(ApiMisuse::Outcome.into());
            }
            Fetched::Whole(bytes) => self.whole.push_back((id, bytes)),
            Fetched::Large(len) => self.large.push_back((id, len)),
        }
        Ok(())
    }

    fn take_piece(
        &mut self,
        id: ObjectId,
        bytes: Bytes,
        last: bool,
        core: &mut Core,
    ) -> Result<(), Error> {
        let large = self.current.as_mut().filter(|large| large.id == id);
        let large = large.ok_or(ApiMisuse::Outcome)?;
        match &mut large.step {
            Step::Measuring(len) => {
                *len = len.saturating_add(bytes.len() as u64);
                if last {
                    large.step = Step::Opening(*len);
                    self.fetches += 1;
                    core.request(SourceOp::Fetch(vec![id]));
                } else {
                    core.request(SourceOp::Next(id));
                }
            }
            Step::Opening(_) => return Err(ApiMisuse::Outcome.into()),
            Step::Sending => {
                if !self.files.append(bytes, core) {
                    return Err(changed(id));
                }
                if !last {
                    core.request(SourceOp::Next(id));
                    return Ok(());
                }
                self.current = None;
                if !self.files.end(core) {
                    return Err(changed(id));
                }
            }
        }
        Ok(())
    }

    /// Takes every step that is possible now.
    fn go_on(mut self: Box<Self>, core: &mut Core) -> State {
        while self.current.is_none() {
            if let Some((id, bytes)) = self.whole.pop_front() {
                self.files.write(Member::Object(id), bytes, core);
            } else if let Some((id, len)) = self.large.pop_front() {
                let step = match len {
                    Some(len) => {
                        self.files.begin(Member::Object(id), len, core);
                        Step::Sending
                    }
                    None => Step::Measuring(0),
                };
                self.current = Some(Large { id, step });
                core.request(SourceOp::Next(id));
            } else {
                break;
            }
        }
        self.fetch(core);
        let is_idle = self.ids.is_empty() && self.fetches == 0 && self.current.is_none();
        if !is_idle || self.offering {
            return State::Sending(self);
        }
        if !self.exhausted {
            self.offering = true;
            let answers = std::mem::take(&mut self.answers);
            core.request(SourceOp::Offer {
                answers,
                missing: Vec::new(),
                max: MAX_OFFER_IDS,
            });
            return State::Sending(self);
        }
        self.files.end_all(core);
        core.is_unsettled = true;
        State::Ending(Ending {
            pending: self.pending,
            files: self.files,
        })
    }

    fn fetch(&mut self, core: &mut Core) {
        while !self.ids.is_empty()
            && self.fetches < FETCHES
            && self.whole.len() + self.large.len() < FETCHES * FETCH_IDS
        {
            let count = self.ids.len().min(FETCH_IDS);
            let ids: Vec<_> = self.ids.drain(..count).collect();
            self.fetches += 1;
            core.request(SourceOp::Fetch(ids));
        }
    }
}

/// Waits for the server to confirm that everything is in place.
#[derive(Debug)]
pub(super) struct Ending {
    pending: Pending,
    files: Files,
}

impl Ending {
    pub(super) fn handle(mut self, message: Message, core: &mut Core) -> Result<State, Error> {
        match (message, core.dialect) {
            (Message::Done, Dialect::V1) => Ok(self.finish(core)),
            (Message::Status { result, text }, Dialect::V0) if self.files.answered() => {
                check_answer(result, &text)?;
                Ok(State::Ending(self))
            }
            (
                Message::Done
                | Message::Status { .. }
                | Message::Info(_)
                | Message::Update(_)
                | Message::PutObjects
                | Message::PutObject { .. },
                _,
            ) => Err(unexpected()),
        }
    }

    pub(super) fn handle_eof(self, core: &mut Core) -> Result<State, Error> {
        match core.dialect {
            Dialect::V0 if self.files.unanswered() == 0 => Ok(self.finish(core)),
            Dialect::V0 | Dialect::V1 => Err(Error::Truncated),
        }
    }

    fn finish(mut self, core: &mut Core) -> State {
        core.is_unsettled = false;
        self.pending.settle(|_| RefOutcome::Updated);
        self.pending.finish(core)
    }
}

fn check_answer(result: bool, text: &str) -> Result<(), Error> {
    if result {
        return Ok(());
    }
    Err(Error::PeerClosed(Close {
        code: CloseCode::OBJECT_REFUSED,
        text: Text::new(text),
    }))
}

fn changed(id: ObjectId) -> Error {
    Error::Fault(Fault {
        code: CloseCode::SOURCE_FAILED,
        text: format!("{id} changed in the local repository while it was read"),
    })
}

/// `Fetch` requests in progress at once, and ids in each.
const FETCHES: usize = 4;
const FETCH_IDS: usize = 8;
