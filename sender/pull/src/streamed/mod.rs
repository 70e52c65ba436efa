//! The pull of a streamed answer, over ssh or https: the driver of a [`PullClient`].
//!
//! Reads and writes the stream, and runs the session's requests to the local store on threads that
//! may block. Before the session may publish, every commit is checked for the signatures that are
//! demanded. The session knows the protocol; nothing here does.

mod requests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use artifact_formats::RefName;
use artifact_protocol::Text;
use artifact_protocol::frame::{CloseCode, PullOptions, RefOutcome};
use artifact_protocol::session::pull::{
    PullAnswer, PullClient, PullClientConfig, PullClientEvent, PullClientOutput, ReadDone,
};
use artifact_protocol::session::{Error as SessionError, Lane, StoreDone, StoreOp, StoreRequest};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use self::requests::{Executor, Ran};
use crate::cpus::cpus;
use crate::error::Error;
use crate::local::Local;
use crate::loose::Tally;
use crate::report::Event;
use crate::verify::Demands;

/// What came of a session.
#[derive(Debug)]
pub(crate) enum Streamed {
    /// What the server answered, and the outcome of each ref.
    Done(PullAnswer, Vec<(RefName, RefOutcome)>),
    /// Objects that this side seemed to hold are missing: ask again, and say that it holds none.
    Missing,
}

/// A session over a stream.
struct Session<'a, R, W, P> {
    client: PullClient,
    executor: Executor,
    reader: R,
    // `None` once the other side takes nothing more.
    writer: Option<W>,
    input: BytesMut,
    has_ended: bool,
    outgoing: VecDeque<Bytes>,
    work: JoinSet<Done>,
    // The lanes that are busy, with what waits there.
    lanes: HashMap<Lane, VecDeque<StoreRequest>>,
    // The requests that any thread may run, and how many run.
    free: VecDeque<StoreRequest>,
    running_free: usize,
    running_free_max: usize,
    pull_url: Option<Text>,
    answer: Option<PullAnswer>,
    outcomes: Option<Vec<(RefName, RefOutcome)>>,
    is_missing: bool,
    tally: &'a mut Tally,
    // The tally's objects and bytes when the session began.
    before: (u64, u64),
    progress: P,
}

/// A completed request.
enum Done {
    Stored(Lane, Ran),
    Read(ReadDone),
}

/// Returns the bytes of a whole request.
pub(crate) fn request(config: PullClientConfig) -> Vec<u8> {
    let mut client = PullClient::new(config);
    let mut request = Vec::new();
    while let Some(output) = client.poll_output() {
        if let PullClientOutput::Transmit(bytes) = output {
            request.extend_from_slice(&bytes);
        }
    }
    request
}

/// Runs a session to its end.
pub(crate) async fn run<S: AsyncRead + AsyncWrite>(
    local: &Arc<Local>,
    demands: &Arc<Vec<Demands>>,
    config: PullClientConfig,
    stream: S,
    tally: &mut Tally,
    progress: impl FnMut(Event),
) -> Result<Streamed, Error> {
    let (reader, writer) = tokio::io::split(stream);
    tokio::pin!(reader, writer);
    let before = (tally.objects, tally.bytes);
    let mut executor = Executor::new(local, demands);
    executor.is_dry_run = config.options.contains(PullOptions::DRY_RUN);
    let mut session = Session {
        client: PullClient::new(config),
        executor,
        reader,
        writer: Some(writer),
        input: BytesMut::new(),
        has_ended: false,
        outgoing: VecDeque::new(),
        work: JoinSet::new(),
        lanes: HashMap::new(),
        free: VecDeque::new(),
        running_free: 0,
        running_free_max: cpus(),
        pull_url: None,
        answer: None,
        outcomes: None,
        is_missing: false,
        tally,
        before,
        progress,
    };
    let ended = session.drive().await;
    if ended.is_err() {
        session.say_goodbye().await;
        session.settle().await;
    }
    match ended {
        Err(Error::Session(SessionError::NotServed)) => {
            let pull_url = session.pull_url.take();
            return Err(Error::NotServed { pull_url });
        }
        ended => ended?,
    }
    if session.is_missing {
        return Ok(Streamed::Missing);
    }
    let answer = session.answer.take().unwrap_or_default();
    Ok(Streamed::Done(
        answer,
        session.outcomes.take().unwrap_or_default(),
    ))
}

impl<R, W, P> Session<'_, R, W, P>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    P: FnMut(Event),
{
    async fn drive(&mut self) -> Result<(), Error> {
        loop {
            self.drain();
            if self.client.is_finished() && self.work.is_empty() {
                self.say_goodbye().await;
                return Ok(());
            }
            let wants_input = self.client.wants_input() && !self.has_ended;
            if wants_input {
                // By itself, the buffer grows by 64 bytes a read.
                self.input.reserve(READ_LEN);
            }
            let next = self.outgoing.front().cloned();
            let writer = self.writer.as_mut().filter(|_| next.is_some());
            let mut written = None;
            let mut read = None;
            let mut done = None;
            tokio::select! {
                result = write(writer, next.as_deref().unwrap_or_default()),
                    if next.is_some() => written = Some(result),
                result = self.reader.read_buf(&mut self.input), if wants_input => {
                    read = Some(result);
                }
                Some(result) = self.work.join_next(), if !self.work.is_empty() => {
                    done = Some(result);
                }
                () = tokio::time::sleep(SIGN_OF_LIFE), if !self.work.is_empty() => {
                    self.client.ping();
                }
                () = tokio::time::sleep(PATIENCE), if self.work.is_empty() => {
                    let text = "the other side is silent";
                    return Err(self.client.abort(CloseCode::TIMEOUT, text).into());
                }
            }
            match written {
                Some(Ok(len)) => self.sent(len),
                // A server may close its end of the stream once it has read the request.
                Some(Err(_)) => {
                    self.writer = None;
                    self.outgoing.clear();
                }
                None => {}
            }
            match read {
                Some(Ok(0)) | Some(Err(_)) => self.has_ended = true,
                Some(Ok(_)) | None => {}
            }
            if let Some(done) = done {
                self.completed(done.map_err(|_| Error::Internal("a task has ended"))?)?;
            }
            self.client.handle_bytes(&mut self.input)?;
            if self.has_ended && self.client.wants_input() {
                // A session that fails asks for nothing more, not even for what it has just read.
                self.drain();
                self.client.handle_eof()?;
            }
            self.tell();
        }
    }

    /// Takes everything that the session puts out.
    fn drain(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                PullClientOutput::Transmit(bytes) if self.writer.is_some() => {
                    self.outgoing.push_back(bytes);
                }
                PullClientOutput::Transmit(_) => {}
                PullClientOutput::Store(request) => match request.lane() {
                    Lane::Any => self.free.push_back(request),
                    lane => match self.lanes.get_mut(&lane) {
                        Some(waiting) => waiting.push_back(request),
                        None => {
                            self.lanes.insert(lane, VecDeque::new());
                            self.start(lane, request);
                        }
                    },
                },
                PullClientOutput::Read(request) => {
                    let reading = self.executor.read(request);
                    self.work.spawn(async move { Done::Read(reading.await) });
                }
                PullClientOutput::Event(event) => self.heard(event),
            }
        }
        while self.running_free < self.running_free_max
            && let Some(request) = self.free.pop_front()
        {
            self.running_free += 1;
            self.start(Lane::Any, request);
        }
    }

    fn start(&mut self, lane: Lane, request: StoreRequest) {
        let running = self.executor.run(request);
        self.work
            .spawn(async move { Done::Stored(lane, running.await) });
    }

    fn completed(&mut self, done: Done) -> Result<(), Error> {
        let (lane, ran) = match done {
            Done::Read(done) => return Ok(self.client.handle_read(done)?),
            Done::Stored(lane, ran) => (lane, ran),
        };
        match lane {
            Lane::Any => self.running_free -= 1,
            lane => match self.lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
                Some(next) => self.start(lane, next),
                None => drop(self.lanes.remove(&lane)),
            },
        }
        let stored: StoreDone = match ran {
            Ran::Done(done) => done,
            Ran::Begun(done, push) => {
                self.executor.begun(push);
                done
            }
            Ran::Failed(done, error) => {
                // The session only tells the server; this side says more.
                let _ = self.client.handle_stored(done);
                return Err(error);
            }
        };
        Ok(self.client.handle_stored(stored)?)
    }

    fn heard(&mut self, event: PullClientEvent) {
        match event {
            PullClientEvent::Answered(answer) => {
                self.executor.answered(&answer);
                (self.progress)(Event::Found {
                    refs: answer.refs.len() as u64,
                });
                self.answer = Some(answer);
            }
            PullClientEvent::Extent(extent) => {
                (self.progress)(Event::Extent {
                    objects: self.before.0 + extent.objects,
                    bytes: self.before.1 + extent.bytes,
                });
                if self.executor.is_dry_run {
                    self.tally.objects = self.before.0 + extent.objects;
                    self.tally.bytes = self.before.1 + extent.bytes;
                }
            }
            PullClientEvent::Received(_) => (self.progress)(Event::Publishing),
            PullClientEvent::Missing(_) => self.is_missing = true,
            PullClientEvent::Published(outcomes) => self.outcomes = Some(outcomes),
            PullClientEvent::Welcomed(welcome) => self.pull_url = welcome.pull_url,
        }
    }

    /// Tells how much has come.
    fn tell(&mut self) {
        let staged = self.client.staged();
        let (objects, bytes) = (self.before.0 + staged.objects, self.before.1 + staged.bytes);
        if staged.objects > 0 && (objects, bytes) != (self.tally.objects, self.tally.bytes) {
            self.tally.objects = objects;
            self.tally.bytes = bytes;
            (self.progress)(Event::Fetched { objects, bytes });
        }
    }

    fn sent(&mut self, len: usize) {
        if let Some(front) = self.outgoing.front_mut() {
            let _ = front.split_to(len.min(front.len()));
            if front.is_empty() {
                self.outgoing.pop_front();
            }
        }
    }

    /// Has the objects staged that have come whole: the next pull need not fetch them again.
    async fn settle(&mut self) {
        let is_whole = |request: &StoreRequest| matches!(request.op(), StoreOp::Stage(_));
        self.free.retain(is_whole);
        loop {
            while self.running_free < self.running_free_max
                && let Some(request) = self.free.pop_front()
            {
                self.running_free += 1;
                self.start(Lane::Any, request);
            }
            match self.work.join_next().await {
                Some(Ok(Done::Stored(Lane::Any, _))) => self.running_free -= 1,
                // A bad object is among the reasons for the end.
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Sends what is left to say, if the other side still listens.
    async fn say_goodbye(&mut self) {
        self.drain();
        let Some(writer) = &mut self.writer else {
            return;
        };
        let outgoing = std::mem::take(&mut self.outgoing);
        let farewell = async {
            for bytes in outgoing {
                writer.write_all(&bytes).await?;
            }
            writer.shutdown().await
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

async fn write<W: AsyncWrite + Unpin>(
    writer: Option<&mut W>,
    bytes: &[u8],
) -> std::io::Result<usize> {
    match writer {
        Some(writer) => {
            let len = writer.write(bytes).await?;
            writer.flush().await?;
            Ok(len)
        }
        None => std::future::pending().await,
    }
}

/// Bytes that one read may take off the stream.
const READ_LEN: usize = 256 * 1024;
/// The longest silence of the other side.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the other side hears from this one while it is at work.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
const FAREWELL: Duration = Duration::from_secs(2);
