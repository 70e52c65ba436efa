//! The store for a client without any right: it refuses every update, and touches no repository.

use artifact_formats::{Checksum, ObjectId, RefName};
use artifact_protocol::Text;
use artifact_protocol::frame::{RefState, Refusal, RefusalCode, SummaryDone, Verdict};
use artifact_protocol::session::{Announcement, Opened, Published, RefQuery};
use bytes::Bytes;

use crate::error::Error;
use crate::seam::{ObjectStream, Push, Stager, Store};

/// A store that refuses everything, with a reason.
#[derive(Clone, Debug)]
pub struct Nowhere {
    why: String,
}

/// A push whose updates are all refused. A session makes no request of it.
#[derive(Clone, Copy, Debug)]
pub struct Refused;

impl Nowhere {
    /// Refuses everything with this reason.
    pub const fn new(why: String) -> Self {
        Self { why }
    }
}

impl Store for Nowhere {
    type Push = Refused;

    fn refs(&self, _: &RefQuery) -> Result<(Vec<(RefName, Checksum)>, bool), Error> {
        Ok((Vec::new(), true))
    }

    fn begin(&self, announcement: &Announcement) -> Result<(Opened, Refused), Error> {
        let refused = RefState {
            current: None,
            verdict: Verdict::Refused(Refusal::new(RefusalCode::NOT_PERMITTED, &self.why)),
        };
        let opened = Opened {
            refs: vec![refused; announcement.refs.len()],
            complete: Vec::new(),
        };
        Ok((opened, Refused))
    }
}

impl Push for Refused {
    type Stager = Self;

    fn stager(&self) -> Self {
        *self
    }

    fn rely(&mut self, _: &[Checksum]) -> Result<(), Error> {
        Err(MISUSE)
    }

    fn have(&mut self, _: &[ObjectId]) -> Result<Vec<bool>, Error> {
        Err(MISUSE)
    }

    fn stage_detached(&mut self, _: Checksum, _: &[u8]) -> Result<(), Error> {
        Err(MISUSE)
    }

    fn lack(&mut self, _: &[ObjectId]) -> Result<(), Error> {
        Err(MISUSE)
    }

    fn publish(&mut self) -> Result<Published, Error> {
        Err(MISUSE)
    }

    fn summarize(&mut self) -> SummaryDone {
        SummaryDone::Failed(Text::new(&MISUSE.to_string()))
    }
}

impl Stager for Refused {
    type Stream = Self;

    fn stage(&self, _: ObjectId, _: Bytes) -> Result<(), Error> {
        Err(MISUSE)
    }

    fn begin(&self, _: ObjectId) -> Result<Self, Error> {
        Err(MISUSE)
    }
}

impl ObjectStream for Refused {
    fn append(&mut self, _: Bytes) -> Result<(), Error> {
        Err(MISUSE)
    }

    fn finish(self) -> Result<(), Error> {
        Err(MISUSE)
    }
}

const MISUSE: Error = Error::Misuse {
    what: "take what it has not accepted",
};
