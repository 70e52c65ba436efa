//! The limits that the server announced for a push (SPEC "Welcome"). A client closes as soon as it
//! knows that the push exceeds one, and sends nothing beyond it.

use super::super::error::Fault;
use crate::frame::CloseCode;
use crate::limits::Limits;
use artifact_formats::{FileHeader, ObjectId, ObjectKind};

/// The counts of a push that the limits bound.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Objects that the server has asked for.
    objects: u64,
    /// Stored bytes sent.
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

    /// Checks the unpacked length of an object, given its first stored bytes.
    pub(super) fn begin(id: ObjectId, stored: &[u8], limits: &Limits) -> Result<(), Fault> {
        match id.kind {
            ObjectKind::File => {
                let size = FileHeader::archive_size(stored).unwrap_or_default();
                keep_object(id, size, limits)
            }
            ObjectKind::Dirtree | ObjectKind::Dirmeta | ObjectKind::Commit => Ok(()),
        }
    }

    /// Counts stored bytes of an object; `bytes` more are sent now.
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
        text: format!("{who} at least {count} {what}, but the server accepts at most {limit}"),
    })
}
