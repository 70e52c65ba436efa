//! Two sessions and two pipes: a whole pull without a thread or a clock.

use std::collections::VecDeque;

use artifact_formats::RefName;
use artifact_protocol::dialect::{AnyReceiver, Openness};
use artifact_protocol::frame::{Frame, RefOutcome};
use artifact_protocol::session::pull::{
    AnswerRequest, PullClient, PullClientConfig, PullClientEvent, PullClientOutput, PullServer,
    PullServerOutput, ReadRequest,
};
use artifact_protocol::session::{Error, Lane, ReceiverConfig, ReceiverOutput, StoreRequest};
use bytes::BytesMut;

use super::client::Store;
use super::server::Server;
use crate::random::Random;

/// Conditions of a pull that must not affect its outcome.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Decides what happens next.
    pub seed: u64,
    /// At most so many bytes arrive at a time.
    pub split: usize,
    /// The answer breaks off after this many bytes.
    pub cut: Option<usize>,
    /// Whether the client's bytes end after the request, as over HTTP, and its later ones are lost.
    pub one_way: bool,
    /// Whether the server takes pushes as well.
    pub takes_pushes: bool,
}

/// How a pull ended.
#[derive(Debug)]
pub struct Ending {
    /// The outcome of each ref, as the client was told.
    pub outcomes: Option<Vec<(RefName, RefOutcome)>>,
    /// How the client's end failed.
    pub client: Result<(), Error>,
    /// How the server's end failed.
    pub server: Result<(), Error>,
    /// Bytes that came to the client.
    pub delivered: usize,
    /// The frames of the answer.
    pub frames: Vec<Frame>,
}

/// Both ends of a pull.
#[derive(Debug)]
pub struct Pair {
    client: PullClient,
    receiver: Option<AnyReceiver>,
    server: Option<PullServer>,
    /// The client's repository.
    pub store: Store,
    /// The server's.
    pub source: Server,
    to_server: BytesMut,
    at_server: BytesMut,
    to_client: BytesMut,
    at_client: BytesMut,
    answers: Vec<AnswerRequest>,
    stores: VecDeque<StoreRequest>,
    reads: Vec<ReadRequest>,
    ending: Ending,
    weather: Weather,
    random: Random,
    asked: bool,
    told_eof: bool,
}

/// An event that can happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    ToServer,
    ToClient,
    Answer(usize),
    Store(usize),
    Read,
}

impl Pair {
    /// Joins both ends; nothing has happened yet.
    pub fn new(config: PullClientConfig, store: Store, source: Server, weather: Weather) -> Self {
        let session = ReceiverConfig {
            serves_pulls: true,
            ..ReceiverConfig::default()
        };
        let (receiver, server) = match weather.takes_pushes {
            true => (Some(AnyReceiver::new(session, Openness::default())), None),
            false => (None, Some(PullServer::new(session))),
        };
        Self {
            client: PullClient::new(config),
            receiver,
            server,
            store,
            source,
            to_server: BytesMut::new(),
            at_server: BytesMut::new(),
            to_client: BytesMut::new(),
            at_client: BytesMut::new(),
            answers: Vec::new(),
            stores: VecDeque::new(),
            reads: Vec::new(),
            ending: Ending {
                outcomes: None,
                client: Ok(()),
                server: Ok(()),
                delivered: 0,
                frames: Vec::new(),
            },
            weather,
            random: Random(weather.seed),
            asked: false,
            told_eof: false,
        }
    }

    /// Lets everything happen; panics if the pull does not end.
    pub fn drive(mut self) -> (Ending, Store, Server) {
        for _ in 0..1_000_000 {
            self.pump();
            let steps = self.steps();
            if steps.is_empty() {
                assert!(self.client.is_finished(), "nothing can happen: {self:#?}");
                return (self.ending, self.store, self.source);
            }
            let step = steps[self.draw(steps.len())];
            self.act(step);
        }
        unreachable!("the pull does not end");
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let listens = self.receiver.as_ref().is_some_and(AnyReceiver::wants_input)
            || self.server.as_ref().is_some_and(PullServer::wants_input);
        let has_news = !self.to_server.is_empty() || self.is_over_for_server();
        if listens && has_news && self.ending.server.is_ok() {
            steps.push(Step::ToServer);
        }
        let ends = self.is_over_for_client();
        if self.client.wants_input() && (!self.to_client.is_empty() || ends) {
            steps.push(Step::ToClient);
        }
        steps.extend((0..self.answers.len()).map(Step::Answer));
        let mut lanes = Vec::new();
        for (index, request) in self.stores.iter().enumerate() {
            let lane = request.lane();
            if lane == Lane::Any || !lanes.contains(&lane) {
                lanes.push(lane);
                steps.push(Step::Store(index));
            }
        }
        if !self.reads.is_empty() {
            steps.push(Step::Read);
        }
        steps
    }

    fn is_over_for_server(&self) -> bool {
        let ends = self.weather.one_way || self.client.is_finished();
        ends && self.to_server.is_empty() && !self.told_eof
    }

    fn is_over_for_client(&self) -> bool {
        let over = self.ending.server.is_err()
            || self.server.as_ref().is_some_and(PullServer::is_finished)
            || self.is_cut();
        over && self.to_client.is_empty()
    }

    fn is_cut(&self) -> bool {
        self.weather.cut == Some(self.ending.delivered)
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::ToServer => self.deliver_to_server(),
            Step::ToClient => self.deliver_to_client(),
            Step::Answer(index) => {
                let request = self.answers.swap_remove(index);
                let outcome = self.source.act(request.op());
                let server = self.server.as_mut().expect("it asked");
                let result = server.handle_answer(request.complete(outcome));
                self.end_server(result);
            }
            Step::Store(index) => {
                let request = self.stores.remove(index).expect("it is there");
                let outcome = self.store.act(request.op());
                let result = self.client.handle_stored(request.complete(outcome));
                self.end_client(result);
                self.resume_client();
            }
            Step::Read => {
                let request = self.reads.pop().expect("it is there");
                let read = request.ids().iter().map(|id| self.store.read(id)).collect();
                let result = self.client.handle_read(request.complete(Ok(read)));
                self.end_client(result);
                self.resume_client();
            }
        }
    }

    /// Hands in the bytes that were left while the session was busy.
    fn resume_client(&mut self) {
        if !self.client.is_finished() {
            let result = self.client.handle_bytes(&mut self.at_client);
            self.end_client(result);
        }
    }

    fn deliver_to_server(&mut self) {
        let count = 1 + self.draw(self.weather.split);
        let count = count.min(self.to_server.len());
        let bytes = self.to_server.split_to(count);
        self.at_server.extend_from_slice(&bytes);
        let ends = self.is_over_for_server();
        let mut result = Ok(());
        if let Some(receiver) = &mut self.receiver {
            result = receiver.handle_bytes(&mut self.at_server);
            while let Some(output) = receiver.poll_output() {
                match output {
                    ReceiverOutput::Transmit(bytes) => self.to_client.extend_from_slice(&bytes),
                    ReceiverOutput::Store(request) => unreachable!("{request:?}"),
                    ReceiverOutput::Event(_) => {}
                }
            }
            self.server = receiver.take_pull();
            if self.server.is_some() {
                self.receiver = None;
            } else if result.is_ok() && ends {
                result = receiver.handle_eof();
                self.told_eof = true;
            }
        }
        if let Some(server) = &mut self.server
            && result.is_ok()
        {
            result = server.handle_bytes(&mut self.at_server);
            if result.is_ok() && ends && !server.is_finished() {
                result = server.handle_eof();
                self.told_eof = true;
            }
        }
        self.end_server(result);
    }

    fn deliver_to_client(&mut self) {
        let room = self.weather.cut.map(|cut| cut - self.ending.delivered);
        let count = 1 + self.draw(self.weather.split);
        let count = count.min(self.to_client.len()).min(room.unwrap_or(count));
        let bytes = self.to_client.split_to(count);
        self.at_client.extend_from_slice(&bytes);
        self.ending.delivered += count;
        if self.is_cut() {
            self.to_client.clear();
            self.answers.clear();
            if self.ending.server.is_ok() {
                self.ending.server = Err(Error::Truncated);
            }
        }
        let mut result = self.client.handle_bytes(&mut self.at_client);
        if result.is_ok() && self.client.wants_input() && self.is_over_for_client() {
            result = self.client.handle_eof();
        }
        self.end_client(result);
    }

    /// Drains both sessions.
    fn pump(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                PullClientOutput::Transmit(bytes) if !(self.asked && self.weather.one_way) => {
                    self.to_server.extend_from_slice(&bytes);
                }
                PullClientOutput::Transmit(_) => {}
                PullClientOutput::Store(request) => self.stores.push_back(request),
                PullClientOutput::Read(request) => self.reads.push(request),
                PullClientOutput::Event(PullClientEvent::Published(outcomes)) => {
                    self.ending.outcomes = Some(outcomes);
                }
                PullClientOutput::Event(_) => {}
            }
        }
        self.asked = true;
        while let Some(output) = self.server.as_mut().and_then(PullServer::poll_output) {
            match output {
                PullServerOutput::Transmit(bytes) => {
                    let mut frame = bytes.into();
                    if let Ok(Some(frame)) = Frame::decode(&mut frame, u32::MAX) {
                        self.ending.frames.push(frame.clone());
                        self.to_client.extend_from_slice(&frame.encode());
                    } else {
                        self.to_client.extend_from_slice(&frame);
                    }
                }
                PullServerOutput::Answer(request) => self.answers.push(request),
                PullServerOutput::Event(_) => {}
            }
        }
        if self.ending.server.is_err() {
            self.answers.clear();
        }
        if self.ending.client.is_err() {
            self.stores.clear();
            self.reads.clear();
        }
    }

    fn draw(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(end as u64)).expect("it is below a usize")
    }

    fn end_client(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            assert!(!matches!(error, Error::Misuse(_)), "{error:?}");
            self.ending.client = Err(error);
        }
    }

    fn end_server(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            assert!(!matches!(error, Error::Misuse(_)), "{error:?}");
            self.ending.server = Err(error);
        }
    }
}
