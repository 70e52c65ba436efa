//! The states in which objects travel: in a tar stream, or one by one.

use bytes::BytesMut;

use super::super::content::Content;
use super::super::member::Member;
use super::super::message::Message;
use super::super::tar::{Item, Reader};
use super::super::version::Dialect;
use super::finish::{Finalizing, Refused};
use super::push::Push;
use super::{Core, State, unexpected};
use crate::frame::CloseCode;
use crate::session::{Error, Fault, StoreOp, StoreOutcome, Violation};
use crate::shared::Shared;

/// Waits for a client of version 1 to announce objects, or to decline.
#[derive(Debug)]
pub(super) struct ExpectObjects {
    push: Push,
}

impl ExpectObjects {
    pub(super) const fn new(push: Push) -> Self {
        Self { push }
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        message: Message,
        core: &mut Core,
    ) -> Result<State, Error> {
        match message {
            Message::PutObjects => {
                let objects = Objects {
                    push: self.push,
                    form: Form::Tar(Reader::new(core.config.limits)),
                    failed: None,
                    shared: Shared::new(),
                };
                Ok(State::Objects(Box::new(objects)))
            }
            // Some clients decline for one ref, and go on with the others.
            Message::Done => {
                self.push.withdrawn = true;
                Ok(State::ExpectObjects(self))
            }
            Message::Info(_)
            | Message::Update(_)
            | Message::PutObject { .. }
            | Message::Status { .. } => Err(unexpected("neither putobjects nor done after update")),
        }
    }
}

/// Receives objects.
#[derive(Debug)]
pub(super) struct Objects {
    push: Push,
    form: Form,
    /// The reason why the current object is refused.
    failed: Option<Fault>,
    /// The input of version 0; in version 1 the tar reader keeps its own.
    shared: Shared,
}

#[derive(Debug)]
enum Form {
    /// Version 1: one stream for all objects.
    Tar(Reader),
    /// Version 1: the stream has ended, and `done` must follow.
    TarOver,
    /// Version 0: a message precedes each object.
    Between,
    /// Version 0: the bytes of an object.
    Within(Content),
    /// Version 0: the object has come, and the store is working on it.
    Storing,
}

impl Objects {
    pub(super) const fn one_by_one(push: Push) -> Self {
        Self {
            push,
            form: Form::Between,
            failed: None,
            shared: Shared::new(),
        }
    }

    /// Returns whether a client of version 0 has sent nothing yet.
    pub(super) const fn is_before_the_first(&self) -> bool {
        matches!(self.form, Form::Between) && !self.push.has_objects()
    }

    pub(super) const fn wants_input(&self) -> bool {
        !matches!(self.form, Form::Storing)
    }

    /// Takes the next item off `input`; returns whether there was one.
    pub(super) fn handle_bytes(
        mut self: Box<Self>,
        input: &mut BytesMut,
        core: &mut Core,
    ) -> Result<(State, bool), Error> {
        if !matches!(self.form, Form::Tar(_)) {
            self.shared.look(input);
        }
        match &mut self.form {
            Form::Tar(reader) => {
                let Some(item) = reader.next(input)? else {
                    // Do not hold back objects while the rest is late.
                    self.push.flush(core);
                    return Ok((State::Objects(self), false));
                };
                match item {
                    Item::Begin { member, len, whole } => {
                        self.push.begin(member, len, whole, core)?;
                    }
                    Item::Bytes(bytes, last) => self.push.take(bytes, last, core),
                    Item::End => {
                        self.push.flush(core);
                        self.form = Form::TarOver;
                    }
                }
                Ok((State::Objects(self), true))
            }
            Form::Within(content) => {
                let Some((bytes, last)) = content.take(input, &mut self.shared) else {
                    return Ok((State::Objects(self), false));
                };
                self.push.take(bytes, last, core);
                if !last {
                    return Ok((State::Objects(self), true));
                }
                self.push.flush(core);
                self.form = Form::Storing;
                Ok((self.answer(core), true))
            }
            Form::TarOver | Form::Between => match Message::decode(core.dialect, input)? {
                None => Ok((State::Objects(self), false)),
                Some(message) => self.handle(message, core).map(|state| (state, true)),
            },
            Form::Storing => Ok((State::Objects(self), false)),
        }
    }

    fn handle(mut self: Box<Self>, message: Message, core: &mut Core) -> Result<State, Error> {
        match message {
            Message::PutObject { name, len } if matches!(self.form, Form::Between) => {
                self.begin(&name, len, core)?;
                Ok(State::Objects(self))
            }
            // In version 0, a client that sends `done` before any object has changed its mind.
            Message::Done if core.dialect == Dialect::V0 && !self.push.has_objects() => {
                Ok(State::Finished)
            }
            Message::Done => Ok(Finalizing::begin(self.push, core)),
            Message::Info(_)
            | Message::Update(_)
            | Message::PutObjects
            | Message::PutObject { .. }
            | Message::Status { .. } => Err(unexpected("neither an object nor done")),
        }
    }

    /// Begins an object of version 0. If it is refused, its bytes are skipped: the client sends
    /// them before it listens for the answer.
    fn begin(&mut self, name: &str, len: u64, core: &mut Core) -> Result<(), Error> {
        if len > core.config.limits.push_len_max {
            return Err(Error::Violation(Violation::Limit {
                what: "bytes in a push",
                limit: core.config.limits.push_len_max,
                got: len,
            }));
        }
        let mut content = Content::new(len);
        let begun = Member::parse(name).map_err(Error::from).and_then(|member| {
            if matches!(member, Member::Detached(_)) && len <= member.len_max(&core.config.limits) {
                content = Content::whole(len);
            }
            let whole = content.is_whole();
            self.push
                .begin(member, len, whole, core)
                .map_err(Error::from)
        });
        if let Err(error) = begun {
            self.fail(Fault {
                code: CloseCode::OBJECT_REFUSED,
                text: crate::text::escape(&error_text(&error)),
            });
        }
        self.form = Form::Within(content);
        Ok(())
    }

    fn fail(&mut self, fault: Fault) {
        self.push.skip();
        self.failed.get_or_insert(fault);
    }

    pub(super) fn handle_stored(
        mut self: Box<Self>,
        op: &StoreOp,
        outcome: Result<StoreOutcome, Fault>,
        core: &mut Core,
    ) -> Result<State, Error> {
        match self.push.handle_stored(op, outcome) {
            Ok(()) => {}
            Err(Error::Fault(fault)) if core.dialect == Dialect::V0 => self.fail(fault),
            Err(error) => return Err(error),
        }
        Ok(self.answer(core))
    }

    /// Tells a client of version 0 the outcome for an object, once it is known.
    fn answer(mut self: Box<Self>, core: &mut Core) -> State {
        if !matches!(self.form, Form::Storing) || !self.push.is_stored() {
            return State::Objects(self);
        }
        if let Some(fault) = self.failed {
            return Refused::tell(&fault.text.clone(), Some(fault), core);
        }
        core.send_status(true, "");
        self.form = Form::Between;
        State::Objects(self)
    }
}

fn error_text(error: &Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}
