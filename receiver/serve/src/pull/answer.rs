//! The answer of a pull: the frames of a session, as the client takes them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use artifact_protocol::frame::Sent;
use artifact_protocol::session::Error as SessionError;
use artifact_protocol::session::pull::{PullServer, PullServerEvent, PullServerOutput};
use artifact_sender::Answers;
use bytes::Bytes;
use hyper::Response;
use hyper::header::{self, HeaderName};
use hyper::http::request::Parts;
use tokio::sync::{Notify, mpsc};

use crate::limits::Activity;
use crate::pull::puller::{Place, Puller};
use crate::pull::request::{CONTENT_TYPE, read};
use crate::reply::{Body, no_cache, set};
use crate::report::{Metrics, Pull};

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

/// The header on `config` that says that pulls are answered, and the newest version they are in.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("artifact-cache-pull");
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
    use artifact_protocol::frame::CloseCode;
    use artifact_protocol::session::ReceiverConfig;
    use artifact_sender::{Repository, Terms};
    use tokio::time::Instant;

    use super::*;
    use crate::pull::puller::Pulls;

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
