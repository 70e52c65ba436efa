//! Objects in pieces: those too large for a pack. A few travel at once, and the rest wait.

use std::collections::VecDeque;

use artifact_formats::ObjectId;
use bytes::Bytes;

use super::super::error::{ApiMisuse, Error};
use super::super::source::SourceOp;
use super::quota::Quota;
use super::{Core, SenderEvent};
use crate::frame::{Frame, ObjectBegin, ObjectChunk, ObjectEnd};
use crate::limits::MAX_PIECE_LEN;

/// The streams of a push.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Objects that wait for a stream.
    waiting: VecDeque<ObjectId>,
    open: [Option<Stream>; STREAMS],
}

/// An object on its way.
#[derive(Debug)]
struct Stream {
    id: ObjectId,
    /// Stored bytes sent.
    len: u64,
}

impl Streams {
    /// Adds an object that waits for a stream.
    pub(super) fn add(&mut self, id: ObjectId) {
        self.waiting.push_back(id);
    }

    /// Returns the number of objects that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the number of objects that wait or are on their way.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.open.iter().flatten().count()
    }

    /// Opens streams for objects that wait.
    pub(super) fn open(&mut self, core: &mut Core) {
        for (number, slot) in self
            .open
            .iter_mut()
            .enumerate()
            .filter(|(_, s)| s.is_none())
        {
            let Some(id) = self.waiting.pop_front() else {
                return;
            };
            *slot = Some(Stream { id, len: 0 });
            core.outputs.send(&Frame::ObjectBegin(ObjectBegin {
                stream: stream(number),
                id,
            }));
            core.request(SourceOp::Next(id));
        }
    }

    /// Sends the next piece of an object, and asks for the one after it.
    pub(super) fn send(
        &mut self,
        id: ObjectId,
        bytes: Bytes,
        last: bool,
        quota: &mut Quota,
        core: &mut Core,
    ) -> Result<(), Error> {
        if bytes.len() > MAX_PIECE_LEN {
            return Err(ApiMisuse::Outcome.into());
        }
        let mut slots = self.open.iter_mut().enumerate();
        let (number, slot) = slots
            .find(|(_, slot)| slot.as_ref().is_some_and(|open| open.id == id))
            .ok_or(ApiMisuse::Outcome)?;
        if let Some(open) = slot {
            if open.len == 0 {
                Quota::begin(id, &bytes, &core.limits)?;
            }
            open.len += bytes.len() as u64;
            quota.send(id, bytes.len(), open.len, &core.limits)?;
        }
        let sent = SenderEvent::Sent {
            objects: last.into(),
            bytes: bytes.len() as u64,
            large: Some(id),
        };
        if !bytes.is_empty() {
            core.outputs.send(&Frame::ObjectChunk(ObjectChunk {
                stream: stream(number),
                bytes,
            }));
        }
        if last {
            *slot = None;
            core.outputs.send(&Frame::ObjectEnd(ObjectEnd {
                stream: stream(number),
            }));
        } else {
            core.request(SourceOp::Next(id));
        }
        core.outputs.push(sent);
        Ok(())
    }
}

fn stream(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Streams that this sender opens at once: enough to keep two cores of a server busy.
pub(super) const STREAMS: usize = 2;
