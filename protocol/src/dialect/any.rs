//! Sessions of any version, so that a driver need not know which one is spoken.

use bytes::BytesMut;

use super::receiver::DialectReceiver;
use super::sender::DialectSender;
use super::version::Dialect;
use crate::frame::{CloseCode, Staged};
use crate::session::pull::PullServer;
use crate::session::{
    ApiMisuse, Error, Fault, ReceiverConfig, ReceiverOutput, ReceiverSession, SenderConfig,
    SenderOutput, SenderSession, SourceDone, StoreDone,
};
use crate::version::Version;

/// The versions that a receiver speaks.
#[derive(Clone, Debug, Default)]
pub struct Openness {
    /// The oldest version that may push; clients of older ones are only told so.
    pub oldest: Version,
    /// Whether the client was told to start a server of version 0, in which the server speaks
    /// first, so that no byte of the client's could tell.
    pub server_first: bool,
    /// A reason to refuse everybody, in any version.
    pub refusal: Option<Fault>,
}

/// The receiving end of a push, in the version that the client's first byte shows.
///
/// **The drain rule: after `new` and every `handle_*`, call [`poll_output`](Self::poll_output)
/// until it returns `None`**, also after an error.
#[derive(Debug)]
pub struct AnyReceiver {
    session: Receiver,
    /// How often a session of an old version took bytes. None of its messages is a mere sign of
    /// life.
    taken: u64,
}

#[derive(Debug)]
enum Receiver {
    Undecided(Box<(ReceiverConfig, Openness)>),
    Current(Box<ReceiverSession>),
    Old(Box<DialectReceiver>),
}

impl AnyReceiver {
    /// Starts a session.
    pub fn new(config: ReceiverConfig, openness: Openness) -> Self {
        let session = if openness.server_first {
            Receiver::old(Dialect::V0, config, openness)
        } else {
            Receiver::Undecided(Box::new((config, openness)))
        };
        Self { session, taken: 0 }
    }

    /// Takes the bytes of `input`, like [`ReceiverSession::handle_bytes`].
    ///
    /// # Errors
    ///
    /// Those of the session.
    pub fn handle_bytes(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        if let (Receiver::Undecided(_), Some(first)) = (&self.session, input.first()) {
            // Versions with a preamble begin with neither.
            self.decide(matches!(first, b'l' | b'B'))?;
        }
        match &mut self.session {
            Receiver::Undecided(_) => Ok(()),
            Receiver::Current(session) => session.handle_bytes(input),
            Receiver::Old(session) => {
                let len = input.len();
                let taken = session.handle_bytes(input);
                self.taken += u64::from(input.len() < len);
                taken
            }
        }
    }

    /// Takes the end of the client's bytes.
    ///
    /// # Errors
    ///
    /// Those of the session.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        self.decide(false)?;
        match &mut self.session {
            Receiver::Undecided(_) => Ok(()),
            Receiver::Current(session) => session.handle_eof(),
            Receiver::Old(session) => session.handle_eof(),
        }
    }

    /// Takes the completion of a store request.
    ///
    /// # Errors
    ///
    /// Those of the session.
    pub fn handle_stored(&mut self, done: StoreDone) -> Result<(), Error> {
        match &mut self.session {
            Receiver::Undecided(_) => Err(ApiMisuse::Outcome.into()),
            Receiver::Current(session) => session.handle_stored(done),
            Receiver::Old(session) => session.handle_stored(done),
        }
    }

    /// Returns the session that goes on, once the client has asked to pull, like
    /// [`ReceiverSession::take_pull`].
    pub fn take_pull(&mut self) -> Option<PullServer> {
        match &mut self.session {
            Receiver::Undecided(_) | Receiver::Old(_) => None,
            Receiver::Current(session) => session.take_pull(),
        }
    }

    /// Returns the next output, if any.
    pub fn poll_output(&mut self) -> Option<ReceiverOutput> {
        match &mut self.session {
            Receiver::Undecided(_) => None,
            Receiver::Current(session) => session.poll_output(),
            Receiver::Old(session) => session.poll_output(),
        }
    }

    /// Returns whether the driver should read more bytes; `false` is back-pressure.
    pub const fn wants_input(&self) -> bool {
        match &self.session {
            Receiver::Undecided(_) => true,
            Receiver::Current(session) => session.wants_input(),
            Receiver::Old(session) => session.wants_input(),
        }
    }

    /// Returns whether the session will produce nothing more.
    pub const fn is_finished(&self) -> bool {
        match &self.session {
            Receiver::Undecided(_) => false,
            Receiver::Current(session) => session.is_finished(),
            Receiver::Old(session) => session.is_finished(),
        }
    }

    /// Returns whether refs may be moving, or their summary is being written: a driver that is told
    /// to stop, or loses its client, waits until then.
    pub const fn is_publishing(&self) -> bool {
        match &self.session {
            Receiver::Undecided(_) => false,
            Receiver::Current(session) => session.is_publishing(),
            Receiver::Old(session) => session.is_publishing(),
        }
    }

    /// Returns the objects that were verified and staged, and their stored bytes.
    pub const fn staged(&self) -> Staged {
        match &self.session {
            Receiver::Undecided(_) => Staged {
                objects: 0,
                bytes: 0,
            },
            Receiver::Current(session) => session.staged(),
            Receiver::Old(session) => session.staged(),
        }
    }

    /// Returns a number that grows when the client sends more than a sign of life.
    pub const fn progress(&self) -> u64 {
        match &self.session {
            Receiver::Undecided(_) => 0,
            Receiver::Current(session) => session.progress(),
            Receiver::Old(_) => self.taken,
        }
    }

    /// Queues a sign of life, if the client may get one now. A client of an old version never may.
    pub fn ping(&mut self) {
        if let Receiver::Current(session) = &mut self.session {
            session.ping();
        }
    }

    /// Ends the session for a reason of the driver's, such as a timer, and tells the client if its
    /// version has a message for that.
    pub fn abort(&mut self, code: CloseCode, text: &str) -> Error {
        if let Err(refused) = self.decide(false) {
            return refused;
        }
        match &mut self.session {
            Receiver::Undecided(_) => ApiMisuse::Closed.into(),
            Receiver::Current(session) => session.abort(code, text),
            Receiver::Old(session) => session.abort(code, text),
        }
    }

    /// Decides on the version, if it is open. A client that has sent nothing counts as one of a
    /// version that can be told why it is refused.
    fn decide(&mut self, old: bool) -> Result<(), Error> {
        let Receiver::Undecided(undecided) = &mut self.session else {
            return Ok(());
        };
        let (config, openness) = std::mem::take(&mut **undecided);
        if old {
            self.session = Receiver::old(Dialect::V1, config, openness);
            return Ok(());
        }
        let mut session = ReceiverSession::new(config);
        let refused = openness
            .refusal
            .map(|fault| session.abort(fault.code, &fault.text));
        self.session = Receiver::Current(Box::new(session));
        refused.map_or(Ok(()), Err)
    }
}

impl Receiver {
    fn old(dialect: Dialect, config: ReceiverConfig, openness: Openness) -> Self {
        let Openness {
            oldest, refusal, ..
        } = openness;
        let too_old = || Fault {
            code: CloseCode::UNSUPPORTED,
            text: format!(
                "this server takes pushes from version {oldest} of the protocol on: use \
                 artifact-cache, which speaks version {}",
                Version::NEWEST
            ),
        };
        let refusal = refusal
            .or_else(|| (dialect.version() < oldest).then(too_old))
            .or_else(|| config.refusal());
        Self::Old(Box::new(DialectReceiver::new(dialect, config, refusal)))
    }
}

/// The sending end of a push, in any version.
///
/// **The drain rule: after `new` and every `handle_*`, call [`poll_output`](Self::poll_output)
/// until it returns `None`**, also after an error.
#[derive(Debug)]
pub struct AnySender {
    session: Sender,
    /// How often a session of an old version took bytes.
    taken: u64,
}

#[derive(Debug)]
enum Sender {
    Current(Box<SenderSession>),
    Old(Box<DialectSender>),
}

impl AnySender {
    /// Starts a session in the current version, or in an old one.
    pub fn new(config: SenderConfig, dialect: Option<Dialect>) -> Self {
        let session = match dialect {
            None => Sender::Current(Box::new(SenderSession::new(config))),
            Some(dialect) => {
                Sender::Old(Box::new(DialectSender::new(dialect, config.announcement)))
            }
        };
        Self { session, taken: 0 }
    }

    /// Returns whether the other end sends signs of life, so that its silence means something.
    pub const fn expects_pings(&self) -> bool {
        matches!(self.session, Sender::Current(_))
    }

    /// Takes the bytes of `input`, like [`SenderSession::handle_bytes`].
    ///
    /// # Errors
    ///
    /// Those of the session.
    pub fn handle_bytes(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        match &mut self.session {
            Sender::Current(session) => session.handle_bytes(input),
            Sender::Old(session) => {
                let len = input.len();
                let taken = session.handle_bytes(input);
                self.taken += u64::from(input.len() < len);
                taken
            }
        }
    }

    /// Takes the end of the server's bytes.
    ///
    /// # Errors
    ///
    /// Those of the session.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        match &mut self.session {
            Sender::Current(session) => session.handle_eof(),
            Sender::Old(session) => session.handle_eof(),
        }
    }

    /// Takes the completion of a source request.
    ///
    /// # Errors
    ///
    /// Those of the session.
    pub fn handle_source(&mut self, done: SourceDone) -> Result<(), Error> {
        match &mut self.session {
            Sender::Current(session) => session.handle_source(done),
            Sender::Old(session) => session.handle_source(done),
        }
    }

    /// Returns the next output, if any.
    pub fn poll_output(&mut self) -> Option<SenderOutput> {
        match &mut self.session {
            Sender::Current(session) => session.poll_output(),
            Sender::Old(session) => session.poll_output(),
        }
    }

    /// Returns whether the push is over and nothing remains to be sent.
    pub const fn is_finished(&self) -> bool {
        match &self.session {
            Sender::Current(session) => session.is_finished(),
            Sender::Old(session) => session.is_finished(),
        }
    }

    /// Returns a number that grows when the server sends more than a sign of life.
    pub const fn progress(&self) -> u64 {
        match &self.session {
            Sender::Current(session) => session.progress(),
            Sender::Old(_) => self.taken,
        }
    }

    /// Returns whether the server may have set refs without having said so.
    pub const fn is_unsettled(&self) -> bool {
        match &self.session {
            Sender::Current(session) => session.is_unsettled(),
            Sender::Old(session) => session.is_unsettled(),
        }
    }

    /// Queues a sign of life, if the version has one.
    pub fn ping(&mut self) {
        if let Sender::Current(session) = &mut self.session {
            session.ping();
        }
    }

    /// Ends the session for a reason of the driver's, such as a timer.
    pub fn abort(&mut self, code: CloseCode, text: &str) -> Error {
        match &mut self.session {
            Sender::Current(session) => session.abort(code, text),
            Sender::Old(session) => session.abort(code, text),
        }
    }
}
