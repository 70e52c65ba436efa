//! Writes files to the wire: after a tar header, or after a message of its own.

use bytes::Bytes;

use super::super::member::Member;
use super::super::message::Message;
use super::super::tar;
use super::super::version::Dialect;
use super::Core;
use crate::session::SenderEvent;

/// The state of the written files.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Position in the tar stream, in bytes.
    position: u64,
    /// Missing bytes of the current file.
    left: u64,
    len: u64,
    /// In version 0: files that the server has not answered.
    unanswered: u64,
}

impl Files {
    /// Announces that files follow.
    pub(super) fn begin_all(core: &mut Core) -> Self {
        if core.dialect == Dialect::V1 {
            core.send(&Message::PutObjects);
        }
        Self::default()
    }

    /// Writes a whole file.
    pub(super) fn write(&mut self, member: Member, bytes: Bytes, core: &mut Core) {
        self.begin(member, bytes.len() as u64, core);
        self.append(bytes, core);
        self.end(core);
    }

    pub(super) fn begin(&mut self, member: Member, len: u64, core: &mut Core) {
        let name = member.name();
        (self.len, self.left) = (len, len);
        match core.dialect {
            Dialect::V1 => self.send(tar::file_header(&name, len), core),
            Dialect::V0 => {
                self.unanswered += 1;
                core.send(&Message::PutObject { name, len });
            }
        }
    }

    /// Writes a piece of the current file; returns `false` if it exceeds the stated length.
    pub(super) fn append(&mut self, bytes: Bytes, core: &mut Core) -> bool {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            return false;
        };
        self.left = left;
        let sent = SenderEvent::Sent {
            objects: u64::from(left == 0),
            bytes: bytes.len() as u64,
            large: None,
        };
        self.send(bytes, core);
        core.tell(sent);
        true
    }

    /// Ends the file; returns `false` if it is shorter than stated.
    pub(super) fn end(&mut self, core: &mut Core) -> bool {
        if core.dialect == Dialect::V1 {
            self.send(tar::padding(self.len), core);
        }
        self.left == 0
    }

    /// Announces that no more files follow.
    pub(super) fn end_all(&mut self, core: &mut Core) {
        if core.dialect == Dialect::V1 {
            self.send(tar::end(self.position), core);
        }
        core.send(&Message::Done);
    }

    /// Takes the server's answer to a file of version 0; returns `false` if none is unanswered.
    pub(super) const fn answered(&mut self) -> bool {
        let expected = self.unanswered > 0;
        self.unanswered = self.unanswered.saturating_sub(1);
        expected
    }

    pub(super) const fn unanswered(&self) -> u64 {
        self.unanswered
    }

    fn send(&mut self, bytes: Bytes, core: &mut Core) {
        self.position = self.position.saturating_add(bytes.len() as u64);
        core.send_bytes(bytes);
    }
}
