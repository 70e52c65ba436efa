//! The store of a client that may do nothing: it refuses all that is announced, and touches no
//! repository.

use artifact_formats::{Checksum, ObjectId, RefName};
use artifact_protocol::Text;
use artifact_protocol::frame::{RefState, Refusal, RefusalCode, SummaryDone, Verdict};
use artifact_protocol::session::{Announcement, Opened, Published, RefQuery};

use crate::error::Error;
use crate::seam::{ObjectStream, Store};

/// A store that takes nothing, and says why.
#[derive(Clone, Debug)]
pub struct Nowhere {
    why: String,
}

/// An object that cannot come.
#[derive(Clone, Copy, Debug)]
pub struct NoStream;

impl Nowhere {
    /// Refuses everything in these words.
    pub const fn new(why: String) -> Self {
        Self { why }
    }
}

const MISUSE: Error = Error::Misuse {
    what: "take what it has not accepted",
};

impl Store for Nowhere {
    type Stream = NoStream;

    fn refs(&self, _: &RefQuery) -> Result<(Vec<(RefName, Checksum)>, bool), Error> {
        Ok((Vec::new(), true))
    }

    fn open(&self, announcement: &Announcement) -> Result<Opened, Error> {
        let refused = RefState {
            current: None,
            verdict: Verdict::Refused(Refusal::new(RefusalCode::NOT_PERMITTED, &self.why)),
        };
        Ok(Opened {
            refs: vec![refused; announcement.refs.len()],
            complete: Vec::new(),
        })
    }

    fn rely(&self, _: &[Checksum]) -> Result<(), Error> {
        Err(MISUSE)
    }

    fn have(&self, _: &[ObjectId]) -> Result<Vec<bool>, Error> {
        Err(MISUSE)
    }

    fn stage(&self, _: ObjectId, _: &[u8]) -> Result<(), Error> {
        Err(MISUSE)
    }

    fn begin(&self, _: ObjectId) -> Result<NoStream, Error> {
        Err(MISUSE)
    }

    fn stage_detached(&self, _: Checksum, _: &[u8]) -> Result<(), Error> {
        Err(MISUSE)
    }

    fn lack(&self, _: &[ObjectId]) -> Result<(), Error> {
        Err(MISUSE)
    }

    fn publish(&self) -> Result<Published, Error> {
        Err(MISUSE)
    }

    fn summarize(&self) -> SummaryDone {
        SummaryDone::Failed(Text::new(&MISUSE.to_string()))
    }
}

impl ObjectStream for NoStream {
    fn append(&mut self, _: &[u8]) -> Result<(), Error> {
        Err(MISUSE)
    }

    fn finish(self) -> Result<(), Error> {
        Err(MISUSE)
    }
}
