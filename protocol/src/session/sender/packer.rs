//! Puts small objects together until they are worth a frame.

use bytes::Bytes;

use crate::frame::{Frame, Pack};
use crate::object::ObjectId;

#[derive(Debug, Default)]
pub(super) struct Packer {
    objects: Vec<(ObjectId, Bytes)>,
    len: usize,
}

impl Packer {
    /// A pack is sent when it reaches this many bytes.
    const FULL: usize = 128 * 1024;

    /// Adds an object; returns a frame when there is enough for one.
    pub(super) fn push(&mut self, id: ObjectId, stored: Bytes) -> Option<Frame> {
        self.len += Pack::ENTRY_HEAD_LEN + stored.len();
        self.objects.push((id, stored));
        if self.len >= Self::FULL {
            self.flush()
        } else {
            None
        }
    }

    /// Returns what was put together so far, if anything.
    pub(super) fn flush(&mut self) -> Option<Frame> {
        let Self { objects, .. } = std::mem::take(self);
        (!objects.is_empty()).then_some(Frame::Pack(Pack { objects }))
    }
}
