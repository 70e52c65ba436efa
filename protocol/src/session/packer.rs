//! Collects small objects until they are worth a frame.

use artifact_formats::ObjectId;
use bytes::Bytes;

use crate::frame::Pack;
use crate::limits::PACK_LEN;

#[derive(Debug, Default)]
pub(crate) struct Packer {
    objects: Vec<(ObjectId, Bytes)>,
    len: usize,
}

impl Packer {
    /// Adds an object; returns a pack once it is large enough.
    pub(crate) fn push(&mut self, id: ObjectId, stored: Bytes) -> Option<Pack> {
        self.len += Pack::ENTRY_HEAD_LEN + stored.len();
        self.objects.push((id, stored));
        if self.len >= PACK_LEN {
            self.flush()
        } else {
            None
        }
    }

    /// Returns the number of objects that wait for a pack.
    pub(crate) fn waiting(&self) -> usize {
        self.objects.len()
    }

    /// Returns the objects collected so far as a pack, if any.
    pub(crate) fn flush(&mut self) -> Option<Pack> {
        let Self { objects, .. } = std::mem::take(self);
        (!objects.is_empty()).then_some(Pack { objects })
    }
}
