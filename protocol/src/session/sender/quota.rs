//! The limits on a push that the server announced (SPEC "Welcome"): a client ends a push as soon as
//! it knows that it goes beyond, and sends nothing of that.

use super::super::error::Fault;
use crate::frame::CloseCode;
use crate::limits::Limits;
use artifact_formats::{FileHeader, ObjectId, ObjectKind};

/// What of a push counts.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Objects that the server has asked for.
    objects: u64,
    /// Stored bytes that were sent.
    bytes: u64,
}

impl Quota {
    /// Counts objects that the server asks for.
    pub(super) fn want(&mut self, count: u64, limits: &Limits) -> Result<(), Fault> {
        self.objects += count;
        keep(
            "this push sends",
            "objects",
            self.objects,
            limits.push_objects_max,
        )
    }

    /// Looks how long an object is once it is unpacked, by the first of its stored bytes.
    pub(super) fn begin(id: ObjectId, stored: &[u8], limits: &Limits) -> Result<(), Fault> {
        match id.kind {
            ObjectKind::File => {
                let size = FileHeader::archive_size(stored).unwrap_or_default();
                keep_object(id, size, limits)
            }
            ObjectKind::Dirtree | ObjectKind::Dirmeta | ObjectKind::Commit => Ok(()),
        }
    }

    /// Counts stored bytes of an object, of which so many are sent then.
    pub(super) fn send(
        &mut self,
        id: ObjectId,
        bytes: usize,
        object_len: u64,
        limits: &Limits,
    ) -> Result<(), Fault> {
        self.bytes += bytes as u64;
        keep_object(id, object_len, limits)?;
        keep("this push sends", "bytes", self.bytes, limits.push_len_max)
    }
}

fn keep_object(id: ObjectId, len: u64, limits: &Limits) -> Result<(), Fault> {
    keep(&format!("{id} has"), "bytes", len, limits.object_len_max)
}

fn keep(who: &str, what: &str, count: u64, limit: u64) -> Result<(), Fault> {
    // REQ-10.
    if count <= limit {
        return Ok(());
    }
    Err(Fault {
        code: CloseCode::LIMIT,
        text: format!("{who} {count} {what} or more, and the server takes {limit} at most"),
    })
}
