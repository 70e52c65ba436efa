//! From the request for a pull to the last frame of its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use artifact_protocol::Text;
use artifact_protocol::frame::Sent;
use artifact_protocol::session::pull::{PullServer, PullServerEvent, PullServerOutput};
use artifact_protocol::session::{Error as SessionError, ReceiverConfig};
use artifact_sender::Answers;
use bytes::{Bytes, BytesMut};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::limits::Activity;
use crate::pull::puller::{Place, Puller, Refusal};
use crate::reply::{Body, last, no_cache, plain, retry_later, set};
use crate::report::{Metrics, Pull};

impl Refusal {
    /// Returns the answer, which is the last of its connection: its request may not be read.
    fn response(self, head: &Parts) -> Response<Body> {
        let response = match self {
            Self::Busy(status, why) => retry_later(status, why),
            Self::Bad(status, why) => plain(status, why),
        };
        last(response, head.version)
    }
}

const TOO_LONG: Refusal = Refusal::Bad(
    StatusCode::PAYLOAD_TOO_LARGE,
    "a request to pull has at most 16 MiB\n",
);

/// Answers a pull. The request is read whole before the answer begins.
pub(crate) async fn answer<B>(
    puller: &Puller,
    activity: &Arc<Activity>,
    head: &Parts,
    body: B,
    client: Option<IpAddr>,
) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let (server, place) = match read(puller, activity, head, body, client).await {
        Ok(read) => read,
        Err(refusal) => return refusal.response(head),
    };
    let (sender, receiver) = mpsc::channel(QUEUE_LEN);
    let answering = Answering {
        server,
        sender,
        activity: Arc::clone(activity),
        metrics: Arc::clone(&puller.metrics),
    };
    let woken = Arc::new(Notify::new());
    let answers = start(puller, place, &woken);
    tokio::spawn(answering.run(answers, woken));
    let mut response = Response::new(Body::stream(receiver));
    set(&mut response, header::CONTENT_TYPE, CONTENT_TYPE);
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // nginx would fill a disk with the answer before it passes it on.
    set(
        &mut response,
        HeaderName::from_static("x-accel-buffering"),
        "no",
    );
    no_cache(&mut response);
    response
}

/// Starts the threads of an answer. Each of them holds the place until it ends, however soon the
/// client leaves.
fn start(puller: &Puller, place: Place, woken: &Arc<Notify>) -> Answers {
    let woken = Arc::clone(woken);
    let place = Arc::new(place);
    let wake = move || {
        let _held = &place;
        woken.notify_one();
    };
    Answers::start(&puller.repository, puller.terms.clone(), wake)
}

/// Takes a place, and reads the whole request.
async fn read<B>(
    puller: &Puller,
    activity: &Activity,
    head: &Parts,
    body: B,
    client: Option<IpAddr>,
) -> Result<(PullServer, Place), Refusal>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    if head.headers.get(header::CONTENT_TYPE) != Some(&HeaderValue::from_static(CONTENT_TYPE)) {
        let why = "a pull is of the type application/vnd.artifact-cache.pull\n";
        return Err(Refusal::Bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    if body.size_hint().lower() > REQUEST_LEN_MAX as u64 {
        return Err(TOO_LONG);
    }
    let place = puller.place(client)?;
    let mut server = PullServer::new(ReceiverConfig {
        agent: Text::new(AGENT),
        ..ReceiverConfig::default()
    });
    take(&mut server, body, activity).await?;
    Ok((server, place))
}

/// Gives the session the request. Its own errors are in its outputs.
async fn take<B>(server: &mut PullServer, body: B, activity: &Activity) -> Result<(), Refusal>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut unread = BytesMut::new();
    let mut len = 0;
    let begun = Instant::now();
    loop {
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx));
        let due = begun + REQUEST + Duration::from_millis((len / REQUEST_RATE) as u64);
        let Ok(frame) = tokio::time::timeout_at(due, frame).await else {
            let status = StatusCode::REQUEST_TIMEOUT;
            return Err(Refusal::Bad(status, "the request took too long\n"));
        };
        let bytes = match frame {
            None => {
                // What it lacks, the session says.
                let _ = server.handle_eof();
                return Ok(());
            }
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                tracing::debug!(%error, "the request for a pull cannot be read");
                let why = "the request is cut off\n";
                return Err(Refusal::Bad(StatusCode::BAD_REQUEST, why));
            }
        };
        activity.progress();
        len += bytes.len();
        if len > REQUEST_LEN_MAX {
            return Err(TOO_LONG);
        }
        unread.extend_from_slice(&bytes);
        if server.handle_bytes(&mut unread).is_err() {
            return Ok(());
        }
    }
}

/// An answer in progress.
struct Answering {
    server: PullServer,
    sender: mpsc::Sender<Bytes>,
    activity: Arc<Activity>,
    metrics: Arc<Metrics>,
}

impl Answering {
    async fn run(mut self, mut answers: Answers, woken: Arc<Notify>) {
        self.metrics.open_pulls.inc();
        let ended = self.answer(&mut answers, &woken).await;
        if let Some(error) = answers.take_failure() {
            let error: &dyn std::error::Error = &error;
            let cause = error.source();
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            tracing::warn!("a pull was not answered: {error}{cause}");
        }
        self.metrics.open_pulls.dec();
        self.metrics.pulled(ended);
    }

    async fn answer(&mut self, answers: &mut Answers, woken: &Notify) -> Pull {
        let mut ended = Pull::Refused;
        loop {
            while let Some(output) = self.server.poll_output() {
                match output {
                    PullServerOutput::Transmit(bytes) => {
                        // The connection may be busy with other requests of the client's.
                        let sent = tokio::time::timeout(STALL, self.sender.send(bytes)).await;
                        if !matches!(sent, Ok(Ok(()))) {
                            return Pull::Left;
                        }
                    }
                    PullServerOutput::Answer(request) => {
                        answers.submit(request);
                        if self.take_in(answers).is_err() {
                            ended = Pull::Failed;
                        }
                    }
                    PullServerOutput::Event(PullServerEvent::Sent(Sent { objects, .. })) => {
                        self.metrics.pulled_objects.inc_by(objects);
                        ended = Pull::Sent;
                    }
                    PullServerOutput::Event(
                        PullServerEvent::Greeted(_) | PullServerEvent::Answered(_),
                    ) => {}
                }
            }
            if self.server.is_finished() {
                return ended;
            }
            tokio::select! {
                () = woken.notified() => {
                    if self.take_in(answers).is_err() {
                        ended = Pull::Failed;
                    }
                }
                () = self.sender.closed() => return Pull::Left,
                () = tokio::time::sleep(PING) => {
                    // The client waits for us, and not we for it.
                    self.activity.progress();
                    self.server.ping();
                }
            }
        }
    }

    fn take_in(&mut self, answers: &mut Answers) -> Result<(), SessionError> {
        while let Some(done) = answers.next_done() {
            self.server.handle_answer(done)?;
        }
        Ok(())
    }
}

/// The type of a request and of its answer.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.artifact-cache.pull";
/// The header on `config` that says that pulls are answered, and the newest version they are in.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("artifact-cache-pull");
const AGENT: &str = concat!("artifact-cache-serve ", env!("CARGO_PKG_VERSION"));
/// The longest request: as many held objects and refs as the protocol allows, and some more.
const REQUEST_LEN_MAX: usize = 16 * 1024 * 1024;
/// How long a request may take to arrive, in addition to the time that its bytes take at the
/// least rate: it holds a place meanwhile.
const REQUEST: Duration = Duration::from_secs(10);
/// The least rate of a request, in bytes a millisecond.
const REQUEST_RATE: usize = 64;
/// How long a client may take for a frame of its answer before it loses its place.
const STALL: Duration = Duration::from_secs(60);
/// How often a client hears from a server that is at work. Only a ping that nobody takes tells a
/// client that has left from one that has closed its half of the connection, so pings come oftener
/// than the protocol demands.
const PING: Duration = Duration::from_secs(2);
/// Frames that may wait for a client: a MiB of most kinds.
const QUEUE_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use artifact_protocol::frame::{self as protocol, CloseCode, Hello, PREAMBLE};
    use artifact_protocol::{Features, Version};
    use artifact_sender::{Repository, Terms};
    use http_body::Frame;
    use tokio::time::{Sleep, sleep};

    use super::*;
    use crate::pull::puller::Pulls;

    /// A request of which so many bytes come each second.
    struct Trickle {
        request: Bytes,
        each: usize,
        next: Pin<Box<Sleep>>,
    }

    impl http_body::Body for Trickle {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::ready!(self.next.as_mut().poll(cx));
            self.next = Box::pin(sleep(Duration::from_secs(1)));
            let len = self.each.min(self.request.len());
            let bytes = self.request.split_to(len);
            Poll::Ready((len > 0).then(|| Ok(Frame::data(bytes))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_trickles_in_loses_its_place_and_a_slow_one_does_not() {
        let arrives = |each, seconds| async move {
            let hello = Hello {
                version_min: Version::OLDEST,
                version_max: Version::NEWEST,
                features: Features::PULL,
                agent: Text::new("slow"),
                extensions: Default::default(),
            };
            let mut request = PREAMBLE.to_vec();
            request.extend(protocol::Frame::Hello(hello).encode());
            while request.len() < each * seconds {
                request.extend(protocol::Frame::Ping(Default::default()).encode());
            }
            request.truncate(each * seconds);
            let body = Trickle {
                request: request.into(),
                each,
                next: Box::pin(sleep(Duration::ZERO)),
            };
            let mut server = PullServer::new(ReceiverConfig::default());
            let begun = Instant::now();
            let taken = take(&mut server, body, &Activity::default()).await;
            (taken.is_ok(), begun.elapsed().as_secs())
        };
        assert_eq!(arrives(1, 5).await, (true, 5));
        assert_eq!(arrives(1, 300).await, (false, 10));
        assert_eq!(arrives(65_000, 30).await, (true, 30));
    }

    fn empty() -> (tempfile::TempDir, Repository) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("objects")).unwrap();
        let config = "[core]\nrepo_version=1\nmode=archive-z2\n";
        std::fs::write(dir.path().join("config"), config).unwrap();
        let repository = Repository::open(dir.path()).unwrap();
        (dir, repository)
    }

    #[test]
    fn a_place_is_taken_as_long_as_a_thread_of_its_pull_runs() {
        let (_dir, repository) = empty();
        let limits = Pulls {
            max: 1,
            ..Pulls::default()
        };
        let puller = Puller::new(repository, limits, Metrics::new());
        let answers = start(&puller, puller.place(None).unwrap(), &Arc::default());
        assert!(puller.place(None).is_err());
        drop(answers);
        let begun = std::time::Instant::now();
        while puller.place(None).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it stays taken");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_loses_its_place_whatever_else_its_connection_does() {
        let (_dir, repository) = empty();
        let repository = Arc::new(repository);
        let mut answers = Answers::start(&repository, Terms::default(), || ());
        let (sender, _untaken) = mpsc::channel(1);
        sender.try_send(Bytes::from_static(b"waits")).unwrap();
        let mut server = PullServer::new(ReceiverConfig::default());
        let _ = server.abort(CloseCode::DONE, "goodbye");
        let mut answering = Answering {
            server,
            sender,
            activity: Arc::default(),
            metrics: Metrics::new(),
        };
        let begun = Instant::now();
        let ended = answering.answer(&mut answers, &Notify::new()).await;
        assert!(matches!(ended, Pull::Left));
        assert_eq!(begun.elapsed(), STALL);
    }
}
