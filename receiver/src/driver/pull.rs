//! The rest of a session whose client pulls: the same pipes and timers, another session, and
//! threads that read the repository.
//!
//! Takes no lock of the repository: what another program deletes meanwhile ends the answer, and the
//! client asks again.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::pull::{
    AnswerOp, AnswerRequest, PullServer, PullServerEvent, PullServerOutput,
};
use artifact_protocol::session::{Error as SessionError, ReceiverEvent};
use artifact_sender::Answers;
use artifact_store::{LocalStore, SessionPlace};

use super::pipes::Wire;
use super::timers::Activity;
use super::{Driver, DriverEvent, Error, Next};

/// A pull in progress.
struct Session {
    server: PullServer,
    answers: Answers,
    store: Arc<LocalStore>,
    /// Held from the judgement on.
    place: Option<SessionPlace>,
    refusal: Option<artifact_store::Error>,
}

impl<E: FnMut(ReceiverEvent)> Driver<E> {
    /// Serves the pull to its end.
    pub(super) fn pull(
        &mut self,
        server: PullServer,
        events: &Receiver<DriverEvent>,
    ) -> Result<(), Error> {
        let Some(pulls) = self.pulls.take() else {
            return Ok(());
        };
        let inbox = self.inbox.clone();
        let wake = move || drop(inbox.send(DriverEvent::Answered));
        let mut session = Session {
            server,
            answers: Answers::start(&pulls.repository, pulls.terms, wake),
            store: pulls.store,
            place: None,
            refusal: None,
        };
        let result = self.answer(&mut session, events);
        // The reason for the client is among what is left.
        let _ = self.put_out(&mut session, usize::MAX);
        match (result, session.refusal, session.answers.take_failure()) {
            (Err(SessionError::Fault(_)), Some(cause), _) => Err(Error::Store(cause)),
            (Err(SessionError::Fault(fault)), None, Some(source)) => Err(Error::Answer {
                code: fault.code,
                source,
            }),
            (result, ..) => result.map_err(Error::Session),
        }
    }

    fn answer(
        &mut self,
        session: &mut Session,
        events: &Receiver<DriverEvent>,
    ) -> Result<(), SessionError> {
        self.hand_over(session)?;
        loop {
            self.put_out(session, UNWRITTEN_MAX)?;
            // A client on a slow link takes the last bytes in its own time.
            if session.server.is_finished() && self.unwritten == 0 {
                return Ok(());
            }
            match self.wait_in_pull(session, events)? {
                DriverEvent::Wire(Wire::Read(read)) => {
                    self.take_bytes(read)?;
                    if !session.server.is_finished() {
                        self.hand_over(session)?;
                    }
                }
                DriverEvent::Wire(Wire::Written(Ok(len))) => {
                    self.unwritten = self.unwritten.saturating_sub(len);
                    self.timers.written(Instant::now());
                }
                DriverEvent::Wire(Wire::Written(Err(error))) => {
                    tracing::warn!(%error, "the client does not take its answer");
                    (self.writer, self.unwritten) = (None, 0);
                    return Err(SessionError::Truncated);
                }
                DriverEvent::Answered => {
                    while let Some(done) = session.answers.next_done() {
                        if !session.server.is_finished() {
                            session.server.handle_answer(done)?;
                        }
                    }
                }
                DriverEvent::Stop if session.server.is_finished() => return Ok(()),
                DriverEvent::Stop => {
                    let text = "the server was told to stop";
                    return Err(session.server.abort(CloseCode::INTERRUPTED, text));
                }
                // A pull has none.
                DriverEvent::Stored(_) => {}
            }
        }
    }

    /// Gives the session the bytes that are here, or their end.
    fn hand_over(&mut self, session: &mut Session) -> Result<(), SessionError> {
        let progress = session.server.progress();
        session.server.handle_bytes(&mut self.unread)?;
        if session.server.progress() != progress {
            self.timers.progressed(Instant::now());
        }
        if self.ended {
            return match session.server.is_finished() {
                true => Ok(()),
                false => session.server.handle_eof(),
            };
        }
        for _ in 0..std::mem::take(&mut self.reads_held) {
            self.reader.allow_another();
        }
        Ok(())
    }

    /// Carries out the session's outputs, until enough bytes wait for the client.
    fn put_out(&mut self, session: &mut Session, unwritten_max: usize) -> Result<(), SessionError> {
        while self.unwritten < unwritten_max {
            match session.server.poll_output() {
                Some(PullServerOutput::Transmit(bytes)) => self.transmit(bytes),
                Some(PullServerOutput::Answer(request)) => session.submit(request)?,
                Some(PullServerOutput::Event(event)) => self.note(event),
                None => break,
            }
        }
        Ok(())
    }

    fn note(&mut self, event: PullServerEvent) {
        let pulled = self.pulled.get_or_insert_default();
        match event {
            // This session began when the client had introduced itself.
            PullServerEvent::Greeted(_) => {}
            PullServerEvent::Answered(answer) => {
                tracing::info!(
                    refs = answer.refs.len(),
                    basis = answer.basis.len(),
                    "the client pulls"
                );
                pulled.answer = answer;
            }
            PullServerEvent::Sent(sent) => {
                tracing::info!(objects = sent.objects, bytes = sent.bytes, "answered");
                (pulled.sent, pulled.is_sent) = (sent, true);
            }
        }
    }

    /// Waits for the next event, and does meanwhile what the timers demand.
    fn wait_in_pull(
        &mut self,
        session: &mut Session,
        events: &Receiver<DriverEvent>,
    ) -> Result<DriverEvent, SessionError> {
        loop {
            let activity = Activity {
                announced: true,
                awaits_client: session.server.awaits_request() && !self.ended,
                unwritten: self.unwritten > 0,
            };
            match self.next(events, activity) {
                Next::Event(event) => return Ok(event),
                Next::Ping => {
                    session.server.ping();
                    self.put_out(session, UNWRITTEN_MAX)?;
                }
                Next::GiveUp(reason) if session.server.is_finished() => {
                    tracing::warn!("{reason}");
                    self.writer = None;
                    self.unwritten = 0;
                    return Err(SessionError::Truncated);
                }
                Next::GiveUp(reason) => {
                    return Err(session.server.abort(CloseCode::TIMEOUT, reason));
                }
                Next::Dead => {
                    let server = &mut session.server;
                    return Err(server.abort(CloseCode::INTERNAL, "a thread has died"));
                }
            }
        }
    }
}

impl Session {
    /// Hands a request to a thread, once there is a place for this session.
    fn submit(&mut self, request: AnswerRequest) -> Result<(), SessionError> {
        if self.place.is_none() && matches!(request.op(), AnswerOp::Judge(_)) {
            match self.store.take_place() {
                Ok(place) => self.place = Some(place),
                Err(error) => {
                    let fault = error.to_fault();
                    self.refusal = Some(error);
                    return self.server.handle_answer(request.complete(Err(fault)));
                }
            }
        }
        self.answers.submit(request);
        // A request may be completed at once.
        while let Some(done) = self.answers.next_done() {
            self.server.handle_answer(done)?;
        }
        Ok(())
    }
}

/// Bytes that may wait for the client before the repository is read on: as many as its pipe takes.
const UNWRITTEN_MAX: usize = 1024 * 1024;
